//! Messages of the port `Objects`.

use std::time::Duration;

use tailwater_types::{JournalId, LsnRange, MetadataVersion, ObjectId, StreamId};

use super::{all, into_all, lsn_range, offset, offset_range, required};
use crate::controller::{
    CommitObjects, CommitSource, CommittedObject, CommittedStream, ObjectSlice, PrepareObjects, PreparedObject,
    StreamObjects, StreamUpload,
};
use crate::grpc::proto;
use crate::grpc::proto::commit_objects_request::Source;
use crate::{Error, Result};

/// The request without its caller.
impl From<PrepareObjects> for proto::PrepareObjectsRequest {
    fn from(request: PrepareObjects) -> Self {
        Self {
            caller: None,
            lease: Some(request.lease.into()),
            count: request.count,
        }
    }
}

impl TryFrom<proto::PrepareObjectsRequest> for PrepareObjects {
    type Error = Error;

    fn try_from(request: proto::PrepareObjectsRequest) -> Result<Self> {
        Ok(Self {
            lease: required(request.lease, "lease")?.into(),
            count: request.count,
        })
    }
}

impl From<PreparedObject> for proto::PreparedObject {
    fn from(object: PreparedObject) -> Self {
        Self {
            object: object.object.0,
            key: object.key,
            deadline_ms: super::tasks::ms(object.deadline),
        }
    }
}

impl From<proto::PreparedObject> for PreparedObject {
    fn from(object: proto::PreparedObject) -> Self {
        Self {
            object: ObjectId(object.object),
            key: object.key,
            deadline: Duration::from_millis(object.deadline_ms),
        }
    }
}

/// The request without its caller.
impl From<CommitObjects> for proto::CommitObjectsRequest {
    fn from(request: CommitObjects) -> Self {
        let source = match request.source {
            CommitSource::Journals(journals) => Source::Journals(proto::JournalRanges {
                journals: into_all(journals),
            }),
            CommitSource::Objects {
                stream,
                range,
                objects,
                keys_end,
            } => Source::SourceObjects(proto::SourceObjects {
                stream: stream.0,
                range: Some(range.into()),
                objects: objects.into_iter().map(|object| object.0).collect(),
                keys_end: keys_end.0,
            }),
        };
        Self {
            caller: None,
            lease: Some(request.lease.into()),
            source: Some(source),
            objects: into_all(request.objects),
            abandoned: request.abandoned.into_iter().map(|object| object.0).collect(),
        }
    }
}

impl TryFrom<proto::CommitObjectsRequest> for CommitObjects {
    type Error = Error;

    fn try_from(request: proto::CommitObjectsRequest) -> Result<Self> {
        let source = match required(request.source, "source")? {
            Source::Journals(ranges) => CommitSource::Journals(journal_ranges(ranges.journals)?),
            Source::SourceObjects(from) => CommitSource::Objects {
                stream: StreamId(from.stream),
                range: offset_range(from.range, "source_objects.range")?,
                objects: from.objects.into_iter().map(ObjectId).collect(),
                keys_end: offset(from.keys_end, "source_objects.keys_end")?,
            },
        };
        Ok(Self {
            lease: required(request.lease, "lease")?.into(),
            source,
            objects: all(request.objects)?,
            abandoned: request.abandoned.into_iter().map(ObjectId).collect(),
        })
    }
}

fn journal_ranges(ranges: Vec<proto::JournalRange>) -> Result<Vec<(JournalId, LsnRange)>> {
    let one = |it: proto::JournalRange| Ok((JournalId(it.journal), lsn_range(it.range, "journals.range")?));
    ranges.into_iter().map(one).collect()
}

impl From<CommittedObject> for proto::CommittedObject {
    fn from(object: CommittedObject) -> Self {
        Self {
            object: object.object.0,
            size_bytes: object.size_bytes,
            streams: into_all(object.streams),
        }
    }
}

impl TryFrom<proto::CommittedObject> for CommittedObject {
    type Error = Error;

    fn try_from(object: proto::CommittedObject) -> Result<Self> {
        Ok(Self {
            object: ObjectId(object.object),
            size_bytes: object.size_bytes,
            streams: all(object.streams)?,
        })
    }
}

impl From<CommittedStream> for proto::CommittedStream {
    fn from(stream: CommittedStream) -> Self {
        Self {
            stream: stream.stream.0,
            range: Some(stream.range.into()),
            stable_end: stream.stable_end.0,
            max_timestamp_ms: stream.max_timestamp_ms,
            bytes: stream.bytes,
            snapshot: stream.snapshot.map(Into::into),
        }
    }
}

impl TryFrom<proto::CommittedStream> for CommittedStream {
    type Error = Error;

    fn try_from(stream: proto::CommittedStream) -> Result<Self> {
        Ok(Self {
            stream: StreamId(stream.stream),
            range: offset_range(stream.range, "objects.streams.range")?,
            stable_end: offset(stream.stable_end, "objects.streams.stable_end")?,
            max_timestamp_ms: stream.max_timestamp_ms,
            bytes: stream.bytes,
            snapshot: stream.snapshot.map(Into::into),
        })
    }
}

impl From<StreamObjects> for proto::StreamObjects {
    fn from(found: StreamObjects) -> Self {
        Self {
            version: found.version.0,
            start: found.start.0,
            uploaded: found.uploaded.0,
            objects: into_all(found.objects),
        }
    }
}

impl TryFrom<proto::StreamObjects> for StreamObjects {
    type Error = Error;

    fn try_from(found: proto::StreamObjects) -> Result<Self> {
        Ok(Self {
            version: MetadataVersion(found.version),
            start: offset(found.start, "start")?,
            uploaded: offset(found.uploaded, "uploaded")?,
            objects: all(found.objects)?,
        })
    }
}

impl From<ObjectSlice> for proto::ObjectSlice {
    fn from(slice: ObjectSlice) -> Self {
        Self {
            object: slice.object.0,
            key: slice.key,
            size_bytes: slice.size_bytes,
            range: Some(slice.range.into()),
            max_timestamp_ms: slice.max_timestamp_ms,
        }
    }
}

impl TryFrom<proto::ObjectSlice> for ObjectSlice {
    type Error = Error;

    fn try_from(slice: proto::ObjectSlice) -> Result<Self> {
        Ok(Self {
            object: ObjectId(slice.object),
            key: slice.key,
            size_bytes: slice.size_bytes,
            range: offset_range(slice.range, "objects.range")?,
            max_timestamp_ms: slice.max_timestamp_ms,
        })
    }
}

impl From<StreamUpload> for proto::StreamUpload {
    fn from(upload: StreamUpload) -> Self {
        Self {
            stream: upload.stream.0,
            start: upload.start.0,
            uploaded: upload.uploaded.0,
            cleaned: upload.cleaned.0,
            snapshot: upload.snapshot.map(Into::into),
            bytes: upload.bytes,
        }
    }
}

impl TryFrom<proto::StreamUpload> for StreamUpload {
    type Error = Error;

    fn try_from(upload: proto::StreamUpload) -> Result<Self> {
        Ok(Self {
            stream: StreamId(upload.stream),
            start: offset(upload.start, "streams.start")?,
            uploaded: offset(upload.uploaded, "streams.uploaded")?,
            cleaned: offset(upload.cleaned, "streams.cleaned")?,
            snapshot: upload.snapshot.map(Into::into),
            bytes: upload.bytes,
        })
    }
}
