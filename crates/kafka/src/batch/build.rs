//! Makes batches: for the internal topics, for control records, and for re-encoding a batch.

use bytes::{BufMut as _, Bytes, BytesMut};
use tailwater_types::{LeaderEpoch, Offset};

use super::{BatchHeader, CONTROL_BIT, CRC_END, Compression, HEADER_BYTES, LENGTH_END, MAGIC, TRANSACTIONAL_BIT, at};
use crate::record::{Header, put_record};

/// A batch out of a header and the (compressed) records. The header's `length` and `crc` are not used: they follow.
///
/// # Panics
/// If the batch would have 2 GiB or more.
pub fn assemble(header: &BatchHeader, records: &[u8]) -> BytesMut {
    let mut batch = BytesMut::with_capacity(HEADER_BYTES + records.len());
    batch.put_bytes(0, HEADER_BYTES);
    batch.put_slice(records);
    seal(header, &mut batch);
    batch
}

/// Writes the header into the front of `batch`.
fn seal(header: &BatchHeader, batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - LENGTH_END).expect("a batch is smaller than 2 GiB");
    let mut front = &mut batch[..HEADER_BYTES];
    front.put_i64(header.base_offset.0);
    front.put_i32(length);
    front.put_i32(header.leader_epoch.0);
    front.put_i8(MAGIC);
    front.put_u32(0);
    front.put_i16(header.attributes);
    front.put_i32(header.last_offset_delta);
    front.put_i64(header.base_timestamp_ms);
    front.put_i64(header.max_timestamp_ms);
    front.put_i64(header.producer_id);
    front.put_i16(header.producer_epoch);
    front.put_i32(header.base_sequence);
    front.put_i32(header.count);
    let crc = crc32c::crc32c(&batch[CRC_END..]);
    batch[at::CRC..CRC_END].copy_from_slice(&crc.to_be_bytes());
}

/// Collects records into one uncompressed batch with base offset 0.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records.
    batch: BytesMut,
    header: BatchHeader,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    pub fn new() -> Self {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            length: 0,
            leader_epoch: LeaderEpoch(-1),
            crc: 0,
            attributes: 0,
            last_offset_delta: -1,
            base_timestamp_ms: -1,
            max_timestamp_ms: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        };
        let mut batch = BytesMut::with_capacity(4 * HEADER_BYTES);
        batch.put_bytes(0, HEADER_BYTES);
        Self { batch, header }
    }

    /// Makes it a batch of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes it a part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// Makes its records ones that consumers act upon and don't see.
    #[must_use]
    pub(super) fn control(mut self) -> Self {
        self.header.attributes |= CONTROL_BIT;
        self
    }

    /// Appends a record; `timestamp_ms` is its own, in milliseconds since 1970.
    ///
    /// # Panics
    /// If the key, the value or a header has 2 GiB or more.
    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) {
        let header = &mut self.header;
        if header.count == 0 {
            header.base_timestamp_ms = timestamp_ms;
            header.max_timestamp_ms = timestamp_ms;
        }
        header.max_timestamp_ms = header.max_timestamp_ms.max(timestamp_ms);
        let timestamp_delta = timestamp_ms.wrapping_sub(header.base_timestamp_ms);
        put_record(&mut self.batch, header.count, timestamp_delta, key, value, headers);
        header.last_offset_delta = header.count;
        header.count += 1;
    }

    /// What the batch says about itself so far; its length and CRC come last.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Bytes the batch would have now.
    pub fn size(&self) -> usize {
        self.batch.len()
    }

    /// The batch.
    ///
    /// # Panics
    /// If it has 2 GiB or more.
    pub fn build(mut self) -> BytesMut {
        seal(&self.header, &mut self.batch);
        self.batch
    }

    /// The batch with its records compressed by `compress`, which is what `compression` says.
    pub fn build_compressed(mut self, compression: Compression, compress: impl FnOnce(&[u8]) -> Bytes) -> BytesMut {
        self.header.attributes |= compression as i16;
        assemble(&self.header, &compress(&self.batch[HEADER_BYTES..]))
    }
}
