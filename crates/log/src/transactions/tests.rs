use std::collections::BTreeMap;

use proptest::prelude::*;
use tailwater_kafka::batch::{BatchHeader, Marker};
use tailwater_types::LeaderEpoch;

use super::*;
use crate::testing::{batch, control, transactional};
use crate::{Decision, PartitionState, Refusal, Replayed, StoredBatch, TransactionMarker};

const EPOCH: LeaderEpoch = LeaderEpoch(4);

/// A log and its state.
#[derive(Default)]
struct Log {
    state: PartitionState,
    stored: Vec<Vec<u8>>,
}

impl Log {
    fn append(&mut self, batch: BatchHeader) -> Result<Offset, Refusal> {
        match self.state.check(&batch) {
            Decision::Append => {}
            Decision::Duplicate { base_offset, .. } => return Ok(base_offset),
            Decision::Refuse(refusal) => return Err(refusal),
        }
        let base = self.state.end();
        self.state.apply(&batch, base, EPOCH, 0);
        self.store(&tailwater_kafka::batch::assemble(&batch, &[]), base);
        Ok(base)
    }

    fn end(&mut self, sent: TransactionMarker) -> Result<Option<EndedTransaction>, Refusal> {
        self.state.check_marker(&sent)?;
        let base = self.state.end();
        let built = sent.marker.build(sent.producer_id, sent.producer_epoch, 2_000);
        let header = BatchHeader::read(&built).expect("whole");
        let ended = self.state.apply_marker(&header, sent.marker, base, EPOCH, 0);
        self.store(&built, base);
        Ok(ended)
    }

    fn store(&mut self, batch: &[u8], base: Offset) {
        let mut batch = batch.to_vec();
        tailwater_kafka::batch::assign(&mut batch, base, EPOCH);
        self.stored.push(batch);
    }

    /// A snapshot after `cut` batches, and what lies behind it, with some before it.
    fn restored(&self, cut: usize, from: usize) -> PartitionState {
        let mut state = PartitionState::default();
        let replay = |state: &mut PartitionState, stored: &[Vec<u8>]| {
            for batch in stored {
                let batch = StoredBatch::read(batch).expect("whole");
                assert_ne!(state.replay(&batch, 0), Ok(Replayed::Beyond));
            }
        };
        replay(&mut state, &self.stored[..cut]);
        let mut state = PartitionState::decode_snapshot(&state.encode_snapshot()).expect("own bytes");
        replay(&mut state, &self.stored[from.min(cut)..]);
        state
    }
}

fn sent(producer_id: i64, producer_epoch: i16, end: TransactionEnd) -> TransactionMarker {
    TransactionMarker {
        producer_id,
        producer_epoch,
        marker: Marker {
            end,
            coordinator_epoch: 1,
        },
        transaction_version: 1,
    }
}

use TransactionEnd::{Abort, Commit};

/// Rule 7: everything is stable below the first open transaction, whoever commits behind it; a marker takes an offset.
#[test]
fn rule_7_the_last_stable_offset_is_the_first_open_transactions_start() {
    let mut log = Log::default();
    let stable = |log: &Log| (log.state.last_stable_offset().0, log.state.end().0);
    log.append(batch(-1, -1, -1, 5)).unwrap();
    assert_eq!(stable(&log), (5, 5));
    log.append(transactional(7, 0, 0, 2)).unwrap();
    log.append(transactional(8, 0, 0, 3)).unwrap();
    log.append(transactional(7, 0, 2, 1)).unwrap();
    assert_eq!(stable(&log), (5, 11));
    let ended = log.end(sent(8, 0, Commit)).unwrap().unwrap();
    assert_eq!((ended.start, ended.marker), (Offset(7), Offset(11)));
    assert_eq!(stable(&log), (5, 12));
    log.end(sent(7, 0, Abort)).unwrap();
    assert_eq!(stable(&log), (13, 13));
    assert_eq!(log.end(sent(7, 0, Abort)), Ok(None), "sent again, it ends nothing");
    assert_eq!(stable(&log), (14, 14));
    let aborted = log.state.aborted_within(Offset(0)..Offset(14));
    let expected = tailwater_format::snapshot::AbortedTransaction {
        producer_id: 7,
        first_offset: Offset(5),
        last_offset: Offset(12),
        last_stable_offset: Offset(13),
    };
    assert_eq!(aborted, [expected]);
    assert_eq!(log.state.aborted_within(Offset(0)..Offset(5)), [], "none of its data");
    assert_eq!(log.state.aborted_within(Offset(13)..Offset(14)), []);
}

/// A producer with an open transaction writes in it, and nothing beside it.
#[test]
fn a_plain_batch_does_not_go_into_a_transaction() {
    let mut log = Log::default();
    log.append(transactional(7, 0, 0, 1)).unwrap();
    let refused = Refusal::InvalidTransactionState { producer_id: 7 };
    assert_eq!(log.append(batch(7, 0, 1, 1)), Err(refused));
    assert_eq!(
        log.append(transactional(7, 0, 0, 1)),
        Ok(Offset(0)),
        "a repeat is one all the same"
    );
    log.end(sent(7, 0, Commit)).unwrap();
    log.append(batch(7, 0, 1, 1)).unwrap();
    assert_eq!(log.state.first_open(), None);
}

/// Rule 14: a marker of a newer epoch ends the transaction and fences the older epoch; the newer one begins at 0.
#[test]
fn rule_14_a_marker_of_a_newer_epoch_fences_the_older() {
    let mut log = Log::default();
    log.append(transactional(7, 3, 0, 1)).unwrap();
    assert!(log.end(sent(7, 4, Abort)).unwrap().is_some());
    let refused = Refusal::InvalidProducerEpoch {
        producer_id: 7,
        current: 4,
        found: 3,
    };
    assert_eq!(log.append(transactional(7, 3, 1, 1)), Err(refused), "data");
    assert_eq!(log.end(sent(7, 3, Commit)), Err(refused), "a marker");
    assert!(matches!(
        log.append(transactional(7, 4, 1, 1)),
        Err(Refusal::OutOfOrderSequence { expected: 0, .. })
    ));
    log.append(transactional(7, 4, 0, 1)).unwrap();
}

/// KIP-890: in version 2 a marker's epoch is above its transaction's. One that comes late doesn't end the next transaction,
/// and one that is only sent again is taken.
#[test]
fn a_late_marker_does_not_end_the_next_transaction() {
    let version_2 = |epoch| TransactionMarker {
        transaction_version: 2,
        ..sent(7, epoch, Commit)
    };
    let mut log = Log::default();
    log.append(transactional(7, 3, 0, 1)).unwrap();
    assert!(log.end(version_2(3)).is_err(), "of the data's own epoch");
    assert!(log.end(version_2(4)).unwrap().is_some());
    assert_eq!(log.end(version_2(4)), Ok(None), "sent again");
    log.append(transactional(7, 4, 0, 1)).unwrap();
    assert_eq!(
        log.end(version_2(4)),
        Err(Refusal::InvalidProducerEpoch {
            producer_id: 7,
            current: 4,
            found: 4
        })
    );
    assert!(log.end(version_2(5)).unwrap().is_some());
}

/// A coordinator that was replaced ends nothing any more.
#[test]
fn an_older_coordinators_marker_is_refused() {
    let mut log = Log::default();
    let by = |coordinator_epoch| TransactionMarker {
        marker: Marker {
            end: Commit,
            coordinator_epoch,
        },
        ..sent(7, 0, Commit)
    };
    log.append(transactional(7, 0, 0, 1)).unwrap();
    log.end(by(5)).unwrap();
    log.append(transactional(7, 0, 1, 1)).unwrap();
    let refused = Refusal::CoordinatorFenced {
        producer_id: 7,
        current: 5,
        found: 4,
    };
    assert_eq!(log.end(by(4)), Err(refused));
    assert!(log.end(by(6)).unwrap().is_some());
    assert_eq!(log.state.producers().next().unwrap().coordinator_epoch, 6);
}

/// Nobody has a negative id or epoch: such a marker or batch is refused, and one that a log has all the same is passed over,
/// so that the state can be written down.
#[test]
fn negative_producers_are_refused_and_passed_over() {
    let mut log = Log::default();
    for (id, epoch) in [(1, -1), (-1, 0), (1, i16::MIN)] {
        let refused = log.end(sent(id, epoch, TransactionEnd::Abort));
        assert!(
            matches!(refused, Err(Refusal::InvalidProducerEpoch { .. })),
            "{id} {epoch}: {refused:?}"
        );
    }
    assert!(matches!(
        log.append(transactional(1, -1, -1, 1)),
        Err(Refusal::InvalidProducerEpoch { .. })
    ));
    let marker = Marker {
        end: TransactionEnd::Abort,
        coordinator_epoch: -1,
    };
    let mut state = PartitionState::default();
    state.apply_marker(&control(1, -1, marker), marker, Offset(0), LeaderEpoch(0), 5);
    assert_eq!((state.end(), state.producers().len()), (Offset(1), 0));
    assert_eq!(
        PartitionState::decode_snapshot(&state.encode_snapshot()).unwrap(),
        state
    );
}

/// An open transaction outlives its producer's expiry: nobody else knows where it began.
#[test]
fn open_transactions_do_not_expire() {
    let mut log = Log::default();
    log.append(transactional(7, 0, 0, 1)).unwrap();
    log.append(batch(8, 0, 0, 1)).unwrap();
    log.state.expire_producers(i64::MAX);
    assert_eq!(log.state.producers().len(), 1);
    assert_eq!(log.state.last_stable_offset(), Offset(0));
}

/// Open transactions have a bound, and the first of them is remembered however many producers come.
#[test]
fn open_transactions_are_bounded_and_never_forgotten() {
    let mut state = PartitionState::default();
    let mut append = |batch: &BatchHeader| {
        let decision = state.check(batch);
        if decision == Decision::Append {
            let base = state.end();
            state.apply(batch, base, EPOCH, 0);
        }
        (decision, state.last_stable_offset())
    };
    for producer in 0..MAX_OPEN_TRANSACTIONS as i64 {
        append(&transactional(producer, 0, 0, 1));
    }
    let full = Decision::Refuse(Refusal::TooManyTransactions);
    assert_eq!(append(&transactional(-1 + (1 << 40), 0, 0, 1)).0, full);
    let goes_on = append(&transactional(5, 0, 1, 1));
    assert_eq!(goes_on, (Decision::Append, Offset(0)), "one that is open");
    for producer in 0..crate::MAX_PRODUCERS as i64 {
        append(&batch((1 << 40) + producer, 0, 0, 1));
    }
    assert!(state.producers().len() <= crate::MAX_PRODUCERS);
    assert_eq!(state.open.len(), MAX_OPEN_TRANSACTIONS);
    assert_eq!(open_in(state.producers()), state.open);
}

/// An end counts once it is committed: until then readers stay below the transaction's start.
#[test]
fn an_uncommitted_end_is_no_end() {
    let ended = |start, marker| EndedTransaction {
        producer_id: 7,
        start: Offset(start),
        marker: Offset(marker),
        end: Commit,
    };
    let mut ends = UncommittedEnds::default();
    assert_eq!(ends.first_start(), None);
    ends.push(ended(10, 20));
    ends.push(ended(5, 21));
    assert_eq!(ends.first_start(), Some(Offset(5)));
    ends.committed(Offset(21));
    assert_eq!(ends.first_start(), Some(Offset(5)));
    ends.committed(Offset(22));
    assert_eq!(ends.first_start(), None);
}

/// The rules written the long way: all transactions that ever were, with where they began and ended.
#[derive(Default)]
struct Model {
    end: i64,
    log_start: i64,
    /// By producer: epoch, next sequence (none after a change of epoch by a marker means 0), start of the open transaction.
    producers: BTreeMap<i64, (i16, i32, Option<i64>)>,
    /// Producer, start, marker.
    aborted: Vec<(i64, i64, i64)>,
}

impl Model {
    fn stable(&self) -> i64 {
        let open = self.producers.values().filter_map(|(_, _, open)| *open);
        open.min().unwrap_or(self.end)
    }

    fn aborted_within(&self, range: Range<i64>) -> Vec<(i64, i64, i64)> {
        let has = |(_, start, marker): &&(i64, i64, i64)| *marker >= range.start && *start < range.end;
        self.aborted.iter().filter(has).copied().collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Plain {
        producer: i64,
    },
    Write {
        producer: i64,
        epoch: i16,
        skip: i32,
        count: i32,
    },
    End {
        producer: i64,
        bump: i16,
        end: TransactionEnd,
    },
    Trim {
        part: i64,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let producer = 0..4_i64;
    let end = prop_oneof![Just(Abort), Just(Commit)];
    let skip = prop_oneof![9 => Just(0), 1 => Just(1)];
    prop_oneof![
        2 => producer.clone().prop_map(|producer| Step::Plain { producer }),
        6 => (producer.clone(), -1..3_i16, skip, 1..4_i32)
            .prop_map(|(producer, epoch, skip, count)| Step::Write { producer, epoch, skip, count }),
        4 => (producer, -1..2_i16, end).prop_map(|(producer, bump, end)| Step::End { producer, bump, end }),
        1 => (0..10_i64).prop_map(|part| Step::Trim { part }),
    ]
}

proptest! {
    /// For any history of writes, ends, fenced producers and trims the state is what the model is, for any range; and a
    /// snapshot anywhere in it, with what lies behind, gives the same state.
    #[test]
    fn any_history_is_as_the_model_and_restores(
        steps in proptest::collection::vec(any_step(), 1..80),
        cut in 0..80_usize,
        from in 0..80_usize,
        ranges in proptest::collection::vec((0..150_i64, 0..60_i64), 8),
    ) {
        let (mut log, mut model) = (Log::default(), Model::default());
        for step in steps {
            match step {
                Step::Plain { producer } => {
                    let (epoch, next, open) = model.producers.get(&producer).copied().unwrap_or((0, 0, None));
                    let appended = log.append(batch(producer, epoch, next, 1)).is_ok();
                    prop_assert_eq!(appended, open.is_none());
                    if appended {
                        model.producers.insert(producer, (epoch, next + 1, None));
                        model.end += 1;
                    }
                }
                Step::Write { producer, epoch: bump, skip, count } => {
                    let known = model.producers.get(&producer).copied();
                    let (current, next, open) = known.unwrap_or((0, 0, None));
                    let epoch = (current + bump).max(0);
                    let first = if epoch == current { next + skip } else { skip };
                    let expected = match known {
                        None => true,
                        Some(_) => epoch >= current && skip == 0,
                    };
                    let appended = log.append(transactional(producer, epoch, first, count)).is_ok();
                    prop_assert_eq!(appended, expected);
                    if appended {
                        model.producers.insert(producer, (epoch, first + count, open.or(Some(model.end))));
                        model.end += i64::from(count);
                    }
                }
                Step::End { producer, bump, end } => {
                    let (current, next, open) = model.producers.get(&producer).copied().unwrap_or((0, 0, None));
                    let known = model.producers.contains_key(&producer);
                    let epoch = (current + bump).max(0);
                    let ended = log.end(sent(producer, epoch, end));
                    prop_assert_eq!(ended.is_ok(), !known || epoch >= current);
                    let Ok(ended) = ended else { continue };
                    prop_assert_eq!(ended.map(|ended| ended.start.0), open);
                    if let (Some(start), Abort) = (open, end) {
                        model.aborted.push((producer, start, model.end));
                    }
                    let next = if epoch == current && known { next } else { 0 };
                    model.producers.insert(producer, (epoch, next, None));
                    model.end += 1;
                }
                Step::Trim { part } => {
                    model.log_start = model.log_start.max(model.end * part / 10);
                    log.state.trim_aborted(Offset(model.log_start));
                }
            }
            prop_assert_eq!(log.state.end().0, model.end);
            prop_assert_eq!(log.state.last_stable_offset().0, model.stable());
            prop_assert_eq!(&open_in(log.state.producers()), &log.state.open);
        }
        let found = |state: &PartitionState, range: &Range<i64>| -> Vec<_> {
            let found = state.aborted_within(Offset(range.start)..Offset(range.end));
            found.iter().map(|one| (one.producer_id, one.first_offset.0, one.last_offset.0)).collect()
        };
        let mut restored = log.restored(cut.min(log.stored.len()), from);
        restored.trim_aborted(Offset(model.log_start));
        for (start, length) in ranges {
            let start = model.log_start + start;
            // Readers see what is stable, and nothing below the start of the log.
            let range = start..(start + length).min(model.stable());
            prop_assert_eq!(found(&log.state, &range), model.aborted_within(range.clone()));
            prop_assert_eq!(found(&restored, &range), model.aborted_within(range));
        }
        prop_assert_eq!(&restored, &log.state);
        prop_assert_eq!(restored.encode_snapshot(), log.state.encode_snapshot());
    }
}
