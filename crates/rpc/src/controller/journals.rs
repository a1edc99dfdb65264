//! Journals, and the opening of streams at a new leader.

use async_trait::async_trait;
use tailwater_types::{DeviceId, JournalId, LeaderEpoch, Lsn, LsnRange, NodeEpoch, NodeId, ObjectId, Offset, StreamId};

use super::Caller;
use crate::Result;

#[async_trait]
pub trait Journals: Send + Sync {
    /// A new journal for the calling frontend, recorded with its ensemble before this answers.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] while no WAL node has a device for it.
    async fn create_journal(&self, caller: Caller) -> Result<JournalGrant>;

    /// What the new leader needs to open these streams, in one answer for all: an error for one concerns that one only.
    ///
    /// # Errors
    /// Of one stream: [`crate::Error::StreamFenced`] if the epoch isn't exactly the assigned one,
    /// [`crate::Error::StreamNotClosed`] while a journal that may hold its tail isn't sealed, [`crate::Error::NotFound`].
    async fn open_streams(&self, caller: Caller, streams: Vec<OpenStream>) -> Result<Vec<Result<OpenedStream>>>;

    /// All journals that are not gone.
    async fn list_journals(&self) -> Result<Vec<JournalInfo>>;
}

/// A journal that the caller may open at every member of its ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalGrant {
    pub journal: JournalId,
    pub ensemble: Vec<DeviceId>,
    pub ack_quorum: u8,
    pub min_leader_epochs: Vec<(StreamId, LeaderEpoch)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenStream {
    pub stream: StreamId,
    pub leader_epoch: LeaderEpoch,
}

/// Where a stream's data and state lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedStream {
    pub stream: StreamId,
    pub start: Offset,
    /// The end of the contiguous uploaded prefix.
    pub uploaded: Offset,
    /// The snapshot that is exact at `uploaded`; `None` while nothing has been uploaded.
    pub snapshot: Option<SnapshotAt>,
    /// Sealed journals that may hold what lies behind `uploaded`, in the order in which they were opened.
    pub tails: Vec<StreamTail>,
}

/// Where in object storage a snapshot lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotAt {
    pub object: ObjectId,
    pub key: String,
    /// Bytes in the object that are this stream's snapshot.
    pub position: u64,
    pub length: u32,
    /// Their CRC32C.
    pub crc: u32,
}

/// A sealed journal and what of it is still there: `[trim, sealed end)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTail {
    pub journal: JournalId,
    pub ensemble: Vec<DeviceId>,
    pub range: LsnRange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalState {
    Open,
    /// Being sealed: no end yet.
    Sealing,
    Sealed {
        end: Lsn,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalInfo {
    pub journal: JournalId,
    pub owner: NodeId,
    pub owner_epoch: NodeEpoch,
    pub ensemble: Vec<DeviceId>,
    pub state: JournalState,
    /// Everything below is in committed objects.
    pub trim: Lsn,
}
