//! Registration, heartbeats, and the stream of metadata that every node follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, DeviceId, LeaderEpoch, MetadataVersion, NodeEpoch, NodeId, Offset,
    StreamId, TopicId,
};

use super::{Caller, ConfigResource, OpenStream};
use crate::{Result, Stream};

/// Who is there, and what everybody must know.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// Gives the node a new epoch. What an older epoch of a frontend left open is fenced and sealed at once, without waiting
    /// for the lease. A repeat with the same `incarnation` answers as the first did.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for another cluster, another tier under this id, or a device epoch that isn't the granted one
    /// (nor the previous one while a grant is unconfirmed); the text says what was found and what was expected.
    async fn register(&self, request: RegisterNode) -> Result<Registration>;

    /// The superblock with the granted device epoch is durable. Until this answers, the device serves nobody.
    async fn confirm_device(&self, caller: Caller, device: DeviceId, epoch: DeviceEpoch) -> Result<()>;

    /// Keeps the lease and reports the node's state; the answer has the state that the controller sees.
    async fn heartbeat(&self, caller: Caller, request: Heartbeat) -> Result<HeartbeatAnswer>;

    /// A snapshot of the metadata, then each change in order. If the versions that arrive have a gap
    /// (`update.previous` isn't the last one's version), the caller starts again.
    async fn watch(&self, caller: Caller) -> Result<Stream<Arc<MetadataUpdate>>>;

    /// Everybody who is or was registered, now and again after each change of it; slow receivers miss some and see the
    /// last. Open to those who are not registered (yet): it is how the tiers find each other.
    async fn watch_nodes(&self) -> Result<Stream<Vec<NodeInfo>>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    Frontend,
    Wal,
    Compactor,
}

/// Where Kafka clients that came through one listener reach a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name (Kafka's listener name); a client is told of addresses under the name that it came through.
    pub listener: String,
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterNode {
    pub node: NodeId,
    pub tier: Tier,
    /// The cluster that the node's own durable state names; `None` if it has none yet.
    pub cluster: Option<ClusterId>,
    /// Random, one a process: recognises a repeat of this registration.
    pub incarnation: u128,
    /// Kafka listeners of a frontend.
    pub endpoints: Vec<Endpoint>,
    /// HOST:PORT at which other tiers reach the node's gRPC port; `None`: it has none, or all tiers are one process.
    pub address: Option<String>,
    pub device: Option<DeviceReport>,
}

/// A WAL node's device as its superblock has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    pub device: DeviceId,
    /// Epoch of the last start; 0 for one just formatted.
    pub epoch: DeviceEpoch,
    pub capacity_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub cluster: ClusterId,
    pub controller_epoch: ControllerEpoch,
    pub node_epoch: NodeEpoch,
    /// To be written to the superblock, then confirmed; for WAL nodes.
    pub device_epoch: Option<DeviceEpoch>,
    /// For how long after a call of the node's was sent the node isn't fenced for being silent. `None`: it never is, or the
    /// controller is one that doesn't tell.
    pub lease: Option<Duration>,
}

/// docs/design.md section 3, "Controlled shutdown".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeState {
    Starting,
    Active,
    Fenced,
    ControlledShutdown,
    ShuttingDown,
    Gone,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The node has received a stop signal and wants to leave in order.
    pub controlled_shutdown: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    pub controller_epoch: ControllerEpoch,
    pub state: NodeState,
    /// Leaderships that the node is asked to give away ([`super::Journals::close_streams`]), since another leads fewer. It may
    /// as well not: what isn't named any more isn't wanted any more.
    pub asked: Vec<OpenStream>,
    /// As [`Registration::lease`].
    pub lease: Option<Duration>,
}

/// One atomic step of the metadata, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataUpdate {
    pub version: MetadataVersion,
    /// The version this one follows; `None`: a snapshot, and whatever it doesn't name doesn't exist.
    pub previous: Option<MetadataVersion>,
    pub changes: Vec<MetadataChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataChange {
    Node(NodeInfo),
    /// A topic is new or its settings have changed; its partitions follow by themselves.
    Topic(TopicInfo),
    TopicDeleted(TopicId),
    Partition(PartitionInfo),
    Stream(StreamProgress),
    Config(ConfigInfo),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    pub node: NodeId,
    pub tier: Tier,
    pub epoch: NodeEpoch,
    pub state: NodeState,
    pub endpoints: Vec<Endpoint>,
    /// See [`RegisterNode::address`].
    pub address: Option<String>,
    pub device: Option<DeviceId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub id: TopicId,
    pub name: String,
    /// Set at creation or later; defaults are not in it.
    pub configs: BTreeMap<String, String>,
    pub internal: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub topic: TopicId,
    pub index: i32,
    pub stream: StreamId,
    /// The frontend that leads it or shall open it; `None` while there is none.
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
}

/// What is set of something else than a topic; nothing set: forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigInfo {
    pub resource: ConfigResource,
    pub configs: BTreeMap<String, String>,
}

/// Where a stream begins, and what is in objects of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamProgress {
    pub stream: StreamId,
    /// The first offset that may be read; may be above `uploaded`, since records can be deleted before they are uploaded.
    pub start: Offset,
    /// The end of the contiguous uploaded prefix.
    pub uploaded: Offset,
    /// Nothing of an aborted transaction that ends below is left in the objects that this version names.
    pub cleaned: Offset,
}
