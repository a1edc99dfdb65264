//! What key compaction makes of a stored batch: some of its records, at their offsets.
//!
//! The offsets, leader epoch, producer and sequence stay what they were, whatever is left out: readers find the same
//! offsets, and a producer's last sequence follows from the batch's offsets. The rules are those of Apache Kafka's
//! `MemoryRecords.filterTo`, the delete horizon those of KIP-534.

use std::io::Read;

use bytes::{Buf as _, BytesMut};

use super::{BatchHeader, COMPRESSION_BITS, DELETE_HORIZON_BIT, HEADER_BYTES, assemble};
use crate::record::RawRecord;

/// What is kept of one batch: first each record is counted, then all are read and encoded. So at no time more than one of
/// them is there twice.
#[derive(Debug)]
pub struct Retained {
    header: BatchHeader,
    base_timestamp_ms: i64,
    max_timestamp_ms: Option<i64>,
}

impl Retained {
    pub fn new(header: &BatchHeader) -> Self {
        Self {
            header: BatchHeader { count: 0, ..*header },
            base_timestamp_ms: header.base_timestamp_ms,
            max_timestamp_ms: None,
        }
    }

    /// Counts a record that is kept.
    pub fn count(&mut self, record: &RawRecord<'_>) {
        let timestamp_ms = self.base_timestamp_ms.wrapping_add(record.timestamp_delta);
        self.max_timestamp_ms = self.max_timestamp_ms.max(Some(timestamp_ms));
        self.header.count += 1;
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        usize::try_from(self.header.count).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Sets the batch's horizon, if it has none yet; milliseconds since 1970.
    pub fn set_delete_horizon(&mut self, horizon_ms: i64) {
        if self.header.delete_horizon_ms().is_none() {
            self.header.attributes |= DELETE_HORIZON_BIT;
            self.header.base_timestamp_ms = horizon_ms;
        }
    }

    /// The body that these records make, which are those that were counted, to be encoded in the codec that the batch had.
    pub fn body<'a>(&self, records: impl Iterator<Item = RawRecord<'a>>) -> impl Read {
        Body {
            later_by_ms: self.base_timestamp_ms.wrapping_sub(self.header.base_timestamp_ms),
            records,
            head: BytesMut::new(),
            rest: &[],
        }
    }

    /// The batch, with its encoded body.
    pub fn build(mut self, encoded: &[u8]) -> BytesMut {
        if !self.header.is_log_append_time()
            && let Some(max_timestamp_ms) = self.max_timestamp_ms
        {
            self.header.max_timestamp_ms = max_timestamp_ms;
        }
        assemble(&self.header, encoded)
    }
}

struct Body<'a, I> {
    /// What is added to each timestamp delta.
    later_by_ms: i64,
    records: I,
    /// What isn't read yet of the record before: its head, then the rest.
    head: BytesMut,
    rest: &'a [u8],
}

impl<'a, I: Iterator<Item = RawRecord<'a>>> Read for Body<'a, I> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.head.is_empty() && self.rest.is_empty() {
            let Some(record) = self.records.next() else {
                return Ok(0);
            };
            self.head.clear();
            record.put_head(&mut self.head, record.timestamp_delta.wrapping_add(self.later_by_ms));
            self.rest = record.rest;
        }
        if self.head.is_empty() {
            return self.rest.read(out);
        }
        let length = out.len().min(self.head.len());
        self.head.copy_to_slice(&mut out[..length]);
        Ok(length)
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
    use crate::record::{Header, raw_records, records};

    const HEADERS: [Header<'_>; 2] = [
        Header {
            key: b"h",
            value: Some(b"v"),
        },
        Header { key: b"", value: None },
    ];

    fn batch() -> BytesMut {
        let mut builder = BatchBuilder::new().producer(7, 2, 40).transactional();
        for (at, value) in [(1_000, Some(&b"a"[..])), (1_500, None), (900, Some(b"c"))] {
            builder.push(at, Some(b"key"), value, &HEADERS);
        }
        let mut batch = builder.build();
        assign(&mut batch, Offset(100), LeaderEpoch(3));
        batch
    }

    fn keep(batch: &[u8], horizon_ms: Option<i64>, deltas: &[i32]) -> BytesMut {
        let header = BatchHeader::read(batch).unwrap();
        let mut retained = Retained::new(&header);
        let records = raw_records(&batch[HEADER_BYTES..]).map(Result::unwrap);
        let kept = records.filter(|record| deltas.contains(&record.offset_delta));
        let kept: Vec<_> = kept.inspect(|record| retained.count(record)).collect();
        horizon_ms
            .into_iter()
            .for_each(|horizon_ms| retained.set_delete_horizon(horizon_ms));
        let mut body = Vec::new();
        retained.body(kept.into_iter()).read_to_end(&mut body).unwrap();
        retained.build(&body)
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
            let contents = records(&kept[HEADER_BYTES..]).map(Result::unwrap);
            let contents: Vec<_> = contents.map(|kept| (kept.key, kept.value, kept.headers)).collect();
            let with = |value| (Some(&b"key"[..]), value, HEADERS.to_vec());
            assert_eq!(contents, [with(None), with(Some(&b"c"[..]))]);
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
