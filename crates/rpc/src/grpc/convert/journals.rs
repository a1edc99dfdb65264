//! Messages of the port `Journals`.

use tailwater_types::{JournalId, Lsn, NodeEpoch, NodeId, StreamId};

use super::{
    all, device_ids, devices_bytes, into_all, leader_epoch, lsn_range, number, offset, required, stream_epochs,
};
use crate::controller::{
    CloseStream, ClosedAt, JournalGrant, JournalInfo, JournalState, OpenStream, OpenedStream, StreamTail,
};
use crate::grpc::error::{from_refusal, to_refusal};
use crate::grpc::proto;
use crate::grpc::proto::open_stream_answer::Answer;
use crate::{Error, Result};

impl From<JournalGrant> for proto::JournalGrant {
    fn from(grant: JournalGrant) -> Self {
        Self {
            journal: grant.journal.0,
            ensemble: devices_bytes(&grant.ensemble),
            ack_quorum: grant.ack_quorum.into(),
            min_leader_epochs: into_all(grant.min_leader_epochs),
            unconfirmed: grant.unconfirmed,
        }
    }
}

impl TryFrom<proto::JournalGrant> for JournalGrant {
    type Error = Error;

    fn try_from(grant: proto::JournalGrant) -> Result<Self> {
        Ok(Self {
            journal: JournalId(grant.journal),
            ensemble: device_ids(&grant.ensemble, "ensemble")?,
            ack_quorum: number(grant.ack_quorum, "ack_quorum")?,
            min_leader_epochs: stream_epochs(grant.min_leader_epochs, "min_leader_epochs")?,
            unconfirmed: grant.unconfirmed,
        })
    }
}

impl From<OpenStream> for proto::StreamEpoch {
    fn from(open: OpenStream) -> Self {
        (open.stream, open.leader_epoch).into()
    }
}

impl TryFrom<proto::StreamEpoch> for OpenStream {
    type Error = Error;

    fn try_from(open: proto::StreamEpoch) -> Result<Self> {
        Ok(Self {
            stream: StreamId(open.stream),
            leader_epoch: leader_epoch(open.leader_epoch, "leader_epoch")?,
        })
    }
}

impl From<StreamTail> for proto::StreamTail {
    fn from(tail: StreamTail) -> Self {
        Self {
            journal: tail.journal.0,
            ensemble: devices_bytes(&tail.ensemble),
            range: Some(tail.range.into()),
        }
    }
}

impl TryFrom<proto::StreamTail> for StreamTail {
    type Error = Error;

    fn try_from(tail: proto::StreamTail) -> Result<Self> {
        Ok(Self {
            journal: JournalId(tail.journal),
            ensemble: device_ids(&tail.ensemble, "tail.ensemble")?,
            range: lsn_range(tail.range, "tail.range")?,
        })
    }
}

impl From<OpenedStream> for proto::OpenedStream {
    fn from(opened: OpenedStream) -> Self {
        Self {
            stream: opened.stream.0,
            start: opened.start.0,
            uploaded: opened.uploaded.0,
            snapshot: opened.snapshot.map(Into::into),
            tails: into_all(opened.tails),
            closed: opened.closed.map(Into::into),
        }
    }
}

impl TryFrom<proto::OpenedStream> for OpenedStream {
    type Error = Error;

    fn try_from(opened: proto::OpenedStream) -> Result<Self> {
        Ok(Self {
            stream: StreamId(opened.stream),
            start: offset(opened.start, "opened.start")?,
            uploaded: offset(opened.uploaded, "opened.uploaded")?,
            snapshot: opened.snapshot.map(Into::into),
            tails: all(opened.tails)?,
            closed: opened.closed.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<ClosedAt> for proto::ClosedAt {
    fn from(closed: ClosedAt) -> Self {
        Self {
            leader_epoch: closed.leader_epoch.0,
            end: closed.end.0,
        }
    }
}

impl TryFrom<proto::ClosedAt> for ClosedAt {
    type Error = Error;

    fn try_from(closed: proto::ClosedAt) -> Result<Self> {
        Ok(Self {
            leader_epoch: leader_epoch(closed.leader_epoch, "closed.leader_epoch")?,
            end: offset(closed.end, "closed.end")?,
        })
    }
}

impl From<CloseStream> for proto::CloseStream {
    fn from(close: CloseStream) -> Self {
        Self {
            stream: close.stream.0,
            leader_epoch: close.leader_epoch.0,
            end: close.end.0,
            journal: close.journal.0,
            journal_end: close.journal_end.0,
        }
    }
}

impl TryFrom<proto::CloseStream> for CloseStream {
    type Error = Error;

    fn try_from(close: proto::CloseStream) -> Result<Self> {
        Ok(Self {
            stream: StreamId(close.stream),
            leader_epoch: leader_epoch(close.leader_epoch, "close.leader_epoch")?,
            end: offset(close.end, "close.end")?,
            journal: JournalId(close.journal),
            journal_end: Lsn(close.journal_end),
        })
    }
}

impl From<Result<()>> for proto::CloseStreamAnswer {
    fn from(answer: Result<()>) -> Self {
        Self {
            refused: answer.err().map(|error| to_refusal(&error)),
        }
    }
}

/// One answer for each stream that was closed, in the same order.
pub(in crate::grpc) fn closed_streams(answer: proto::CloseStreamsAnswer, asked: usize) -> Result<Vec<Result<()>>> {
    count(answer.streams.len(), asked)?;
    let one = |answer: proto::CloseStreamAnswer| match answer.refused {
        None => Ok(Ok(())),
        Some(refusal) => Ok(Err(from_refusal(refusal)?)),
    };
    answer.streams.into_iter().map(one).collect()
}

fn count(found: usize, asked: usize) -> Result<()> {
    if found == asked {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{found} streams are answered, {asked} were asked for"
    )))
}

impl From<Result<OpenedStream>> for proto::OpenStreamAnswer {
    fn from(answer: Result<OpenedStream>) -> Self {
        let answer = match answer {
            Ok(opened) => Answer::Opened(opened.into()),
            Err(error) => Answer::Refused(to_refusal(&error)),
        };
        Self { answer: Some(answer) }
    }
}

/// One answer for each stream that was asked for, in the same order.
pub(in crate::grpc) fn opened_streams(
    answer: proto::OpenStreamsAnswer,
    asked: usize,
) -> Result<Vec<Result<OpenedStream>>> {
    count(answer.streams.len(), asked)?;
    let one = |answer: proto::OpenStreamAnswer| match required(answer.answer, "streams.answer")? {
        Answer::Opened(opened) => Ok(Ok(opened.try_into()?)),
        Answer::Refused(refusal) => Ok(Err(from_refusal(refusal)?)),
    };
    answer.streams.into_iter().map(one).collect()
}

impl From<JournalInfo> for proto::JournalInfo {
    fn from(info: JournalInfo) -> Self {
        let (sealing, sealed_end) = match info.state {
            JournalState::Open => (false, None),
            JournalState::Sealing => (true, None),
            JournalState::Sealed { end } => (false, Some(end.0)),
        };
        Self {
            journal: info.journal.0,
            owner: info.owner.0,
            owner_epoch: info.owner_epoch.0,
            ensemble: devices_bytes(&info.ensemble),
            sealing,
            sealed_end,
            trim: info.trim.0,
        }
    }
}

impl TryFrom<proto::JournalInfo> for JournalInfo {
    type Error = Error;

    fn try_from(info: proto::JournalInfo) -> Result<Self> {
        let state = match (info.sealing, info.sealed_end) {
            (false, None) => JournalState::Open,
            (true, None) => JournalState::Sealing,
            (false, Some(end)) => JournalState::Sealed { end: Lsn(end) },
            (true, Some(end)) => {
                let journal = info.journal;
                return Err(Error::Invalid(format!(
                    "journal {journal} is sealing and has the end {end}"
                )));
            }
        };
        Ok(Self {
            journal: JournalId(info.journal),
            owner: NodeId(info.owner),
            owner_epoch: NodeEpoch(info.owner_epoch),
            ensemble: device_ids(&info.ensemble, "journal.ensemble")?,
            state,
            trim: Lsn(info.trim),
        })
    }
}
