//! What key compaction makes of a stored batch: some of its records, at their offsets.
//!
//! The offsets, leader epoch, producer and sequence stay what they were, whatever is left out: readers find the same
//! offsets, and a producer's last sequence follows from the batch's offsets. The rules are those of Apache Kafka's
//! `MemoryRecords.filterTo`, the delete horizon those of KIP-534.

use bytes::{Bytes, BytesMut};

use super::{BatchHeader, COMPRESSION_BITS, DELETE_HORIZON_BIT, HEADER_BYTES, assemble};
use crate::record::{Record, put_record};

/// Collects what is kept of one batch.
#[derive(Debug)]
pub struct Retained {
    header: BatchHeader,
    base_timestamp_ms: i64,
    max_timestamp_ms: Option<i64>,
    body: BytesMut,
}

impl Retained {
    /// `delete_horizon_ms`: sets the batch's horizon, if it has none yet.
    pub fn new(header: &BatchHeader, delete_horizon_ms: Option<i64>) -> Self {
        let mut kept = BatchHeader { count: 0, ..*header };
        if let (None, Some(horizon_ms)) = (header.delete_horizon_ms(), delete_horizon_ms) {
            kept.attributes |= DELETE_HORIZON_BIT;
            kept.base_timestamp_ms = horizon_ms;
        }
        Self {
            header: kept,
            base_timestamp_ms: header.base_timestamp_ms,
            max_timestamp_ms: None,
            body: BytesMut::new(),
        }
    }

    /// Keeps a record as it was read from the batch.
    pub fn push(&mut self, record: &Record<'_>) {
        let timestamp_ms = self.base_timestamp_ms.wrapping_add(record.timestamp_delta);
        let delta = timestamp_ms.wrapping_sub(self.header.base_timestamp_ms);
        put_record(
            &mut self.body,
            record.offset_delta,
            delta,
            record.key,
            record.value,
            &record.headers,
        );
        self.max_timestamp_ms = self.max_timestamp_ms.max(Some(timestamp_ms));
        self.header.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// The batch, its records encoded by `compress` in the codec that it had.
    ///
    /// # Errors
    /// Those of `compress`.
    pub fn build<E>(mut self, compress: impl FnOnce(Bytes) -> Result<Bytes, E>) -> Result<BytesMut, E> {
        if !self.header.is_log_append_time()
            && let Some(max_timestamp_ms) = self.max_timestamp_ms
        {
            self.header.max_timestamp_ms = max_timestamp_ms;
        }
        Ok(assemble(&self.header, &compress(self.body.freeze())?))
    }
}

/// The batch without any record: it keeps its offsets, and its producer's place.
pub fn empty(header: &BatchHeader) -> BytesMut {
    let kept = BatchHeader {
        attributes: header.attributes & !(COMPRESSION_BITS | DELETE_HORIZON_BIT),
        base_timestamp_ms: header.max_timestamp_ms,
        count: 0,
        ..*header
    };
    let batch = assemble(&kept, &[]);
    debug_assert_eq!(batch.len(), HEADER_BYTES);
    batch
}

#[cfg(test)]
mod tests {
    use tailwater_types::{LeaderEpoch, Offset};

    use super::*;
    use crate::batch::{BatchBuilder, assign, validate};
    use crate::record::records;

    fn batch() -> BytesMut {
        let mut builder = BatchBuilder::new().producer(7, 2, 40).transactional();
        for (at, value) in [(1_000, Some(&b"a"[..])), (1_500, None), (900, Some(b"c"))] {
            builder.push(at, Some(b"key"), value, &[]);
        }
        let mut batch = builder.build();
        assign(&mut batch, Offset(100), LeaderEpoch(3));
        batch
    }

    fn keep(batch: &[u8], horizon_ms: Option<i64>, deltas: &[i32]) -> BytesMut {
        let header = BatchHeader::read(batch).unwrap();
        let mut kept = Retained::new(&header, horizon_ms);
        for record in records(&batch[HEADER_BYTES..]).map(Result::unwrap) {
            if deltas.contains(&record.offset_delta) {
                kept.push(&record);
            }
        }
        kept.build(Ok::<_, ()>).unwrap()
    }

    fn times(batch: &[u8]) -> Vec<(i32, i64)> {
        let base = BatchHeader::read(batch).unwrap().base_timestamp_ms;
        let records = records(&batch[HEADER_BYTES..]).map(Result::unwrap);
        records
            .map(|record| (record.offset_delta, base + record.timestamp_delta))
            .collect()
    }

    /// Rule 30: offsets, sequence and times of what is kept stay, with a horizon and without; the sum fits.
    #[test]
    fn rule_30_what_is_kept_keeps_its_place() {
        let batch = batch();
        let before = BatchHeader::read(&batch).unwrap();
        for horizon_ms in [None, Some(9_000_000)] {
            let kept = keep(&batch, horizon_ms, &[1, 2]);
            let header = BatchHeader::read(&kept).unwrap();
            assert_eq!(times(&kept), [(1, 1_500), (2, 900)]);
            assert_eq!(header.delete_horizon_ms(), horizon_ms);
            assert_eq!((header.count, header.max_timestamp_ms), (2, 1_500));
            let place = |header: &BatchHeader| {
                let BatchHeader {
                    base_offset,
                    leader_epoch,
                    last_offset_delta,
                    producer_id,
                    ..
                } = *header;
                let producer = (producer_id, header.producer_epoch, header.base_sequence);
                (
                    base_offset,
                    leader_epoch,
                    last_offset_delta,
                    producer,
                    header.is_transactional(),
                )
            };
            assert_eq!(place(&header), place(&before));
            assert_eq!(header.crc, crc32c::crc32c(&kept[super::super::CRC_END..]));
            // A horizon that is there stays.
            let again = keep(&kept, Some(5), &[1]);
            let expected = horizon_ms.or(Some(5));
            assert_eq!(BatchHeader::read(&again).unwrap().delete_horizon_ms(), expected);
            assert_eq!(times(&again), [(1, 1_500)]);
        }
    }

    /// An empty batch covers the offsets that the batch had, and is no larger than a header.
    #[test]
    fn rule_30_an_empty_batch_covers_its_offsets() {
        let batch = empty(&BatchHeader::read(&batch()).unwrap());
        let header = BatchHeader::read(&batch).unwrap();
        assert_eq!((header.base_offset, header.end_offset()), (Offset(100), Offset(103)));
        assert_eq!(
            (header.count, header.max_timestamp_ms, batch.len()),
            (0, 1_500, HEADER_BYTES)
        );
        assert_eq!((header.producer_id, header.base_sequence), (7, 40));
        assert!(validate(&batch).is_err(), "no client may send one");
    }
}
