//! Version 1: read where an older release wrote it, never written.
//!
//! ```text
//! 0   u32  magic "TWSN"
//! 4   u8   version (1)
//! 5   u8   0
//! 6   u16  0
//! 8   i64  end: the offset at which it is exact
//! 16  u32  leader epoch count
//! 20  u32  producer count
//! 24  leader epochs, ascending, 12 bytes each: i32 epoch, i64 start offset
//! ..  producers, ascending by id: i64 id, i64 last used (ms), i16 epoch, u8 batch count (0 to 5), u8 0;
//!     then its batches, oldest first, 24 bytes each: i32 first sequence, i32 last sequence, i64 base offset,
//!     i64 max timestamp (ms)
//! ```

use bytes::Buf;
use tailwater_types::{LeaderEpoch, Offset};

use super::{EpochStart, PRODUCER_BATCHES, Producer, ProducerBatch, Snapshot, by_id, invalid, require};
use crate::FormatError;

pub(super) const VERSION: u8 = 1;
/// Behind magic and version.
const FIXED_BYTES: usize = 19;
const EPOCH_BYTES: usize = 12;
const PRODUCER_BYTES: usize = 20;
const BATCH_BYTES: usize = 24;

/// What stands behind the version.
pub(super) fn decode(input: &mut &[u8]) -> Result<Snapshot, FormatError> {
    require(input, FIXED_BYTES)?;
    input.advance(3);
    let end = Offset(input.get_i64());
    let (epochs, producers) = (input.get_u32() as usize, input.get_u32() as usize);
    // Before anything is allocated: the counts are no more than the bytes can hold.
    require(
        input,
        epochs
            .saturating_mul(EPOCH_BYTES)
            .saturating_add(producers.saturating_mul(PRODUCER_BYTES)),
    )?;
    let leader_epochs = (0..epochs)
        .map(|_| EpochStart {
            epoch: LeaderEpoch(input.get_i32()),
            start: Offset(input.get_i64()),
        })
        .collect();
    let producers: Result<_, _> = (0..producers).map(|_| decode_producer(input)).collect();
    Ok(Snapshot {
        end,
        leader_epochs,
        producers: by_id(producers?)?,
        aborted: Vec::new(),
    })
}

fn decode_producer(input: &mut &[u8]) -> Result<Producer, FormatError> {
    require(input, PRODUCER_BYTES)?;
    let (id, last_used_ms, epoch) = (input.get_i64(), input.get_i64(), input.get_i16());
    let count = usize::from(input.get_u8());
    input.advance(1);
    if count > PRODUCER_BATCHES {
        return Err(invalid(format!("producer {id} with {count} batches")));
    }
    require(input, count * BATCH_BYTES)?;
    let batches: Vec<_> = (0..count)
        .map(|_| ProducerBatch {
            first_sequence: input.get_i32(),
            last_sequence: input.get_i32(),
            base_offset: Offset(input.get_i64()),
            max_timestamp_ms: input.get_i64(),
        })
        .collect();
    let last_offset = batches.last().map_or(Offset(-1), |last| {
        let records = last.last_sequence.wrapping_sub(last.first_sequence) & i32::MAX;
        last.base_offset.advance(i64::from(records))
    });
    Ok(Producer {
        id,
        epoch,
        coordinator_epoch: -1,
        last_used_ms,
        last_offset,
        transaction_start: None,
        batches,
    })
}
