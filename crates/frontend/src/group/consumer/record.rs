//! The records of a group whose coordinator assigns, as plain values and as those of `__consumer_offsets`.
//!
//! Owns: which field is which. Does not own: the schemas (`tailwater_kafka::messages`), what a record means (`state.rs`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tailwater_kafka::messages::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupEpochValue, ConsumerGroupKey, ConsumerGroupRecordKey,
    ConsumerMemberKey, ConsumerMemberValue, CurrentAssignmentValue, CurrentTopicPartitions, ResolvedRegexKey,
    ResolvedRegexValue, StoredValue as _, TargetEpochValue, TargetMemberValue, TargetTopicPartitions,
};
use tailwater_kafka::{CodecError, Str};
use tailwater_types::TopicId;

use super::state::{Assigned, Partitions, Progress, ResolvedRegex};
use crate::coordinator::KeyValue;
use crate::group::effects::Protocol;

/// What stands under one key of a group; `None` deletes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerRecord {
    Epoch(Option<GroupEpoch>),
    /// Of Kafka before 4.1: never written, but deleted.
    PartitionMetadata {
        is_deleted: bool,
    },
    Member(String, Option<Subscription>),
    TargetEpoch(Option<TargetEpoch>),
    TargetMember(String, Option<Partitions>),
    Current(String, Option<CurrentAssignment>),
    Regex(String, Option<ResolvedRegex>),
}

impl ConsumerRecord {
    /// How large its value is, not to the byte.
    pub fn about_bytes(&self) -> usize {
        const SMALL: usize = 64;
        // A topic's id, and four bytes for each of its partitions; twice as much with epochs.
        let partitions =
            |partitions: &Partitions| -> usize { partitions.values().map(|each| 20 + 4 * each.len()).sum() };
        let assigned = |assigned: &Assigned| -> usize { assigned.values().map(|each| 20 + 8 * each.len()).sum() };
        let names = |names: &BTreeSet<String>| -> usize { names.iter().map(|name| 2 + name.len()).sum() };
        SMALL
            + match self {
                Self::Member(_, Some(subscription)) => {
                    let classic = subscription.classic.iter().flat_map(|classic| &classic.protocols);
                    let metadata: usize = classic.map(|protocol| protocol.metadata.len()).sum();
                    names(&subscription.topics) + metadata
                }
                Self::TargetMember(_, Some(target)) => partitions(target),
                Self::Current(_, Some(current)) => assigned(&current.assigned) + assigned(&current.revoking),
                Self::Regex(_, Some(resolved)) => names(&resolved.topics),
                _ => 0,
            }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupEpoch {
    pub epoch: i32,
    pub metadata_hash: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetEpoch {
    pub epoch: i32,
    pub at_ms: i64,
}

/// Who a member is and what it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: BTreeSet<String>,
    pub regex: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<String>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<ClassicMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMember {
    pub session_timeout_ms: i32,
    pub protocols: Vec<Protocol>,
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentAssignment {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub progress: Progress,
    pub assigned: Assigned,
    /// What it was told to give back.
    pub revoking: Assigned,
}

/// # Errors
/// A text that is too long for its field.
pub fn encode(group: &str, record: &ConsumerRecord) -> Result<KeyValue, CodecError> {
    let group_key = || ConsumerGroupKey { group_id: group.into() };
    let member_key = |member: &String| ConsumerMemberKey {
        group_id: group.into(),
        member_id: member.as_str().into(),
    };
    let (key, value) = match record {
        ConsumerRecord::Epoch(value) => (
            ConsumerGroupRecordKey::Epoch(group_key()),
            value.map(|value| {
                let GroupEpoch { epoch, metadata_hash } = value;
                ConsumerGroupEpochValue { epoch, metadata_hash }.encode_value()
            }),
        ),
        ConsumerRecord::PartitionMetadata { .. } => (ConsumerGroupRecordKey::PartitionMetadata(group_key()), None),
        ConsumerRecord::Member(member, value) => (
            ConsumerGroupRecordKey::Member(member_key(member)),
            value.as_ref().map(|value| to_member_value(value).encode_value()),
        ),
        ConsumerRecord::TargetEpoch(value) => (
            ConsumerGroupRecordKey::TargetEpoch(group_key()),
            value.map(|value| {
                let value = TargetEpochValue {
                    assignment_epoch: value.epoch,
                    assignment_timestamp: value.at_ms,
                };
                value.encode_value()
            }),
        ),
        ConsumerRecord::TargetMember(member, value) => (
            ConsumerGroupRecordKey::TargetMember(member_key(member)),
            value.as_ref().map(|value| to_target_value(value).encode_value()),
        ),
        ConsumerRecord::Current(member, value) => (
            ConsumerGroupRecordKey::CurrentAssignment(member_key(member)),
            value.as_ref().map(|value| to_current_value(value).encode_value()),
        ),
        ConsumerRecord::Regex(regex, value) => (
            ConsumerGroupRecordKey::ResolvedRegex(ResolvedRegexKey {
                group_id: group.into(),
                regular_expression: regex.as_str().into(),
            }),
            value.as_ref().map(|value| {
                let value = ResolvedRegexValue {
                    topics: value.topics.iter().map(|topic| Str::from(topic.as_str())).collect(),
                    version: value.version,
                    timestamp: value.at_ms,
                };
                value.encode_value()
            }),
        ),
    };
    Ok((key.encode()?, value.transpose()?))
}

/// The group and its record under `key`; `None` if another kind of group wrote it.
///
/// # Errors
/// The bytes are no record of this topic.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<(String, ConsumerRecord)>, CodecError> {
    let Some(key) = ConsumerGroupRecordKey::decode(key)? else {
        return Ok(None);
    };
    Ok(Some(match key {
        ConsumerGroupRecordKey::Epoch(key) => {
            let value = value.map(ConsumerGroupEpochValue::decode_value).transpose()?;
            let value = value.map(|value| GroupEpoch {
                epoch: value.epoch,
                metadata_hash: value.metadata_hash,
            });
            (key.group_id.into(), ConsumerRecord::Epoch(value))
        }
        ConsumerGroupRecordKey::PartitionMetadata(key) => {
            let is_deleted = value.is_none();
            (key.group_id.into(), ConsumerRecord::PartitionMetadata { is_deleted })
        }
        ConsumerGroupRecordKey::Member(key) => {
            let value = value.map(ConsumerMemberValue::decode_value).transpose()?;
            let record = ConsumerRecord::Member(key.member_id.into(), value.map(from_member_value));
            (key.group_id.into(), record)
        }
        ConsumerGroupRecordKey::TargetEpoch(key) => {
            let value = value.map(TargetEpochValue::decode_value).transpose()?;
            let value = value.map(|value| TargetEpoch {
                epoch: value.assignment_epoch,
                at_ms: value.assignment_timestamp,
            });
            (key.group_id.into(), ConsumerRecord::TargetEpoch(value))
        }
        ConsumerGroupRecordKey::TargetMember(key) => {
            let value = value.map(TargetMemberValue::decode_value).transpose()?;
            let partitions = value.map(|value| {
                let topics = value.topic_partitions.into_iter();
                topics
                    .map(|topic| (TopicId(topic.topic_id), topic.partitions.into_iter().collect()))
                    .collect()
            });
            let record = ConsumerRecord::TargetMember(key.member_id.into(), partitions);
            (key.group_id.into(), record)
        }
        ConsumerGroupRecordKey::CurrentAssignment(key) => {
            let value = value.map(CurrentAssignmentValue::decode_value).transpose()?;
            let record = ConsumerRecord::Current(key.member_id.into(), value.map(from_current_value));
            (key.group_id.into(), record)
        }
        ConsumerGroupRecordKey::ResolvedRegex(key) => {
            let value = value.map(ResolvedRegexValue::decode_value).transpose()?;
            let value = value.map(|value| ResolvedRegex {
                topics: value.topics.into_iter().map(String::from).collect(),
                version: value.version,
                at_ms: value.timestamp,
            });
            let record = ConsumerRecord::Regex(key.regular_expression.into(), value);
            (key.group_id.into(), record)
        }
    }))
}

fn to_member_value(member: &Subscription) -> ConsumerMemberValue {
    let text = |text: &String| Str::from(text.as_str());
    let protocol = |protocol: &Protocol| ClassicProtocol {
        name: text(&protocol.name),
        metadata: protocol.metadata.clone(),
    };
    ConsumerMemberValue {
        instance_id: member.instance_id.as_ref().map(text),
        rack_id: member.rack_id.as_ref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        subscribed_topic_names: member.topics.iter().map(text).collect(),
        subscribed_topic_regex: member.regex.as_ref().map(text),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: member.assignor.as_ref().map(text),
        classic_member_metadata: member.classic.as_ref().map(|classic| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic.protocols.iter().map(protocol).collect(),
        }),
    }
}

fn from_member_value(value: ConsumerMemberValue) -> Subscription {
    let protocol = |protocol: ClassicProtocol| Protocol {
        name: protocol.name.into(),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    };
    Subscription {
        instance_id: value.instance_id.map(String::from),
        rack_id: value.rack_id.map(String::from),
        client_id: value.client_id.into(),
        client_host: value.client_host.into(),
        topics: value.subscribed_topic_names.into_iter().map(String::from).collect(),
        regex: value.subscribed_topic_regex.map(String::from),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.server_assignor.map(String::from),
        classic: value.classic_member_metadata.map(|classic| ClassicMember {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.supported_protocols.into_iter().map(protocol).collect(),
        }),
    }
}

fn to_target_value(partitions: &Partitions) -> TargetMemberValue {
    let topic = |(topic, partitions): (&TopicId, &BTreeSet<i32>)| TargetTopicPartitions {
        topic_id: topic.0,
        partitions: partitions.iter().copied().collect(),
    };
    TargetMemberValue {
        topic_partitions: partitions.iter().map(topic).collect(),
    }
}

fn to_current_value(current: &CurrentAssignment) -> CurrentAssignmentValue {
    let topic = |(topic, partitions): (&TopicId, &BTreeMap<i32, i32>)| CurrentTopicPartitions {
        topic_id: topic.0,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: partitions.values().copied().collect(),
    };
    CurrentAssignmentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: match current.progress {
            Progress::Stable => 0,
            Progress::Unrevoked => 1,
            Progress::Unreleased => 2,
            Progress::Unknown => 127,
        },
        assigned_partitions: current.assigned.iter().map(topic).collect(),
        partitions_pending_revocation: current.revoking.iter().map(topic).collect(),
    }
}

fn from_current_value(value: CurrentAssignmentValue) -> CurrentAssignment {
    let epoch = value.member_epoch;
    // A coordinator that doesn't know the epochs of partitions leaves them out: the member's is the latest they can have.
    let topic = |topic: CurrentTopicPartitions| {
        let epochs = topic.assignment_epochs.into_iter().chain(std::iter::repeat(epoch));
        (
            TopicId(topic.topic_id),
            topic.partitions.into_iter().zip(epochs).collect(),
        )
    };
    CurrentAssignment {
        epoch,
        previous_epoch: value.previous_member_epoch,
        progress: match value.state {
            0 => Progress::Stable,
            1 => Progress::Unrevoked,
            2 => Progress::Unreleased,
            _ => Progress::Unknown,
        },
        assigned: value.assigned_partitions.into_iter().map(topic).collect(),
        revoking: value.partitions_pending_revocation.into_iter().map(topic).collect(),
    }
}
