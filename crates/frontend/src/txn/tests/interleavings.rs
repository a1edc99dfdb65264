//! Any sequence of requests, outcomes, passing time and successors keeps what a transaction promises.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::txn::effects::*;
use crate::txn::state::*;

#[derive(Clone, Debug)]
enum Action {
    Init {
        says_who: Option<usize>,
    },
    Add {
        who: usize,
        partition: i32,
        client_version: i16,
    },
    Verify {
        who: usize,
        partition: i32,
    },
    End {
        who: usize,
        is_commit: bool,
        with_new_epoch: bool,
    },
    Outcome {
        stored: bool,
    },
    /// The outcome of any of the markers on their way: a bit for each partition that has them.
    Mark {
        number: usize,
        written: u8,
    },
    Pass {
        millis: u64,
    },
    /// The coordinator moves; what was on its way is in the log, or isn't.
    Restart {
        stored: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let who = 0..3usize;
    let partition = 0..3i32;
    prop_oneof![
        3 => proptest::option::of(who.clone()).prop_map(|says_who| Action::Init { says_who }),
        6 => (who.clone(), partition.clone(), prop_oneof![Just(0i16), Just(2)])
            .prop_map(|(who, partition, client_version)| Action::Add { who, partition, client_version }),
        2 => (who.clone(), partition).prop_map(|(who, partition)| Action::Verify { who, partition }),
        5 => (who, any::<bool>(), any::<bool>())
            .prop_map(|(who, is_commit, with_new_epoch)| Action::End { who, is_commit, with_new_epoch }),
        12 => (0..10u8).prop_map(|n| Action::Outcome { stored: n > 0 }),
        8 => (0..3usize, prop_oneof![Just(0u8), Just(7), 0..8u8])
            .prop_map(|(number, written)| Action::Mark { number, written }),
        2 => prop_oneof![Just(10u64), Just(1000), Just(61_000)].prop_map(|millis| Action::Pass { millis }),
        1 => (0..3usize).prop_map(|stored| Action::Restart { stored }),
    ]
}

/// What a producer asked.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Init,
    Add { who: ProducerRef, partition: i32 },
    Verify { who: ProducerRef, partition: i32 },
    End { who: ProducerRef, is_commit: bool },
}

/// What producers have been told.
#[derive(Default)]
struct Seen {
    pending: BTreeMap<Waiter, Asked>,
    /// Everybody that a producer was told to be, the last one last.
    producers: Vec<ProducerRef>,
    /// How a producer was told that its transaction has ended.
    ended: BTreeMap<(i64, i16), bool>,
    /// How partitions were told, by the marker's producer.
    marked: BTreeMap<(i64, i16), bool>,
    checked: usize,
    next_id: i64,
}

impl Seen {
    /// One of the last that were told of; zombies too.
    fn producer(&self, back: usize) -> ProducerRef {
        let known = self.producers.iter().rev().nth(back);
        known.copied().unwrap_or(producer(1, 0))
    }
}

fn committed(h: &Harness) -> Option<&Transaction> {
    h.log.last().and_then(|(_, value)| value.as_ref())
}

fn learn(h: &mut Harness, seen: &mut Seen) {
    let bumped = h.sent[seen.checked..]
        .iter()
        .filter(|markers| markers.client_version > 0);
    for markers in bumped {
        let key = (markers.producer.id, markers.producer.epoch);
        let known = *seen.marked.entry(key).or_insert(markers.is_commit);
        assert_eq!(known, markers.is_commit, "one transaction was ended in both ways");
    }
    seen.checked = h.sent.len();
    let waiters: Vec<Waiter> = seen.pending.keys().copied().collect();
    for waiter in waiters {
        let Some(reply) = h.reply(waiter) else { continue };
        let asked = seen.pending.remove(&waiter).unwrap();
        // Where commits are apart from it, what is answered now rests on what is committed now.
        if !h.commits_at_once {
            check_yes(h, asked, &reply);
        }
        match (asked, reply) {
            (Asked::Init, Reply::Producer(Ok(who))) => {
                let again = seen.producers.last() == Some(&who);
                assert!(again || !seen.producers.contains(&who), "{who:?} is two producers");
                seen.producers.push(who);
            }
            (Asked::End { who, is_commit }, Reply::Producer(Ok(next))) => {
                // The first version keeps its epoch from one transaction to the next.
                if next != who {
                    let before = seen.ended.insert((who.id, who.epoch), is_commit);
                    assert!(before.is_none_or(|before| before == is_commit), "{who:?} ended twice");
                }
                if seen.producers.last() != Some(&next) {
                    seen.producers.push(next);
                }
            }
            _ => {}
        }
    }
}

/// A yes is only worth something if the log says it too.
fn check_yes(h: &Harness, asked: Asked, reply: &Reply) {
    let state = committed(h);
    let is_in = |who: ProducerRef, partition: i32| {
        state.is_some_and(|state| {
            state.producer() == who && state.phase == Phase::Ongoing && state.partitions.contains(&at(partition))
        })
    };
    match (asked, reply) {
        (Asked::Add { who, partition }, Reply::Added(ErrorCode::None)) => {
            assert!(
                is_in(who, partition),
                "{who:?} was told of a partition that isn't in the log"
            );
        }
        (Asked::Verify { who, partition }, Reply::Verified(Ok(errors))) if errors[0] == ErrorCode::None => {
            assert!(
                is_in(who, partition),
                "{who:?} was told of a partition that isn't in the log"
            );
        }
        _ => {}
    }
}

fn ask(h: &mut Harness, seen: &mut Seen, asked: Asked, request: Request) {
    let waiter = h.ask(request);
    // What is answered at once rests on what is committed now.
    if let Some(reply) = h.peek(waiter) {
        check_yes(h, asked, &reply.clone());
    }
    seen.pending.insert(waiter, asked);
}

fn act(h: &mut Harness, seen: &mut Seen, action: Action) {
    match action {
        Action::Init { says_who } => {
            seen.next_id += 1;
            let request = Request::Init {
                timeout_ms: TIMEOUT_MS,
                expected: says_who.map(|back| seen.producer(back)),
                new_id: Some(1000 + seen.next_id),
            };
            ask(h, seen, Asked::Init, request);
        }
        Action::Add {
            who,
            partition,
            client_version,
        } => {
            let who = seen.producer(who);
            let request = Request::Add {
                producer: who,
                partitions: [at(partition)].into(),
                client_version,
            };
            ask(h, seen, Asked::Add { who, partition }, request);
        }
        Action::Verify { who, partition } => {
            let who = seen.producer(who);
            let request = Request::Verify {
                producer: who,
                partitions: vec![at(partition)],
            };
            ask(h, seen, Asked::Verify { who, partition }, request);
        }
        Action::End {
            who,
            is_commit,
            with_new_epoch,
        } => {
            let who = seen.producer(who);
            seen.next_id += 1;
            let request = Request::End {
                producer: who,
                is_commit,
                with_new_epoch,
                new_id: Some(1000 + seen.next_id),
            };
            ask(h, seen, Asked::End { who, is_commit }, request);
        }
        Action::Outcome { stored } if !h.in_flight.is_empty() => {
            let decided = h.in_flight[0].value.as_deref().cloned();
            let result = match stored {
                true => Ok(()),
                false => Err(ErrorCode::CoordinatorNotAvailable),
            };
            let sent = h.sent.len();
            h.commit_next(result);
            for markers in &h.sent[sent..] {
                let decided = decided.as_ref().expect("markers come of a decision");
                assert!(stored, "markers of a decision that isn't in the log");
                let phase = match markers.is_commit {
                    true => Phase::PrepareCommit,
                    false => Phase::PrepareAbort,
                };
                assert_eq!(decided.phase, phase);
            }
        }
        Action::Mark { number, written } if !h.markers.is_empty() => {
            let number = number % h.markers.len();
            h.mark(number, |at| written & 1 << at.partition != 0);
        }
        Action::Outcome { .. } | Action::Mark { .. } => {}
        Action::Pass { millis } => h.pass(Duration::from_millis(millis)),
        Action::Restart { stored } => {
            let mut old = std::mem::replace(h, Harness::new());
            let stored = old.in_flight.len().min(stored);
            for write in old.in_flight.drain(..stored) {
                old.log.push((write.id, write.value.map(|value| *value)));
            }
            *h = old.restart();
            // Nobody will be answered any more.
            seen.pending.clear();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// One end a transaction, which is in the log before any partition or producer hears of it; nobody is two producers; a
    /// partition that is said to be in a transaction is in its record. In the end everybody is answered, and nothing is open.
    #[test]
    fn any_interleaving_keeps_the_transactions_promises(actions in prop::collection::vec(action(), 1..150)) {
        let mut h = Harness::new();
        (h.commits_at_once, h.marks_at_once) = (false, false);
        let mut seen = Seen::default();
        for action in actions {
            act(&mut h, &mut seen, action);
            learn(&mut h, &mut seen);
        }
        (h.commits_at_once, h.marks_at_once) = (true, true);
        while !h.in_flight.is_empty() {
            h.commit_next(Ok(()));
        }
        while !h.markers.is_empty() {
            h.mark_next(true);
        }
        h.pass(Duration::from_secs(120));
        learn(&mut h, &mut seen);
        prop_assert!(seen.pending.is_empty(), "never answered: {:?}", seen.pending);
        if let Ok(state) = h.describe() {
            prop_assert!(!state.phase.is_ending() && state.phase != Phase::Ongoing, "{:?}", state.phase);
            prop_assert!(state.partitions.is_empty());
        }
        // Every decision in the log was told to every partition that it names.
        for (_, value) in &h.log {
            let Some(decided) = value.as_ref().filter(|value| value.phase.is_ending()) else { continue };
            for partition in &decided.partitions {
                let is_told = h.sent.iter().any(|sent| {
                    sent.producer == producer(decided.producer_id, decided.epoch) && sent.partitions.contains(partition)
                });
                prop_assert!(is_told, "{decided:?} was kept from {partition:?}");
            }
        }
    }
}
