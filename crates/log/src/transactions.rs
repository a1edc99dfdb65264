//! Open and aborted transactions: how far everything is decided, and what readers skip (KIP-98).
//!
//! Owns: the order in which transactions are open, the index of aborted ones, transactions whose marker isn't committed yet.
//! Does not own: which batches and markers are taken (`producers`), which producer has which (its entry in the snapshot).

use std::collections::VecDeque;
use std::ops::Range;

use tailwater_format::snapshot::{AbortedTransaction, Producer};
use tailwater_kafka::batch::TransactionEnd;
use tailwater_types::Offset;

/// The most transactions that may be open in one partition at the same time; each is one of [`crate::MAX_PRODUCERS`], of
/// which half can always be forgotten.
pub const MAX_OPEN_TRANSACTIONS: usize = crate::MAX_PRODUCERS / 2;

/// The most aborted transactions that one partition remembers before it takes no new ones: at 32 bytes each, 32 MiB.
pub const MAX_ABORTED_TRANSACTIONS: usize = 1 << 20;

/// An open transaction of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenTransaction {
    pub start: Offset,
    pub producer_id: i64,
}

/// A transaction that a marker ended in this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedTransaction {
    pub producer_id: i64,
    pub start: Offset,
    /// The marker's offset.
    pub marker: Offset,
    pub end: TransactionEnd,
}

/// Those that producers have open, by ascending start.
pub(crate) fn open_in<'a>(producers: impl Iterator<Item = &'a Producer>) -> Vec<OpenTransaction> {
    let open = producers.filter_map(|producer| {
        Some(OpenTransaction {
            start: producer.transaction_start?,
            producer_id: producer.id,
        })
    });
    let mut open: Vec<_> = open.collect();
    open.sort_unstable_by_key(|open| open.start);
    open
}

/// Takes an ended transaction off the open ones.
pub(crate) fn close(open: &mut Vec<OpenTransaction>, start: Offset) {
    if let Ok(at) = open.binary_search_by_key(&start, |open| open.start) {
        open.remove(at);
    }
    if open.is_empty() {
        *open = Vec::new();
    }
}

/// The aborted transactions that have data in `range`, by ascending markers: what a reader of that range has to know. Those
/// with an end before the range, or that begin behind it, are none of them.
pub(crate) fn aborted_within(aborted: &[AbortedTransaction], range: Range<Offset>) -> Vec<AbortedTransaction> {
    let first = aborted.partition_point(|aborted| aborted.last_offset < range.start);
    let mut found = Vec::new();
    for aborted in &aborted[first..] {
        if aborted.first_offset < range.end {
            found.push(*aborted);
        }
        // What ended behind this one begins at or behind this offset.
        if aborted.last_stable_offset >= range.end {
            break;
        }
    }
    found
}

/// Transactions that have ended in the log of a leader, with a marker that isn't committed yet: they count as open until
/// it is, so that nobody reads an end that may not come to be.
#[derive(Clone, Debug, Default)]
pub struct UncommittedEnds {
    /// By ascending markers.
    ends: VecDeque<EndedTransaction>,
}

impl UncommittedEnds {
    /// Ends come in the order of their markers.
    pub fn push(&mut self, ended: EndedTransaction) {
        debug_assert!(self.ends.back().is_none_or(|last| last.marker < ended.marker));
        self.ends.push_back(ended);
    }

    /// Everything below `end` is committed.
    pub fn committed(&mut self, end: Offset) {
        while self.ends.pop_front_if(|oldest| oldest.marker < end).is_some() {}
        if self.ends.is_empty() && self.ends.capacity() > 16 {
            self.ends = VecDeque::new();
        }
    }

    /// Where the first of them begins.
    pub fn first_start(&self) -> Option<Offset> {
        self.ends.iter().map(|ended| ended.start).min()
    }
}

#[cfg(test)]
mod tests;
