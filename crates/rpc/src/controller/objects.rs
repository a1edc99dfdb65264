//! Objects: prepared, committed, found, marked, gone.

use std::time::Duration;

use async_trait::async_trait;
use tailwater_types::{JournalId, LsnRange, MetadataVersion, ObjectId, Offset, OffsetRange, StreamId};

use super::{Caller, LeaseRef, SnapshotAt};
use crate::Result;

#[async_trait]
pub trait Objects: Send + Sync {
    /// Ids and keys that the holder of a lease may write to, until `deadline` has passed.
    ///
    /// # Errors
    /// [`crate::Error::LeaseFenced`].
    async fn prepare_objects(&self, caller: Caller, request: PrepareObjects) -> Result<Vec<PreparedObject>>;

    /// Makes objects visible and moves the trim LSN of the journals they cover, or takes their streams' parts off the
    /// objects that they replace, in one atomic step. The objects are durable
    /// in object storage before this is called. A repeat of a commit that succeeded answers as the first did.
    ///
    /// # Errors
    /// [`crate::Error::LeaseFenced`], [`crate::Error::ObjectExpired`] for an object that isn't prepared (any more),
    /// [`crate::Error::OffsetNotMatched`] if a range doesn't begin at its journal's trim LSN,
    /// [`crate::Error::ObjectReplaced`] if a source object doesn't have what was read from it any more.
    async fn commit_objects(&self, caller: Caller, request: CommitObjects) -> Result<MetadataVersion>;

    /// Where the uploaded part of a stream lies, from `from` on: at most `limit` objects.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a stream.
    async fn find_objects(&self, stream: StreamId, from: Offset, limit: usize) -> Result<StreamObjects>;

    /// How far streams are uploaded; a stream that is no more is left out.
    async fn stream_uploads(&self, streams: Vec<StreamId>) -> Result<Vec<StreamUpload>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareObjects {
    pub lease: LeaseRef,
    pub count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedObject {
    pub object: ObjectId,
    pub key: String,
    /// How long, from now on, the writer may take: after it the object is expired, and deleted again and again until it is sure
    /// that nothing of it comes any more.
    pub deadline: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitObjects {
    pub lease: LeaseRef,
    pub source: CommitSource,
    pub objects: Vec<CommittedObject>,
    /// Prepared ones that are not used after all.
    pub abandoned: Vec<ObjectId>,
}

/// What the objects were made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitSource {
    /// Entries of journals; each range begins at its journal's trim LSN.
    Journals(Vec<(JournalId, LsnRange)>),
    /// What these objects, in offset order, have of a range of one stream. It begins where the first one's part does; the
    /// last one keeps what it has behind the range.
    Objects {
        stream: StreamId,
        range: OffsetRange,
        objects: Vec<ObjectId>,
        /// The stream is cleaned up to the end of `range` of what keys below this offset have superseded. If the cleaning
        /// ends early, the next one goes on there, and comes up to here. 0: it begins anew.
        keys_end: Offset,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedObject {
    pub object: ObjectId,
    pub size_bytes: u64,
    pub streams: Vec<CommittedStream>,
}

/// One stream's part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedStream {
    pub stream: StreamId,
    /// What the object has of the stream; empty if only the snapshot is here.
    pub range: OffsetRange,
    /// Last stable offset known at that point, at most `range.end`.
    pub stable_end: Offset,
    pub max_timestamp_ms: i64,
    /// Bytes of its batches.
    pub bytes: u64,
    /// The stream's snapshot, exact at `range.end`, in this object.
    pub snapshot: Option<SnapshotAt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamObjects {
    pub version: MetadataVersion,
    pub start: Offset,
    pub uploaded: Offset,
    /// In offset order, contiguous from the first that ends behind `from`.
    pub objects: Vec<ObjectSlice>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSlice {
    pub object: ObjectId,
    pub key: String,
    pub size_bytes: u64,
    pub range: OffsetRange,
    pub max_timestamp_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamUpload {
    pub stream: StreamId,
    /// The first offset that can be read.
    pub start: Offset,
    pub uploaded: Offset,
    /// Nothing of an aborted transaction is left below it.
    pub cleaned: Offset,
    pub snapshot: Option<SnapshotAt>,
    /// Bytes of its batches that readers find in objects.
    pub bytes: u64,
}
