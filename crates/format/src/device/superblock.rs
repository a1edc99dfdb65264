//! The superblock: whose device it is, and what of the ring is in use.
//!
//! ```text
//! 0    u32  magic "TWDS"
//! 4    u8   version (2)
//! 5    u8   flags: bit 0 clean
//! 6    u16  0
//! 8    u64  sequence
//! 16   16 B device id
//! 32   16 B cluster id, zeros before the first registration
//! 48   u32  node
//! 52   u32  0
//! 56   u64  device epoch, 0 before the first registration
//! 64   u64  capacity of the device in bytes, superblocks included
//! 72   u64  trim position
//! 80   u64  flushed position
//! 88   u64  window
//! 96   u64  gone end: every journal below that isn't in the log is gone
//! 104  u32  CRC32C of bytes 0..104
//! ```
//!
//! Version 1 has no gone end: its sum stands at 96, over what is in front of it.

use bytes::{Buf, BufMut};
use tailwater_types::{ClusterId, DeviceEpoch, DeviceId, JournalId, NodeId};

use super::SUPERBLOCK_BYTES;
use crate::FormatError;

const MAGIC: u32 = u32::from_be_bytes(*b"TWDS");
const VERSION: u8 = 2;
const OLDEST_VERSION: u8 = 1;
const CLEAN_BIT: u8 = 1;
const CRC_AT: usize = 104;
const OLDEST_CRC_AT: usize = 96;
const CONTENT_BYTES: usize = CRC_AT + 4;
const WHAT: &str = "superblock";

/// One state of the device. Of two slots the higher `sequence` with a good sum holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// One more with each write; the slot is `sequence % 2`.
    pub sequence: u64,
    pub device: DeviceId,
    /// `None` until the device was first registered.
    pub cluster: Option<ClusterId>,
    pub node: NodeId,
    pub epoch: DeviceEpoch,
    pub capacity_bytes: u64,
    /// Nothing below is needed any more. The head stays within one ring's length of it.
    pub trim: u64,
    /// Everything below was durable when this was written.
    pub flushed: u64,
    /// The most bytes that were in flight, written and not flushed, at any time since the last recovery.
    pub window_bytes: u64,
    /// The writer ended in order: the log ends at `flushed`.
    pub clean: bool,
    /// Of the journals below, those that the log doesn't have are gone, and are never opened again. What the log says of
    /// more recent ones counts too.
    pub gone_end: JournalId,
}

impl Superblock {
    /// The slot's content.
    pub fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut slot = [0; SUPERBLOCK_BYTES];
        let mut out = &mut slot[..CRC_AT];
        out.put_u32(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(if self.clean { CLEAN_BIT } else { 0 });
        out.put_u16(0);
        out.put_u64(self.sequence);
        out.put_slice(&self.device.to_bytes());
        out.put_slice(&self.cluster.map_or([0; 16], ClusterId::to_bytes));
        out.put_u32(self.node.0);
        out.put_u32(0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.capacity_bytes);
        out.put_u64(self.trim);
        out.put_u64(self.flushed);
        out.put_u64(self.window_bytes);
        out.put_u64(self.gone_end.0);
        let crc = crc32c::crc32c(&slot[..CRC_AT]);
        slot[CRC_AT..CONTENT_BYTES].copy_from_slice(&crc.to_be_bytes());
        slot
    }

    /// Reads a slot.
    ///
    /// # Errors
    /// [`FormatError::Magic`] for what never was a superblock, [`FormatError::Version`] for a newer software's,
    /// [`FormatError::Checksum`] for a damaged one.
    pub fn decode(slot: &[u8]) -> Result<Self, FormatError> {
        if slot.len() < CONTENT_BYTES {
            let (need, have) = (CONTENT_BYTES, slot.len());
            return Err(FormatError::Truncated { what: WHAT, need, have });
        }
        let mut from = slot;
        let found = from.get_u32();
        if found != MAGIC {
            return Err(FormatError::Magic {
                what: WHAT,
                expected: MAGIC,
                found,
            });
        }
        let version = from.get_u8();
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(FormatError::Version {
                what: WHAT,
                newest: VERSION,
                found: version,
            });
        }
        let crc_at = if version == OLDEST_VERSION {
            OLDEST_CRC_AT
        } else {
            CRC_AT
        };
        let computed = crc32c::crc32c(&slot[..crc_at]);
        let stored = (&slot[crc_at..]).get_u32();
        if computed != stored {
            return Err(FormatError::Checksum {
                what: WHAT,
                stored,
                computed,
            });
        }
        let clean = from.get_u8() & CLEAN_BIT != 0;
        from.advance(2);
        let sequence = from.get_u64();
        let device = DeviceId::from_bytes(from.get_u128().to_be_bytes());
        let cluster = from.get_u128();
        let node = NodeId(from.get_u32());
        from.advance(4);
        Ok(Self {
            sequence,
            device,
            cluster: (cluster != 0).then(|| ClusterId::from_bytes(cluster.to_be_bytes())),
            node,
            epoch: DeviceEpoch(from.get_u64()),
            capacity_bytes: from.get_u64(),
            trim: from.get_u64(),
            flushed: from.get_u64(),
            window_bytes: from.get_u64(),
            clean,
            gone_end: JournalId(if version == OLDEST_VERSION { 0 } else { from.get_u64() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        Superblock {
            sequence: 7,
            device: DeviceId::from_bytes([0xd1; 16]),
            cluster: Some(ClusterId::from_bytes([0xc2; 16])),
            node: NodeId(101),
            epoch: DeviceEpoch(3),
            capacity_bytes: 1 << 31,
            trim: 0x5000,
            flushed: 0x9000,
            window_bytes: 1 << 24,
            clean: true,
            gone_end: JournalId(0x1234),
        }
    }

    #[test]
    fn golden_bytes() {
        let slot = superblock().encode();
        let hex: String = slot[..CONTENT_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
        assert!(slot[CONTENT_BYTES..].iter().all(|&byte| byte == 0));
    }

    const GOLDEN: &str = "54574453020100000000000000000007d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2\
        000000650000000000000000000000030000000080000000000000000000500000000000000090000000000001000000\
        00000000000012349f5466ce";

    const GOLDEN_1: &str = "54574453010100000000000000000007d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2\
        000000650000000000000000000000030000000080000000000000000000500000000000000090000000000001000000\
        3b95abcd";

    /// A device of the version before is read: nothing is known to be gone there.
    #[test]
    fn version_1_is_read() {
        let mut slot = [0; SUPERBLOCK_BYTES];
        for (byte, hex) in slot.iter_mut().zip(GOLDEN_1.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
        }
        let expected = Superblock {
            gone_end: JournalId(0),
            ..superblock()
        };
        assert_eq!(Superblock::decode(&slot), Ok(expected));
        slot[80] ^= 1;
        assert!(Superblock::decode(&slot).is_err());
    }

    /// What was written reads back, a device that was never registered too.
    #[test]
    fn reads_back() {
        let mut superblock = superblock();
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock.clone()));
        (superblock.cluster, superblock.clean) = (None, false);
        assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }

    /// A change of any byte of the content, and any cut, is found.
    #[test]
    fn damage_is_found() {
        let slot = superblock().encode();
        for at in 0..CONTENT_BYTES {
            let mut damaged = slot;
            damaged[at] ^= 0x10;
            assert!(Superblock::decode(&damaged).is_err(), "byte {at}");
            assert!(Superblock::decode(&slot[..at]).is_err(), "{at} bytes");
        }
    }
}
