//! A journal entry: one LSN, slices of one or more streams, the same bytes at every member of the ensemble.
//!
//! ```text
//! 0   u32  magic "TWEN"
//! 4   u8   version (1)
//! 5   u8   0
//! 6   u16  slice count
//! 8   u64  journal
//! 16  u64  LSN
//! 24  u32  body length: the sum of the slices' lengths
//! 28  u32  CRC32C of bytes 0..28 and of the slice table
//! 32  slice table, 48 bytes a slice:
//!       u8 kind, u8 0, u16 0, i32 leader epoch, u64 stream, i64 base offset, i64 end offset,
//!       i64 max timestamp (ms), u32 length, u32 CRC32C of the slice's bytes
//! ..  the slices' bytes, in the table's order
//! ```
//!
//! A slice's checksum is combined from its batches' own (`kafka::batch`), so record bytes are summed once on the
//! whole path. The header's checksum covers the slices' and so identifies the entry: an append of an LSN again
//! is the same append if and only if [`EntryHeader::crc`] is the same.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tailwater_types::{JournalId, LeaderEpoch, Lsn, Offset, StreamId};

use crate::FormatError;

const MAGIC: u32 = u32::from_be_bytes(*b"TWEN");
const VERSION: u8 = 1;
/// Bytes of an encoded entry in front of its slice table.
pub const FIXED_BYTES: usize = 32;
const SLICE_BYTES: usize = 48;
const CRC_AT: usize = 28;
const WHAT: &str = "journal entry";

/// The most slices that one entry can have.
pub const MAX_SLICES: usize = u16::MAX as usize;

/// What a slice's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SliceKind {
    /// Record batches, one behind the other, with offsets `[base, end)`.
    Records,
    /// A snapshot of the stream's state, exact at `base` (which equals `end`: it takes no offset).
    Snapshot,
}

/// One row of the slice table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceHeader {
    pub kind: SliceKind,
    pub stream: StreamId,
    pub leader_epoch: LeaderEpoch,
    pub base: Offset,
    pub end: Offset,
    /// Milliseconds since the Unix epoch; -1 where no record has one.
    pub max_timestamp_ms: i64,
    /// Bytes in the entry's body.
    pub length: u32,
    /// CRC32C of those bytes.
    pub crc: u32,
}

/// A slice with its bytes, to build an entry from or as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub header: SliceHeader,
    pub bytes: Bytes,
}

/// The head of an entry: everything but the slices' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    pub journal: JournalId,
    pub lsn: Lsn,
    pub slices: Vec<SliceHeader>,
    /// Identifies the entry, see the module's text.
    pub crc: u32,
}

impl SliceHeader {
    /// The row of the slice table, as it is stored.
    pub fn encode(&self) -> Bytes {
        let mut row = BytesMut::with_capacity(SLICE_BYTES);
        encode_slice(self, &mut row);
        row.freeze()
    }

    /// Reads a row of the slice table.
    ///
    /// # Errors
    /// Whatever makes the bytes no row.
    pub fn decode(mut row: &[u8]) -> Result<Self, FormatError> {
        if row.len() != SLICE_BYTES {
            let detail = format!("a slice's row of {} bytes", row.len());
            return Err(FormatError::Invalid { what: WHAT, detail });
        }
        decode_slice(&mut row)
    }
}

impl EntryHeader {
    /// The encoded entry's length, from its first [`FIXED_BYTES`]: what a receiver makes room for. Nothing is checked yet.
    ///
    /// # Errors
    /// If there are fewer bytes.
    pub fn announced_bytes(start: &[u8]) -> Result<usize, FormatError> {
        require(start, FIXED_BYTES)?;
        let slices = u16::from_be_bytes([start[6], start[7]]);
        let body = u32::from_be_bytes([start[24], start[25], start[26], start[27]]);
        Ok(encoded_bytes(usize::from(slices), body as usize))
    }

    /// Bytes of the encoded header with its slice table: where the body begins.
    pub fn header_bytes(&self) -> usize {
        FIXED_BYTES + self.slices.len() * SLICE_BYTES
    }

    /// Bytes of the slices together.
    pub fn body_bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.length as usize).sum()
    }

    /// Reads the header at the start of `bytes`, which may end anywhere behind it, and checks its sum.
    ///
    /// # Errors
    /// Whatever makes the bytes no entry header.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        require(bytes, FIXED_BYTES)?;
        let mut fixed = &bytes[..FIXED_BYTES];
        let magic = fixed.get_u32();
        if magic != MAGIC {
            return Err(FormatError::Magic {
                what: WHAT,
                expected: MAGIC,
                found: magic,
            });
        }
        let version = fixed.get_u8();
        if version != VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                newest: VERSION,
                found: version,
            });
        }
        fixed.advance(1);
        let count = usize::from(fixed.get_u16());
        let journal = JournalId(fixed.get_u64());
        let lsn = Lsn(fixed.get_u64());
        let body_bytes = fixed.get_u32() as usize;
        let stored = fixed.get_u32();
        let end = FIXED_BYTES + count * SLICE_BYTES;
        require(bytes, end)?;
        let computed = header_crc(&bytes[..CRC_AT], &bytes[FIXED_BYTES..end]);
        if computed != stored {
            return Err(FormatError::Checksum {
                what: WHAT,
                stored,
                computed,
            });
        }
        let mut table = &bytes[FIXED_BYTES..end];
        let slices = (0..count)
            .map(|_| decode_slice(&mut table))
            .collect::<Result<Vec<_>, _>>()?;
        let header = Self {
            journal,
            lsn,
            slices,
            crc: stored,
        };
        if header.body_bytes() != body_bytes {
            let detail = format!("slices of {} bytes in a body of {body_bytes}", header.body_bytes());
            return Err(FormatError::Invalid { what: WHAT, detail });
        }
        Ok(header)
    }
}

/// An entry, encoded: its header and the chain of byte runs that go out as they are.
#[derive(Clone, Debug)]
pub struct Entry {
    header: EntryHeader,
    /// The encoded header, then each slice's bytes.
    chunks: Vec<Bytes>,
    encoded_bytes: usize,
}

impl Entry {
    /// Encodes an entry; the slices' bytes are shared, not copied.
    ///
    /// # Panics
    /// If there are more than [`MAX_SLICES`] slices, a slice's length isn't its bytes', or the body exceeds 4 GiB:
    /// whoever cuts entries bounds them far below.
    pub fn encode(journal: JournalId, lsn: Lsn, slices: Vec<Slice>) -> Self {
        assert!(slices.len() <= MAX_SLICES, "an entry of {} slices", slices.len());
        let body: usize = slices.iter().map(|slice| slice.bytes.len()).sum();
        let mut head = BytesMut::with_capacity(FIXED_BYTES + slices.len() * SLICE_BYTES);
        head.put_u32(MAGIC);
        head.put_u8(VERSION);
        head.put_u8(0);
        head.put_u16(slices.len() as u16);
        head.put_u64(journal.0);
        head.put_u64(lsn.0);
        head.put_u32(u32::try_from(body).expect("entries are cut far below 4 GiB"));
        head.put_u32(0);
        for slice in &slices {
            assert_eq!(
                slice.header.length as usize,
                slice.bytes.len(),
                "a slice's length is its bytes'"
            );
            encode_slice(&slice.header, &mut head);
        }
        let crc = header_crc(&head[..CRC_AT], &head[FIXED_BYTES..]);
        head[CRC_AT..FIXED_BYTES].copy_from_slice(&crc.to_be_bytes());
        let encoded_bytes = head.len() + body;
        let mut headers = Vec::with_capacity(slices.len());
        let mut chunks = Vec::with_capacity(slices.len() + 1);
        chunks.push(head.freeze());
        for slice in slices {
            headers.push(slice.header);
            chunks.push(slice.bytes);
        }
        Self {
            header: EntryHeader {
                journal,
                lsn,
                slices: headers,
                crc,
            },
            chunks,
            encoded_bytes,
        }
    }

    /// Reads a whole entry and checks every sum; the slices share `bytes`.
    ///
    /// # Errors
    /// Whatever makes the bytes no entry, bytes behind its end included.
    pub fn decode(bytes: &Bytes) -> Result<Self, FormatError> {
        let header = EntryHeader::decode(bytes)?;
        let mut at = header.header_bytes();
        let encoded_bytes = at + header.body_bytes();
        require(bytes, encoded_bytes)?;
        if bytes.len() != encoded_bytes {
            let detail = format!("{} bytes behind its end", bytes.len() - encoded_bytes);
            return Err(FormatError::Invalid { what: WHAT, detail });
        }
        let mut chunks = Vec::with_capacity(header.slices.len() + 1);
        chunks.push(bytes.slice(..at));
        for slice in &header.slices {
            let body = bytes.slice(at..at + slice.length as usize);
            let computed = crc32c::crc32c(&body);
            if computed != slice.crc {
                return Err(FormatError::Checksum {
                    what: "journal entry's slice",
                    stored: slice.crc,
                    computed,
                });
            }
            at += body.len();
            chunks.push(body);
        }
        Ok(Self {
            header,
            chunks,
            encoded_bytes,
        })
    }

    pub fn header(&self) -> &EntryHeader {
        &self.header
    }

    pub fn lsn(&self) -> Lsn {
        self.header.lsn
    }

    /// The encoded entry as a chain: the header first, then each slice's bytes.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    pub fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
    }

    /// The slices with their bytes, shared.
    pub fn slices(&self) -> impl Iterator<Item = (&SliceHeader, &Bytes)> {
        self.header.slices.iter().zip(&self.chunks[1..])
    }
}

/// Bytes that an entry of these slices takes when it is encoded.
pub fn encoded_bytes(slices: usize, body_bytes: usize) -> usize {
    FIXED_BYTES + slices * SLICE_BYTES + body_bytes
}

fn header_crc(fixed: &[u8], table: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(fixed), table)
}

fn require(bytes: &[u8], need: usize) -> Result<(), FormatError> {
    if bytes.len() < need {
        return Err(FormatError::Truncated {
            what: WHAT,
            need,
            have: bytes.len(),
        });
    }
    Ok(())
}

fn encode_slice(slice: &SliceHeader, out: &mut BytesMut) {
    out.put_u8(match slice.kind {
        SliceKind::Records => 0,
        SliceKind::Snapshot => 1,
    });
    out.put_bytes(0, 3);
    out.put_i32(slice.leader_epoch.0);
    out.put_u64(slice.stream.0);
    out.put_i64(slice.base.0);
    out.put_i64(slice.end.0);
    out.put_i64(slice.max_timestamp_ms);
    out.put_u32(slice.length);
    out.put_u32(slice.crc);
}

/// `table` has at least [`SLICE_BYTES`] left.
fn decode_slice(table: &mut &[u8]) -> Result<SliceHeader, FormatError> {
    let kind = match table.get_u8() {
        0 => SliceKind::Records,
        1 => SliceKind::Snapshot,
        other => {
            return Err(FormatError::Invalid {
                what: WHAT,
                detail: format!("slice kind {other}"),
            });
        }
    };
    table.advance(3);
    let slice = SliceHeader {
        kind,
        leader_epoch: LeaderEpoch(table.get_i32()),
        stream: StreamId(table.get_u64()),
        base: Offset(table.get_i64()),
        end: Offset(table.get_i64()),
        max_timestamp_ms: table.get_i64(),
        length: table.get_u32(),
        crc: table.get_u32(),
    };
    if slice.base.0 < 0 || slice.end < slice.base {
        let detail = format!("offsets [{}, {}) of stream {}", slice.base, slice.end, slice.stream);
        return Err(FormatError::Invalid { what: WHAT, detail });
    }
    Ok(slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(stream: u64, base: i64, end: i64, bytes: &'static [u8]) -> Slice {
        let header = SliceHeader {
            kind: if base == end {
                SliceKind::Snapshot
            } else {
                SliceKind::Records
            },
            stream: StreamId(stream),
            leader_epoch: LeaderEpoch(3),
            base: Offset(base),
            end: Offset(end),
            max_timestamp_ms: 77,
            length: bytes.len() as u32,
            crc: crc32c::crc32c(bytes),
        };
        Slice {
            header,
            bytes: Bytes::from_static(bytes),
        }
    }

    fn encoded() -> (Entry, Bytes) {
        let entry = Entry::encode(
            JournalId(5),
            Lsn(9),
            vec![slice(1, 10, 12, b"ab"), slice(2, 4, 4, b"snap")],
        );
        let bytes = entry.chunks().concat();
        (entry, Bytes::from(bytes))
    }

    #[test]
    fn golden_bytes() {
        let (entry, bytes) = encoded();
        assert_eq!(bytes.len(), entry.encoded_bytes());
        assert_eq!(bytes.len(), encoded_bytes(2, 6));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "5457454e0100000200000000000000050000000000000009000000065e5123cd00000000000000030000000000000001\
        000000000000000a000000000000000c000000000000004d00000002e2a2293601000000000000030000000000000002\
        00000000000000040000000000000004000000000000004d0000000492c562cc6162736e6170";

    #[test]
    fn reads_back_what_was_written() {
        let (entry, bytes) = encoded();
        let back = Entry::decode(&bytes).expect("own bytes");
        assert_eq!(back.header(), entry.header());
        assert_eq!(back.chunks(), entry.chunks());
    }

    /// A receiver knows from the first bytes how much will come.
    #[test]
    fn the_length_stands_in_front() {
        let (_, bytes) = encoded();
        assert_eq!(EntryHeader::announced_bytes(&bytes[..FIXED_BYTES]), Ok(bytes.len()));
        assert!(EntryHeader::announced_bytes(&bytes[..FIXED_BYTES - 1]).is_err());
    }

    /// A row by itself is the table's row, and reads back.
    #[test]
    fn a_row_reads_back() {
        let (entry, bytes) = encoded();
        let rows = bytes[FIXED_BYTES..].chunks(SLICE_BYTES);
        for (header, stored) in entry.header().slices.iter().zip(rows) {
            assert_eq!(header.encode(), stored);
            assert_eq!(SliceHeader::decode(stored), Ok(*header));
            assert!(SliceHeader::decode(&stored[1..]).is_err());
        }
    }

    #[test]
    fn any_changed_byte_is_found() {
        let (_, bytes) = encoded();
        for at in 0..bytes.len() {
            let mut torn = bytes.to_vec();
            torn[at] ^= 0x40;
            // Bytes 28..32 hold the sum itself, all others are covered by it or by a slice's.
            assert!(Entry::decode(&Bytes::from(torn)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn any_cut_is_found() {
        let (_, bytes) = encoded();
        for length in 0..bytes.len() {
            assert!(Entry::decode(&bytes.slice(..length)).is_err(), "{length} bytes");
        }
    }
}
