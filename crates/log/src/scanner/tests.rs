use tailwater_types::LeaderEpoch;

use super::*;
use crate::testing::{batch, scanned, stored};

/// A slice of two batches at `base`, of 2 and 3 records.
fn slice(base: i64, epoch: i32) -> (SliceHeader, Vec<Bytes>) {
    let first = stored(&batch(9, 0, base as i32, 2), Offset(base), LeaderEpoch(epoch));
    let second = stored(&batch(9, 0, base as i32 + 2, 3), Offset(base + 2), LeaderEpoch(epoch));
    scanned(&[first, second])
}

fn pass(mut scanner: Scanner, slices: &[(SliceHeader, Vec<Bytes>)]) -> Result<Pass, LogError> {
    for (header, parts) in slices {
        scanner.feed(header, parts, 0)?;
    }
    scanner.finish_pass()
}

fn complete(pass: Result<Pass, LogError>) -> PartitionState {
    match pass.expect("no damage") {
        Pass::Complete(state) => state,
        Pass::Again(scanner) => panic!("only up to {}", scanner.end()),
    }
}

/// What a journal repeats of the one before it (rollover), and of what is uploaded, is taken once.
#[test]
fn overlaps_are_clipped() {
    let state = complete(pass(
        Scanner::new(PartitionState::default()),
        &[slice(0, 0), slice(5, 0), slice(5, 0), slice(10, 0)],
    ));
    assert_eq!(state.end(), Offset(15));
    let again = complete(pass(Scanner::new(state.clone()), &[slice(5, 0), slice(10, 0)]));
    assert_eq!(again, state);
}

/// A snapshot in the middle of a slice's batches: the rest of the slice is taken.
#[test]
fn a_slice_is_clipped_at_a_batch() {
    let mut state = PartitionState::default();
    state.apply(&batch(9, 0, 0, 2), Offset::ZERO, LeaderEpoch(0), 0);
    assert_eq!(complete(pass(Scanner::new(state), &[slice(0, 0)])).end(), Offset(5));
}

/// A stream that moved away and back lies in two journals in turn: a second pass completes it.
#[test]
fn a_stream_that_came_back_takes_two_passes() {
    let slices = [slice(0, 0), slice(10, 2), slice(5, 1)];
    let Ok(Pass::Again(scanner)) = pass(Scanner::new(PartitionState::default()), &slices) else {
        panic!("one pass can't do")
    };
    assert_eq!(complete(pass(scanner, &slices)).end(), Offset(15));
}

/// What isn't there is an error and no shorter log.
#[test]
fn a_gap_is_an_error() {
    let gap = pass(Scanner::new(PartitionState::default()), &[slice(5, 0)]);
    assert!(
        matches!(
            gap,
            Err(LogError::Gap {
                end: Offset(0),
                reach: Offset(10)
            })
        ),
        "{gap:?}"
    );
}

/// A snapshot slice further on replaces what would have to be replayed up to it.
#[test]
fn a_snapshot_slice_is_taken() {
    let state = complete(pass(
        Scanner::new(PartitionState::default()),
        &[slice(0, 0), slice(5, 0)],
    ));
    let (mut header, _) = slice(0, 0);
    (header.kind, header.base, header.end) = (SliceKind::Snapshot, Offset(10), Offset(10));
    let snapshot = state.encode_snapshot();
    let parts = vec![snapshot.slice(..20), snapshot.slice(20..)];
    let jumped = complete(pass(Scanner::new(PartitionState::default()), &[(header, parts)]));
    assert_eq!(jumped, state);
}

/// Damaged parts are errors.
#[test]
fn damage_is_an_error() {
    let (header, mut parts) = slice(0, 0);
    parts[1] = parts[1].slice(..60);
    assert!(matches!(
        pass(Scanner::new(PartitionState::default()), &[(header, parts)]),
        Err(LogError::Batch(_))
    ));
}
