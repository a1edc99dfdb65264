//! Which records of a stream stay: pure, run by run of its batches in offset order.
//!
//! Owns: the rules of key compaction, which are those of Apache Kafka's `Cleaner` and KIP-534. A record stays if it is its
//! key's newest; a tombstone for `delete.retention.ms` from the first cleaning that met it; nothing of an aborted
//! transaction stays; a marker as `transactions` says, and then as long as a tombstone. Of batches of which nothing stays
//! the last of each producer is kept without records, and so is the last of a range: whoever reads from any offset of a
//! cleaned range finds a batch. Does not own: where batches come from and go to (`pass`).

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use tailwater_codec::{Encoding, compress, decompress};
use tailwater_format::object::RecordsPiece;
use tailwater_kafka::batch::{BatchHeader, Batches, Compression, HEADER_BYTES, Retained, empty, whole_crc};
use tailwater_kafka::record::raw_records;
use tailwater_log::PartitionState;
use tailwater_runtime::ZstdPool;
use tailwater_types::{Offset, OffsetRange, StreamId};

use super::keys::NewestOffsets;
use super::transactions::{Transactions, Verdict};
use crate::Error;

/// The most that the records of one batch may have after decompression: what a frontend takes at most by default.
const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;
/// Up to so much the memory for a batch grows as it is read; for more it is asked for once.
const GROWING_BYTES: u64 = 8 << 20;

/// How long a marker stays at least that nobody needs: frontends may read for a while what was there before.
const MIN_MARKER_RETENTION_MS: i64 = 60_000;

/// When what was deleted may be forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    pub delete_retention_ms: i64,
}

/// Reads the keys of a stream's records, from anywhere on.
pub(crate) struct KeyReader {
    stream: StreamId,
    keys: NewestOffsets,
    zstd: Arc<ZstdPool>,
    transactions: Transactions,
}

impl KeyReader {
    /// `state` is the stream's, of an end behind everything that is read.
    pub fn new(stream: StreamId, state: &PartitionState, keys: NewestOffsets, zstd: Arc<ZstdPool>) -> Self {
        Self {
            stream,
            keys,
            zstd,
            transactions: Transactions::new(state.aborted()),
        }
    }

    pub fn into_keys(self) -> NewestOffsets {
        self.keys
    }

    /// Takes a run's batches that begin within `range`. Answers where it stopped for want of room: before that batch.
    ///
    /// # Errors
    /// [`Error::Clean`].
    pub fn read(&mut self, run: &Bytes, range: OffsetRange) -> Result<Option<Offset>, Error> {
        for batch in Batches::new(run.clone()) {
            let (header, batch) = batch.map_err(|error| failed(self.stream, range.start, &error))?;
            if !range.contains(header.base_offset) || self.transactions.judge(&header) != Verdict::Data {
                continue;
            }
            let body = plain(self.stream, &header, &batch, &self.zstd)?;
            for record in raw_records(&body) {
                let record = record.map_err(|error| failed(self.stream, header.base_offset, &error))?;
                let offset = header.base_offset.advance(record.offset_delta.into());
                // What was taken of the batch already may stay: it is in the log.
                if record.key.is_some_and(|key| !self.keys.insert(key, offset)) {
                    return Ok(Some(header.base_offset));
                }
            }
        }
        Ok(None)
    }
}

/// Leaves records out of a stream, from its start on.
pub(crate) struct Filter {
    stream: StreamId,
    keys: Arc<NewestOffsets>,
    zstd: Arc<ZstdPool>,
    times: Times,
    transactions: Transactions,
    /// The last offset of each producer that is remembered, ascending.
    producers: Arc<[Offset]>,
}

impl Filter {
    /// `state` is the stream's, of an end behind everything that is cleaned.
    pub fn new(
        stream: StreamId,
        state: &PartitionState,
        keys: Arc<NewestOffsets>,
        zstd: Arc<ZstdPool>,
        times: Times,
    ) -> Self {
        let mut producers: Vec<_> = state.producers().map(|producer| producer.last_offset).collect();
        producers.sort_unstable();
        Self {
            stream,
            keys,
            zstd,
            times,
            transactions: Transactions::new(state.aborted()),
            producers: producers.into(),
        }
    }

    /// What comes first isn't the stream's beginning: another cleaning ended there.
    pub fn goes_on(&mut self) {
        self.transactions.goes_on();
    }

    /// Takes it out, to where it may compute for long; this one stays behind without a place in the log.
    pub fn take(&mut self) -> Self {
        Self {
            keys: self.keys.clone(),
            zstd: self.zstd.clone(),
            producers: self.producers.clone(),
            transactions: std::mem::replace(&mut self.transactions, Transactions::new(&[])),
            ..*self
        }
    }

    /// Where it stands among transactions; to be given back to [`Filter::rewind`].
    pub fn position(&self) -> Transactions {
        self.transactions.clone()
    }

    pub fn rewind(&mut self, position: Transactions) {
        self.transactions = position;
    }

    /// What stays of a run's batches that begin within `range`. A batch that ends at `last` stays in any case.
    ///
    /// # Errors
    /// [`Error::Clean`].
    pub fn clean(&mut self, run: &Bytes, range: OffsetRange, last: Offset) -> Result<Vec<RecordsPiece>, Error> {
        let mut kept = Vec::new();
        for batch in Batches::new(run.clone()) {
            let (header, batch) = batch.map_err(|error| failed(self.stream, range.start, &error))?;
            if !range.contains(header.base_offset) {
                continue;
            }
            let cleaned = match self.clean_batch(&header, &batch)? {
                None if header.end_offset() == last || self.is_last_of_producer(&header) => {
                    Some(empty(&header).freeze())
                }
                cleaned => cleaned,
            };
            if let Some(bytes) = cleaned {
                kept.push(self.piece(bytes)?);
            }
        }
        let bytes: usize = kept.iter().map(|piece| piece.bytes.len()).sum();
        if bytes < run.len() / 2 {
            // A few batches would keep the whole run in memory.
            for piece in &mut kept {
                piece.bytes = Bytes::copy_from_slice(&piece.bytes);
            }
        }
        Ok(kept)
    }

    /// Whether nothing would change of a run's batches that begin within `range`, but for empty ones that would go: those
    /// aren't worth it. If it answers no, it stands somewhere among them.
    ///
    /// # Errors
    /// [`Error::Clean`].
    pub fn leaves(&mut self, run: &Bytes, range: OffsetRange) -> Result<bool, Error> {
        for batch in Batches::new(run.clone()) {
            let (header, batch) = batch.map_err(|error| failed(self.stream, range.start, &error))?;
            if !range.contains(header.base_offset) {
                continue;
            }
            let stays = match self.clean_batch(&header, &batch)? {
                None => header.count == 0,
                Some(bytes) => bytes == batch,
            };
            if !stays {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `None` if no record stays.
    fn clean_batch(&mut self, header: &BatchHeader, batch: &Bytes) -> Result<Option<Bytes>, Error> {
        let verdict = self.transactions.judge(header);
        let horizon_ms = header.delete_horizon_ms();
        let is_over = horizon_ms.is_some_and(|horizon_ms| horizon_ms <= self.times.now_ms);
        match verdict {
            _ if header.count == 0 => return Ok(None),
            Verdict::Aborted => return Ok(None),
            Verdict::Control { is_needed: true } => return Ok(Some(batch.clone())),
            Verdict::Control { is_needed: false } if is_over => return Ok(None),
            Verdict::Control { is_needed: false } | Verdict::Data => {}
        }
        let body = plain(self.stream, header, batch, &self.zstd)?;
        let least_ms = if verdict == Verdict::Data {
            0
        } else {
            MIN_MARKER_RETENTION_MS
        };
        let retention_ms = self.times.delete_retention_ms.max(least_ms);
        let new_horizon_ms = self.times.now_ms.saturating_add(retention_ms);
        let mut retained = Retained::new(header);
        let (mut stays, mut has_deletes) = (Vec::new(), verdict != Verdict::Data);
        for record in raw_records(&body) {
            let record = record.map_err(|error| failed(self.stream, header.base_offset, &error))?;
            let offset = header.base_offset.advance(record.offset_delta.into());
            let is_kept = verdict != Verdict::Data
                || record
                    .key
                    .is_some_and(|key| !self.keys.is_superseded(key, offset) && (record.has_value || !is_over));
            if is_kept {
                has_deletes |= !record.has_value;
                retained.count(&record);
            }
            stays.push(is_kept);
        }
        if retained.is_empty() {
            return Ok(None);
        }
        let sets_horizon = has_deletes && horizon_ms.is_none();
        if retained.len() == header.count as usize && !sets_horizon {
            return Ok(Some(batch.clone()));
        }
        if sets_horizon {
            retained.set_delete_horizon(new_horizon_ms);
        }
        let records = raw_records(&body).map(|record| record.expect("it was read a moment ago"));
        let kept = records
            .zip(&stays)
            .filter_map(|(record, stays)| stays.then_some(record));
        let encoded = self.encode(header, retained.body(kept))?;
        Ok(Some(retained.build(&encoded).freeze()))
    }

    fn encode(&self, header: &BatchHeader, plain: impl Read) -> Result<Vec<u8>, Error> {
        let encoding = Encoding::by_default(codec(self.stream, header)?);
        let encoded = compress(encoding, plain, &self.zstd, usize::MAX);
        encoded.map_err(|error| failed(self.stream, header.base_offset, &error))
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = header.base_offset.advance(header.last_offset_delta.into());
        header.is_idempotent() && self.producers.binary_search(&last).is_ok()
    }

    fn piece(&self, bytes: Bytes) -> Result<RecordsPiece, Error> {
        let failed = |error| failed(self.stream, Offset::ZERO, &error);
        let header = BatchHeader::read(&bytes).map_err(failed)?;
        Ok(RecordsPiece {
            stream: self.stream,
            range: OffsetRange::new(header.base_offset, header.end_offset()),
            // What has no record has no time to be looked for either.
            max_timestamp_ms: if header.count > 0 { header.max_timestamp_ms } else { -1 },
            batches: 1,
            crc: whole_crc(&bytes).map_err(failed)?,
            bytes,
        })
    }
}

/// The batch's records, decompressed.
fn plain(stream: StreamId, header: &BatchHeader, batch: &Bytes, zstd: &ZstdPool) -> Result<Bytes, Error> {
    let body = batch.slice(HEADER_BYTES..);
    let compression = codec(stream, header)?;
    if compression == Compression::None {
        return Ok(body);
    }
    let failed_to_read = |error: std::io::Error| failed(stream, header.base_offset, &error);
    let reader = || decompress(compression, &body, zstd, MAX_DECOMPRESSED_BYTES).map_err(failed_to_read);
    let (mut plain, mut first) = (Vec::new(), reader()?);
    let taken = first.by_ref().take(GROWING_BYTES).read_to_end(&mut plain);
    if taken.map_err(failed_to_read)? as u64 == GROWING_BYTES {
        let rest = {
            let mut bounded = first.take((MAX_DECOMPRESSED_BYTES - plain.len()) as u64 + 1);
            // Behind this block its zstd context is free again: there may be no other.
            std::io::copy(&mut bounded, &mut std::io::sink()).map_err(failed_to_read)?
        };
        let bytes = plain.len() + usize::try_from(rest).unwrap_or(usize::MAX);
        if bytes > MAX_DECOMPRESSED_BYTES {
            let detail = format!("more than {MAX_DECOMPRESSED_BYTES} bytes of records in one batch");
            return Err(failed(stream, header.base_offset, &detail));
        }
        // Once more, into no more memory than it takes.
        plain = Vec::with_capacity(bytes);
        reader()?.read_to_end(&mut plain).map_err(failed_to_read)?;
    }
    Ok(plain.into())
}

fn codec(stream: StreamId, header: &BatchHeader) -> Result<Compression, Error> {
    header
        .compression()
        .map_err(|error| failed(stream, header.base_offset, &error))
}

fn failed(stream: StreamId, offset: Offset, detail: &dyn std::fmt::Display) -> Error {
    Error::Clean {
        stream,
        offset,
        detail: detail.to_string(),
    }
}

#[cfg(test)]
mod tests;
