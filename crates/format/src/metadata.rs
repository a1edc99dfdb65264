//! The metadata store's keys and values: what the controller keeps, one record a thing.
//!
//! Owns: the key space, the records, and their bytes. Does not own: what changes them and when (the controller's state
//! machine), where they are kept (its store).
//!
//! ```text
//! key    u8 kind, then the id: nothing, u32, u64, or 16 bytes, big-endian; so keys sort by kind, then id
//! value  u8 version (1; 2 for streams of which a leadership was closed)
//!        a protobuf message (the messages are in `metadata/message.rs`; field numbers are never used again)
//!        u32 CRC32C of the key and of everything before it in the value
//! ```
//!
//! A field may be added under the same version if a reader without it still does right; otherwise the version rises.

mod convert;
mod message;
mod record;

use std::sync::Arc;

use bytes::{Buf, BufMut};
use tailwater_types::{DeviceId, JournalId, NodeId, ObjectId, StreamId, TaskId, TopicId};

pub use record::{
    CleaningRecord, ClosedTail, ClusterRecord, ConfigOwner, ConfigRecord, Counters, DeletionRecord, DeviceRecord,
    JournalCommit, JournalRecord, JournalState, NodeRecord, NodeState, NodeTier, ObjectLife, ObjectRecord, ObjectSlice,
    ObjectSnapshot, StreamBlock, StreamEnd, StreamRow, TopicRecord,
};

use crate::FormatError;

const VERSION: u8 = 1;
/// Streams' records with closed leaderships: whoever doesn't know of these would miss what lies in journals that are open.
const CLOSED_VERSION: u8 = 2;
const NEWEST_VERSION: u8 = CLOSED_VERSION;
const CRC_BYTES: usize = 4;
const WHAT: &str = "metadata record";

/// How many streams share one record, so that a change of thousands of partitions stays one small atomic change.
pub const STREAMS_PER_BLOCK: u64 = 256;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Cluster,
    Counters,
    Node(NodeId),
    Device(DeviceId),
    Topic(TopicId),
    /// Streams `[n, n + 1) * STREAMS_PER_BLOCK`.
    Streams(u64),
    Journal(JournalId),
    Object(ObjectId),
    Deletion(TaskId),
    /// Numbered, since what it is about may have any name.
    Config(u64),
    Cleaning(TaskId),
}

/// A record's content, shared: the state machine and what it publishes hold the same one.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Cluster(Arc<ClusterRecord>),
    Counters(Arc<Counters>),
    Node(Arc<NodeRecord>),
    Device(Arc<DeviceRecord>),
    Topic(Arc<TopicRecord>),
    Streams(Arc<StreamBlock>),
    Journal(Arc<JournalRecord>),
    Object(Arc<ObjectRecord>),
    Deletion(Arc<DeletionRecord>),
    Config(Arc<ConfigRecord>),
    Cleaning(Arc<CleaningRecord>),
}

impl Key {
    /// The block that holds a stream's row.
    pub fn block_of(stream: StreamId) -> u64 {
        stream.0 / STREAMS_PER_BLOCK
    }

    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17);
        bytes.put_u8(self.kind());
        match self {
            Self::Cluster | Self::Counters => {}
            Self::Node(id) => bytes.put_u32(id.0),
            Self::Device(id) => bytes.put_slice(&id.to_bytes()),
            Self::Topic(id) => bytes.put_slice(&id.to_bytes()),
            Self::Streams(id)
            | Self::Journal(JournalId(id))
            | Self::Object(ObjectId(id))
            | Self::Deletion(TaskId(id))
            | Self::Cleaning(TaskId(id))
            | Self::Config(id) => bytes.put_u64(id),
        }
        bytes
    }

    /// # Errors
    /// For bytes that are no key of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let invalid = || FormatError::Invalid {
            what: "metadata key",
            detail: format!("{bytes:02x?}"),
        };
        let (&kind, mut id) = bytes.split_first().ok_or_else(invalid)?;
        let key = match (kind, id.len()) {
            (1, 0) => Self::Cluster,
            (2, 0) => Self::Counters,
            (3, 4) => Self::Node(NodeId(id.get_u32())),
            (4, 16) => Self::Device(DeviceId::from_bytes(id.get_u128().to_be_bytes())),
            (5, 16) => Self::Topic(TopicId::from_bytes(id.get_u128().to_be_bytes())),
            (6, 8) => Self::Streams(id.get_u64()),
            (7, 8) => Self::Journal(JournalId(id.get_u64())),
            (8, 8) => Self::Object(ObjectId(id.get_u64())),
            (9, 8) => Self::Deletion(TaskId(id.get_u64())),
            (10, 8) => Self::Config(id.get_u64()),
            (11, 8) => Self::Cleaning(TaskId(id.get_u64())),
            _ => return Err(invalid()),
        };
        Ok(key)
    }

    fn kind(self) -> u8 {
        match self {
            Self::Cluster => 1,
            Self::Counters => 2,
            Self::Node(_) => 3,
            Self::Device(_) => 4,
            Self::Topic(_) => 5,
            Self::Streams(_) => 6,
            Self::Journal(_) => 7,
            Self::Object(_) => 8,
            Self::Deletion(_) => 9,
            Self::Config(_) => 10,
            Self::Cleaning(_) => 11,
        }
    }
}

impl Record {
    /// The value to be stored under `key`.
    pub fn encode(&self, key: Key) -> Vec<u8> {
        let mut bytes = vec![self.version()];
        convert::encode(self, &mut bytes);
        let crc = checksum(key, &bytes);
        bytes.put_u32(crc);
        bytes
    }

    /// Reads the value stored under `key`, and checks its sum and every field.
    ///
    /// # Errors
    /// Whatever makes the bytes no value of that key.
    pub fn decode(key: Key, bytes: &[u8]) -> Result<Self, FormatError> {
        let need = 1 + CRC_BYTES;
        if bytes.len() < need {
            return Err(FormatError::Truncated {
                what: WHAT,
                need,
                have: bytes.len(),
            });
        }
        let (content, mut stored) = bytes.split_at(bytes.len() - CRC_BYTES);
        let (stored, computed) = (stored.get_u32(), checksum(key, content));
        if stored != computed {
            return Err(FormatError::Checksum {
                what: WHAT,
                stored,
                computed,
            });
        }
        if !(VERSION..=NEWEST_VERSION).contains(&content[0]) {
            return Err(FormatError::Version {
                what: WHAT,
                newest: NEWEST_VERSION,
                found: content[0],
            });
        }
        convert::decode(key, &content[1..])
    }

    /// The oldest version whose readers do right by it.
    fn version(&self) -> u8 {
        let has_closed = |row: &StreamRow| !row.closed.is_empty() || row.ended.is_some();
        match self {
            Self::Streams(block) if block.rows.values().any(has_closed) => CLOSED_VERSION,
            _ => VERSION,
        }
    }
}

fn checksum(key: Key, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&key.to_bytes()), content)
}

#[cfg(test)]
mod tests;
