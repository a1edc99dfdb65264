//! Idempotent producers: what may be appended next, and what is remembered of what was.
//!
//! The rules are those of Apache Kafka 4.3's `ProducerStateManager` and `ProducerAppendInfo`, for batches of clients.

use tailwater_format::snapshot::{PRODUCER_BATCHES, Producer, ProducerBatch};
use tailwater_kafka::batch::BatchHeader;
use tailwater_types::Offset;

/// The most producers that one partition remembers: at 200 bytes each, 13 MB. Beyond it those whose last batch lies
/// furthest back are forgotten, an eighth at once; a forgotten one may go on with any sequence.
pub const MAX_PRODUCERS: usize = 65_536;

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
}

/// `producers` ascend by id. A producer that isn't remembered may begin with any sequence: its state can have expired.
pub(crate) fn check(producers: &[Producer], batch: &BatchHeader) -> Decision {
    if !batch.is_idempotent() {
        return Decision::Append;
    }
    let Ok(at) = producers.binary_search_by_key(&batch.producer_id, |producer| producer.id) else {
        return Decision::Append;
    };
    let producer = &producers[at];
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

/// Remembers a batch that was appended at `base`. What the leader took is not judged again.
pub(crate) fn apply(producers: &mut Vec<Producer>, batch: &BatchHeader, base: Offset, now_ms: i64) {
    if !batch.is_idempotent() {
        return;
    }
    let at = match producers.binary_search_by_key(&batch.producer_id, |producer| producer.id) {
        Ok(at) => at,
        Err(at) => {
            let at = if producers.len() < MAX_PRODUCERS {
                at
            } else {
                forget_oldest(producers);
                producers.partition_point(|producer| producer.id < batch.producer_id)
            };
            producers.insert(
                at,
                Producer {
                    id: batch.producer_id,
                    epoch: batch.producer_epoch,
                    last_used_ms: now_ms,
                    batches: Vec::new(),
                },
            );
            at
        }
    };
    let producer = &mut producers[at];
    producer.last_used_ms = now_ms;
    if producer.epoch != batch.producer_epoch {
        producer.epoch = batch.producer_epoch;
        producer.batches.clear();
    }
    if !has_sequence(batch) {
        return;
    }
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

/// Drops the eighth whose last batch lies furthest back: by offsets, so that everybody who applies this log forgets the same.
fn forget_oldest(producers: &mut Vec<Producer>) {
    let last = |producer: &Producer| producer.batches.last().map_or(Offset(-1), |last| last.base_offset);
    let mut bases: Vec<_> = producers.iter().map(last).collect();
    let at = bases.len() / 8;
    let (_, oldest_kept, _) = bases.select_nth_unstable(at);
    let oldest_kept = *oldest_kept;
    producers.retain(|producer| last(producer) >= oldest_kept);
    // Only producers without any batch can be equal: then the low ids, which are older, go.
    if producers.len() >= MAX_PRODUCERS {
        producers.drain(..at);
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
