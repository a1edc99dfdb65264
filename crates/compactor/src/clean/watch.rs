//! Whether passes get on: one that stands still is seen, and given up.
//!
//! Owns: when each pass got on last. Does not own: what a step is (`pass`), nor what becomes of a pass that makes none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tailwater_runtime::Clock;
use tailwater_runtime::clock::Instant;
use tailwater_runtime::telemetry::IntGauge;
use tailwater_types::TaskId;

/// All passes of a compactor.
pub(super) struct Watch {
    clock: Clock,
    /// Seconds since 1970 of the step that is longest ago, of those that were some pass's last; 0 without passes.
    oldest: IntGauge,
    passes: Mutex<BTreeMap<TaskId, Step>>,
}

#[derive(Clone, Copy)]
struct Step {
    at: Instant,
    wall_ms: i64,
}

/// One pass, from its begin until this is dropped.
pub(super) struct Progress {
    watch: Arc<Watch>,
    task: TaskId,
}

impl Watch {
    pub fn new(clock: Clock, oldest: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            clock,
            oldest,
            passes: Mutex::default(),
        })
    }

    pub fn begin(self: &Arc<Self>, task: TaskId) -> Progress {
        let progress = Progress {
            watch: self.clone(),
            task,
        };
        progress.step();
        progress
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<TaskId, Step>)) {
        let mut passes = self.passes.lock();
        change(&mut passes);
        let oldest = passes.values().map(|step| step.wall_ms).min();
        self.oldest.set(oldest.unwrap_or(0) / 1_000);
    }
}

impl Progress {
    /// The pass got on.
    pub fn step(&self) {
        let clock = &self.watch.clock;
        let step = Step {
            at: clock.now(),
            wall_ms: clock.wall_ms(),
        };
        self.watch.change(|passes| _ = passes.insert(self.task, step));
    }

    /// Waits until it hasn't got on for so long. Cancellation-safe.
    pub async fn stands_still(&self, limit: Duration) {
        let clock = &self.watch.clock;
        loop {
            let last = self.watch.passes.lock().get(&self.task).map(|step| step.at);
            let Some(until) = last.map(|last| last + limit).filter(|until| *until > clock.now()) else {
                return;
            };
            clock.sleep_until(until).await;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.watch.change(|passes| _ = passes.remove(&self.task));
    }
}
