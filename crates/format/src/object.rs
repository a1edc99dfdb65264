//! An object: data blocks of one stream or many, found through one index at its end.
//!
//! ```text
//! data blocks      a 64-byte header and whole batches each, sorted by (stream, base offset); see `block`
//! snapshot block   snapshots of streams, packed; each is found through the controller (`SnapshotAt`)
//! index            one row a data block; see `index`
//! footer           40 bytes, where the index and the snapshot block lie; see `index`
//! ```
//!
//! A block holds [`BLOCK_TARGET_BYTES`] or so, never a part of a batch: a batch of 128 MiB is a block of its own. The
//! last [`tail_bytes`] of an object hold footer and index of all but the most scattered objects, so one ranged GET finds
//! every block. Every byte is covered by a CRC32C: a block's header and body have one each, the index and the footer
//! their own.

mod block;
mod index;
mod writer;

pub use block::{BLOCK_HEADER_BYTES, BlockHeader, Compression, DataBlock};
pub use index::{FOOTER_BYTES, Index, IndexRow, Tail, decode_tail, tail_bytes};
pub use writer::{EncodedObject, ObjectWriter, RecordsPiece, SnapshotPlace};

/// A block is closed before the piece that would take its body above this.
pub const BLOCK_TARGET_BYTES: usize = 512 * 1024;
