//! Ids, offsets, epochs, error kinds and outcomes: the words that every tier shares; and the arithmetic of checksums.
//!
//! Owns: the newtypes and their text forms. Does not own: any encoding (see `format`, `kafka`), any I/O.

pub mod crc;
mod epoch;
mod error;
mod id;
mod position;

pub use epoch::{ControllerEpoch, DeviceEpoch, LeaderEpoch, LeaseEpoch, NodeEpoch, SealingEpoch};
pub use error::{Kind, Outcome};
pub use id::{ClusterId, DeviceId, JournalId, NodeId, ObjectId, StreamId, TaskId, TopicId};
pub use position::{Lsn, LsnRange, MetadataVersion, Offset, OffsetRange};
