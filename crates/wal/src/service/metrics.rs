//! The metrics of a WAL node.

use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{Histogram, IntCounter, IntGauge, LATENCY_SECONDS};

use crate::core::Core;

const GROUP_RECORDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0];

pub(crate) struct Meters {
    pub(crate) appended_bytes: IntCounter,
    pub(crate) entries: IntCounter,
    pub(crate) group_records: Histogram,
    pub(crate) flush_seconds: Histogram,
    pub(crate) device_read_bytes: IntCounter,
    ring_capacity: IntGauge,
    ring_used: IntGauge,
    trim_position: IntGauge,
    head_position: IntGauge,
    credit: IntGauge,
    memory: IntGauge,
    journals: IntGauge,
}

impl Meters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            appended_bytes: metrics.counter("tailwater_wal_appended_bytes_total", "Encoded bytes of durable entries"),
            entries: metrics.counter("tailwater_wal_entries_total", "Durable entries"),
            group_records: metrics.histogram("tailwater_wal_group_records", "Records of one flush", GROUP_RECORDS),
            flush_seconds: metrics.histogram(
                "tailwater_wal_flush_seconds",
                "Write and flush of one group",
                LATENCY_SECONDS,
            ),
            device_read_bytes: metrics.counter("tailwater_wal_device_read_bytes_total", "Bytes read from the device"),
            ring_capacity: metrics.gauge("tailwater_wal_ring_capacity_bytes", "Bytes of the ring"),
            ring_used: metrics.gauge("tailwater_wal_ring_used_bytes", "Bytes that can't be overwritten yet"),
            trim_position: metrics.gauge(
                "tailwater_wal_trim_position_bytes",
                "Position below which nothing is needed",
            ),
            head_position: metrics.gauge("tailwater_wal_head_position_bytes", "Position of the log's durable end"),
            credit: metrics.gauge(
                "tailwater_wal_credit_bytes",
                "Bytes that writers may send without asking",
            ),
            memory: metrics.gauge("tailwater_wal_memory_bytes", "Bytes of entries kept in memory"),
            journals: metrics.gauge("tailwater_wal_journals", "Journals on the device"),
        }
    }

    /// Shows the core's state.
    pub(crate) fn show(&self, core: &Core) {
        let set = |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let space = core.space();
        set(&self.ring_capacity, space.ring_bytes());
        set(&self.ring_used, space.used());
        set(&self.trim_position, space.trim());
        set(&self.head_position, space.head());
        set(&self.credit, space.granted());
        set(&self.memory, core.memory_bytes());
        set(&self.journals, core.journals() as u64);
    }
}
