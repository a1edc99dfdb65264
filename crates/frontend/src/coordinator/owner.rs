//! The one task that owns the coordinators of one partition of an internal topic, for one leadership of it.
//!
//! Owns: the replay, the order of requests, their records on the way into the log, answers, and jobs. Does not own: what
//! requests mean (the machine), which partitions there are (`host.rs`). Keeps invariant 10: nothing is answered before the
//! replay has reached the end found at opening, and no decision before its record is committed. When the leadership ends,
//! everything that waits is told to look for another coordinator.
//!
//! Requests that are there together are handled together, and their records leave as one batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, FuturesUnordered};
use tailwater_kafka::batch::{BatchBuilder, BatchHeader};
use tailwater_kafka::{ErrorCode, batch};
use tailwater_log::{Guard, Refusal};
use tailwater_runtime::clock::{Clock, Instant};
use tailwater_runtime::telemetry::IntGauge;
use tokio::sync::{mpsc, oneshot};

use super::machine::{Form, InTransaction, KeyValue, Machine, Now, Turn, Waiter};
use super::replay::replay;
use crate::error_codes;
use crate::partition::{Append, AppendError, Appended, LeadershipEnded, Partition};

/// Requests that wait for the owner. Their bytes count in the server's request memory until they are answered.
const MAX_QUEUED: usize = 1024;
/// Batches that are on their way at the same time.
const MAX_BATCHES_IN_FLIGHT: usize = 16;
/// Records of several requests share a batch up to here.
const BATCH_BYTES: usize = 256 << 10;
/// How long the records of a turn wait for the WAL's credit (Kafka's `offsets.commit.timeout.ms`).
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A replay that takes longer is told: clients wait for it.
const SLOW_LOAD: Duration = Duration::from_secs(1);

/// What Kafka answers if records are too many for a batch; its clients take it for final.
const TOO_LARGE: ErrorCode = ErrorCode::UnknownServerError;

/// One request about an id, and where its reply goes.
pub(crate) struct Command<M: Machine> {
    pub id: String,
    pub request: M::Request,
    pub reply: oneshot::Sender<M::Reply>,
}

/// What others see of an owner.
pub(crate) struct OwnerHandle<M: Machine> {
    pub partition: Arc<Partition>,
    pub commands: mpsc::Sender<Command<M>>,
    loaded: Arc<AtomicBool>,
}

impl<M: Machine> OwnerHandle<M> {
    pub fn stage(&self) -> Stage {
        match (self.commands.is_closed(), self.loaded.load(Ordering::Acquire)) {
            (true, _) => Stage::Ended,
            (false, false) => Stage::Loading,
            (false, true) => Stage::Serving,
        }
    }

    /// Whether it has ended although its leadership goes on: its log couldn't be read, or it panicked.
    pub fn has_failed(&self) -> bool {
        self.stage() == Stage::Ended && !self.partition.has_ended()
    }
}

/// How far an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Loading,
    Serving,
    Ended,
}

pub(crate) struct Owner<M: Machine> {
    machine: M,
    partition: Arc<Partition>,
    /// The topic's `max.message.bytes`.
    max_batch_bytes: usize,
    commands: mpsc::Receiver<Command<M>>,
    /// Nobody can ask any more.
    closed: bool,
    loaded: Arc<AtomicBool>,
    /// Owners that haven't read their log yet.
    loading: IntGauge,
    clock: Clock,
    next_waiter: u64,
    waiting: BTreeMap<Waiter, oneshot::Sender<M::Reply>>,
    in_flight: FuturesOrdered<BoxFuture<'static, Committed<M::Write>>>,
    jobs: FuturesUnordered<BoxFuture<'static, M::Event>>,
}

/// The outcome of one batch.
struct Committed<W> {
    writes: Vec<W>,
    result: Result<(), LeadershipEnded>,
}

/// The leadership is over, so this owner is.
struct Resigned;

impl<M: Machine> Owner<M> {
    pub fn new(
        machine: M,
        partition: Arc<Partition>,
        max_batch_bytes: usize,
        loading: IntGauge,
        clock: Clock,
    ) -> (Self, OwnerHandle<M>) {
        let (sender, commands) = mpsc::channel(MAX_QUEUED);
        let loaded = Arc::new(AtomicBool::new(false));
        let handle = OwnerHandle {
            partition: partition.clone(),
            commands: sender,
            loaded: loaded.clone(),
        };
        let owner = Self {
            machine,
            partition,
            max_batch_bytes,
            commands,
            closed: false,
            loaded,
            loading,
            clock,
            next_waiter: 0,
            waiting: BTreeMap::new(),
            in_flight: FuturesOrdered::new(),
            jobs: FuturesUnordered::new(),
        };
        (owner, handle)
    }

    /// Runs until the leadership ends, or until nobody can ask any more and what is on its way is committed. Whoever waits
    /// then learns it by the drop of its sender.
    pub async fn run(mut self) {
        let log = self.partition.clone();
        let loading = Loading::begin(&self.loading);
        let begun = self.clock.now();
        let _only = log.be_coordinator().await;
        let (topic, partition) = (log.topic_name(), log.index());
        if !replay(&self.partition, &mut self.machine, &self.clock).await {
            return;
        }
        let turn = self.machine.loaded(self.now());
        self.loaded.store(true, Ordering::Release);
        drop(loading);
        let (took, records) = (self.clock.now() - begun, log.log_end().0 - log.log_start().0);
        if took > SLOW_LOAD {
            tracing::info!(%topic, partition, records, ?took, "coordinator loaded, its clients have waited");
        } else {
            tracing::debug!(%topic, partition, records, ?took, "coordinator loaded");
        }
        if self.carry_out(turn).await.is_ok() {
            while let Ok(true) = self.serve_once().await {}
        }
        tracing::debug!(%topic, partition, "coordinator resigned");
    }

    /// One turn; false at the end.
    async fn serve_once(&mut self) -> Result<bool, Resigned> {
        let next_wake = self.machine.next_wake();
        let wake_at = next_wake.unwrap_or_else(|| self.clock.now());
        let serves = !self.closed && self.in_flight.len() < MAX_BATCHES_IN_FLIGHT;
        let mut turn = Turn::default();
        tokio::select! {
            biased;
            committed = self.in_flight.next(), if !self.in_flight.is_empty() => {
                let Some(Committed { writes, result }) = committed else { return Ok(true) };
                result.map_err(|LeadershipEnded| Resigned)?;
                for write in writes {
                    turn.append(self.machine.written(write, Ok(()), self.now()));
                }
            }
            event = self.jobs.next(), if serves && !self.jobs.is_empty() => {
                let Some(event) = event else { return Ok(true) };
                turn.append(self.machine.happened(event, self.now()));
            }
            command = self.commands.recv(), if serves => {
                match command {
                    None => self.closed = true,
                    Some(command) => {
                        let now = self.now();
                        turn.append(self.step(command));
                        self.step_queued(&mut turn);
                        // Also where it never gets quiet: what had run out before the last of these waits for no others.
                        self.tick_due(now, &mut turn);
                    }
                }
            }
            // After what has been asked until now, so that no heartbeat that is here comes too late: so not while the log is
            // behind and nothing is taken either.
            () = self.clock.sleep_until(wake_at), if serves && next_wake.is_some() => {
                self.tick_due(self.now(), &mut turn);
            }
        }
        self.carry_out(turn).await?;
        Ok(!self.closed || !self.in_flight.is_empty())
    }

    /// Carries out what is here now, and not what comes meanwhile.
    fn step_queued(&mut self, turn: &mut Turn<M>) {
        for _ in 0..self.commands.len() {
            let Ok(command) = self.commands.try_recv() else { return };
            turn.append(self.step(command));
        }
    }

    /// Looks at what had run out by `now`.
    fn tick_due(&mut self, now: Now, turn: &mut Turn<M>) {
        while let Some(ticked) = self.machine.tick(now) {
            turn.append(ticked);
        }
    }

    fn step(&mut self, command: Command<M>) -> Turn<M> {
        let waiter = Waiter(self.next_waiter);
        self.next_waiter += 1;
        self.waiting.insert(waiter, command.reply);
        self.machine.step(&command.id, command.request, waiter, self.now())
    }

    async fn carry_out(&mut self, mut turn: Turn<M>) -> Result<(), Resigned> {
        loop {
            for (waiter, reply) in turn.replies.drain(..) {
                if let Some(sender) = self.waiting.remove(&waiter) {
                    // An error: the client is gone.
                    drop(sender.send(reply));
                }
            }
            self.jobs.extend(turn.jobs.drain(..));
            if turn.writes.is_empty() {
                return Ok(());
            }
            // What can't be written has a turn of its own.
            turn = self.write(std::mem::take(&mut turn.writes)).await?;
        }
    }

    /// Puts writes into as few batches as hold them, in order, each write whole; what is in a transaction, or ends one, into
    /// one of its own.
    async fn write(&mut self, writes: Vec<M::Write>) -> Result<Turn<M>, Resigned> {
        let mut failed = Turn::default();
        let mut batch = Pending::default();
        // One wait for the WAL a turn, however many batches it has: what waits behind it is alive.
        let deadline = self.clock.now() + APPEND_TIMEOUT;
        for write in writes {
            let form = M::form(&write);
            let records = match self.encode(&write) {
                Ok(records) => records,
                Err(error) => {
                    failed.append(self.machine.written(write, Err(error), self.now()));
                    continue;
                }
            };
            let is_alone = form != Form::Plain;
            let is_full = batch.bytes() + size(&records) > BATCH_BYTES.min(self.max_batch_bytes);
            if !batch.writes.is_empty() && (is_alone || is_full) {
                failed.append(self.append(std::mem::take(&mut batch), deadline).await?);
            }
            match form {
                Form::Plain => batch.push(write, &records, self.clock.wall_ms()),
                Form::Transactional(producer) => {
                    let mut alone = Pending::in_transaction(producer);
                    alone.push(write, &records, self.clock.wall_ms());
                    failed.append(self.append(alone, deadline).await?);
                }
                Form::Marker(marker) => {
                    let appended = self.partition.write_marker(marker, deadline).await;
                    failed.append(self.await_commit(appended, vec![write])?);
                }
            }
        }
        if !batch.writes.is_empty() {
            failed.append(self.append(batch, deadline).await?);
        }
        Ok(failed)
    }

    /// # Errors
    /// The records can never be stored.
    fn encode(&self, write: &M::Write) -> Result<Vec<KeyValue>, ErrorCode> {
        let records = M::encode(write).map_err(|_too_long| ErrorCode::InvalidRequest)?;
        match size(&records) + batch::HEADER_BYTES <= self.max_batch_bytes {
            true => Ok(records),
            false => Err(TOO_LARGE),
        }
    }

    async fn append(&mut self, batch: Pending<M::Write>, deadline: Instant) -> Result<Turn<M>, Resigned> {
        let Pending { builder, writes, guard } = batch;
        let bytes = builder.build();
        let header = BatchHeader::read(&bytes).expect("it was built just now");
        let append = Append {
            header,
            backing_bytes: bytes.capacity(),
            shared_bytes: bytes.len(),
            batch: bytes,
            log_append_time: false,
            guard,
            deadline,
        };
        let appended = self.partition.append(append).await;
        self.await_commit(appended, writes)
    }

    /// Keeps writes until their batch is committed; those that weren't appended have failed.
    fn await_commit(
        &mut self,
        appended: Result<Appended, AppendError>,
        writes: Vec<M::Write>,
    ) -> Result<Turn<M>, Resigned> {
        match appended {
            Ok(appended) => {
                let committed = async move {
                    let result = appended.committed().await.map(drop);
                    Committed { writes, result }
                };
                self.in_flight.push_back(Box::pin(committed));
                Ok(Turn::default())
            }
            Err(AppendError::NotLeader) => Err(Resigned),
            Err(error) => {
                tracing::debug!(%error, "a coordinator's records not written");
                let code = match error {
                    AppendError::TooLarge { .. } => TOO_LARGE,
                    AppendError::Refused(Refusal::TooManyTransactions) => ErrorCode::CoordinatorNotAvailable,
                    AppendError::Refused(_) => error_codes::of_append(&error),
                    _ => ErrorCode::CoordinatorNotAvailable,
                };
                let mut turn = Turn::default();
                for write in writes {
                    turn.append(self.machine.written(write, Err(code), self.now()));
                }
                Ok(turn)
            }
        }
    }

    fn now(&self) -> Now {
        Now {
            at: self.clock.now(),
            wall_ms: self.clock.wall_ms(),
        }
    }
}

/// Counts an owner as loading, until it is dropped.
struct Loading(IntGauge);

impl Loading {
    fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A batch that is being filled.
struct Pending<W> {
    builder: BatchBuilder,
    writes: Vec<W>,
    guard: Option<Guard>,
}

impl<W> Default for Pending<W> {
    fn default() -> Self {
        Self {
            builder: BatchBuilder::default(),
            writes: Vec::new(),
            guard: None,
        }
    }
}

impl<W> Pending<W> {
    fn in_transaction(producer: InTransaction) -> Self {
        let builder =
            BatchBuilder::new().producer(producer.producer_id, producer.producer_epoch, BatchHeader::NO_SEQUENCE);
        Self {
            builder: builder.transactional(),
            guard: producer.guard,
            ..Self::default()
        }
    }

    fn bytes(&self) -> usize {
        self.builder.size()
    }

    fn push(&mut self, write: W, records: &[KeyValue], now_ms: i64) {
        for (key, value) in records {
            self.builder.push(now_ms, Some(key), value.as_deref(), &[]);
        }
        self.writes.push(write);
    }
}

/// What a record has besides its key and its value, at most: three lengths and two deltas, varints of up to 5 bytes; attributes and
/// the number of headers, a byte each.
const MAX_RECORD_OVERHEAD: usize = 5 * 5 + 2;

/// The most that these records take in a batch.
fn size(records: &[KeyValue]) -> usize {
    let value_bytes = |value: &Option<bytes::Bytes>| value.as_ref().map_or(0, bytes::Bytes::len);
    records
        .iter()
        .map(|(key, value)| record_bytes(key.len(), value_bytes(value)))
        .sum()
}

/// The most that a record takes in a batch.
pub(crate) fn record_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    key_bytes + value_bytes + MAX_RECORD_OVERHEAD
}
