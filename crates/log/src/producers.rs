//! Idempotent and transactional producers: what may be appended next, and what is remembered of what was.
//!
//! The rules are those of Apache Kafka 4.3's `ProducerStateManager` and `ProducerAppendInfo`.

use std::collections::BTreeMap;

use tailwater_format::snapshot::{PRODUCER_BATCHES, Producer, ProducerBatch};
use tailwater_kafka::batch::{BatchHeader, Marker};
use tailwater_types::Offset;

/// The most producers that one partition remembers: at 200 bytes each, 26 MB. Beyond it those whose last batch or marker
/// lies furthest back are forgotten, an eighth at once; a forgotten one may go on with any sequence. One with an open
/// transaction is never forgotten.
pub const MAX_PRODUCERS: usize = 131_072;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Append,
    /// It was appended before (and may not be committed yet): answer as the first time, once that one is committed.
    Duplicate {
        base_offset: Offset,
        max_timestamp_ms: i64,
    },
    Refuse(Refusal),
}

/// Why a batch must not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Kafka's `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error("producer {producer_id} goes on at sequence {expected}, not at {found}")]
    OutOfOrderSequence {
        producer_id: i64,
        expected: i32,
        found: i32,
    },
    /// Kafka's `INVALID_PRODUCER_EPOCH`.
    #[error("producer {producer_id} has reached epoch {current}, the batch is of {found}")]
    InvalidProducerEpoch { producer_id: i64, current: i16, found: i16 },
    /// Kafka's `INVALID_TXN_STATE`.
    #[error("the batch of producer {producer_id} doesn't fit the transaction that is, or isn't, open here")]
    InvalidTransactionState { producer_id: i64 },
    /// Kafka's `TRANSACTION_COORDINATOR_FENCED`.
    #[error("producer {producer_id}'s coordinator has reached epoch {current}, the marker is of {found}")]
    CoordinatorFenced { producer_id: i64, current: i32, found: i32 },
    /// Nothing of Kafka's: a limit of this log. A repeat may find room.
    #[error("too many transactions are open or were aborted in this partition")]
    TooManyTransactions,
}

/// The end of a transaction, as a coordinator sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionMarker {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub marker: Marker,
    /// From version 2 on the marker's epoch is one more than that of the transaction's data (KIP-890, KIP-1228).
    pub transaction_version: i8,
}

/// `producers` are by id. A producer that isn't remembered may begin with any sequence: its state can have expired.
pub(crate) fn check(producers: &BTreeMap<i64, Producer>, batch: &BatchHeader) -> Decision {
    if !batch.is_idempotent() {
        return Decision::Append;
    }
    if batch.producer_epoch < 0 {
        return Decision::Refuse(no_epoch(batch.producer_id, batch.producer_epoch));
    }
    let Some(producer) = producers.get(&batch.producer_id) else {
        return Decision::Append;
    };
    let decision = check_sequence(producer, batch);
    if decision == Decision::Append && producer.transaction_start.is_some() && !batch.is_transactional() {
        return Decision::Refuse(Refusal::InvalidTransactionState {
            producer_id: producer.id,
        });
    }
    decision
}

/// An epoch that no producer has.
fn no_epoch(producer_id: i64, found: i16) -> Refusal {
    Refusal::InvalidProducerEpoch {
        producer_id,
        current: 0,
        found,
    }
}

/// Decides on a marker. One that was written before, and is sent again because nobody heard of it, is taken again.
pub(crate) fn check_marker(producers: &BTreeMap<i64, Producer>, sent: &TransactionMarker) -> Result<(), Refusal> {
    if sent.producer_id < 0 || sent.producer_epoch < 0 {
        return Err(no_epoch(sent.producer_id, sent.producer_epoch));
    }
    let Some(producer) = producers.get(&sent.producer_id) else {
        return Ok(());
    };
    let (current, found) = (producer.epoch, sent.producer_epoch);
    let is_late = found < current
        // A transaction of this very epoch that is open began after the one that the marker ends.
        || found == current && sent.transaction_version >= 2 && producer.transaction_start.is_some();
    if is_late {
        return Err(Refusal::InvalidProducerEpoch {
            producer_id: producer.id,
            current,
            found,
        });
    }
    let (current, found) = (producer.coordinator_epoch, sent.marker.coordinator_epoch);
    if found < current {
        return Err(Refusal::CoordinatorFenced {
            producer_id: producer.id,
            current,
            found,
        });
    }
    Ok(())
}

/// Decides by epoch and sequence.
fn check_sequence(producer: &Producer, batch: &BatchHeader) -> Decision {
    if batch.producer_epoch < producer.epoch {
        return Decision::Refuse(Refusal::InvalidProducerEpoch {
            producer_id: producer.id,
            current: producer.epoch,
            found: batch.producer_epoch,
        });
    }
    if !has_sequence(batch) {
        return Decision::Append;
    }
    let expected = if batch.producer_epoch > producer.epoch {
        0
    } else {
        let last = last_sequence(batch);
        let known = producer
            .batches
            .iter()
            .find(|known| known.first_sequence == batch.base_sequence && known.last_sequence == last);
        if let Some(known) = known {
            return Decision::Duplicate {
                base_offset: known.base_offset,
                max_timestamp_ms: known.max_timestamp_ms,
            };
        }
        producer
            .batches
            .last()
            .map_or(0, |last| next_sequence(last.last_sequence))
    };
    if batch.base_sequence == expected {
        return Decision::Append;
    }
    Decision::Refuse(Refusal::OutOfOrderSequence {
        producer_id: producer.id,
        expected,
        found: batch.base_sequence,
    })
}

/// Remembers a batch, of a producer, that was appended at `base`. What the leader took is not judged again.
pub(crate) fn apply<'a>(
    producers: &'a mut BTreeMap<i64, Producer>,
    batch: &BatchHeader,
    base: Offset,
    now_ms: i64,
) -> &'a mut Producer {
    let producer = entry(producers, batch.producer_id, batch.producer_epoch);
    producer.last_used_ms = now_ms;
    producer.last_offset = base.advance(i64::from(batch.last_offset_delta));
    if producer.epoch != batch.producer_epoch {
        producer.epoch = batch.producer_epoch;
        producer.batches.clear();
    }
    if has_sequence(batch) {
        remember(producer, batch, base);
    }
    producer
}

/// The producer's entry, made if there is none.
fn entry(producers: &mut BTreeMap<i64, Producer>, id: i64, epoch: i16) -> &mut Producer {
    if producers.len() >= MAX_PRODUCERS && !producers.contains_key(&id) {
        forget_oldest(producers);
    }
    producers.entry(id).or_insert_with(|| Producer {
        id,
        epoch,
        coordinator_epoch: -1,
        last_used_ms: 0,
        last_offset: Offset(-1),
        transaction_start: None,
        batches: Vec::new(),
    })
}

fn remember(producer: &mut Producer, batch: &BatchHeader, base: Offset) {
    if producer.batches.len() == PRODUCER_BATCHES {
        producer.batches.remove(0);
    } else {
        // The vector grows 1, 2, 5: most producers send once or all the time.
        let room = [1, 1, 3].get(producer.batches.len()).copied().unwrap_or(1);
        producer.batches.reserve_exact(room);
    }
    producer.batches.push(ProducerBatch {
        first_sequence: batch.base_sequence,
        last_sequence: last_sequence(batch),
        base_offset: base,
        max_timestamp_ms: batch.max_timestamp_ms,
    });
}

/// Drops the eighth whose last batch or marker lies furthest back: by offsets, so that everybody who applies this log
/// forgets the same. Open transactions are at most half of them, and stay.
fn forget_oldest(producers: &mut BTreeMap<i64, Producer>) {
    let rank = |producer: &Producer| match producer.transaction_start {
        Some(_) => Offset(i64::MAX),
        None => producer.last_offset,
    };
    let mut ranks: Vec<_> = producers.values().map(rank).collect();
    let eighth = ranks.len() / 8;
    let (_, oldest_kept, _) = ranks.select_nth_unstable(eighth);
    let oldest_kept = *oldest_kept;
    producers.retain(|_, producer| rank(producer) >= oldest_kept);
    // Only producers of an old snapshot, without any batch, can be equal: then the low ids, which are older, go.
    if producers.len() >= MAX_PRODUCERS {
        let mut left = eighth;
        producers.retain(|_, producer| {
            let goes = left > 0 && producer.transaction_start.is_none();
            left -= usize::from(goes);
            !goes
        });
    }
}

/// A batch that a coordinator wrote in a producer's name has none.
fn has_sequence(batch: &BatchHeader) -> bool {
    batch.base_sequence >= 0 && !batch.is_control()
}

fn last_sequence(batch: &BatchHeader) -> i32 {
    add_to_sequence(batch.base_sequence, batch.last_offset_delta)
}

fn next_sequence(last: i32) -> i32 {
    add_to_sequence(last, 1)
}

/// Behind `i32::MAX` comes 0.
fn add_to_sequence(sequence: i32, add: i32) -> i32 {
    sequence.wrapping_add(add) & i32::MAX
}

#[cfg(test)]
mod tests;
