//! The records of `__consumer_offsets` that groups whose coordinator assigns (KIP-848) have, in Kafka's own schemas.
//!
//! How they stand in the topic: `stored.rs`. The records that all groups have: `records.rs`.

use bytes::Bytes;

use crate::messages::stored::{StoredValue, prefixed};
use crate::{CodecError, Message as _, Reader, Str, Uuid};

/// What a record of such a group is about.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerGroupRecordKey {
    /// The value is a [`ConsumerGroupEpochValue`].
    Epoch(ConsumerGroupKey),
    /// Kafka before 4.1 kept the topics' shapes here; nobody reads the value any more.
    PartitionMetadata(ConsumerGroupKey),
    /// The value is a [`ConsumerMemberValue`].
    Member(ConsumerMemberKey),
    /// The value is a [`TargetEpochValue`].
    TargetEpoch(ConsumerGroupKey),
    /// The value is a [`TargetMemberValue`].
    TargetMember(ConsumerMemberKey),
    /// The value is a [`CurrentAssignmentValue`].
    CurrentAssignment(ConsumerMemberKey),
    /// The value is a [`ResolvedRegexValue`].
    ResolvedRegex(ResolvedRegexKey),
}

impl ConsumerGroupRecordKey {
    /// The key in `bytes`; `None` if it is of a type that other kinds of groups use.
    ///
    /// # Errors
    /// The bytes are no key.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut reader = Reader::new(bytes);
        let key_type = i16::from_be_bytes(reader.array()?);
        let message = reader.into_rest();
        Ok(Some(match key_type {
            3 => Self::Epoch(ConsumerGroupKey::decode(message, 0)?),
            4 => Self::PartitionMetadata(ConsumerGroupKey::decode(message, 0)?),
            5 => Self::Member(ConsumerMemberKey::decode(message, 0)?),
            6 => Self::TargetEpoch(ConsumerGroupKey::decode(message, 0)?),
            7 => Self::TargetMember(ConsumerMemberKey::decode(message, 0)?),
            8 => Self::CurrentAssignment(ConsumerMemberKey::decode(message, 0)?),
            16 => Self::ResolvedRegex(ResolvedRegexKey::decode(message, 0)?),
            _ => return Ok(None),
        }))
    }

    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(match self {
            Self::Epoch(key) => prefixed(3, &key.encode(0)?),
            Self::PartitionMetadata(key) => prefixed(4, &key.encode(0)?),
            Self::Member(key) => prefixed(5, &key.encode(0)?),
            Self::TargetEpoch(key) => prefixed(6, &key.encode(0)?),
            Self::TargetMember(key) => prefixed(7, &key.encode(0)?),
            Self::CurrentAssignment(key) => prefixed(8, &key.encode(0)?),
            Self::ResolvedRegex(key) => prefixed(16, &key.encode(0)?),
        })
    }
}

impl StoredValue for ConsumerGroupEpochValue {
    const WRITTEN: i16 = 0;
}

impl StoredValue for ConsumerMemberValue {
    const WRITTEN: i16 = 0;
}

impl StoredValue for TargetEpochValue {
    const WRITTEN: i16 = 0;
}

impl StoredValue for TargetMemberValue {
    const WRITTEN: i16 = 0;
}

impl StoredValue for CurrentAssignmentValue {
    const WRITTEN: i16 = 0;
}

impl StoredValue for ResolvedRegexValue {
    const WRITTEN: i16 = 0;
}

message! {
    ConsumerGroupKey, versions 0..=0, flexible i16::MAX, {
        group_id: Str,
    }
}

message! {
    ConsumerMemberKey, versions 0..=0, flexible i16::MAX, {
        group_id: Str,
        member_id: Str,
    }
}

message! {
    ResolvedRegexKey, versions 0..=0, flexible i16::MAX, {
        group_id: Str,
        regular_expression: Str,
    }
}

message! {
    ConsumerGroupEpochValue, versions 0..=0, flexible 0, {
        epoch: i32,
        /// Of the shapes of the topics that the members want.
        metadata_hash: i64 [tag 0],
    }
}

message! {
    ConsumerMemberValue, versions 0..=0, flexible 0, {
        instance_id: Option<Str>,
        rack_id: Option<Str>,
        client_id: Str,
        client_host: Str,
        subscribed_topic_names: Vec<Str>,
        subscribed_topic_regex: Option<Str>,
        rebalance_timeout_ms: i32 = -1,
        server_assignor: Option<Str>,
        /// Of a member that speaks the classic protocol.
        classic_member_metadata: Option<ClassicMemberMetadata> [tag 0],
    }
}

structure! {
    ClassicMemberMetadata {
        session_timeout_ms: i32,
        supported_protocols: Vec<ClassicProtocol>,
    }
}

structure! {
    ClassicProtocol {
        name: Str,
        metadata: Bytes,
    }
}

message! {
    TargetEpochValue, versions 0..=0, flexible 0, {
        assignment_epoch: i32,
        /// Milliseconds since 1970; 0 is unknown.
        assignment_timestamp: i64 [tag 0],
    }
}

message! {
    TargetMemberValue, versions 0..=0, flexible 0, {
        topic_partitions: Vec<TargetTopicPartitions>,
    }
}

structure! {
    TargetTopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }
}

message! {
    CurrentAssignmentValue, versions 0..=0, flexible 0, {
        member_epoch: i32,
        previous_member_epoch: i32,
        /// 0 stable, 1 has something to give back, 2 waits for others to give something back.
        state: i8,
        assigned_partitions: Vec<CurrentTopicPartitions>,
        partitions_pending_revocation: Vec<CurrentTopicPartitions>,
    }
}

structure! {
    CurrentTopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
        /// Of each partition, the member's epoch when it got it (KIP-1251); empty where that isn't known.
        assignment_epochs: Vec<i32> [tag 0],
    }
}

message! {
    ResolvedRegexValue, versions 0..=0, flexible 0, {
        topics: Vec<Str>,
        /// Of the metadata that it was resolved with.
        version: i64,
        /// Milliseconds since 1970.
        timestamp: i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kafka's layout: keys of a type and plain texts, values with compact lengths and tags, of which defaults are left out.
    #[test]
    fn records_are_kafkas_bytes() {
        let key = ConsumerMemberKey {
            group_id: "g".into(),
            member_id: "m".into(),
        };
        let encoded = ConsumerGroupRecordKey::CurrentAssignment(key).encode().unwrap();
        assert_eq!(&encoded[..], b"\0\x08\0\x01g\0\x01m");
        let value = CurrentAssignmentValue {
            member_epoch: 5,
            previous_member_epoch: 4,
            state: 2,
            assigned_partitions: vec![CurrentTopicPartitions {
                topic_id: Uuid::from_u128(1),
                partitions: vec![7],
                assignment_epochs: vec![3],
            }],
            partitions_pending_revocation: Vec::new(),
        };
        let expected = b"\0\0\0\0\0\x05\0\0\0\x04\x02\x02\
            \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\x07\x01\0\x05\x02\0\0\0\x03\x01\0";
        assert_eq!(&value.encode_value().unwrap()[..], expected);
        assert_eq!(CurrentAssignmentValue::decode_value(expected), Ok(value));
        let epoch = ConsumerGroupEpochValue {
            epoch: 9,
            metadata_hash: 0,
        };
        assert_eq!(&epoch.encode_value().unwrap()[..], b"\0\0\0\0\0\x09\0");
    }

    /// Tags that a later Kafka adds are passed over, and keys of other kinds of groups aren't these.
    #[test]
    fn what_is_not_known_is_passed_over() {
        let newer = b"\0\0\0\0\0\x09\x02\0\x08\0\0\0\0\0\0\0\x05\x09\x01x";
        let epoch = ConsumerGroupEpochValue::decode_value(newer).unwrap();
        assert_eq!((epoch.epoch, epoch.metadata_hash), (9, 5));
        assert_eq!(ConsumerGroupRecordKey::decode(b"\0\x09\0\x01g"), Ok(None));
        let regex = b"\0\x10\0\x01g\0\x02a*";
        let key = ConsumerGroupRecordKey::decode(regex).unwrap().unwrap();
        assert_eq!(&key.encode().unwrap()[..], regex);
    }

    /// A member of the classic protocol reads back with its protocols.
    #[test]
    fn members_read_back() {
        let value = ConsumerMemberValue {
            instance_id: Some("i".into()),
            client_id: "c".into(),
            subscribed_topic_names: vec!["t".into()],
            rebalance_timeout_ms: 1000,
            classic_member_metadata: Some(ClassicMemberMetadata {
                session_timeout_ms: 7,
                supported_protocols: vec![ClassicProtocol {
                    name: "range".into(),
                    metadata: Bytes::from_static(b"x"),
                }],
            }),
            ..Default::default()
        };
        assert_eq!(
            ConsumerMemberValue::decode_value(&value.encode_value().unwrap()),
            Ok(value)
        );
    }
}
