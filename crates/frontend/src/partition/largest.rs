//! The record with the largest timestamp (ListOffsets -3).
//!
//! What objects and the index of the tail say of a stretch is a bound only: compaction, or a deletion, may have taken the record
//! that it was of. So the stretch with the largest bound is looked through first, and the search ends where no bound is above
//! what was found.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tailwater_codec::decompress;
use tailwater_kafka::batch::{BatchHeader, Batches, HEADER_BYTES};
use tailwater_kafka::record::RecordWalker;
use tailwater_store::ObjectRef;
use tailwater_types::Offset;

use super::Partition;
use super::read::ReadError;
use super::timestamps::{FoundTimestamp, READ_BYTES};

/// The largest bound comes first, of several the first in the log.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Stretch {
    bound_ms: i64,
    start: Reverse<Offset>,
    end: Offset,
    /// The object whose index knows more of it.
    object: Option<usize>,
}

impl Partition {
    /// The first record below `end` with the largest timestamp of the log; `None` if it is empty.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn max_timestamp(&self, end: Offset) -> Result<Option<FoundTimestamp>, ReadError> {
        let (mut objects, mut from) = (Vec::new(), self.log_start());
        let mut stretches = BinaryHeap::new();
        loop {
            let found = self.find_objects(from).await?;
            let Some(last) = found.last().map(|object| object.range.end) else {
                break;
            };
            for object in found {
                stretches.push(Stretch {
                    bound_ms: object.max_timestamp_ms,
                    start: Reverse(object.range.start.max(from)),
                    end: object.range.end,
                    object: Some(objects.len()),
                });
                objects.push(object);
            }
            from = last;
        }
        let tail = self.state.lock().times.stretches(from, end);
        stretches.extend(tail.into_iter().map(|(bound_ms, range)| Stretch {
            bound_ms,
            start: Reverse(range.start),
            end: range.end,
            object: None,
        }));
        let mut best: Option<FoundTimestamp> = None;
        while let Some(stretch) = stretches.pop() {
            let start = stretch.start.0;
            if best.is_some_and(|best| (best.timestamp_ms, start) >= (stretch.bound_ms, best.offset)) {
                break;
            }
            let Some(object) = stretch.object.map(|at| &objects[at]) else {
                self.search_within(start, stretch.end.min(end), &mut best).await?;
                continue;
            };
            let reference = ObjectRef {
                id: object.object,
                key: object.key.clone(),
                size_bytes: object.size_bytes,
            };
            let index = self.services.reader.index(&reference).await;
            let index = index.map_err(|error| ReadError::Unavailable(error.to_string()))?;
            let rows = index.from(self.stream, start).iter();
            let rows = rows.take_while(|row| row.range.start < stretch.end);
            stretches.extend(rows.map(|row| Stretch {
                bound_ms: row.max_timestamp_ms,
                start: Reverse(row.range.start.max(start)),
                end: row.range.end.min(stretch.end),
                object: None,
            }));
        }
        Ok(best)
    }

    /// Looks through the batches that begin in `[start, end)`, or hold `start`.
    async fn search_within(
        &self,
        start: Offset,
        end: Offset,
        best: &mut Option<FoundTimestamp>,
    ) -> Result<(), ReadError> {
        let mut next = start;
        while next < end {
            let before = next;
            for run in self.read(next, end, READ_BYTES, true).await? {
                for batch in Batches::new(run) {
                    let (header, batch) = batch.map_err(|error| ReadError::Corrupt(error.to_string()))?;
                    next = header.end_offset();
                    let is_below = best.is_some_and(|best| header.max_timestamp_ms < best.timestamp_ms);
                    if header.count > 0 && !is_below {
                        self.largest_in(&header, &batch, start..end, best)?;
                    }
                }
            }
            if next == before {
                break;
            }
        }
        Ok(())
    }

    fn largest_in(
        &self,
        header: &BatchHeader,
        batch: &[u8],
        range: std::ops::Range<Offset>,
        best: &mut Option<FoundTimestamp>,
    ) -> Result<(), ReadError> {
        let mut take = |offset: Offset, timestamp_ms: i64| {
            let is_better = |best: FoundTimestamp| (timestamp_ms, best.offset) > (best.timestamp_ms, offset);
            if range.contains(&offset) && best.is_none_or(is_better) {
                *best = Some(FoundTimestamp {
                    offset,
                    timestamp_ms,
                    leader_epoch: header.leader_epoch,
                });
            }
        };
        if header.is_log_append_time() {
            take(header.base_offset.max(range.start), header.max_timestamp_ms);
            return Ok(());
        }
        let corrupt = |error: &dyn std::fmt::Display| ReadError::Corrupt(error.to_string());
        let max_bytes = self.services.max_decompressed_bytes;
        let compression = header.compression().map_err(|error| corrupt(&error))?;
        let plain = decompress(compression, &batch[HEADER_BYTES..], &self.services.zstd, max_bytes);
        let plain = plain.map_err(|error| corrupt(&error))?;
        for record in RecordWalker::stored(plain, header.count, max_bytes as u64) {
            let record = record.map_err(|error| corrupt(&error))?;
            let offset = header.base_offset.advance(i64::from(record.offset_delta));
            take(offset, header.base_timestamp_ms.wrapping_add(record.timestamp_delta));
        }
        Ok(())
    }
}
