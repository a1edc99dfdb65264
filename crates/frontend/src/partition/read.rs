//! Reading: tail cache, then objects, then the WAL (docs/design.md section 3, "Read").
//!
//! Owns: asking again with newer metadata. What was trimmed is in objects, what an object no longer has is in another:
//! while metadata says that an offset exists, its absence in one place is never shown as a missing offset.

use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::batch::BatchError;
use tailwater_rpc::Error;
use tailwater_rpc::controller::ObjectSlice;
use tailwater_rpc::wal::ReadStream;
use tailwater_runtime::Backoff;
use tailwater_store::{ObjectRef, StoreError};
use tailwater_types::{Kind, Offset};

use super::Partition;
use super::locate::{Bounds, Taken, take};
use super::source::{Segment, forget_uploaded, segment_at};

/// How often a read looks again before it gives up with a retriable error.
const MAX_ATTEMPTS: usize = 8;
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Objects that are asked for at once: an idle partition keeps no more of them.
const KNOWN_OBJECTS: usize = 16;
/// How long a read waits for the metadata that a WAL node says explains an absence.
const METADATA_WAIT: Duration = Duration::from_secs(2);

/// Why there is nothing to return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside of [{start}, {end})")]
    OutOfRange { offset: Offset, start: Offset, end: Offset },
    #[error("this node doesn't lead the partition any more")]
    NotLeader,
    #[error("not readable now: {0}")]
    Unavailable(String),
    #[error("damaged: {0}")]
    Corrupt(String),
}

/// Why one attempt gave nothing.
enum Miss {
    /// It has moved, or its place can't be reached just now.
    Again(String),
    Final(ReadError),
}

impl Partition {
    /// Whole batches from the one that holds `offset` on, of up to `max_bytes`, but for the first one, which is returned
    /// however large it is unless `first_whole` is off. None begins at or above `end`, which is at most the high watermark.
    /// Empty if `offset` is `end`, or if the bounds leave nothing.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(
        &self,
        offset: Offset,
        end: Offset,
        max_bytes: usize,
        first_whole: bool,
    ) -> Result<Vec<Bytes>, ReadError> {
        let bounds = Bounds {
            end: end.min(self.high_watermark()),
            max_bytes,
            first_whole,
        };
        self.check_range(offset, bounds.end)?;
        if offset == bounds.end {
            return Ok(Vec::new());
        }
        if let Some(cached) = self.read_cached(offset, bounds) {
            return Ok(cached);
        }
        let mut retry: Option<Backoff> = None;
        for _ in 0..MAX_ATTEMPTS {
            let missed = match self.read_once(offset, bounds).await {
                Ok(batches) => return Ok(batches),
                Err(Miss::Final(error)) => return Err(error),
                Err(Miss::Again(reason)) => reason,
            };
            if self.has_ended() {
                return Err(ReadError::NotLeader);
            }
            // The start may have moved over it.
            self.check_range(offset, bounds.end)?;
            tracing::debug!(stream = %self.stream, %offset, missed, "looking again");
            self.services.metrics.read_retries.inc();
            self.objects.lock().clear();
            let services = &self.services;
            retry
                .get_or_insert_with(|| {
                    let (clock, random) = (services.clock.clone(), services.random.clone());
                    Backoff::new(clock, random, RETRY_FIRST, RETRY_MAX)
                })
                .wait()
                .await;
        }
        Err(ReadError::Unavailable(format!(
            "offset {offset} of stream {} was found nowhere in {MAX_ATTEMPTS} attempts",
            self.stream
        )))
    }

    /// Whether a read of `[offset, end)` would be answered without asking the WAL or an object.
    pub fn has_in_memory(&self, offset: Offset, end: Offset) -> bool {
        offset >= end || (offset >= self.aborted_from() && self.tail.has(offset))
    }

    /// # Errors
    /// [`ReadError::OutOfRange`].
    fn check_range(&self, offset: Offset, end: Offset) -> Result<(), ReadError> {
        let start = self.log_start();
        if start <= offset && offset <= end {
            return Ok(());
        }
        Err(ReadError::OutOfRange { offset, start, end })
    }

    fn read_cached(&self, offset: Offset, bounds: Bounds) -> Option<Vec<Bytes>> {
        // It has what was written, also of transactions that nobody here remembers.
        if offset < self.aborted_from() {
            return None;
        }
        let mut batches = self.tail.read(offset, bounds.end, bounds.max_bytes)?;
        if !bounds.first_whole && batches.first().is_some_and(|first| first.len() > bounds.max_bytes) {
            batches.clear();
        }
        Some(batches)
    }

    async fn read_once(&self, offset: Offset, bounds: Bounds) -> Result<Vec<Bytes>, Miss> {
        if offset < self.services.view.uploaded(self.stream) {
            return self.read_objects(offset, bounds).await;
        }
        let segment = {
            let mut state = self.state.lock();
            forget_uploaded(&mut state.segments, self.services.view.uploaded(self.stream));
            segment_at(&state.segments, offset).cloned()
        };
        match segment {
            Some(segment) => self.read_wal(&segment, offset, bounds).await,
            // It was uploaded between the two looks.
            None => Err(Miss::Again("no journal has it".to_owned())),
        }
    }

    async fn read_objects(&self, offset: Offset, mut bounds: Bounds) -> Result<Vec<Bytes>, Miss> {
        let mut batches = Vec::new();
        let mut next = offset;
        while next < bounds.end && (bounds.first_whole || bounds.max_bytes > 0) {
            let Some(object) = self.object_at(next).await? else {
                break;
            };
            let Some(taken) = self.read_object(&object, next, bounds).await? else {
                break;
            };
            self.count("object", taken.bytes.len());
            bounds.max_bytes = bounds.max_bytes.saturating_sub(taken.bytes.len());
            bounds.first_whole = false;
            next = taken.next;
            batches.push(taken.bytes);
            if !taken.exhausted {
                break;
            }
        }
        if batches.is_empty() && bounds.first_whole {
            return Err(Miss::Again("no object has it".to_owned()));
        }
        Ok(batches)
    }

    /// The object that has `offset`; `None` if it isn't uploaded.
    async fn object_at(&self, offset: Offset) -> Result<Option<ObjectSlice>, Miss> {
        let now = self.services.clock.now();
        if let Some(known) = self.objects.lock().at(offset, now) {
            return Ok(Some(known.clone()));
        }
        if offset >= self.services.view.uploaded(self.stream) {
            return Ok(None);
        }
        let found = self
            .services
            .objects
            .find_objects(self.stream, offset, KNOWN_OBJECTS)
            .await;
        let mut known = self.objects.lock();
        known.set(found.map_err(miss_of_port)?, now);
        Ok(known.at(offset, now).cloned())
    }

    /// What the block that has `offset` has within the bounds.
    async fn read_object(&self, object: &ObjectSlice, offset: Offset, bounds: Bounds) -> Result<Option<Taken>, Miss> {
        let reference = ObjectRef {
            id: object.object,
            key: object.key.clone(),
            size_bytes: object.size_bytes,
        };
        let block = self
            .services
            .reader
            .block(&reference, self.stream, offset)
            .await
            .map_err(miss_of_store)?;
        let Some(block) = block else {
            let detail = format!("object {} names offset {offset} and doesn't have it", object.key);
            return Err(Miss::Final(ReadError::Corrupt(detail)));
        };
        // What an object has beyond its range belongs to another.
        let end = bounds.end.min(object.range.end);
        let taken = take(&block.body, offset, Bounds { end, ..bounds }).map_err(miss_of_batch)?;
        Ok(taken.map(|taken| Taken {
            exhausted: taken.exhausted || taken.next >= object.range.end,
            ..taken
        }))
    }

    async fn read_wal(&self, segment: &Segment, offset: Offset, bounds: Bounds) -> Result<Vec<Bytes>, Miss> {
        let mut missed = Miss::Again("no member of the ensemble is reachable".to_owned());
        for device in &segment.ensemble {
            let Some(wal) = self.services.wals.wal(*device) else {
                continue;
            };
            let request = ReadStream {
                journal: segment.journal,
                device: *device,
                stream: self.stream,
                offset,
                end: bounds.end.min(segment.end),
                max_bytes: bounds.max_bytes,
            };
            match wal.read_stream(request).await {
                Ok(batches) => return self.clip(batches, offset, bounds),
                Err(Error::Trimmed { version }) => {
                    let newer = self.services.view.wait_for(version);
                    // If it doesn't come in time, the next attempt is made without.
                    let _ = self.services.clock.timeout(METADATA_WAIT, newer).await;
                    return Err(Miss::Again("trimmed".to_owned()));
                }
                Err(error) => missed = miss_of_port(error),
            }
        }
        Err(missed)
    }

    /// Holds what a WAL node answered against the bounds.
    fn clip(&self, answered: Vec<Bytes>, offset: Offset, mut bounds: Bounds) -> Result<Vec<Bytes>, Miss> {
        let mut batches = Vec::with_capacity(answered.len());
        let mut next = offset;
        for run in answered {
            let Some(taken) = take(&run, next, bounds).map_err(miss_of_batch)? else {
                break;
            };
            self.count("wal", taken.bytes.len());
            bounds.max_bytes = bounds.max_bytes.saturating_sub(taken.bytes.len());
            bounds.first_whole = false;
            next = taken.next;
            batches.push(taken.bytes);
            if !taken.exhausted {
                break;
            }
        }
        if batches.is_empty() && bounds.first_whole {
            return Err(Miss::Again("the WAL answered nothing".to_owned()));
        }
        Ok(batches)
    }

    fn count(&self, source: &str, bytes: usize) {
        let counter = self.services.metrics.read_bytes.with_label_values(&[source]);
        counter.inc_by(bytes as u64);
    }
}

fn miss_of_port(error: Error) -> Miss {
    match error.kind() {
        Kind::Corrupt => Miss::Final(ReadError::Corrupt(error.to_string())),
        _ => Miss::Again(error.to_string()),
    }
}

fn miss_of_store(error: StoreError) -> Miss {
    match error.kind() {
        Kind::Corrupt => Miss::Final(ReadError::Corrupt(error.to_string())),
        // It was replaced by another.
        Kind::NotFound => Miss::Again(error.to_string()),
        // The store has tried again by itself, up to its own deadline.
        _ => Miss::Final(ReadError::Unavailable(error.to_string())),
    }
}

fn miss_of_batch(error: BatchError) -> Miss {
    Miss::Final(ReadError::Corrupt(error.to_string()))
}
