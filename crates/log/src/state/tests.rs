use proptest::prelude::*;

use super::*;
use crate::testing::{batch, stored};

const NOW_MS: i64 = 1_234;

/// An idle partition costs next to nothing, one with an epoch and a producer little.
#[test]
fn memory_is_small() {
    let mut state = PartitionState::default();
    assert!(state.memory_bytes() <= 112, "{}", state.memory_bytes());
    state.apply(&batch(1, 0, 0, 1), Offset::ZERO, LeaderEpoch(0), NOW_MS);
    assert!(state.memory_bytes() < 500, "{}", state.memory_bytes());
    state.expire_producers(i64::MAX);
    assert!(state.memory_bytes() < 200, "{}", state.memory_bytes());
}

/// Each epoch begins where its first batch does; offsets not written yet have none.
#[test]
fn leader_epochs_begin_with_their_first_batch() {
    let mut state = PartitionState::empty(Offset(10));
    for epoch in [2, 2, 5] {
        let base = state.end();
        state.apply(&batch(-1, -1, -1, 3), base, LeaderEpoch(epoch), NOW_MS);
    }
    let at = |offset| state.leader_epoch_at(Offset(offset)).map(|epoch| epoch.0);
    assert_eq!(
        [9, 10, 15, 16, 18, 19].map(at),
        [None, Some(2), Some(2), Some(5), Some(5), None]
    );
    assert_eq!(state.leader_epochs().len(), 2);
}

/// An epoch ends where the next one that has written begins; one that hasn't written ends where it would have begun, and
/// the newest one at the end.
#[test]
fn epochs_end_where_the_next_begins() {
    let mut state = PartitionState::empty(Offset(10));
    let end = |state: &PartitionState, epoch| {
        let (found, end) = state.epoch_end(LeaderEpoch(epoch));
        (found.0, end.0)
    };
    assert_eq!(end(&state, 0), (0, 10), "nobody has written");
    for epoch in [2, 2, 5] {
        let base = state.end();
        state.apply(&batch(-1, -1, -1, 3), base, LeaderEpoch(epoch), NOW_MS);
    }
    assert_eq!(
        [0, 1, 2, 3, 4, 5, 6].map(|epoch| end(&state, epoch)),
        [(0, 10), (1, 10), (2, 16), (2, 16), (2, 16), (5, 19), (5, 19)]
    );
}

/// Stored batches are taken once, in order, whole, and never from an epoch older than what lies below.
#[test]
fn replay_clips_and_refuses() {
    let mut state = PartitionState::default();
    let at = |base, count, epoch| {
        let header = stored(&batch(-1, -1, -1, count), Offset(base), LeaderEpoch(epoch));
        StoredBatch { header, marker: None }
    };
    assert_eq!(state.replay(&at(0, 4, 1), NOW_MS), Ok(Replayed::Applied));
    assert_eq!(state.replay(&at(0, 4, 1), NOW_MS), Ok(Replayed::Known));
    assert_eq!(state.replay(&at(5, 1, 1), NOW_MS), Ok(Replayed::Beyond));
    assert!(matches!(
        state.replay(&at(3, 2, 1), NOW_MS),
        Err(LogError::Straddles { .. })
    ));
    assert!(matches!(
        state.replay(&at(4, 2, 0), NOW_MS),
        Err(LogError::EpochStepsBack { .. })
    ));
    assert!(matches!(
        state.replay(&at(4, 0, 1), NOW_MS),
        Err(LogError::Empty { .. })
    ));
    assert_eq!(state.end(), Offset(4));
}

fn any_batches() -> impl Strategy<Value = Vec<BatchHeader>> {
    let one = (-1..4_i64, 0..2_i16, 0..20_i32, 1..5_i32, 0..2_i32);
    proptest::collection::vec(one, 1..60).prop_map(|steps| {
        let (mut end, mut leader) = (Offset::ZERO, 0);
        steps
            .into_iter()
            .map(|(producer, epoch, sequence, count, bump)| {
                leader += bump;
                let made = stored(&batch(producer, epoch, sequence, count), end, LeaderEpoch(leader));
                end = made.end_offset();
                made
            })
            .collect()
    })
}

proptest! {
    /// A snapshot at any batch and the batches behind it give the state that all batches give, whatever overlaps.
    #[test]
    fn snapshot_and_replay_are_direct_application(batches in any_batches(), cut in 0..60_usize, from in 0..60_usize) {
        let mut direct = PartitionState::default();
        let mut restored = PartitionState::default();
        let cut = cut.min(batches.len());
        for (at, batch) in batches.iter().enumerate() {
            if at == cut {
                restored = direct.clone();
            }
            direct.apply(batch, batch.base_offset, batch.leader_epoch, NOW_MS);
        }
        if cut == batches.len() {
            restored = direct.clone();
        }
        let mut restored = PartitionState::decode_snapshot(&restored.encode_snapshot()).expect("own bytes");
        for batch in &batches[from.min(cut)..] {
            prop_assert_ne!(restored.replay(&StoredBatch { header: *batch, marker: None }, NOW_MS), Ok(Replayed::Beyond));
        }
        prop_assert_eq!(&restored, &direct);
        prop_assert_eq!(restored.encode_snapshot(), direct.encode_snapshot());
    }
}
