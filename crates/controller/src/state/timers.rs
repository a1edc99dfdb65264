//! The controller's own clock readings: memory only, on its monotonic clock.
//!
//! What was never read counts from this controller's activation, so a restart fences nobody, gives nobody else's lease
//! away early and deletes nothing early.

use std::collections::BTreeMap;

use tailwater_runtime::clock::Instant;
use tailwater_types::{NodeId, ObjectId, StreamId, TaskId};

use super::balance::Asked;
use super::{State, View};

/// A reading to be taken together with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The node was heard.
    Heard(NodeId),
    /// The node has registered anew.
    Registered(NodeId),
    /// A stream's leader was asked to give it away.
    Asked(StreamId, Asked),
    /// A task has a new holder.
    Leased(TaskId),
    /// A task's holder was heard.
    Renewed(TaskId),
    /// An object was prepared: its writer's time runs.
    Prepared(ObjectId),
    /// An object may be deleted from then on.
    DeleteAt(ObjectId, Instant),
    /// A stream is to be cleaned from then on only: its cleaning failed.
    CleanFailed(StreamId, Instant),
    /// A stream was cleaned, and is to be again from then on only.
    Cleaned(StreamId, Instant),
    /// Nothing was to be cleaned.
    NothingToClean,
}

/// When a stream may be cleaned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextCleaning {
    pub at: Instant,
    /// How often it failed since it was cleaned.
    pub failures: u32,
}

#[derive(Clone, Debug)]
pub struct Timers {
    activated: Instant,
    /// The end of this controller's last stall: while it slept it heard nobody.
    stalled: Instant,
    heard: BTreeMap<NodeId, Instant>,
    registered: BTreeMap<NodeId, Instant>,
    asked: BTreeMap<StreamId, (Asked, Instant)>,
    leased: BTreeMap<TaskId, Instant>,
    renewed: BTreeMap<TaskId, Instant>,
    prepared: BTreeMap<ObjectId, Instant>,
    delete_at: BTreeMap<ObjectId, Instant>,
    cleanings: BTreeMap<StreamId, NextCleaning>,
    nothing_to_clean: Option<Instant>,
}

impl Timers {
    pub fn new(activated: Instant) -> Self {
        Self {
            activated,
            stalled: activated,
            heard: BTreeMap::new(),
            registered: BTreeMap::new(),
            asked: BTreeMap::new(),
            leased: BTreeMap::new(),
            renewed: BTreeMap::new(),
            prepared: BTreeMap::new(),
            delete_at: BTreeMap::new(),
            cleanings: BTreeMap::new(),
            nothing_to_clean: None,
        }
    }

    pub fn touch(&mut self, touch: Touch, now: Instant) {
        match touch {
            Touch::Heard(node) => {
                self.heard.insert(node, now);
            }
            Touch::Registered(node) => {
                self.registered.insert(node, now);
            }
            Touch::Asked(stream, asked) => {
                self.asked.insert(stream, (asked, now));
            }
            Touch::Leased(task) => {
                self.leased.insert(task, now);
                self.renewed.insert(task, now);
            }
            Touch::Renewed(task) => {
                self.renewed.insert(task, now);
            }
            Touch::Prepared(object) => {
                self.prepared.insert(object, now);
            }
            Touch::DeleteAt(object, at) => {
                self.delete_at.insert(object, at);
            }
            Touch::CleanFailed(stream, at) => {
                let failures = self.cleanings.get(&stream).map_or(0, |next| next.failures) + 1;
                self.cleanings.insert(stream, NextCleaning { at, failures });
            }
            Touch::Cleaned(stream, at) => {
                self.cleanings.insert(stream, NextCleaning { at, failures: 0 });
            }
            Touch::NothingToClean => self.nothing_to_clean = Some(now),
        }
    }

    /// This controller did nothing for a while, and does now.
    pub fn stalled(&mut self, now: Instant) {
        self.stalled = now;
    }

    /// When a node's lease began to run.
    pub fn heard(&self, node: NodeId) -> Instant {
        self.since(self.heard.get(&node)).max(self.stalled)
    }

    /// When a node registered last.
    pub fn registered(&self, node: NodeId) -> Instant {
        self.since(self.registered.get(&node))
    }

    /// What was asked of leaders, and when.
    pub fn asked(&self) -> impl Iterator<Item = (StreamId, (Asked, Instant))> {
        self.asked.iter().map(|(stream, asked)| (*stream, *asked))
    }

    /// As [`Timers::asked`], of one stream.
    pub fn asked_for(&self, stream: StreamId) -> Option<(Asked, Instant)> {
        self.asked.get(&stream).copied()
    }

    /// When a task's lease was given.
    pub fn leased(&self, task: TaskId) -> Instant {
        self.since(self.leased.get(&task))
    }

    /// When a task's lease began to run.
    pub fn renewed(&self, task: TaskId) -> Instant {
        self.since(self.renewed.get(&task)).max(self.stalled)
    }

    /// When an object's writer was told its key, at the latest.
    pub fn prepared(&self, object: ObjectId) -> Instant {
        self.since(self.prepared.get(&object))
    }

    /// When an object may be deleted; `None` if that isn't known since the controller's start.
    pub fn delete_at(&self, object: ObjectId) -> Option<Instant> {
        self.delete_at.get(&object).copied()
    }

    /// When a stream may be cleaned again; `None`: it wasn't since this controller was activated, and may be at once.
    pub fn next_cleaning(&self, stream: StreamId) -> Option<NextCleaning> {
        self.cleanings.get(&stream).copied()
    }

    /// How many streams' last cleanings failed, more than once: a single one says little.
    pub fn failed_cleanings(&self) -> usize {
        self.cleanings.values().filter(|next| next.failures > 1).count()
    }

    /// When it was found last that nothing is to be cleaned.
    pub fn nothing_to_clean(&self) -> Option<Instant> {
        self.nothing_to_clean
    }

    pub fn activated(&self) -> Instant {
        self.activated
    }

    /// Drops the readings of what is no more.
    pub fn prune(&mut self, state: &State) {
        let index = state.index();
        self.heard.retain(|node, _| state.node(*node).is_some());
        self.registered.retain(|node, _| state.node(*node).is_some());
        self.asked
            .retain(|stream, (asked, _)| state.row(*stream).is_some_and(|row| asked.is_of(row)));
        self.leased.retain(|task, _| index.is_task(*task));
        self.renewed.retain(|task, _| index.is_task(*task));
        self.prepared.retain(|object, _| index.is_unsettled(*object));
        self.delete_at.retain(|object, _| index.is_unsettled(*object));
        self.cleanings.retain(|stream, _| state.row(*stream).is_some());
    }

    fn since(&self, reading: Option<&Instant>) -> Instant {
        reading.copied().unwrap_or(self.activated)
    }
}
