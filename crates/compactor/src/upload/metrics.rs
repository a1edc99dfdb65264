//! What uploads count.

use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{Histogram, IntCounter, IntCounterVec, IntGauge, LATENCY_SECONDS};

pub(crate) struct UploadMetrics {
    lag_bytes: IntGauge,
    pub attempts: IntCounterVec,
    pub seconds: Histogram,
    pub bytes: IntCounter,
    pub objects: IntCounter,
}

impl UploadMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            lag_bytes: metrics.gauge(
                "tailwater_upload_lag_bytes",
                "Bytes of entries acknowledged and not yet in a committed object, of the journals leased here",
            ),
            attempts: metrics.counter_vec(
                "tailwater_uploads_total",
                "Attempts to upload a run of entries; waiting: for a part of a stream that another journal has",
                &["result"],
            ),
            seconds: metrics.histogram(
                "tailwater_upload_seconds",
                "Time from reading a run of entries to its commit",
                LATENCY_SECONDS,
            ),
            bytes: metrics.counter("tailwater_upload_bytes_total", "Bytes of committed objects"),
            objects: metrics.counter("tailwater_upload_objects_total", "Objects committed"),
        }
    }

    /// One journal's share of the lag; nothing of it is left when the result is dropped.
    pub fn lag(&self) -> Lag {
        Lag {
            gauge: self.lag_bytes.clone(),
            bytes: 0,
        }
    }
}

pub(crate) struct Lag {
    gauge: IntGauge,
    bytes: i64,
}

impl Lag {
    pub fn set(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.gauge.add(bytes - self.bytes);
        self.bytes = bytes;
    }

    pub fn sub(&mut self, bytes: u64) {
        let left = self.bytes.max(0) as u64;
        self.set(left.saturating_sub(bytes));
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.set(0);
    }
}
