//! The port's calls. Every call checks the device first; what it answers is durable.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tailwater_format::entry::Entry;
use tailwater_rpc::wal::{
    AppendStream, OpenJournal, ReadJournal, ReadStream, ScannedEntry, SealJournal, SealedJournal, TrimJournal, Wal,
    WalStatus,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_runtime::{Clock, Tasks};
use tailwater_types::DeviceId;

use super::append::Sender;
use super::read::{Reads, scan};
use super::shared::Shared;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);

/// A WAL node that serves.
pub struct WalService {
    shared: Arc<Shared>,
    device: DeviceId,
    reads: Arc<Reads>,
    clock: Clock,
    tasks: Tasks,
}

impl WalService {
    pub(super) fn new(shared: Arc<Shared>, device: DeviceId, reads: Reads, clock: Clock, tasks: Tasks) -> Self {
        Self {
            shared,
            device,
            reads: Arc::new(reads),
            clock,
            tasks,
        }
    }

    /// The device that this node has.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Takes nothing more, writes what was taken, answers every waiter, and closes the log in order.
    pub async fn shutdown(&self) {
        if let Err(error) = self.tasks.shutdown(SHUTDOWN_DEADLINE).await {
            tracing::error!(%error, "the WAL node did not stop in time");
        }
    }

    fn check_device(&self, expected: DeviceId) -> Result<()> {
        if expected != self.device {
            return Err(Error::DeviceChanged {
                expected,
                found: self.device,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Wal for WalService {
    async fn open_journal(&self, request: OpenJournal) -> Result<AppendStream> {
        self.check_device(request.device)?;
        let ticket = self.shared.core.lock().open(&request)?;
        self.shared.work.notify_one();
        self.shared.durable(ticket).await?;
        let mut core = self.shared.core.lock();
        let attached = core.attach(&request)?;
        let max_entry_bytes = core.max_entry_bytes();
        drop(core);
        let sender = Sender::new(self.shared.clone(), request.journal, attached.id, max_entry_bytes);
        Ok(AppendStream {
            next: attached.next,
            sender: Box::new(sender),
            state: attached.state,
        })
    }

    async fn read_journal(&self, request: ReadJournal) -> Result<Stream<Entry>> {
        self.check_device(request.device)?;
        Ok(self.reads.clone().entries(request, Ok)?.boxed())
    }

    async fn scan_journal(&self, request: ReadJournal) -> Result<Stream<ScannedEntry>> {
        self.check_device(request.device)?;
        Ok(self.reads.clone().entries(request, |entry| scan(&entry))?.boxed())
    }

    async fn read_stream(&self, request: ReadStream) -> Result<Vec<Bytes>> {
        self.check_device(request.device)?;
        self.reads.batches(&request).await
    }

    async fn seal(&self, request: SealJournal) -> Result<SealedJournal> {
        self.check_device(request.device)?;
        let (ticket, gone) = self.shared.core.lock().seal(&request)?;
        self.shared.work.notify_one();
        self.shared.durable(ticket).await?;
        let sealed = gone.or_else(|| self.shared.core.lock().sealed(request.journal));
        sealed.ok_or(Error::NotHere)
    }

    async fn trim(&self, request: TrimJournal) -> Result<()> {
        self.check_device(request.device)?;
        let ticket = self.shared.core.lock().trim(&request)?;
        self.shared.work.notify_one();
        match ticket {
            Some(ticket) => self.shared.durable(ticket).await,
            None => Ok(()),
        }
    }

    async fn status(&self) -> Result<WalStatus> {
        let core = self.shared.core.lock();
        Ok(WalStatus {
            device: self.device,
            capacity_bytes: core.space().ring_bytes(),
            used_bytes: core.space().used(),
            journals: core.statuses(self.clock.now()),
        })
    }
}
