//! The port's structs ⇄ what `wal.proto` has for them.

use std::time::Duration;

use bytes::Bytes;
use tailwater_format::entry::SliceHeader;
use tailwater_types::{
    ControllerEpoch, DeviceId, JournalId, LeaderEpoch, Lsn, LsnRange, MetadataVersion, NodeEpoch, NodeId, Offset,
    SealingEpoch, StreamId,
};

use super::super::proto;
use crate::wal::{
    JournalStatus, OpenJournal, ReadJournal, ReadStream, ScannedEntry, ScannedSlice, SealJournal, SealedJournal,
    TrimJournal, WalStatus,
};
use crate::{Error, Result};

pub(super) fn device(bytes: &[u8]) -> Result<DeviceId> {
    let id = bytes
        .try_into()
        .map_err(|_| Error::Invalid(format!("a device id of {} bytes instead of 16", bytes.len())))?;
    Ok(DeviceId::from_bytes(id))
}

fn device_bytes(device: DeviceId) -> Bytes {
    Bytes::copy_from_slice(&device.to_bytes())
}

impl From<OpenJournal> for proto::OpenJournal {
    fn from(open: OpenJournal) -> Self {
        let streams = open.min_leader_epochs.into_iter();
        Self {
            journal: open.journal.0,
            device: device_bytes(open.device),
            node: open.node.0,
            node_epoch: open.node_epoch.0,
            ensemble: open.ensemble.into_iter().map(device_bytes).collect(),
            ack_quorum: u32::from(open.ack_quorum),
            min_leader_epochs: streams
                .map(|(stream, epoch)| proto::StreamEpoch {
                    stream: stream.0,
                    leader_epoch: epoch.0,
                })
                .collect(),
        }
    }
}

impl TryFrom<proto::OpenJournal> for OpenJournal {
    type Error = Error;

    fn try_from(open: proto::OpenJournal) -> Result<Self> {
        let streams = open.min_leader_epochs.into_iter();
        Ok(Self {
            journal: JournalId(open.journal),
            device: device(&open.device)?,
            node: NodeId(open.node),
            node_epoch: NodeEpoch(open.node_epoch),
            ensemble: open.ensemble.iter().map(|id| device(id)).collect::<Result<_>>()?,
            ack_quorum: u8::try_from(open.ack_quorum)
                .map_err(|_| Error::Invalid(format!("an ack quorum of {}", open.ack_quorum)))?,
            min_leader_epochs: streams
                .map(|it| (StreamId(it.stream), LeaderEpoch(it.leader_epoch)))
                .collect(),
        })
    }
}

impl From<ReadJournal> for proto::ReadJournalRequest {
    fn from(read: ReadJournal) -> Self {
        Self {
            journal: read.journal.0,
            device: device_bytes(read.device),
            range: Some(proto::LsnRange {
                start: read.range.start.0,
                end: read.range.end.0,
            }),
        }
    }
}

impl TryFrom<proto::ReadJournalRequest> for ReadJournal {
    type Error = Error;

    fn try_from(read: proto::ReadJournalRequest) -> Result<Self> {
        let range = read.range.unwrap_or_default();
        if range.start > range.end {
            let (start, end) = (range.start, range.end);
            return Err(Error::Invalid(format!("LSNs [{start}, {end}) to be read")));
        }
        Ok(Self {
            journal: JournalId(read.journal),
            device: device(&read.device)?,
            range: LsnRange::new(Lsn(range.start), Lsn(range.end)),
        })
    }
}

impl From<ScannedEntry> for proto::ScannedEntry {
    fn from(entry: ScannedEntry) -> Self {
        let slices = entry.slices.into_iter();
        Self {
            lsn: entry.lsn.0,
            slices: slices
                .map(|slice| proto::ScannedSlice {
                    header: slice.header.encode(),
                    parts: slice.parts,
                })
                .collect(),
        }
    }
}

impl TryFrom<proto::ScannedEntry> for ScannedEntry {
    type Error = Error;

    fn try_from(entry: proto::ScannedEntry) -> Result<Self> {
        let slice = |slice: proto::ScannedSlice| {
            let header = SliceHeader::decode(&slice.header)
                .map_err(|error| Error::Corrupt(format!("LSN {} that was received: {error}", entry.lsn)))?;
            let parts = slice.parts;
            Ok(ScannedSlice { header, parts })
        };
        Ok(Self {
            lsn: Lsn(entry.lsn),
            slices: entry.slices.into_iter().map(slice).collect::<Result<_>>()?,
        })
    }
}

impl From<ReadStream> for proto::ReadStreamRequest {
    fn from(read: ReadStream) -> Self {
        Self {
            journal: read.journal.0,
            device: device_bytes(read.device),
            stream: read.stream.0,
            offset: read.offset.0,
            end: read.end.0,
            max_bytes: read.max_bytes as u64,
        }
    }
}

impl TryFrom<proto::ReadStreamRequest> for ReadStream {
    type Error = Error;

    fn try_from(read: proto::ReadStreamRequest) -> Result<Self> {
        Ok(Self {
            journal: JournalId(read.journal),
            device: device(&read.device)?,
            stream: StreamId(read.stream),
            offset: Offset(read.offset),
            end: Offset(read.end),
            max_bytes: usize::try_from(read.max_bytes).unwrap_or(usize::MAX),
        })
    }
}

impl From<SealJournal> for proto::SealRequest {
    fn from(seal: SealJournal) -> Self {
        Self {
            journal: seal.journal.0,
            device: device_bytes(seal.device),
            controller_epoch: seal.epoch.controller.0,
            attempt: seal.epoch.attempt,
        }
    }
}

impl TryFrom<proto::SealRequest> for SealJournal {
    type Error = Error;

    fn try_from(seal: proto::SealRequest) -> Result<Self> {
        Ok(Self {
            journal: JournalId(seal.journal),
            device: device(&seal.device)?,
            epoch: SealingEpoch {
                controller: ControllerEpoch(seal.controller_epoch),
                attempt: seal.attempt,
            },
        })
    }
}

impl From<SealedJournal> for proto::SealAnswer {
    fn from(sealed: SealedJournal) -> Self {
        Self {
            end: sealed.end.0,
            commit: sealed.commit.0,
        }
    }
}

impl From<proto::SealAnswer> for SealedJournal {
    fn from(sealed: proto::SealAnswer) -> Self {
        Self {
            end: Lsn(sealed.end),
            commit: Lsn(sealed.commit),
        }
    }
}

impl From<TrimJournal> for proto::TrimRequest {
    fn from(trim: TrimJournal) -> Self {
        Self {
            journal: trim.journal.0,
            device: device_bytes(trim.device),
            to: trim.to.0,
            gone: trim.gone,
            version: trim.version.0,
        }
    }
}

impl TryFrom<proto::TrimRequest> for TrimJournal {
    type Error = Error;

    fn try_from(trim: proto::TrimRequest) -> Result<Self> {
        Ok(Self {
            journal: JournalId(trim.journal),
            device: device(&trim.device)?,
            to: Lsn(trim.to),
            version: MetadataVersion(trim.version),
            gone: trim.gone,
        })
    }
}

impl From<WalStatus> for proto::StatusAnswer {
    fn from(status: WalStatus) -> Self {
        let journal = |journal: JournalStatus| proto::JournalStatus {
            journal: journal.journal.0,
            trim: journal.trim.0,
            commit: journal.commit.0,
            durable: journal.durable.0,
            sealed: journal.sealed,
            bytes: journal.bytes,
            oldest_age_ms: journal
                .oldest_age
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        };
        Self {
            device: device_bytes(status.device),
            capacity_bytes: status.capacity_bytes,
            used_bytes: status.used_bytes,
            journals: status.journals.into_iter().map(journal).collect(),
        }
    }
}

impl TryFrom<proto::StatusAnswer> for WalStatus {
    type Error = Error;

    fn try_from(status: proto::StatusAnswer) -> Result<Self> {
        let journal = |journal: proto::JournalStatus| JournalStatus {
            journal: JournalId(journal.journal),
            trim: Lsn(journal.trim),
            commit: Lsn(journal.commit),
            durable: Lsn(journal.durable),
            sealed: journal.sealed,
            bytes: journal.bytes,
            oldest_age: journal.oldest_age_ms.map(Duration::from_millis),
        };
        Ok(Self {
            device: device(&status.device)?,
            capacity_bytes: status.capacity_bytes,
            used_bytes: status.used_bytes,
            journals: status.journals.into_iter().map(journal).collect(),
        })
    }
}
