//! Batches for tests.

use bytes::Bytes;
use tailwater_format::entry::{SliceHeader, SliceKind};
use tailwater_kafka::batch::{BatchHeader, Marker, assemble};
use tailwater_types::{LeaderEpoch, Offset, StreamId};

/// A batch of `count` records; producer id -1 for none.
pub fn batch(producer_id: i64, epoch: i16, base_sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset::ZERO,
        length: 49,
        leader_epoch: LeaderEpoch(0),
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp_ms: 1_000,
        max_timestamp_ms: 1_000 + i64::from(count),
        producer_id,
        producer_epoch: epoch,
        base_sequence,
        count,
    }
}

/// One that is a part of its producer's transaction.
pub fn transactional(producer_id: i64, epoch: i16, base_sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        attributes: 0x10,
        ..batch(producer_id, epoch, base_sequence, count)
    }
}

/// The control batch of a marker, with base offset 0.
pub fn control(producer_id: i64, epoch: i16, marker: Marker) -> BatchHeader {
    BatchHeader::read(&marker.build(producer_id, epoch, 2_000)).expect("a whole batch")
}

/// The batch as it is stored.
pub fn stored(batch: &BatchHeader, base: Offset, leader_epoch: LeaderEpoch) -> BatchHeader {
    BatchHeader {
        base_offset: base,
        leader_epoch,
        ..*batch
    }
}

/// Stored batches as a scan of a journal answers them.
pub fn scanned(batches: &[BatchHeader]) -> (SliceHeader, Vec<Bytes>) {
    let (first, last) = (batches.first().expect("some"), batches.last().expect("some"));
    let header = SliceHeader {
        kind: SliceKind::Records,
        stream: StreamId(1),
        leader_epoch: first.leader_epoch,
        base: first.base_offset,
        end: last.end_offset(),
        max_timestamp_ms: 0,
        length: 0,
        crc: 0,
    };
    let parts = batches.iter().map(|batch| assemble(batch, &[]).freeze()).collect();
    (header, parts)
}
