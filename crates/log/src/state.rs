//! One partition's state, at one end offset.

use std::ops::Range;

use bytes::Bytes;
use tailwater_format::snapshot::{AbortedTransaction, EpochStart, Producer, ProducerBatch, Snapshot};
use tailwater_kafka::batch::{BatchHeader, Marker, TransactionEnd};
use tailwater_types::{LeaderEpoch, Offset};

use crate::transactions::{self, OpenTransaction};
use crate::{
    Decision, EndedTransaction, LogError, MAX_ABORTED_TRANSACTIONS, MAX_OPEN_TRANSACTIONS, Refusal, TransactionMarker,
    producers,
};

/// What a producer takes in the map, whose nodes are three quarters full on average.
const PRODUCER_BYTES: usize = (size_of::<i64>() + size_of::<Producer>()) * 4 / 3;

/// What the batches below [`PartitionState::end`] add up to; its snapshot is itself, written down.
///
/// It advances when a batch is appended, before that is committed: so a repeat of a batch in flight is recognised too. A
/// leadership that ends with batches in flight drops its state, and the next one restores it from what was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    snapshot: Snapshot,
    /// Of the producers in the snapshot, by ascending start.
    pub(crate) open: Vec<OpenTransaction>,
}

/// What is to be known of a stored batch: its header, and of a control batch what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    pub header: BatchHeader,
    marker: Option<Marker>,
}

impl StoredBatch {
    /// Out of bytes that hold at least its header, and all of it if it is a control batch.
    ///
    /// # Errors
    /// [`LogError::Batch`], [`LogError::Marker`].
    pub fn read(bytes: &[u8]) -> Result<Self, LogError> {
        let header = BatchHeader::read(bytes)?;
        let marker = match header.is_control() {
            true => Marker::read(bytes)?,
            false => None,
        };
        Ok(Self { header, marker })
    }
}

/// What [`PartitionState::replay`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    Applied,
    /// It lies below the end: it was applied before, here or in the snapshot.
    Known,
    /// It begins above the end: something is missing before it.
    Beyond,
}

impl PartitionState {
    /// The state of an empty log that begins at `start`.
    pub fn empty(start: Offset) -> Self {
        Self {
            snapshot: Snapshot {
                end: start,
                ..Snapshot::default()
            },
            open: Vec::new(),
        }
    }

    /// # Errors
    /// [`LogError::Format`]
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, LogError> {
        let snapshot = Snapshot::decode(bytes)?;
        let open = transactions::open_in(snapshot.producers.values());
        Ok(Self { snapshot, open })
    }

    /// Exact at [`PartitionState::end`].
    pub fn encode_snapshot(&self) -> Bytes {
        self.snapshot.encode()
    }

    /// [`PartitionState::encode_snapshot`] makes at most so many bytes; cheap.
    pub fn max_snapshot_bytes(&self) -> usize {
        self.snapshot.max_encoded_bytes()
    }

    /// The offset that the next batch gets.
    pub fn end(&self) -> Offset {
        self.snapshot.end
    }

    /// Decides on a batch that isn't a control batch, by its producer's epoch, sequence and transaction. Looks only;
    /// [`PartitionState::apply`] is next, for a transactional batch once [`crate::Verifications::admit`] lets it through.
    pub fn check(&self, batch: &BatchHeader) -> Decision {
        let decision = producers::check(&self.snapshot.producers, batch);
        let opens = decision == Decision::Append
            && batch.is_transactional()
            && self
                .producer(batch.producer_id)
                .is_none_or(|known| known.transaction_start.is_none());
        let is_full =
            self.open.len() >= MAX_OPEN_TRANSACTIONS || self.snapshot.aborted.len() >= MAX_ABORTED_TRANSACTIONS;
        match opens && is_full {
            true => Decision::Refuse(Refusal::TooManyTransactions),
            false => decision,
        }
    }

    /// Decides on a marker; [`PartitionState::apply_marker`] is next.
    ///
    /// # Errors
    /// [`Refusal::InvalidProducerEpoch`] for one that comes too late, [`Refusal::CoordinatorFenced`].
    pub fn check_marker(&self, sent: &TransactionMarker) -> Result<(), Refusal> {
        producers::check_marker(&self.snapshot.producers, sent)
    }

    /// Advances over a batch that gets offsets from `base`. Its own offset and leader epoch are not looked at: they may not
    /// be written into it yet. `now_ms` is when the producer was last used. Of a control batch only its offsets count:
    /// [`PartitionState::apply_marker`] is for those.
    ///
    /// # Panics
    /// If `base` isn't the end, `leader_epoch` is older than one that has written, or the batch is empty: offsets are
    /// dense, and only the newest leader assigns them.
    pub fn apply(&mut self, batch: &BatchHeader, base: Offset, leader_epoch: LeaderEpoch, now_ms: i64) {
        self.advance(batch, base, leader_epoch);
        if !is_of_a_producer(batch) || batch.is_control() {
            return;
        }
        let producer = producers::apply(&mut self.snapshot.producers, batch, base, now_ms);
        if batch.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(base);
            self.open.push(OpenTransaction {
                start: base,
                producer_id: batch.producer_id,
            });
        }
    }

    /// Advances over the control batch of `marker`. Answers which transaction it ended, if one was open: a marker that is
    /// sent again ends none.
    ///
    /// # Panics
    /// As [`PartitionState::apply`].
    pub fn apply_marker(
        &mut self,
        batch: &BatchHeader,
        marker: Marker,
        base: Offset,
        leader_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Option<EndedTransaction> {
        self.advance(batch, base, leader_epoch);
        if !is_of_a_producer(batch) {
            return None;
        }
        let producer = producers::apply(&mut self.snapshot.producers, batch, base, now_ms);
        producer.coordinator_epoch = marker.coordinator_epoch;
        let start = producer.transaction_start.take()?;
        transactions::close(&mut self.open, start);
        let ended = EndedTransaction {
            producer_id: batch.producer_id,
            start,
            marker: base,
            end: marker.end,
        };
        if marker.end == TransactionEnd::Abort {
            self.snapshot.aborted.push(AbortedTransaction {
                producer_id: ended.producer_id,
                first_offset: start,
                last_offset: base,
                last_stable_offset: self.last_stable_offset(),
            });
        }
        Some(ended)
    }

    fn advance(&mut self, batch: &BatchHeader, base: Offset, leader_epoch: LeaderEpoch) {
        assert_eq!(base, self.end(), "offsets are assigned densely");
        assert!(batch.last_offset_delta >= 0, "a batch without records gets no offset");
        let newest = self.newest_epoch();
        assert!(newest <= Some(leader_epoch), "a fenced leader assigns nothing");
        if newest != Some(leader_epoch) {
            self.snapshot.leader_epochs.push(EpochStart {
                epoch: leader_epoch,
                start: base,
            });
        }
        self.snapshot.end = base.advance(i64::from(batch.last_offset_delta) + 1);
    }

    /// Advances over a stored batch if it is the next one, going by the offset and leader epoch in it.
    ///
    /// The same offsets have the same bytes wherever they are stored, so one that is known already is skipped unseen.
    ///
    /// # Errors
    /// [`LogError::Straddles`], [`LogError::EpochStepsBack`], [`LogError::Empty`]: whatever is stored is committed, so each
    /// means damage; then nothing was changed.
    pub fn replay(&mut self, stored: &StoredBatch, now_ms: i64) -> Result<Replayed, LogError> {
        let batch = &stored.header;
        let (base, batch_end, end) = (batch.base_offset, batch.end_offset(), self.end());
        if batch.last_offset_delta < 0 {
            return Err(LogError::Empty { base });
        }
        if batch_end <= end {
            return Ok(Replayed::Known);
        }
        if base > end {
            return Ok(Replayed::Beyond);
        }
        if base < end {
            return Err(LogError::Straddles { base, batch_end, end });
        }
        let found = batch.leader_epoch;
        if let Some(newest) = self.newest_epoch().filter(|newest| *newest > found) {
            return Err(LogError::EpochStepsBack { base, newest, found });
        }
        match stored.marker {
            Some(marker) => _ = self.apply_marker(batch, marker, base, found, now_ms),
            None => self.apply(batch, base, found, now_ms),
        }
        Ok(Replayed::Applied)
    }

    /// Forgets producers last used before `before_ms`, but for those with an open transaction. Both sides may do this at
    /// other times: a batch that was appended is applied without being judged again.
    pub fn expire_producers(&mut self, before_ms: i64) {
        self.snapshot
            .producers
            .retain(|_, producer| producer.last_used_ms >= before_ms || producer.transaction_start.is_some());
    }

    /// Where the first open transaction begins.
    pub fn first_open(&self) -> Option<Offset> {
        self.open.first().map(|open| open.start)
    }

    /// Everything below is decided: the start of the first open transaction, or the end (KIP-98).
    pub fn last_stable_offset(&self) -> Offset {
        self.first_open().unwrap_or(self.end())
    }

    /// Whether a transaction of this very epoch is open.
    pub fn has_open_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        self.producer(producer_id)
            .is_some_and(|known| known.epoch == epoch && known.transaction_start.is_some())
    }

    /// The aborted transactions that have data in `range`, by ascending markers.
    pub fn aborted_within(&self, range: Range<Offset>) -> Vec<AbortedTransaction> {
        transactions::aborted_within(&self.snapshot.aborted, range)
    }

    /// Aborted transactions that are remembered, by ascending markers.
    pub fn aborted(&self) -> &[AbortedTransaction] {
        &self.snapshot.aborted
    }

    /// The log begins at `start`: forgets aborted transactions that nobody can read any more. Both sides may do this at
    /// other times.
    pub fn trim_aborted(&mut self, start: Offset) {
        let aborted = &mut self.snapshot.aborted;
        let gone = aborted.partition_point(|aborted| aborted.last_offset < start);
        if gone > 0 {
            aborted.drain(..gone);
            aborted.shrink_to(2 * aborted.len());
        }
    }

    /// Whether the producer is remembered.
    pub(crate) fn knows(&self, producer_id: i64) -> bool {
        self.producer(producer_id).is_some()
    }

    fn producer(&self, id: i64) -> Option<&Producer> {
        self.snapshot.producers.get(&id)
    }

    /// The first offset written in each leader epoch that wrote any, ascending.
    pub fn leader_epochs(&self) -> &[EpochStart] {
        &self.snapshot.leader_epochs
    }

    /// The epoch in which `offset` was written, if it was.
    pub fn leader_epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let starts = &self.snapshot.leader_epochs;
        let behind = starts.partition_point(|start| start.start <= offset);
        let at = behind.checked_sub(1).filter(|_| offset < self.end())?;
        Some(starts[at].epoch)
    }

    /// Where what was written up to `epoch`, which must not be the current leader's, ends: the newest epoch up to it that
    /// has written, and the start of the first one after it (KIP-101). A leadership that hasn't written begins at the end.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let starts = &self.snapshot.leader_epochs;
        let behind = starts.partition_point(|start| start.epoch <= epoch);
        let newest = behind.checked_sub(1).map_or(epoch, |at| starts[at].epoch);
        (newest, starts.get(behind).map_or(self.end(), |next| next.start))
    }

    /// Producers that are remembered, ascending by id.
    pub fn producers(&self) -> impl ExactSizeIterator<Item = &Producer> {
        self.snapshot.producers.values()
    }

    /// What it takes in memory, itself included.
    pub fn memory_bytes(&self) -> usize {
        let Snapshot {
            leader_epochs,
            producers,
            aborted,
            end: _,
        } = &self.snapshot;
        let batches: usize = producers.values().map(|producer| producer.batches.capacity()).sum();
        size_of::<Self>()
            + leader_epochs.capacity() * size_of::<EpochStart>()
            + producers.len() * PRODUCER_BYTES
            + batches * size_of::<ProducerBatch>()
            + aborted.capacity() * size_of::<AbortedTransaction>()
            + self.open.capacity() * size_of::<OpenTransaction>()
    }

    fn newest_epoch(&self) -> Option<LeaderEpoch> {
        self.snapshot.leader_epochs.last().map(|start| start.epoch)
    }
}

/// Whether a batch is of anybody who is to be remembered. A marker of a negative epoch is of nobody: none is taken, but a log
/// may have one from before that was so.
fn is_of_a_producer(batch: &BatchHeader) -> bool {
    batch.is_idempotent() && batch.producer_epoch >= 0
}

#[cfg(test)]
mod tests;
