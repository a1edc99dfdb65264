//! The partitions that this node leads: their state, appends, high watermarks, reads.
//!
//! Owns: one partition's offsets and who waits for them. Does not own: entries and credit (`journal`), what a request
//! looks like (`produce`, `fetch`), which partitions there are (`registry` follows the view). Invariants:
//! `start ≤ last stable offset ≤ high watermark ≤ log end`; offsets are dense; nothing at or above the high watermark is
//! served; a leadership that has ended acknowledges nothing.

mod append;
mod close;
mod largest;
mod locate;
mod open;
mod proof;
mod read;
mod registry;
mod source;
#[cfg(test)]
pub(crate) mod tests;
mod timestamps;
mod transactions;
mod wait;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use tailwater_format::snapshot::Producer;
use tailwater_log::{PartitionState, UncommittedEnds, Verifications};
use tailwater_rpc::controller::{DeleteRecords, Objects};
use tailwater_rpc::wal::WalDirectory;
use tailwater_runtime::clock::Instant;
use tailwater_runtime::{Clock, Random, ZstdPool};
use tailwater_store::ObjectReader;
use tailwater_types::{JournalId, LeaderEpoch, Offset, StreamId, TopicId};
use tokio::sync::Notify;

use crate::cache::{CachedTail, TailCache};
use crate::journal::Journal;
use crate::metrics::PartitionMetrics;
use crate::view::View;

pub use append::{Append, AppendError, Appended, LeadershipEnded};
pub use read::ReadError;
pub use registry::{Missing, Partitions};
pub use timestamps::FoundTimestamp;
pub use wait::FetchWaiter;

use append::PendingAck;
use source::{KnownObjects, Segment};
use timestamps::TimeIndex;
use wait::Waiters;

/// One leadership of one partition, from its opening to its end.
pub struct Partition {
    topic: TopicId,
    topic_name: Arc<str>,
    index: i32,
    stream: StreamId,
    leader_epoch: LeaderEpoch,
    journal: Arc<Journal>,
    services: Arc<Services>,
    tail: CachedTail,
    /// Everything below is committed. Written under `state`'s lock only.
    high_watermark: AtomicI64,
    /// At most the high watermark, and moves with it: `transactions`.
    last_stable: AtomicI64,
    /// Where the log begins, once it has been moved here: the view may not show it yet.
    deleted_to: AtomicI64,
    /// Where compaction's clean part ends, as far as that was looked at.
    cleaned_to: AtomicI64,
    /// Aborted transactions that end below are forgotten: `transactions`. Written under `state`'s lock only.
    aborted_from: AtomicI64,
    ended: AtomicBool,
    /// Being given away, or given away already: takes no batches. Written under `state`'s lock only.
    closing: AtomicBool,
    /// Told when the leadership ends, or takes batches again.
    intake: Notify,
    state: Mutex<State>,
    objects: Mutex<KnownObjects>,
    /// Held by the coordinator that this partition is the log of.
    coordinator: tokio::sync::Mutex<()>,
}

/// What all partitions of a node share.
pub struct Services {
    pub view: View,
    pub objects: Arc<dyn Objects>,
    pub reader: ObjectReader,
    pub wals: Arc<dyn WalDirectory>,
    pub cache: TailCache,
    pub zstd: Arc<ZstdPool>,
    pub clock: Clock,
    pub random: Random,
    pub metrics: PartitionMetrics,
    /// The most that the records of one batch may have after decompression.
    pub max_decompressed_bytes: usize,
}

struct State {
    log: PartitionState,
    uncommitted_ends: UncommittedEnds,
    verifications: Verifications,
    /// Appends that aren't committed yet, by ascending end.
    pending: VecDeque<PendingAck>,
    waiters: Waiters,
    /// Journals that have, or had, what isn't in the tail cache or in objects, by ascending offsets. The last is the open one.
    segments: Vec<Segment>,
    times: TimeIndex,
    /// Bytes appended since the last snapshot slice.
    since_snapshot_bytes: usize,
    /// When it ceased to take batches.
    closing_since: Option<Instant>,
}

/// What an opening has found: where a leadership begins.
struct Opening {
    topic: TopicId,
    topic_name: Arc<str>,
    index: i32,
    stream: StreamId,
    leader_epoch: LeaderEpoch,
    log: PartitionState,
    segments: Vec<Segment>,
    times: TimeIndex,
    /// Bytes that a new leader would have to scan behind the newest snapshot.
    since_snapshot_bytes: usize,
}

impl Partition {
    /// Begins a leadership: everything that was found is committed.
    fn new(opening: Opening, journal: Arc<Journal>, services: Arc<Services>) -> Self {
        let (end, stable) = (opening.log.end(), opening.log.last_stable_offset());
        let mut segments = opening.segments;
        segments.push(Segment::open(journal.id(), journal.device(), end));
        let state = State {
            log: opening.log,
            uncommitted_ends: UncommittedEnds::default(),
            verifications: Verifications::default(),
            pending: VecDeque::new(),
            waiters: Waiters::default(),
            segments,
            times: opening.times,
            since_snapshot_bytes: opening.since_snapshot_bytes,
            closing_since: None,
        };
        Self {
            topic: opening.topic,
            topic_name: opening.topic_name,
            index: opening.index,
            stream: opening.stream,
            leader_epoch: opening.leader_epoch,
            journal,
            tail: services.cache.tail(),
            services,
            high_watermark: AtomicI64::new(end.0),
            last_stable: AtomicI64::new(stable.0),
            deleted_to: AtomicI64::new(0),
            cleaned_to: AtomicI64::new(0),
            aborted_from: AtomicI64::new(0),
            ended: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            intake: Notify::new(),
            state: Mutex::new(state),
            objects: Mutex::default(),
            coordinator: tokio::sync::Mutex::default(),
        }
    }

    pub fn topic(&self) -> TopicId {
        self.topic
    }

    pub fn topic_name(&self) -> &Arc<str> {
        &self.topic_name
    }

    pub fn index(&self) -> i32 {
        self.index
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Everything below is committed, and is what may be read.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The first offset that can be read.
    pub fn log_start(&self) -> Offset {
        let snapshot = self.services.view.snapshot();
        let progress = snapshot.progress(self.stream);
        let deleted_to = Offset(self.deleted_to.load(Ordering::Acquire));
        progress.map_or(deleted_to, |progress| progress.start.max(deleted_to))
    }

    /// What the controller is to be told so that the log begins at `start`, which is at most the high watermark.
    pub fn deletion(&self, start: Offset) -> DeleteRecords {
        DeleteRecords {
            stream: self.stream,
            leader_epoch: self.leader_epoch,
            start,
        }
    }

    /// The controller knows that the log begins at `start`: nothing below is served from now on.
    pub fn set_log_start(&self, start: Offset) {
        self.deleted_to.fetch_max(start.0, Ordering::AcqRel);
        self.state.lock().log.trim_aborted(start);
    }

    /// The journal that this leadership writes, and ends with.
    pub fn journal_id(&self) -> JournalId {
        self.journal.id()
    }

    /// The offset that the next batch gets.
    pub fn log_end(&self) -> Offset {
        self.state.lock().log.end()
    }

    /// Whether the leadership is over: nothing more is taken, acknowledged or served.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether a client that believes in `current_leader_epoch` (-1: says nothing of it) may be served (KIP-320).
    ///
    /// # Errors
    /// [`EpochMismatch`].
    pub fn check_epoch(&self, current_leader_epoch: i32) -> Result<(), EpochMismatch> {
        match current_leader_epoch {
            ..0 => Ok(()),
            epoch if epoch < self.leader_epoch.0 => Err(EpochMismatch::Fenced),
            epoch if epoch > self.leader_epoch.0 => Err(EpochMismatch::Unknown),
            _ => Ok(()),
        }
    }

    /// Where what was written up to `epoch` ends: the newest epoch up to it that is known, and the offset behind its last
    /// record. `None` for an epoch that nobody has reached. What isn't committed doesn't count: it may never be.
    pub fn epoch_end(&self, epoch: i32) -> Option<(LeaderEpoch, Offset)> {
        let asked = LeaderEpoch(epoch);
        if epoch < 0 || asked > self.leader_epoch {
            return None;
        }
        if asked == self.leader_epoch {
            return Some((asked, self.high_watermark()));
        }
        Some(self.state.lock().log.epoch_end(asked))
    }

    /// About the bytes of what is committed and not in objects yet.
    pub fn tail_bytes(&self) -> u64 {
        let uploaded = self.services.view.uploaded(self.stream);
        let state = self.state.lock();
        let end = self.high_watermark();
        let all = state.times.bytes_from(uploaded, state.log.end());
        let uncommitted: usize = state
            .pending
            .iter()
            .filter(|pending| pending.end > end)
            .map(|p| p.bytes)
            .sum();
        all.saturating_sub(uncommitted as u64)
    }

    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The idempotent producers that are remembered, as `show` shows them.
    pub fn producers<T>(&self, show: impl Fn(&Producer) -> T) -> Vec<T> {
        self.state.lock().log.producers().map(show).collect()
    }

    /// Ends the leadership: whoever waits for a commit learns that its outcome is unknown, and fetchers look elsewhere.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let mut state = self.state.lock();
        let pending = std::mem::take(&mut state.pending);
        state.waiters.wake_all();
        self.tail.restart();
        drop(state);
        self.intake.notify_waiters();
        drop(pending);
    }
}

/// A client's metadata is older or newer than this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochMismatch {
    /// Older: FENCED_LEADER_EPOCH.
    Fenced,
    /// Newer: UNKNOWN_LEADER_EPOCH.
    Unknown,
}
