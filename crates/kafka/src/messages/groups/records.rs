//! The records of `__consumer_offsets`, in Kafka's own schemas.
//!
//! How they stand in the topic: `stored.rs`.

use bytes::Bytes;

use crate::messages::stored::{StoredValue, prefixed};
use crate::{CodecError, Message as _, Reader, Str, Uuid};

/// What a record of the topic is about.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecordKey {
    /// The value is an [`OffsetCommitValue`].
    Offset(OffsetCommitKey),
    /// The value is a [`GroupMetadataValue`].
    Group(GroupMetadataKey),
}

impl GroupRecordKey {
    /// Two types with the same meaning: 0 is older than 1, which is the one written.
    const OFFSET_TYPES: [i16; 2] = [0, 1];
    const GROUP_TYPE: i16 = 2;

    /// The key in `bytes`; `None` if it is of a type that other kinds of groups use.
    ///
    /// # Errors
    /// The bytes are no key.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut reader = Reader::new(bytes);
        let key_type = i16::from_be_bytes(reader.array()?);
        let message = reader.into_rest();
        if Self::OFFSET_TYPES.contains(&key_type) {
            return OffsetCommitKey::decode(message, 0).map(|key| Some(Self::Offset(key)));
        }
        if key_type == Self::GROUP_TYPE {
            return GroupMetadataKey::decode(message, 0).map(|key| Some(Self::Group(key)));
        }
        Ok(None)
    }

    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        match self {
            Self::Offset(key) => Ok(prefixed(Self::OFFSET_TYPES[1], &key.encode(0)?)),
            Self::Group(key) => Ok(prefixed(Self::GROUP_TYPE, &key.encode(0)?)),
        }
    }
}

impl StoredValue for OffsetCommitValue {
    const WRITTEN: i16 = 4;
}

impl StoredValue for GroupMetadataValue {
    const WRITTEN: i16 = 3;
}

message! {
    OffsetCommitKey, versions 0..=0, flexible i16::MAX, {
        group: Str,
        topic: Str,
        partition: i32,
    }
}

message! {
    OffsetCommitValue, versions 0..=4, flexible 4, {
        offset: i64,
        leader_epoch: i32 [3.., ignorable] = -1,
        metadata: Str,
        /// Milliseconds since 1970.
        commit_timestamp: i64,
        expire_timestamp: i64 [1..=1, ignorable] = -1,
        topic_id: Uuid [4.., tag 0, ignorable],
    }
}

message! {
    GroupMetadataKey, versions 0..=0, flexible i16::MAX, {
        group: Str,
    }
}

message! {
    GroupMetadataValue, versions 0..=4, flexible 4, {
        protocol_type: Str,
        generation: i32,
        protocol: Option<Str>,
        leader: Option<Str>,
        /// Milliseconds since 1970; -1 is unknown.
        current_state_timestamp: i64 [2.., ignorable] = -1,
        members: Vec<MemberMetadata>,
    }
}

structure! {
    MemberMetadata {
        member_id: Str,
        group_instance_id: Option<Str> [3.., ignorable],
        client_id: Str,
        client_host: Str,
        rebalance_timeout: i32 [1.., ignorable] = -1,
        session_timeout: i32,
        subscription: Bytes,
        assignment: Bytes,
    }
}
