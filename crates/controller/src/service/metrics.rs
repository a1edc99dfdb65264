//! What the controller counts and measures.

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_format::metadata::{JournalState, NodeState, NodeTier, ObjectLife};
use tailwater_runtime::telemetry::{Histogram, HistogramVec, IntCounter, IntGauge, IntGaugeVec, LATENCY_SECONDS};

use crate::state::{State, View, cleaning, journals, nodes};

#[derive(Clone)]
pub struct Metrics {
    commands: HistogramVec,
    batches: Histogram,
    failures: IntCounter,
    nodes: IntGaugeVec,
    journals: IntGaugeVec,
    objects: IntGaugeVec,
    dirty_bytes: IntGauge,
    max_dirty_percent: IntGauge,
    cleanings: IntGauge,
    failing_cleanings: IntGauge,
    pub watchers: IntGauge,
    pub dropped_watchers: IntCounter,
}

impl Metrics {
    pub fn new(metrics: &tailwater_runtime::Metrics) -> Self {
        Self {
            commands: metrics.histogram_vec(
                "tailwater_controller_command_seconds",
                "From a command's arrival to its answer.",
                &["command"],
                LATENCY_SECONDS,
            ),
            batches: metrics.histogram(
                "tailwater_controller_store_batch_seconds",
                "Time to make one batch of metadata changes durable.",
                LATENCY_SECONDS,
            ),
            failures: metrics.counter(
                "tailwater_controller_store_failures_total",
                "Batches of metadata changes that the store refused or failed.",
            ),
            nodes: metrics.gauge_vec(
                "tailwater_controller_nodes",
                "Nodes by tier and state.",
                &["tier", "state"],
            ),
            journals: metrics.gauge_vec("tailwater_controller_journals", "Journals by state.", &["state"]),
            objects: metrics.gauge_vec("tailwater_controller_objects", "Objects by state.", &["state"]),
            dirty_bytes: metrics.gauge(
                "tailwater_controller_dirty_bytes",
                "Bytes of compacted topics' batches that key compaction may clean and hasn't seen.",
            ),
            max_dirty_percent: metrics.gauge(
                "tailwater_controller_max_dirty_percent",
                "The largest part of a compacted partition's cleanable bytes that is dirty.",
            ),
            cleanings: metrics.gauge(
                "tailwater_controller_cleanings",
                "Partitions that compactors clean at the moment.",
            ),
            failing_cleanings: metrics.gauge(
                "tailwater_controller_cleanings_failing",
                "Partitions whose key compaction failed, or lost its compactor, more than once since it last succeeded.",
            ),
            watchers: metrics.gauge("tailwater_controller_watchers", "Nodes that follow the metadata."),
            dropped_watchers: metrics.counter(
                "tailwater_controller_watchers_dropped_total",
                "Watchers that fell behind and had to start again.",
            ),
        }
    }

    pub fn command(&self, name: &str, took: Duration) {
        self.commands.with_label_values(&[name]).observe(took.as_secs_f64());
    }

    pub fn batch(&self, took: Duration) {
        self.batches.observe(took.as_secs_f64());
    }

    pub fn failure(&self) {
        self.failures.inc();
    }

    /// Counts what is there; `failing_cleanings` streams couldn't be cleaned.
    pub fn observe(&self, state: &State, failing_cleanings: usize) {
        let failing = i64::try_from(failing_cleanings).unwrap_or(i64::MAX);
        self.failing_cleanings.set(failing);
        let mut by_state = BTreeMap::new();
        for (_, node) in nodes::nodes(state) {
            *by_state
                .entry((tier_name(node.tier), node_state_name(node.state)))
                .or_insert(0) += 1;
        }
        self.nodes.reset();
        for ((tier, state), count) in by_state {
            self.nodes.with_label_values(&[tier, state]).set(count);
        }
        let mut by_state = BTreeMap::from([("open", 0), ("sealing", 0), ("sealed", 0), ("gone", 0)]);
        for (_, journal) in journals::all(state) {
            let name = match journal.state {
                JournalState::Open => "open",
                JournalState::Sealing => "sealing",
                JournalState::Sealed { .. } => "sealed",
                JournalState::Gone { .. } => "gone",
            };
            *by_state.entry(name).or_insert(0) += 1;
        }
        for (state, count) in by_state {
            self.journals.with_label_values(&[state]).set(count);
        }
        // Also what is too young to be cleaned yet.
        let (mut dirty_bytes, mut max_ratio) = (0, 0.0f64);
        for (_, dirty, _) in cleaning::dirty(state, i64::MAX) {
            dirty_bytes += dirty.dirty_bytes;
            max_ratio = max_ratio.max(dirty.ratio());
        }
        self.dirty_bytes.set(i64::try_from(dirty_bytes).unwrap_or(i64::MAX));
        self.max_dirty_percent.set((max_ratio * 100.0) as i64);
        let is_held = |task| state.cleaning(task).is_some_and(|record| record.holder.is_some());
        let cleanings = state.index().cleanings().filter(|(task, _)| is_held(*task)).count();
        self.cleanings.set(i64::try_from(cleanings).unwrap_or(i64::MAX));
        let index = state.index();
        let is_marked = |object| {
            state
                .object(object)
                .is_some_and(|record| record.life == ObjectLife::Marked)
        };
        let marked = index.condemned().iter().filter(|object| is_marked(**object)).count();
        let counts = [
            ("prepared", index.prepared().len()),
            ("committed", index.committed_objects()),
            ("marked", marked),
            ("expired", index.condemned().len() - marked),
        ];
        for (state, count) in counts {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.objects.with_label_values(&[state]).set(count);
        }
    }
}

pub(super) fn tier_name(tier: NodeTier) -> &'static str {
    match tier {
        NodeTier::Frontend => "frontend",
        NodeTier::Wal => "wal",
        NodeTier::Compactor => "compactor",
    }
}

pub(super) fn node_state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Starting => "starting",
        NodeState::Active => "active",
        NodeState::Fenced => "fenced",
        NodeState::ControlledShutdown => "controlled_shutdown",
        NodeState::ShuttingDown => "shutting_down",
        NodeState::Gone => "gone",
    }
}
