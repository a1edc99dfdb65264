//! What cleanings count.

use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{IntCounter, IntCounterVec, IntGauge};

pub(super) struct CleanMetrics {
    pub passes: IntCounterVec,
    pub read_bytes: IntCounter,
    pub written_bytes: IntCounter,
    pub objects: IntCounterVec,
    pub last_progress: IntGauge,
}

impl CleanMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            passes: metrics.counter_vec(
                "tailwater_cleanings_total",
                "Passes of key compaction over a stream; lost: somebody else has the task now",
                &["result"],
            ),
            read_bytes: metrics.counter(
                "tailwater_clean_read_bytes_total",
                "Bytes of batches that committed cleanings have replaced",
            ),
            written_bytes: metrics.counter(
                "tailwater_clean_written_bytes_total",
                "Bytes of batches that committed cleanings have put in their place",
            ),
            objects: metrics.counter_vec(
                "tailwater_clean_objects_total",
                "Objects whose part of a stream was replaced, that took such a place, or that came out as they were and stayed",
                &["what"],
            ),
            last_progress: metrics.gauge(
                "tailwater_clean_last_progress_seconds",
                "When the pass got on last, in seconds since 1970, that has stood still for longest; 0 without passes",
            ),
        }
    }
}
