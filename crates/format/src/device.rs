//! The device log: two superblock slots, then a ring of writes that hold records (docs/design.md section 6).
//!
//! ```text
//! byte 0      superblock slot 0                      [`Superblock`]
//! byte 4096   superblock slot 1
//! byte 8192   the ring: writes at 4096 boundaries    [`WriteHeader`], then records, then zeros up to the boundary
//! ```
//!
//! Positions in the log are **absolute**: they count all bytes ever taken from the ring and never wrap; byte
//! `8192 + position % ring length` of the device holds them. No write crosses the ring's end. A record too large for
//! what is left of a write goes on in the next one. This module lays bytes out; what is written when is the WAL's.

mod journal;
mod superblock;
mod write;

pub use journal::{JournalRecord, Opening};
pub use superblock::Superblock;
pub use write::{Fragment, RecordKind, WriteHeader, fragments};

/// Every write begins at a multiple of this and takes a multiple of it: the largest logical block in use.
pub const BLOCK_BYTES: u64 = 4096;
/// One slot; the content is far below a sector, so that a torn slot is a whole old or a whole new one.
pub const SUPERBLOCK_BYTES: usize = 4096;
pub const SUPERBLOCK_SLOTS: u64 = 2;
/// Where the ring begins.
pub const RING_START: u64 = SUPERBLOCK_SLOTS * SUPERBLOCK_BYTES as u64;
/// The most that one write takes, its header included.
pub const MAX_WRITE_BYTES: usize = 1 << 20;
/// A writer fills writes at least this far before it begins another: what [`record_cost`] is computed for.
pub const MIN_FULL_WRITE_BYTES: usize = 64 << 10;
/// In front of every write.
pub const WRITE_HEADER_BYTES: usize = 64;
/// In front of every fragment of a record.
pub const FRAGMENT_HEADER_BYTES: usize = 8;

/// Device bytes that a record is charged with, alone or in any company.
///
/// What a group of records takes never exceeds the sum of their costs: a write costs its header, a fragment's header
/// and at most another's that doesn't fit any more, 80 bytes; a record of n bytes begins at most
/// `n / MIN_FULL_WRITE_BYTES` full writes, one at the ring's end and the last. And the sum is a multiple of the block.
pub fn record_cost(record_bytes: usize) -> u64 {
    const OVERHEAD_BYTES: usize = 256;
    let overhead = OVERHEAD_BYTES * (1 + record_bytes / MIN_FULL_WRITE_BYTES);
    (record_bytes as u64 + overhead as u64).next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a group takes: writes of `full` bytes but for one cut at the ring's end after `room`, and the last.
    fn bytes_taken(records: &[usize], full: usize, mut room: usize) -> u64 {
        let (mut taken, mut filled) = (0, 0);
        for &record in records {
            let mut left = record;
            loop {
                if filled == 0 {
                    filled = WRITE_HEADER_BYTES;
                }
                let space = room.min(full) - filled;
                if space <= FRAGMENT_HEADER_BYTES {
                    taken += room.min(full) as u64;
                    room = if room <= full { usize::MAX } else { room - full };
                    filled = 0;
                    continue;
                }
                let part = left.min(space - FRAGMENT_HEADER_BYTES);
                filled += FRAGMENT_HEADER_BYTES + part;
                left -= part;
                if left == 0 {
                    break;
                }
            }
        }
        taken + (filled as u64).next_multiple_of(BLOCK_BYTES)
    }

    proptest! {
        /// No group of records, wherever it meets the ring's end, takes more than the records were charged.
        #[test]
        fn a_group_never_takes_more_than_it_was_charged(
            records in proptest::collection::vec(prop_oneof![1..5000usize, 3900..4100usize, 60_000..140_000usize, 1..3_000_000usize], 1..20),
            room_blocks in 1..300usize,
            full in prop_oneof![Just(MIN_FULL_WRITE_BYTES), Just(MAX_WRITE_BYTES)],
        ) {
            let charged: u64 = records.iter().map(|&record| record_cost(record)).sum();
            prop_assert!(bytes_taken(&records, full, room_blocks * 4096) <= charged);
        }
    }
}
