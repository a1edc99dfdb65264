//! One write of the ring: a header, and fragments of records behind it.
//!
//! ```text
//! 0   u32  magic "TWLW"
//! 4   u8   version (1)
//! 5   3 B  0
//! 8   u64  device epoch
//! 16  u64  absolute position of this header
//! 24  u64  flushed position known when this was written
//! 32  16 B device id
//! 48  u32  payload length: the fragments, without the zeros behind them
//! 52  8 B  0
//! 60  u32  CRC32C of bytes 0..60 and of the payload
//! 64  fragments: u8 kind, u8 flags (bit 0 first, bit 1 last of its record), u16 0, u32 length, the bytes
//! ```
//!
//! Device, epoch and position make a write valid in one place of one life of one device: what an earlier lap, life or
//! formatting left there is never mistaken for it.

use bytes::{Buf, BufMut};
use tailwater_types::{DeviceEpoch, DeviceId};

use super::{BLOCK_BYTES, FRAGMENT_HEADER_BYTES, MAX_WRITE_BYTES, WRITE_HEADER_BYTES};
use crate::FormatError;

const MAGIC: u32 = u32::from_be_bytes(*b"TWLW");
const VERSION: u8 = 1;
const CRC_AT: usize = 60;
const FIRST_BIT: u8 = 1;
const LAST_BIT: u8 = 2;
const WHAT: &str = "device write";

/// The head of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteHeader {
    pub device: DeviceId,
    pub epoch: DeviceEpoch,
    pub position: u64,
    pub flushed: u64,
    pub payload_bytes: u32,
}

impl WriteHeader {
    /// Fills in the header of `write`, whose payload stands behind it.
    ///
    /// # Panics
    /// If `write` is shorter than header and payload.
    pub fn encode_over(&self, write: &mut [u8]) {
        let (head, rest) = write.split_at_mut(WRITE_HEADER_BYTES);
        let mut out = &mut head[..];
        out.put_u32(MAGIC);
        out.put_u32(u32::from(VERSION) << 24);
        out.put_u64(self.epoch.0);
        out.put_u64(self.position);
        out.put_u64(self.flushed);
        out.put_slice(&self.device.to_bytes());
        out.put_u32(self.payload_bytes);
        out.put_u64(0);
        let crc = crc(head, &rest[..self.payload_bytes as usize]);
        head[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    }

    /// Reads the header at the start of `bytes` without checking its sum: nothing in it is to be believed yet, but its
    /// length is one that a write can have.
    ///
    /// # Errors
    /// Whatever makes it no header.
    pub fn peek(bytes: &[u8]) -> Result<Self, FormatError> {
        require(bytes, WRITE_HEADER_BYTES)?;
        let mut from = bytes;
        let found = from.get_u32();
        if found != MAGIC {
            return Err(FormatError::Magic {
                what: WHAT,
                expected: MAGIC,
                found,
            });
        }
        let version = from.get_u8();
        if version != VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                newest: VERSION,
                found: version,
            });
        }
        from.advance(3);
        let header = Self {
            epoch: DeviceEpoch(from.get_u64()),
            position: from.get_u64(),
            flushed: from.get_u64(),
            device: DeviceId::from_bytes(from.get_u128().to_be_bytes()),
            payload_bytes: from.get_u32(),
        };
        if header.bytes() > MAX_WRITE_BYTES {
            let detail = format!("{} bytes", header.bytes());
            return Err(FormatError::Invalid { what: WHAT, detail });
        }
        Ok(header)
    }

    /// Reads the header and checks the sum over it and the payload.
    ///
    /// # Errors
    /// Whatever makes `bytes` begin with no whole write.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let header = Self::peek(bytes)?;
        let end = WRITE_HEADER_BYTES + header.payload_bytes as usize;
        require(bytes, end)?;
        let computed = crc(&bytes[..WRITE_HEADER_BYTES], &bytes[WRITE_HEADER_BYTES..end]);
        let stored = (&bytes[CRC_AT..]).get_u32();
        if computed != stored {
            return Err(FormatError::Checksum {
                what: WHAT,
                stored,
                computed,
            });
        }
        Ok(header)
    }

    /// Device bytes that the write takes: a multiple of [`BLOCK_BYTES`].
    pub fn bytes(&self) -> usize {
        (WRITE_HEADER_BYTES + self.payload_bytes as usize).next_multiple_of(BLOCK_BYTES as usize)
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A journal's entry, see [`crate::entry`].
    Entry,
    /// Everything about a journal but its entries, see [`super::JournalRecord`].
    Journal,
}

/// A part of a record within one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub kind: RecordKind,
    pub first: bool,
    pub last: bool,
    pub length: u32,
}

impl Fragment {
    /// The header in front of the fragment's bytes.
    pub fn encode(&self) -> [u8; FRAGMENT_HEADER_BYTES] {
        let mut bytes = [0; FRAGMENT_HEADER_BYTES];
        bytes[0] = match self.kind {
            RecordKind::Entry => 1,
            RecordKind::Journal => 2,
        };
        bytes[1] = if self.first { FIRST_BIT } else { 0 } | if self.last { LAST_BIT } else { 0 };
        bytes[4..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

/// The fragments of a payload, each with where its bytes begin in it. Ends after the first error.
pub fn fragments(payload: &[u8]) -> impl Iterator<Item = Result<(Fragment, usize), FormatError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == payload.len() {
            return None;
        }
        let fragment = decode_fragment(&payload[at..]);
        let start = at + FRAGMENT_HEADER_BYTES;
        at = fragment
            .as_ref()
            .map_or(payload.len(), |fragment| start + fragment.length as usize);
        Some(fragment.map(|fragment| (fragment, start)))
    })
}

fn decode_fragment(bytes: &[u8]) -> Result<Fragment, FormatError> {
    require(bytes, FRAGMENT_HEADER_BYTES)?;
    let kind = match bytes[0] {
        1 => RecordKind::Entry,
        2 => RecordKind::Journal,
        other => {
            let detail = format!("record kind {other}");
            return Err(FormatError::Invalid { what: WHAT, detail });
        }
    };
    let length = (&bytes[4..]).get_u32();
    require(bytes, FRAGMENT_HEADER_BYTES + length as usize)?;
    let (first, last) = (bytes[1] & FIRST_BIT != 0, bytes[1] & LAST_BIT != 0);
    Ok(Fragment {
        kind,
        first,
        last,
        length,
    })
}

fn crc(head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..CRC_AT]), payload)
}

fn require(bytes: &[u8], need: usize) -> Result<(), FormatError> {
    let have = bytes.len();
    if have < need {
        return Err(FormatError::Truncated { what: WHAT, need, have });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write() -> (WriteHeader, Vec<u8>) {
        let mut bytes = vec![0; WRITE_HEADER_BYTES];
        let first = Fragment {
            kind: RecordKind::Entry,
            first: false,
            last: true,
            length: 3,
        };
        let second = Fragment {
            kind: RecordKind::Journal,
            first: true,
            last: true,
            length: 2,
        };
        bytes.extend(first.encode());
        bytes.extend(b"end");
        bytes.extend(second.encode());
        bytes.extend(b"jr");
        let header = WriteHeader {
            device: DeviceId::from_bytes([0xd1; 16]),
            epoch: DeviceEpoch(3),
            position: 0x12_3000,
            flushed: 0x12_0000,
            payload_bytes: (bytes.len() - WRITE_HEADER_BYTES) as u32,
        };
        header.encode_over(&mut bytes);
        (header, bytes)
    }

    #[test]
    fn golden_bytes() {
        let hex: String = write().1.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "54574c5701000000000000000000000300000000001230000000000000120000d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1\
        000000150000000000000000d5f8b9830102000000000003656e6402030000000000026a72";

    /// Header and fragments read back; a write takes whole blocks.
    #[test]
    fn reads_back() {
        let (header, bytes) = write();
        assert_eq!(WriteHeader::decode(&bytes), Ok(header));
        assert_eq!(header.bytes(), 4096);
        let payload = &bytes[WRITE_HEADER_BYTES..];
        let parts: Vec<_> = fragments(payload).map(Result::unwrap).collect();
        assert_eq!((parts[0].0.first, parts[0].0.last, parts[0].1), (false, true, 8));
        assert_eq!(&payload[parts[1].1..], b"jr");
        assert_eq!(parts[1].0.kind, RecordKind::Journal);
    }

    /// A change of any byte, and any cut, is found.
    #[test]
    fn damage_is_found() {
        let (_, bytes) = write();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x04;
            assert!(WriteHeader::decode(&damaged).is_err(), "byte {at}");
            assert!(WriteHeader::decode(&bytes[..at]).is_err(), "{at} bytes");
        }
    }

    proptest! {
        /// No payload makes the iterator leave it, or go on without end.
        #[test]
        fn fragments_stay_inside(payload in proptest::collection::vec(0..4u8, 0..200)) {
            for part in fragments(&payload).flatten() {
                prop_assert!(part.1 + part.0.length as usize <= payload.len());
            }
        }
    }
}
