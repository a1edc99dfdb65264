//! The open journal: takes slices, sends entries, and tells partitions what has been committed.
//!
//! Owns: the append stream, its credit, and attaching to it again after the WAL went away. Does not own: offsets
//! (`partition`), nor what follows when the journal has ended (`keeper`). Invariants: slices go out in the order in which
//! they were appended; nothing is sent without credit, and credit is held before an offset is assigned, so that an
//! append either commits or the leadership ends.

mod keeper;
mod room;
mod writer;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tailwater_format::entry::{Slice, encoded_bytes};
use tailwater_rpc::Error;
use tailwater_rpc::controller::JournalGrant;
use tailwater_rpc::wal::{AppendSender, AppendState, AppendStream, OpenJournal, WalDirectory};
use tailwater_runtime::clock::Instant;
use tailwater_runtime::telemetry::IntGauge;
use tailwater_types::{DeviceId, JournalId, Kind, Lsn, Offset};
use tokio::sync::{Notify, Semaphore, TryAcquireError, watch};

use crate::metrics::JournalMetrics;
use crate::partition::Partition;
use crate::session::Session;
use room::{LONG_WAIT, Room};
use writer::{Cut, Limits, Writer, units_of};

pub(crate) use keeper::{Current, Keeper};

const REATTACH_FIRST: Duration = Duration::from_millis(20);
const REATTACH_MAX: Duration = Duration::from_secs(1);

/// What is told of a slice once it is committed: the partition, and the end of what it has.
type Tag = (Arc<Partition>, Offset);

/// One journal of this node, from its opening to its end.
pub struct Journal {
    id: JournalId,
    open: OpenJournal,
    session: Session,
    wals: Arc<dyn WalDirectory>,
    /// The largest entry that the device gives credit for, as of the newest attachment.
    max_entry_bytes: AtomicUsize,
    /// Units of credit that nobody holds; waiters are served in order.
    credit: Semaphore,
    state: Mutex<State>,
    /// Told when an entry was refused.
    refused: Notify,
    metrics: JournalMetrics,
    room: Arc<Room>,
}

struct State {
    writer: Writer<Tag>,
    /// `None` while detached: what is appended waits for the next attachment.
    sender: Option<Box<dyn AppendSender>>,
    /// Why the WAL took an entry no more; whoever runs the journal takes it from here.
    refused: Option<Error>,
    /// Once set, nothing more is committed through this journal.
    ended: bool,
}

/// Credit for one slice. Given back when dropped.
pub struct Reservation {
    journal: Arc<Journal>,
    units: u32,
}

/// Why there is no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCredit {
    /// None came free in time: nothing has happened, and a repeat may succeed.
    TimedOut,
    /// The journal has ended.
    Ended,
    /// The device never gives so much at once: whoever waited for it would wait for ever, and all behind it too.
    TooLarge,
}

impl Journal {
    /// Opens the journal of `grant` at its device. If the controller wants to hear of that, nothing is appended before it has
    /// (docs/adr/0007).
    ///
    /// # Errors
    /// As [`tailwater_rpc::wal::Wal::open_journal`]; [`Error::Unavailable`] while no node has the device;
    /// [`Error::JournalFenced`] if the controller has given the journal up meanwhile.
    async fn open(
        grant: JournalGrant,
        limits: Limits,
        session: Session,
        wals: Arc<dyn WalDirectory>,
        metrics: JournalMetrics,
        room: Arc<Room>,
    ) -> Result<(Arc<Self>, watch::Receiver<AppendState>), Error> {
        let [device] = grant.ensemble[..] else {
            let found = grant.ensemble.len();
            return Err(Error::Invalid(format!("an ensemble of {found} devices instead of 1")));
        };
        let open = OpenJournal {
            journal: grant.journal,
            device,
            node: session.node(),
            node_epoch: session.node_epoch(),
            ensemble: grant.ensemble,
            ack_quorum: grant.ack_quorum,
            min_leader_epochs: grant.min_leader_epochs,
        };
        let stream = attach(&*wals, &open).await?;
        if grant.unconfirmed {
            session.confirm_journal(open.journal).await?;
        }
        let AppendStream {
            next,
            sender,
            state: progress,
        } = stream;
        let max_entry_bytes = AtomicUsize::new(sender.max_entry_bytes());
        let writer = Writer::new(open.journal, next, limits);
        let state = State {
            writer,
            sender: Some(sender),
            refused: None,
            ended: false,
        };
        let journal = Self {
            id: open.journal,
            open,
            session,
            wals,
            max_entry_bytes,
            credit: Semaphore::new(0),
            state: Mutex::new(state),
            refused: Notify::new(),
            metrics,
            room,
        };
        journal.advance(&progress.borrow());
        Ok((Arc::new(journal), progress))
    }

    pub fn id(&self) -> JournalId {
        self.id
    }

    pub fn device(&self) -> DeviceId {
        self.open.device
    }

    /// Holds credit for a slice of `bytes`, waiting for it in turn until `deadline`. Cancellation-safe.
    ///
    /// # Errors
    /// [`NoCredit`].
    pub async fn reserve(self: &Arc<Self>, bytes: usize, deadline: Instant) -> Result<Reservation, NoCredit> {
        if let Some(reservation) = self.try_reserve(bytes)? {
            self.room.is_there();
            return Ok(reservation);
        }
        self.metrics.credit_waits.inc();
        let units = units_of(bytes) as u32;
        let clock = self.session.clock();
        let waiting = Waiting::new(&self.metrics.appends_waiting);
        let mut long_at = clock.now() + LONG_WAIT;
        let mut acquire = pin!(self.credit.acquire_many(units));
        let mut is_long = false;
        let acquired = loop {
            match clock.timeout_at(deadline.min(long_at), &mut acquire).await {
                Ok(acquired) => break acquired,
                Err(_elapsed) if deadline <= long_at => return Err(NoCredit::TimedOut),
                Err(_elapsed) => {
                    is_long = true;
                    long_at += LONG_WAIT;
                    // While detached it isn't room that is wanting.
                    if self.state.lock().sender.is_some() {
                        self.room.is_lacking(clock.now(), self.metrics.appends_waiting.get());
                    }
                }
            }
        };
        acquired.map_err(|_closed| NoCredit::Ended)?.forget();
        drop(waiting);
        if !is_long || self.metrics.appends_waiting.get() == 0 {
            self.room.is_there();
        }
        Ok(self.reservation(units))
    }

    /// As [`Journal::reserve`], without waiting and without overtaking a waiter.
    ///
    /// # Errors
    /// [`NoCredit::Ended`], [`NoCredit::TooLarge`].
    pub fn try_reserve(self: &Arc<Self>, bytes: usize) -> Result<Option<Reservation>, NoCredit> {
        if encoded_bytes(1, bytes) > self.max_entry_bytes.load(Ordering::Relaxed) {
            return Err(NoCredit::TooLarge);
        }
        // A batch has less than 2 GiB.
        let units = units_of(bytes) as u32;
        match self.credit.try_acquire_many(units) {
            Ok(permit) => {
                permit.forget();
                Ok(Some(self.reservation(units)))
            }
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(NoCredit::Ended),
        }
    }

    /// Appends a slice with the credit that was reserved for its bytes. When it is committed `partition` is told that
    /// everything below `end` is. If the journal has ended, or does before that, the partition's leadership ends instead.
    ///
    /// To be called in the order of the partition's offsets, so under its lock. Sends inline where it can.
    pub fn append(&self, slice: Slice, partition: Arc<Partition>, end: Offset, credit: Reservation) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        if let Some(cut) = state.writer.cut_before(slice.bytes.len()) {
            self.take_in(&state, &cut);
        }
        state.writer.push(slice, (partition, end), u64::from(credit.spend()));
        self.send_ready(&mut state);
    }

    /// Carries the journal on to its end: commits what becomes durable, attaches again when the WAL has gone away. Answers
    /// why it ended; from then on every append is dropped.
    async fn run(self: &Arc<Self>, mut progress: watch::Receiver<AppendState>) -> Error {
        let mut retry = self.session.backoff(REATTACH_FIRST, REATTACH_MAX);
        loop {
            let lost = self.run_attached(&mut progress).await;
            if !is_passing(&lost) {
                return self.finish(lost);
            }
            tracing::info!(journal = %self.id, error = %lost, "the WAL went away, attaching again");
            retry.reset();
            progress = loop {
                match self.reattach().await {
                    Ok(again) => break again,
                    Err(error) if is_passing(&error) => retry.wait().await,
                    Err(error) => return self.finish(error),
                }
            };
        }
    }

    /// Follows one attachment until it is lost, and answers why.
    async fn run_attached(&self, progress: &mut watch::Receiver<AppendState>) -> Error {
        loop {
            let seen = progress.borrow_and_update().clone();
            self.advance(&seen);
            if let Some(error) = seen.failed {
                return self.detach(error);
            }
            tokio::select! {
                biased;
                () = self.refused.notified() => {
                    let refused = self.state.lock().refused.take();
                    if let Some(error) = refused {
                        return error;
                    }
                }
                changed = progress.changed() => {
                    if changed.is_err() {
                        return self.detach(gone());
                    }
                }
            }
        }
    }

    fn detach(&self, error: Error) -> Error {
        let mut state = self.state.lock();
        state.sender = None;
        state.refused = None;
        error
    }

    /// Takes over what the WAL has told.
    fn advance(&self, seen: &AppendState) {
        let mut committed = Vec::new();
        let mut state = self.state.lock();
        state.writer.acked(seen.durable, |tag| committed.push(tag));
        let granted = state.writer.grant(seen.credit_limit);
        self.credit.add_permits(granted as usize);
        self.send_ready(&mut state);
        drop(state);
        // Outside this journal's lock: a partition appends under its own.
        for (partition, end) in committed {
            partition.committed(end);
        }
    }

    async fn reattach(&self) -> Result<watch::Receiver<AppendState>, Error> {
        let stream = attach(&*self.wals, &self.open).await?;
        self.max_entry_bytes
            .store(stream.sender.max_entry_bytes(), Ordering::Relaxed);
        let mut state = self.state.lock();
        let free = self.credit.forget_permits(Semaphore::MAX_PERMITS) as u64;
        if let Err(commit) = state.writer.reattach(stream.next, free) {
            let (id, next) = (self.id, stream.next);
            return Err(Error::Corrupt(format!(
                "journal {id} goes on at LSN {next}, but everything below {commit} was durable"
            )));
        }
        // What is in flight from there on goes out again as the stream's credit allows ([`Journal::advance`]).
        state.sender = Some(stream.sender);
        Ok(stream.state)
    }

    /// Cuts what is ready, and sends what the stream's credit allows.
    fn send_ready(&self, state: &mut State) {
        if state.sender.is_none() {
            // What is in flight goes out with the next attachment, and what is pending behind it.
            return;
        }
        if let Some(cut) = state.writer.cut_ready() {
            self.take_in(state, &cut);
        }
        while let Some(sender) = &state.sender
            && let Some(entry) = state.writer.take_unsent()
        {
            let commit = state.writer.commit();
            if let Err(error) = sender.send(entry, commit) {
                state.sender = None;
                state.refused = Some(error);
                self.refused.notify_one();
            }
        }
    }

    fn take_in(&self, state: &State, cut: &Cut) {
        self.credit.add_permits(cut.spare_units as usize);
        self.metrics.entries.inc();
        self.metrics.entry_bytes.observe(cut.encoded_bytes as f64);
        self.metrics.in_flight_bytes.set(state.writer.in_flight_bytes() as i64);
    }

    fn reservation(self: &Arc<Self>, units: u32) -> Reservation {
        Reservation {
            journal: self.clone(),
            units,
        }
    }

    /// From now on nothing is appended and nobody waits for credit.
    fn finish(&self, error: Error) -> Error {
        self.credit.close();
        let mut state = self.state.lock();
        state.ended = true;
        state.sender = None;
        state.writer.clear();
        error
    }

    /// An LSN above everything that was appended so far.
    pub(crate) fn end(&self) -> Lsn {
        self.state.lock().writer.end()
    }

    /// Everything below is durable; `None` once the journal has ended.
    pub(crate) fn durable(&self) -> Option<Lsn> {
        let state = self.state.lock();
        (!state.ended).then(|| state.writer.commit())
    }

    /// Whether everything that was appended is committed.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.ended || state.writer.is_idle()
    }
}

impl Reservation {
    fn spend(mut self) -> u32 {
        std::mem::take(&mut self.units)
    }
}

/// Counts an append that waits, until it is dropped.
struct Waiting<'a>(&'a IntGauge);

impl<'a> Waiting<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.journal.credit.add_permits(self.units as usize);
    }
}

async fn attach(wals: &dyn WalDirectory, open: &OpenJournal) -> Result<AppendStream, Error> {
    let wal = wals.wal(open.device).ok_or_else(gone)?;
    wal.open_journal(open.clone()).await
}

fn gone() -> Error {
    Error::Unavailable {
        detail: "no WAL node with the journal's device is reachable".to_owned(),
        outcome: tailwater_types::Outcome::Unknown,
    }
}

/// Whether attaching again may go on where this left off.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Shutdown)
}
