//! The device log on a [`tailwater_runtime::Device`]: superblocks, the writer, the reader, recovery.
//!
//! Owns: where bytes lie on the device, and the order of writes and flushes. Does not own: what the records mean
//! (`journal`), which may be written and which space may be reused (`core`).

mod reader;
mod recovery;
mod superblocks;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use reader::{LogReader, ReadAhead};
pub(crate) use recovery::{Record, recover};
pub(crate) use superblocks::{Found, Superblocks, format, open_file};
pub(crate) use writer::LogWriter;

use tailwater_format::device::{BLOCK_BYTES, RING_START};

/// Maps absolute positions, which never wrap, to bytes of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    ring_bytes: u64,
}

impl Geometry {
    /// Of a device of `capacity_bytes`, its superblocks included.
    pub(crate) fn of(capacity_bytes: u64) -> Self {
        let ring = capacity_bytes.saturating_sub(RING_START);
        Self {
            ring_bytes: ring - ring % BLOCK_BYTES,
        }
    }

    pub(crate) fn ring_bytes(self) -> u64 {
        self.ring_bytes
    }

    /// The byte of the device that holds `position`.
    pub(crate) fn byte(self, position: u64) -> u64 {
        RING_START + position % self.ring_bytes
    }

    /// Bytes from `position` to the ring's end.
    pub(crate) fn before_wrap(self, position: u64) -> u64 {
        self.ring_bytes - position % self.ring_bytes
    }
}

/// A run of bytes of the log that lies within one write, and so never crosses the ring's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) position: u64,
    pub(crate) length: u32,
}

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The position of the write it begins in: the ring can be trimmed up to there and no further.
    pub(crate) write: u64,
    /// Its bytes, in order.
    pub(crate) extents: Box<[Extent]>,
}

/// The part `[start, start + length)` of the bytes that `extents` hold.
///
/// # Panics
/// If they hold less.
pub(crate) fn part_of(extents: &[Extent], start: usize, length: usize) -> Vec<Extent> {
    let (mut skip, mut left) = (start as u64, length as u64);
    let mut parts = Vec::new();
    for extent in extents {
        let have = u64::from(extent.length);
        if skip >= have {
            skip -= have;
            continue;
        }
        let take = left.min(have - skip);
        if take > 0 {
            let length = u32::try_from(take).expect("no longer than an extent");
            parts.push(Extent {
                position: extent.position + skip,
                length,
            });
        }
        (skip, left) = (0, left - take);
    }
    assert_eq!(left, 0, "a part beyond the record's end");
    parts
}
