//! The records themselves, in the words of docs/design.md. Plain data: what they mean together is the controller's.

use std::collections::BTreeMap;

use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, DeviceId, JournalId, LeaderEpoch, LeaseEpoch, Lsn, LsnRange,
    MetadataVersion, NodeEpoch, NodeId, ObjectId, Offset, OffsetRange, StreamId, TaskId, TopicId,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    pub cluster: ClusterId,
    /// Term of the controller that opened the store last.
    pub term: ControllerEpoch,
}

/// The version of the metadata, and the next number of everything that is numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub version: MetadataVersion,
    pub next_stream: u64,
    pub next_journal: u64,
    pub next_object: u64,
    pub next_task: u64,
    pub next_producer_id: i64,
    pub next_config: u64,
    /// No node whose record was deleted had a higher epoch.
    pub forgotten_epoch: NodeEpoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeTier {
    Frontend,
    Wal,
    Compactor,
}

/// docs/design.md section 3, "Controlled shutdown".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    Starting,
    Active,
    Fenced,
    ControlledShutdown,
    ShuttingDown,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    pub tier: NodeTier,
    pub epoch: NodeEpoch,
    /// The node was given `epoch`. False once the epoch was raised to fence the registration before.
    pub granted: bool,
    pub state: NodeState,
    /// Of the process that was given the epoch.
    pub incarnation: u128,
    /// Name, host and port of each Kafka listener.
    pub endpoints: Vec<(String, String, u16)>,
    /// HOST:PORT of its gRPC port, if it has one.
    pub address: Option<String>,
    pub device: Option<DeviceId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    pub node: NodeId,
    /// The epoch granted last.
    pub epoch: DeviceEpoch,
    /// What the superblock may still have: set while the grant is unconfirmed.
    pub previous: Option<DeviceEpoch>,
    pub capacity_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRecord {
    pub name: String,
    pub configs: BTreeMap<String, String>,
    pub internal: bool,
    /// Partitions in order, as runs of consecutive streams: the first, and how many.
    pub runs: Vec<(StreamId, u32)>,
}

/// Up to [`super::STREAMS_PER_BLOCK`] streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamBlock {
    pub rows: BTreeMap<StreamId, StreamRow>,
}

/// A stream, which is a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRow {
    pub topic: TopicId,
    pub index: i32,
    /// The frontend that leads it, under the registration that got the leadership.
    pub leader: Option<(NodeId, NodeEpoch)>,
    pub leader_epoch: LeaderEpoch,
    pub start: Offset,
    /// Every node whose journals may hold records of this stream.
    pub owners: Vec<NodeId>,
    /// Of owners whose last leadership was closed before the present one: where its records end. At most one an owner.
    pub closed: Vec<ClosedTail>,
    /// Where the newest of the closed leaderships ended.
    pub ended: Option<StreamEnd>,
}

/// Everything that `owner` has of a stream lies in its journals before `journal`, and in that one below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedTail {
    pub owner: NodeId,
    pub journal: JournalId,
    pub end: Lsn,
}

/// The leadership of that epoch, and all before it, ended at exactly this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    pub leader_epoch: LeaderEpoch,
    pub end: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalState {
    Open,
    Sealing,
    Sealed {
        end: Lsn,
    },
    /// Sealed and uploaded to its end: to be forgotten by the devices, then here.
    Gone {
        end: Lsn,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    pub owner: NodeId,
    pub owner_epoch: NodeEpoch,
    pub ensemble: Vec<DeviceId>,
    pub ack_quorum: u8,
    pub min_leader_epochs: Vec<(StreamId, LeaderEpoch)>,
    pub state: JournalState,
    /// Everything below is in committed objects.
    pub trim: Lsn,
    /// The upload of this journal, the epoch of its newest lease, and who was given that one.
    pub task: TaskId,
    pub lease: LeaseEpoch,
    pub holder: Option<(NodeId, NodeEpoch)>,
    pub last_commit: Option<JournalCommit>,
    /// Its owner appends nothing before it has confirmed that it opened the journal, and hasn't yet.
    pub unconfirmed: bool,
}

/// The commit that moved a journal's trim LSN last: recognises its repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalCommit {
    pub lease: LeaseEpoch,
    pub range: LsnRange,
    pub version: MetadataVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectLife {
    /// Its writer may write it and commit it.
    Prepared,
    /// It is readable.
    Committed,
    /// It was readable, and nothing names it any more: to be deleted.
    Marked,
    /// It was never committed and never will be: to be deleted until its writer's deadline has passed.
    Expired,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Where it lies in object storage; kept as it was built, so that the form of keys may change.
    pub key: String,
    /// The lease under which it was prepared.
    pub task: TaskId,
    pub lease: LeaseEpoch,
    pub life: ObjectLife,
    /// The version that showed it; stays when it is marked.
    pub committed: Option<MetadataVersion>,
    pub size_bytes: u64,
    /// What readers find here. Slices of different objects never overlap.
    pub slices: Vec<ObjectSlice>,
    /// At most one a stream, by ascending stream.
    pub snapshots: Vec<ObjectSnapshot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectSlice {
    pub stream: StreamId,
    pub range: OffsetRange,
    /// Last stable offset known when it was uploaded, at most `range.end`.
    pub stable_end: Offset,
    pub max_timestamp_ms: i64,
    pub bytes: u64,
    /// Key compaction has seen it: it has no key that it, or a cleaned slice before it, has twice.
    pub is_cleaned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectSnapshot {
    pub stream: StreamId,
    /// The offset at which it is exact.
    pub at: Offset,
    pub position: u64,
    pub length: u32,
    pub crc: u32,
}

/// A task that deletes objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionRecord {
    pub objects: Vec<ObjectId>,
    pub lease: LeaseEpoch,
    pub holder: Option<(NodeId, NodeEpoch)>,
}

/// A task that rewrites what objects have of a range of a stream (key compaction).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleaningRecord {
    pub stream: StreamId,
    pub range: OffsetRange,
    pub first_dirty: Offset,
    pub delete_retention_ms: u64,
    pub lease: LeaseEpoch,
    /// `None`: it ended early, and whoever is next goes on.
    pub holder: Option<(NodeId, NodeEpoch)>,
    /// Everything below is committed, cleaned of what keys below `keys_end` have superseded; 0: nothing is.
    pub done_to: Offset,
    pub keys_end: Offset,
}

/// What settings are about that have no other record; a topic's are in its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigOwner {
    /// One frontend, or all of them.
    Broker(Option<NodeId>),
    Group(String),
    ClientMetrics(String),
}

/// What is set of one owner; defaults are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRecord {
    pub owner: ConfigOwner,
    pub configs: BTreeMap<String, String>,
}
