//! What is forgotten, and when: offsets past their retention or without their topic, empty groups.

use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::batch::TransactionEnd;
use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_types::TopicId;

use super::harness::*;
use crate::group::effects::*;

const DAY: Duration = Duration::from_secs(86_400);
/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(1_000 * 86_400);
const DAY_MS: i64 = 86_400_000;

fn subscription(topic: &str) -> Bytes {
    assert_eq!(topic.len(), 1);
    [b"\0\0\0\0\0\x01\0\x01", topic.as_bytes(), b"\xff\xff\xff\xff"]
        .concat()
        .into()
}

/// A stable group of one member that is never lost; gives its generation.
fn live(h: &mut Harness, protocol_type: &str, metadata: Bytes) -> i32 {
    let mut ask = join("", "a");
    (ask.session_timeout, ask.rebalance_timeout) = (FOR_EVER, FOR_EVER);
    ask.protocol_type = protocol_type.to_owned();
    ask.protocols[0].metadata = metadata;
    let waiter = h.ask(Request::Join(ask));
    h.pass(Duration::from_secs(10));
    let generation = h.joined(waiter).generation;
    let waiter = h.ask(Request::Sync(Sync {
        member: member("a", generation),
        protocol_type: None,
        protocol_name: None,
        assignments: [("a".to_owned(), "part".into())].into(),
    }));
    assert_eq!(h.synced(waiter).error, ErrorCode::None);
    generation
}

fn commit_now(h: &mut Harness, who: MemberRef, change: impl FnOnce(&mut CommittedOffset)) {
    let mut offset = CommittedOffset {
        commit_timestamp_ms: h.now.wall_ms,
        ..committed(5)
    };
    change(&mut offset);
    let waiter = h.ask(Request::Commit(Commit {
        member: who,
        offsets: vec![(at(0), offset)],
        unknown_group: ErrorCode::IllegalGeneration,
        knows_epochs: true,
    }));
    assert_eq!(h.reply(waiter), Some(Reply::Commit(ErrorCode::None)));
}

fn commit_now_in_transaction(h: &mut Harness) {
    let now_ms = h.now.wall_ms;
    let waiter = h.ask(Request::CommitInTransaction(TransactionalCommit {
        member: nobody(),
        producer: InTransaction {
            producer_id: 1,
            producer_epoch: 0,
            guard: None,
        },
        offsets: vec![(
            at(0),
            CommittedOffset {
                commit_timestamp_ms: now_ms,
                ..committed(5)
            },
        )],
    }));
    assert_eq!(h.reply(waiter), Some(Reply::Commit(ErrorCode::None)));
    h.end_transaction(1, TransactionEnd::Commit);
}

/// How many whole days after its commit an offset is still there, of 30.
fn days_kept(h: &mut Harness) -> usize {
    // So that every look is behind the hour of day that it is for.
    h.pass(Duration::from_secs(3600));
    (0..30)
        .take_while(|_| {
            h.pass(DAY);
            h.committed().is_some()
        })
        .count()
}

/// Rule 19: the retention of offsets counts from when the group is empty, however long ago they were committed.
#[test]
fn rule_19_retention_counts_from_when_the_group_is_empty() {
    let mut h = Harness::new();
    let generation = live(&mut h, "consumer", subscription("t"));
    commit_now(&mut h, member("a", generation), |_| {});
    h.pass(20 * DAY);
    h.ask(leave(&["a"]));
    assert_eq!(days_kept(&mut h), 6, "7 days are kept after the last one has left");
    assert_eq!(h.shard.len(), 0, "and then the group goes too");
    let mut h = h.restart();
    assert_eq!((h.committed(), h.shard.len()), (None, 0));
}

/// What is committed to a group long after its last member left has its whole retention, on each of many days, over restarts,
/// in transactions too; Kafka forgets it once if the group is empty for longer than that.
#[test]
fn rule_19_a_commit_to_a_group_long_empty_is_kept() {
    for in_transaction in [false, true] {
        let mut h = Harness::new();
        let generation = live(&mut h, "consumer", subscription("t"));
        commit_now(&mut h, member("a", generation), |_| {});
        h.ask(leave(&["a"]));
        for day in 0..20 {
            if in_transaction {
                commit_now_in_transaction(&mut h);
            } else {
                commit_now(&mut h, nobody(), |_| {});
            }
            for _ in 0..4 {
                h.pass(DAY / 4);
                assert_eq!(h.committed(), Some(5), "day {day}, in transaction: {in_transaction}");
            }
            h = h.restart();
        }
        assert_eq!(days_kept(&mut h), 5, "of 7, one of which has passed");
        assert_eq!(h.shard.len(), 0);
    }
}

/// A group goes with the last of its offsets. What was committed to it meanwhile is a new group's, which nobody was ever a
/// member of, in memory as in the log.
#[test]
fn a_group_that_is_forgotten_leaves_nothing_to_who_commits_later() {
    let mut h = Harness::new();
    let generation = live(&mut h, "consumer", subscription("t"));
    commit_now(&mut h, member("a", generation), |_| {});
    h.ask(leave(&["a"]));
    h.commits_at_once = false;
    h.pass(8 * DAY);
    let kinds: Vec<usize> = h.in_flight.iter().map(|write| write.records.len()).collect();
    assert_eq!(kinds, [1, 1], "the offset, and the group with it");
    h.commit(nobody(), 6);
    while !h.in_flight.is_empty() {
        h.commit_next(Ok(()));
    }
    let seen = |h: &mut Harness| (h.committed(), h.described().unwrap().protocol_type);
    assert_eq!(seen(&mut h), (Some(6), String::new()));
    assert_eq!(seen(&mut h.restart()), (Some(6), String::new()));
}

/// A restart doesn't begin the retention of an empty group anew.
#[test]
fn retention_goes_on_over_a_restart() {
    let mut h = Harness::new();
    let generation = live(&mut h, "consumer", subscription("t"));
    commit_now(&mut h, member("a", generation), |_| {});
    h.ask(leave(&["a"]));
    h.pass(4 * DAY);
    let mut h = h.restart();
    assert_eq!(days_kept(&mut h), 2);
}

/// From when retention counts, by what the group is: never while somebody may need the offset.
#[test]
fn offsets_are_kept_while_somebody_may_need_them() {
    type Change = fn(&mut CommittedOffset, i64);
    let as_it_is: Change = |_, _| {};
    let says_2_days: Change = |offset, now| offset.expire_timestamp_ms = now + 2 * DAY_MS;
    let says_10_days: Change = |offset, now| offset.expire_timestamp_ms = now + 10 * DAY_MS;
    type Case = (&'static str, Option<(&'static str, Bytes)>, Change, usize);
    let cases: [Case; 9] = [
        ("nobody was ever a member", None, as_it_is, 6),
        ("it says itself when", None, says_2_days, 1),
        ("it says itself when, later", None, says_10_days, 9),
        ("a member reads it", Some(("consumer", subscription("t"))), as_it_is, 30),
        (
            "a member reads it",
            Some(("consumer", subscription("t"))),
            says_2_days,
            30,
        ),
        ("no member reads it", Some(("consumer", subscription("u"))), as_it_is, 6),
        (
            "no member reads it",
            Some(("consumer", subscription("u"))),
            says_2_days,
            1,
        ),
        ("a member may read it", Some(("consumer", "?".into())), as_it_is, 30),
        (
            "members of another kind",
            Some(("connect", "?".into())),
            says_2_days,
            30,
        ),
    ];
    for (what, group, change, expected) in cases {
        let mut h = Harness::new();
        let who = match group {
            Some((protocol_type, metadata)) => member("a", live(&mut h, protocol_type, metadata)),
            None => nobody(),
        };
        let now_ms = h.now.wall_ms;
        commit_now(&mut h, who, |offset| change(offset, now_ms));
        assert_eq!(days_kept(&mut h), expected, "{what}");
    }
}

/// While a group rebalances nothing of it expires, not even what nobody reads.
#[test]
fn nothing_expires_during_a_rebalance() {
    let mut h = Harness::new();
    let generation = live(&mut h, "consumer", subscription("u"));
    commit_now(&mut h, member("a", generation), |_| {});
    let waiter = h.ask(new_member("b"));
    h.pass(Duration::from_secs(1));
    assert_eq!((h.reply(waiter), days_kept(&mut h)), (None, 30));
}

/// A group that nobody is in and that has no offsets is forgotten at the next look, in the log too; if that can't be
/// written it stays, until the look behind that.
#[test]
fn an_empty_group_without_offsets_is_forgotten() {
    let mut h = Harness::new();
    live(&mut h, "consumer", subscription("t"));
    h.ask(leave(&["a"]));
    assert_eq!(h.shard.len(), 1);
    h.commits_at_once = false;
    h.pass(limits().expiry_interval);
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!((h.shard.len(), h.in_flight.len()), (1, 0));
    h.pass(limits().expiry_interval);
    h.commit_next(Ok(()));
    assert_eq!(h.shard.len(), 0);
    assert!(matches!(h.log.last(), Some(Record::Group { value: None, .. })));
}

/// Somebody who was given an id may come back with it: its group isn't forgotten.
#[test]
fn a_group_that_somebody_may_come_back_to_stays() {
    let mut h = Harness::new();
    live(&mut h, "consumer", subscription("t"));
    h.ask(leave(&["a"]));
    let waiter = h.ask(Request::Join(Join {
        requires_known_member_id: true,
        session_timeout: FOR_EVER,
        ..join("", "b")
    }));
    assert_eq!(h.joined(waiter).error, ErrorCode::MemberIdRequired);
    h.pass(DAY);
    assert_eq!(h.shard.len(), 1);
}

/// Offsets of a topic that was deleted go when it was missed at two looks in a row, also of a group that lives; one that was
/// only not known yet keeps them. A topic that was made again under the name is another one.
#[test]
fn offsets_go_with_their_topic() {
    let [first, second] = [1, 2].map(|id| TopicId(Uuid::from_u128(id)));
    let look = limits().expiry_interval;
    let cases: [(&str, [Option<TopicId>; 3], bool); 5] = [
        ("it stays", [Some(first), Some(first), Some(first)], true),
        ("it is gone", [Some(first), None, None], false),
        ("it comes late", [None, Some(first), Some(first)], true),
        ("it comes and goes", [None, Some(first), None], true),
        ("it is made anew", [Some(first), Some(second), Some(second)], false),
    ];
    for (what, seen, is_kept) in cases {
        let mut h = Harness::new();
        h.topic = Some(first);
        let generation = live(&mut h, "consumer", subscription("t"));
        commit_now(&mut h, member("a", generation), |offset| offset.topic_id = Some(first));
        for topic in seen {
            h.topic = topic;
            assert!(h.committed().is_some(), "{what}: one look is too few");
            h.pass(look);
        }
        assert_eq!(h.committed().is_some(), is_kept, "{what}");
    }
}

/// An offset that expires while another write of its group is on its way is left until that has its outcome; many are
/// forgotten in parts that fit into a batch.
#[test]
fn tombstones_are_written_in_parts_and_behind_what_is_on_its_way() {
    let mut h = Harness::new();
    let offsets = (0..1_100).map(|partition| (at(partition), committed(5))).collect();
    h.ask(Request::Commit(Commit {
        member: nobody(),
        offsets,
        unknown_group: ErrorCode::IllegalGeneration,
        knows_epochs: true,
    }));
    h.commits_at_once = false;
    h.commit(nobody(), 6);
    h.pass(8 * DAY);
    assert_eq!(h.in_flight.len(), 1, "the commit only");
    h.commit_next(Ok(()));
    h.pass(limits().expiry_interval);
    let sizes: Vec<usize> = h.in_flight.iter().map(|write| write.records.len()).collect();
    assert_eq!(sizes, [500, 500, 100]);
    assert_eq!(h.committed(), Some(6), "not before it is committed");
    while !h.in_flight.is_empty() {
        h.commit_next(Ok(()));
    }
    assert_eq!((h.committed(), h.shard.len()), (None, 0));
    assert_eq!(h.restart().shard.len(), 0);
}
