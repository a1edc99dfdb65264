//! What goes into the transactions' state machine and what comes out of it.
//!
//! Owns: requests, replies, writes and markers as plain values in Kafka's words. Does not own: the wire (`wire.rs`), the
//! log's bytes (`record.rs`), any decision.

use std::collections::BTreeSet;
use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::state::{ProducerRef, TopicPartition, Transaction};
pub(crate) use crate::coordinator::{Now, Waiter};

/// What holds for every transactional id.
#[derive(Clone, Debug)]
pub struct Limits {
    /// An id that was idle for so long is forgotten (Kafka's `transactional.id.expiration.ms`).
    pub id_expiration: Duration,
    /// How long a request may wait for the end of the last transaction before it is told to come again.
    pub patience: Duration,
}

/// Anything that is asked of a transactional id.
#[derive(Clone, Debug)]
pub enum Request {
    Init {
        timeout_ms: i32,
        expected: Option<ProducerRef>,
        /// An id that nobody has, in case one is needed.
        new_id: Option<i64>,
    },
    Add {
        producer: ProducerRef,
        partitions: BTreeSet<TopicPartition>,
        client_version: i16,
    },
    Verify {
        producer: ProducerRef,
        partitions: Vec<TopicPartition>,
    },
    End {
        producer: ProducerRef,
        is_commit: bool,
        /// Whether the producer gets a new epoch, as from version 5 on.
        with_new_epoch: bool,
        new_id: Option<i64>,
    },
    Describe,
    /// Of no id in particular: all of a shard.
    List,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To InitProducerId and EndTxn: who the producer is from now on.
    Producer(Result<ProducerRef, ErrorCode>),
    /// Ask again with an id.
    NeedsProducerId,
    Added(ErrorCode),
    /// In the request's order, or one error for all.
    Verified(Result<Vec<ErrorCode>, ErrorCode>),
    Described(Result<Box<Transaction>, ErrorCode>),
    Listed(Result<Vec<Summary>, ErrorCode>),
}

/// A transactional id in a list of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub id: String,
    pub producer_id: i64,
    /// Kafka's name for it.
    pub state: &'static str,
    pub start_ms: i64,
}

/// A record to be written, and what it decides once it is committed (docs/design.md, invariant 10).
#[derive(Debug)]
pub struct Write {
    pub id: String,
    /// `None`: the id is forgotten.
    pub value: Option<Box<Transaction>>,
    /// Answers when the record is committed; refused if it can't be.
    pub answer: Option<(Waiter, Reply)>,
}

/// Markers to be sent to the leaders of partitions, for a decision that is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    pub id: String,
    pub producer: ProducerRef,
    pub is_commit: bool,
    pub client_version: i16,
    pub partitions: Vec<TopicPartition>,
    /// How often those of this decision were sent before.
    pub attempt: u32,
}

/// What became of [`Markers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    pub id: String,
    pub producer: ProducerRef,
    /// Those that have the marker, or never will and needn't.
    pub partitions: Vec<TopicPartition>,
    pub attempt: u32,
}

/// What a step asks its driver to do.
#[derive(Debug, Default)]
pub struct Effects {
    pub replies: Vec<(Waiter, Reply)>,
    /// To be appended in this order, before those of any later step.
    pub writes: Vec<Write>,
    pub markers: Vec<Markers>,
    /// Transactions that were decided.
    pub committed: u64,
    pub aborted: u64,
}

impl Request {
    pub fn refused(&self, error: ErrorCode) -> Reply {
        match self {
            Self::Init { .. } | Self::End { .. } => Reply::Producer(Err(error)),
            Self::Add { .. } => Reply::Added(error),
            Self::Verify { .. } => Reply::Verified(Err(error)),
            Self::Describe => Reply::Described(Err(error)),
            Self::List => Reply::Listed(Err(error)),
        }
    }
}

impl Reply {
    /// The same reply, if what it rests on was not recorded.
    pub fn into_refusal(self, error: ErrorCode) -> Self {
        match self {
            Self::Producer(_) | Self::NeedsProducerId => Self::Producer(Err(error)),
            Self::Added(_) => Self::Added(error),
            Self::Verified(_) => Self::Verified(Err(error)),
            Self::Described(_) => Self::Described(Err(error)),
            Self::Listed(_) => Self::Listed(Err(error)),
        }
    }
}
