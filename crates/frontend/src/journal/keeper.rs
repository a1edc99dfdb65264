//! Keeps a journal open: opens one, carries it to its end, opens the next.
//!
//! Owns: which journal is the open one, and what follows when it ends: if the controller says that this node is fenced,
//! the process stops (`session`); otherwise the leaderships over the journal end, their partitions open again over a
//! new one, and whatever was in flight is found, or not, in the old one's sealed tail.

use std::sync::Arc;
use std::time::Duration;

use tailwater_rpc::Error;
use tailwater_rpc::controller::NodeState;
use tailwater_rpc::wal::WalDirectory;
use tokio::sync::watch;

use super::Journal;
use super::room::Room;
use super::writer::Limits;
use crate::config::JournalConfig;
use crate::metrics::JournalMetrics;
use crate::session::Session;

const OPEN_FIRST: Duration = Duration::from_millis(10);
const OPEN_MAX: Duration = Duration::from_secs(1);
/// How long a journal's end waits for the controller to say how this node stands.
const STANDING_TIMEOUT: Duration = Duration::from_secs(1);

/// The open journal, if there is one.
pub type Current = watch::Receiver<Option<Arc<Journal>>>;

pub struct Keeper {
    session: Session,
    wals: Arc<dyn WalDirectory>,
    limits: Limits,
    metrics: JournalMetrics,
    room: Arc<Room>,
    current: watch::Sender<Option<Arc<Journal>>>,
}

impl Keeper {
    pub fn new(config: &JournalConfig, session: Session, wals: Arc<dyn WalDirectory>, metrics: JournalMetrics) -> Self {
        let limits = Limits {
            target_bytes: config.entry_bytes.as_usize(),
            max_in_flight_bytes: config.in_flight_bytes.as_usize(),
        };
        Self {
            session,
            wals,
            limits,
            metrics,
            room: Arc::default(),
            current: watch::Sender::new(None),
        }
    }

    pub fn current(&self) -> Current {
        self.current.subscribe()
    }

    /// Runs until its task is dropped.
    pub async fn run(self) {
        loop {
            let (journal, progress) = self.open().await;
            tracing::info!(journal = %journal.id(), device = %journal.device(), "journal opened");
            self.current.send_replace(Some(journal.clone()));
            let cause = journal.run(progress).await;
            self.current.send_replace(None);
            // Fenced, or only this journal sealed? If the node is, this stops the process.
            let clock = self.session.clock();
            match clock.timeout(STANDING_TIMEOUT, self.session.heartbeat()).await {
                // It was sealed since this node has left in order; there is nothing to be written any more.
                Ok(Ok(NodeState::ShuttingDown)) => {
                    tracing::debug!(journal = %journal.id(), "journal was sealed");
                    return std::future::pending().await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "heartbeat failed"),
                Ok(Ok(_)) | Err(_) => {}
            }
            tracing::warn!(journal = %journal.id(), error = %cause, "journal ended, leaderships over it end");
        }
    }

    async fn open(&self) -> (Arc<Journal>, watch::Receiver<tailwater_rpc::wal::AppendState>) {
        let mut retry = self.session.backoff(OPEN_FIRST, OPEN_MAX);
        loop {
            match self.open_once().await {
                Ok(opened) => return opened,
                Err(error) => {
                    self.session.judge(&error);
                    tracing::info!(%error, "no journal could be opened yet");
                    retry.wait().await;
                }
            }
        }
    }

    async fn open_once(&self) -> Result<(Arc<Journal>, watch::Receiver<tailwater_rpc::wal::AppendState>), Error> {
        let caller = self.session.caller();
        let grant = self.session.controller().journals.create_journal(caller, true).await?;
        Journal::open(
            grant,
            self.limits,
            self.session.clone(),
            self.wals.clone(),
            self.metrics.clone(),
            self.room.clone(),
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use tailwater_types::JournalId;

    use crate::testing::{Fixture, batch, commit, values_from};

    /// A journal that is open at the WAL but not confirmed takes nothing, however long the controller doesn't hear of it. If
    /// that has given it up meanwhile, at 0, the next one is opened, and has everything.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_appended_before_the_journal_is_confirmed() {
        let mut fixture = Fixture::start().await;
        let partition = fixture.topic("t").await;
        commit(&partition, batch(&[b"one"])).await;
        fixture.controller.confirm_nothing(true);
        fixture.restart().await;
        fixture.runtime.clock.sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(fixture.journal(), JournalId(2), "it waits with one journal");
        assert!(fixture.data.partitions.get(partition.topic(), 0).is_err());
        fixture.controller.seal_all_of(1);
        fixture.controller.confirm_nothing(false);
        let partition = fixture.opened(partition.topic(), 0).await;
        commit(&partition, batch(&[b"two"])).await;
        assert_eq!(values_from(&partition, 0).await.len(), 2);
        let sent = |journal| fixture.wal.entries(JournalId(journal)).len();
        assert_eq!((fixture.journal(), sent(2)), (JournalId(3), 0));
        assert_ne!(fixture.wal.entries(JournalId(3)).last().map(|entry| entry.lsn()), None);
        assert_eq!(partition.log_end(), partition.high_watermark());
    }
}
