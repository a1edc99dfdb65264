//! What cleanings count.

use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{IntCounter, IntCounterVec};

pub(super) struct CleanMetrics {
    pub passes: IntCounterVec,
    pub read_bytes: IntCounter,
    pub written_bytes: IntCounter,
    pub objects: IntCounterVec,
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
        }
    }
}
