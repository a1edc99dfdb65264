//! One partition's cached batches: a queue without gaps, searched by base offsets only.

use std::collections::VecDeque;

use bytes::Bytes;
use tailwater_types::Offset;

/// A queue that grew for a burst is let go again when it is empty.
const KEPT_CAPACITY: usize = 16;

#[derive(Default)]
pub(super) struct Tail {
    /// Contiguous: each batch begins where the one before it ends.
    batches: VecDeque<Cached>,
}

pub(super) struct Cached {
    base: Offset,
    bytes: Bytes,
    charge: usize,
}

impl Tail {
    pub fn push(&mut self, base: Offset, bytes: Bytes, charge: usize) {
        debug_assert!(self.batches.back().is_none_or(|last| last.base < base));
        self.batches.push_back(Cached { base, bytes, charge });
    }

    /// Lets go of everything that begins at or before `base`, and answers its charge. Evictions may come out of order.
    pub fn evict(&mut self, base: Offset, into: &mut Vec<Bytes>) -> usize {
        let mut freed = 0;
        while let Some(oldest) = self.batches.pop_front_if(|oldest| oldest.base <= base) {
            freed += oldest.charge;
            into.push(oldest.bytes);
        }
        if self.batches.is_empty() && self.batches.capacity() > KEPT_CAPACITY {
            self.batches = VecDeque::new();
        }
        freed
    }

    /// Whether the batch that holds `offset` is here, unless that lies behind everything.
    pub fn reaches(&self, offset: Offset) -> bool {
        self.batches.front().is_some_and(|oldest| oldest.base <= offset)
    }

    pub fn clear(&mut self) -> (usize, VecDeque<Cached>) {
        let batches = std::mem::take(&mut self.batches);
        (batches.iter().map(|batch| batch.charge).sum(), batches)
    }

    pub fn read(&self, offset: Offset, end: Offset, max_bytes: usize) -> Option<Vec<Bytes>> {
        let first = self.find(offset)?;
        let mut left = max_bytes;
        let mut found: Vec<Bytes> = Vec::new();
        for batch in self.batches.range(first..) {
            let fits = batch.bytes.len() <= left || found.is_empty();
            if batch.base >= end || !fits {
                break;
            }
            left = left.saturating_sub(batch.bytes.len());
            found.push(batch.bytes.clone());
        }
        Some(found)
    }

    /// The place of the batch that holds `offset`: the last that doesn't begin behind it. Nothing lies between batches,
    /// and whoever asks knows that `offset` lies below the log's end, so no last offset is looked at.
    fn find(&self, offset: Offset) -> Option<usize> {
        self.batches
            .partition_point(|batch| batch.base <= offset)
            .checked_sub(1)
    }
}
