//! Giving leaderships away in order (docs/design.md section 3, "Partition move").
//!
//! Owns: the order of it. No batch is taken any more; every append has its outcome; a snapshot slice is durable; the
//! controller is told the exact end. Does not own: which leaderships are given away and when (`data`, the controller), nor their end, which
//! comes with the metadata that names another leader (`registry`): until then they serve fetches. Invariant: once the
//! controller may have been told, the leadership takes no batch ever again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tailwater_rpc::Error;
use tailwater_rpc::controller::{CloseStream, OpenStream, is_passing};
use tailwater_runtime::clock::Instant;
use tailwater_types::{Lsn, Outcome};

use super::{AppendError, Partition, Partitions};
use crate::journal::{Journal, NoCredit};
use crate::session::Session;

/// How long, from when a leadership takes no more batches, these wait until another leader is known: so a client's first look
/// at the metadata finds it.
const MOVED_WAIT: Duration = Duration::from_millis(300);
/// How often it is looked whether what is in flight has been committed.
const LOOK: Duration = Duration::from_millis(2);
/// Streams that one call gives away.
const CLOSE_AT_ONCE: usize = 256;
/// How long one call to the controller may take before it is made again.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const REPEAT_FIRST: Duration = Duration::from_millis(20);
const REPEAT_MAX: Duration = Duration::from_millis(500);

impl Partition {
    /// Whether the leadership is being given away, or has been: it takes no batches.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Takes no more batches. Answers whether it did until now.
    fn stop_intake(&self) -> bool {
        let mut state = self.state.lock();
        if self.has_ended() || self.is_closing() {
            return false;
        }
        state.closing_since = Some(self.services.clock.now());
        self.closing.store(true, Ordering::Release);
        true
    }

    /// Takes batches again: nobody was told that it wouldn't.
    fn resume(&self) {
        let mut state = self.state.lock();
        state.closing_since = None;
        self.closing.store(false, Ordering::Release);
        drop(state);
        self.intake.notify_waiters();
    }

    /// Waits for a moment while the leadership is being given away.
    ///
    /// # Errors
    /// [`AppendError::NotLeader`] once there is another leader, or none was known in time.
    pub(super) async fn taking(&self, deadline: Instant) -> Result<(), AppendError> {
        while self.is_closing() {
            let changed = self.intake.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let since = self.state.lock().closing_since;
            if self.has_ended() {
                return Err(AppendError::NotLeader);
            }
            let Some(since) = since else { continue };
            let until = deadline.min(since + MOVED_WAIT);
            let waited = self.services.clock.timeout_at(until, changed).await;
            waited.map_err(|_elapsed| AppendError::NotLeader)?;
        }
        Ok(())
    }

    /// Whether every append has its outcome.
    fn is_quiet(&self) -> bool {
        self.has_ended() || self.log_end() == self.high_watermark()
    }

    /// Writes the state down where the leadership ends.
    async fn append_last_snapshot(self: &Arc<Self>, deadline: Instant) -> Result<(), AppendError> {
        let length = {
            let state = self.state.lock();
            if state.since_snapshot_bytes == 0 {
                return Ok(());
            }
            state.log.max_snapshot_bytes()
        };
        let credit = match self.journal.reserve(length, deadline).await {
            Ok(credit) => credit,
            // The device will never take it: the next leader reads what lies in front of it.
            Err(NoCredit::TooLarge) => return Ok(()),
            Err(none) => return Err(AppendError::of(none, length)),
        };
        let mut state = self.state.lock();
        if self.has_ended() {
            return Err(AppendError::NotLeader);
        }
        self.append_snapshot(&mut state, credit);
        Ok(())
    }

    fn close_request(&self, journal_end: Lsn) -> CloseStream {
        CloseStream {
            stream: self.stream,
            leader_epoch: self.leader_epoch,
            end: self.log_end(),
            journal: self.journal.id(),
            journal_end,
        }
    }
}

impl Partitions {
    /// Gives away what the controller asks for, so that another frontend gets its share; runs until its task is dropped.
    pub async fn give_asked(self) {
        let mut asked = self.session().asked();
        while asked.changed().await.is_ok() {
            let streams = asked.borrow_and_update().clone();
            let is_asked = |partition: &Arc<Partition>| {
                let (stream, leader_epoch) = (partition.stream, partition.leader_epoch);
                streams.contains(&OpenStream { stream, leader_epoch })
            };
            let mut asked_of = self.taking();
            asked_of.retain(is_asked);
            let Some(journal) = asked_of.first().map(|partition| partition.journal.clone()) else {
                continue;
            };
            // Batches wait that long for another leader, and are refused then: so not while the WAL is slow. The controller asks
            // again.
            let in_time = || self.session().clock().now() + MOVED_WAIT;
            if durable(&journal, journal.end(), self.session(), in_time()).await {
                tracing::info!(partitions = asked_of.len(), "giving away what the controller asks for");
                self.close(&asked_of, in_time()).await;
            }
        }
    }

    /// Gives away everything that is led here, if there is anybody to take it. What can't be until `deadline` stays.
    pub async fn close_all(&self, deadline: Instant) {
        for partitions in self.taking().chunks(CLOSE_AT_ONCE) {
            self.close(partitions, deadline).await;
        }
    }

    /// Gives these leaderships away. If it can't begin to before `deadline`, they go on as if nothing had been; but once the
    /// controller may know of it, it is asked until it says what has become of them.
    pub async fn close(&self, partitions: &[Arc<Partition>], deadline: Instant) {
        let closing: Vec<_> = partitions
            .iter()
            .filter(|partition| partition.stop_intake())
            .cloned()
            .collect();
        // Coordinators over them resign.
        self.changed();
        let Some(journal) = closing.first().map(|partition| partition.journal.clone()) else {
            return;
        };
        let mut ready = Vec::with_capacity(closing.len());
        for partition in closing {
            match quiet(&partition, &journal, deadline).await {
                Ok(()) => ready.push(partition),
                Err(error) => {
                    tracing::debug!(stream = %partition.stream, %error, "not given away yet");
                    partition.resume();
                }
            }
        }
        let end = journal.end();
        let requests: Vec<_> = ready.iter().map(|partition| partition.close_request(end)).collect();
        let told = match durable(&journal, end, self.session(), deadline).await {
            true => report(self.session(), &requests, deadline).await,
            false => None,
        };
        match told {
            Some(answers) => ready
                .iter()
                .zip(answers)
                .for_each(|(partition, answer)| closed(partition, answer)),
            // Nobody has heard of it.
            None => ready.iter().for_each(|partition| partition.resume()),
        }
        self.changed();
    }
}

/// Waits until everything appended is committed, and appends the snapshot behind it.
async fn quiet(partition: &Arc<Partition>, journal: &Arc<Journal>, deadline: Instant) -> Result<(), AppendError> {
    let clock = &partition.services.clock;
    while !partition.is_quiet() {
        if clock.now() >= deadline {
            return Err(AppendError::TimedOut);
        }
        clock.sleep(LOOK).await;
    }
    if partition.has_ended() || !Arc::ptr_eq(&partition.journal, journal) {
        return Err(AppendError::NotLeader);
    }
    partition.append_last_snapshot(deadline).await
}

/// Waits until everything below `end` is durable; false if it won't be, or not in time.
async fn durable(journal: &Journal, end: Lsn, session: &Session, deadline: Instant) -> bool {
    let clock = session.clock();
    loop {
        match journal.durable() {
            Some(durable) if durable >= end => return true,
            Some(_) if clock.now() < deadline => clock.sleep(LOOK).await,
            _ => return false,
        }
    }
}

/// Tells the controller, until it is known what became of it. `None`: it is known that nothing has happened.
async fn report(session: &Session, requests: &[CloseStream], deadline: Instant) -> Option<Vec<Result<(), Error>>> {
    let mut repeat = session.backoff(REPEAT_FIRST, REPEAT_MAX);
    let mut may_have_happened = false;
    loop {
        let call = session
            .controller()
            .journals
            .close_streams(session.caller(), requests.to_vec());
        let answer = session.clock().timeout(CALL_TIMEOUT, call).await;
        let error = match answer {
            Ok(Ok(answers)) => return Some(answers),
            Ok(Err(error)) => error,
            Err(_elapsed) => Error::Unavailable {
                detail: "the controller doesn't answer".to_owned(),
                outcome: Outcome::Unknown,
            },
        };
        session.judge(&error);
        may_have_happened |= error.outcome() == Outcome::Unknown;
        let gives_up = !is_passing(&error) || session.clock().now() >= deadline;
        if gives_up && !may_have_happened {
            tracing::debug!(%error, "leaderships can't be given away");
            return None;
        }
        tracing::debug!(%error, "the controller is told again which leaderships were given away");
        repeat.wait().await;
    }
}

/// What has become of one leadership that the controller was told of.
fn closed(partition: &Partition, answer: Result<(), Error>) {
    match answer {
        Ok(()) => partition.services.metrics.closed.inc(),
        // It is over for another reason, which the metadata or the journal's end will tell.
        Err(Error::StreamFenced { .. } | Error::JournalFenced { .. } | Error::NotFound(_)) => {}
        Err(error) => {
            tracing::error!(stream = %partition.stream, %error, "the controller doesn't take a partition back");
            partition.resume();
        }
    }
}

#[cfg(test)]
mod tests;
