//! Transactions in one partition: markers that end them, how far everything is decided, what readers skip.
//!
//! Owns: the last stable offset, which moves when a marker is committed and not before, and the order of a marker's append,
//! which is that of any batch (`append`). Does not own: the rules (`tailwater_log`), what a coordinator decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tailwater_format::snapshot::AbortedTransaction;
use tailwater_kafka::batch::{BatchBuilder, BatchHeader, Batches, MARKER_BYTES};
use tailwater_log::{TransactionMarker, Verification};
use tailwater_runtime::clock::Instant;
use tailwater_types::{MetadataVersion, Offset};

use super::append::{Appended, Stored};
use super::read::ReadError;
use super::wait::Stable;
use super::{AppendError, Partition, State};

impl Partition {
    /// Ends a producer's transaction in this partition, or says once more that it has ended. What it ends is decided when
    /// the marker is committed; the answer waits for that.
    ///
    /// # Errors
    /// [`AppendError`], before anything has happened.
    pub async fn write_marker(
        self: &Arc<Self>,
        sent: TransactionMarker,
        deadline: Instant,
    ) -> Result<Appended, AppendError> {
        let credit = self.credit(MARKER_BYTES, deadline).await?;
        let now_ms = self.services.clock.wall_ms();
        let batch = sent.marker.build(sent.producer_id, sent.producer_epoch, now_ms);
        let header = BatchHeader::read(&batch).expect("it was just built");
        let state = &mut *self.state.lock();
        if self.has_ended() || self.is_closing() {
            return Err(AppendError::NotLeader);
        }
        state.log.check_marker(&sent)?;
        let base = state.log.end();
        let ended = state
            .log
            .apply_marker(&header, sent.marker, base, self.leader_epoch, now_ms);
        state.verifications.forget(sent.producer_id);
        if let Some(ended) = ended {
            state.uncommitted_ends.push(ended);
        }
        let stored = Stored {
            backing_bytes: batch.capacity(),
            shared_bytes: batch.len(),
            header,
            batch,
            log_append_time_ms: -1,
        };
        Ok(self.store(state, stored, base, credit))
    }

    /// Begins to find out whether this partition is in the transaction of a producer that has sent `batch` (KIP-890): what
    /// it answers is what the batch must be appended with. `epoch_per_transaction`: whether the producer gets a new epoch
    /// at each end, as in transactions of version 2.
    pub fn begin_verification(&self, batch: &BatchHeader, epoch_per_transaction: bool) -> Verification {
        let state = &mut *self.state.lock();
        state.verifications.begin(&state.log, batch, epoch_per_transaction)
    }

    /// The same for a batch that a group's coordinator writes here for a producer: it has no sequence.
    pub fn begin_verification_of_offsets(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        epoch_per_transaction: bool,
    ) -> Verification {
        let batch = BatchBuilder::new()
            .producer(producer_id, producer_epoch, BatchHeader::NO_SEQUENCE)
            .transactional();
        self.begin_verification(batch.header(), epoch_per_transaction)
    }

    /// Everything below is decided and committed, and is what may be read under read_committed.
    pub fn last_stable_offset(&self) -> Offset {
        self.last_stable_below(self.high_watermark())
    }

    /// The same, for who has seen this high watermark: at most that.
    pub fn last_stable_below(&self, high_watermark: Offset) -> Offset {
        let stable = Offset(self.last_stable.load(Ordering::Acquire));
        // A transaction that began before the log does is no longer in anybody's way.
        stable.max(self.log_start()).min(high_watermark)
    }

    /// As [`Partition::read`], and the aborted transactions among them that the reader has to know.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_committed(
        &self,
        offset: Offset,
        end: Offset,
        max_bytes: usize,
        first_whole: bool,
    ) -> Result<(Vec<Bytes>, Vec<AbortedTransaction>), ReadError> {
        loop {
            let known_from = self.aborted_from();
            let batches = self.read(offset, end, max_bytes, first_whole).await?;
            let aborted = self.aborted_in(offset, &batches);
            // What was forgotten meanwhile may have data in what was read: in what is there now it has none.
            if known_from == self.aborted_from() || offset >= self.aborted_from() {
                return Ok((batches, aborted));
            }
        }
    }

    /// Aborted transactions that end below this offset are forgotten, so what was there before they were cleaned away is
    /// not to be read any more, neither out of the tail cache nor out of objects that were replaced.
    pub(super) fn aborted_from(&self) -> Offset {
        Offset(self.aborted_from.load(Ordering::Acquire))
    }

    /// Compaction has come to `cleaned`, as of this version of the metadata: forgets the aborted transactions of which it
    /// has left nothing.
    pub(super) fn forget_cleaned(&self, cleaned: Offset, version: MetadataVersion) {
        if self.cleaned_to.fetch_max(cleaned.0, Ordering::AcqRel) >= cleaned.0 {
            return;
        }
        let forgets = |state: &State| {
            let first = state.log.aborted().first();
            first.is_some_and(|first| first.last_offset < cleaned)
        };
        if !forgets(&self.state.lock()) {
            return;
        }
        // In this order: whoever sees the offset finds objects of this version or a later one.
        self.objects.lock().forget_before(version);
        let mut state = self.state.lock();
        self.aborted_from.fetch_max(cleaned.0, Ordering::AcqRel);
        state.log.trim_aborted(cleaned);
    }

    /// The aborted transactions that somebody who read `batches` from `offset` on has to know, by ascending markers. Where
    /// the marker ought to be in them and isn't, compaction has taken it away with all of the data: a consumer that was
    /// told would skip what the producer committed later.
    fn aborted_in(&self, offset: Offset, batches: &[Bytes]) -> Vec<AbortedTransaction> {
        let state = self.state.lock();
        if state.log.aborted().is_empty() {
            return Vec::new();
        }
        drop(state);
        let (mut end, mut markers) = (offset, BTreeSet::new());
        // Whoever has read them has seen that they are whole.
        let runs = batches.iter().cloned();
        for (batch, _) in runs.flat_map(|run| Batches::new(run).map_while(Result::ok)) {
            end = batch.end_offset();
            if batch.is_control() && batch.count > 0 {
                markers.insert(batch.base_offset);
            }
        }
        let mut aborted = self.state.lock().log.aborted_within(offset..end);
        aborted.retain(|aborted| aborted.last_offset >= end || markers.contains(&aborted.last_offset));
        aborted
    }

    /// Moves the last stable offset along with the high watermark, which is `before` and will be `end`; answers what that
    /// means to who reads stable records only.
    pub(super) fn advance_stable(&self, state: &mut State, before: Offset, end: Offset) -> Stable {
        state.uncommitted_ends.committed(end);
        let undecided = [state.log.first_open(), state.uncommitted_ends.first_start()];
        let stable = undecided.into_iter().flatten().fold(end, Offset::min);
        let was = Offset(self.last_stable.swap(stable.0, Ordering::AcqRel));
        match (was == before && stable == end, stable > was) {
            (true, _) => Stable::All,
            // Bytes of earlier commits count too now: how many nobody has kept.
            (false, true) => Stable::More,
            (false, false) => Stable::Same,
        }
    }
}

#[cfg(test)]
mod tests;
