//! Whether a producer's first batch of a transaction was announced: the partition's side of KIP-890.
//!
//! A transaction is opened in a partition only by a batch of which the coordinator has said, since the last marker, that
//! the partition is in the producer's ongoing transaction. Otherwise a batch that was delayed until its transaction had
//! ended would open another one, which nobody would ever end. So: [`Verifications::begin`] before the coordinator is asked,
//! then [`Verifications::admit`] with the guard when the batch is appended. A marker in between takes the guard away.
//!
//! Held in memory only: a new leader asks again.

use std::collections::BTreeMap;

use tailwater_kafka::batch::BatchHeader;

use crate::{PartitionState, Refusal};

/// The most that are under way in one partition; beyond it the oldest are given up, and their batches refused.
const MAX_GUARDS: u64 = 65_536;

/// What a batch must come with to open a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard(u64);

/// What is to be done before a transactional batch is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Nothing: its transaction is open in this partition.
    Ongoing,
    /// The coordinator is to be asked; its yes is worth something together with the guard only.
    Needed(Guard),
}

/// One partition's verifications under way.
#[derive(Clone, Debug, Default)]
pub struct Verifications {
    by_producer: BTreeMap<i64, Begun>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    guard: Guard,
    epoch: i16,
    /// Of the batches that came in this epoch: none may open the transaction with a later one, or what is repeated after
    /// a refusal would come out of order.
    lowest_sequence: i32,
    /// Whether each of its transactions has an epoch of its own (transactions of version 2): then they begin at sequence 0.
    epoch_per_transaction: bool,
}

impl Verifications {
    /// Begins to verify a transactional batch.
    pub fn begin(&mut self, state: &PartitionState, batch: &BatchHeader, epoch_per_transaction: bool) -> Verification {
        if state.has_open_transaction(batch.producer_id, batch.producer_epoch) {
            return Verification::Ongoing;
        }
        let BatchHeader {
            producer_epoch: epoch,
            base_sequence,
            ..
        } = *batch;
        let begun = self.by_producer.entry(batch.producer_id).or_insert_with(|| {
            self.next += 1;
            Begun {
                guard: Guard(self.next),
                epoch,
                lowest_sequence: base_sequence,
                epoch_per_transaction,
            }
        });
        if epoch > begun.epoch {
            (begun.epoch, begun.lowest_sequence) = (epoch, base_sequence);
        } else if epoch == begun.epoch {
            begun.lowest_sequence = begun.lowest_sequence.min(base_sequence);
        }
        begun.epoch_per_transaction |= epoch_per_transaction;
        let guard = begun.guard;
        if self.by_producer.len() as u64 > MAX_GUARDS {
            let oldest_kept = self.next - MAX_GUARDS * 7 / 8;
            self.by_producer.retain(|_, begun| begun.guard.0 > oldest_kept);
        }
        Verification::Needed(guard)
    }

    /// Whether a transactional batch that [`PartitionState::check`] lets through may be appended.
    ///
    /// # Errors
    /// [`Refusal::InvalidTransactionState`] without the guard that holds; [`Refusal::OutOfOrderSequence`].
    pub fn admit(&self, state: &PartitionState, batch: &BatchHeader, guard: Option<Guard>) -> Result<(), Refusal> {
        let producer_id = batch.producer_id;
        if state.has_open_transaction(producer_id, batch.producer_epoch) {
            return Ok(());
        }
        let begun = self.by_producer.get(&producer_id);
        let Some(begun) = begun.filter(|begun| Some(begun.guard) == guard) else {
            return Err(Refusal::InvalidTransactionState { producer_id });
        };
        let expected = match state.knows(producer_id) {
            false if begun.epoch_per_transaction => 0,
            _ => begun.lowest_sequence,
        };
        // A coordinator's batch has no sequence, and -1 is no more than any.
        if batch.base_sequence > expected {
            return Err(Refusal::OutOfOrderSequence {
                producer_id,
                expected,
                found: batch.base_sequence,
            });
        }
        Ok(())
    }

    /// A batch or marker of the producer was appended: what was verified before it holds no more.
    pub fn forget(&mut self, producer_id: i64) {
        self.by_producer.remove(&producer_id);
    }
}

#[cfg(test)]
mod tests;
