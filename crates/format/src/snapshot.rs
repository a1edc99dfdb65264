//! A stream's snapshot: its state, exact at one offset; see the `log` crate for what the state means.
//!
//! Owns: what is in it, and that what is read hangs together. Does not own: the bytes of version 2, which is written
//! (`v2`), and of version 1, which is only read and knew no transactions (`v1`). Both begin with the magic "TWSN" and a
//! byte for the version. A snapshot has no sum of its own: whatever stores it (a journal's slice, an object) sums its bytes.

mod v1;
mod v2;
mod varint;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use tailwater_types::{LeaderEpoch, Offset};

use crate::FormatError;

const MAGIC: u32 = u32::from_be_bytes(*b"TWSN");
const WHAT: &str = "stream snapshot";
/// Magic and version.
const PREFIX_BYTES: usize = 5;

/// How many of a producer's batches are remembered (Kafka's `ProducerStateEntry`: 5, the most an idempotent client has
/// in flight).
pub const PRODUCER_BATCHES: usize = 5;

/// A stream's state at `end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub end: Offset,
    /// Ascending by epoch and start.
    pub leader_epochs: Vec<EpochStart>,
    /// By id. A map, since new ones come in any order while the state lives.
    pub producers: BTreeMap<i64, Producer>,
    /// Ascending by last offset.
    pub aborted: Vec<AbortedTransaction>,
}

/// The first offset that was written in a leader epoch. An epoch in which nothing was written has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start: Offset,
}

/// What is remembered of one idempotent or transactional producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    /// Of the coordinator that wrote the newest marker in its name; -1 if none did.
    pub coordinator_epoch: i32,
    /// When its last batch or marker was applied, by the clock of whoever applied it.
    pub last_used_ms: i64,
    /// The last offset of its last batch or marker; -1 where an older snapshot didn't say.
    pub last_offset: Offset,
    /// Where its open transaction begins, if it has one.
    pub transaction_start: Option<Offset>,
    /// Of this epoch, oldest first, at most [`PRODUCER_BATCHES`].
    pub batches: Vec<ProducerBatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    pub first_sequence: i32,
    /// Below the first one where the sequence went beyond `i32::MAX` inside the batch.
    pub last_sequence: i32,
    pub base_offset: Offset,
    /// Milliseconds since the Unix epoch; -1 where no record has one.
    pub max_timestamp_ms: i64,
}

/// A transaction whose data readers of what is committed skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: Offset,
    /// Its marker's.
    pub last_offset: Offset,
    /// The last stable offset once the marker was there: no transaction that ended later begins below it.
    pub last_stable_offset: Offset,
}

impl Snapshot {
    /// [`Snapshot::encode`] makes at most so many bytes; cheap.
    pub fn max_encoded_bytes(&self) -> usize {
        v2::max_encoded_bytes(self)
    }

    /// # Panics
    /// If it isn't one that [`Snapshot::decode`] would take, or there are 2^32 of anything.
    pub fn encode(&self) -> Bytes {
        v2::encode(self)
    }

    /// # Errors
    /// Whatever makes the bytes no snapshot, bytes behind its end included.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, FormatError> {
        let input = &mut bytes;
        require(input, PREFIX_BYTES)?;
        let found = input.get_u32();
        if found != MAGIC {
            return Err(FormatError::Magic {
                what: WHAT,
                expected: MAGIC,
                found,
            });
        }
        let snapshot = match input.get_u8() {
            v1::VERSION => v1::decode(input)?,
            v2::VERSION => v2::decode(input)?,
            found => {
                return Err(FormatError::Version {
                    what: WHAT,
                    newest: v2::VERSION,
                    found,
                });
            }
        };
        if !input.is_empty() {
            return Err(invalid(format!("{} bytes behind its end", input.len())));
        }
        snapshot.check()?;
        Ok(snapshot)
    }

    /// Everything lies below the end, and ascends where it is to.
    fn check(&self) -> Result<(), FormatError> {
        if self.end < Offset::ZERO {
            return Err(invalid(format!("end {}", self.end)));
        }
        let epochs = &self.leader_epochs;
        let ascend = epochs.is_sorted_by(|a, b| a.epoch < b.epoch && a.start < b.start);
        let inside = epochs.iter().all(|next| next.epoch.0 >= 0 && self.contains(next.start));
        if !ascend || !inside {
            return Err(invalid(format!("starts of leader epochs below end {}", self.end)));
        }
        self.producers
            .values()
            .try_for_each(|producer| self.check_producer(producer))?;
        let ascend = self.aborted.is_sorted_by(|a, b| a.last_offset < b.last_offset);
        let inside = self.aborted.iter().all(|aborted| {
            let AbortedTransaction {
                producer_id,
                first_offset,
                last_offset,
                last_stable_offset,
            } = *aborted;
            producer_id >= 0
                && first_offset >= Offset::ZERO
                && first_offset < last_offset
                && last_offset < self.end
                && last_stable_offset >= Offset::ZERO
                && last_stable_offset <= last_offset.advance(1)
        });
        if !ascend || !inside {
            return Err(invalid(format!("aborted transactions below end {}", self.end)));
        }
        Ok(())
    }

    fn check_producer(&self, producer: &Producer) -> Result<(), FormatError> {
        let Producer {
            id,
            epoch,
            coordinator_epoch,
            batches,
            ..
        } = producer;
        if *id < 0 || *epoch < 0 || *coordinator_epoch < -1 || batches.len() > PRODUCER_BATCHES {
            return Err(invalid(format!(
                "producer {id}, epoch {epoch}, {} batches",
                batches.len()
            )));
        }
        let ascend = batches.is_sorted_by(|a, b| a.base_offset < b.base_offset);
        let inside = batches
            .iter()
            .all(|batch| self.contains(batch.base_offset) && batch.first_sequence >= 0 && batch.last_sequence >= 0)
            && producer.transaction_start.is_none_or(|start| self.contains(start))
            && producer.last_offset >= Offset(-1)
            && producer.last_offset < self.end;
        if !ascend || !inside {
            return Err(invalid(format!("offsets and sequences of producer {id}")));
        }
        Ok(())
    }

    fn contains(&self, offset: Offset) -> bool {
        offset >= Offset::ZERO && offset < self.end
    }
}

/// What was read of producers, by id: they are written in that order.
fn by_id(producers: Vec<Producer>) -> Result<BTreeMap<i64, Producer>, FormatError> {
    match producers.is_sorted_by(|a, b| a.id < b.id) {
        true => Ok(producers.into_iter().map(|producer| (producer.id, producer)).collect()),
        false => Err(invalid("producers out of order".to_owned())),
    }
}

fn require(bytes: &[u8], need: usize) -> Result<(), FormatError> {
    if bytes.len() < need {
        return Err(FormatError::Truncated {
            what: WHAT,
            need,
            have: bytes.len(),
        });
    }
    Ok(())
}

fn invalid(detail: String) -> FormatError {
    FormatError::Invalid { what: WHAT, detail }
}
