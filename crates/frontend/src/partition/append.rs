//! Appending: sequence check, offsets, the slice for the journal, and who is told of the commit.
//!
//! Owns: the order of an append. Credit first, while nothing has happened; then, under the partition's lock and without
//! waiting: sequence check, offsets written into the batch in place, state, tail cache, journal. From there on the batch
//! either commits or the leadership ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tailwater_format::entry::{Slice, SliceHeader, SliceKind};
use tailwater_kafka::batch::{self, BatchHeader};
use tailwater_log::{Decision, Guard, Refusal};
use tailwater_runtime::clock::Instant;
use tailwater_types::Offset;
use tokio::sync::oneshot;

use super::{Partition, State};
use crate::journal::{NoCredit, Reservation};

/// The tail behind the last snapshot slice that a new leader is to scan at most: docs/design.md section 3, "Opening a
/// stream".
const SNAPSHOT_TAIL_BYTES: usize = 8 << 20;

/// One validated batch on its way into a partition.
#[derive(Debug)]
pub struct Append {
    /// As `batch::validate` has read it from `batch`: its CRC is known to be right.
    pub header: BatchHeader,
    pub batch: BytesMut,
    /// Bytes of the memory that `batch` keeps alive, and how many of them are batches like this one.
    pub backing_bytes: usize,
    pub shared_bytes: usize,
    /// Whether the topic's `message.timestamp.type` is LogAppendTime.
    pub log_append_time: bool,
    /// What [`Partition::begin_verification`] gave for a transactional batch, once its coordinator has said that this
    /// partition is in the transaction.
    pub guard: Option<Guard>,
    /// Until when it may wait for the WAL's credit.
    pub deadline: Instant,
}

/// A batch that is in the partition's state, on its way to the journal.
pub(super) struct Stored {
    pub header: BatchHeader,
    pub batch: BytesMut,
    pub backing_bytes: usize,
    pub shared_bytes: usize,
    /// -1 unless the topic has LogAppendTime.
    pub log_append_time_ms: i64,
}

/// A batch that has offsets, and isn't known to be committed.
#[derive(Debug)]
#[must_use = "the batch is acknowledged when it is committed"]
pub struct Appended {
    commit: Commit,
    /// `None`: it is committed already.
    committed: Option<oneshot::Receiver<()>>,
}

/// What a producer is told of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    pub base_offset: Offset,
    /// -1 unless the topic has LogAppendTime.
    pub log_append_time_ms: i64,
    /// Whether this is a repeat of a batch that was appended before.
    pub duplicate: bool,
}

/// The batch may or may not be in the log: whoever leads the partition next knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leadership ended before the batch was known to be committed")]
pub struct LeadershipEnded;

/// Why a batch was not appended. Nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("this node doesn't lead the partition any more")]
    NotLeader,
    #[error("the WAL gave no room in time")]
    TimedOut,
    #[error("a batch of {bytes} bytes, the WAL's device is too small for it")]
    TooLarge { bytes: usize },
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl AppendError {
    /// Why a slice of `bytes` has no credit.
    pub(super) fn of(none: NoCredit, bytes: usize) -> Self {
        match none {
            NoCredit::TimedOut => Self::TimedOut,
            NoCredit::Ended => Self::NotLeader,
            NoCredit::TooLarge => Self::TooLarge { bytes },
        }
    }
}

/// An append, or the repeat of one, that waits for the high watermark to reach `end`.
pub(super) struct PendingAck {
    pub(super) end: Offset,
    /// What becomes readable with it.
    pub(super) bytes: usize,
    done: oneshot::Sender<()>,
}

impl Appended {
    #[cfg(test)]
    pub fn base_offset(&self) -> Offset {
        self.commit.base_offset
    }

    /// Waits until the batch is committed.
    ///
    /// # Errors
    /// [`LeadershipEnded`].
    pub async fn committed(self) -> Result<Commit, LeadershipEnded> {
        if let Some(committed) = self.committed {
            committed.await.map_err(|_dropped| LeadershipEnded)?;
        }
        Ok(self.commit)
    }
}

impl Partition {
    /// Gives a batch its offsets and sends it on its way. Batches of one caller get offsets in the order of its calls. If
    /// the future is dropped, the batch was appended whole or not at all.
    ///
    /// # Errors
    /// [`AppendError`], before anything has happened.
    pub async fn append(self: &Arc<Self>, append: Append) -> Result<Appended, AppendError> {
        let credit = self.credit(append.batch.len(), append.deadline).await?;
        self.append_now(append, credit)
    }

    /// Waits for credit for a batch, while the partition takes any.
    ///
    /// # Errors
    /// [`AppendError`].
    pub(super) async fn credit(&self, bytes: usize, deadline: Instant) -> Result<Reservation, AppendError> {
        loop {
            self.taking(deadline).await?;
            let credit = self.journal.reserve(bytes, deadline).await;
            let credit = credit.map_err(|none| AppendError::of(none, bytes))?;
            // It may have begun to be given away while this was waiting.
            if !self.is_closing() {
                return Ok(credit);
            }
        }
    }

    fn append_now(self: &Arc<Self>, append: Append, credit: Reservation) -> Result<Appended, AppendError> {
        let now_ms = self.services.clock.wall_ms();
        let state = &mut *self.state.lock();
        if self.has_ended() || self.is_closing() {
            return Err(AppendError::NotLeader);
        }
        match state.log.check(&append.header) {
            Decision::Append => {}
            Decision::Refuse(refusal) => return Err(refusal.into()),
            Decision::Duplicate {
                base_offset,
                max_timestamp_ms,
            } => {
                let log_append_time_ms = if append.log_append_time { max_timestamp_ms } else { -1 };
                let commit = Commit {
                    base_offset,
                    log_append_time_ms,
                    duplicate: true,
                };
                let end = base_offset.advance(i64::from(append.header.last_offset_delta) + 1);
                let committed = self.join(state, end);
                return Ok(Appended { commit, committed });
            }
        }
        let (mut header, mut batch) = (append.header, append.batch);
        if header.is_transactional() {
            state.verifications.admit(&state.log, &header, append.guard)?;
            state.verifications.forget(header.producer_id);
        }
        if append.log_append_time {
            header = batch::set_log_append_time(&mut batch, now_ms).expect("it was validated");
        }
        let base = state.log.end();
        state.log.apply(&header, base, self.leader_epoch, now_ms);
        let stored = Stored {
            header,
            batch,
            backing_bytes: append.backing_bytes,
            shared_bytes: append.shared_bytes,
            log_append_time_ms: if append.log_append_time { now_ms } else { -1 },
        };
        Ok(self.store(state, stored, base, credit))
    }

    /// Sends a batch, which the state has at `base` already, on its way.
    pub(super) fn store(
        self: &Arc<Self>,
        state: &mut State,
        stored: Stored,
        base: Offset,
        credit: Reservation,
    ) -> Appended {
        let Stored { header, mut batch, .. } = stored;
        batch::assign(&mut batch, base, self.leader_epoch);
        let crc = batch::whole_crc(&batch).expect("it was validated");
        let batch = batch.freeze();
        let end = state.log.end();
        let oldest = self.services.view.uploaded(self.stream);
        state.times.push(base, batch.len(), header.max_timestamp_ms, oldest);
        self.tail.push(base, &batch, stored.backing_bytes, stored.shared_bytes);
        let (done, committed) = oneshot::channel();
        state.pending.push_back(PendingAck {
            end,
            bytes: batch.len(),
            done,
        });
        state.since_snapshot_bytes += batch.len();
        let slice = self.slice(SliceKind::Records, base, end, header.max_timestamp_ms, batch, crc);
        self.journal.append(slice, self.clone(), end, credit);
        self.append_snapshot_if_due(state);
        let commit = Commit {
            base_offset: base,
            log_append_time_ms: stored.log_append_time_ms,
            duplicate: false,
        };
        Appended {
            commit,
            committed: Some(committed),
        }
    }

    /// Everything below `end` is committed: to be called by the journal, with ends that only grow.
    pub(crate) fn committed(&self, end: Offset) {
        let state = &mut *self.state.lock();
        let before = self.high_watermark();
        if self.has_ended() || end <= before {
            return;
        }
        // Before the high watermark moves: a fetch that knows this one has seen what is stable below it.
        let stable = self.advance_stable(state, before, end);
        self.high_watermark.store(end.0, Ordering::Release);
        self.services
            .metrics
            .committed_records
            .inc_by((end.0 - before.0) as u64);
        let mut bytes = 0;
        while let Some(oldest) = state.pending.pop_front_if(|oldest| oldest.end <= end) {
            bytes += oldest.bytes;
            // An error: nobody waits for it any more.
            let _ = oldest.done.send(());
        }
        if state.pending.is_empty() && state.pending.capacity() > 16 {
            state.pending.shrink_to(0);
        }
        state.waiters.advance(bytes, stable);
    }

    /// Waits for `end` beside whoever has appended up to it; `None` if it is committed.
    fn join(&self, state: &mut State, end: Offset) -> Option<oneshot::Receiver<()>> {
        if end <= self.high_watermark() {
            return None;
        }
        let (done, committed) = oneshot::channel();
        let at = state.pending.partition_point(|pending| pending.end <= end);
        state.pending.insert(at, PendingAck { end, bytes: 0, done });
        Some(committed)
    }

    /// Writes the state down, so that a new leader has little to scan. Never waits for credit: the next append tries again.
    fn append_snapshot_if_due(self: &Arc<Self>, state: &mut State) {
        if state.since_snapshot_bytes < SNAPSHOT_TAIL_BYTES {
            return;
        }
        let length = state.log.max_snapshot_bytes();
        if state.since_snapshot_bytes < 2 * length {
            return;
        }
        let Ok(Some(credit)) = self.journal.try_reserve(length) else {
            return;
        };
        self.append_snapshot(state, credit);
    }

    /// Writes the state down, with credit for at least its bytes.
    pub(super) fn append_snapshot(self: &Arc<Self>, state: &mut State, credit: Reservation) {
        let bytes = state.log.encode_snapshot();
        let end = state.log.end();
        let crc = crc32c::crc32c(&bytes);
        let slice = self.slice(SliceKind::Snapshot, end, end, -1, bytes, crc);
        self.journal.append(slice, self.clone(), end, credit);
        self.services.metrics.snapshots.inc();
        state.since_snapshot_bytes = 0;
    }

    fn slice(
        &self,
        kind: SliceKind,
        base: Offset,
        end: Offset,
        max_timestamp_ms: i64,
        bytes: Bytes,
        crc: u32,
    ) -> Slice {
        let header = SliceHeader {
            kind,
            stream: self.stream,
            leader_epoch: self.leader_epoch,
            base,
            end,
            max_timestamp_ms,
            length: u32::try_from(bytes.len()).expect("a batch has less than 2 GiB"),
            crc,
        };
        Slice { header, bytes }
    }
}
