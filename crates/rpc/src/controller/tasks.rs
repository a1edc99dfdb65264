//! Work for compactors: every task is a lease, and whoever holds its newest epoch may carry it out.

use std::time::Duration;

use async_trait::async_trait;
use tailwater_types::{DeviceId, JournalId, LeaseEpoch, Lsn, ObjectId, Offset, OffsetRange, StreamId, TaskId};

use super::Caller;
use crate::Result;

#[async_trait]
pub trait Tasks: Send + Sync {
    /// Leases a task of one of these kinds, waiting up to `wait` for one. `None`: there was none.
    async fn lease(&self, caller: Caller, kinds: Vec<TaskKind>, wait: Duration) -> Result<Option<Lease>>;

    /// Keeps the lease, and answers with the work as it is now (a journal may have been sealed since).
    ///
    /// # Errors
    /// [`crate::Error::LeaseFenced`] if another has it, or the task is finished.
    async fn renew(&self, caller: Caller, lease: LeaseRef) -> Result<Work>;

    /// Gives the task back. A deletion that is `done` has deleted all its objects; an upload is finished by the commit that
    /// reaches a sealed journal's end. A cleaning that isn't `done` is given out again after a while.
    async fn release(&self, caller: Caller, lease: LeaseRef, done: bool) -> Result<()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskKind {
    Upload,
    Delete,
    Clean,
}

/// A task under the epoch of one holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    pub task: TaskId,
    pub epoch: LeaseEpoch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub lease: LeaseRef,
    /// Renew within this time of the last renewal.
    pub duration: Duration,
    pub work: Work,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Upload a journal from its trim LSN on: as it grows, and to its end once it is sealed.
    Upload {
        journal: JournalId,
        ensemble: Vec<DeviceId>,
        trim: Lsn,
        sealed_end: Option<Lsn>,
    },
    /// Delete these objects; one that is not there is deleted.
    Delete { objects: Vec<(ObjectId, String)> },
    /// Rewrite what objects have of a range of a stream, so that each key's newest value stays.
    Clean {
        stream: StreamId,
        /// Begins and ends where objects' parts do; ends at or below the last stable offset.
        range: OffsetRange,
        /// Below it each key is there once.
        first_dirty: Offset,
        /// How long what was deleted is still told of, from now on.
        delete_retention: Duration,
    },
}
