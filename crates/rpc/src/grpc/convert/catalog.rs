//! Messages of the port `Catalog`.

use tailwater_types::{MetadataVersion, Offset, StreamId};

use super::{id_bytes, leader_epoch, topic_id};
use crate::controller::{CreatePartitions, CreatedTopic, DeleteRecords, NewTopic, ProducerIds};
use crate::grpc::proto;
use crate::{Error, Result};

/// The request without its caller.
impl From<NewTopic> for proto::CreateTopicRequest {
    fn from(topic: NewTopic) -> Self {
        Self {
            caller: None,
            name: topic.name,
            partitions: topic.partitions,
            configs: topic.configs.into_iter().collect(),
            internal: topic.internal,
            validate_only: topic.validate_only,
        }
    }
}

impl From<proto::CreateTopicRequest> for NewTopic {
    fn from(request: proto::CreateTopicRequest) -> Self {
        Self {
            name: request.name,
            partitions: request.partitions,
            configs: request.configs.into_iter().collect(),
            internal: request.internal,
            validate_only: request.validate_only,
        }
    }
}

impl From<CreatedTopic> for proto::CreatedTopic {
    fn from(topic: CreatedTopic) -> Self {
        Self {
            id: id_bytes(topic.id.to_bytes()),
            version: topic.version.0,
        }
    }
}

impl TryFrom<proto::CreatedTopic> for CreatedTopic {
    type Error = Error;

    fn try_from(topic: proto::CreatedTopic) -> Result<Self> {
        Ok(Self {
            id: topic_id(&topic.id, "id")?,
            version: MetadataVersion(topic.version),
        })
    }
}

/// The request without its caller.
impl From<CreatePartitions> for proto::CreatePartitionsRequest {
    fn from(request: CreatePartitions) -> Self {
        Self {
            caller: None,
            topic: id_bytes(request.topic.to_bytes()),
            total: request.total,
            validate_only: request.validate_only,
        }
    }
}

impl TryFrom<proto::CreatePartitionsRequest> for CreatePartitions {
    type Error = Error;

    fn try_from(request: proto::CreatePartitionsRequest) -> Result<Self> {
        Ok(Self {
            topic: topic_id(&request.topic, "topic")?,
            total: request.total,
            validate_only: request.validate_only,
        })
    }
}

/// The request without its caller.
impl From<DeleteRecords> for proto::DeleteRecordsRequest {
    fn from(request: DeleteRecords) -> Self {
        Self {
            caller: None,
            stream: request.stream.0,
            leader_epoch: request.leader_epoch.0,
            start: request.start.0,
        }
    }
}

impl TryFrom<proto::DeleteRecordsRequest> for DeleteRecords {
    type Error = Error;

    fn try_from(request: proto::DeleteRecordsRequest) -> Result<Self> {
        Ok(Self {
            stream: StreamId(request.stream),
            leader_epoch: leader_epoch(request.leader_epoch, "leader_epoch")?,
            // A negative one is well formed, and refused by the port.
            start: Offset(request.start),
        })
    }
}

impl From<ProducerIds> for proto::ProducerIds {
    fn from(ids: ProducerIds) -> Self {
        Self {
            first: ids.first,
            count: ids.count,
        }
    }
}

impl TryFrom<proto::ProducerIds> for ProducerIds {
    type Error = Error;

    fn try_from(ids: proto::ProducerIds) -> Result<Self> {
        let proto::ProducerIds { first, count } = ids;
        if first < 0 || count < 1 || first.checked_add(count).is_none() {
            return Err(Error::Invalid(format!("{count} producer ids from {first} on")));
        }
        Ok(Self { first, count })
    }
}
