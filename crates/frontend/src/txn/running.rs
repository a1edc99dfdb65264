//! Transactions that run: open ones, and those that are decided and not told to all of their partitions.
//!
//! Owns: how many there are, and since when the oldest is, of a shard ([`Running`], pure) and as figures of this node
//! ([`RunningGauges`]). Does not own: what becomes of them. Both hold up readers of committed records, so somebody should know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::IntGauge;

use super::state::{Phase, Transaction};

/// Where a transaction that runs stands, and since when, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    is_ending: bool,
    since_ms: i64,
}

impl Stage {
    /// `None`: there is no such transaction.
    pub fn of(state: Option<&Transaction>) -> Option<Self> {
        let state = state?;
        let since_ms = match state.phase {
            Phase::Ongoing => state.start_ms,
            Phase::PrepareCommit | Phase::PrepareAbort => state.updated_ms,
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => return None,
        };
        Some(Self {
            is_ending: state.phase.is_ending(),
            since_ms,
        })
    }
}

/// Those of a shard, by age.
#[derive(Debug, Default)]
pub(super) struct Running {
    open: BTreeSet<(i64, String)>,
    ending: BTreeSet<(i64, String)>,
}

/// Some transactions: how many, and since when the oldest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub count: usize,
    pub oldest_ms: Option<i64>,
}

/// All that run in a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningNow {
    pub open: Group,
    pub ending: Group,
}

impl Running {
    /// An id's transaction has come to another stage.
    pub fn change(&mut self, id: &str, was: Option<Stage>, is: Option<Stage>) {
        if was == is {
            return;
        }
        if let Some(was) = was {
            self.of(was).remove(&(was.since_ms, id.to_owned()));
        }
        if let Some(is) = is {
            self.of(is).insert((is.since_ms, id.to_owned()));
        }
    }

    pub fn now(&self) -> RunningNow {
        let group = |all: &BTreeSet<(i64, String)>| Group {
            count: all.len(),
            oldest_ms: all.first().map(|(since_ms, _)| *since_ms),
        };
        RunningNow {
            open: group(&self.open),
            ending: group(&self.ending),
        }
    }

    /// How many are decided and not told to all of their partitions.
    pub fn ending(&self) -> usize {
        self.ending.len()
    }

    fn of(&mut self, stage: Stage) -> &mut BTreeSet<(i64, String)> {
        match stage.is_ending {
            true => &mut self.ending,
            false => &mut self.open,
        }
    }
}

impl Group {
    fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            oldest_ms: self.oldest_ms.into_iter().chain(other.oldest_ms).min(),
        }
    }
}

/// What runs in all shards of this node, for Prometheus; clones share it.
#[derive(Clone)]
pub(super) struct RunningGauges {
    shards: Arc<Mutex<BTreeMap<u64, RunningNow>>>,
    next: Arc<AtomicU64>,
    open: IntGauge,
    open_since: IntGauge,
    ending: IntGauge,
    ending_since: IntGauge,
}

impl RunningGauges {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            shards: Arc::default(),
            next: Arc::default(),
            open: metrics.gauge(
                "tailwater_frontend_transactions_open",
                "Transactions coordinated here that their producers haven't ended",
            ),
            open_since: metrics.gauge(
                "tailwater_frontend_oldest_open_transaction_start_seconds",
                "When the oldest of them began, in seconds since 1970; 0: there is none",
            ),
            ending: metrics.gauge(
                "tailwater_frontend_transactions_ending",
                "Transactions coordinated here that are decided, and not told to all of their partitions",
            ),
            ending_since: metrics.gauge(
                "tailwater_frontend_oldest_ending_transaction_decision_seconds",
                "When the oldest of them was decided, in seconds since 1970; 0: there is none",
            ),
        }
    }

    /// A name for one more shard.
    pub fn begin(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// What runs in a shard now; nothing once it is over.
    pub fn set(&self, shard: u64, now: RunningNow) {
        let mut shards = self.shards.lock();
        match now == RunningNow::default() {
            true => _ = shards.remove(&shard),
            false => _ = shards.insert(shard, now),
        }
        let total = |group: fn(&RunningNow) -> Group| shards.values().map(group).fold(Group::default(), Group::and);
        let show = |group: Group, count: &IntGauge, since: &IntGauge| {
            count.set(i64::try_from(group.count).unwrap_or(i64::MAX));
            since.set(group.oldest_ms.map_or(0, |ms| ms / 1000));
        };
        show(total(|now| now.open), &self.open, &self.open_since);
        show(total(|now| now.ending), &self.ending, &self.ending_since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(is_ending: bool, since_ms: i64) -> Option<Stage> {
        Some(Stage { is_ending, since_ms })
    }

    /// The oldest counts, of open and of ending ones apart, over all shards; a shard that is over counts no more.
    #[test]
    fn the_oldest_of_all_shards_is_shown() {
        let gauges = RunningGauges::new(&Metrics::new());
        let shown = |gauges: &RunningGauges| {
            let RunningGauges {
                open,
                open_since,
                ending,
                ending_since,
                ..
            } = gauges;
            [open, open_since, ending, ending_since].map(IntGauge::get)
        };
        let (one, other) = (gauges.begin(), gauges.begin());
        let mut running = Running::default();
        running.change("a", None, stage(false, 5_000));
        running.change("b", None, stage(false, 3_000));
        gauges.set(one, running.now());
        assert_eq!(shown(&gauges), [2, 3, 0, 0]);
        let mut second = Running::default();
        second.change("c", None, stage(true, 9_000));
        second.change("d", None, stage(false, 2_000));
        gauges.set(other, second.now());
        assert_eq!(shown(&gauges), [3, 2, 1, 9]);
        running.change("b", stage(false, 3_000), stage(true, 8_000));
        gauges.set(one, running.now());
        assert_eq!(shown(&gauges), [2, 2, 2, 8]);
        gauges.set(other, RunningNow::default());
        assert_eq!(shown(&gauges), [1, 5, 1, 8]);
        running.change("b", stage(true, 8_000), None);
        running.change("a", stage(false, 5_000), None);
        gauges.set(one, running.now());
        assert_eq!(shown(&gauges), [0; 4]);
    }
}
