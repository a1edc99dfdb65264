//! The one task that changes metadata.
//!
//! Takes commands in order, decides them one after the other on its own state, makes as many as are there durable in one
//! batch, then publishes, answers and hands out effects, in this order. If the store fails, its state goes back to what is
//! published, and nobody has seen anything. A store that found no room is read again; one that failed otherwise ends the
//! process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tailwater_format::FormatError;
use tailwater_format::metadata::{Key, Record};
use tailwater_rpc::Error;
use tailwater_runtime::Runtime;
use tailwater_runtime::clock::Instant;
use tailwater_types::{Kind, MetadataVersion, Outcome};
use tokio::sync::mpsc;

use super::commands::{Reply, Request};
use super::metrics::Metrics;
use super::published::Published;
use super::settle::Settler;
use super::told;
use crate::state::{
    Changes, Effect, Limits, MAX_BYTES, MAX_KEYS, State, Step, Timers, Tx, View, balance, cleaning, journals, nodes,
    objects, streams,
};
use crate::store::{MetadataStore, Pair, StoreError, Write};

/// How often leases are looked at, and streams without a leader placed: a node's end is found out this much late.
const TICK: Duration = Duration::from_millis(100);

/// What nobody waits for is done at every so many ticks.
const TICKS_A_SWEEP: u32 = 5;

/// A tick that comes later than this was held up by a stall: nobody could be heard meanwhile.
const STALL: Duration = Duration::from_secs(1);

/// The most commands of one batch.
const BATCH_COMMANDS: usize = 64;

/// What is done without being asked for, each until it says that it is through.
const CHORES: [fn(&mut Tx<'_>) -> bool; 2] = [nodes::expire, streams::place];
const SWEEPS: [fn(&mut Tx<'_>) -> bool; 2] = [objects::sweep, cleaning::sweep];

pub struct Driver {
    pub store: Box<dyn MetadataStore>,
    pub state: State,
    pub timers: Timers,
    pub limits: Limits,
    pub published: Arc<Published>,
    pub settler: Arc<Settler>,
    pub metrics: Metrics,
    pub runtime: Runtime,
    pub batch: Batch,
    pub standing: Standing,
    /// Ticks until the next sweep.
    pub to_sweep: u32,
    /// An unwritable store has been reported.
    pub reported: bool,
}

/// What the store can be used for.
pub enum Standing {
    Works,
    /// For nothing until it is found out whether this batch happened.
    Lost(Changes),
    /// For nothing any more: the process ends.
    Broken,
}

/// Steps that become durable together.
#[derive(Default)]
pub struct Batch {
    changes: Changes,
    encoded: BTreeMap<Key, Option<Vec<u8>>>,
    bytes: usize,
    effects: Vec<Effect>,
    replies: Vec<Reply>,
}

impl Driver {
    /// Runs until the group stops, then answers what is in the queue and closes the store.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let stop = self.runtime.tasks.token();
        let clock = self.runtime.clock.clone();
        let mut next_tick = clock.now();
        loop {
            let request = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = clock.sleep_until(next_tick) => {
                    self.tick(next_tick).await;
                    next_tick = clock.now() + TICK;
                    continue;
                }
                request = requests.recv() => request,
            };
            let Some(request) = request else { break };
            self.take(request, &mut requests).await;
        }
        requests.close();
        while let Some(request) = requests.recv().await {
            self.take(request, &mut requests).await;
        }
        self.published.close();
        self.store.close().await;
    }

    /// Decides `first` and what is behind it in the queue, and commits them.
    async fn take(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) {
        let mut next = Some(first);
        while let Some(request) = next {
            self.decide(request).await;
            let full = self.batch.replies.len() >= BATCH_COMMANDS;
            next = if full { None } else { requests.try_recv().ok() };
        }
        self.commit().await;
    }

    async fn decide(&mut self, request: Request) {
        let mut tx = Tx::new(&self.state, &self.timers, &self.limits, self.now());
        let reply = (request.decide)(&mut tx);
        // A refusal changes nothing, whatever it had begun.
        let step = if reply.accepted { tx.finish() } else { Step::default() };
        self.add(step, Some(reply)).await;
    }

    /// Leases, deadlines, placement, and whatever was left over; was `due` a while ago.
    async fn tick(&mut self, due: Instant) {
        let now = self.now();
        if now.saturating_duration_since(due) > STALL {
            self.timers.stalled(now);
        }
        match self.standing {
            Standing::Works => {}
            Standing::Lost(_) => {
                if self.reload().await.is_none() {
                    return;
                }
            }
            Standing::Broken => return,
        }
        let sweeps = self.to_sweep == 0;
        self.to_sweep = if sweeps { TICKS_A_SWEEP - 1 } else { self.to_sweep - 1 };
        for chore in CHORES.into_iter().chain(SWEEPS.into_iter().filter(|_| sweeps)) {
            loop {
                let mut tx = Tx::new(&self.state, &self.timers, &self.limits, self.now());
                let more = chore(&mut tx);
                let step = tx.finish();
                if step.changes.is_empty() || !self.add(step, None).await || !more {
                    break;
                }
            }
        }
        if sweeps {
            let mut tx = Tx::new(&self.state, &self.timers, &self.limits, self.now());
            balance::ask(&mut tx);
            let asked = tx.finish();
            self.add(asked, None).await;
        }
        self.commit().await;
        if sweeps {
            self.timers.prune(&self.state);
            self.published.observe(self.timers.failed_cleanings());
        }
    }

    /// Carries out a step on the driver's own state and adds it to the batch; one that has no room left is committed before.
    /// Answers whether it was added.
    async fn add(&mut self, step: Step, reply: Option<Reply>) -> bool {
        let encoded = encode(&step.changes);
        let bytes = encoded.values().map(bytes_of).sum::<usize>();
        if encoded.len() > MAX_KEYS || bytes > MAX_BYTES {
            let keys = encoded.len();
            let detail =
                format!("a change of {keys} records with {bytes} bytes: at most {MAX_KEYS} with {MAX_BYTES} are legal");
            refuse(reply, Error::Invalid(detail));
            return false;
        }
        let keys = self.batch.encoded.len() + encoded.len();
        let full = keys > MAX_KEYS || self.batch.bytes + bytes > MAX_BYTES;
        if full && !self.commit().await {
            // What this step was decided on has not come to be.
            refuse(reply, unwritable(Outcome::DidNotHappen));
            return false;
        }
        let now = self.now();
        told::tell_moves(&self.timers, &step.touches);
        told::tell_cleanings(&self.timers, &step.touches, now);
        for touch in step.touches {
            self.timers.touch(touch, now);
        }
        self.state.put_all(&step.changes);
        self.batch.changes.extend(step.changes);
        self.batch.encoded.extend(encoded);
        self.batch.bytes = self.batch.encoded.values().map(bytes_of).sum();
        self.batch.effects.extend(step.effects);
        self.batch.replies.extend(reply);
        true
    }

    /// Makes the batch durable, publishes it, answers, and hands out effects. Answers whether it happened.
    async fn commit(&mut self) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        if batch.encoded.is_empty() {
            batch.answer(None);
            self.perform(batch.effects);
            return true;
        }
        let writes = writes(std::mem::take(&mut batch.encoded));
        let began = self.now();
        let committed = match self.standing {
            Standing::Works => self.store.commit(writes).await,
            Standing::Lost(_) => Err(unusable(Kind::Throttled, "it ran out of room, and can't go on yet")),
            Standing::Broken => Err(unusable(Kind::Unavailable, "it is broken")),
        };
        self.metrics.batch(self.now().saturating_duration_since(began));
        match committed {
            Ok(()) => {
                self.report_writable();
                self.show(batch);
                true
            }
            Err(error) => self.fail(batch, error).await,
        }
    }

    fn show(&mut self, mut batch: Batch) {
        self.published.read(|state| told::tell(state, &batch.changes));
        self.published.publish(&batch.changes);
        batch.answer(None);
        self.perform(batch.effects);
    }

    /// The store has refused or failed a batch: finds out whether it happened. Answers that.
    async fn fail(&mut self, mut batch: Batch, error: StoreError) -> bool {
        self.metrics.failure();
        self.report_unwritable(&error);
        let wanted = self.state.version();
        let published = self.published.clone();
        published.read(|durable| {
            for key in batch.changes.keys() {
                self.state.put(*key, durable.record(*key).cloned());
            }
        });
        let outcome = match error.outcome {
            Outcome::DidNotHappen => Outcome::DidNotHappen,
            Outcome::Unknown if error.is_final() => {
                self.break_off(&error);
                Outcome::Unknown
            }
            Outcome::Unknown => {
                self.standing = Standing::Lost(std::mem::take(&mut batch.changes));
                match self.reload().await {
                    Some(version) if version == wanted => {
                        // `reload` has shown it already, as a state without changes.
                        batch.answer(None);
                        self.perform(batch.effects);
                        return true;
                    }
                    Some(_) => Outcome::DidNotHappen,
                    None => Outcome::Unknown,
                }
            }
        };
        let answer = if error.kind == Kind::Throttled && outcome == Outcome::DidNotHappen {
            Error::Throttled(error.to_string())
        } else {
            let detail = error.to_string();
            Error::Unavailable { detail, outcome }
        };
        batch.answer(Some(&answer));
        false
    }

    /// Reads the store anew after a failure of unknown outcome, and shows what it has. `None` while it can't be read, or has
    /// the lost batch and can't be made to keep it.
    async fn reload(&mut self) -> Option<MetadataVersion> {
        let loaded = match self.store.load().await.map(decode) {
            Ok(Ok(records)) => State::of(records),
            Ok(Err(error)) => {
                self.end(&format!("metadata store: {error}"));
                return None;
            }
            Err(error) => {
                self.not_yet(&error);
                return None;
            }
        };
        let (version, shown) = (loaded.version(), self.published.read(State::version));
        if version < shown {
            let reason = format!("the metadata store is at version {version}, {shown} was durable");
            self.end(&reason);
            return None;
        }
        if version > shown {
            self.write_again().await?;
        }
        self.standing = Standing::Works;
        if version > shown {
            self.published.replace(loaded.clone());
            for (journal, record) in journals::all(&loaded) {
                if journals::is_unsettled(record) {
                    self.settler.settle(journal);
                }
            }
        }
        self.state = loaded;
        Some(version)
    }

    /// Makes the lost batch durable, which was read: what can be read may be in memory only. It is the whole of it, and has
    /// values, not differences: writing it twice changes nothing.
    async fn write_again(&mut self) -> Option<()> {
        let Standing::Lost(changes) = &self.standing else {
            return None;
        };
        let written = self.store.commit(writes(encode(changes))).await;
        written.map_err(|error| self.not_yet(&error)).ok()
    }

    fn not_yet(&mut self, error: &StoreError) {
        if error.is_final() {
            self.break_off(error);
        } else {
            tracing::debug!(%error, "the metadata store can't go on yet");
        }
    }

    /// Ends the process, without another look at the store: it would find what may never reach the disk
    /// (docs/design.md section 4, rule 9).
    fn break_off(&mut self, error: &StoreError) {
        self.end(&format!(
            "{error}; a failed write or sync is not repeated, since its pages may be lost"
        ));
    }

    fn end(&mut self, reason: &str) {
        self.standing = Standing::Broken;
        self.runtime.tasks.fail("driver", reason, 1);
    }

    fn now(&self) -> Instant {
        self.runtime.clock.now()
    }

    fn perform(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Settle(journal) => self.settler.settle(journal),
                Effect::DeviceServes(device) => self.settler.device_serves(device),
            }
        }
    }

    fn report_unwritable(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.reported, true) {
            tracing::error!(%error, "metadata can't be changed until this is mended");
        }
    }

    fn report_writable(&mut self) {
        if std::mem::take(&mut self.reported) {
            tracing::info!("metadata can be changed again");
        }
    }
}

impl Batch {
    /// A failure goes to the refused too: what they were refused for may not have come to be.
    fn answer(&mut self, failure: Option<&Error>) {
        for reply in self.replies.drain(..) {
            (reply.send)(failure.cloned());
        }
    }
}

/// Records out of a store's keys and values.
pub fn decode(pairs: Vec<Pair>) -> Result<Vec<(Key, Record)>, FormatError> {
    let record = |(key, value): Pair| {
        let key = Key::from_bytes(&key)?;
        Ok((key, Record::decode(key, &value)?))
    };
    pairs.into_iter().map(record).collect()
}

fn encode(changes: &Changes) -> BTreeMap<Key, Option<Vec<u8>>> {
    let value = |(key, record): (&Key, &Option<Record>)| (*key, record.as_ref().map(|record| record.encode(*key)));
    changes.iter().map(value).collect()
}

fn writes(encoded: BTreeMap<Key, Option<Vec<u8>>>) -> Vec<Write> {
    let write = |(key, value): (Key, Option<Vec<u8>>)| (key.to_bytes(), value);
    encoded.into_iter().map(write).collect()
}

fn refuse(reply: Option<Reply>, error: Error) {
    match reply {
        Some(reply) => (reply.send)(Some(error)),
        None => tracing::debug!(%error, "a chore has to wait"),
    }
}

fn unwritable(outcome: Outcome) -> Error {
    Error::Unavailable {
        detail: "metadata can't be changed at the moment".to_owned(),
        outcome,
    }
}

/// Why nothing is written to a store that doesn't work.
fn unusable(kind: Kind, detail: &str) -> StoreError {
    StoreError {
        kind,
        outcome: Outcome::DidNotHappen,
        detail: detail.to_owned(),
    }
}

/// Bytes of a value; keys are 17 bytes at most.
fn bytes_of(value: &Option<Vec<u8>>) -> usize {
    const KEY_BYTES: usize = 17;
    KEY_BYTES + value.as_ref().map_or(0, Vec::len)
}
