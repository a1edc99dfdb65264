//! The data path's metrics, all named `tailwater_frontend_*`.
//!
//! Owns: their names and help texts. Does not own: the server's and the coordinators', which stand with them.

use tailwater_kafka::ErrorCode;
use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{Histogram, IntCounter, IntCounterVec, IntGauge, SIZE_BYTES};

/// The journal writer's.
#[derive(Clone)]
pub struct JournalMetrics {
    pub entries: IntCounter,
    pub entry_bytes: Histogram,
    pub in_flight_bytes: IntGauge,
    pub credit_waits: IntCounter,
    pub appends_waiting: IntGauge,
}

impl JournalMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            entries: metrics.counter("tailwater_frontend_entries_total", "Journal entries cut and sent"),
            entry_bytes: metrics.histogram(
                "tailwater_frontend_entry_bytes",
                "Encoded bytes of journal entries",
                SIZE_BYTES,
            ),
            in_flight_bytes: metrics.gauge(
                "tailwater_frontend_in_flight_bytes",
                "Bytes of entries sent and not yet durable",
            ),
            credit_waits: metrics.counter(
                "tailwater_frontend_credit_waits_total",
                "Appends that waited for the WAL's credit",
            ),
            appends_waiting: metrics.gauge(
                "tailwater_frontend_appends_waiting",
                "Appends that wait for the WAL's credit now; for long only when its device is full",
            ),
        }
    }
}

/// The tail cache's.
#[derive(Clone)]
pub struct CacheMetrics {
    pub bytes: IntGauge,
    pub hits: IntCounter,
    pub misses: IntCounter,
    pub copied_bytes: IntCounter,
}

impl CacheMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            bytes: metrics.gauge(
                "tailwater_frontend_tail_cache_bytes",
                "Memory that the tail cache keeps",
            ),
            hits: metrics.counter(
                "tailwater_frontend_tail_cache_hits_total",
                "Reads of a partition answered from the tail cache",
            ),
            misses: metrics.counter(
                "tailwater_frontend_tail_cache_misses_total",
                "Reads of a partition that went to the WAL or to objects",
            ),
            copied_bytes: metrics.counter(
                "tailwater_frontend_tail_cache_copied_bytes_total",
                "Bytes of batches copied out of much larger receive buffers",
            ),
        }
    }
}

/// The partitions'.
#[derive(Clone)]
pub struct PartitionMetrics {
    pub led: IntGauge,
    pub opening: IntGauge,
    pub opened: IntCounter,
    pub open_failures: IntCounter,
    pub closed: IntCounter,
    pub snapshots: IntCounter,
    /// By where the bytes came from: `wal`, `object`.
    pub read_bytes: IntCounterVec,
    pub read_retries: IntCounter,
    pub committed_records: IntCounter,
}

impl PartitionMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            led: metrics.gauge("tailwater_frontend_partitions_led", "Partitions open at this node"),
            opening: metrics.gauge(
                "tailwater_frontend_partitions_opening",
                "Partitions assigned to this node and not open yet",
            ),
            opened: metrics.counter("tailwater_frontend_partitions_opened_total", "Partitions opened"),
            open_failures: metrics.counter(
                "tailwater_frontend_partition_open_failures_total",
                "Attempts to open a partition that failed, not counting what another node or the controller is about to finish",
            ),
            closed: metrics.counter(
                "tailwater_frontend_partitions_closed_total",
                "Partitions given away in order",
            ),
            snapshots: metrics.counter("tailwater_frontend_snapshots_total", "Snapshot slices written"),
            read_bytes: metrics.counter_vec(
                "tailwater_frontend_read_bytes_total",
                "Bytes read from behind the tail cache",
                &["source"],
            ),
            read_retries: metrics.counter(
                "tailwater_frontend_read_retries_total",
                "Reads that looked again with newer metadata",
            ),
            committed_records: metrics.counter(
                "tailwater_frontend_committed_records_total",
                "Records below the high watermarks",
            ),
        }
    }
}

/// Produce and fetch requests'.
#[derive(Clone)]
pub struct RequestMetrics {
    pub produced_bytes: IntCounter,
    pub produced_batches: IntCounter,
    pub duplicates: IntCounter,
    /// By Kafka's error code.
    pub produce_errors: IntCounterVec,
    pub fetched_bytes: IntCounter,
    pub fetch_waits: IntCounter,
    /// By Kafka's error code.
    pub fetch_errors: IntCounterVec,
    pub fetch_sessions: FetchSessionMetrics,
}

/// The fetch sessions' (KIP-227).
#[derive(Clone)]
pub struct FetchSessionMetrics {
    pub sessions: IntGauge,
    pub partitions: IntGauge,
    pub evictions: IntCounter,
}

impl FetchSessionMetrics {
    fn new(metrics: &Metrics) -> Self {
        Self {
            sessions: metrics.gauge("tailwater_frontend_fetch_sessions", "Fetch sessions that are kept"),
            partitions: metrics.gauge(
                "tailwater_frontend_fetch_session_partitions",
                "Partitions in all fetch sessions",
            ),
            evictions: metrics.counter(
                "tailwater_frontend_fetch_session_evictions_total",
                "Fetch sessions that had to make room for others",
            ),
        }
    }
}

impl RequestMetrics {
    /// Counts a partition of a fetch, or a whole one, that is answered with an error.
    pub fn refused_fetch(&self, code: ErrorCode) {
        self.fetch_errors.with_label_values(&[&format!("{code:?}")]).inc();
    }

    pub fn new(metrics: &Metrics) -> Self {
        Self {
            produced_bytes: metrics.counter("tailwater_frontend_produced_bytes_total", "Bytes of batches appended"),
            produced_batches: metrics.counter("tailwater_frontend_produced_batches_total", "Batches appended"),
            duplicates: metrics.counter(
                "tailwater_frontend_duplicate_batches_total",
                "Batches that an idempotent producer repeated",
            ),
            produce_errors: metrics.counter_vec(
                "tailwater_frontend_produce_errors_total",
                "Partitions of produce requests answered with an error",
                &["error"],
            ),
            fetched_bytes: metrics.counter(
                "tailwater_frontend_fetched_bytes_total",
                "Bytes of batches handed to fetchers",
            ),
            fetch_waits: metrics.counter(
                "tailwater_frontend_fetch_waits_total",
                "Fetches that waited for more bytes",
            ),
            fetch_errors: metrics.counter_vec(
                "tailwater_frontend_fetch_errors_total",
                "Partitions of fetch requests answered with an error",
                &["error"],
            ),
            fetch_sessions: FetchSessionMetrics::new(metrics),
        }
    }
}
