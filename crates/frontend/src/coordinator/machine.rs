//! What a coordinator's state machine is to its driver.
//!
//! Owns: the seam between decisions, which are pure, and the log, clocks and answers (`owner.rs`). A machine decides in
//! `step`, `tick` and `happened`; what a decision that is recorded means, and every answer that rests on it, comes out of
//! `written`, once its record is committed (docs/design.md, invariant 10).

use bytes::Bytes;
use futures::future::BoxFuture;
use tailwater_kafka::{CodecError, ErrorCode};
use tailwater_log::{Guard, TransactionMarker};
use tailwater_runtime::clock::Instant;

/// One client request that awaits its reply; numbered by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// Both times of one step: deadlines run on `at`, records carry `wall_ms`.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub at: Instant,
    pub wall_ms: i64,
}

/// A record's key, and its value; `None` deletes the key.
pub type KeyValue = (Bytes, Option<Bytes>);

/// How a write goes into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Its records may share a batch with those of others.
    Plain,
    /// Its records are a part of a producer's transaction.
    Transactional(InTransaction),
    /// No records: the end of a producer's transaction.
    Marker(TransactionMarker),
}

/// A producer within its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTransaction {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// What [`crate::partition::Append::guard`] is to be.
    pub guard: Option<Guard>,
}

/// The coordinators of one partition of an internal topic.
pub trait Machine: Send + 'static {
    type Request: Send + 'static;
    type Reply: Send + 'static;
    /// Records that belong into one batch, and what they decide.
    type Write: Send + 'static;
    /// What comes of a job.
    type Event: Send + 'static;

    /// Takes over one record of the log, which is read from the start. The last one of a key counts; of a transaction, whose
    /// `producer_id` is given, once it is committed.
    ///
    /// # Errors
    /// The bytes are no record of this topic.
    fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        producer_id: Option<i64>,
        now: Now,
    ) -> Result<(), CodecError>;

    /// Takes over a producer's marker, in the order of the records. None is in a log that has no transactions.
    fn replay_end(&mut self, _producer_id: i64, _is_commit: bool) {}

    /// The log has been read to its end.
    fn loaded(&mut self, now: Now) -> Turn<Self>;

    fn step(&mut self, id: &str, request: Self::Request, waiter: Waiter, now: Now) -> Turn<Self>;

    /// The records of `write` are committed, or never will be: in the order of the writes.
    fn written(&mut self, write: Self::Write, result: Result<(), ErrorCode>, now: Now) -> Turn<Self>;

    /// A job has ended.
    fn happened(&mut self, event: Self::Event, now: Now) -> Turn<Self>;

    /// When [`Machine::tick`] has something to do at the earliest.
    fn next_wake(&self) -> Option<Instant>;

    /// Looks at one thing whose time has come; `None`: there is none any more.
    fn tick(&mut self, now: Now) -> Option<Turn<Self>>;

    /// The records of a write, in its order.
    ///
    /// # Errors
    /// A text that is too long for its field.
    fn encode(write: &Self::Write) -> Result<Vec<KeyValue>, CodecError>;

    /// How a write goes into the log.
    fn form(_write: &Self::Write) -> Form {
        Form::Plain
    }

    /// The reply to a request that isn't carried out.
    fn refused(request: &Self::Request, error: ErrorCode) -> Self::Reply;
}

/// What a machine asks its driver to do.
pub struct Turn<M: Machine + ?Sized> {
    pub replies: Vec<(Waiter, M::Reply)>,
    /// To be appended in this order, before those of any later turn.
    pub writes: Vec<M::Write>,
    /// To be run beside everything else; given up when the leadership ends.
    pub jobs: Vec<BoxFuture<'static, M::Event>>,
}

impl<M: Machine + ?Sized> Default for Turn<M> {
    fn default() -> Self {
        Self {
            replies: Vec::new(),
            writes: Vec::new(),
            jobs: Vec::new(),
        }
    }
}

impl<M: Machine + ?Sized> Turn<M> {
    /// What a later turn asks for, behind what this one does.
    pub fn append(&mut self, later: Self) {
        self.replies.extend(later.replies);
        self.writes.extend(later.writes);
        self.jobs.extend(later.jobs);
    }
}
