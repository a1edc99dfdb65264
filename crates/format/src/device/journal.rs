//! The journal record: everything about a journal but its entries. The last one in the log holds.
//!
//! Written when a journal is opened, sealed, trimmed or gone, and again before the ring's trim position passes the last
//! one, so that openings and seals survive until the journal is gone.
//!
//! ```text
//! 0   u8   version (1)
//! 1   u8   flags: bit 0 opened, bit 1 sealed, bit 2 gone
//! 2   u8   ack quorum
//! 3   u8   0
//! 4   u32  node that opened it
//! 8   u64  journal
//! 16  u64  node epoch
//! 24  u64  trim LSN
//! 32  u64  metadata version of the trim
//! 40  u64  commit LSN known
//! 48  u64  next LSN: the entries in front of this record end here; of a sealed journal, its end on this device
//! 56  u64  sealing epoch: controller's term
//! 64  u64  sealing epoch: attempt
//! 72  u32  devices in the ensemble
//! 76  u32  streams with a minimum leader epoch
//! 80  devices, 16 B each; then the streams: u64 stream, i32 leader epoch
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tailwater_types::{
    ControllerEpoch, DeviceId, JournalId, LeaderEpoch, Lsn, MetadataVersion, NodeEpoch, NodeId, SealingEpoch, StreamId,
};

use crate::FormatError;

const VERSION: u8 = 1;
const OPENED_BIT: u8 = 1;
const SEALED_BIT: u8 = 2;
const GONE_BIT: u8 = 4;
const FIXED_BYTES: usize = 80;
const DEVICE_BYTES: usize = 16;
const STREAM_BYTES: usize = 12;
const WHAT: &str = "journal record";

/// A journal as of one point in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    pub journal: JournalId,
    /// `None` for one that was sealed before it was opened here.
    pub opening: Option<Opening>,
    pub trim: Lsn,
    pub trim_version: MetadataVersion,
    pub commit: Lsn,
    pub next: Lsn,
    /// The highest sealing epoch; with it the journal ends at `next`.
    pub seal: Option<SealingEpoch>,
    pub gone: bool,
}

/// What every member of the ensemble was told when the journal was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub node: NodeId,
    pub node_epoch: NodeEpoch,
    pub ensemble: Vec<DeviceId>,
    pub ack_quorum: u8,
    /// Streams that were taken away from the node, with the lowest leader epoch that is still taken of each.
    pub min_leader_epochs: Vec<(StreamId, LeaderEpoch)>,
}

impl JournalRecord {
    pub fn encode(&self) -> Bytes {
        let opening = self.opening.as_ref();
        let ensemble = opening.map_or(&[][..], |opening| &opening.ensemble);
        let streams = opening.map_or(&[][..], |opening| &opening.min_leader_epochs);
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        out.put_u8(VERSION);
        let flag = |set, bit| if set { bit } else { 0 };
        out.put_u8(
            flag(opening.is_some(), OPENED_BIT) | flag(self.seal.is_some(), SEALED_BIT) | flag(self.gone, GONE_BIT),
        );
        out.put_u8(opening.map_or(0, |opening| opening.ack_quorum));
        out.put_u8(0);
        out.put_u32(opening.map_or(0, |opening| opening.node.0));
        out.put_u64(self.journal.0);
        out.put_u64(opening.map_or(0, |opening| opening.node_epoch.0));
        out.put_u64(self.trim.0);
        out.put_u64(self.trim_version.0);
        out.put_u64(self.commit.0);
        out.put_u64(self.next.0);
        let seal = self.seal.unwrap_or_default();
        out.put_u64(seal.controller.0);
        out.put_u64(seal.attempt);
        out.put_u32(ensemble.len() as u32);
        out.put_u32(streams.len() as u32);
        for device in ensemble {
            out.put_slice(&device.to_bytes());
        }
        for (stream, epoch) in streams {
            out.put_u64(stream.0);
            out.put_i32(epoch.0);
        }
        out.freeze()
    }

    pub fn encoded_bytes(&self) -> usize {
        let lists =
            |opening: &Opening| opening.ensemble.len() * DEVICE_BYTES + opening.min_leader_epochs.len() * STREAM_BYTES;
        FIXED_BYTES + self.opening.as_ref().map_or(0, lists)
    }

    /// Reads a whole record. Its sum is the write's.
    ///
    /// # Errors
    /// Whatever makes it no record, bytes behind its end included.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, FormatError> {
        let have = bytes.len();
        let truncated = |need| FormatError::Truncated { what: WHAT, need, have };
        if have < FIXED_BYTES {
            return Err(truncated(FIXED_BYTES));
        }
        let version = bytes.get_u8();
        if version != VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                newest: VERSION,
                found: version,
            });
        }
        let flags = bytes.get_u8();
        let ack_quorum = bytes.get_u8();
        bytes.advance(1);
        let node = NodeId(bytes.get_u32());
        let journal = JournalId(bytes.get_u64());
        let node_epoch = NodeEpoch(bytes.get_u64());
        let trim = Lsn(bytes.get_u64());
        let trim_version = MetadataVersion(bytes.get_u64());
        let commit = Lsn(bytes.get_u64());
        let next = Lsn(bytes.get_u64());
        let seal = SealingEpoch {
            controller: ControllerEpoch(bytes.get_u64()),
            attempt: bytes.get_u64(),
        };
        let devices = bytes.get_u32() as usize;
        let streams = bytes.get_u32() as usize;
        let need = FIXED_BYTES + devices * DEVICE_BYTES + streams * STREAM_BYTES;
        if have < need {
            return Err(truncated(need));
        }
        if have > need {
            let detail = format!("{} bytes behind its end", have - need);
            return Err(FormatError::Invalid { what: WHAT, detail });
        }
        let ensemble = (0..devices)
            .map(|_| DeviceId::from_bytes(bytes.get_u128().to_be_bytes()))
            .collect();
        let min_leader_epochs = (0..streams)
            .map(|_| (StreamId(bytes.get_u64()), LeaderEpoch(bytes.get_i32())))
            .collect();
        let opening = Opening {
            node,
            node_epoch,
            ensemble,
            ack_quorum,
            min_leader_epochs,
        };
        Ok(Self {
            journal,
            opening: (flags & OPENED_BIT != 0).then_some(opening),
            trim,
            trim_version,
            commit,
            next,
            seal: (flags & SEALED_BIT != 0).then_some(seal),
            gone: flags & GONE_BIT != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> JournalRecord {
        JournalRecord {
            journal: JournalId(9),
            opening: Some(Opening {
                node: NodeId(1),
                node_epoch: NodeEpoch(4),
                ensemble: vec![DeviceId::from_bytes([0xd1; 16])],
                ack_quorum: 1,
                min_leader_epochs: vec![(StreamId(5), LeaderEpoch(2))],
            }),
            trim: Lsn(10),
            trim_version: MetadataVersion(77),
            commit: Lsn(12),
            next: Lsn(13),
            seal: Some(SealingEpoch {
                controller: ControllerEpoch(6),
                attempt: 1,
            }),
            gone: false,
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = record().encode();
        assert_eq!(bytes.len(), record().encoded_bytes());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "010301000000000100000000000000090000000000000004000000000000000a000000000000004d000000000000000c\
        000000000000000d000000000000000600000000000000010000000100000001d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1\
        000000000000000500000002";

    /// What was written reads back: opened or not, sealed or not, gone or not.
    #[test]
    fn reads_back() {
        let sealed = record();
        let open = JournalRecord { seal: None, ..record() };
        let gone = JournalRecord {
            opening: None,
            gone: true,
            ..record()
        };
        for record in [sealed, open, gone] {
            assert_eq!(JournalRecord::decode(&record.encode()), Ok(record));
        }
    }

    /// Any cut and anything behind the end is found, and counts are not believed.
    #[test]
    fn other_lengths_are_found() {
        let bytes = record().encode();
        for length in 0..bytes.len() {
            assert!(JournalRecord::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(JournalRecord::decode(&longer).is_err());
        let mut huge = bytes.to_vec();
        huge[72..80].fill(0xff);
        assert!(JournalRecord::decode(&huge).is_err());
    }
}
