//! The upload of one journal: watch, read, plan, put, commit, and again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tailwater_format::entry::Entry;
use tailwater_rpc::controller::{CommitObjects, CommitSource, CommittedObject, Lease, LeaseRef, Work};
use tailwater_rpc::wal::{JournalStatus, ReadJournal, Wal, WalStatus};
use tailwater_runtime::clock::Instant;
use tailwater_runtime::{Backoff, CancellationToken};
use tailwater_types::{DeviceId, JournalId, Kind, Lsn, LsnRange, ObjectId};
use tokio::sync::watch;

use super::plan::{self, Plan};
use super::shared::{Put, PutFailed, Uploads};
use super::trigger::{Due, Progress, due};
use crate::error::may_repeat;
use crate::{Error, lease};

/// Prepared objects of failed attempts that the next commit names; the ones beyond expire by themselves.
const MAX_ABANDONED: usize = 16;

/// Why the upload of a journal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The journal is sealed, and all of it is in objects.
    Finished,
    LeaseLost,
    /// This process stops, or can't do it: somebody else may.
    Stopped,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle(Duration),
    Uploaded,
    Waiting,
    Finished,
}

/// Uploads the journal of this lease until it has ended, the lease is lost, or the process stops. A stop lets the run
/// that is on its way finish within `shutdown_grace`; the lease is given back then.
pub(crate) async fn run(uploads: Arc<Uploads>, lease: Lease) {
    let (session, held) = (&uploads.session, lease.lease);
    let stop = session.runtime().tasks.token();
    let end = match Task::of(&lease.work) {
        Ok(task) => {
            let upload = |work| JournalUpload::new(&uploads, held, task, work).run(stop.clone());
            tokio::select! {
                biased;
                end = lease::hold(session, lease, upload) => end.unwrap_or(End::LeaseLost),
                () = grace_is_over(&uploads, &stop) => End::Stopped,
            }
        }
        Err(error) => {
            tracing::error!(%error, task = %held.task, "task is given back");
            End::Stopped
        }
    };
    tracing::debug!(task = %held.task, ?end, "upload of a journal ended");
    if end == End::Stopped
        && let Err(error) = lease::release(session, held, false).await
    {
        tracing::debug!(%error, "lease was not given back: it runs out");
    }
}

async fn grace_is_over(uploads: &Uploads, stop: &CancellationToken) {
    stop.cancelled().await;
    uploads.clock().sleep(uploads.config.shutdown_grace.as_duration()).await;
}

/// One journal's upload while its lease is held.
struct JournalUpload<'a> {
    uploads: &'a Uploads,
    lease: LeaseRef,
    work: watch::Receiver<Work>,
    task: Task,
    /// The first entry that isn't in a committed object.
    next: Lsn,
    last_commit: Instant,
    /// Prepared for attempts that failed.
    abandoned: Vec<ObjectId>,
    retry: Backoff,
}

/// What is to be uploaded, as the controller last said.
#[derive(Clone, Debug)]
struct Task {
    journal: JournalId,
    ensemble: Vec<DeviceId>,
    trim: Lsn,
    sealed_end: Option<Lsn>,
}

impl Task {
    fn of(work: &Work) -> Result<Self, Error> {
        match work.clone() {
            Work::Upload {
                journal,
                ensemble,
                trim,
                sealed_end,
            } => Ok(Self {
                journal,
                ensemble,
                trim,
                sealed_end,
            }),
            Work::Delete { .. } | Work::Clean { .. } => {
                Err(tailwater_rpc::Error::Invalid("an upload's task is another one".to_owned()).into())
            }
        }
    }
}

impl<'a> JournalUpload<'a> {
    fn new(uploads: &'a Uploads, lease: LeaseRef, task: Task, work: watch::Receiver<Work>) -> Self {
        Self {
            uploads,
            lease,
            work,
            next: task.trim,
            task,
            last_commit: uploads.clock().now(),
            abandoned: Vec::new(),
            retry: uploads.session.backoff(),
        }
    }

    async fn run(mut self, stop: CancellationToken) -> End {
        loop {
            let pause = match self.step().await {
                Ok(Step::Finished) => return End::Finished,
                Ok(Step::Uploaded) => Duration::ZERO,
                Ok(Step::Idle(pause)) => pause,
                Ok(Step::Waiting) => self.uploads.config.poll_interval.as_duration(),
                Err(error) if error.is_lease_lost() => return End::LeaseLost,
                Err(error) => self.failed(&error),
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                Ok(()) = self.work.changed() => {}
                () = self.uploads.clock().sleep(pause) => {}
            }
        }
    }

    /// Looks once, and uploads a run of entries if that is due.
    async fn step(&mut self) -> Result<Step, Error> {
        let task = Task::of(&self.work.borrow_and_update())?;
        self.learn(task);
        if self.task.sealed_end == Some(self.next) {
            return self.finish().await;
        }
        let (wal, status) = self.status().await?;
        let journal = status
            .journals
            .iter()
            .find(|journal| journal.journal == self.task.journal);
        if let Some(journal) = journal
            && journal.sealed
            && self.task.sealed_end.is_none()
        {
            // Its end is a matter of the controller; a renewal would bring it, but later.
            let caller = self.uploads.session.caller();
            let renewed = self.uploads.controller().tasks.renew(caller, self.lease).await?;
            self.learn(Task::of(&renewed)?);
        }
        self.uploads.metrics.lag.observe(&status);
        let progress = Progress {
            next: self.next,
            end: self.end(journal),
            sealed: self.task.sealed_end.is_some(),
            since_last_commit: self.uploads.clock().now() - self.last_commit,
        };
        let config = &self.uploads.config;
        match due(config, progress, &status, journal) {
            Due::Nothing => Ok(Step::Idle(config.idle_poll_interval.as_duration())),
            Due::NotYet => Ok(Step::Idle(config.poll_interval.as_duration())),
            Due::Now => {
                let bytes = journal.map_or(u64::MAX, |journal| journal.bytes);
                self.upload(wal.as_ref(), status.device, progress.end, bytes).await
            }
        }
    }

    fn learn(&mut self, task: Task) {
        self.next = self.next.max(task.trim);
        // An older description may come behind a newer one; a journal's end never changes.
        let sealed_end = task.sealed_end.or(self.task.sealed_end);
        self.task = Task { sealed_end, ..task };
    }

    /// How far entries are committed.
    fn end(&self, journal: Option<&JournalStatus>) -> Lsn {
        let Some(journal) = journal else {
            return self.task.sealed_end.unwrap_or(self.next);
        };
        // What the only member has is committed. One of several learns that with a later append.
        let committed = if self.task.ensemble.len() == 1 {
            journal.durable
        } else {
            journal.commit
        };
        self.task.sealed_end.unwrap_or(committed)
    }

    /// The first member that answers.
    async fn status(&self) -> Result<(Arc<dyn Wal>, WalStatus), Error> {
        let mut failure = Error::NoMember {
            journal: self.task.journal,
        };
        for device in &self.task.ensemble {
            let Some(wal) = self.uploads.wals.wal(*device) else {
                continue;
            };
            match wal.status().await {
                Ok(status) if status.device == *device => return Ok((wal, status)),
                Ok(_) => {}
                Err(error) => failure = error.into(),
            }
        }
        Err(failure)
    }

    async fn upload(&mut self, wal: &dyn Wal, device: DeviceId, end: Lsn, bytes: u64) -> Result<Step, Error> {
        let uploads = self.uploads;
        let begin = uploads.clock().now();
        let permit = uploads.permits.acquire(bytes.min(uploads.config.batch_bytes.0)).await;
        let entries = self.read(wal, device, LsnRange::new(self.next, end)).await?;
        let streams = plan::streams(&entries);
        let states = uploads
            .states
            .load(uploads.controller().objects.stream_uploads(streams).await?)
            .await?;
        let now_ms = uploads.clock().wall_ms();
        let Plan {
            lsns,
            entry_bytes,
            mut streams,
            waits_for,
        } = plan::plan(self.next, &entries, states, now_ms)?;
        drop(entries);
        if lsns.is_empty() {
            tracing::debug!(journal = %self.task.journal, stream = ?waits_for, "waits for another journal's upload");
            uploads.metrics.attempts.with_label_values(&["waiting"]).inc();
            return Ok(Step::Waiting);
        }
        let expired_ms = now_ms.saturating_sub_unsigned(uploads.config.producer_expiration.0);
        for part in &mut streams {
            part.state.expire_producers(expired_ms);
        }
        let put = uploads.put(self.lease, streams, permit).await;
        let Put { objects, states } = put.map_err(|PutFailed { error, prepared }| {
            self.abandon(prepared);
            error
        })?;
        let object_bytes = objects.iter().map(|object| object.size_bytes).sum();
        uploads.metrics.objects.inc_by(objects.len() as u64);
        self.commit(lsns, objects).await?;
        for (stream, state) in states {
            uploads.states.keep(stream, state);
        }
        uploads.metrics.lag.committed(self.task.journal, lsns.end, entry_bytes);
        self.retry.reset();
        uploads.metrics.attempts.with_label_values(&["ok"]).inc();
        uploads.metrics.bytes.inc_by(object_bytes);
        uploads
            .metrics
            .seconds
            .observe((self.last_commit - begin).as_secs_f64());
        tracing::debug!(journal = %self.task.journal, %lsns, object_bytes, "uploaded");
        Ok(if self.task.sealed_end == Some(self.next) {
            uploads.metrics.lag.finished(self.task.journal);
            Step::Finished
        } else {
            Step::Uploaded
        })
    }

    /// Entries from the start of `range`, at least one, up to `batch_bytes`.
    async fn read(&self, wal: &dyn Wal, device: DeviceId, range: LsnRange) -> Result<Vec<Entry>, Error> {
        let journal = self.task.journal;
        let mut stream = wal.read_journal(ReadJournal { journal, device, range }).await?;
        let (mut entries, mut expected, mut bytes) = (Vec::new(), range.start, 0);
        while let Some(entry) = stream.next().await {
            let entry = entry?;
            if entry.lsn() != expected || entry.header().journal != journal {
                return Err(Error::WrongEntry {
                    journal,
                    expected,
                    found: entry.lsn(),
                });
            }
            bytes += entry.encoded_bytes() as u64;
            if bytes > self.uploads.config.batch_bytes.0 && !entries.is_empty() {
                break;
            }
            expected = expected.next();
            entries.push(entry);
            if expected >= range.end {
                break;
            }
        }
        if entries.is_empty() {
            return Err(Error::NoEntries { journal, range });
        }
        Ok(entries)
    }

    /// Commits, as often as it takes to know whether it happened.
    async fn commit(&mut self, lsns: LsnRange, objects: Vec<CommittedObject>) -> Result<(), Error> {
        let (session, clock) = (&self.uploads.session, self.uploads.clock());
        let request = CommitObjects {
            lease: self.lease,
            source: CommitSource::Journals(vec![(self.task.journal, lsns)]),
            objects,
            abandoned: std::mem::take(&mut self.abandoned),
        };
        let mut retry = session.backoff();
        let refused = loop {
            let objects = &session.controller().objects;
            match objects.commit_objects(session.caller(), request.clone()).await {
                Ok(_) => {
                    self.next = lsns.end;
                    self.last_commit = clock.now();
                    return Ok(());
                }
                Err(error) if may_repeat(&error) => {
                    tracing::debug!(%error, journal = %self.task.journal, "commit is repeated");
                    retry.wait().await;
                }
                Err(error) => break error,
            }
        };
        self.abandon(request.abandoned);
        self.abandon(request.objects.iter().map(|object| object.object));
        if let tailwater_rpc::Error::OffsetNotMatched { journal, trim } = refused
            && journal == self.task.journal
        {
            self.next = trim;
        }
        Err(refused.into())
    }

    /// Tells the controller that a sealed journal has nothing (more) to upload.
    async fn finish(&mut self) -> Result<Step, Error> {
        self.commit(LsnRange::new(self.next, self.next), Vec::new()).await?;
        self.uploads.metrics.lag.finished(self.task.journal);
        Ok(Step::Finished)
    }

    fn abandon(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        let room = MAX_ABANDONED.saturating_sub(self.abandoned.len());
        self.abandoned.extend(objects.into_iter().take(room));
    }

    /// Reports a failure; answers how long to wait.
    fn failed(&mut self, error: &Error) -> Duration {
        let pause = self.retry.next_pause();
        self.uploads.metrics.attempts.with_label_values(&["failed"]).inc();
        let (journal, failures) = (self.task.journal, self.retry.failures());
        if needs_a_person(error) {
            tracing::error!(%journal, failures, %error, "journal can't be uploaded");
        } else {
            tracing::warn!(%journal, failures, %error, "upload failed, it will be tried again");
        }
        pause
    }
}

/// Trying again doesn't mend it, whatever the store or the WAL does meanwhile.
fn needs_a_person(error: &Error) -> bool {
    error.kind() == Kind::Corrupt || matches!(error, Error::Store(error) if error.kind() == Kind::Invalid)
}
