//! Messages of the port `Nodes`.

use std::time::Duration;

use tailwater_types::{ControllerEpoch, DeviceEpoch, MetadataVersion, NodeEpoch, NodeId, StreamId};

use super::{
    all, cluster_id, device_id, enumerated, id_bytes, into_all, leader_epoch, number, offset, required, sixteen,
    topic_id, unspecified,
};
use crate::controller::{
    DeviceReport, Endpoint, HeartbeatAnswer, MetadataChange, NodeInfo, NodeState, PartitionInfo, RegisterNode,
    Registration, StreamProgress, Tier, TopicInfo,
};
use crate::grpc::proto;
use crate::grpc::proto::metadata_change::Change;
use crate::{Error, Result};

fn tier(value: i32, field: &str) -> Result<Tier> {
    match enumerated(value, field)? {
        proto::Tier::Unspecified => Err(unspecified(field)),
        proto::Tier::Frontend => Ok(Tier::Frontend),
        proto::Tier::Wal => Ok(Tier::Wal),
        proto::Tier::Compactor => Ok(Tier::Compactor),
    }
}

fn node_state(value: i32, field: &str) -> Result<NodeState> {
    match enumerated(value, field)? {
        proto::NodeState::Unspecified => Err(unspecified(field)),
        proto::NodeState::Starting => Ok(NodeState::Starting),
        proto::NodeState::Active => Ok(NodeState::Active),
        proto::NodeState::Fenced => Ok(NodeState::Fenced),
        proto::NodeState::ControlledShutdown => Ok(NodeState::ControlledShutdown),
        proto::NodeState::ShuttingDown => Ok(NodeState::ShuttingDown),
        proto::NodeState::Gone => Ok(NodeState::Gone),
    }
}

impl From<Tier> for proto::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Frontend => Self::Frontend,
            Tier::Wal => Self::Wal,
            Tier::Compactor => Self::Compactor,
        }
    }
}

impl From<NodeState> for proto::NodeState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Starting => Self::Starting,
            NodeState::Active => Self::Active,
            NodeState::Fenced => Self::Fenced,
            NodeState::ControlledShutdown => Self::ControlledShutdown,
            NodeState::ShuttingDown => Self::ShuttingDown,
            NodeState::Gone => Self::Gone,
        }
    }
}

impl From<Endpoint> for proto::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            host: endpoint.host,
            port: endpoint.port.into(),
            listener: endpoint.listener,
        }
    }
}

impl TryFrom<proto::Endpoint> for Endpoint {
    type Error = Error;

    fn try_from(endpoint: proto::Endpoint) -> Result<Self> {
        Ok(Self {
            listener: endpoint.listener,
            host: endpoint.host,
            port: number(endpoint.port, "endpoint.port")?,
        })
    }
}

impl From<DeviceReport> for proto::DeviceReport {
    fn from(report: DeviceReport) -> Self {
        Self {
            device: id_bytes(report.device.to_bytes()),
            epoch: report.epoch.0,
            capacity_bytes: report.capacity_bytes,
        }
    }
}

impl TryFrom<proto::DeviceReport> for DeviceReport {
    type Error = Error;

    fn try_from(report: proto::DeviceReport) -> Result<Self> {
        Ok(Self {
            device: device_id(&report.device, "device.device")?,
            epoch: DeviceEpoch(report.epoch),
            capacity_bytes: report.capacity_bytes,
        })
    }
}

impl From<RegisterNode> for proto::RegisterRequest {
    fn from(request: RegisterNode) -> Self {
        Self {
            node: request.node.0,
            tier: proto::Tier::from(request.tier).into(),
            cluster: request.cluster.map(|cluster| id_bytes(cluster.to_bytes())),
            incarnation: id_bytes(request.incarnation.to_be_bytes()),
            endpoints: into_all(request.endpoints),
            device: request.device.map(Into::into),
            address: request.address,
        }
    }
}

impl TryFrom<proto::RegisterRequest> for RegisterNode {
    type Error = Error;

    fn try_from(request: proto::RegisterRequest) -> Result<Self> {
        let cluster = request.cluster.map(|cluster| cluster_id(&cluster, "cluster"));
        Ok(Self {
            node: NodeId(request.node),
            tier: tier(request.tier, "tier")?,
            cluster: cluster.transpose()?,
            incarnation: u128::from_be_bytes(sixteen(&request.incarnation, "incarnation")?),
            endpoints: all(request.endpoints)?,
            address: request.address,
            device: request.device.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<Registration> for proto::Registration {
    fn from(registration: Registration) -> Self {
        Self {
            cluster: id_bytes(registration.cluster.to_bytes()),
            controller_epoch: registration.controller_epoch.0,
            node_epoch: registration.node_epoch.0,
            device_epoch: registration.device_epoch.map(|epoch| epoch.0),
            lease_ms: registration.lease.map(super::tasks::ms),
        }
    }
}

impl TryFrom<proto::Registration> for Registration {
    type Error = Error;

    fn try_from(registration: proto::Registration) -> Result<Self> {
        Ok(Self {
            cluster: cluster_id(&registration.cluster, "cluster")?,
            controller_epoch: ControllerEpoch(registration.controller_epoch),
            node_epoch: NodeEpoch(registration.node_epoch),
            device_epoch: registration.device_epoch.map(DeviceEpoch),
            lease: registration.lease_ms.map(Duration::from_millis),
        })
    }
}

impl From<HeartbeatAnswer> for proto::HeartbeatAnswer {
    fn from(answer: HeartbeatAnswer) -> Self {
        Self {
            controller_epoch: answer.controller_epoch.0,
            state: proto::NodeState::from(answer.state).into(),
            asked: into_all(answer.asked),
            lease_ms: answer.lease.map(super::tasks::ms),
        }
    }
}

impl TryFrom<proto::HeartbeatAnswer> for HeartbeatAnswer {
    type Error = Error;

    fn try_from(answer: proto::HeartbeatAnswer) -> Result<Self> {
        Ok(Self {
            controller_epoch: ControllerEpoch(answer.controller_epoch),
            state: node_state(answer.state, "state")?,
            asked: all(answer.asked)?,
            lease: answer.lease_ms.map(Duration::from_millis),
        })
    }
}

impl From<NodeInfo> for proto::NodeInfo {
    fn from(node: NodeInfo) -> Self {
        Self {
            node: node.node.0,
            tier: proto::Tier::from(node.tier).into(),
            epoch: node.epoch.0,
            state: proto::NodeState::from(node.state).into(),
            endpoints: into_all(node.endpoints),
            device: node.device.map(|device| id_bytes(device.to_bytes())),
            address: node.address,
        }
    }
}

impl TryFrom<proto::NodeInfo> for NodeInfo {
    type Error = Error;

    fn try_from(node: proto::NodeInfo) -> Result<Self> {
        let device = node.device.map(|device| device_id(&device, "node.device"));
        Ok(Self {
            node: NodeId(node.node),
            tier: tier(node.tier, "node.tier")?,
            epoch: NodeEpoch(node.epoch),
            state: node_state(node.state, "node.state")?,
            endpoints: all(node.endpoints)?,
            address: node.address,
            device: device.transpose()?,
        })
    }
}

impl From<TopicInfo> for proto::TopicInfo {
    fn from(topic: TopicInfo) -> Self {
        Self {
            id: id_bytes(topic.id.to_bytes()),
            name: topic.name,
            configs: topic.configs.into_iter().collect(),
            internal: topic.internal,
        }
    }
}

impl TryFrom<proto::TopicInfo> for TopicInfo {
    type Error = Error;

    fn try_from(topic: proto::TopicInfo) -> Result<Self> {
        Ok(Self {
            id: topic_id(&topic.id, "topic.id")?,
            name: topic.name,
            configs: topic.configs.into_iter().collect(),
            internal: topic.internal,
        })
    }
}

impl From<PartitionInfo> for proto::PartitionInfo {
    fn from(partition: PartitionInfo) -> Self {
        Self {
            topic: id_bytes(partition.topic.to_bytes()),
            index: partition.index,
            stream: partition.stream.0,
            leader: partition.leader.map(|leader| leader.0),
            leader_epoch: partition.leader_epoch.0,
        }
    }
}

impl TryFrom<proto::PartitionInfo> for PartitionInfo {
    type Error = Error;

    fn try_from(partition: proto::PartitionInfo) -> Result<Self> {
        Ok(Self {
            topic: topic_id(&partition.topic, "partition.topic")?,
            index: partition.index,
            stream: StreamId(partition.stream),
            leader: partition.leader.map(NodeId),
            leader_epoch: leader_epoch(partition.leader_epoch, "partition.leader_epoch")?,
        })
    }
}

impl From<StreamProgress> for proto::StreamProgress {
    fn from(progress: StreamProgress) -> Self {
        Self {
            stream: progress.stream.0,
            start: progress.start.0,
            uploaded: progress.uploaded.0,
            cleaned: progress.cleaned.0,
        }
    }
}

impl TryFrom<proto::StreamProgress> for StreamProgress {
    type Error = Error;

    fn try_from(progress: proto::StreamProgress) -> Result<Self> {
        Ok(Self {
            stream: StreamId(progress.stream),
            start: offset(progress.start, "stream.start")?,
            uploaded: offset(progress.uploaded, "stream.uploaded")?,
            cleaned: offset(progress.cleaned, "stream.cleaned")?,
        })
    }
}

impl From<MetadataChange> for proto::MetadataChange {
    fn from(change: MetadataChange) -> Self {
        let change = match change {
            MetadataChange::Node(node) => Change::Node(node.into()),
            MetadataChange::Topic(topic) => Change::Topic(topic.into()),
            MetadataChange::TopicDeleted(topic) => Change::TopicDeleted(id_bytes(topic.to_bytes())),
            MetadataChange::Partition(partition) => Change::Partition(partition.into()),
            MetadataChange::Stream(progress) => Change::Stream(progress.into()),
            MetadataChange::Config(info) => Change::Config(info.into()),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<proto::MetadataChange> for MetadataChange {
    type Error = Error;

    fn try_from(change: proto::MetadataChange) -> Result<Self> {
        Ok(match required(change.change, "change")? {
            Change::Node(node) => Self::Node(node.try_into()?),
            Change::Topic(topic) => Self::Topic(topic.try_into()?),
            Change::TopicDeleted(topic) => Self::TopicDeleted(topic_id(&topic, "topic_deleted")?),
            Change::Partition(partition) => Self::Partition(partition.try_into()?),
            Change::Stream(progress) => Self::Stream(progress.try_into()?),
            Change::Config(info) => Self::Config(info.try_into()?),
        })
    }
}

/// The changes that this build knows. A newer controller may tell of others, which matter to newer nodes only: whoever refused
/// them would start to watch again for ever.
pub(in crate::grpc) fn known_changes(changes: Vec<proto::MetadataChange>) -> Result<Vec<MetadataChange>> {
    let known = changes.into_iter().filter(|change| change.change.is_some());
    known.map(TryInto::try_into).collect()
}

/// The version that a message of `Watch` belongs to, and the one before it.
pub(in crate::grpc) fn versions(update: &proto::MetadataUpdate) -> (MetadataVersion, Option<MetadataVersion>) {
    (MetadataVersion(update.version), update.previous.map(MetadataVersion))
}
