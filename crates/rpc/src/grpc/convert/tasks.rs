//! Messages of the port `Tasks`.

use std::time::Duration;

use tailwater_types::{JournalId, LeaseEpoch, Lsn, ObjectId, StreamId, TaskId};

use super::{device_ids, devices_bytes, enumerated, offset, offset_range, required, unspecified};
use crate::controller::{Lease, LeaseRef, TaskKind, Work};
use crate::grpc::proto;
use crate::grpc::proto::work::Work as Kind;
use crate::{Error, Result};

/// Whole milliseconds; what is longer than they can say is as long as they can.
pub(in crate::grpc) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(in crate::grpc) fn task_kinds(kinds: Vec<i32>) -> Result<Vec<TaskKind>> {
    let one = |kind: i32| match enumerated(kind, "kinds")? {
        proto::TaskKind::Unspecified => Err(unspecified("kinds")),
        proto::TaskKind::Upload => Ok(TaskKind::Upload),
        proto::TaskKind::Delete => Ok(TaskKind::Delete),
        proto::TaskKind::Clean => Ok(TaskKind::Clean),
    };
    kinds.into_iter().map(one).collect()
}

impl From<TaskKind> for proto::TaskKind {
    fn from(kind: TaskKind) -> Self {
        match kind {
            TaskKind::Upload => Self::Upload,
            TaskKind::Delete => Self::Delete,
            TaskKind::Clean => Self::Clean,
        }
    }
}

impl From<LeaseRef> for proto::LeaseRef {
    fn from(lease: LeaseRef) -> Self {
        Self {
            task: lease.task.0,
            epoch: lease.epoch.0,
        }
    }
}

impl From<proto::LeaseRef> for LeaseRef {
    fn from(lease: proto::LeaseRef) -> Self {
        Self {
            task: TaskId(lease.task),
            epoch: LeaseEpoch(lease.epoch),
        }
    }
}

impl From<Lease> for proto::Lease {
    fn from(lease: Lease) -> Self {
        Self {
            lease: Some(lease.lease.into()),
            duration_ms: ms(lease.duration),
            work: Some(lease.work.into()),
        }
    }
}

impl TryFrom<proto::Lease> for Lease {
    type Error = Error;

    fn try_from(lease: proto::Lease) -> Result<Self> {
        Ok(Self {
            lease: required(lease.lease, "lease.lease")?.into(),
            duration: Duration::from_millis(lease.duration_ms),
            work: required(lease.work, "lease.work")?.try_into()?,
        })
    }
}

impl From<Work> for proto::Work {
    fn from(work: Work) -> Self {
        let work = match work {
            Work::Upload {
                journal,
                ensemble,
                trim,
                sealed_end,
            } => Kind::Upload(proto::UploadWork {
                journal: journal.0,
                ensemble: devices_bytes(&ensemble),
                trim: trim.0,
                sealed_end: sealed_end.map(|end| end.0),
            }),
            Work::Delete { objects } => Kind::Delete(proto::DeleteWork {
                objects: objects.into_iter().map(delete).collect(),
            }),
            Work::Clean {
                stream,
                range,
                first_dirty,
                delete_retention,
            } => Kind::Clean(proto::CleanWork {
                stream: stream.0,
                range: Some(range.into()),
                first_dirty: first_dirty.0,
                delete_retention_ms: ms(delete_retention),
            }),
        };
        Self { work: Some(work) }
    }
}

fn delete((object, key): (ObjectId, String)) -> proto::DeleteObject {
    proto::DeleteObject { object: object.0, key }
}

impl TryFrom<proto::Work> for Work {
    type Error = Error;

    fn try_from(work: proto::Work) -> Result<Self> {
        Ok(match required(work.work, "work")? {
            Kind::Upload(upload) => Self::Upload {
                journal: JournalId(upload.journal),
                ensemble: device_ids(&upload.ensemble, "work.ensemble")?,
                trim: Lsn(upload.trim),
                sealed_end: upload.sealed_end.map(Lsn),
            },
            Kind::Delete(delete) => Self::Delete {
                objects: delete
                    .objects
                    .into_iter()
                    .map(|it| (ObjectId(it.object), it.key))
                    .collect(),
            },
            Kind::Clean(clean) => Self::Clean {
                stream: StreamId(clean.stream),
                range: offset_range(clean.range, "work.range")?,
                first_dirty: offset(clean.first_dirty, "work.first_dirty")?,
                delete_retention: Duration::from_millis(clean.delete_retention_ms),
            },
        })
    }
}
