//! Version 2: packed, so that the state of 100,000 producers is a few megabytes.
//!
//! ```text
//! 0   u32  magic "TWSN"
//! 4   u8   version (2)
//! 5   u8   0
//! 6   u16  0
//! 8   i64  end: the offset at which it is exact
//! 16  u32  leader epoch count
//! 20  u32  producer count
//! 24  u32  aborted transaction count
//! 28  leader epochs, ascending; of each: u epoch, u start offset, both less those of the one before
//! ..  producers, ascending by id; of each:
//!         u id, less that of the one before
//!         u8 batch count (0 to 5), + 8 with a coordinator epoch, + 16 with an open transaction
//!         u epoch
//!         s last used (ms), less that of the one before
//!         u end - 1 - last offset
//!         u coordinator epoch, if it has one
//!         u end - 1 - start of the open transaction, if it has one
//!         batches, oldest first; of each:
//!             s first sequence, less the sequence that would follow the batch before
//!             u last sequence - first sequence, in 31 bits
//!             u base offset, less that of the one before; of the first, end - 1 - base offset
//!             s max timestamp (ms), less that of the one before; of the first, less the producer's last used
//! ..  aborted transactions, ascending by last offset; of each:
//!         s producer id, less that of the one before
//!         u last offset, less that of the one before
//!         u last offset - first offset
//!         u last offset + 1 - last stable offset
//! ```
//!
//! `u` and `s` are the integers of `varint`; what the first of a kind is compared with is 0. Times wrap.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tailwater_types::{LeaderEpoch, Offset};

use super::varint::{MAX_BYTES, get_i64, get_u64, put_i64, put_u64};
use super::{
    AbortedTransaction, EpochStart, MAGIC, PRODUCER_BATCHES, Producer, ProducerBatch, Snapshot, by_id, invalid, require,
};
use crate::FormatError;

pub(super) const VERSION: u8 = 2;
const FIXED_BYTES: usize = 28;
const HAS_COORDINATOR: u8 = 8;
const HAS_TRANSACTION: u8 = 16;

/// The least and the most that each takes. Epochs take up to 3 and 5 bytes, sequences 5.
const EPOCH_MIN_BYTES: usize = 2;
const EPOCH_MAX_BYTES: usize = 5 + MAX_BYTES;
const PRODUCER_MIN_BYTES: usize = 5;
const PRODUCER_MAX_BYTES: usize = 1 + 3 + 5 + 4 * MAX_BYTES;
const BATCH_MAX_BYTES: usize = 5 + 5 + 2 * MAX_BYTES;
const ABORTED_MIN_BYTES: usize = 4;
const ABORTED_MAX_BYTES: usize = 4 * MAX_BYTES;

pub(super) fn max_encoded_bytes(snapshot: &Snapshot) -> usize {
    FIXED_BYTES
        + snapshot.leader_epochs.len() * EPOCH_MAX_BYTES
        + snapshot.producers.len() * (PRODUCER_MAX_BYTES + PRODUCER_BATCHES * BATCH_MAX_BYTES)
        + snapshot.aborted.len() * ABORTED_MAX_BYTES
}

pub(super) fn encode(snapshot: &Snapshot) -> Bytes {
    // Most are far smaller than they might be.
    let mut out = BytesMut::with_capacity(FIXED_BYTES + 16 * snapshot.producers.len() + 8 * snapshot.aborted.len());
    out.put_u32(MAGIC);
    out.put_u8(VERSION);
    out.put_bytes(0, 3);
    out.put_i64(snapshot.end.0);
    for count in [
        snapshot.leader_epochs.len(),
        snapshot.producers.len(),
        snapshot.aborted.len(),
    ] {
        out.put_u32(u32::try_from(count).expect("all of them are bounded far below"));
    }
    let mut before = EpochStart {
        epoch: LeaderEpoch(0),
        start: Offset::ZERO,
    };
    for next in &snapshot.leader_epochs {
        put_less(&mut out, i64::from(next.epoch.0), i64::from(before.epoch.0));
        put_less(&mut out, next.start.0, before.start.0);
        before = *next;
    }
    let (mut id, mut used) = (0, 0);
    for producer in snapshot.producers.values() {
        encode_producer(&mut out, producer, id, used, snapshot.end);
        (id, used) = (producer.id, producer.last_used_ms);
    }
    let (mut id, mut last) = (0, 0);
    for aborted in &snapshot.aborted {
        put_i64(&mut out, aborted.producer_id - id);
        put_less(&mut out, aborted.last_offset.0, last);
        put_less(&mut out, aborted.last_offset.0, aborted.first_offset.0);
        put_less(&mut out, aborted.last_offset.0 + 1, aborted.last_stable_offset.0);
        (id, last) = (aborted.producer_id, aborted.last_offset.0);
    }
    out.freeze()
}

fn encode_producer(out: &mut BytesMut, producer: &Producer, id: i64, used: i64, end: Offset) {
    assert!(producer.batches.len() <= PRODUCER_BATCHES, "batches are bounded");
    let newest = end.0 - 1;
    put_less(out, producer.id, id);
    let mut flags = producer.batches.len() as u8;
    if producer.coordinator_epoch >= 0 {
        flags |= HAS_COORDINATOR;
    }
    if producer.transaction_start.is_some() {
        flags |= HAS_TRANSACTION;
    }
    out.put_u8(flags);
    put_less(out, i64::from(producer.epoch), 0);
    put_i64(out, producer.last_used_ms.wrapping_sub(used));
    put_less(out, newest, producer.last_offset.0);
    if producer.coordinator_epoch >= 0 {
        put_less(out, i64::from(producer.coordinator_epoch), 0);
    }
    if let Some(start) = producer.transaction_start {
        put_less(out, newest, start.0);
    }
    let mut before: Option<&ProducerBatch> = None;
    for batch in &producer.batches {
        let follows = before.map_or(0, |before| after(before.last_sequence));
        put_i64(out, i64::from(batch.first_sequence) - i64::from(follows));
        let more = batch.last_sequence.wrapping_sub(batch.first_sequence) & i32::MAX;
        put_less(out, i64::from(more), 0);
        match before {
            Some(before) => put_less(out, batch.base_offset.0, before.base_offset.0),
            None => put_less(out, newest, batch.base_offset.0),
        }
        let time = before.map_or(producer.last_used_ms, |before| before.max_timestamp_ms);
        put_i64(out, batch.max_timestamp_ms.wrapping_sub(time));
        before = Some(batch);
    }
}

/// What stands behind the version.
pub(super) fn decode(input: &mut &[u8]) -> Result<Snapshot, FormatError> {
    require(input, FIXED_BYTES - 5)?;
    input.advance(3);
    let end = Offset(input.get_i64());
    let [epochs, producers, aborted] = [(); 3].map(|()| input.get_u32() as usize);
    // Before anything is allocated: the counts are no more than the bytes can hold.
    let least = epochs
        .saturating_mul(EPOCH_MIN_BYTES)
        .saturating_add(producers.saturating_mul(PRODUCER_MIN_BYTES))
        .saturating_add(aborted.saturating_mul(ABORTED_MIN_BYTES));
    require(input, least)?;
    let mut snapshot = Snapshot {
        end,
        leader_epochs: Vec::with_capacity(epochs),
        producers: BTreeMap::new(),
        aborted: Vec::with_capacity(aborted),
    };
    let (mut epoch, mut start) = (0, 0);
    for _ in 0..epochs {
        epoch = get_more(input, epoch)?;
        start = get_more(input, start)?;
        snapshot.leader_epochs.push(EpochStart {
            epoch: LeaderEpoch(narrow(epoch)?),
            start: Offset(start),
        });
    }
    let mut read = Vec::with_capacity(producers);
    let (mut id, mut used) = (0, 0);
    for _ in 0..producers {
        let producer = decode_producer(input, id, used, end)?;
        (id, used) = (producer.id, producer.last_used_ms);
        read.push(producer);
    }
    snapshot.producers = by_id(read)?;
    let (mut id, mut last) = (0_i64, 0);
    for _ in 0..aborted {
        id = id.checked_add(get_i64(input)?).ok_or_else(too_large)?;
        last = get_more(input, last)?;
        snapshot.aborted.push(AbortedTransaction {
            producer_id: id,
            first_offset: Offset(get_less(input, last)?),
            last_offset: Offset(last),
            last_stable_offset: Offset(get_less(input, last.saturating_add(1))?),
        });
    }
    Ok(snapshot)
}

fn decode_producer(input: &mut &[u8], id: i64, used: i64, end: Offset) -> Result<Producer, FormatError> {
    let newest = end.0.saturating_sub(1);
    let id = get_more(input, id)?;
    require(input, 1)?;
    let flags = input.get_u8();
    let count = usize::from(flags & 7);
    if count > PRODUCER_BATCHES || flags >= 2 * HAS_TRANSACTION {
        return Err(invalid(format!("producer {id} with flags {flags:#x}")));
    }
    let epoch = narrow(get_more(input, 0)?)?;
    let last_used_ms = used.wrapping_add(get_i64(input)?);
    let last_offset = Offset(get_less(input, newest)?);
    let coordinator_epoch = match flags & HAS_COORDINATOR {
        0 => -1,
        _ => narrow(get_more(input, 0)?)?,
    };
    let transaction_start = match flags & HAS_TRANSACTION {
        0 => None,
        _ => Some(Offset(get_less(input, newest)?)),
    };
    let mut batches: Vec<ProducerBatch> = Vec::with_capacity(count);
    for _ in 0..count {
        let before = batches.last();
        let follows = before.map_or(0, |before| after(before.last_sequence));
        let first = i64::from(follows).checked_add(get_i64(input)?).ok_or_else(too_large)?;
        let first_sequence: i32 = narrow(first)?;
        let more: i32 = narrow(get_more(input, 0)?)?;
        let base = match before {
            Some(before) => get_more(input, before.base_offset.0)?,
            None => get_less(input, newest)?,
        };
        let time = before.map_or(last_used_ms, |before| before.max_timestamp_ms);
        batches.push(ProducerBatch {
            first_sequence,
            last_sequence: first_sequence.wrapping_add(more) & i32::MAX,
            base_offset: Offset(base),
            max_timestamp_ms: time.wrapping_add(get_i64(input)?),
        });
    }
    Ok(Producer {
        id,
        epoch,
        coordinator_epoch,
        last_used_ms,
        last_offset,
        transaction_start,
        batches,
    })
}

/// The sequence behind `last`: behind `i32::MAX` comes 0.
fn after(last: i32) -> i32 {
    last.wrapping_add(1) & i32::MAX
}

/// Writes how much `large` is above `small`.
fn put_less(out: &mut BytesMut, large: i64, small: i64) {
    put_u64(out, u64::try_from(large - small).expect("what is written ascends"));
}

/// Reads something that is above `small`.
fn get_more(input: &mut &[u8], small: i64) -> Result<i64, FormatError> {
    small.checked_add_unsigned(get_u64(input)?).ok_or_else(too_large)
}

/// Reads something that is below `large`.
fn get_less(input: &mut &[u8], large: i64) -> Result<i64, FormatError> {
    large.checked_sub_unsigned(get_u64(input)?).ok_or_else(too_large)
}

fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T, FormatError> {
    T::try_from(value).map_err(|_| too_large())
}

#[cold]
fn too_large() -> FormatError {
    invalid("a number that is out of its range".to_owned())
}
