//! Groups and offsets as records of `__consumer_offsets`, in Kafka's own schemas.
//!
//! Owns: which field is which. Does not own: the schemas (`tailwater_kafka::messages`), batches and the log (`crate::coordinator`).

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tailwater_kafka::messages::{
    self, GroupMetadataKey, GroupMetadataValue, GroupRecordKey, OffsetCommitKey, OffsetCommitValue, StoredValue as _,
};
use tailwater_kafka::{CodecError, Message as _, Str, Uuid};
use tailwater_types::TopicId;

use super::consumer::record as consumer;
use super::effects::{CommittedOffset, GroupMetadata, MemberMetadata, Record, TopicPartition};
use crate::coordinator::KeyValue;

/// The version of an offset's value that can say when it expires, as only old clients do.
const EXPIRING_OFFSET_VERSION: i16 = 1;

/// # Errors
/// A text that is too long for its field.
pub fn encode(record: &Record) -> Result<KeyValue, CodecError> {
    match record {
        Record::Group { group, value } => {
            let key = GroupRecordKey::Group(GroupMetadataKey { group: text(group) });
            let value = value.as_ref().map(|value| to_group_value(value).encode_value());
            Ok((key.encode()?, value.transpose()?))
        }
        Record::Consumer { group, record } => consumer::encode(group, record),
        Record::Offset {
            group,
            partition,
            value,
        } => {
            let key = GroupRecordKey::Offset(OffsetCommitKey {
                group: text(group),
                topic: text(&partition.topic),
                partition: partition.partition,
            });
            Ok((key.encode()?, value.as_ref().map(encode_offset).transpose()?))
        }
    }
}

/// The record under `key`; `None` if another kind of group wrote it.
///
/// # Errors
/// The bytes are no record of this topic.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, CodecError> {
    Ok(match GroupRecordKey::decode(key)? {
        None => consumer::decode(key, value)?.map(|(group, record)| Record::Consumer { group, record }),
        Some(GroupRecordKey::Group(key)) => {
            let value = value.map(GroupMetadataValue::decode_value).transpose()?;
            Some(Record::Group {
                group: key.group.into(),
                value: value.map(from_group_value),
            })
        }
        Some(GroupRecordKey::Offset(key)) => {
            let value = value.map(OffsetCommitValue::decode_value).transpose()?;
            Some(Record::Offset {
                group: key.group.into(),
                partition: TopicPartition {
                    topic: key.topic.into(),
                    partition: key.partition,
                },
                value: value.map(from_offset_value),
            })
        }
    })
}

fn encode_offset(offset: &CommittedOffset) -> Result<Bytes, CodecError> {
    let value = OffsetCommitValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: text(&offset.metadata),
        commit_timestamp: offset.commit_timestamp_ms,
        expire_timestamp: offset.expire_timestamp_ms,
        topic_id: offset.topic_id.map(|id| id.0).unwrap_or_default(),
    };
    if offset.expire_timestamp_ms < 0 {
        return value.encode_value();
    }
    let mut bytes = BytesMut::new();
    bytes.put_i16(EXPIRING_OFFSET_VERSION);
    bytes.put(value.encode(EXPIRING_OFFSET_VERSION)?);
    Ok(bytes.freeze())
}

fn from_offset_value(value: OffsetCommitValue) -> CommittedOffset {
    CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.into(),
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: value.expire_timestamp,
        topic_id: (value.topic_id != Uuid::nil()).then_some(TopicId(value.topic_id)),
    }
}

fn to_group_value(group: &GroupMetadata) -> GroupMetadataValue {
    let member = |member: &MemberMetadata| messages::MemberMetadata {
        member_id: text(&member.member_id),
        group_instance_id: member.instance_id.as_deref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        rebalance_timeout: to_ms(member.rebalance_timeout),
        session_timeout: to_ms(member.session_timeout),
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    };
    GroupMetadataValue {
        protocol_type: text(&group.protocol_type),
        generation: group.generation,
        protocol: group.protocol_name.as_deref().map(text),
        leader: group.leader.as_deref().map(text),
        current_state_timestamp: group.since_ms,
        members: group.members.iter().map(member).collect(),
    }
}

fn from_group_value(value: GroupMetadataValue) -> GroupMetadata {
    let member = |member: messages::MemberMetadata| {
        let session_timeout = from_ms(member.session_timeout);
        MemberMetadata {
            member_id: member.member_id.into(),
            instance_id: member.group_instance_id.map(String::from),
            client_id: member.client_id.into(),
            client_host: member.client_host.into(),
            // -1 in records of version 0, which had one timeout for both.
            rebalance_timeout: match member.rebalance_timeout {
                ..0 => session_timeout,
                ms => from_ms(ms),
            },
            session_timeout,
            subscription: Bytes::copy_from_slice(&member.subscription),
            assignment: Bytes::copy_from_slice(&member.assignment),
        }
    };
    GroupMetadata {
        protocol_type: value.protocol_type.into(),
        generation: value.generation,
        protocol_name: value.protocol.map(String::from),
        leader: value.leader.map(String::from),
        since_ms: value.current_state_timestamp,
        members: value.members.into_iter().map(member).collect(),
    }
}

fn text(text: &str) -> Str {
    Str::from(text)
}

fn to_ms(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Milliseconds of the wire; what is negative counts as none.
pub(super) fn from_ms(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(expire_timestamp_ms: i64) -> Record {
        Record::Offset {
            group: "g".to_owned(),
            partition: TopicPartition {
                topic: "t".to_owned(),
                partition: 3,
            },
            value: Some(CommittedOffset {
                offset: 42,
                leader_epoch: -1,
                metadata: "m".to_owned(),
                commit_timestamp_ms: 7,
                expire_timestamp_ms,
                topic_id: None,
            }),
        }
    }

    fn group() -> Record {
        let member = MemberMetadata {
            member_id: "a".to_owned(),
            instance_id: Some("i".to_owned()),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout: Duration::from_secs(60),
            session_timeout: Duration::from_secs(30),
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"p"),
        };
        let value = GroupMetadata {
            protocol_type: "consumer".to_owned(),
            generation: 5,
            protocol_name: Some("range".to_owned()),
            leader: Some("a".to_owned()),
            since_ms: 9,
            members: vec![member],
        };
        Record::Group {
            group: "g".to_owned(),
            value: Some(value),
        }
    }

    /// Every record reads back as what was written, deletions too.
    #[test]
    fn records_read_back() {
        let deleted = Record::Group {
            group: "g".to_owned(),
            value: None,
        };
        for record in [offset(-1), offset(1_000), group(), deleted] {
            let (key, value) = encode(&record).unwrap();
            assert_eq!(decode(&key, value.as_deref()).unwrap(), Some(record));
        }
    }

    /// Keys are Kafka's bytes: type 1 for offsets, type 2 for groups, then the fields.
    #[test]
    fn keys_are_kafkas_bytes() {
        assert_eq!(&encode(&offset(-1)).unwrap().0[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
        assert_eq!(&encode(&group()).unwrap().0[..], b"\0\x02\0\x01g");
        assert_eq!(
            decode(b"\0\x09\0\x01g", None).unwrap(),
            None,
            "another kind of group's key is passed over"
        );
    }
}
