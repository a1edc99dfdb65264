//! Journals, and the opening of streams at a new leader.

use async_trait::async_trait;
use tailwater_types::{DeviceId, JournalId, LeaderEpoch, Lsn, LsnRange, NodeEpoch, NodeId, ObjectId, Offset, StreamId};

use super::Caller;
use crate::Result;

#[async_trait]
pub trait Journals: Send + Sync {
    /// A new journal for the calling frontend, recorded with its ensemble before this answers. With `confirms` the caller
    /// promises to append nothing to it before [`Journals::confirm_journal`] was answered, if the grant is
    /// [`JournalGrant::unconfirmed`]: until then it can be sealed, at 0, without any of its members.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] while no WAL node has a device for it.
    async fn create_journal(&self, caller: Caller, confirms: bool) -> Result<JournalGrant>;

    /// The caller has opened the journal at its members, and is going to append to it. May be repeated.
    ///
    /// # Errors
    /// [`crate::Error::JournalFenced`] if it isn't the caller's open journal: nothing may be appended to it then.
    async fn confirm_journal(&self, caller: Caller, journal: JournalId) -> Result<()>;

    /// What the new leader needs to open these streams, in one answer for all: an error for one concerns that one only.
    ///
    /// # Errors
    /// Of one stream: [`crate::Error::StreamFenced`] if the epoch isn't exactly the assigned one,
    /// [`crate::Error::StreamNotClosed`] while a journal that may hold its tail isn't sealed, [`crate::Error::NotFound`].
    async fn open_streams(&self, caller: Caller, streams: Vec<OpenStream>) -> Result<Vec<Result<OpenedStream>>>;

    /// Gives streams away that the caller leads: it takes no more batches of them, every append has its outcome, and a snapshot
    /// slice is durable. Each gets another leader with a higher leader epoch, if there is another frontend. An error for one
    /// concerns that one only; a repeat after success answers as the first did.
    ///
    /// # Errors
    /// Of one stream: [`crate::Error::StreamFenced`] if the epoch isn't exactly the assigned one,
    /// [`crate::Error::JournalFenced`] if the journal isn't open any more, [`crate::Error::Invalid`] for one of another node or an
    /// end below what is uploaded, [`crate::Error::NotFound`].
    async fn close_streams(&self, caller: Caller, streams: Vec<CloseStream>) -> Result<Vec<Result<()>>>;

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
    /// The controller wants to be told that it was opened, before anything is appended ([`Journals::confirm_journal`]).
    pub unconfirmed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenStream {
    pub stream: StreamId,
    pub leader_epoch: LeaderEpoch,
}

/// A leadership that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseStream {
    pub stream: StreamId,
    pub leader_epoch: LeaderEpoch,
    /// Where the log ends exactly.
    pub end: Offset,
    /// The caller's open journal; everything that it has of the stream lies below `journal_end`, and is durable.
    pub journal: JournalId,
    pub journal_end: Lsn,
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
    /// Journals that may hold what lies behind `uploaded`, in the order in which they were opened.
    pub tails: Vec<StreamTail>,
    /// The newest leadership that was closed. What a later one has written begins at exactly its end; if none has written
    /// anything, the log ends there.
    pub closed: Option<ClosedAt>,
}

/// The leadership of that epoch, and all before it, ended at exactly this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedAt {
    pub leader_epoch: LeaderEpoch,
    pub end: Offset,
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

/// A journal and what of it is still there and may hold something of the stream: from its trim LSN to where it was sealed, or
/// to what its owner had in it when it closed the stream.
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
