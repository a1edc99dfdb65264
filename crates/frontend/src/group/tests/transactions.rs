//! Offsets in transactions: when they show, who may commit them, what wins, what deletions and retention do to them.

use std::time::Duration;

use tailwater_kafka::batch::TransactionEnd::{self, Abort, Commit as Committed};
use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_types::TopicId;

use super::harness::*;
use crate::coordinator::InTransaction;
use crate::group::effects::*;

const PRODUCER: i64 = 7;
const OTHER: i64 = 8;

fn answer(h: &mut Harness, waiter: Waiter) -> ErrorCode {
    match h.reply(waiter) {
        Some(Reply::Commit(error) | Reply::Ended(error)) => error,
        other => panic!("not a commit's reply: {other:?}"),
    }
}

fn pend(h: &mut Harness, producer_id: i64, offset: i64) {
    let waiter = h.commit_in_transaction(nobody(), producer_id, offset);
    assert_eq!(answer(h, waiter), ErrorCode::None);
}

fn end(h: &mut Harness, producer_id: i64, end: TransactionEnd) {
    let waiter = h.end_transaction(producer_id, end);
    assert_eq!(answer(h, waiter), ErrorCode::None);
}

/// Rule 17: what an open transaction commits isn't seen, and who wants stable offsets is told so, of that partition only,
/// also by a coordinator that has read it from the log; the marker decides.
#[test]
fn rule_17_pending_offsets_are_not_seen() {
    for (decision, expected) in [(Committed, 20), (Abort, 10)] {
        for restarts in [false, true] {
            let mut h = Harness::new();
            h.commit(nobody(), 10);
            let elsewhere = Commit {
                member: nobody(),
                offsets: vec![(at(1), committed(5))],
                unknown_group: ErrorCode::None,
                knows_epochs: true,
            };
            h.ask(Request::Commit(elsewhere));
            pend(&mut h, PRODUCER, 20);
            if restarts {
                h = h.restart();
            }
            assert_eq!(h.committed(), Some(10));
            assert_eq!(h.fetched(true), Fetched::Unstable);
            let all = h.ask(Request::FetchOffsets(FetchOffsets {
                member_id: None,
                member_epoch: -1,
                require_stable: true,
                topics: None,
            }));
            let found = vec![(0, Fetched::Unstable), (1, Fetched::Offset(committed(5)))];
            let expected_all = vec![("t".to_owned(), found)];
            assert_eq!(h.reply(all), Some(Reply::FetchOffsets(Ok(expected_all))));
            end(&mut h, PRODUCER, decision);
            if restarts {
                h = h.restart();
            }
            assert_eq!(h.fetched(true), Fetched::Offset(committed(expected)));
        }
    }
}

/// Invariant 10: neither a transactional commit nor a marker shows, or is answered, before it is committed; one that can't be
/// written never shows.
#[test]
fn offsets_and_markers_count_once_they_are_in_the_log() {
    let mut h = Harness::new();
    h.commits_at_once = false;
    let pending = h.commit_in_transaction(nobody(), PRODUCER, 20);
    let marker = h.end_transaction(PRODUCER, Committed);
    let late = h.commit_in_transaction(nobody(), PRODUCER, 30);
    h.commit_next(Ok(()));
    assert_eq!((answer(&mut h, pending), h.committed()), (ErrorCode::None, None));
    assert_eq!(h.reply(marker), None);
    h.commit_next(Ok(()));
    assert_eq!((answer(&mut h, marker), h.committed()), (ErrorCode::None, Some(20)));
    h.commit_next(Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(answer(&mut h, late), ErrorCode::InvalidProducerEpoch);
    assert_eq!(h.fetched(true), Fetched::Offset(committed(20)));
    h.end_transaction(PRODUCER, Abort);
    h.commit_next(Err(ErrorCode::TransactionCoordinatorFenced));
    assert_eq!(h.restart().committed(), Some(20));
}

/// Who may commit in a transaction: members of the generation, whatever the group is doing; who doesn't say; nobody else.
#[test]
fn members_of_the_generation_commit_in_transactions() {
    use ErrorCode::*;
    let mut h = Harness::new();
    let unknown = h.commit_in_transaction(member("a", 0), PRODUCER, 1);
    assert_eq!(
        answer(&mut h, unknown),
        IllegalGeneration,
        "an unknown group, by a member"
    );
    assert_eq!(h.shard.len(), 0);
    let generation = h.stable(&["a"]);
    let fenced = MemberRef {
        instance_id: Some("i".to_owned()),
        ..member("a", generation)
    };
    let cases = [
        ("stable", member("a", generation), None),
        ("the last generation", member("a", generation - 1), IllegalGeneration),
        ("no generation", member("a", -1), IllegalGeneration),
        ("nobody of this group", member("b", generation), UnknownMemberId),
        ("an instance that isn't here", fenced, UnknownMemberId),
        ("doesn't say who consumes", nobody(), None),
    ];
    for (what, who, expected) in cases {
        let waiter = h.commit_in_transaction(who, PRODUCER, 1);
        assert_eq!(answer(&mut h, waiter), expected, "{what}");
    }
    // Amid a rebalance, which a commit outside of transactions may not be.
    let joining = h.ask(new_member("b"));
    h.ask(rejoin("a"));
    h.pass(Duration::from_secs(10));
    let next = h.joined(joining).generation;
    let plain = h.commit(member("a", next), 1);
    assert_eq!(answer(&mut h, plain), RebalanceInProgress);
    let waiter = h.commit_in_transaction(member("a", next), PRODUCER, 1);
    assert_eq!(answer(&mut h, waiter), None);
}

/// A commit in a transaction is no sign of life.
#[test]
fn transactional_commits_keep_no_session() {
    let mut h = Harness::new();
    let generation = h.stable(&["a"]);
    h.pass(Duration::from_secs(20));
    let waiter = h.commit_in_transaction(member("a", generation), PRODUCER, 1);
    assert_eq!(answer(&mut h, waiter), ErrorCode::None);
    h.pass(Duration::from_secs(11));
    assert_eq!(h.heartbeat("a", generation), ErrorCode::UnknownMemberId);
}

/// What stands last in the log wins, whenever its transaction ends, now and after a restart at any point.
#[test]
fn the_last_record_wins() {
    #[derive(Clone, Copy)]
    enum Do {
        Plain(i64),
        In(i64, i64),
        End(i64, TransactionEnd),
        DropIt,
    }
    use Do::*;
    let cases: [(&str, &[Do], Option<i64>); 8] = [
        (
            "a newer plain commit",
            &[In(PRODUCER, 1), Plain(2), End(PRODUCER, Committed)],
            Some(2),
        ),
        (
            "an older plain commit",
            &[Plain(2), In(PRODUCER, 1), End(PRODUCER, Committed)],
            Some(1),
        ),
        (
            "a plain commit in between",
            &[In(PRODUCER, 1), Plain(2), In(PRODUCER, 3), End(PRODUCER, Committed)],
            Some(3),
        ),
        (
            "two transactions, the later record ends first",
            &[
                In(PRODUCER, 1),
                In(OTHER, 2),
                End(OTHER, Committed),
                End(PRODUCER, Committed),
            ],
            Some(2),
        ),
        (
            "two transactions, the earlier record ends first",
            &[
                In(PRODUCER, 1),
                In(OTHER, 2),
                End(PRODUCER, Committed),
                End(OTHER, Committed),
            ],
            Some(2),
        ),
        (
            "the later one is aborted",
            &[
                In(PRODUCER, 1),
                In(OTHER, 2),
                End(OTHER, Abort),
                End(PRODUCER, Committed),
            ],
            Some(1),
        ),
        (
            "a deletion takes it",
            &[In(PRODUCER, 1), DropIt, End(PRODUCER, Committed)],
            None,
        ),
        (
            "a deletion takes what came before it",
            &[In(PRODUCER, 1), DropIt, In(PRODUCER, 2), End(PRODUCER, Committed)],
            Some(2),
        ),
    ];
    for (what, steps, expected) in cases {
        for restart_before in 0..=steps.len() + 1 {
            let mut h = Harness::new();
            for (number, step) in steps.iter().enumerate() {
                if number == restart_before {
                    h = h.restart();
                }
                match *step {
                    Plain(offset) => {
                        h.commit(nobody(), offset);
                    }
                    In(producer_id, offset) => pend(&mut h, producer_id, offset),
                    End(producer_id, decision) => end(&mut h, producer_id, decision),
                    DropIt => {
                        h.ask(Request::DeleteOffsets(vec![at(0)]));
                    }
                }
            }
            if restart_before == steps.len() {
                h = h.restart();
            }
            let found = expected.map_or(Fetched::Nothing, |offset| Fetched::Offset(committed(offset)));
            assert_eq!(h.fetched(true), found, "{what}, restarted before {restart_before}");
        }
    }
}

/// One marker is for all groups of the log; a group that had nothing but an aborted transaction is none.
#[test]
fn a_marker_is_for_all_groups() {
    let mut h = Harness::new();
    let groups = ["x", "y"];
    for group in groups {
        let commit = Request::CommitInTransaction(TransactionalCommit {
            member: nobody(),
            producer: InTransaction {
                producer_id: PRODUCER,
                producer_epoch: 0,
                guard: None,
            },
            offsets: vec![(at(0), committed(3))],
        });
        h.ask_of(group, commit);
    }
    pend(&mut h, OTHER, 4);
    assert_eq!(h.shard.len(), 3);
    end(&mut h, PRODUCER, Committed);
    end(&mut h, OTHER, Abort);
    assert_eq!((h.shard.len(), h.committed()), (2, None));
    for group in groups {
        let asked = FetchOffsets {
            member_id: None,
            member_epoch: -1,
            require_stable: true,
            topics: None,
        };
        let waiter = h.ask_of(group, Request::FetchOffsets(asked));
        let expected = vec![("t".to_owned(), vec![(0, Fetched::Offset(committed(3)))])];
        assert_eq!(h.reply(waiter), Some(Reply::FetchOffsets(Ok(expected))));
    }
}

/// Neither an offset that a transaction is about to replace nor a group with an open one expires; a group that is deleted
/// takes its transactions' offsets along, for good.
#[test]
fn pending_offsets_keep_what_they_are_about() {
    let mut h = Harness::new();
    h.commit(nobody(), 10);
    pend(&mut h, PRODUCER, 20);
    h.pass(Duration::from_secs(30 * 86_400));
    assert_eq!(h.committed(), Some(10), "past its retention");
    end(&mut h, PRODUCER, Abort);
    h.pass(2 * limits().expiry_interval);
    assert_eq!((h.committed(), h.shard.len()), (None, 0));

    let mut h = Harness::new();
    h.stable(&["a"]);
    h.ask(leave(&["a"]));
    pend(&mut h, PRODUCER, 20);
    h.pass(Duration::from_secs(30 * 86_400));
    assert_eq!(h.shard.len(), 1, "without offsets, but with a transaction");
    let deletion = h.ask(Request::Delete);
    assert_eq!(h.reply(deletion), Some(Reply::Delete(ErrorCode::None)));
    assert_eq!(h.shard.len(), 0);
    end(&mut h, PRODUCER, Committed);
    assert_eq!((h.committed(), h.shard.len()), (None, 0));
    let mut h = h.restart();
    assert_eq!((h.committed(), h.shard.len()), (None, 0));
}

/// A topic's successor may be committed to in a transaction: that outlasts what is left of its predecessor.
#[test]
fn pending_offsets_outlast_their_topics_predecessor() {
    let of = |topic, offset| CommittedOffset {
        topic_id: Some(TopicId(Uuid::from_u128(topic))),
        ..committed(offset)
    };
    let mut h = Harness::new();
    h.ask(Request::Commit(Commit {
        member: nobody(),
        offsets: vec![(at(0), of(1, 10))],
        unknown_group: ErrorCode::None,
        knows_epochs: true,
    }));
    h.topic = Some(TopicId(Uuid::from_u128(2)));
    h.pass(limits().expiry_interval);
    let pending = h.ask(Request::CommitInTransaction(TransactionalCommit {
        member: nobody(),
        producer: InTransaction {
            producer_id: PRODUCER,
            producer_epoch: 0,
            guard: None,
        },
        offsets: vec![(at(0), of(2, 20))],
    }));
    assert_eq!(answer(&mut h, pending), ErrorCode::None);
    h.pass(3 * limits().expiry_interval);
    end(&mut h, PRODUCER, Committed);
    assert_eq!(h.committed(), Some(20));
    assert_eq!(h.restart().committed(), Some(20));
}
