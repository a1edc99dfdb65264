use tailwater_kafka::batch::{Marker, TransactionEnd};
use tailwater_types::LeaderEpoch;

use super::*;
use crate::Decision;
use crate::testing::{control, transactional};

fn guard(verification: Verification) -> Option<Guard> {
    match verification {
        Verification::Needed(guard) => Some(guard),
        Verification::Ongoing => None,
    }
}

fn append(state: &mut PartitionState, verifications: &mut Verifications, batch: &BatchHeader) {
    assert_eq!(state.check(batch), Decision::Append);
    let base = state.end();
    state.apply(batch, base, LeaderEpoch(0), 0);
    verifications.forget(batch.producer_id);
}

fn end(state: &mut PartitionState, verifications: &mut Verifications, producer_id: i64, epoch: i16) {
    let marker = Marker {
        end: TransactionEnd::Abort,
        coordinator_epoch: 0,
    };
    let base = state.end();
    state.apply_marker(&control(producer_id, epoch, marker), marker, base, LeaderEpoch(0), 0);
    verifications.forget(producer_id);
}

const NOT_VERIFIED: Result<(), Refusal> = Err(Refusal::InvalidTransactionState { producer_id: 7 });

/// KIP-890: the first batch of a transaction needs a guard, those behind it don't.
#[test]
fn the_first_batch_of_a_transaction_needs_its_guard() {
    let (mut state, mut verifications) = (PartitionState::default(), Verifications::default());
    let first = transactional(7, 0, 0, 2);
    assert_eq!(verifications.admit(&state, &first, None), NOT_VERIFIED);
    let held = guard(verifications.begin(&state, &first, false));
    assert_eq!(verifications.admit(&state, &first, None), NOT_VERIFIED, "without it");
    assert_eq!(verifications.admit(&state, &first, held), Ok(()));
    append(&mut state, &mut verifications, &first);
    let second = transactional(7, 0, 2, 1);
    assert_eq!(verifications.begin(&state, &second, false), Verification::Ongoing);
    assert_eq!(verifications.admit(&state, &second, None), Ok(()));
    let newer = transactional(7, 1, 0, 1);
    assert_ne!(
        verifications.begin(&state, &newer, false),
        Verification::Ongoing,
        "the open transaction is of another epoch"
    );
}

/// KIP-890: a batch that was verified before its transaction ended can't open another one.
#[test]
fn a_marker_takes_the_guard_away() {
    let (mut state, mut verifications) = (PartitionState::default(), Verifications::default());
    let late = transactional(7, 0, 0, 1);
    let held = guard(verifications.begin(&state, &late, false));
    end(&mut state, &mut verifications, 7, 0);
    assert_eq!(verifications.admit(&state, &late, held), NOT_VERIFIED);
    let again = guard(verifications.begin(&state, &late, false));
    assert_ne!(again, held);
    assert_eq!(verifications.admit(&state, &late, held), NOT_VERIFIED, "an older guard");
    assert_eq!(verifications.admit(&state, &late, again), Ok(()));
}

/// Of batches that are verified at the same time, the one with the lowest sequence goes first.
#[test]
fn a_later_sequence_does_not_open_the_transaction() {
    let (mut state, mut verifications) = (PartitionState::default(), Verifications::default());
    let (first, second) = (transactional(7, 3, 10, 1), transactional(7, 3, 11, 1));
    let held = guard(verifications.begin(&state, &second, false));
    assert_eq!(held, guard(verifications.begin(&state, &first, false)));
    let out_of_order = Refusal::OutOfOrderSequence {
        producer_id: 7,
        expected: 10,
        found: 11,
    };
    assert_eq!(verifications.admit(&state, &second, held), Err(out_of_order));
    assert_eq!(verifications.admit(&state, &first, held), Ok(()));
    append(&mut state, &mut verifications, &first);
    assert_eq!(verifications.admit(&state, &second, None), Ok(()));
}

/// Where each transaction has an epoch of its own, an unknown producer begins at 0: it isn't one that was forgotten.
#[test]
fn an_epoch_of_its_own_begins_at_sequence_0() {
    let (state, mut verifications) = (PartitionState::default(), Verifications::default());
    let late = transactional(7, 3, 5, 1);
    let held = guard(verifications.begin(&state, &late, true));
    assert!(matches!(
        verifications.admit(&state, &late, held),
        Err(Refusal::OutOfOrderSequence { expected: 0, .. })
    ));
    let coordinators = transactional(8, 3, -1, 1);
    let held = guard(verifications.begin(&state, &coordinators, true));
    assert_eq!(verifications.admit(&state, &coordinators, held), Ok(()));
}

/// However many begin and never come back, memory has a bound.
#[test]
fn verifications_are_bounded() {
    let (state, mut verifications) = (PartitionState::default(), Verifications::default());
    let first = guard(verifications.begin(&state, &transactional(0, 0, 0, 1), false));
    for producer in 1..=MAX_GUARDS as i64 {
        verifications.begin(&state, &transactional(producer, 0, 0, 1), false);
    }
    assert!(verifications.by_producer.len() as u64 <= MAX_GUARDS);
    assert!(verifications.admit(&state, &transactional(0, 0, 0, 1), first).is_err());
}
