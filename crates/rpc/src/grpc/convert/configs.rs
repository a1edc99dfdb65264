//! Messages about settings, of the ports `Catalog` and `Nodes`.

use tailwater_types::NodeId;

use super::{id_bytes, required, topic_id};
use crate::controller::{AlterConfigs, ConfigChange, ConfigChanges, ConfigInfo, ConfigOp, ConfigResource};
use crate::grpc::proto;
use crate::grpc::proto::alter_configs_request::Changes;
use crate::grpc::proto::config_change::Op;
use crate::grpc::proto::config_resource::Resource;
use crate::{Error, Result};

impl From<ConfigResource> for proto::ConfigResource {
    fn from(resource: ConfigResource) -> Self {
        let resource = match resource {
            ConfigResource::Topic(id) => Resource::Topic(id_bytes(id.to_bytes())),
            ConfigResource::Broker(Some(node)) => Resource::Broker(node.0),
            ConfigResource::Broker(None) => Resource::AllBrokers(true),
            ConfigResource::Group(name) => Resource::Group(name),
            ConfigResource::ClientMetrics(name) => Resource::ClientMetrics(name),
        };
        Self {
            resource: Some(resource),
        }
    }
}

impl TryFrom<proto::ConfigResource> for ConfigResource {
    type Error = Error;

    fn try_from(resource: proto::ConfigResource) -> Result<Self> {
        Ok(match required(resource.resource, "resource")? {
            Resource::Topic(id) => Self::Topic(topic_id(&id, "resource.topic")?),
            Resource::Broker(node) => Self::Broker(Some(NodeId(node))),
            Resource::AllBrokers(_) => Self::Broker(None),
            Resource::Group(name) => Self::Group(name),
            Resource::ClientMetrics(name) => Self::ClientMetrics(name),
        })
    }
}

impl From<ConfigInfo> for proto::ConfigInfo {
    fn from(info: ConfigInfo) -> Self {
        Self {
            resource: Some(info.resource.into()),
            configs: info.configs.into_iter().collect(),
        }
    }
}

impl TryFrom<proto::ConfigInfo> for ConfigInfo {
    type Error = Error;

    fn try_from(info: proto::ConfigInfo) -> Result<Self> {
        Ok(Self {
            resource: required(info.resource, "config.resource")?.try_into()?,
            configs: info.configs.into_iter().collect(),
        })
    }
}

/// The request without its caller.
impl From<AlterConfigs> for proto::AlterConfigsRequest {
    fn from(request: AlterConfigs) -> Self {
        let changes = match request.changes {
            ConfigChanges::Replace(configs) => Changes::Replace(proto::ReplacedConfigs {
                configs: configs.into_iter().collect(),
            }),
            ConfigChanges::Incremental(changes) => Changes::Incremental(proto::ConfigChanges {
                changes: super::into_all(changes),
            }),
        };
        Self {
            caller: None,
            resource: Some(request.resource.into()),
            changes: Some(changes),
            validate_only: request.validate_only,
        }
    }
}

impl TryFrom<proto::AlterConfigsRequest> for AlterConfigs {
    type Error = Error;

    fn try_from(request: proto::AlterConfigsRequest) -> Result<Self> {
        let changes = match required(request.changes, "changes")? {
            Changes::Replace(replaced) => ConfigChanges::Replace(replaced.configs.into_iter().collect()),
            Changes::Incremental(changes) => ConfigChanges::Incremental(super::all(changes.changes)?),
        };
        Ok(Self {
            resource: required(request.resource, "resource")?.try_into()?,
            changes,
            validate_only: request.validate_only,
        })
    }
}

impl From<ConfigChange> for proto::ConfigChange {
    fn from(change: ConfigChange) -> Self {
        let list = |items, unset| proto::ConfigItems { items, unset };
        let op = match change.op {
            ConfigOp::Set(value) => Op::Set(value),
            ConfigOp::Delete => Op::Delete(true),
            ConfigOp::Append { items, unset } => Op::Append(list(items, unset)),
            ConfigOp::Subtract { items, unset } => Op::Subtract(list(items, unset)),
        };
        Self {
            name: change.name,
            op: Some(op),
        }
    }
}

impl TryFrom<proto::ConfigChange> for ConfigChange {
    type Error = Error;

    fn try_from(change: proto::ConfigChange) -> Result<Self> {
        let op = match required(change.op, "changes.op")? {
            Op::Set(value) => ConfigOp::Set(value),
            Op::Delete(_) => ConfigOp::Delete,
            Op::Append(proto::ConfigItems { items, unset }) => ConfigOp::Append { items, unset },
            Op::Subtract(proto::ConfigItems { items, unset }) => ConfigOp::Subtract { items, unset },
        };
        Ok(Self { name: change.name, op })
    }
}
