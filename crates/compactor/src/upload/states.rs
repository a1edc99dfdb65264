//! Streams' states at their uploaded ends: kept from one upload to the next, else loaded from the snapshots in objects.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tailwater_log::PartitionState;
use tailwater_rpc::controller::{SnapshotAt, StreamUpload};
use tailwater_store::ObjectStorage;
use tailwater_types::{Offset, StreamId};

use crate::Error;

/// Snapshots of one object that lie this close together are read at once,
const MAX_HOLE_BYTES: u64 = 64 * 1024;
/// up to this much.
const MAX_READ_BYTES: u64 = 4 << 20;
/// Reads at the same time.
const PARALLEL_READS: usize = 8;

/// The states of streams that were uploaded last, bounded in bytes.
pub(crate) struct States {
    storage: Arc<dyn ObjectStorage>,
    max_bytes: usize,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    states: BTreeMap<StreamId, Kept>,
    /// Least recently used first.
    order: BTreeMap<u64, StreamId>,
    next_use: u64,
    bytes: usize,
}

struct Kept {
    state: PartitionState,
    used: u64,
    bytes: usize,
}

impl States {
    pub fn new(storage: Arc<dyn ObjectStorage>, max_bytes: usize) -> Self {
        Self {
            storage,
            max_bytes,
            cache: Mutex::default(),
        }
    }

    /// The state of each stream at its uploaded end, without aborted transactions below its start, or that were cleaned away.
    ///
    /// # Errors
    /// What the store says; [`Error::Snapshot`] for one that isn't what metadata says it is.
    pub async fn load(&self, uploads: Vec<StreamUpload>) -> Result<BTreeMap<StreamId, PartitionState>, Error> {
        let mut states = BTreeMap::new();
        let mut missing = Vec::new();
        let mut starts = Vec::new();
        for StreamUpload {
            stream,
            start,
            uploaded,
            cleaned,
            snapshot,
            bytes: _,
        } in uploads
        {
            starts.push((stream, start.max(cleaned)));
            match (self.kept(stream, uploaded), snapshot) {
                (Some(state), _) => _ = states.insert(stream, state),
                (None, Some(at)) => missing.push(Wanted { stream, uploaded, at }),
                (None, None) => _ = states.insert(stream, PartitionState::empty(uploaded)),
            }
        }
        let reads = stream::iter(group(missing).into_iter().map(|read| self.read(read)));
        let read: Vec<_> = reads.buffer_unordered(PARALLEL_READS).try_collect().await?;
        states.extend(read.into_iter().flatten());
        for (stream, start) in starts {
            if let Some(state) = states.get_mut(&stream) {
                state.trim_aborted(start);
            }
        }
        Ok(states)
    }

    /// Keeps a state for the next upload.
    pub fn keep(&self, stream: StreamId, state: PartitionState) {
        self.cache.lock().keep(stream, state, self.max_bytes);
    }

    fn kept(&self, stream: StreamId, end: Offset) -> Option<PartitionState> {
        let cache = self.cache.lock();
        let kept = cache.states.get(&stream)?;
        (kept.state.end() == end).then(|| kept.state.clone())
    }

    async fn read(&self, read: Read) -> Result<Vec<(StreamId, PartitionState)>, Error> {
        let bytes = self.storage.get_range(&read.key, read.range.clone()).await?;
        read.wanted
            .iter()
            .map(|wanted| Ok((wanted.stream, wanted.decode(&bytes, read.range.start)?)))
            .collect()
    }
}

impl Cache {
    fn keep(&mut self, stream: StreamId, state: PartitionState, max_bytes: usize) {
        self.forget(stream);
        let (used, bytes) = (self.next_use, state.memory_bytes());
        self.next_use += 1;
        self.bytes += bytes;
        self.order.insert(used, stream);
        self.states.insert(stream, Kept { state, used, bytes });
        while self.bytes > max_bytes {
            let Some((_, oldest)) = self.order.first_key_value() else {
                return;
            };
            let oldest = *oldest;
            self.forget(oldest);
        }
    }

    fn forget(&mut self, stream: StreamId) {
        if let Some(kept) = self.states.remove(&stream) {
            self.order.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }
}

/// A snapshot to be read.
#[derive(Clone, Debug)]
struct Wanted {
    stream: StreamId,
    uploaded: Offset,
    at: SnapshotAt,
}

impl Wanted {
    /// Out of bytes that begin at `position` of the object and hold it.
    fn decode(&self, bytes: &Bytes, position: u64) -> Result<PartitionState, Error> {
        let damaged = |detail: String| Error::Snapshot {
            stream: self.stream,
            key: self.at.key.clone(),
            position: self.at.position,
            detail,
        };
        let start = (self.at.position - position) as usize;
        let bytes = &bytes[start..start + self.at.length as usize];
        let computed = crc32c::crc32c(bytes);
        if computed != self.at.crc {
            return Err(damaged(format!(
                "CRC32C is {computed:#010x} but {:#010x} was committed",
                self.at.crc
            )));
        }
        let state = PartitionState::decode_snapshot(bytes).map_err(|error| damaged(error.to_string()))?;
        if state.end() != self.uploaded {
            return Err(damaged(format!(
                "exact at {}, but {} is uploaded",
                state.end(),
                self.uploaded
            )));
        }
        Ok(state)
    }
}

/// One ranged GET.
#[derive(Debug)]
struct Read {
    key: String,
    range: Range<u64>,
    wanted: Vec<Wanted>,
}

/// Neighbours in one object are read together: an upload packs its snapshots in one block.
fn group(mut wanted: Vec<Wanted>) -> Vec<Read> {
    wanted.sort_by(|a, b| (&a.at.key, a.at.position).cmp(&(&b.at.key, b.at.position)));
    let mut reads: Vec<Read> = Vec::new();
    for wanted in wanted {
        let (start, end) = (wanted.at.position, wanted.at.position + u64::from(wanted.at.length));
        let joins = |read: &&mut Read| {
            read.key == wanted.at.key
                && start.saturating_sub(read.range.end) <= MAX_HOLE_BYTES
                && end.saturating_sub(read.range.start) <= MAX_READ_BYTES
        };
        match reads.last_mut().filter(joins) {
            Some(read) => {
                read.range.end = read.range.end.max(end);
                read.wanted.push(wanted);
            }
            None => reads.push(Read {
                key: wanted.at.key.clone(),
                range: start..end,
                wanted: vec![wanted],
            }),
        }
    }
    reads
}

#[cfg(test)]
mod tests;
