//! An object's end: the index, and the footer that finds it.
//!
//! ```text
//! index:   u32 magic "TWIX", u8 version (1), u8 0, u16 0, u32 row count, u32 CRC32C of the 12 bytes before and the rows;
//!          then 44 bytes a data block, sorted by (stream, base offset):
//!          u64 stream, i64 base offset, i64 end offset, i64 max timestamp (ms), u64 position, u32 size with its header
//! footer:  u32 magic "TWOB", u8 version (1), u8 0, u16 0, u64 index position, u32 index size, u32 snapshot block's size
//!          (0 = none), u64 snapshot block's position, u32 0, u32 CRC32C of the 36 bytes before
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tailwater_types::{Offset, OffsetRange, StreamId};

use super::block::BLOCK_HEADER_BYTES;
use crate::FormatError;

const INDEX_MAGIC: u32 = u32::from_be_bytes(*b"TWIX");
const FOOTER_MAGIC: u32 = u32::from_be_bytes(*b"TWOB");
const VERSION: u8 = 1;
const INDEX_FIXED_BYTES: usize = 16;
const ROW_BYTES: usize = 44;
const INDEX: &str = "object index";
const FOOTER: &str = "object footer";

/// Bytes of the footer, an object's last.
pub const FOOTER_BYTES: usize = 40;

/// One data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRow {
    pub stream: StreamId,
    pub range: OffsetRange,
    pub max_timestamp_ms: i64,
    /// Where the block's header begins in the object.
    pub position: u64,
    /// Bytes of header and body.
    pub size_bytes: u32,
}

/// All data blocks of one object, sorted by (stream, base offset), ranges of a stream never overlapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    rows: Vec<IndexRow>,
}

impl Index {
    pub fn rows(&self) -> &[IndexRow] {
        &self.rows
    }

    /// The stream's blocks, in offset order.
    pub fn stream(&self, stream: StreamId) -> &[IndexRow] {
        let start = self.rows.partition_point(|row| row.stream < stream);
        let end = self.rows.partition_point(|row| row.stream <= stream);
        &self.rows[start..end]
    }

    /// The stream's blocks from the first that ends behind `offset`.
    pub fn from(&self, stream: StreamId, offset: Offset) -> &[IndexRow] {
        let rows = self.stream(stream);
        &rows[rows.partition_point(|row| row.range.end <= offset)..]
    }

    /// What it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<IndexRow>()
    }

    /// `rows` are sorted.
    pub(super) fn encode(rows: &[IndexRow]) -> Bytes {
        let mut out = BytesMut::with_capacity(INDEX_FIXED_BYTES + rows.len() * ROW_BYTES);
        out.put_u32(INDEX_MAGIC);
        out.put_u8(VERSION);
        out.put_bytes(0, 3);
        out.put_u32(u32::try_from(rows.len()).expect("objects have far less than 2^32 blocks"));
        out.put_u32(0);
        for row in rows {
            out.put_u64(row.stream.0);
            out.put_i64(row.range.start.0);
            out.put_i64(row.range.end.0);
            out.put_i64(row.max_timestamp_ms);
            out.put_u64(row.position);
            out.put_u32(row.size_bytes);
        }
        let crc = index_crc(&out);
        out[12..INDEX_FIXED_BYTES].copy_from_slice(&crc.to_be_bytes());
        out.freeze()
    }

    /// Reads the index that lies at `position` of its object.
    fn decode(bytes: &[u8], position: u64) -> Result<Self, FormatError> {
        require(INDEX, bytes, INDEX_FIXED_BYTES)?;
        let mut fixed = &bytes[..INDEX_FIXED_BYTES];
        check_magic(INDEX, &mut fixed, INDEX_MAGIC)?;
        let count = fixed.get_u32() as usize;
        let stored = fixed.get_u32();
        let end = count
            .checked_mul(ROW_BYTES)
            .and_then(|rows| rows.checked_add(INDEX_FIXED_BYTES))
            .ok_or_else(|| invalid(INDEX, format!("{count} rows")))?;
        require(INDEX, bytes, end)?;
        if bytes.len() != end {
            return Err(invalid(INDEX, format!("{} bytes for {count} rows", bytes.len())));
        }
        let computed = index_crc(bytes);
        if computed != stored {
            return Err(FormatError::Checksum {
                what: INDEX,
                stored,
                computed,
            });
        }
        let mut rows: Vec<IndexRow> = Vec::with_capacity(count);
        let mut table = &bytes[INDEX_FIXED_BYTES..];
        for _ in 0..count {
            let row = IndexRow {
                stream: StreamId(table.get_u64()),
                range: OffsetRange {
                    start: Offset(table.get_i64()),
                    end: Offset(table.get_i64()),
                },
                max_timestamp_ms: table.get_i64(),
                position: table.get_u64(),
                size_bytes: table.get_u32(),
            };
            check_row(&row, rows.last(), position)?;
            rows.push(row);
        }
        Ok(Self { rows })
    }
}

/// What the last bytes of an object told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    Index(Index),
    /// They were too few: read again, this many.
    NeedsBytes(u64),
}

/// How many of an object's last bytes to read first: they hold the index of all but the most scattered objects.
pub fn tail_bytes(object_bytes: u64) -> u64 {
    // 64 KiB are 1,400 blocks, a stream each; large objects get room for blocks of a tenth of the target.
    (64 * 1024 + object_bytes / 1024).min(object_bytes)
}

/// Reads the index out of the last bytes of an object of `object_bytes`.
///
/// # Errors
/// Whatever makes the bytes no object's end.
pub fn decode_tail(tail: &[u8], object_bytes: u64) -> Result<Tail, FormatError> {
    require(FOOTER, tail, FOOTER_BYTES)?;
    let footer = &tail[tail.len() - FOOTER_BYTES..];
    let mut fields = footer;
    check_magic(FOOTER, &mut fields, FOOTER_MAGIC)?;
    let position = fields.get_u64();
    let size = u64::from(fields.get_u32());
    let stored = (&footer[FOOTER_BYTES - 4..]).get_u32();
    let computed = crc32c::crc32c(&footer[..FOOTER_BYTES - 4]);
    if computed != stored {
        return Err(FormatError::Checksum {
            what: FOOTER,
            stored,
            computed,
        });
    }
    let footer_bytes = FOOTER_BYTES as u64;
    if position.checked_add(size).and_then(|end| end.checked_add(footer_bytes)) != Some(object_bytes) {
        let detail = format!("index of {size} bytes at {position} in an object of {object_bytes}");
        return Err(invalid(FOOTER, detail));
    }
    let need = size + footer_bytes;
    if (tail.len() as u64) < need {
        return Ok(Tail::NeedsBytes(need));
    }
    let start = tail.len() - need as usize;
    let index = Index::decode(&tail[start..tail.len() - FOOTER_BYTES], position)?;
    Ok(Tail::Index(index))
}

/// `snapshots` are the snapshot block's position and size.
pub(super) fn encode_footer(index: u64, index_bytes: u32, snapshots: Option<(u64, u32)>) -> Bytes {
    let mut out = BytesMut::with_capacity(FOOTER_BYTES);
    let (position, size) = snapshots.unwrap_or((0, 0));
    out.put_u32(FOOTER_MAGIC);
    out.put_u8(VERSION);
    out.put_bytes(0, 3);
    out.put_u64(index);
    out.put_u32(index_bytes);
    out.put_u32(size);
    out.put_u64(position);
    out.put_u32(0);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out.freeze()
}

fn check_row(row: &IndexRow, previous: Option<&IndexRow>, index_at: u64) -> Result<(), FormatError> {
    let range = row.range;
    let sorted = previous
        .is_none_or(|last| last.stream < row.stream || (last.stream == row.stream && last.range.end <= range.start));
    let end = row.position.checked_add(u64::from(row.size_bytes));
    let inside = end.is_some_and(|end| end <= index_at) && row.size_bytes as usize > BLOCK_HEADER_BYTES;
    if sorted && inside && 0 <= range.start.0 && range.start < range.end {
        return Ok(());
    }
    let detail = format!(
        "row of stream {} {range}, {} bytes at {}",
        row.stream, row.size_bytes, row.position
    );
    Err(invalid(INDEX, detail))
}

fn check_magic(what: &'static str, bytes: &mut &[u8], expected: u32) -> Result<(), FormatError> {
    let found = bytes.get_u32();
    if found != expected {
        return Err(FormatError::Magic { what, expected, found });
    }
    let found = bytes.get_u8();
    if found != VERSION {
        return Err(FormatError::Version {
            what,
            newest: VERSION,
            found,
        });
    }
    bytes.advance(3);
    Ok(())
}

fn index_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[INDEX_FIXED_BYTES..])
}

fn require(what: &'static str, bytes: &[u8], need: usize) -> Result<(), FormatError> {
    if bytes.len() < need {
        return Err(FormatError::Truncated {
            what,
            need,
            have: bytes.len(),
        });
    }
    Ok(())
}

fn invalid(what: &'static str, detail: String) -> FormatError {
    FormatError::Invalid { what, detail }
}
