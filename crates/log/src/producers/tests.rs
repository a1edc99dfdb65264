use std::collections::BTreeMap;

use proptest::prelude::*;
use tailwater_format::snapshot::PRODUCER_BATCHES;
use tailwater_types::{LeaderEpoch, Offset};

use crate::testing::batch;
use crate::{Decision, MAX_PRODUCERS, PartitionState, Refusal};

fn append(state: &mut PartitionState, producer: i64, epoch: i16, sequence: i32, count: i32) -> Offset {
    let batch = batch(producer, epoch, sequence, count);
    assert_eq!(state.check(&batch), Decision::Append);
    let base = state.end();
    state.apply(&batch, base, LeaderEpoch(0), 5);
    base
}

fn expected(state: &PartitionState, producer: i64, epoch: i16, sequence: i32) -> Option<i32> {
    match state.check(&batch(producer, epoch, sequence, 1)) {
        Decision::Refuse(Refusal::OutOfOrderSequence { expected, .. }) => Some(expected),
        _ => None,
    }
}

/// Rule 12: a producer without state may begin anywhere (it can have expired); from then on each sequence follows the last.
#[test]
fn rule_12_sequences_follow_one_another() {
    let mut state = PartitionState::default();
    append(&mut state, 7, 0, 100, 10);
    assert_eq!(expected(&state, 7, 0, 111), Some(110), "a gap");
    assert_eq!(expected(&state, 7, 0, 109), Some(110), "a step back that is no repeat");
    append(&mut state, 7, 0, 110, 1);
    append(&mut state, -1, -1, -1, 3);
    append(&mut state, 8, 0, 0, 1);
}

/// Rule 12: the five last batches are recognised by their exact sequences and epoch, also before they are committed.
#[test]
fn rule_12_repeats_are_answered_with_the_first_offset() {
    let mut state = PartitionState::default();
    let bases: Vec<_> = (0..6).map(|at| append(&mut state, 7, 2, at * 2, 2)).collect();
    for (at, base) in bases.iter().enumerate().skip(1) {
        let repeat = state.check(&batch(7, 2, at as i32 * 2, 2));
        assert_eq!(
            repeat,
            Decision::Duplicate {
                base_offset: *base,
                max_timestamp_ms: 1_002
            }
        );
    }
    assert_eq!(expected(&state, 7, 2, 0), Some(12), "the sixth last is forgotten");
    assert_eq!(expected(&state, 7, 2, 2), Some(12), "another length is no repeat");
}

/// Rule 14: a new epoch begins at 0 and forgets the old one's batches; an old epoch is refused even for a repeat.
#[test]
fn rule_14_epochs_only_go_up() {
    let mut state = PartitionState::default();
    append(&mut state, 7, 3, 0, 2);
    assert_eq!(expected(&state, 7, 4, 2), Some(0));
    append(&mut state, 7, 4, 0, 1);
    let refused = Refusal::InvalidProducerEpoch {
        producer_id: 7,
        current: 4,
        found: 3,
    };
    assert_eq!(state.check(&batch(7, 3, 0, 2)), Decision::Refuse(refused));
    append(&mut state, 7, 4, 1, 1);
}

/// Behind the sequence i32::MAX comes 0, also inside a batch.
#[test]
fn sequences_wrap() {
    let mut state = PartitionState::default();
    append(&mut state, 7, 0, i32::MAX, 1);
    append(&mut state, 7, 0, 0, 1);
    append(&mut state, 8, 0, i32::MAX - 1, 4);
    assert!(matches!(
        state.check(&batch(8, 0, i32::MAX - 1, 4)),
        Decision::Duplicate { .. }
    ));
    append(&mut state, 8, 0, 2, 1);
}

/// A coordinator's batch in a producer's name has no sequence; its epoch still counts.
#[test]
fn batches_without_sequence_are_judged_by_epoch() {
    let mut state = PartitionState::default();
    append(&mut state, 7, 3, 5, 1);
    append(&mut state, 7, 3, -1, 1);
    assert!(matches!(state.check(&batch(7, 2, -1, 1)), Decision::Refuse(_)));
    append(&mut state, 7, 3, 6, 1);
}

/// An expired producer is unknown again; one in use stays.
#[test]
fn producers_expire_by_last_use() {
    let mut state = PartitionState::default();
    for (at, producer) in [(10, 1), (20, 2)] {
        let base = state.end();
        state.apply(&batch(producer, 0, 0, 1), base, LeaderEpoch(0), at);
    }
    state.expire_producers(11);
    assert_eq!(state.check(&batch(1, 0, 40, 1)), Decision::Append);
    assert_eq!(expected(&state, 2, 0, 40), Some(1));
}

/// However many producers come, memory has a bound; those that wrote last are remembered.
#[test]
fn producers_are_bounded() {
    let mut state = PartitionState::default();
    let count = MAX_PRODUCERS as i64 + 10;
    // Ids are given out in blocks, and come in any order: 7,919 has no factor of 2^18 in it.
    let id = |nth: i64| nth * 7_919 % (1 << 18);
    for nth in 0..count {
        append(&mut state, id(nth), 0, 0, 1);
    }
    assert!(state.producers().len() <= MAX_PRODUCERS);
    assert!(state.producers().len() > MAX_PRODUCERS * 7 / 8 - 1);
    assert_eq!(expected(&state, id(count - 1), 0, 9), Some(1));
    assert_eq!(expected(&state, id(MAX_PRODUCERS as i64 - 1), 0, 9), Some(1));
    assert_eq!(
        state.check(&batch(id(0), 0, 9, 1)),
        Decision::Append,
        "the oldest is forgotten"
    );
}

/// Kafka's rules, written the long way: everything a producer sent in its epoch, in order.
#[derive(Default)]
struct Model {
    /// By id: the epoch, and each batch of it with its first sequence, not wrapped, and count.
    producers: BTreeMap<i64, (i16, Vec<(i64, i64)>)>,
}

impl Model {
    fn check(&self, producer: i64, epoch: i16, first: i32, count: i32) -> &'static str {
        let Some((current, batches)) = self.producers.get(&producer) else {
            return "append";
        };
        if epoch < *current {
            return "epoch";
        }
        if epoch > *current {
            return if first == 0 { "append" } else { "sequence" };
        }
        let wrap = 1_i64 << 31;
        let repeat = batches
            .iter()
            .rev()
            .take(PRODUCER_BATCHES)
            .any(|(known_first, known_count)| {
                known_first % wrap == i64::from(first) && *known_count == i64::from(count)
            });
        let (last_first, last_count) = batches.last().expect("has written");
        match repeat {
            true => "repeat",
            false if (last_first + last_count) % wrap == i64::from(first) => "append",
            false => "sequence",
        }
    }
}

proptest! {
    /// For any run of batches, good and bad, the state decides as the model does.
    #[test]
    fn decides_as_the_model(
        steps in proptest::collection::vec((0..3_i64, 0..3_i16, 0..6_i32, 1..4_i32, any::<bool>()), 1..120),
        start in prop_oneof![Just(0_i32), Just(i32::MAX - 9)],
    ) {
        let (mut state, mut model) = (PartitionState::default(), Model::default());
        for (producer, epoch, back, count, near) in steps {
            // Mostly around the producer's end, where everything is decided.
            let end = model.producers.get(&producer).filter(|(current, _)| *current == epoch).map_or(i64::from(start), |(_, batches)| {
                let (first, count) = batches.last().expect("has written");
                first + count
            });
            let first = ((end - i64::from(if near { back } else { 0 })).rem_euclid(1 << 31)) as i32;
            let header = batch(producer, epoch, first, count);
            let decision = match state.check(&header) {
                Decision::Append => "append",
                Decision::Duplicate { .. } => "repeat",
                Decision::Refuse(Refusal::OutOfOrderSequence { .. }) => "sequence",
                Decision::Refuse(Refusal::InvalidProducerEpoch { .. }) => "epoch",
                Decision::Refuse(refusal) => panic!("{refusal}"),
            };
            prop_assert_eq!(decision, model.check(producer, epoch, first, count));
            if decision == "append" {
                let base = state.end();
                state.apply(&header, base, LeaderEpoch(0), 0);
                let entry = model.producers.entry(producer).or_insert((epoch, Vec::new()));
                if entry.0 != epoch {
                    *entry = (epoch, Vec::new());
                }
                entry.1.push((i64::from(first), i64::from(count)));
            }
        }
    }
}
