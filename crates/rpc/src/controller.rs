//! The controller's five ports: nodes, catalog, journals, objects, tasks (docs/design.md sections 3 to 5).
//!
//! Every call that changes something or is made as a registered node carries a [`Caller`]; its epochs are checked before anything else
//! ([`crate::Error::NodeEpochStale`], [`crate::Error::NodeEpochUnknown`], [`crate::Error::NodeFenced`],
//! [`crate::Error::NotActiveController`]). What an answer says is durable in the metadata store.

mod catalog;
mod journals;
mod nodes;
mod objects;
mod tasks;
mod wait;

use std::sync::Arc;

use tailwater_types::{ControllerEpoch, NodeEpoch, NodeId};

pub use catalog::{
    AlterConfigs, Catalog, ConfigChange, ConfigChanges, ConfigOp, ConfigResource, CreatePartitions, CreatedTopic,
    DeleteRecords, NewTopic, ProducerIds,
};
pub use journals::{
    CloseStream, ClosedAt, JournalGrant, JournalInfo, JournalState, Journals, OpenStream, OpenedStream, SnapshotAt,
    StreamTail,
};
pub use nodes::{
    ConfigInfo, DeviceReport, Endpoint, Heartbeat, HeartbeatAnswer, MetadataChange, MetadataUpdate, NodeInfo,
    NodeState, Nodes, PartitionInfo, RegisterNode, Registration, StreamProgress, Tier, TopicInfo,
};
pub use objects::{
    CommitObjects, CommitSource, CommittedObject, CommittedStream, ObjectSlice, Objects, PrepareObjects,
    PreparedObject, StreamObjects, StreamUpload,
};
pub use tasks::{Lease, LeaseRef, TaskKind, Tasks, Work};
pub use wait::{is_passing, until_answered};

/// Who calls, and under which epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub node: NodeId,
    pub node_epoch: NodeEpoch,
    /// The newest controller term that the caller has seen.
    pub controller_epoch: ControllerEpoch,
}

/// A controller: its five ports, which one object or five may implement.
#[derive(Clone)]
pub struct Controller {
    pub nodes: Arc<dyn Nodes>,
    pub catalog: Arc<dyn Catalog>,
    pub journals: Arc<dyn Journals>,
    pub objects: Arc<dyn Objects>,
    pub tasks: Arc<dyn Tasks>,
}

impl Controller {
    /// All five ports of one implementation.
    pub fn of<T: Nodes + Catalog + Journals + Objects + Tasks + 'static>(all: Arc<T>) -> Self {
        Self {
            nodes: all.clone(),
            catalog: all.clone(),
            journals: all.clone(),
            objects: all.clone(),
            tasks: all,
        }
    }
}
