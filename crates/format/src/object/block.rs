//! A data block: whole batches of one stream, behind a header.
//!
//! ```text
//! 0   u32  magic "TWDB"
//! 4   u8   version (1)
//! 5   u8   compression (0 = none)
//! 6   u16  0
//! 8   u64  stream
//! 16  i64  base offset
//! 24  i64  end offset
//! 32  i64  max timestamp (ms)
//! 40  u32  body length as stored
//! 44  u32  body length uncompressed
//! 48  u32  batch count
//! 52  u32  CRC32C of the body as stored
//! 56  u32  0
//! 60  u32  CRC32C of bytes 0..60
//! 64  body
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tailwater_types::{Offset, OffsetRange, StreamId};

use super::IndexRow;
use crate::FormatError;

const MAGIC: u32 = u32::from_be_bytes(*b"TWDB");
const VERSION: u8 = 1;
const CRC_AT: usize = 60;
const WHAT: &str = "data block";

/// Bytes before a block's body.
pub const BLOCK_HEADER_BYTES: usize = 64;

/// How a block's body is stored, apart from what its batches do themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    pub stream: StreamId,
    /// The first batch's base offset up to the end of the last batch's.
    pub range: OffsetRange,
    /// Milliseconds since the Unix epoch; -1 where no record has one.
    pub max_timestamp_ms: i64,
    pub compression: Compression,
    pub body_bytes: u32,
    pub uncompressed_bytes: u32,
    pub batches: u32,
    /// CRC32C of the body as stored.
    pub body_crc: u32,
}

impl BlockHeader {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(BLOCK_HEADER_BYTES);
        out.put_u32(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(match self.compression {
            Compression::None => 0,
        });
        out.put_u16(0);
        out.put_u64(self.stream.0);
        out.put_i64(self.range.start.0);
        out.put_i64(self.range.end.0);
        out.put_i64(self.max_timestamp_ms);
        out.put_u32(self.body_bytes);
        out.put_u32(self.uncompressed_bytes);
        out.put_u32(self.batches);
        out.put_u32(self.body_crc);
        out.put_u32(0);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// Reads the header at the start of `bytes` and checks its sum.
    ///
    /// # Errors
    /// Whatever makes the bytes no block header.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() < BLOCK_HEADER_BYTES {
            return Err(FormatError::Truncated {
                what: WHAT,
                need: BLOCK_HEADER_BYTES,
                have: bytes.len(),
            });
        }
        let mut head = &bytes[..BLOCK_HEADER_BYTES];
        let magic = head.get_u32();
        if magic != MAGIC {
            return Err(FormatError::Magic {
                what: WHAT,
                expected: MAGIC,
                found: magic,
            });
        }
        let version = head.get_u8();
        if version != VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                newest: VERSION,
                found: version,
            });
        }
        let computed = crc32c::crc32c(&bytes[..CRC_AT]);
        let stored = (&bytes[CRC_AT..BLOCK_HEADER_BYTES]).get_u32();
        if computed != stored {
            return Err(FormatError::Checksum {
                what: WHAT,
                stored,
                computed,
            });
        }
        let compression = match head.get_u8() {
            0 => Compression::None,
            other => return Err(invalid(format!("compression {other}"))),
        };
        head.advance(2);
        let stream = StreamId(head.get_u64());
        let (start, end) = (Offset(head.get_i64()), Offset(head.get_i64()));
        if start.0 < 0 || end <= start {
            return Err(invalid(format!("offsets [{start}, {end}) of stream {stream}")));
        }
        Ok(Self {
            stream,
            range: OffsetRange { start, end },
            max_timestamp_ms: head.get_i64(),
            compression,
            body_bytes: head.get_u32(),
            uncompressed_bytes: head.get_u32(),
            batches: head.get_u32(),
            body_crc: head.get_u32(),
        })
    }
}

/// A data block as it was read and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataBlock {
    pub header: BlockHeader,
    /// Whole batches, one behind the other; shares the bytes that were decoded.
    pub body: Bytes,
}

impl DataBlock {
    /// Reads one whole block, whose position and size `row` gave, and checks that it is that one and its sums are right.
    ///
    /// # Errors
    /// Whatever makes the bytes not that block, bytes behind its end included.
    pub fn decode(bytes: &Bytes, row: &IndexRow) -> Result<Self, FormatError> {
        let header = BlockHeader::decode(bytes)?;
        let size = BLOCK_HEADER_BYTES + header.body_bytes as usize;
        if bytes.len() < size {
            return Err(FormatError::Truncated {
                what: WHAT,
                need: size,
                have: bytes.len(),
            });
        }
        if header.stream != row.stream || header.range != row.range || bytes.len() > size {
            return Err(invalid(format!(
                "stream {} {} in {size} bytes, where the index has stream {} {} in {}",
                header.stream, header.range, row.stream, row.range, row.size_bytes
            )));
        }
        let body = bytes.slice(BLOCK_HEADER_BYTES..);
        let computed = crc32c::crc32c(&body);
        if computed != header.body_crc {
            return Err(FormatError::Checksum {
                what: "data block's body",
                stored: header.body_crc,
                computed,
            });
        }
        Ok(Self { header, body })
    }
}

fn invalid(detail: String) -> FormatError {
    FormatError::Invalid { what: WHAT, detail }
}
