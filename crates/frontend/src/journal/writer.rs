//! What the journal writer decides: when an entry is cut, what is in flight, what an ack commits, what credit is left.
//!
//! Pure. Owns the journal's LSNs. Does not own the append stream, nor who waits for credit (`mod`). `T` is what the
//! caller wants back with a slice once that is committed.
//!
//! Credit is counted in units of [`UNIT_BYTES`], which divides every entry's cost. Each slice comes with the units of
//! an entry of its own; an entry of several costs at most their sum, since its header is shared and rounding up is
//! subadditive. So whoever holds units can always send, but for one case: after a new stream was attached, what was given
//! out under the one before may be more than the new one has granted yet. Then entries wait here, in order, for its limit.

use std::collections::VecDeque;

use tailwater_format::entry::{self, Entry, Slice};
use tailwater_rpc::wal::entry_cost;
use tailwater_types::{JournalId, Lsn};

/// What every entry cost is a multiple of.
pub(super) const UNIT_BYTES: u64 = 4096;

/// Far below what an entry can have: the slice table stays small against the body.
const MAX_SLICES: usize = 1024;

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// An entry is cut when it reaches this; a larger slice is an entry of its own.
    pub target_bytes: usize,
    /// Below this many bytes in flight whatever is pending is sent at once.
    pub max_in_flight_bytes: usize,
}

pub(super) struct Writer<T> {
    journal: JournalId,
    limits: Limits,
    next: Lsn,
    pending: Vec<Slice>,
    pending_tags: Vec<T>,
    pending_bytes: usize,
    /// Units that came with what is pending.
    pending_units: u64,
    /// Cut and not durable yet.
    in_flight: VecDeque<InFlight<T>>,
    in_flight_bytes: usize,
    /// The next LSN to be sent through the stream that is attached.
    unsent: Lsn,
    /// Units given out since the stream was attached: cut, with an appender, pending, or free.
    issued_units: u64,
    /// Of them, those of entries that were cut; and of these, those of entries that were sent.
    cut_units: u64,
    sent_units: u64,
    /// What the stream has granted since it was attached.
    limit_units: u64,
}

struct InFlight<T> {
    /// Kept until it is durable, so that it can be sent again.
    entry: Entry,
    tags: Vec<T>,
}

/// An entry that is in flight now.
pub(super) struct Cut {
    pub encoded_bytes: usize,
    /// Units that it didn't need after all.
    pub spare_units: u64,
}

/// Units that the largest entry with one slice of `bytes` costs.
pub(super) fn units_of(bytes: usize) -> u64 {
    entry_units(entry::encoded_bytes(1, bytes))
}

fn entry_units(encoded_bytes: usize) -> u64 {
    entry_cost(encoded_bytes).div_ceil(UNIT_BYTES)
}

impl<T> Writer<T> {
    pub fn new(journal: JournalId, next: Lsn, limits: Limits) -> Self {
        Self {
            journal,
            limits,
            next,
            pending: Vec::new(),
            pending_tags: Vec::new(),
            pending_bytes: 0,
            pending_units: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            unsent: next,
            issued_units: 0,
            cut_units: 0,
            sent_units: 0,
            limit_units: 0,
        }
    }

    /// The first LSN that isn't durable yet.
    pub fn commit(&self) -> Lsn {
        self.in_flight.front().map_or(self.next, |oldest| oldest.entry.lsn())
    }

    /// An LSN above everything that was pushed: what is pending becomes one entry.
    pub fn end(&self) -> Lsn {
        if self.pending.is_empty() {
            self.next
        } else {
            self.next.next()
        }
    }

    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Whether nothing is pending or in flight.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty()
    }

    /// What must be cut before a slice of `bytes` is pushed, so that no entry grows beyond its bound.
    pub fn cut_before(&mut self, bytes: usize) -> Option<Cut> {
        let full = self.pending_bytes + bytes > self.limits.target_bytes || self.pending.len() >= MAX_SLICES;
        (full && !self.pending.is_empty()).then(|| self.cut())
    }

    /// Takes a slice that came with `units`, at least [`units_of`] its bytes.
    pub fn push(&mut self, slice: Slice, tag: T, units: u64) {
        self.pending_bytes += slice.bytes.len();
        self.pending_units += units;
        self.pending.push(slice);
        self.pending_tags.push(tag);
    }

    /// What is to be cut now: all that is pending, if the bytes in flight allow it or the entry has reached its bound.
    pub fn cut_ready(&mut self) -> Option<Cut> {
        let fits =
            self.in_flight.is_empty() || self.in_flight_bytes + self.pending_bytes <= self.limits.max_in_flight_bytes;
        let full = self.pending_bytes >= self.limits.target_bytes;
        (!self.pending.is_empty() && (fits || full)).then(|| self.cut())
    }

    fn cut(&mut self) -> Cut {
        let slices = std::mem::take(&mut self.pending);
        let tags = std::mem::take(&mut self.pending_tags);
        let units = std::mem::take(&mut self.pending_units);
        self.pending_bytes = 0;
        let entry = Entry::encode(self.journal, self.next, slices);
        self.next = self.next.next();
        let cost = entry_units(entry.encoded_bytes());
        debug_assert!(cost <= units, "an entry costs at most what its slices came with");
        self.cut_units += cost;
        let encoded_bytes = entry.encoded_bytes();
        self.in_flight_bytes += encoded_bytes;
        self.in_flight.push_back(InFlight { entry, tags });
        Cut {
            encoded_bytes,
            spare_units: units - cost,
        }
    }

    /// The next entry to be sent, if there is one and the stream's limit allows it. It counts as sent from here on.
    pub fn take_unsent(&mut self) -> Option<Entry> {
        self.unsent = self.unsent.max(self.commit());
        let index = self.unsent.0 - self.commit().0;
        let flight = self.in_flight.get(usize::try_from(index).ok()?)?;
        let cost = entry_units(flight.entry.encoded_bytes());
        if self.sent_units + cost > self.limit_units {
            return None;
        }
        self.sent_units += cost;
        self.unsent = self.unsent.next();
        Some(flight.entry.clone())
    }

    /// Everything below `durable` is: hands the tags of what has become so to `committed`, in order.
    pub fn acked(&mut self, durable: Lsn, mut committed: impl FnMut(T)) {
        while let Some(oldest) = self.in_flight.front()
            && oldest.entry.lsn() < durable
        {
            let acked = self.in_flight.pop_front().expect("it has a front");
            self.in_flight_bytes -= acked.entry.encoded_bytes();
            acked.tags.into_iter().for_each(&mut committed);
        }
    }

    /// Units that may be given out now that the limit is `limit_bytes`.
    pub fn grant(&mut self, limit_bytes: u64) -> u64 {
        self.limit_units = self.limit_units.max(limit_bytes / UNIT_BYTES);
        let more = self.limit_units.saturating_sub(self.issued_units);
        self.issued_units += more;
        more
    }

    /// A new stream was attached at `next` while `free_units` were with nobody, and have been taken back. What is in flight
    /// from there on is to be sent again ([`Writer::take_unsent`]), and counts against the new stream's limit, as what is
    /// pending or with an appender does.
    ///
    /// # Errors
    /// With the first LSN that isn't durable, if the stream goes on below it, or above what was ever sent: this isn't the
    /// journal that was left.
    pub fn reattach(&mut self, next: Lsn, free_units: u64) -> Result<(), Lsn> {
        let commit = self.commit();
        if next < commit || next > self.next {
            return Err(commit);
        }
        let with_others = self.issued_units - self.cut_units - free_units;
        let again = self.in_flight.iter().filter(|flight| flight.entry.lsn() >= next);
        self.cut_units = again.map(|flight| entry_units(flight.entry.encoded_bytes())).sum();
        self.issued_units = self.cut_units + with_others;
        (self.unsent, self.sent_units, self.limit_units) = (next, 0, 0);
        Ok(())
    }

    /// Lets go of everything: nothing of it will be known to be committed.
    pub fn clear(&mut self) {
        self.pending.clear();
        self.pending_tags.clear();
        self.in_flight.clear();
        self.pending_bytes = 0;
        self.pending_units = 0;
        self.in_flight_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tailwater_format::entry::{SliceHeader, SliceKind};
    use tailwater_types::{LeaderEpoch, Offset, StreamId};

    use super::*;

    const LIMITS: Limits = Limits {
        target_bytes: 1000,
        max_in_flight_bytes: 500,
    };

    fn slice(bytes: usize) -> Slice {
        Slice {
            header: SliceHeader {
                kind: SliceKind::Records,
                stream: StreamId(1),
                leader_epoch: LeaderEpoch(0),
                base: Offset(0),
                end: Offset(1),
                max_timestamp_ms: -1,
                length: bytes as u32,
                crc: 0,
            },
            bytes: Bytes::from(vec![0; bytes]),
        }
    }

    fn writer() -> Writer<u32> {
        let mut writer = Writer::new(JournalId(1), Lsn(0), LIMITS);
        writer.grant(1 << 30);
        writer
    }

    /// The bodies of the entries that go out after a slice was pushed.
    fn push(writer: &mut Writer<u32>, bytes: usize, tag: u32) -> Vec<usize> {
        writer.cut_before(bytes);
        writer.push(slice(bytes), tag, units_of(bytes));
        writer.cut_ready();
        sent(writer).iter().map(|entry| entry.header().body_bytes()).collect()
    }

    fn sent(writer: &mut Writer<u32>) -> Vec<Entry> {
        std::iter::from_fn(|| writer.take_unsent()).collect()
    }

    fn lsns(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.lsn().0).collect()
    }

    /// An idle journal sends at once; a busy one collects until an ack makes room.
    #[test]
    fn an_entry_waits_only_for_bytes_in_flight() {
        let mut writer = writer();
        assert_eq!(push(&mut writer, 400, 0), [400]);
        assert_eq!(push(&mut writer, 300, 1), [0; 0]);
        assert_eq!(push(&mut writer, 100, 2), [0; 0]);
        let mut committed = Vec::new();
        writer.acked(Lsn(1), |tag| committed.push(tag));
        writer.cut_ready().expect("nothing is in flight");
        assert_eq!(sent(&mut writer)[0].header().body_bytes(), 400);
        writer.acked(Lsn(2), |tag| committed.push(tag));
        assert_eq!(committed, [0, 1, 2]);
        assert!(writer.is_idle());
    }

    /// At its size bound an entry is cut whatever is in flight, and a larger slice travels alone.
    #[test]
    fn an_entry_is_cut_at_its_bound() {
        let mut writer = writer();
        push(&mut writer, 400, 0);
        push(&mut writer, 600, 1);
        assert_eq!(push(&mut writer, 600, 2), [600]);
        assert_eq!(push(&mut writer, 5000, 3), [600, 5000]);
    }

    /// After a new attachment everything not durable is sent again from where the stream goes on, and counts there.
    #[test]
    fn what_is_in_flight_is_sent_again() {
        let mut writer = writer();
        for tag in 0..4 {
            push(&mut writer, 1000, tag);
        }
        writer.acked(Lsn(1), |_| ());
        assert_eq!(writer.reattach(Lsn(0), 0), Err(Lsn(1)));
        assert_eq!(writer.reattach(Lsn(5), 0), Err(Lsn(1)));
        assert_eq!(writer.reattach(Lsn(2), 0), Ok(()));
        assert_eq!(sent(&mut writer).len(), 0, "nothing is granted yet");
        writer.grant(units_of(1000) * UNIT_BYTES);
        assert_eq!(lsns(&sent(&mut writer)), [2]);
        writer.grant(1 << 20);
        assert_eq!(lsns(&sent(&mut writer)), [3]);
        assert_eq!(writer.sent_units, 2 * units_of(1000));
    }

    /// What was given out under the stream before waits, in order, until the new one has granted as much; only then is
    /// more given out.
    #[test]
    fn what_the_new_stream_has_not_granted_waits() {
        let mut writer = Writer::new(JournalId(1), Lsn(0), LIMITS);
        let unit = units_of(1000);
        assert_eq!(writer.grant(5 * unit * UNIT_BYTES), 5 * unit);
        assert_eq!(push(&mut writer, 1000, 0), [1000]);
        // Of the other four one is free, one pending, two are with appenders.
        writer.push(slice(600), 1, unit);
        assert_eq!(writer.reattach(Lsn(0), unit), Ok(()));
        assert_eq!(writer.grant(unit * UNIT_BYTES), 0);
        assert_eq!(lsns(&sent(&mut writer)), [0]);
        assert_eq!(push(&mut writer, 1000, 2), [0; 0]);
        assert_eq!(push(&mut writer, 1000, 3), [0; 0]);
        let mut committed = Vec::new();
        writer.acked(Lsn(1), |tag| committed.push(tag));
        assert_eq!(committed, [0]);
        assert_eq!(writer.grant(3 * unit * UNIT_BYTES), 0);
        assert_eq!(lsns(&sent(&mut writer)), [1, 2]);
        assert_eq!(writer.grant(5 * unit * UNIT_BYTES), unit);
        assert_eq!(lsns(&sent(&mut writer)), [3]);
    }

    proptest! {
        /// Whatever is pushed and acked, and however often a stream with another limit is attached: units are neither lost
        /// nor made, and nothing is sent beyond the limit.
        #[test]
        fn credit_is_conserved(steps in prop::collection::vec((1usize..3000, 0..4u8, 1..300u64), 1..60)) {
            let mut writer: Writer<u32> = Writer::new(JournalId(1), Lsn(0), LIMITS);
            let mut limit_units = 300;
            let mut free = writer.grant(limit_units * UNIT_BYTES);
            let (mut cut_units, mut sent_units, mut pending) = (0, 0, 0);
            let mut next = Lsn(0);
            for (bytes, what, limit) in steps {
                let units = units_of(bytes);
                let mut cuts = Vec::new();
                match what {
                    0 => writer.acked(next, |_| ()),
                    1 if limit % 8 == 0 => {
                        next = writer.commit();
                        prop_assert_eq!(writer.reattach(next, free), Ok(()));
                        let again = writer.in_flight.iter().map(|flight| entry_units(flight.entry.encoded_bytes()));
                        (cut_units, sent_units, limit_units) = (again.sum(), 0, limit);
                        free = writer.grant(limit_units * UNIT_BYTES);
                    }
                    _ if units <= free => {
                        free -= units;
                        pending += units;
                        cuts.extend(writer.cut_before(bytes));
                        writer.push(slice(bytes), 0, units);
                    }
                    _ => {
                        limit_units += limit;
                        free += writer.grant(limit_units * UNIT_BYTES);
                    }
                }
                cuts.extend(writer.cut_ready());
                for cut in cuts {
                    let cost = entry_cost(cut.encoded_bytes) / UNIT_BYTES;
                    cut_units += cost;
                    pending -= cost + cut.spare_units;
                    free += cut.spare_units;
                }
                while let Some(entry) = writer.take_unsent() {
                    prop_assert_eq!(entry.lsn(), next);
                    next = next.next();
                    sent_units += entry_cost(entry.encoded_bytes()) / UNIT_BYTES;
                }
                prop_assert!(sent_units <= limit_units && sent_units <= cut_units);
                prop_assert!(free == 0 || free + cut_units + pending <= limit_units);
                prop_assert_eq!(free + cut_units + pending, writer.issued_units);
            }
        }
    }
}
