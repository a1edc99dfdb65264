//! Committed offsets: who may commit, when it shows, what is kept.

use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::group::effects::*;

fn answer(h: &mut Harness, waiter: Waiter) -> ErrorCode {
    match h.reply(waiter) {
        Some(Reply::Commit(error)) => error,
        other => panic!("not an OffsetCommit reply: {other:?}"),
    }
}

/// Rule 18: an unknown group has committed nothing, and that is no error.
#[test]
fn rule_18_an_unknown_group_has_no_offsets_and_no_error() {
    let mut h = Harness::new();
    assert_eq!(h.committed(), None);
    let all = h.ask(Request::FetchOffsets(FetchOffsets {
        member_id: None,
        member_epoch: -1,
        require_stable: false,
        topics: None,
    }));
    assert_eq!(h.reply(all), Some(Reply::FetchOffsets(Ok(Vec::new()))));
    assert_eq!(h.shard.len(), 0, "asking makes no group");
}

/// Invariant 10: a commit is answered, and shows, once its record is committed and not before.
#[test]
fn a_commit_shows_once_its_record_is_committed() {
    let mut h = Harness::new();
    h.commits_at_once = false;
    let first = h.commit(nobody(), 10);
    let second = h.commit(nobody(), 20);
    assert_eq!((h.reply(first), h.committed()), (None, None));
    h.commit_next(Ok(()));
    assert_eq!((answer(&mut h, first), h.committed()), (ErrorCode::None, Some(10)));
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(
        (answer(&mut h, second), h.committed()),
        (ErrorCode::CoordinatorNotAvailable, Some(10))
    );
}

/// Rule 19: metadata comes back as it was sent, also after a restart, for one partition and for all.
#[test]
fn rule_19_offsets_and_metadata_survive_a_restart() {
    let mut h = Harness::new();
    h.commit(nobody(), 10);
    let mut h = h.restart();
    let all = h.ask(Request::FetchOffsets(FetchOffsets {
        member_id: None,
        member_epoch: -1,
        require_stable: false,
        topics: None,
    }));
    let expected = vec![("t".to_owned(), vec![(0, Fetched::Offset(committed(10)))])];
    assert_eq!(h.reply(all), Some(Reply::FetchOffsets(Ok(expected))));
    h.shard.replay(
        Record::Offset {
            group: GROUP.to_owned(),
            partition: at(0),
            value: None,
        },
        None,
        h.now,
    );
    assert_eq!((h.committed(), h.shard.len()), (None, 0), "a tombstone deletes it");
}

/// Who may commit while the group is in which state.
#[test]
fn only_members_of_the_generation_commit() {
    let mut h = Harness::new();
    let unknown = h.commit(member("a", 1), 1);
    assert_eq!(
        answer(&mut h, unknown),
        ErrorCode::IllegalGeneration,
        "an unknown group, by a member of it"
    );
    let generation = h.stable(&["a"]);
    let cases = [
        (member("a", generation), ErrorCode::None),
        (member("a", generation + 1), ErrorCode::IllegalGeneration),
        (member("x", generation), ErrorCode::UnknownMemberId),
        (nobody(), ErrorCode::UnknownMemberId),
        (
            MemberRef {
                instance_id: Some("i".to_owned()),
                ..member("a", generation)
            },
            ErrorCode::UnknownMemberId,
        ),
    ];
    for (who, expected) in cases {
        let waiter = h.commit(who.clone(), 5);
        assert_eq!(answer(&mut h, waiter), expected, "{who:?}");
    }
    let b = h.ask(new_member("b"));
    let waiter = h.commit(member("a", generation), 6);
    assert_eq!(
        answer(&mut h, waiter),
        ErrorCode::None,
        "members commit what they own before they rejoin"
    );
    let a = h.ask(rejoin("a"));
    h.joined(a);
    let generation = h.joined(b).generation;
    let waiter = h.commit(member("a", generation), 7);
    assert_eq!(
        answer(&mut h, waiter),
        ErrorCode::RebalanceInProgress,
        "the assignment isn't known yet"
    );
    h.ask(leave(&["a", "b"]));
    let waiter = h.commit(nobody(), 8);
    assert_eq!(
        (answer(&mut h, waiter), h.committed()),
        (ErrorCode::None, Some(8)),
        "an empty group takes anybody's"
    );
}

/// A commit keeps the member's session, as a heartbeat does.
#[test]
fn a_commit_keeps_the_session() {
    let mut h = Harness::new();
    let generation = h.stable(&["a"]);
    for _ in 0..4 {
        h.pass(Duration::from_secs(20));
        let waiter = h.commit(member("a", generation), 1);
        assert_eq!(answer(&mut h, waiter), ErrorCode::None);
    }
}

/// Who asks for stable offsets is answered when what was on its way before has its outcome, whichever, and not later.
#[test]
fn a_stable_fetch_waits_for_what_was_written_before_it() {
    for outcome in [Ok(()), Err(ErrorCode::CoordinatorNotAvailable)] {
        let mut h = Harness::new();
        h.commit(nobody(), 1);
        h.commits_at_once = false;
        h.commit(nobody(), 2);
        let topics = Some(vec![("t".to_owned(), vec![0])]);
        let asked = FetchOffsets {
            member_id: None,
            member_epoch: -1,
            require_stable: true,
            topics,
        };
        let stable = h.ask(Request::FetchOffsets(asked.clone()));
        h.commit(nobody(), 3);
        assert_eq!((h.reply(stable), h.committed()), (None, Some(1)));
        h.commit_next(outcome);
        let expected = if outcome.is_ok() { 2 } else { 1 };
        let found = vec![("t".to_owned(), vec![(0, Fetched::Offset(committed(expected)))])];
        assert_eq!(h.reply(stable), Some(Reply::FetchOffsets(Ok(found))));
        h.commit_next(Ok(()));
        let stable = h.ask(Request::FetchOffsets(asked));
        assert!(h.reply(stable).is_some(), "nothing is on its way");
    }
}
