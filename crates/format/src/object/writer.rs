//! Builds an object as a chain of bytes: record bytes are shared, never copied, and not summed twice.

use bytes::{BufMut, Bytes, BytesMut};
use tailwater_types::{Offset, OffsetRange, StreamId};

use super::BLOCK_TARGET_BYTES;
use super::block::{BLOCK_HEADER_BYTES, BlockHeader, Compression};
use super::index::{Index, IndexRow, encode_footer};
use crate::crc;

const SNAPSHOTS_MAGIC: u32 = u32::from_be_bytes(*b"TWSB");
const SNAPSHOTS_VERSION: u8 = 1;
/// The snapshot block: magic, u8 version, u8 0, u16 0, u32 count; then each snapshot behind its own head.
const SNAPSHOTS_FIXED_BYTES: usize = 12;
/// A snapshot's head: u64 stream, i64 offset, u32 length, u32 CRC32C of it.
const SNAPSHOT_HEAD_BYTES: usize = 24;

/// Whole batches of one stream, with what is known about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsPiece {
    pub stream: StreamId,
    pub range: OffsetRange,
    /// Milliseconds since the Unix epoch; -1 where no record has one.
    pub max_timestamp_ms: i64,
    pub batches: u32,
    pub bytes: Bytes,
    /// CRC32C of `bytes`.
    pub crc: u32,
}

/// Where a snapshot lies in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPlace {
    pub stream: StreamId,
    pub position: u64,
    pub length: u32,
    /// CRC32C of those bytes.
    pub crc: u32,
}

/// A whole object, ready to be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedObject {
    pub chunks: Vec<Bytes>,
    pub size_bytes: u64,
    /// In the order in which they were pushed.
    pub snapshots: Vec<SnapshotPlace>,
}

/// Takes pieces sorted by (stream, base offset), then snapshots, and lays them out.
#[derive(Debug, Default)]
pub struct ObjectWriter {
    chunks: Vec<Bytes>,
    position: u64,
    rows: Vec<IndexRow>,
    block: Option<OpenBlock>,
    snapshots: BytesMut,
    places: Vec<SnapshotPlace>,
}

#[derive(Debug)]
struct OpenBlock {
    header: BlockHeader,
    body: Vec<Bytes>,
}

impl ObjectWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds batches to the open block, or to a new one where the stream changes or the block is full.
    ///
    /// # Panics
    /// If the piece is empty or 4 GiB long, or isn't behind the one before it in (stream, offset) order: whoever plans an
    /// object sorts and bounds it.
    pub fn push(&mut self, piece: RecordsPiece) {
        assert!(!piece.range.is_empty() && !piece.bytes.is_empty(), "an empty piece");
        let bytes = u32::try_from(piece.bytes.len()).expect("pieces are cut far below 4 GiB");
        let fits = self.block.as_ref().is_some_and(|block| {
            block.header.stream == piece.stream
                && block.header.body_bytes as usize + piece.bytes.len() <= BLOCK_TARGET_BYTES
        });
        if !fits {
            self.close_block();
        }
        let Some(block) = &mut self.block else {
            self.block = Some(OpenBlock {
                header: BlockHeader {
                    stream: piece.stream,
                    range: piece.range,
                    max_timestamp_ms: piece.max_timestamp_ms,
                    compression: Compression::None,
                    body_bytes: bytes,
                    uncompressed_bytes: bytes,
                    batches: piece.batches,
                    body_crc: piece.crc,
                },
                body: vec![piece.bytes],
            });
            return;
        };
        let header = &mut block.header;
        assert!(header.range.end <= piece.range.start, "pieces in offset order");
        header.range.end = piece.range.end;
        header.max_timestamp_ms = header.max_timestamp_ms.max(piece.max_timestamp_ms);
        header.body_bytes += bytes;
        header.uncompressed_bytes += bytes;
        header.batches += piece.batches;
        header.body_crc = crc::append(header.body_crc, &piece.bytes, piece.crc);
        block.body.push(piece.bytes);
    }

    /// Adds a snapshot of a stream, exact at `offset`, to the snapshot block. Its bytes are copied.
    ///
    /// # Panics
    /// If all snapshots together exceed 4 GiB.
    pub fn push_snapshot(&mut self, stream: StreamId, offset: Offset, snapshot: &[u8]) {
        if self.snapshots.is_empty() {
            self.snapshots.put_u32(SNAPSHOTS_MAGIC);
            self.snapshots.put_u8(SNAPSHOTS_VERSION);
            self.snapshots.put_bytes(0, SNAPSHOTS_FIXED_BYTES - 5);
        }
        let crc = crc32c::crc32c(snapshot);
        let length = u32::try_from(snapshot.len()).expect("snapshots are far below 4 GiB");
        self.snapshots.reserve(SNAPSHOT_HEAD_BYTES + snapshot.len());
        self.snapshots.put_u64(stream.0);
        self.snapshots.put_i64(offset.0);
        self.snapshots.put_u32(length);
        self.snapshots.put_u32(crc);
        // Relative to the block until it is known where that begins.
        let position = self.snapshots.len() as u64;
        self.snapshots.put_slice(snapshot);
        self.places.push(SnapshotPlace {
            stream,
            position,
            length,
            crc,
        });
    }

    /// Closes the last block and writes snapshots, index and footer.
    pub fn finish(mut self) -> EncodedObject {
        self.close_block();
        let snapshots = self.close_snapshots();
        let index_at = self.position;
        let index = Index::encode(&self.rows);
        let index_bytes = u32::try_from(index.len()).expect("indexes are far below 4 GiB");
        self.append(index);
        self.append(encode_footer(index_at, index_bytes, snapshots));
        EncodedObject {
            chunks: self.chunks,
            size_bytes: self.position,
            snapshots: self.places,
        }
    }

    fn close_block(&mut self) {
        let Some(OpenBlock { header, body }) = self.block.take() else {
            return;
        };
        if let Some(last) = self.rows.last() {
            let behind =
                last.stream < header.stream || (last.stream == header.stream && last.range.end <= header.range.start);
            assert!(behind, "blocks in (stream, offset) order");
        }
        self.rows.push(IndexRow {
            stream: header.stream,
            range: header.range,
            max_timestamp_ms: header.max_timestamp_ms,
            position: self.position,
            size_bytes: header
                .body_bytes
                .checked_add(BLOCK_HEADER_BYTES as u32)
                .expect("blocks are far below 4 GiB"),
        });
        self.append(header.encode());
        for bytes in body {
            self.append(bytes);
        }
    }

    fn close_snapshots(&mut self) -> Option<(u64, u32)> {
        if self.snapshots.is_empty() {
            return None;
        }
        let (position, count) = (self.position, self.places.len() as u32);
        self.snapshots[8..SNAPSHOTS_FIXED_BYTES].copy_from_slice(&count.to_be_bytes());
        for place in &mut self.places {
            place.position += position;
        }
        let block = self.snapshots.split().freeze();
        let size = u32::try_from(block.len()).expect("snapshots are far below 4 GiB");
        self.append(block);
        Some((position, size))
    }

    fn append(&mut self, bytes: Bytes) {
        self.position += bytes.len() as u64;
        self.chunks.push(bytes);
    }
}

#[cfg(test)]
mod tests;
