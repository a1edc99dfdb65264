//! Which slices of which entries hold a stream's offsets.
//!
//! Sparse: one row a slice, compared by offsets only; the batch within the slice is found when it is read.

use std::collections::{BTreeMap, VecDeque};

use tailwater_format::entry::{EntryHeader, SliceHeader, SliceKind};
use tailwater_rpc::{Error, Result};
use tailwater_types::{Lsn, Offset, StreamId};

/// A slice of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexedSlice {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) lsn: Lsn,
    /// Its place among the entry's slices, and where its bytes begin in the entry.
    pub(crate) number: u16,
    pub(crate) at: u32,
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

/// The slices of a journal, by stream, in offset order.
#[derive(Default)]
pub(crate) struct StreamIndex {
    streams: BTreeMap<StreamId, VecDeque<IndexedSlice>>,
}

impl StreamIndex {
    /// # Errors
    /// [`Error::Invalid`] if a slice begins before its stream's end: offsets only grow in a journal.
    pub(crate) fn check(&self, header: &EntryHeader) -> Result<()> {
        for slice in records(header) {
            if let Some(end) = self.end(slice.stream)
                && slice.base < end
            {
                return Err(Error::Invalid(format!(
                    "journal {}: stream {} goes back from offset {end} to {}",
                    header.journal, slice.stream, slice.base
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn insert(&mut self, header: &EntryHeader) {
        let mut at = header.header_bytes();
        for (number, slice) in header.slices.iter().enumerate() {
            if slice.kind == SliceKind::Records {
                self.streams.entry(slice.stream).or_default().push_back(IndexedSlice {
                    base: slice.base,
                    end: slice.end,
                    lsn: header.lsn,
                    number: u16::try_from(number).expect("the format bounds the slices of an entry"),
                    at: u32::try_from(at).expect("entries are far below 4 GiB"),
                    length: slice.length,
                    crc: slice.crc,
                });
            }
            at += slice.length as usize;
        }
    }

    /// Forgets the slices of entries below `base`.
    pub(crate) fn trim(&mut self, base: Lsn) {
        self.streams.retain(|_, slices| {
            while slices.front().is_some_and(|slice| slice.lsn < base) {
                slices.pop_front();
            }
            // A stream that goes on elsewhere must not hold on to what it once needed.
            if slices.len() * 4 < slices.capacity() {
                slices.shrink_to(slices.len() * 2);
            }
            !slices.is_empty()
        });
    }

    /// The slices with `[offset, end)`, from the one that holds `offset` on without a gap: whole ones, of entries below
    /// `durable`, until `max_bytes` are reached. Empty if `offset` isn't here.
    pub(crate) fn find(
        &self,
        stream: StreamId,
        (offset, end): (Offset, Offset),
        durable: Lsn,
        max_bytes: usize,
    ) -> Vec<IndexedSlice> {
        let Some(slices) = self.streams.get(&stream) else {
            return Vec::new();
        };
        let first = slices.partition_point(|slice| slice.end <= offset);
        let (mut next, mut bytes, mut found) = (offset, 0, Vec::new());
        for slice in slices.range(first..) {
            let follows = if found.is_empty() {
                slice.base <= next
            } else {
                slice.base == next
            };
            if !follows || slice.base >= end || slice.lsn >= durable || bytes >= max_bytes.max(1) {
                break;
            }
            next = slice.end;
            bytes += slice.length as usize;
            found.push(*slice);
        }
        found
    }

    /// The lowest offset of the stream that is still indexed.
    pub(crate) fn start(&self, stream: StreamId) -> Option<Offset> {
        self.streams.get(&stream)?.front().map(|slice| slice.base)
    }

    fn end(&self, stream: StreamId) -> Option<Offset> {
        self.streams.get(&stream)?.back().map(|slice| slice.end)
    }
}

fn records(header: &EntryHeader) -> impl Iterator<Item = &SliceHeader> {
    header.slices.iter().filter(|slice| slice.kind == SliceKind::Records)
}
