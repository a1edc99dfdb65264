//! Reads: from memory where the entry still is, else from the device, checked against its sums.
//!
//! Keeps: after a read from the device the trim LSN is looked at again before anything is called damaged, since what
//! was trimmed in the meantime may have been overwritten.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream;
use tailwater_format::device::MAX_WRITE_BYTES;
use tailwater_format::entry::{Entry, SliceKind};
use tailwater_kafka::batch::{BatchError, Batches, HEADER_BYTES, locate};
use tailwater_rpc::wal::{ReadJournal, ReadStream, ScannedEntry, ScannedSlice};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::{ByteSemaphore, DeviceError, Tasks};
use tailwater_types::{JournalId, Lsn, LsnRange, Outcome};

use super::shared::Shared;
use crate::core::FoundSlice;
use crate::device::{Extent, LogReader, ReadAhead, part_of};
use crate::journal::{Most, Source};

/// What one look for entries finds, and one hop off the executor's threads reads; a larger entry goes alone.
const GROUP: Most = Most {
    entries: 1024,
    bytes: 1 << 20,
};

/// Serves the port's reads.
pub(super) struct Reads {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: LogReader,
    /// What reads from the device may hold until they are answered.
    pub(super) memory: ByteSemaphore,
    pub(super) tasks: Tasks,
    /// What messages call the device.
    pub(super) name: String,
}

impl Reads {
    /// The entries of a range as `take` makes them, see [`tailwater_rpc::wal::Wal::read_journal`].
    pub(super) fn entries<T: Send + 'static>(
        self: Arc<Self>,
        request: ReadJournal,
        take: Take<T>,
    ) -> Result<impl futures::Stream<Item = Result<T>> + Send + 'static> {
        let ReadJournal { journal, range, .. } = request;
        if !range.is_empty() {
            self.shared.core.lock().source(journal, range.start)?;
        }
        let reading = Reading {
            reads: self,
            journal,
            range,
            take,
            ahead: ReadAhead::default(),
            ready: Vec::new().into_iter(),
        };
        Ok(stream::try_unfold(reading, |mut reading| async move {
            let entry = reading.next().await.transpose()?;
            Ok(entry.map(|entry| (entry, reading)))
        }))
    }

    /// What `take` makes of entries that lie next to each other from `first` on, up to the first that is damaged.
    ///
    /// # Errors
    /// If none of them is to be had.
    fn take_group<T>(
        &self,
        (journal, first): (JournalId, Lsn),
        sources: Vec<Source>,
        (ahead, ahead_to): (&mut ReadAhead, u64),
        take: Take<T>,
    ) -> Result<Vec<Result<T>>> {
        let read = |source| match source {
            Source::Memory(entry) => Ok(Raw::Entry(entry)),
            Source::Device(extents) => {
                let position = extents.first().map_or(0, |extent| extent.position);
                let bytes = self.reader.read(&extents, ahead, ahead_to).map_err(unreadable)?;
                Ok(Raw::Read { position, bytes })
            }
        };
        let group = sources.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        // The trim LSN only grows: what is behind the first wasn't overwritten either.
        self.shared.core.lock().source(journal, first)?;
        let mut taken = Vec::with_capacity(group.len());
        for (raw, lsn) in group.into_iter().zip(first.0..) {
            let entry = match raw {
                Raw::Entry(entry) => Ok(Entry::clone(&entry)),
                Raw::Read { position, bytes } => decode(&bytes, journal, Lsn(lsn))
                    .map_err(|detail| self.corrupt(journal, Lsn(lsn), position, &detail)),
            };
            taken.push(entry.and_then(take));
            if taken.last().is_some_and(Result::is_err) {
                break;
            }
        }
        Ok(taken)
    }

    /// Whole batches of a stream, see [`tailwater_rpc::wal::Wal::read_stream`].
    pub(super) async fn batches(&self, request: &ReadStream) -> Result<Vec<Bytes>> {
        let slices = self.shared.core.lock().find(request)?;
        let runs = self.slice_bytes(request.journal, &slices).await?;
        let mut found = Vec::new();
        let mut bytes = 0;
        for (FoundSlice { slice, .. }, run) in slices.iter().zip(runs) {
            let corrupt =
                |error: String| Error::Corrupt(format!("journal {} LSN {}: {error}", request.journal, slice.lsn));
            let start = match slice.base < request.offset {
                false => 0,
                true => locate(&run, request.offset)
                    .map_err(|error| corrupt(error.to_string()))?
                    .unwrap_or(run.len()),
            };
            for batch in Batches::new(run.slice(start..)) {
                let (header, batch) = batch.map_err(|error| corrupt(error.to_string()))?;
                let full = !found.is_empty() && bytes + batch.len() > request.max_bytes;
                if header.base_offset >= request.end || full {
                    return Ok(found);
                }
                bytes += batch.len();
                found.push(batch);
            }
        }
        Ok(found)
    }

    /// The bytes of slices, in order.
    async fn slice_bytes(&self, journal: JournalId, slices: &[FoundSlice]) -> Result<Vec<Bytes>> {
        let on_device = |found: &FoundSlice| match &found.source {
            Source::Memory(_) => None,
            Source::Device(extents) => Some(part_of(extents, found.slice.at as usize, found.slice.length as usize)),
        };
        let runs: Vec<_> = slices.iter().filter_map(on_device).collect();
        let mut read = Vec::new().into_iter();
        if !runs.is_empty() {
            read = self.read(runs).await?.into_iter();
        }
        let mut all = Vec::with_capacity(slices.len());
        for FoundSlice { slice, source } in slices {
            let extents = match source {
                Source::Memory(entry) => {
                    let part = entry
                        .slices()
                        .nth(usize::from(slice.number))
                        .expect("indexed from this entry");
                    all.push(part.1.clone());
                    continue;
                }
                Source::Device(extents) => extents,
            };
            let bytes = read.next().expect("one run for each slice on the device");
            self.shared.core.lock().source(journal, slice.lsn)?;
            let computed = crc32c::crc32c(&bytes);
            if computed != slice.crc {
                let detail = format!(
                    "CRC32C of a slice is {computed:#010x} but {:#010x} is stored",
                    slice.crc
                );
                let position = extents.first().map_or(0, |extent| extent.position);
                return Err(self.corrupt(journal, slice.lsn, position, &detail));
            }
            all.push(bytes);
        }
        Ok(all)
    }

    /// Runs of bytes from the device.
    async fn read(&self, runs: Vec<Vec<Extent>>) -> Result<Vec<Bytes>> {
        let bytes: u64 = runs.iter().flatten().map(|extent| u64::from(extent.length)).sum();
        let reader = self.reader.clone();
        let read = move || {
            let mut ahead = ReadAhead::default();
            let read = runs.iter().map(|run| reader.read(run, &mut ahead, 0));
            read.collect::<std::result::Result<Vec<_>, _>>()
        };
        self.blocking(bytes, read).await?.map_err(unreadable)
    }

    /// Runs what reads `bytes` off the executor's threads.
    async fn blocking<T: Send + 'static>(&self, bytes: u64, read: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _permit = self.memory.acquire(bytes + MAX_WRITE_BYTES as u64).await;
        let read = self.tasks.run_blocking("read", read).await;
        self.shared.meters.device_read_bytes.inc_by(bytes);
        read.map_err(|error| Error::Internal(error.to_string()))
    }

    fn corrupt(&self, journal: JournalId, lsn: Lsn, position: u64, detail: &str) -> Error {
        let byte = self.reader.byte(position);
        Error::Corrupt(format!(
            "{} is damaged at byte {byte}: journal {journal} LSN {lsn}: {detail}",
            self.name
        ))
    }
}

/// What a reader wants of an entry; called off the executor's threads if the entry was on the device.
type Take<T> = fn(Entry) -> Result<T>;

/// An entry as it was found.
enum Raw {
    Entry(Arc<Entry>),
    Read { position: u64, bytes: Bytes },
}

/// A read of a range, a group of entries at a time: small ones are worth no hop to another thread each.
struct Reading<T> {
    reads: Arc<Reads>,
    journal: JournalId,
    /// What isn't ready yet.
    range: LsnRange,
    take: Take<T>,
    ahead: ReadAhead,
    /// Read, and not asked for yet.
    ready: std::vec::IntoIter<Result<T>>,
}

impl<T: Send + 'static> Reading<T> {
    /// `None` at the end of the range or of what is durable; nothing comes behind an error.
    async fn next(&mut self) -> Option<Result<T>> {
        if let Some(entry) = self.ready.next() {
            return Some(entry);
        }
        if self.range.is_empty() {
            // It was answered whole, whatever has become of its journal meanwhile.
            return None;
        }
        match self.group().await {
            Ok(group) => self.ready = group.into_iter(),
            Err(error) => return Some(Err(error)),
        }
        self.ready.next()
    }

    /// The next entries; none at the end.
    async fn group(&mut self) -> Result<Vec<Result<T>>> {
        let (journal, first, take) = (self.journal, self.range.start, self.take);
        let (sources, durable_end) = {
            let core = self.reads.shared.core.lock();
            (core.sources(journal, self.range, GROUP)?, core.durable_end())
        };
        self.range.start = Lsn(first.0 + sources.len() as u64);
        let on_device = |source: &Source| match source {
            Source::Memory(_) => 0,
            Source::Device(extents) => extents.iter().map(|extent| u64::from(extent.length)).sum(),
        };
        let bytes: u64 = sources.iter().map(on_device).sum();
        let (reads, mut ahead) = (self.reads.clone(), std::mem::take(&mut self.ahead));
        let read = move || {
            let group = reads.take_group((journal, first), sources, (&mut ahead, durable_end), take);
            (group, ahead)
        };
        let (group, ahead) = match bytes {
            0 => read(),
            _ => self.reads.blocking(bytes, read).await?,
        };
        self.ahead = ahead;
        group
    }
}

/// The entry that `bytes` are, if it is the one that should be there.
fn decode(bytes: &Bytes, journal: JournalId, lsn: Lsn) -> std::result::Result<Entry, String> {
    let entry = Entry::decode(bytes).map_err(|error| error.to_string())?;
    let (found, at) = (entry.header().journal, entry.lsn());
    if (found, at) == (journal, lsn) {
        return Ok(entry);
    }
    Err(format!("journal {found}, LSN {at} found"))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: DeviceError) -> Error {
    Error::Unavailable {
        detail: error.to_string(),
        outcome: Outcome::DidNotHappen,
    }
}

/// An entry without its records. What is kept is copied, so that the entry's memory can go.
pub(super) fn scan(entry: &Entry) -> Result<ScannedEntry> {
    let slices = entry.slices().map(|(header, bytes)| {
        let parts = match header.kind {
            SliceKind::Snapshot => vec![Bytes::copy_from_slice(bytes)],
            SliceKind::Records => headers(bytes)
                .map_err(|error| Error::Corrupt(format!("LSN {}, stream {}: {error}", entry.lsn(), header.stream)))?,
        };
        Ok(ScannedSlice { header: *header, parts })
    });
    Ok(ScannedEntry {
        lsn: entry.lsn(),
        slices: slices.collect::<Result<_>>()?,
    })
}

/// Of each batch its header, of a control batch all of it.
fn headers(run: &Bytes) -> std::result::Result<Vec<Bytes>, BatchError> {
    let (mut kept, mut lengths) = (BytesMut::new(), Vec::new());
    for batch in Batches::new(run.clone()) {
        let (header, batch) = batch?;
        let length = if header.is_control() { batch.len() } else { HEADER_BYTES };
        kept.extend_from_slice(&batch[..length]);
        lengths.push(length);
    }
    let mut kept = kept.freeze();
    Ok(lengths.into_iter().map(|length| kept.split_to(length)).collect())
}
