//! The protobuf messages behind the records. A field's number is never used again.

use std::collections::BTreeMap;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct ClusterMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub cluster: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub term: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct CountersMessage {
    #[prost(uint64, tag = "1")]
    pub version: u64,
    #[prost(uint64, tag = "2")]
    pub next_stream: u64,
    #[prost(uint64, tag = "3")]
    pub next_journal: u64,
    #[prost(uint64, tag = "4")]
    pub next_object: u64,
    #[prost(uint64, tag = "5")]
    pub next_task: u64,
    #[prost(int64, tag = "6")]
    pub next_producer_id: i64,
    #[prost(uint64, tag = "7")]
    pub next_config: u64,
    #[prost(uint64, tag = "8")]
    pub forgotten_epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct EndpointMessage {
    #[prost(string, tag = "1")]
    pub host: String,
    #[prost(uint32, tag = "2")]
    pub port: u32,
    #[prost(string, tag = "3")]
    pub listener: String,
}

/// A registration: a node under one of its epochs.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct RegistrationMessage {
    #[prost(uint32, tag = "1")]
    pub node: u32,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeMessage {
    #[prost(uint32, tag = "1")]
    pub tier: u32,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(bool, tag = "3")]
    pub granted: bool,
    #[prost(uint32, tag = "4")]
    pub state: u32,
    #[prost(bytes = "vec", tag = "5")]
    pub incarnation: Vec<u8>,
    #[prost(message, repeated, tag = "6")]
    pub endpoints: Vec<EndpointMessage>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub device: Option<Vec<u8>>,
    #[prost(string, optional, tag = "8")]
    pub address: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeviceMessage {
    #[prost(uint32, tag = "1")]
    pub node: u32,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(uint64, optional, tag = "3")]
    pub previous: Option<u64>,
    #[prost(uint64, tag = "4")]
    pub capacity_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct RunMessage {
    #[prost(uint64, tag = "1")]
    pub first: u64,
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct TopicMessage {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub configs: BTreeMap<String, String>,
    #[prost(bool, tag = "3")]
    pub internal: bool,
    #[prost(message, repeated, tag = "4")]
    pub runs: Vec<RunMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RowMessage {
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub topic: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub index: i32,
    #[prost(message, optional, tag = "4")]
    pub leader: Option<RegistrationMessage>,
    #[prost(int32, tag = "5")]
    pub leader_epoch: i32,
    #[prost(int64, tag = "6")]
    pub start: i64,
    #[prost(uint32, repeated, tag = "7")]
    pub owners: Vec<u32>,
    #[prost(message, repeated, tag = "8")]
    pub closed: Vec<ClosedMessage>,
    #[prost(message, optional, tag = "9")]
    pub ended: Option<EndMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct ClosedMessage {
    #[prost(uint32, tag = "1")]
    pub owner: u32,
    #[prost(uint64, tag = "2")]
    pub journal: u64,
    #[prost(uint64, tag = "3")]
    pub end: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct EndMessage {
    #[prost(int32, tag = "1")]
    pub leader_epoch: i32,
    #[prost(int64, tag = "2")]
    pub end: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct BlockMessage {
    #[prost(message, repeated, tag = "1")]
    pub rows: Vec<RowMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct MinimumMessage {
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    #[prost(int32, tag = "2")]
    pub leader_epoch: i32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct CommitMessage {
    #[prost(uint64, tag = "1")]
    pub lease: u64,
    #[prost(uint64, tag = "2")]
    pub start: u64,
    #[prost(uint64, tag = "3")]
    pub end: u64,
    #[prost(uint64, tag = "4")]
    pub version: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct JournalMessage {
    #[prost(message, optional, tag = "1")]
    pub owner: Option<RegistrationMessage>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub ensemble: Vec<Vec<u8>>,
    #[prost(uint32, tag = "3")]
    pub ack_quorum: u32,
    #[prost(message, repeated, tag = "4")]
    pub min_leader_epochs: Vec<MinimumMessage>,
    #[prost(uint32, tag = "5")]
    pub state: u32,
    #[prost(uint64, optional, tag = "6")]
    pub end: Option<u64>,
    #[prost(uint64, tag = "7")]
    pub trim: u64,
    #[prost(uint64, tag = "8")]
    pub task: u64,
    #[prost(uint64, tag = "9")]
    pub lease: u64,
    #[prost(message, optional, tag = "10")]
    pub holder: Option<RegistrationMessage>,
    #[prost(message, optional, tag = "11")]
    pub last_commit: Option<CommitMessage>,
    #[prost(bool, tag = "12")]
    pub unconfirmed: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct SliceMessage {
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    #[prost(int64, tag = "2")]
    pub start: i64,
    /// `end - start`.
    #[prost(int64, tag = "3")]
    pub count: i64,
    /// `end - stable_end`: 0 where there are no transactions.
    #[prost(int64, tag = "4")]
    pub unstable: i64,
    #[prost(sint64, tag = "5")]
    pub max_timestamp_ms: i64,
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
    #[prost(bool, tag = "7")]
    pub is_cleaned: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct SnapshotMessage {
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    #[prost(int64, tag = "2")]
    pub at: i64,
    #[prost(uint64, tag = "3")]
    pub position: u64,
    #[prost(uint32, tag = "4")]
    pub length: u32,
    #[prost(fixed32, tag = "5")]
    pub crc: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ObjectMessage {
    #[prost(uint64, tag = "1")]
    pub task: u64,
    #[prost(uint64, tag = "2")]
    pub lease: u64,
    #[prost(uint32, tag = "3")]
    pub life: u32,
    #[prost(uint64, optional, tag = "4")]
    pub committed: Option<u64>,
    #[prost(uint64, tag = "5")]
    pub size_bytes: u64,
    #[prost(message, repeated, tag = "6")]
    pub slices: Vec<SliceMessage>,
    #[prost(message, repeated, tag = "7")]
    pub snapshots: Vec<SnapshotMessage>,
    #[prost(string, tag = "8")]
    pub key: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeletionMessage {
    #[prost(uint64, repeated, tag = "1")]
    pub objects: Vec<u64>,
    #[prost(uint64, tag = "2")]
    pub lease: u64,
    #[prost(message, optional, tag = "3")]
    pub holder: Option<RegistrationMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ConfigMessage {
    /// 1: a frontend, or all of them without a node; 2: a group; 3: client metrics.
    #[prost(uint32, tag = "1")]
    pub owner: u32,
    #[prost(uint32, optional, tag = "2")]
    pub node: Option<u32>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(btree_map = "string, string", tag = "4")]
    pub configs: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct CleaningMessage {
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    #[prost(int64, tag = "2")]
    pub start: i64,
    #[prost(int64, tag = "3")]
    pub end: i64,
    #[prost(int64, tag = "4")]
    pub first_dirty: i64,
    #[prost(uint64, tag = "5")]
    pub delete_retention_ms: u64,
    #[prost(uint64, tag = "6")]
    pub lease: u64,
    #[prost(message, optional, tag = "7")]
    pub holder: Option<RegistrationMessage>,
    #[prost(int64, tag = "8")]
    pub done_to: i64,
    #[prost(int64, tag = "9")]
    pub keys_end: i64,
}
