//! The ports' structs ⇄ the messages of `proto/`, a file a port.
//!
//! From a struct to its message nothing can fail. The other way nothing is taken for granted: a missing message, an id of
//! another length, a number that no enum has, a negative offset or a range that ends before it starts is an
//! [`Error::Invalid`] that names the field. Values that are well formed are judged by the port, not here.

mod catalog;
mod configs;
mod frontends;
mod journals;
mod nodes;
mod objects;
mod tasks;
#[cfg(test)]
mod tests;

pub(super) use frontends::{error_codes, marker_errors, partition_errors};
pub(super) use journals::{closed_streams, opened_streams};
pub(super) use nodes::{known_changes, versions};
pub(super) use tasks::{ms, task_kinds};

use bytes::Bytes;
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceId, JournalId, LeaderEpoch, Lsn, LsnRange, NodeEpoch, NodeId, ObjectId, Offset,
    OffsetRange, StreamId, TopicId,
};

use super::proto;
use crate::controller::{Caller, SnapshotAt};
use crate::{Error, Result};

/// What a message must have.
pub(crate) fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| Error::Invalid(format!("{field} is missing")))
}

/// Every one of a repeated field.
pub(crate) fn all<A, B: TryFrom<A, Error = Error>>(values: Vec<A>) -> Result<Vec<B>> {
    values.into_iter().map(B::try_from).collect()
}

/// The messages of a repeated field.
pub(crate) fn into_all<A: Into<B>, B>(values: Vec<A>) -> Vec<B> {
    values.into_iter().map(Into::into).collect()
}

/// A value of an enum, as prost carries it.
pub(crate) fn enumerated<E: TryFrom<i32>>(value: i32, field: &str) -> Result<E> {
    E::try_from(value).map_err(|_| Error::Invalid(format!("{field} is {value}, which nothing here is numbered with")))
}

/// An enum's zero, which says that the field wasn't set.
pub(crate) fn unspecified(field: &str) -> Error {
    Error::Invalid(format!("{field} is unspecified"))
}

/// A number that doesn't fit what it stands for.
pub(crate) fn number<A: Copy + std::fmt::Display, B: TryFrom<A>>(value: A, field: &str) -> Result<B> {
    B::try_from(value).map_err(|_| Error::Invalid(format!("{field} is {value}, which is out of range")))
}

pub(crate) fn sixteen(bytes: &[u8], field: &str) -> Result<[u8; 16]> {
    let wrong = |_| Error::Invalid(format!("{field} has {} bytes instead of 16", bytes.len()));
    bytes.try_into().map_err(wrong)
}

pub(crate) fn cluster_id(bytes: &[u8], field: &str) -> Result<ClusterId> {
    sixteen(bytes, field).map(ClusterId::from_bytes)
}

pub(crate) fn device_id(bytes: &[u8], field: &str) -> Result<DeviceId> {
    sixteen(bytes, field).map(DeviceId::from_bytes)
}

pub(crate) fn topic_id(bytes: &[u8], field: &str) -> Result<TopicId> {
    sixteen(bytes, field).map(TopicId::from_bytes)
}

pub(crate) fn device_ids(ids: &[Bytes], field: &str) -> Result<Vec<DeviceId>> {
    ids.iter().map(|id| device_id(id, field)).collect()
}

pub(crate) fn id_bytes(id: [u8; 16]) -> Bytes {
    Bytes::copy_from_slice(&id)
}

pub(crate) fn devices_bytes(ids: &[DeviceId]) -> Vec<Bytes> {
    ids.iter().map(|id| id_bytes(id.to_bytes())).collect()
}

pub(crate) fn offset(value: i64, field: &str) -> Result<Offset> {
    if value < 0 {
        return Err(Error::Invalid(format!("{field} is the negative offset {value}")));
    }
    Ok(Offset(value))
}

pub(crate) fn leader_epoch(value: i32, field: &str) -> Result<LeaderEpoch> {
    if value < 0 {
        return Err(Error::Invalid(format!("{field} is the negative epoch {value}")));
    }
    Ok(LeaderEpoch(value))
}

pub(crate) fn lsn_range(range: Option<proto::LsnRange>, field: &str) -> Result<LsnRange> {
    let proto::LsnRange { start, end } = required(range, field)?;
    if start > end {
        return Err(Error::Invalid(format!(
            "{field} starts at {start}, behind its end {end}"
        )));
    }
    Ok(LsnRange::new(Lsn(start), Lsn(end)))
}

pub(crate) fn offset_range(range: Option<proto::OffsetRange>, field: &str) -> Result<OffsetRange> {
    let proto::OffsetRange { start, end } = required(range, field)?;
    if start > end {
        return Err(Error::Invalid(format!(
            "{field} starts at {start}, behind its end {end}"
        )));
    }
    Ok(OffsetRange::new(offset(start, field)?, Offset(end)))
}

pub(crate) fn caller(caller: Option<proto::Caller>) -> Result<Caller> {
    let caller = required(caller, "caller")?;
    Ok(Caller {
        node: NodeId(caller.node),
        node_epoch: NodeEpoch(caller.node_epoch),
        controller_epoch: ControllerEpoch(caller.controller_epoch),
    })
}

/// Streams, each with a leader epoch.
pub(crate) fn stream_epochs(epochs: Vec<proto::StreamEpoch>, field: &str) -> Result<Vec<(StreamId, LeaderEpoch)>> {
    let one = |epoch: proto::StreamEpoch| Ok((StreamId(epoch.stream), leader_epoch(epoch.leader_epoch, field)?));
    epochs.into_iter().map(one).collect()
}

impl From<Caller> for proto::Caller {
    fn from(caller: Caller) -> Self {
        Self {
            node: caller.node.0,
            node_epoch: caller.node_epoch.0,
            controller_epoch: caller.controller_epoch.0,
        }
    }
}

impl From<LsnRange> for proto::LsnRange {
    fn from(range: LsnRange) -> Self {
        Self {
            start: range.start.0,
            end: range.end.0,
        }
    }
}

impl From<OffsetRange> for proto::OffsetRange {
    fn from(range: OffsetRange) -> Self {
        Self {
            start: range.start.0,
            end: range.end.0,
        }
    }
}

impl From<(StreamId, LeaderEpoch)> for proto::StreamEpoch {
    fn from((stream, leader_epoch): (StreamId, LeaderEpoch)) -> Self {
        Self {
            stream: stream.0,
            leader_epoch: leader_epoch.0,
        }
    }
}

impl From<(JournalId, LsnRange)> for proto::JournalRange {
    fn from((journal, range): (JournalId, LsnRange)) -> Self {
        Self {
            journal: journal.0,
            range: Some(range.into()),
        }
    }
}

impl From<SnapshotAt> for proto::SnapshotAt {
    fn from(at: SnapshotAt) -> Self {
        Self {
            object: at.object.0,
            key: at.key,
            position: at.position,
            length: at.length,
            crc: at.crc,
        }
    }
}

impl From<proto::SnapshotAt> for SnapshotAt {
    fn from(at: proto::SnapshotAt) -> Self {
        Self {
            object: ObjectId(at.object),
            key: at.key,
            position: at.position,
            length: at.length,
            crc: at.crc,
        }
    }
}
