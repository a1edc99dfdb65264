//! One partition's state, at one end offset.

use bytes::Bytes;
use tailwater_format::snapshot::{EpochStart, Producer, ProducerBatch, Snapshot};
use tailwater_kafka::batch::BatchHeader;
use tailwater_types::{LeaderEpoch, Offset};

use crate::{Decision, LogError, producers};

/// What the batches below [`PartitionState::end`] add up to; its snapshot is itself, written down.
///
/// It advances when a batch is appended, before that is committed: so a repeat of a batch in flight is recognised too. A
/// leadership that ends with batches in flight drops its state, and the next one restores it from what was committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    snapshot: Snapshot,
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
        }
    }

    /// # Errors
    /// [`LogError::Format`]
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, LogError> {
        Ok(Self {
            snapshot: Snapshot::decode(bytes)?,
        })
    }

    /// Exact at [`PartitionState::end`].
    pub fn encode_snapshot(&self) -> Bytes {
        self.snapshot.encode()
    }

    /// Bytes that [`PartitionState::encode_snapshot`] makes.
    pub fn snapshot_bytes(&self) -> usize {
        self.snapshot.encoded_bytes()
    }

    /// The offset that the next batch gets.
    pub fn end(&self) -> Offset {
        self.snapshot.end
    }

    /// Decides on a batch of a client, by its producer's epoch and sequence. Looks only; [`PartitionState::apply`] is next.
    pub fn check(&self, batch: &BatchHeader) -> Decision {
        producers::check(&self.snapshot.producers, batch)
    }

    /// Advances over a batch that gets offsets from `base`. Its own offset and leader epoch are not looked at: they may not
    /// be written into it yet. `now_ms` is when the producer was last used.
    ///
    /// # Panics
    /// If `base` isn't the end, `leader_epoch` is older than one that has written, or the batch is empty: offsets are
    /// dense, and only the newest leader assigns them.
    pub fn apply(&mut self, batch: &BatchHeader, base: Offset, leader_epoch: LeaderEpoch, now_ms: i64) {
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
        producers::apply(&mut self.snapshot.producers, batch, base, now_ms);
        self.snapshot.end = base.advance(i64::from(batch.last_offset_delta) + 1);
    }

    /// Advances over a stored batch if it is the next one, going by the offset and leader epoch in it.
    ///
    /// The same offsets have the same bytes wherever they are stored, so one that is known already is skipped unseen.
    ///
    /// # Errors
    /// [`LogError::Straddles`], [`LogError::EpochStepsBack`], [`LogError::Empty`]: whatever is stored is committed, so each
    /// means damage; then nothing was changed.
    pub fn replay(&mut self, batch: &BatchHeader, now_ms: i64) -> Result<Replayed, LogError> {
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
        self.apply(batch, base, found, now_ms);
        Ok(Replayed::Applied)
    }

    /// Forgets producers last used before `before_ms`. Both sides may do this at other times: a batch that was
    /// appended is applied without being judged again.
    pub fn expire_producers(&mut self, before_ms: i64) {
        self.snapshot
            .producers
            .retain(|producer| producer.last_used_ms >= before_ms);
        if self.snapshot.producers.is_empty() {
            self.snapshot.producers = Vec::new();
        }
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
    pub fn producers(&self) -> &[Producer] {
        &self.snapshot.producers
    }

    /// What it takes in memory, itself included.
    pub fn memory_bytes(&self) -> usize {
        let Snapshot {
            leader_epochs,
            producers,
            ..
        } = &self.snapshot;
        let batches: usize = producers.iter().map(|producer| producer.batches.capacity()).sum();
        size_of::<Self>()
            + leader_epochs.capacity() * size_of::<EpochStart>()
            + producers.capacity() * size_of::<Producer>()
            + batches * size_of::<ProducerBatch>()
    }

    fn newest_epoch(&self) -> Option<LeaderEpoch> {
        self.snapshot.leader_epochs.last().map(|start| start.epoch)
    }
}

#[cfg(test)]
mod tests;
