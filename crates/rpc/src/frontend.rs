//! The frontends' port: what they ask of each other (docs/design.md section 1).
//!
//! Two things, both about transactions: a coordinator has its markers written by the partitions' leaders, and a leader asks
//! a producer's coordinator whether its partition is in the transaction. Both sides speak Kafka, so each partition's answer is
//! one of Kafka's error codes; an [`Error`](crate::Error) is about the call as a whole.

mod directory;
mod faulty;

use async_trait::async_trait;
use tailwater_kafka::ErrorCode;
use tailwater_types::{LeaderEpoch, NodeEpoch, NodeId, TopicId};

pub use directory::{ConnectFrontend, FrontendAt, KnownFrontends, LocateFrontend};
pub use faulty::{Fault, FaultyFrontend};

use crate::Result;

/// One frontend, for the other ones.
///
/// Every call carries the caller's registration, which is checked before anything else: with an epoch that is older than the one
/// in the receiver's metadata it refuses with [`Error::NodeEpochStale`](crate::Error::NodeEpochStale). (A newer one only means
/// that the receiver's metadata is behind.) All calls may be repeated, and are: after an unknown outcome with the same content.
/// Dropping a returned future gives the answer up, and never leaves a partition's part of the call half done. A call of markers
/// that arrives when it is over for its caller ([`CallOrder`]) is refused: it could end a transaction that began since.
#[async_trait]
pub trait Frontend: Send + Sync {
    /// Ends transactions in partitions that this frontend leads. Answers, for each marker and each of its partitions in the
    /// request's order, once that partition's marker is committed: readers of stable records see the end from then on. In a
    /// partition of `__consumer_offsets` the offsets that were part of the transaction count, or are gone, before the answer.
    ///
    /// A marker is idempotent: one that a partition has already, or whose transaction isn't open in it, changes nothing that
    /// anybody sees. So whatever the outcome was, the same marker may be sent again, by this coordinator or by its successor.
    ///
    /// Of a partition:
    /// - NOT_LEADER_OR_FOLLOWER (also where it leads under another epoch than the caller knows), UNKNOWN_TOPIC_OR_PARTITION (by
    ///   the receiver's metadata), NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT: look at the metadata again, then repeat.
    /// - INVALID_PRODUCER_EPOCH: the producer has a newer epoch there; TRANSACTION_COORDINATOR_FENCED: a newer coordinator has
    ///   written there. The marker isn't needed any more.
    async fn write_markers(&self, request: WriteMarkers) -> Result<Vec<Vec<ErrorCode>>>;

    /// Adds partitions to a producer's ongoing transaction, which begins it if need be, or with `verify_only` says whether
    /// they are in it. Answers for each partition, in the request's order, once the transaction with it is committed in the
    /// coordinator's log: from then on the coordinator will send it a marker.
    ///
    /// Of a partition:
    /// - NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE, COORDINATOR_LOAD_IN_PROGRESS: look at the metadata again, then repeat.
    /// - CONCURRENT_TRANSACTIONS: the last transaction is still ending; repeat a little later.
    /// - TRANSACTION_ABORTABLE (`verify_only`): the partition isn't in the transaction.
    /// - INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED: another producer has the transactional id, or a newer epoch.
    /// - UNKNOWN_TOPIC_OR_PARTITION: not in the receiver's metadata; the others of the request are OPERATION_NOT_ATTEMPTED.
    async fn add_partitions(&self, request: AddPartitions) -> Result<Vec<ErrorCode>>;
}

/// Finds the frontends.
pub trait FrontendDirectory: Send + Sync {
    /// `None` while no such node can be called.
    fn frontend(&self, node: NodeId) -> Option<std::sync::Arc<dyn Frontend>>;
}

/// Which frontend calls, under which registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    pub node_epoch: NodeEpoch,
}

/// Markers of one node's coordinators for partitions of one leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteMarkers {
    pub from: Peer,
    pub order: CallOrder,
    pub markers: Vec<MarkerFor>,
}

/// Where a call stands among those of its caller to one receiver, so that one that arrives when it is over is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOrder {
    /// Ascending over one registration of the caller, in the order of sending; 0: not numbered, as earlier versions call.
    pub number: u64,
    /// All of its calls to this receiver with lower numbers are over: answered, or given up.
    pub over_below: u64,
}

impl CallOrder {
    pub fn is_unknown(self) -> bool {
        self.number == 0
    }
}

/// The end of one producer's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerFor {
    pub producer_id: i64,
    /// At least that of the transaction's data; above it in transactions of version 2.
    pub producer_epoch: i16,
    /// Or aborted.
    pub is_commit: bool,
    /// The leader epoch of the coordinator's partition of `__transaction_state`: an older coordinator's markers are refused.
    pub coordinator_epoch: LeaderEpoch,
    /// From 2 on no data of the transaction has the marker's epoch (KIP-1228).
    pub transaction_version: i8,
    pub partitions: Vec<MarkedPartition>,
}

/// A partition that is to get a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkedPartition {
    pub topic: TopicId,
    pub index: i32,
    /// The leadership that it was sent to, and no other one; `None`: whichever there is.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A producer's question, or wish, about its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPartitions {
    pub from: Peer,
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Only ask.
    pub verify_only: bool,
    /// By name, as the coordinator's log has them.
    pub partitions: Vec<(String, i32)>,
}
