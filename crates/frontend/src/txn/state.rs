//! One transactional id: what the log says of it, and what may become of it.
//!
//! Owns: the rules of Apache Kafka 4.3's coordinator for InitProducerId (KIP-98, KIP-360), partitions, ends of both versions
//! (KIP-890) and fencing. Each is a pure step from one value to the next. Does not own: when a value takes effect, who
//! waits for it, and time (`shard.rs`).

use std::collections::BTreeSet;

use tailwater_kafka::ErrorCode;

/// No producer id, in records and on the wire.
pub const NO_ID: i64 = -1;
/// No epoch.
pub const NO_EPOCH: i16 = -1;
/// From here on a producer gets a new id instead of the next epoch: the highest one stays free for fencing.
const EXHAUSTED: i16 = i16::MAX - 1;

/// Transactions in which each end gives the producer a new epoch (KIP-890).
pub const EPOCH_PER_TRANSACTION: i16 = 2;
const EPOCH_STAYS: i16 = 0;
/// The end of a fenced producer whose next epoch is the last of all: it is not to be told of that.
const FENCED_FOR_GOOD: i16 = 1;

/// Where a transactional id stands; by Kafka's numbers.
///
/// Kafka has two more that no record ever has: Dead (6), while an idle id is forgotten, and PrepareEpochFence (7), between
/// the wish to fence a producer and the abort that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Phase {
    Empty = 0,
    Ongoing = 1,
    PrepareCommit = 2,
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
}

impl Phase {
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's names of those that no id is ever seen in.
    pub const NEVER_SEEN: [&'static str; 2] = ["Dead", "PrepareEpochFence"];

    pub fn code(self) -> i8 {
        self as i8
    }

    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.code() == code)
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Decided, and not told to all partitions.
    pub fn is_ending(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

/// A producer as it names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerRef {
    pub id: i64,
    pub epoch: i16,
}

/// What is known of a transactional id. All of it is in its record, but for `last_epoch`, as in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub producer_id: i64,
    /// The id in the value before this one; [`NO_ID`]: there was none.
    pub previous_producer_id: i64,
    /// While it ends: the id for the next transaction, if this one's epochs are used up.
    pub next_producer_id: i64,
    /// [`NO_EPOCH`] before the first InitProducerId is through.
    pub epoch: i16,
    /// The epoch that the same producer had before, so that its repeated InitProducerId is recognised.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub phase: Phase,
    /// While it ends: those that are still to get a marker.
    pub partitions: BTreeSet<TopicPartition>,
    /// When the last transaction began, in milliseconds since 1970; -1 before the first.
    pub start_ms: i64,
    pub updated_ms: i64,
    /// The version of transactions that the last change was made under.
    pub client_version: i16,
}

/// What comes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// This is to be recorded.
    Become(Transaction),
    /// It is so already.
    Already,
    /// An id that nobody has is needed: ask again with one.
    NeedsProducerId,
    /// The last transaction is still ending: later.
    NotYet,
    Refuse(ErrorCode),
}

impl Transaction {
    /// What an id begins from.
    pub fn new(producer_id: i64, now_ms: i64) -> Self {
        Self {
            producer_id,
            previous_producer_id: NO_ID,
            next_producer_id: NO_ID,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout_ms: 0,
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
            client_version: EPOCH_STAYS,
        }
    }

    /// The producer as clients know it: while an exhausted one ends, it has its next id already.
    pub fn producer(&self) -> ProducerRef {
        match self.next_producer_id {
            NO_ID => ProducerRef {
                id: self.producer_id,
                epoch: self.epoch,
            },
            id => ProducerRef { id, epoch: 0 },
        }
    }

    fn is_exhausted(&self) -> bool {
        self.epoch >= EXHAUSTED
    }

    /// InitProducerId. `expected`: who the producer believes to be (KIP-360).
    pub fn init(&self, timeout_ms: i32, expected: Option<ProducerRef>, new_id: Option<i64>, now_ms: i64) -> Decision {
        let is_known = |who: ProducerRef| {
            self.epoch == NO_EPOCH
                || who.id == self.producer_id
                || (who.id == self.previous_producer_id && who.epoch >= EXHAUSTED)
        };
        match self.phase {
            // Before anybody is judged: who was told of the end already has what comes with it.
            Phase::PrepareCommit | Phase::PrepareAbort => Decision::NotYet,
            _ if expected.is_some_and(|who| !is_known(who)) => Decision::Refuse(ErrorCode::ProducerFenced),
            // A producer that was replaced must not end its successor's transaction.
            Phase::Ongoing if expected.is_some_and(|who| who.epoch != self.epoch) => {
                Decision::Refuse(ErrorCode::ProducerFenced)
            }
            Phase::Ongoing => Decision::Become(self.fence(now_ms)),
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => {
                self.next_producer(timeout_ms, expected.map(|who| who.epoch), new_id, now_ms)
            }
        }
    }

    fn next_producer(&self, timeout_ms: i32, expected: Option<i16>, new_id: Option<i64>, now_ms: i64) -> Decision {
        let is_current = expected.is_none_or(|epoch| epoch == self.epoch || self.epoch == NO_EPOCH);
        let last_epoch = match expected {
            Some(_) => self.epoch,
            None => NO_EPOCH,
        };
        let (producer_id, epoch, last_epoch) = if is_current && self.is_exhausted() {
            match new_id {
                Some(id) => (id, 0, last_epoch),
                None => return Decision::NeedsProducerId,
            }
        } else if is_current {
            (self.producer_id, self.epoch + 1, last_epoch)
        } else if expected == Some(self.last_epoch) {
            // The same request again, whose answer got lost.
            (self.producer_id, self.epoch, self.last_epoch)
        } else {
            return Decision::Refuse(ErrorCode::ProducerFenced);
        };
        Decision::Become(Self {
            producer_id,
            previous_producer_id: self.producer_id,
            epoch,
            last_epoch,
            timeout_ms,
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            start_ms: -1,
            updated_ms: now_ms,
            ..self.clone()
        })
    }

    /// Aborts the ongoing transaction on its own: with the next epoch, so that what its producer still sends is refused.
    ///
    /// That is what the producer's own abort of version 2 would have done, so it may abort later and go on from there; unless
    /// somebody has begun anew under the id by then. The last epoch of all is given to nobody.
    pub fn fence(&self, now_ms: i64) -> Self {
        let epoch = self.epoch.saturating_add(1);
        let client_version = match epoch {
            i16::MAX => FENCED_FOR_GOOD,
            _ => EPOCH_PER_TRANSACTION,
        };
        Self {
            previous_producer_id: self.producer_id,
            epoch,
            last_epoch: NO_EPOCH,
            phase: Phase::PrepareAbort,
            updated_ms: now_ms,
            client_version,
            ..self.clone()
        }
    }

    /// Who may say something of the transaction that is ongoing or begins.
    ///
    /// # Errors
    /// INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED.
    fn check_producer(&self, who: ProducerRef) -> Result<(), ErrorCode> {
        let current = self.producer();
        if who.id != current.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        match who.epoch == current.epoch {
            true => Ok(()),
            false => Err(ErrorCode::ProducerFenced),
        }
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn: begins the transaction if need be.
    pub fn add(
        &self,
        who: ProducerRef,
        partitions: &BTreeSet<TopicPartition>,
        client_version: i16,
        now_ms: i64,
    ) -> Decision {
        if let Err(error) = self.check_producer(who) {
            return Decision::Refuse(error);
        }
        let start_ms = match self.phase {
            Phase::PrepareCommit | Phase::PrepareAbort => return Decision::NotYet,
            Phase::Ongoing if partitions.is_subset(&self.partitions) => return Decision::Already,
            Phase::Ongoing => self.start_ms,
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => now_ms,
        };
        Decision::Become(Self {
            previous_producer_id: self.producer_id,
            phase: Phase::Ongoing,
            partitions: self.partitions.union(partitions).cloned().collect(),
            start_ms,
            updated_ms: now_ms,
            client_version,
            ..self.clone()
        })
    }

    /// Whether the transaction has a partition; `None`: the last one is still ending.
    ///
    /// # Errors
    /// The producer isn't the one it was.
    pub fn verify(&self, who: ProducerRef) -> Result<Option<&BTreeSet<TopicPartition>>, ErrorCode> {
        self.check_producer(who)?;
        Ok((!self.phase.is_ending()).then_some(&self.partitions))
    }

    /// EndTxn of a producer that keeps its epoch (up to version 4).
    pub fn end(&self, who: ProducerRef, is_commit: bool, now_ms: i64) -> Decision {
        if who.id != self.producer_id {
            return Decision::Refuse(ErrorCode::InvalidProducerIdMapping);
        }
        if who.epoch != self.epoch {
            return Decision::Refuse(ErrorCode::ProducerFenced);
        }
        match (self.phase, is_commit) {
            (Phase::Ongoing, _) => Decision::Become(self.prepare(is_commit, self.epoch, NO_ID, EPOCH_STAYS, now_ms)),
            (Phase::CompleteCommit, true) | (Phase::CompleteAbort, false) => Decision::Already,
            (Phase::PrepareCommit, true) | (Phase::PrepareAbort, false) => Decision::NotYet,
            _ => Decision::Refuse(ErrorCode::InvalidTxnState),
        }
    }

    /// EndTxn of a producer that gets a new epoch with each end (version 5). It may also abort what hasn't begun, which
    /// only gives it its new epoch.
    pub fn end_with_new_epoch(&self, who: ProducerRef, is_commit: bool, new_id: Option<i64>, now_ms: i64) -> Decision {
        // It goes on from the end that it was told of, before that end is complete: a moment later it may.
        if self.phase.is_ending() && who == self.producer() {
            return Decision::NotYet;
        }
        let bumps = self.client_version >= EPOCH_PER_TRANSACTION;
        // Only for one who was told of the end before this value: it asks again, having missed the answer.
        let is_overflown = bumps && who.id == self.previous_producer_id && who.epoch == EXHAUSTED && self.epoch == 0;
        let is_before = bumps && who.id == self.producer_id && Some(self.epoch) == who.epoch.checked_add(1);
        let is_current = who.id == self.producer_id && who.epoch == self.epoch;
        if who.id != self.producer_id && !is_overflown {
            return Decision::Refuse(ErrorCode::InvalidProducerIdMapping);
        }
        let is_repeat = is_before || is_overflown;
        let is_valid = match self.phase {
            Phase::Empty | Phase::Ongoing => is_current,
            Phase::PrepareCommit | Phase::PrepareAbort => is_before,
            Phase::CompleteCommit | Phase::CompleteAbort => is_repeat || is_current,
        };
        if !is_valid {
            return Decision::Refuse(ErrorCode::ProducerFenced);
        }
        match (self.phase, is_commit) {
            (Phase::PrepareCommit, true) | (Phase::PrepareAbort, false) => Decision::NotYet,
            (Phase::CompleteCommit, true) | (Phase::CompleteAbort, false) if is_repeat => Decision::Already,
            (Phase::Ongoing, _) => self.end_and_bump(is_commit, new_id, now_ms),
            (Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort, false) if !is_repeat => {
                self.end_and_bump(false, new_id, now_ms)
            }
            _ => Decision::Refuse(ErrorCode::InvalidTxnState),
        }
    }

    fn end_and_bump(&self, is_commit: bool, new_id: Option<i64>, now_ms: i64) -> Decision {
        let next_id = match (self.is_exhausted(), new_id) {
            (false, _) => NO_ID,
            (true, Some(id)) => id,
            (true, None) => return Decision::NeedsProducerId,
        };
        let Some(epoch) = self.epoch.checked_add(1) else {
            return Decision::Refuse(ErrorCode::ProducerFenced);
        };
        let mut ending = self.prepare(is_commit, epoch, next_id, EPOCH_PER_TRANSACTION, now_ms);
        ending.last_epoch = self.epoch;
        if self.phase != Phase::Ongoing {
            ending.start_ms = now_ms;
        }
        Decision::Become(ending)
    }

    fn prepare(&self, is_commit: bool, epoch: i16, next_id: i64, client_version: i16, now_ms: i64) -> Self {
        Self {
            previous_producer_id: self.producer_id,
            next_producer_id: next_id,
            epoch,
            phase: match is_commit {
                true => Phase::PrepareCommit,
                false => Phase::PrepareAbort,
            },
            updated_ms: now_ms,
            client_version,
            ..self.clone()
        }
    }

    /// All partitions have their marker.
    pub fn complete(&self, now_ms: i64) -> Self {
        let ProducerRef { id, epoch } = self.producer();
        Self {
            producer_id: id,
            previous_producer_id: self.producer_id,
            next_producer_id: NO_ID,
            epoch,
            phase: match self.phase {
                Phase::PrepareCommit => Phase::CompleteCommit,
                _ => Phase::CompleteAbort,
            },
            partitions: BTreeSet::new(),
            updated_ms: now_ms,
            ..self.clone()
        }
    }
}
