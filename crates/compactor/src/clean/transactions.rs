//! What a log's transactions mean for its cleaning: pure, batch by batch in offset order.
//!
//! A walk may begin where another ended. Then a producer's first marker counts as needed: what lies before may have data of its
//! transaction.
//!
//! Owns: which data is of an aborted transaction, and which markers nobody needs any more. Everything that is judged lies
//! below the last stable offset: each transaction in it has ended. The rules are those of Apache Kafka's
//! `CleanedTransactionMetadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailwater_format::snapshot::AbortedTransaction;
use tailwater_kafka::batch::BatchHeader;
use tailwater_types::Offset;

/// So many producers' first markers are known to have been met; of more all markers are kept until a walk from the beginning.
const MAX_MET: usize = 131_072;

/// What a batch is to a cleaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Records that count.
    Data,
    /// Records that never came to be.
    Aborted,
    /// A control batch. `is_needed`: of a transaction that had data left a moment ago.
    Control { is_needed: bool },
}

/// Where a walk through a stream stands. Begins anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Transactions {
    /// By ascending first offset, and how many of them have begun.
    aborted: Arc<[AbortedTransaction]>,
    met: usize,
    /// Of each producer the newest aborted transaction that has begun: where its marker is.
    begun: BTreeMap<i64, Offset>,
    /// Producers with data since their last marker.
    with_data: BTreeSet<i64>,
    /// Where it began behind the stream's beginning: producers whose first marker behind that was met.
    ended: Option<BTreeSet<i64>>,
}

impl Transactions {
    /// `aborted`: all that are remembered of the stream.
    pub fn new(aborted: &[AbortedTransaction]) -> Self {
        let mut aborted = aborted.to_vec();
        aborted.sort_by_key(|aborted| aborted.first_offset);
        Self {
            aborted: aborted.into(),
            met: 0,
            begun: BTreeMap::new(),
            with_data: BTreeSet::new(),
            ended: None,
        }
    }

    /// The stream has data before what is judged first.
    pub fn goes_on(&mut self) {
        self.ended = Some(BTreeSet::new());
    }

    /// Takes the next batch.
    pub fn judge(&mut self, batch: &BatchHeader) -> Verdict {
        let (base, end) = (batch.base_offset, batch.end_offset());
        while let Some(next) = self.aborted.get(self.met).filter(|next| next.first_offset < end) {
            self.met += 1;
            if next.last_offset >= base {
                self.begun.insert(next.producer_id, next.last_offset);
            }
        }
        let producer = batch.producer_id;
        if batch.is_control() {
            let had_data = self.with_data.remove(&producer);
            if self.begun.get(&producer).is_some_and(|marker| *marker <= base) {
                self.begun.remove(&producer);
            }
            return Verdict::Control {
                is_needed: self.is_first_marker(producer) || had_data,
            };
        }
        if !batch.is_transactional() {
            return Verdict::Data;
        }
        if batch.count > 0 {
            self.with_data.insert(producer);
        }
        match self.begun.get(&producer) {
            Some(marker) if base < *marker => Verdict::Aborted,
            _ => Verdict::Data,
        }
    }

    /// Whether it ends a transaction that may have begun before the walk did.
    fn is_first_marker(&mut self, producer: i64) -> bool {
        match &mut self.ended {
            None => false,
            Some(ended) if ended.len() < MAX_MET => ended.insert(producer),
            Some(ended) => !ended.contains(&producer),
        }
    }
}

#[cfg(test)]
mod tests {
    use tailwater_kafka::batch::{Marker, TransactionEnd, assemble};
    use tailwater_types::LeaderEpoch;

    use super::*;

    fn aborted(producer_id: i64, first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id,
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
        }
    }

    fn data(producer_id: i64, base: i64, count: i32) -> BatchHeader {
        let header = BatchHeader {
            base_offset: Offset(base),
            length: 0,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: 0x10,
            last_offset_delta: count - 1,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            count,
        };
        BatchHeader::read(&assemble(&header, &[])).unwrap()
    }

    fn marker(producer_id: i64, base: i64) -> BatchHeader {
        let marker = Marker {
            end: TransactionEnd::Abort,
            coordinator_epoch: 0,
        };
        BatchHeader {
            base_offset: Offset(base),
            ..BatchHeader::read(&marker.build(producer_id, 0, 0)).unwrap()
        }
    }

    /// Interleaved transactions: each batch belongs to the one of its producer that is open there.
    #[test]
    fn data_belongs_to_the_transaction_around_it() {
        let mut walk = Transactions::new(&[aborted(1, 0, 6), aborted(2, 8, 12), aborted(1, 14, 15)]);
        let needed = Verdict::Control { is_needed: true };
        assert_eq!(walk.judge(&data(1, 0, 2)), Verdict::Aborted);
        assert_eq!(walk.judge(&data(2, 2, 2)), Verdict::Data);
        assert_eq!(walk.judge(&data(1, 4, 1)), Verdict::Aborted);
        assert_eq!(walk.judge(&marker(2, 5)), needed);
        assert_eq!(walk.judge(&marker(1, 6)), needed);
        assert_eq!(walk.judge(&data(1, 7, 1)), Verdict::Data);
        assert_eq!(walk.judge(&data(2, 8, 1)), Verdict::Aborted);
        assert_eq!(walk.judge(&marker(1, 9)), needed);
        assert_eq!(walk.judge(&marker(2, 12)), needed);
        assert_eq!(walk.judge(&data(1, 14, 1)), Verdict::Aborted);
    }

    /// A walk that begins in the middle doesn't know what a producer's first marker ended: it is needed. Its second isn't without
    /// data.
    #[test]
    fn a_marker_of_what_lies_before_is_needed() {
        let mut walk = Transactions::new(&[aborted(3, 0, 13)]);
        walk.goes_on();
        let needed = |is_needed| Verdict::Control { is_needed };
        assert_eq!(walk.judge(&marker(1, 10)), needed(true));
        assert_eq!(walk.judge(&marker(1, 11)), needed(false));
        assert_eq!(walk.judge(&data(3, 12, 1)), Verdict::Aborted);
        assert_eq!(walk.judge(&marker(3, 13)), needed(true));
        assert_eq!(walk.judge(&marker(3, 14)), needed(false));
        assert_eq!(walk.judge(&data(1, 15, 1)), Verdict::Data);
        assert_eq!(walk.judge(&marker(1, 16)), needed(true));
    }

    /// A marker without data is not needed, of an aborted transaction neither; an empty batch is no data.
    #[test]
    fn a_marker_without_data_is_not_needed() {
        let unneeded = Verdict::Control { is_needed: false };
        let mut walk = Transactions::new(&[aborted(1, 0, 6)]);
        assert_eq!(walk.judge(&data(2, 2, 0)), Verdict::Data);
        assert_eq!(walk.judge(&marker(2, 5)), unneeded);
        assert_eq!(walk.judge(&marker(1, 6)), unneeded);
        assert_eq!(walk.judge(&data(1, 7, 1)), Verdict::Data);
        assert_eq!(walk.judge(&marker(1, 8)), Verdict::Control { is_needed: true });
        // Begun behind the marker: the transaction is over.
        let mut late = Transactions::new(&[aborted(1, 0, 6)]);
        assert_eq!(late.judge(&data(1, 7, 1)), Verdict::Data);
    }
}
