//! What goes into a group's state machine and what comes out of it.
//!
//! Owns: requests, replies, records and deadlines as plain values in Kafka's words. Does not own: the wire (`wire.rs`),
//! the log's bytes (`record.rs`), any decision.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::ErrorCode;
use tailwater_log::TransactionMarker;
use tailwater_runtime::clock::Instant;
use tailwater_types::TopicId;

use super::assignor::Assignor;
use super::consumer::group::ConsumerGroup;
use super::consumer::heartbeat::{Heartbeat, HeartbeatReply, Settings};
use super::consumer::record::{ConsumerRecord, Subscription};
use super::consumer::state::Partitions;
use super::consumer::topics::Topics;
use super::state::Group;
use crate::config::GroupsConfig;
pub(crate) use crate::coordinator::{InTransaction, Now, Waiter};

/// Bounds that hold for every group.
#[derive(Clone, Debug)]
pub struct Limits {
    pub initial_rebalance_delay: Duration,
    /// Members of one group.
    pub max_size: usize,
    /// How long offsets are kept that nobody needs.
    pub offsets_retention: Duration,
    /// How often groups are looked at for what has expired.
    pub expiry_interval: Duration,
    /// Of groups whose coordinator assigns.
    pub consumer: Settings,
}

impl Limits {
    pub fn new(config: &GroupsConfig) -> Self {
        Self {
            initial_rebalance_delay: config.initial_rebalance_delay.as_duration(),
            max_size: config.max_size,
            offsets_retention: config.offsets_retention.as_duration(),
            expiry_interval: config.offsets_retention_check_interval.as_duration(),
            consumer: Settings {
                session_timeout: config.consumer_session_timeout.as_duration(),
                heartbeat_interval: config.consumer_heartbeat_interval.as_duration(),
                assignment_interval: config.consumer_assignment_interval.as_duration(),
                max_size: config.consumer_max_size,
                assignor: Assignor::ALL[0],
                migration: config.consumer_migration_policy,
                classic_max_size: config.max_size,
            },
        }
    }
}

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub struct Join {
    /// Empty: the member is new, or doesn't know its id any more.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// In the member's order of preference, no name twice.
    pub protocols: Vec<Protocol>,
    /// Whether a new member must come back with the id it was given first (KIP-394, version 4).
    pub requires_known_member_id: bool,
    /// Whether a leader can be told not to assign anything (KIP-814, version 9).
    pub can_skip_assignment: bool,
    /// The id for a new member.
    pub new_member_id: String,
}

/// One way to assign partitions that a member supports, with what it has to say under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

/// A SyncGroup request.
#[derive(Clone, Debug)]
pub struct Sync {
    pub member: MemberRef,
    /// Checked where the client says it (KIP-559, version 5).
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// The leader's; by member id.
    pub assignments: BTreeMap<String, Bytes>,
}

/// Who says something, in which generation.
#[derive(Clone, Debug)]
pub struct MemberRef {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

/// One member of a LeaveGroup request.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// Empty: whoever has the instance id.
    pub member_id: String,
    pub instance_id: Option<String>,
}

/// An OffsetCommit request.
#[derive(Clone, Debug)]
pub struct Commit {
    pub member: MemberRef,
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
    /// What an unknown group answers to a member of it: depends on the request's version.
    pub unknown_group: ErrorCode,
    /// Whether the request's version has members' epochs (KIP-848).
    pub knows_epochs: bool,
}

/// A TxnOffsetCommit request, whose transaction is known to have this group's partition of the log.
#[derive(Clone, Debug)]
pub struct TransactionalCommit {
    pub member: MemberRef,
    pub producer: InTransaction,
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    /// -1: not said.
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_timestamp_ms: i64,
    /// When it may be forgotten; -1: by the cluster's own rule. Clients before OffsetCommit 5 say it.
    pub expire_timestamp_ms: i64,
    /// The topic's at the time of the commit, where it was known (KIP-848).
    pub topic_id: Option<TopicId>,
}

/// Which offsets an OffsetFetch request asks for; `None`: all there are.
#[derive(Clone, Debug)]
pub struct FetchOffsets {
    /// Whether what is on its way counts too: the answer waits for its outcome, and is none where a transaction is open
    /// (KIP-447).
    pub require_stable: bool,
    /// Who asks, and in which epoch; only groups whose coordinator assigns look at it.
    pub member_id: Option<String>,
    pub member_epoch: i32,
    pub topics: Option<Vec<(String, Vec<i32>)>>,
}

/// What is committed of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    Nothing,
    Offset(CommittedOffset),
    /// An open transaction would commit another offset: UNSTABLE_OFFSET_COMMIT.
    Unstable,
}

/// Anything that a client can ask of a group.
#[derive(Clone, Debug)]
pub enum Request {
    Join(Join),
    Sync(Sync),
    Heartbeat(MemberRef),
    ConsumerHeartbeat(Box<Heartbeat>),
    Leave(Vec<Leaving>),
    Commit(Commit),
    CommitInTransaction(TransactionalCommit),
    /// Of no group in particular: of all that a transaction has offsets of.
    EndTransaction(TransactionMarker),
    FetchOffsets(FetchOffsets),
    Describe,
    DescribeConsumer,
    /// Of no group in particular: all of a shard.
    List,
    Delete,
    DeleteOffsets(Vec<TopicPartition>),
}

/// What a client can ask about who is a member of a group.
#[derive(Clone, Debug)]
pub enum Membership {
    Join(Join),
    Sync(Sync),
    Heartbeat(MemberRef),
    ConsumerHeartbeat(Box<Heartbeat>),
    Leave(Vec<Leaving>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Join(JoinReply),
    Sync(SyncReply),
    Heartbeat(ErrorCode),
    ConsumerHeartbeat(Box<HeartbeatReply>),
    Leave(LeaveReply),
    /// One error for the whole request: whether it was stored.
    Commit(ErrorCode),
    /// Whether the marker is written.
    Ended(ErrorCode),
    /// By topic and partition.
    FetchOffsets(Result<Vec<FetchedTopic>, ErrorCode>),
    Describe(Result<GroupDescription, DescribeError>),
    DescribeConsumer(Result<ConsumerDescription, DescribeError>),
    List(Result<Vec<GroupSummary>, ErrorCode>),
    Delete(ErrorCode),
    /// In the request's order, or one error for the whole request.
    DeleteOffsets(Result<Vec<ErrorCode>, ErrorCode>),
}

/// A group as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Kafka's name for it.
    pub state: &'static str,
    /// Empty where nobody was ever a member.
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol_name: String,
    /// What they say and have is empty unless the group is stable.
    pub members: Vec<MemberMetadata>,
}

/// Why a group isn't described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescribeError {
    Code(ErrorCode),
    /// There is one, but not of the type that is asked for.
    OtherType,
}

/// A group whose coordinator assigns, as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// Kafka's name for it.
    pub state: &'static str,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: &'static str,
    pub members: Vec<ConsumerMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMember {
    pub member_id: String,
    pub epoch: i32,
    pub subscription: Subscription,
    pub assigned: Partitions,
    pub target: Partitions,
}

/// A group in a list of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSummary {
    pub id: String,
    /// Kafka's name for its type.
    pub group_type: &'static str,
    pub state: &'static str,
    pub protocol_type: String,
}

pub type FetchedTopic = (String, Vec<(i32, Fetched)>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    pub error: ErrorCode,
    pub member_id: String,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    /// For the leader only.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReply {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveReply {
    pub error: ErrorCode,
    /// In the request's order.
    pub members: Vec<ErrorCode>,
}

impl JoinReply {
    pub fn refused(member_id: &str, error: ErrorCode) -> Self {
        Self {
            error,
            member_id: member_id.to_owned(),
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

impl SyncReply {
    pub fn refused(error: ErrorCode) -> Self {
        Self {
            error,
            ..Self::default()
        }
    }
}

impl Membership {
    /// How large it is, not to the byte.
    pub fn about_bytes(&self) -> usize {
        const SMALL: usize = 256;
        SMALL
            + match self {
                Self::Join(join) => join.protocols.iter().map(|protocol| protocol.metadata.len()).sum(),
                Self::Sync(sync) => sync.assignments.iter().map(|(id, part)| id.len() + part.len()).sum(),
                Self::Heartbeat(_) => 0,
                Self::ConsumerHeartbeat(request) => request.about_bytes(),
                Self::Leave(leaving) => leaving.iter().map(|who| SMALL + who.member_id.len()).sum(),
            }
    }

    /// The reply that refuses it as a whole.
    pub fn refused(&self, error: ErrorCode) -> Reply {
        match self {
            Self::Join(join) => Reply::Join(JoinReply::refused(&join.member_id, error)),
            Self::Sync(_) => Reply::Sync(SyncReply::refused(error)),
            Self::Heartbeat(_) => Reply::Heartbeat(error),
            Self::ConsumerHeartbeat(_) => Reply::ConsumerHeartbeat(Box::new(HeartbeatReply::refused((error, None)))),
            Self::Leave(_) => Reply::Leave(LeaveReply {
                error,
                members: Vec::new(),
            }),
        }
    }
}

impl Request {
    /// The reply that refuses it as a whole.
    pub fn refused(&self, error: ErrorCode) -> Reply {
        match self {
            Self::Join(join) => Reply::Join(JoinReply::refused(&join.member_id, error)),
            Self::Sync(_) => Reply::Sync(SyncReply::refused(error)),
            Self::Heartbeat(_) => Reply::Heartbeat(error),
            Self::ConsumerHeartbeat(_) => Reply::ConsumerHeartbeat(Box::new(HeartbeatReply::refused((error, None)))),
            Self::Leave(_) => Reply::Leave(LeaveReply {
                error,
                members: Vec::new(),
            }),
            Self::Commit(_) | Self::CommitInTransaction(_) => Reply::Commit(error),
            Self::EndTransaction(_) => Reply::Ended(error),
            Self::FetchOffsets(_) => Reply::FetchOffsets(Err(error)),
            Self::Describe => Reply::Describe(Err(DescribeError::Code(error))),
            Self::DescribeConsumer => Reply::DescribeConsumer(Err(DescribeError::Code(error))),
            Self::List => Reply::List(Err(error)),
            Self::Delete => Reply::Delete(error),
            Self::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
        }
    }
}

impl Reply {
    /// The same sort of reply, refusing instead.
    pub(super) fn into_refusal(self, error: ErrorCode) -> Self {
        match self {
            Self::Join(reply) => Self::Join(JoinReply::refused(&reply.member_id, error)),
            Self::Sync(_) => Self::Sync(SyncReply::refused(error)),
            Self::Heartbeat(_) => Self::Heartbeat(error),
            Self::ConsumerHeartbeat(_) => Self::ConsumerHeartbeat(Box::new(HeartbeatReply::refused((error, None)))),
            Self::Leave(_) => Self::Leave(LeaveReply {
                error,
                members: Vec::new(),
            }),
            Self::Commit(_) => Self::Commit(error),
            Self::Ended(_) => Self::Ended(error),
            Self::FetchOffsets(_) => Self::FetchOffsets(Err(error)),
            Self::Describe(_) => Self::Describe(Err(DescribeError::Code(error))),
            Self::DescribeConsumer(_) => Self::DescribeConsumer(Err(DescribeError::Code(error))),
            Self::List(_) => Self::List(Err(error)),
            Self::Delete(_) => Self::Delete(error),
            Self::DeleteOffsets(_) => Self::DeleteOffsets(Err(error)),
        }
    }
}

/// What stands in `__consumer_offsets`: the last record of a key counts, and one without a value deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Group {
        group: String,
        value: Option<GroupMetadata>,
    },
    Offset {
        group: String,
        partition: TopicPartition,
        value: Option<CommittedOffset>,
    },
    /// Of a group whose coordinator assigns.
    Consumer { group: String, record: ConsumerRecord },
}

impl Record {
    pub fn group(&self) -> &str {
        let (Self::Group { group, .. } | Self::Offset { group, .. } | Self::Consumer { group, .. }) = self;
        group
    }
}

/// A group in one generation, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol_name: Option<String>,
    pub leader: Option<String>,
    /// When the group came into the state that it is in.
    pub since_ms: i64,
    pub members: Vec<MemberMetadata>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout: Duration,
    pub session_timeout: Duration,
    /// Its metadata under the chosen protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// Records to be written in one batch, or a marker, and what they decide once they are committed (docs/design.md,
/// invariant 10).
#[derive(Debug)]
pub struct Write {
    /// Empty for a marker, which may be about several.
    pub group: String,
    /// Counts the group's writes.
    pub(super) number: u64,
    pub records: Vec<Record>,
    /// Answers when the write is committed; refused if it fails.
    pub answers: Vec<(Waiter, Reply)>,
    pub(super) then: Then,
}

impl Write {
    /// The end of a producer's transaction in all groups of the log.
    pub(super) fn of_marker(marker: TransactionMarker, waiter: Waiter) -> Self {
        Self {
            group: String::new(),
            number: 0,
            records: Vec::new(),
            answers: vec![(waiter, Reply::Ended(ErrorCode::None))],
            then: Then::EndTransaction(marker),
        }
    }
}

/// What a group does when its records are committed, or when they can't be.
#[derive(Debug)]
pub(super) enum Then {
    Nothing,
    /// The leader's assignment is everybody's.
    Assign {
        generation: i32,
        assignments: BTreeMap<String, Bytes>,
    },
    /// A static member has a new id.
    Replace(Box<Replaced>),
    StoreOffsets(Vec<(TopicPartition, CommittedOffset)>),
    /// Offsets that count when their transaction is committed.
    KeepPending(InTransaction, Vec<(TopicPartition, CommittedOffset)>),
    EndTransaction(TransactionMarker),
    /// The group is forgotten, with these offsets; `was_stored`: what it goes back to if that can't be written.
    Delete {
        offsets: Vec<TopicPartition>,
        was_stored: bool,
        consumer: Option<Box<ConsumerGroup>>,
    },
    /// What the other half of the group has decided.
    Consumer,
    /// The coordinator assigns from now on; what the group was, to go back to if that can't be written.
    Upgrade(Box<Group>),
    /// The members assign again, as this group does.
    Downgrade {
        classic: Box<Group>,
        rebalances: bool,
    },
    DropOffsets(Vec<TopicPartition>),
}

/// What a static member was before it came back, to go back to if that can't be stored.
#[derive(Debug)]
pub(super) struct Replaced {
    pub generation: i32,
    pub waiter: Waiter,
    pub old_id: String,
    pub new_id: String,
    pub old_leader: String,
    pub old_protocols: Vec<Protocol>,
    pub old_session_timeout: Duration,
    pub old_rebalance_timeout: Duration,
    pub can_skip_assignment: bool,
}

/// What a step asks its driver to do.
#[derive(Debug, Default)]
pub struct Effects {
    pub replies: Vec<(Waiter, Reply)>,
    /// To be appended in this order, before those of any later step.
    pub writes: Vec<Write>,
    /// Generations that got their assignment.
    pub rebalances: u64,
    /// The earliest of the deadlines that were set.
    pub(super) wake_at: Option<Instant>,
}

/// One step's surroundings.
pub(super) struct Step<'a> {
    pub now: Now,
    pub limits: &'a Limits,
    pub topics: &'a dyn Topics,
    pub effects: &'a mut Effects,
}

impl Step<'_> {
    pub fn reply(&mut self, waiter: Waiter, reply: Reply) {
        self.effects.replies.push((waiter, reply));
    }

    /// A deadline that long from now, which the driver will come back for.
    pub fn deadline(&mut self, after: Duration) -> Instant {
        let at = self.now.at + after;
        self.wake(at);
        at
    }

    pub fn wake(&mut self, at: Instant) {
        let wake_at = &mut self.effects.wake_at;
        *wake_at = Some(wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}
