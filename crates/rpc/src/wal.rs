//! The WAL's port: journals on one device (docs/design.md sections 3, 5 and 6).

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tailwater_format::entry::{Entry, SliceHeader};
use tailwater_types::{
    DeviceId, JournalId, LeaderEpoch, Lsn, LsnRange, MetadataVersion, NodeEpoch, NodeId, Offset, SealingEpoch, StreamId,
};
use tokio::sync::watch;

use crate::{Error, Result, Stream};

/// One WAL node with its device.
///
/// Every call but [`Wal::status`], which asks for it, names the device it means; another one here refuses with [`Error::DeviceChanged`] before anything else
/// is looked at. All calls may be repeated. Dropping a returned future or stream cancels the call, and never leaves a
/// write half done: what was taken is carried out.
#[async_trait]
pub trait Wal: Send + Sync {
    /// Opens a journal, or attaches to it again. The opening record is durable when this answers.
    ///
    /// # Errors
    /// [`Error::JournalFenced`] if it is sealed or gone or was opened under a newer node epoch,
    /// [`Error::JournalEpochUnknown`] if it was opened under an older one, [`Error::Throttled`] without room for it.
    async fn open_journal(&self, request: OpenJournal) -> Result<AppendStream>;

    /// The entries of `range`, in LSN order, checked against their sums. Ends before `range.end` only at the journal's
    /// durable end.
    ///
    /// # Errors
    /// [`Error::Trimmed`] below the trim LSN, [`Error::NotHere`] for a journal this device doesn't have.
    async fn read_journal(&self, request: ReadJournal) -> Result<Stream<Entry>>;

    /// What is in the entries of `range`, without the records: slice headers, batch headers, snapshots.
    /// Answers as [`Wal::read_journal`] does.
    async fn scan_journal(&self, request: ReadJournal) -> Result<Stream<ScannedEntry>>;

    /// Whole batches of one stream, the first being the one that holds `request.offset`, up to `max_bytes` (one batch at
    /// least), in offset order, none at or above `request.end`.
    ///
    /// # Errors
    /// [`Error::Trimmed`] if the offset was here and is no more, [`Error::NotHere`] if it never was.
    async fn read_stream(&self, request: ReadStream) -> Result<Vec<Bytes>>;

    /// Ends the journal for good: the seal is logged behind the appends taken so far and flushed before this answers,
    /// and nothing above the answered end is acked ever after. A journal never heard of is sealed at 0.
    ///
    /// # Errors
    /// [`Error::ControllerFenced`] if a newer sealing epoch was seen.
    async fn seal(&self, request: SealJournal) -> Result<SealedJournal>;

    /// Frees what lies below `request.to`; with `gone`, forgets the journal, which then can't be opened again, nor any with a
    /// lower id that isn't here. An older trim than the last changes nothing.
    async fn trim(&self, request: TrimJournal) -> Result<()>;

    /// What is on the device.
    async fn status(&self) -> Result<WalStatus>;
}

/// The opening record's content, the same for every member of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJournal {
    pub journal: JournalId,
    pub device: DeviceId,
    pub node: NodeId,
    pub node_epoch: NodeEpoch,
    /// The devices that hold the journal: R of them.
    pub ensemble: Vec<DeviceId>,
    /// How many must have a write durable before it counts: A.
    pub ack_quorum: u8,
    /// Streams that were taken away from this node, with the lowest leader epoch that is still taken of each.
    pub min_leader_epochs: Vec<(StreamId, LeaderEpoch)>,
}

/// An attached writer of a journal. Dropping it detaches; the journal stays open.
pub struct AppendStream {
    /// The LSN that the next append must have.
    pub next: Lsn,
    pub sender: Box<dyn AppendSender>,
    /// The newest state only: what is durable covers all that was before.
    pub state: watch::Receiver<AppendState>,
}

/// The sending half of an [`AppendStream`].
pub trait AppendSender: Send + Sync {
    /// Takes an entry without waiting. The caller holds credit for it ([`AppendState::credit_limit`]), sends LSNs in order,
    /// and learns the outcome from [`AppendState`]. `commit` is the highest commit LSN that the caller knows.
    ///
    /// An LSN below the next one is taken if it is the same entry ([`tailwater_format::entry::EntryHeader::crc`]).
    ///
    /// # Errors
    /// [`Error::JournalFenced`] once sealed, [`Error::StreamFenced`] for a slice below its stream's minimum epoch,
    /// [`Error::LsnGap`], [`Error::Corrupt`] for another entry under a used LSN, [`Error::Throttled`] beyond the credit,
    /// [`Error::Invalid`] for an entry of another journal or one above [`AppendSender::max_entry_bytes`]; all before
    /// anything is written. Over a connection only the last two are answered here; the others come as
    /// [`AppendState::failed`], and end the stream.
    fn send(&self, entry: Entry, commit: Lsn) -> Result<()>;

    /// The largest encoded entry that this device will ever give credit for; a larger one would wait for ever.
    fn max_entry_bytes(&self) -> usize {
        usize::MAX
    }
}

/// How far an append stream has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendState {
    /// Everything below is durable on this member.
    pub durable: Lsn,
    /// The sum of [`entry_cost`] of all entries that may be sent since the stream was attached. Only grows.
    pub credit_limit: u64,
    /// Set once, last: nothing more will become durable through this stream.
    pub failed: Option<Error>,
}

/// Device bytes that an entry is charged with: as if it had its writes for itself ([`tailwater_format::device::record_cost`]).
pub fn entry_cost(encoded_bytes: usize) -> u64 {
    tailwater_format::device::record_cost(encoded_bytes)
}

/// A range of one journal's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadJournal {
    pub journal: JournalId,
    pub device: DeviceId,
    pub range: LsnRange,
}

/// An entry without its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedEntry {
    pub lsn: Lsn,
    pub slices: Vec<ScannedSlice>,
}

/// A slice without its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedSlice {
    pub header: SliceHeader,
    /// Of a snapshot: its bytes. Of records: each batch's 61 header bytes, a control batch's bytes whole.
    pub parts: Vec<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadStream {
    pub journal: JournalId,
    pub device: DeviceId,
    pub stream: StreamId,
    pub offset: Offset,
    pub end: Offset,
    pub max_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealJournal {
    pub journal: JournalId,
    pub device: DeviceId,
    pub epoch: SealingEpoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedJournal {
    /// The member's own contiguous end.
    pub end: Lsn,
    /// The highest commit LSN that the member knows.
    pub commit: Lsn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrimJournal {
    pub journal: JournalId,
    pub device: DeviceId,
    pub to: Lsn,
    /// The metadata version as of which all below `to` is in objects: what readers of it are told ([`Error::Trimmed`]).
    pub version: MetadataVersion,
    /// The journal is sealed and wholly in objects: nothing of it is needed any more.
    pub gone: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalStatus {
    pub device: DeviceId,
    /// Bytes of the ring, and of it what can't be overwritten yet.
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    pub journals: Vec<JournalStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalStatus {
    pub journal: JournalId,
    pub trim: Lsn,
    /// The highest commit LSN known here, and what is durable here.
    pub commit: Lsn,
    pub durable: Lsn,
    pub sealed: bool,
    /// Encoded bytes of the entries of `[trim, durable)`.
    pub bytes: u64,
    /// How long ago the oldest of them became durable here (since this start at most).
    pub oldest_age: Option<Duration>,
}

/// Finds the WAL that holds a device.
pub trait WalDirectory: Send + Sync {
    /// `None` while no node with that device is registered.
    fn wal(&self, device: DeviceId) -> Option<std::sync::Arc<dyn Wal>>;
}

impl AppendState {
    /// The error that ended the stream, if one did.
    pub fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err::<(), Error>)
    }
}
