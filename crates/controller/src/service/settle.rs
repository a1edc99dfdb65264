//! What has to be done at the members of journals: seal, trim, forget.
//!
//! Owns: the seal of docs/design.md section 3 ("Seal and failover"), trim orders, and their repetition until they succeed.
//! It follows the journal's record and nothing else: one task for each journal that has something left to do, started by
//! every change of it and at the controller's start. Does not own: the states of journals (`state::journals`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tailwater_format::metadata::{JournalRecord, JournalState};
use tailwater_rpc::wal::{SealJournal, SealedJournal, TrimJournal, Wal, WalDirectory};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::{Policy, Runtime};
use tailwater_types::{ControllerEpoch, DeviceId, JournalId, Kind, Lsn, MetadataVersion, Outcome, SealingEpoch};
use tokio::sync::watch;

use super::commands::Commands;
use super::published::Published;
use crate::state::{Tx, View, journals};

/// How long one member may take for one order.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(10);

const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// What a person has to mend is looked at less often.
const CORRUPT_RETRY: Duration = Duration::from_secs(60);

/// Failing for longer than this is worth a warning: a WAL node that restarts takes less.
const WARN_AFTER: Duration = Duration::from_secs(15);

pub struct Settler {
    published: Arc<Published>,
    commands: Commands,
    wals: Arc<dyn WalDirectory>,
    runtime: Runtime,
    term: ControllerEpoch,
    /// Attempts of this term to seal anything: each has a sealing epoch of its own.
    attempts: AtomicU64,
    /// Journals with a task, and whether they have changed since it last looked.
    running: Mutex<BTreeMap<JournalId, bool>>,
    /// Rises when a device serves again.
    devices: watch::Sender<u64>,
}

/// What a journal's members have been told by one task.
#[derive(Default)]
struct Told {
    trim: Lsn,
    gone: bool,
}

impl Settler {
    pub fn new(
        published: Arc<Published>,
        commands: Commands,
        wals: Arc<dyn WalDirectory>,
        runtime: &Runtime,
        term: ControllerEpoch,
    ) -> Arc<Self> {
        Arc::new(Self {
            published,
            commands,
            wals,
            runtime: runtime.clone(),
            term,
            attempts: AtomicU64::new(0),
            running: Mutex::default(),
            devices: watch::Sender::new(0),
        })
    }

    /// Does for this journal whatever its published record asks for, until nothing is left.
    pub fn settle(self: &Arc<Self>, journal: JournalId) {
        if let Some(changed) = self.running.lock().get_mut(&journal) {
            *changed = true;
            return;
        }
        self.running.lock().insert(journal, false);
        let settler = self.clone();
        self.runtime.tasks.spawn("settle", Policy::LOGGED_ABORT, async move {
            settler.run(journal).await;
        });
    }

    /// A device was registered anew: it may not know the newest trims, and seals may have waited for it.
    pub fn device_serves(self: &Arc<Self>, device: DeviceId) {
        self.devices.send_modify(|count| *count += 1);
        let waiting: Vec<JournalId> = self.published.read(|state| {
            journals::all(state)
                .filter(|(_, journal)| journal.ensemble.contains(&device))
                .filter(|(_, journal)| journals::is_unsettled(journal))
                .map(|(id, _)| id)
                .collect()
        });
        for journal in waiting {
            self.settle(journal);
        }
    }

    async fn run(&self, id: JournalId) {
        let mut told = Told::default();
        let mut devices = self.devices.subscribe();
        let mut retry = FIRST_RETRY;
        let mut failing_since = None;
        loop {
            let (record, version) = self
                .published
                .read(|state| (state.journal(id).cloned(), state.version()));
            let done = match &record {
                Some(journal) => self.step(id, journal, version, &mut told).await,
                None => Ok(true),
            };
            match done {
                Ok(true) if self.leave(id) => return,
                Ok(_) => {
                    retry = FIRST_RETRY;
                    failing_since = None;
                }
                Err(error) => {
                    let now = self.runtime.clock.now();
                    let since = *failing_since.get_or_insert(now);
                    tracing::debug!(journal = %id, %error, "journal can't be settled yet");
                    if now.saturating_duration_since(since) > WARN_AFTER {
                        tracing::warn!(journal = %id, %error, "journal can't be settled, still trying");
                        failing_since = None;
                    }
                    if error.kind() == Kind::Corrupt {
                        retry = CORRUPT_RETRY;
                    }
                    let pause = retry + self.runtime.random.jitter(retry);
                    let waited = self.runtime.clock.timeout(pause, devices.changed()).await;
                    retry = if waited.is_ok() {
                        FIRST_RETRY
                    } else {
                        (retry * 2).min(LAST_RETRY)
                    };
                }
            }
        }
    }

    /// Whether the task may end: nothing has changed since it looked.
    fn leave(&self, id: JournalId) -> bool {
        let mut running = self.running.lock();
        match running.get_mut(&id) {
            Some(changed) if *changed => {
                *changed = false;
                false
            }
            _ => {
                running.remove(&id);
                true
            }
        }
    }

    /// Does the next thing. Answers whether nothing is left.
    async fn step(
        &self,
        id: JournalId,
        journal: &JournalRecord,
        version: MetadataVersion,
        told: &mut Told,
    ) -> Result<bool> {
        let gone = matches!(journal.state, JournalState::Gone { .. });
        if journal.state == JournalState::Sealing {
            self.seal(id, journal).await?;
            return Ok(false);
        }
        if gone && journal.unconfirmed && !told.gone {
            self.seal_unconfirmed(id, journal).await?;
        }
        if journal.trim > told.trim || gone && !told.gone {
            self.trim(id, journal, version, gone).await?;
            *told = Told {
                trim: journal.trim,
                gone,
            };
        }
        if gone {
            let forget = move |tx: &mut Tx<'_>| {
                journals::forget(tx, id);
                Ok(())
            };
            self.commands.run("forget_journal", 0, forget).await?;
        }
        Ok(true)
    }

    /// Steps 1 to 4 of the seal. With ensembles of one, there is never anything to copy from one member to another.
    async fn seal(&self, id: JournalId, journal: &JournalRecord) -> Result<()> {
        let needed = journal.ensemble.len() + 1 - usize::from(journal.ack_quorum);
        let epoch = self.next_attempt();
        let mut asked: FuturesUnordered<_> = journal
            .ensemble
            .iter()
            .map(|&device| self.seal_member(id, device, epoch))
            .collect();
        let (mut ends, mut failure) = (Vec::new(), None);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(sealed) => ends.push(sealed.end),
                Err(error) => failure = Some(error),
            }
            if ends.len() == needed {
                break;
            }
        }
        if ends.len() < needed {
            return Err(failure.unwrap_or_else(|| unavailable("the ensemble is empty")));
        }
        let end = ends.into_iter().max().unwrap_or(Lsn::ZERO);
        let sealed = self
            .commands
            .run("seal_journal", 0, move |tx| journals::commit_seal(tx, id, end))
            .await;
        if let Err(error @ Error::Corrupt(_)) = &sealed {
            tracing::error!(journal = %id, %error, "acknowledged records may be lost: the journal stays unsealed");
        }
        sealed
    }

    /// A journal that ended at 0 without its members: one that has it open refuses to forget it before it is sealed there too.
    async fn seal_unconfirmed(&self, id: JournalId, journal: &JournalRecord) -> Result<()> {
        let epoch = self.next_attempt();
        for &device in &journal.ensemble {
            let sealed = self.seal_member(id, device, epoch).await?;
            if sealed.end > Lsn::ZERO {
                // Nobody was answered for it: its owner appends only behind a confirmation (docs/adr/0007).
                tracing::error!(journal = %id, %device, end = %sealed.end, "an unconfirmed journal has entries");
            }
        }
        Ok(())
    }

    fn next_attempt(&self) -> SealingEpoch {
        SealingEpoch {
            controller: self.term,
            attempt: self.attempts.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    async fn seal_member(&self, journal: JournalId, device: DeviceId, epoch: SealingEpoch) -> Result<SealedJournal> {
        let request = SealJournal { journal, device, epoch };
        let wal = self.member(device)?;
        self.in_time(wal.seal(request)).await
    }

    /// Tells every member how far the journal is uploaded.
    async fn trim(&self, id: JournalId, journal: &JournalRecord, version: MetadataVersion, gone: bool) -> Result<()> {
        for &device in &journal.ensemble {
            let request = TrimJournal {
                journal: id,
                device,
                to: journal.trim,
                version,
                gone,
            };
            let wal = self.member(device)?;
            self.in_time(wal.trim(request)).await?;
        }
        Ok(())
    }

    fn member(&self, device: DeviceId) -> Result<Arc<dyn Wal>> {
        let wal = self.wals.wal(device);
        wal.ok_or_else(|| unavailable(&format!("device {device} is not there")))
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = self.runtime.clock.timeout(MEMBER_TIMEOUT, call).await;
        answer.unwrap_or_else(|_| Err(unavailable("a WAL node doesn't answer")))
    }
}

fn unavailable(detail: &str) -> Error {
    Error::Unavailable {
        detail: detail.to_owned(),
        outcome: Outcome::Unknown,
    }
}
