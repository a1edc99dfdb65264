//! What the port's calls and the writer thread share: the core under one short lock, and how far the log is durable.

use parking_lot::{Condvar, Mutex};
use tailwater_rpc::{Error, Result};
use tokio::sync::watch;

use super::metrics::Meters;
use crate::core::{Core, Ticket};

pub(crate) struct Shared {
    pub(crate) core: Mutex<Core>,
    /// Told when there is something to write, or nothing ever again.
    pub(crate) work: Condvar,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) meters: Meters,
}

/// The newest state of the queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Everything up to this is durable.
    pub(crate) completed: Ticket,
    /// Set once: nothing more becomes durable.
    pub(crate) failed: Option<Error>,
}

impl Shared {
    pub(crate) fn new(core: Core, meters: Meters) -> Self {
        Self {
            core: Mutex::new(core),
            work: Condvar::new(),
            progress: watch::Sender::default(),
            meters,
        }
    }

    /// Waits until what has this ticket is durable. Cancellation-safe.
    pub(crate) async fn durable(&self, ticket: Ticket) -> Result<()> {
        let mut progress = self.progress.subscribe();
        let reached = progress
            .wait_for(|progress| progress.completed >= ticket || progress.failed.is_some())
            .await
            .expect("the sender lives in self");
        match &reached.failed {
            Some(error) if reached.completed < ticket => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Takes nothing more; what is queued is still written.
    pub(crate) fn stop(&self) {
        self.core.lock().end(Error::Shutdown);
        self.work.notify_one();
    }

    /// Nothing more becomes durable: everybody who waits gets the error.
    pub(crate) fn fail(&self, error: &Error) {
        let mut core = self.core.lock();
        core.end(error.clone());
        core.fail_attached(error);
        drop(core);
        self.progress.send_modify(|progress| {
            progress.failed.get_or_insert_with(|| error.clone());
        });
    }
}
