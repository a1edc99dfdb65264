//! The WAL of the test cluster: one node, one device.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tailwater_format::entry::Entry;
use tailwater_rpc::wal::{
    AppendStream, JournalStatus, OpenJournal, ReadJournal, ReadStream, ScannedEntry, SealJournal, SealedJournal,
    TrimJournal, Wal, WalDirectory, WalStatus,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_types::{DeviceId, Lsn, MetadataVersion};

use super::cluster::{Call, Cluster, DEVICE, When};

impl WalDirectory for Cluster {
    fn wal(&self, device: DeviceId) -> Option<Arc<dyn Wal>> {
        (device == DEVICE).then(|| Arc::new(self.clone()) as Arc<dyn Wal>)
    }
}

#[async_trait]
impl Wal for Cluster {
    async fn read_journal(&self, request: ReadJournal) -> Result<Stream<Entry>> {
        self.fault(Call::Read, When::Before)?;
        let state = self.state.lock();
        if state.broken_journals.contains(&request.journal) {
            return Err(Error::Corrupt("injected".to_owned()));
        }
        let journal = state.journals.get(&request.journal).ok_or(Error::NotHere)?;
        if request.range.start < journal.trim {
            return Err(Error::Trimmed {
                version: MetadataVersion(1),
            });
        }
        let end = (request.range.end.0 as usize).min(journal.entries.len());
        let entries: Vec<_> = journal.entries[request.range.start.0 as usize..end]
            .iter()
            .cloned()
            .map(Ok)
            .collect();
        drop(state);
        let failure = self.fault(Call::Read, When::After).err().map(Err);
        Ok(futures::stream::iter(match failure {
            Some(failure) => entries.into_iter().take(1).chain([failure]).collect::<Vec<_>>(),
            None => entries,
        })
        .boxed())
    }

    async fn status(&self) -> Result<WalStatus> {
        self.fault(Call::Status, When::Before)?;
        let state = self.state.lock();
        let status = |(id, journal): (&_, &super::cluster::Journal)| {
            let held = &journal.entries[journal.trim.0 as usize..];
            let durable = Lsn(journal.entries.len() as u64);
            JournalStatus {
                journal: *id,
                trim: journal.trim,
                // As at a real one: the last append's commit is not known here yet.
                commit: Lsn(durable.0.saturating_sub(1)),
                durable,
                sealed: journal.sealed,
                bytes: held.iter().map(|entry| entry.encoded_bytes() as u64).sum(),
                oldest_age: journal
                    .since
                    .filter(|_| !held.is_empty())
                    .map(|since| self.clock.now() - since),
            }
        };
        let journals: Vec<_> = state.journals.iter().map(status).collect();
        Ok(WalStatus {
            device: DEVICE,
            capacity_bytes: 1 << 30,
            used_bytes: journals.iter().map(|one| one.bytes).sum(),
            journals,
        })
    }

    async fn open_journal(&self, _: OpenJournal) -> Result<AppendStream> {
        Err(unasked())
    }

    async fn scan_journal(&self, _: ReadJournal) -> Result<Stream<ScannedEntry>> {
        Err(unasked())
    }

    async fn read_stream(&self, _: ReadStream) -> Result<Vec<Bytes>> {
        Err(unasked())
    }

    async fn seal(&self, _: SealJournal) -> Result<SealedJournal> {
        Err(unasked())
    }

    async fn trim(&self, _: TrimJournal) -> Result<()> {
        Err(unasked())
    }
}

pub(super) fn unasked() -> Error {
    Error::Invalid("a compactor doesn't ask for this".to_owned())
}
