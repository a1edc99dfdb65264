//! From timestamps to offsets (docs/kafka.md rule 8).
//!
//! Owns: a sparse index of the timestamps of what isn't in objects, and the search: objects' own indexes first, then that
//! one, then batch headers, then one batch's records. Does not own: what ListOffsets asks for by name of an end or start.

use std::collections::VecDeque;

use tailwater_codec::decompress;
use tailwater_kafka::batch::{BatchHeader, Batches, HEADER_BYTES};
use tailwater_kafka::record::RecordWalker;
use tailwater_store::ObjectRef;
use tailwater_types::{LeaderEpoch, Offset, OffsetRange};

use super::Partition;
use super::read::ReadError;

/// Bytes of batches that one point stands for.
const POINT_BYTES: usize = 1 << 20;
/// What a search reads at once.
pub(super) const READ_BYTES: usize = 1 << 20;
/// Objects that are asked for at once.
const OBJECTS: usize = 64;

/// Where the search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTimestamp {
    pub offset: Offset,
    pub timestamp_ms: i64,
    /// The epoch in which it was written.
    pub leader_epoch: LeaderEpoch,
}

/// The largest timestamp of each stretch of the log, from about the uploaded end on.
#[derive(Debug, Default)]
pub(super) struct TimeIndex {
    /// Each stands for the batches up to where the next one begins.
    points: VecDeque<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    start: Offset,
    bytes: usize,
    max_timestamp_ms: i64,
}

impl TimeIndex {
    /// Takes a batch, or several, that begin at `base`, behind those before. Points below `uploaded` are forgotten.
    pub fn push(&mut self, base: Offset, bytes: usize, max_timestamp_ms: i64, uploaded: Offset) {
        if let Some(last) = self.points.back_mut()
            && last.bytes < POINT_BYTES
        {
            last.bytes += bytes;
            last.max_timestamp_ms = last.max_timestamp_ms.max(max_timestamp_ms);
            return;
        }
        while let Some(second) = self.points.get(1)
            && second.start <= uploaded
        {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            start: base,
            bytes,
            max_timestamp_ms,
        });
    }

    /// Where the first stretch begins that ends behind `from` and has a timestamp of at least `timestamp_ms`.
    fn find(&self, from: Offset, timestamp_ms: i64) -> Option<Offset> {
        let first = self.points.partition_point(|point| point.start <= from);
        let mut candidates = self.points.range(first.saturating_sub(1)..);
        let found = candidates.find(|point| point.max_timestamp_ms >= timestamp_ms)?;
        Some(found.start.max(from))
    }

    /// About the bytes of the batches of `[from, end)`, which none behind it has: the stretch that `from` lies in counts by
    /// its offsets.
    pub fn bytes_from(&self, from: Offset, end: Offset) -> u64 {
        let ends = self.points.iter().skip(1).map(|next| next.start).chain([end]);
        let stretches = self.points.iter().zip(ends).filter(|(_, end)| *end > from);
        let bytes = stretches.map(|(point, end)| {
            let (all, behind) = (end.0 - point.start.0, end.0 - from.max(point.start).0);
            // In 128 bits, since both are up to 63 bits long.
            (point.bytes as u128 * behind as u128 / all as u128) as u64
        });
        bytes.sum()
    }

    /// The largest timestamp of each stretch of `[from, end)`.
    pub fn stretches(&self, from: Offset, end: Offset) -> Vec<(i64, OffsetRange)> {
        let ends = self.points.iter().skip(1).map(|next| next.start).chain([end]);
        let stretches = self.points.iter().zip(ends).map(|(point, behind)| {
            let (start, end) = (point.start.max(from), behind.min(end));
            (point.max_timestamp_ms, start, end)
        });
        let stretches = stretches.filter(|(_, start, end)| start < end);
        stretches
            .map(|(largest, start, end)| (largest, OffsetRange::new(start, end)))
            .collect()
    }
}

impl Partition {
    /// The first record below `end` with a timestamp of at least `timestamp_ms`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
        end: Offset,
    ) -> Result<Option<FoundTimestamp>, ReadError> {
        let mut from = self.log_start();
        while let Some(offset) = self.stretch_with(timestamp_ms, from).await? {
            if offset >= end {
                return Ok(None);
            }
            match self.search_from(offset, timestamp_ms, end).await? {
                Searched::Found(found) => return Ok(Some(found)),
                Searched::Until(next) => from = next,
            }
        }
        Ok(None)
    }

    /// Where the first block or stretch at or behind `from` begins that has such a timestamp.
    async fn stretch_with(&self, timestamp_ms: i64, from: Offset) -> Result<Option<Offset>, ReadError> {
        let mut next = from;
        loop {
            let objects = self.find_objects(next).await?;
            let Some(last) = objects.last() else { break };
            let behind = last.range.end;
            for object in objects.iter().filter(|object| object.max_timestamp_ms >= timestamp_ms) {
                let reference = ObjectRef {
                    id: object.object,
                    key: object.key.clone(),
                    size_bytes: object.size_bytes,
                };
                let index = self.services.reader.index(&reference).await;
                let index = index.map_err(|error| ReadError::Unavailable(error.to_string()))?;
                let mut rows = index.from(self.stream, next).iter();
                if let Some(row) = rows.find(|row| row.max_timestamp_ms >= timestamp_ms) {
                    return Ok(Some(row.range.start.max(next)));
                }
            }
            next = behind;
        }
        Ok(self.state.lock().times.find(next, timestamp_ms))
    }

    /// Objects from `from` on, none behind the uploaded end.
    pub(super) async fn find_objects(
        &self,
        from: Offset,
    ) -> Result<Vec<tailwater_rpc::controller::ObjectSlice>, ReadError> {
        if from >= self.services.view.uploaded(self.stream) {
            return Ok(Vec::new());
        }
        let found = self.services.objects.find_objects(self.stream, from, OBJECTS).await;
        match found {
            Ok(found) => Ok(found.objects),
            Err(error) => Err(ReadError::Unavailable(error.to_string())),
        }
    }

    /// Looks through one read's batches.
    async fn search_from(&self, offset: Offset, timestamp_ms: i64, end: Offset) -> Result<Searched, ReadError> {
        let mut next = offset;
        for run in self.read(offset, end, READ_BYTES, true).await? {
            for batch in Batches::new(run) {
                let (header, batch) = batch.map_err(|error| ReadError::Corrupt(error.to_string()))?;
                next = header.end_offset();
                if header.max_timestamp_ms < timestamp_ms {
                    continue;
                }
                if let Some(found) = self.search_batch(&header, &batch, offset, timestamp_ms)? {
                    return Ok(if found.offset < end {
                        Searched::Found(found)
                    } else {
                        Searched::Until(end)
                    });
                }
            }
        }
        // A read that gives nothing is at the end.
        Ok(Searched::Until(if next == offset { end } else { next }))
    }

    fn search_batch(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        from: Offset,
        timestamp_ms: i64,
    ) -> Result<Option<FoundTimestamp>, ReadError> {
        let leader_epoch = header.leader_epoch;
        if header.count == 0 {
            return Ok(None);
        }
        if header.is_log_append_time() {
            return Ok(Some(FoundTimestamp {
                offset: header.base_offset.max(from),
                timestamp_ms: header.max_timestamp_ms,
                leader_epoch,
            }));
        }
        let corrupt = |error: &dyn std::fmt::Display| ReadError::Corrupt(error.to_string());
        let max_bytes = self.services.max_decompressed_bytes;
        let compression = header.compression().map_err(|error| corrupt(&error))?;
        let plain = decompress(compression, &batch[HEADER_BYTES..], &self.services.zstd, max_bytes);
        let plain = plain.map_err(|error| corrupt(&error))?;
        for record in RecordWalker::stored(plain, header.count, max_bytes as u64) {
            let record = record.map_err(|error| corrupt(&error))?;
            let offset = header.base_offset.advance(i64::from(record.offset_delta));
            let timestamp = header.base_timestamp_ms.wrapping_add(record.timestamp_delta);
            if timestamp >= timestamp_ms && offset >= from {
                return Ok(Some(FoundTimestamp {
                    offset,
                    timestamp_ms: timestamp,
                    leader_epoch,
                }));
            }
        }
        Ok(None)
    }
}

enum Searched {
    Found(FoundTimestamp),
    /// Nothing below it.
    Until(Offset),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index names a stretch that has the timestamp and none before it, and forgets what is uploaded.
    #[test]
    fn stretches_are_found_by_their_largest_timestamp() {
        let mut times = TimeIndex::default();
        for (base, timestamp) in [(0, 100), (10, 50), (20, 300), (30, 200)] {
            times.push(Offset(base), POINT_BYTES, timestamp, Offset(0));
        }
        let find = |times: &TimeIndex, from, timestamp| times.find(Offset(from), timestamp).map(|found| found.0);
        assert_eq!(find(&times, 0, 1), Some(0));
        assert_eq!(find(&times, 0, 101), Some(20));
        assert_eq!(find(&times, 25, 150), Some(25));
        assert_eq!(find(&times, 0, 301), None);
        let stretches = times.stretches(Offset(15), Offset(32));
        let stretches: Vec<_> = stretches
            .iter()
            .map(|(largest, range)| (*largest, range.start.0, range.end.0))
            .collect();
        assert_eq!(stretches, [(50, 15, 20), (300, 20, 30), (200, 30, 32)]);
        times.push(Offset(40), 1, 1, Offset(30));
        assert_eq!(times.points.len(), 2);
    }
}
