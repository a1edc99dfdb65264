//! Sorts a run of entries into objects: pure.
//!
//! In: entries from the trim LSN on, and of each stream the state at its uploaded end. Out: of each stream the pieces that
//! follow that end, its state behind them, and how far the run goes before it would leave a hole in a stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use tailwater_format::crc;
use tailwater_format::entry::{Entry, SliceHeader, SliceKind};
use tailwater_format::object::{BLOCK_TARGET_BYTES, EncodedObject, ObjectWriter, RecordsPiece};
use tailwater_kafka::batch::{BatchHeader, whole_crc};
use tailwater_log::{PartitionState, Replayed, StoredBatch};
use tailwater_types::{Lsn, LsnRange, Offset, OffsetRange, StreamId};

use crate::Error;

/// What a run of entries becomes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub lsns: LsnRange,
    /// Encoded bytes of those entries.
    pub entry_bytes: u64,
    /// One a stream that has something new, sorted by stream.
    pub streams: Vec<StreamPart>,
    /// The stream whose missing part ended the run early.
    pub waits_for: Option<StreamId>,
}

/// What is new of one stream.
#[derive(Debug)]
pub(crate) struct StreamPart {
    pub stream: StreamId,
    pub range: OffsetRange,
    pub pieces: Vec<RecordsPiece>,
    pub bytes: u64,
    pub max_timestamp_ms: i64,
    /// At `range.end`.
    pub state: PartitionState,
}

/// An object, and what it has.
#[derive(Debug)]
pub(crate) struct PlannedObject {
    pub encoded: EncodedObject,
    /// As `encoded.snapshots`: one a stream.
    pub streams: Vec<StreamPart>,
}

/// The streams that have records in these entries, ascending.
pub(crate) fn streams(entries: &[Entry]) -> Vec<StreamId> {
    let slices = entries.iter().flat_map(|entry| &entry.header().slices);
    let mut streams: Vec<_> = slices
        .filter(|slice| slice.kind == SliceKind::Records)
        .map(|slice| slice.stream)
        .collect();
    streams.sort_unstable();
    streams.dedup();
    streams
}

/// Plans entries, which follow one another from `start`. A stream that isn't in `states` is no more: its slices are left
/// out. `now_ms` becomes the last use of the producers that wrote.
///
/// # Errors
/// Whatever shows that the entries aren't what leaders wrote.
pub(crate) fn plan(
    start: Lsn,
    entries: &[Entry],
    states: BTreeMap<StreamId, PartitionState>,
    now_ms: i64,
) -> Result<Plan, Error> {
    let mut parts: BTreeMap<_, _> = states
        .into_iter()
        .map(|(stream, state)| (stream, Part::new(state)))
        .collect();
    let (mut end, mut entry_bytes, mut waits_for) = (start, 0, None);
    for entry in entries {
        waits_for = hole(entry, &parts);
        if waits_for.is_some() {
            break;
        }
        for (slice, bytes) in entry.slices() {
            if let (SliceKind::Records, Some(part)) = (slice.kind, parts.get_mut(&slice.stream)) {
                part.take(entry.lsn(), slice, bytes, now_ms)?;
            }
        }
        end = entry.lsn().next();
        entry_bytes += entry.encoded_bytes() as u64;
    }
    let streams = parts
        .into_iter()
        .filter_map(|(stream, part)| part.finish(stream))
        .collect();
    Ok(Plan {
        lsns: LsnRange::new(start, end),
        entry_bytes,
        streams,
        waits_for,
    })
}

/// Lays the streams out in objects: those of at least `own_bytes` in one each, all others in one together, which is last.
pub(crate) fn objects(streams: Vec<StreamPart>, own_bytes: u64) -> Vec<Vec<StreamPart>> {
    let (own, mixed): (Vec<_>, Vec<_>) = streams.into_iter().partition(|part| part.bytes >= own_bytes);
    let mut objects: Vec<_> = own.into_iter().map(|part| vec![part]).collect();
    if !mixed.is_empty() {
        objects.push(mixed);
    }
    objects
}

/// Encodes one object with the streams' snapshots. Takes the pieces out of `streams`.
pub(crate) fn encode(mut streams: Vec<StreamPart>) -> PlannedObject {
    let mut writer = ObjectWriter::new();
    for part in &mut streams {
        std::mem::take(&mut part.pieces)
            .into_iter()
            .for_each(|piece| writer.push(piece));
    }
    for part in &streams {
        writer.push_snapshot(part.stream, part.range.end, &part.state.encode_snapshot());
    }
    PlannedObject {
        encoded: writer.finish(),
        streams,
    }
}

/// The first stream of an entry that would begin behind its end.
fn hole(entry: &Entry, parts: &BTreeMap<StreamId, Part>) -> Option<StreamId> {
    let mut ends: BTreeMap<StreamId, Offset> = BTreeMap::new();
    let records = entry
        .header()
        .slices
        .iter()
        .filter(|slice| slice.kind == SliceKind::Records);
    for slice in records {
        let Some(part) = parts.get(&slice.stream) else { continue };
        let end = ends.entry(slice.stream).or_insert_with(|| part.state.end());
        if slice.base > *end {
            return Some(slice.stream);
        }
        *end = slice.end.max(*end);
    }
    None
}

/// A stream's part while it grows.
struct Part {
    start: Offset,
    state: PartitionState,
    pieces: Vec<RecordsPiece>,
    bytes: u64,
    max_timestamp_ms: i64,
}

impl Part {
    fn new(state: PartitionState) -> Self {
        let start = state.end();
        Self {
            start,
            state,
            pieces: Vec::new(),
            bytes: 0,
            max_timestamp_ms: -1,
        }
    }

    /// Takes what a slice has behind the end.
    fn take(&mut self, lsn: Lsn, slice: &SliceHeader, bytes: &Bytes, now_ms: i64) -> Result<(), Error> {
        let (stream, end) = (slice.stream, self.state.end());
        if slice.end <= end {
            return Ok(());
        }
        let mut cutter = Cutter::new(slice, bytes);
        let mut at = 0;
        while at < bytes.len() {
            let stored = StoredBatch::read(&bytes[at..]).map_err(|error| Error::stored(stream, lsn, error))?;
            let batch = stored.header;
            let size = batch.size();
            let replayed = self
                .state
                .replay(&stored, now_ms)
                .map_err(|source| Error::Log { stream, lsn, source })?;
            if at + size > bytes.len() || replayed == Replayed::Beyond {
                let detail = format!(
                    "batch of {size} bytes at offset {}, byte {at} of {}",
                    batch.base_offset,
                    bytes.len()
                );
                return Err(Error::Slice { stream, lsn, detail });
            }
            match replayed {
                Replayed::Applied => cutter
                    .add(&batch, at)
                    .map_err(|error| Error::batch(stream, lsn, error))?,
                _ => cutter.skip(at + size),
            }
            at += size;
        }
        if self.state.end() != slice.end {
            let detail = format!("its batches end at offset {}, not at {}", self.state.end(), slice.end);
            return Err(Error::Slice { stream, lsn, detail });
        }
        let pieces = cutter
            .finish()
            .map_err(|computed| Error::slice(stream, lsn, slice.crc, computed))?;
        for piece in &pieces {
            self.bytes += piece.bytes.len() as u64;
            self.max_timestamp_ms = self.max_timestamp_ms.max(piece.max_timestamp_ms);
        }
        self.pieces.extend(pieces);
        Ok(())
    }

    fn finish(self, stream: StreamId) -> Option<StreamPart> {
        let range = OffsetRange::new(self.start, self.state.end());
        (!range.is_empty()).then_some(StreamPart {
            stream,
            range,
            pieces: self.pieces,
            bytes: self.bytes,
            max_timestamp_ms: self.max_timestamp_ms,
            state: self.state,
        })
    }
}

/// Cuts a slice into pieces of whole batches, each at most a block unless it is one batch.
///
/// A slice that is taken whole and fits a block, which is what most are, stays one piece with the sum it came with. Others
/// get their sums from their batches' own.
struct Cutter<'a> {
    slice: &'a SliceHeader,
    bytes: &'a Bytes,
    whole: bool,
    /// Where the open piece begins.
    from: usize,
    open: Option<RecordsPiece>,
    open_bytes: usize,
    cut: Vec<RecordsPiece>,
}

impl<'a> Cutter<'a> {
    fn new(slice: &'a SliceHeader, bytes: &'a Bytes) -> Self {
        Self {
            slice,
            bytes,
            whole: true,
            from: 0,
            open: None,
            open_bytes: 0,
            cut: Vec::new(),
        }
    }

    /// Leaves out what lies before `to`: nothing was taken yet.
    fn skip(&mut self, to: usize) {
        (self.whole, self.from) = (false, to);
    }

    /// Takes a batch that begins at byte `at`.
    fn add(&mut self, batch: &BatchHeader, at: usize) -> Result<(), tailwater_kafka::batch::BatchError> {
        let bytes = &self.bytes[at..at + batch.size()];
        let keeps_sum = self.whole && self.bytes.len() <= BLOCK_TARGET_BYTES;
        let crc = if keeps_sum { 0 } else { whole_crc(bytes)? };
        if self.open.is_some() && !keeps_sum && self.open_bytes + bytes.len() > BLOCK_TARGET_BYTES {
            self.close();
        }
        self.open_bytes += bytes.len();
        match &mut self.open {
            Some(open) => {
                open.range.end = batch.end_offset();
                open.max_timestamp_ms = open.max_timestamp_ms.max(batch.max_timestamp_ms);
                open.batches += 1;
                if !keeps_sum {
                    open.crc = crc::append(open.crc, bytes, crc);
                }
            }
            None => {
                self.open = Some(RecordsPiece {
                    stream: self.slice.stream,
                    range: OffsetRange {
                        start: batch.base_offset,
                        end: batch.end_offset(),
                    },
                    max_timestamp_ms: batch.max_timestamp_ms,
                    batches: 1,
                    bytes: Bytes::new(),
                    crc,
                });
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some(mut piece) = self.open.take() else { return };
        let end = self.from + self.open_bytes;
        piece.bytes = self.bytes.slice(self.from..end);
        (self.from, self.open_bytes) = (end, 0);
        self.cut.push(piece);
    }

    /// The pieces, or the sum that they give together where the slice has another.
    fn finish(mut self) -> Result<Vec<RecordsPiece>, u32> {
        self.close();
        if self.whole {
            if let [piece] = &mut self.cut[..]
                && self.bytes.len() <= BLOCK_TARGET_BYTES
            {
                piece.crc = self.slice.crc;
            }
            let computed = self
                .cut
                .iter()
                .fold(0, |sum, piece| crc::combine(sum, piece.crc, piece.bytes.len()));
            if computed != self.slice.crc {
                return Err(computed);
            }
        }
        Ok(self.cut)
    }
}

#[cfg(test)]
mod tests;
