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
use tailwater_runtime::{ByteSemaphore, Tasks};
use tailwater_types::{JournalId, Lsn, Outcome};

use super::shared::Shared;
use crate::core::FoundSlice;
use crate::device::{Extent, LogReader, ReadAhead, part_of};
use crate::journal::Source;

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
    /// The entries of a range, see [`tailwater_rpc::wal::Wal::read_journal`].
    pub(super) fn entries(
        self: Arc<Self>,
        request: ReadJournal,
    ) -> Result<impl futures::Stream<Item = Result<Entry>> + Send + 'static> {
        let ReadJournal { journal, range, .. } = request;
        if !range.is_empty() {
            self.shared.core.lock().source(journal, range.start)?;
        }
        let start = (self, range.start, ReadAhead::default());
        Ok(stream::try_unfold(start, move |(reads, lsn, mut ahead)| async move {
            if lsn >= range.end {
                return Ok(None);
            }
            let entry = reads.entry(journal, lsn, &mut ahead).await?;
            Ok(entry.map(|entry| (entry, (reads, lsn.next(), ahead))))
        }))
    }

    async fn entry(&self, journal: JournalId, lsn: Lsn, ahead: &mut ReadAhead) -> Result<Option<Entry>> {
        let (source, durable_end) = {
            let core = self.shared.core.lock();
            (core.source(journal, lsn)?, core.durable_end())
        };
        let extents = match source {
            None => return Ok(None),
            Some(Source::Memory(entry)) => return Ok(Some(Entry::clone(&entry))),
            Some(Source::Device(extents)) => extents,
        };
        let position = extents.first().map_or(0, |extent| extent.position);
        let runs = vec![extents.into_vec()];
        let bytes = self
            .read(runs, ahead, durable_end)
            .await?
            .pop()
            .expect("one run in, one out");
        self.shared.core.lock().source(journal, lsn)?;
        let entry = Entry::decode(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|entry| {
                let (found, at) = (entry.header().journal, entry.lsn());
                if (found, at) == (journal, lsn) {
                    Ok(entry)
                } else {
                    Err(format!("journal {found}, LSN {at} found"))
                }
            });
        entry
            .map(Some)
            .map_err(|detail| self.corrupt(journal, lsn, position, &detail))
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
            read = self.read(runs, &mut ReadAhead::default(), 0).await?.into_iter();
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

    /// Runs of bytes from the device, off the executor's threads.
    async fn read(&self, runs: Vec<Vec<Extent>>, ahead: &mut ReadAhead, ahead_to: u64) -> Result<Vec<Bytes>> {
        let bytes: u64 = runs.iter().flatten().map(|extent| u64::from(extent.length)).sum();
        let _permit = self.memory.acquire(bytes + MAX_WRITE_BYTES as u64).await;
        let (reader, mut held) = (self.reader.clone(), std::mem::take(ahead));
        let read = move || {
            let read = runs.iter().map(|run| reader.read(run, &mut held, ahead_to));
            (read.collect::<std::result::Result<Vec<_>, _>>(), held)
        };
        let blocking = self.tasks.run_blocking("read", read).await;
        let (read, held) = blocking.map_err(|error| Error::Internal(error.to_string()))?;
        *ahead = held;
        self.shared.meters.device_read_bytes.inc_by(bytes);
        read.map_err(|error| Error::Unavailable {
            detail: error.to_string(),
            outcome: Outcome::DidNotHappen,
        })
    }

    fn corrupt(&self, journal: JournalId, lsn: Lsn, position: u64, detail: &str) -> Error {
        let byte = self.reader.byte(position);
        Error::Corrupt(format!(
            "{} is damaged at byte {byte}: journal {journal} LSN {lsn}: {detail}",
            self.name
        ))
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
