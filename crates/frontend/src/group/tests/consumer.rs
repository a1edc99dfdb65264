//! Groups whose coordinator assigns, among the others of their log: what both kinds share, and how one becomes the other.

use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::group::consumer::heartbeat::{Heartbeat, HeartbeatReply};
use crate::group::consumer::state::Partitions;
use crate::group::effects::*;

fn beat(h: &mut Harness, request: Heartbeat) -> HeartbeatReply {
    let waiter = h.ask(Request::ConsumerHeartbeat(Box::new(request)));
    match h.reply(waiter) {
        Some(Reply::ConsumerHeartbeat(reply)) => *reply,
        other => panic!("not a ConsumerGroupHeartbeat reply: {other:?}"),
    }
}

fn joins(id: &str) -> Heartbeat {
    Heartbeat {
        member_id: id.to_owned(),
        rebalance_timeout_ms: Some(60_000),
        topics: Some(["t".to_owned()].into()),
        owned: Some(Partitions::new()),
        ..Heartbeat::default()
    }
}

fn in_epoch(id: &str, member_epoch: i32) -> Heartbeat {
    Heartbeat {
        member_id: id.to_owned(),
        member_epoch,
        ..Heartbeat::default()
    }
}

fn listed(h: &mut Harness) -> Vec<(&'static str, &'static str, String)> {
    let waiter = h.ask(Request::List);
    match h.reply(waiter) {
        Some(Reply::List(Ok(groups))) => {
            let shown = groups
                .into_iter()
                .map(|group| (group.group_type, group.state, group.protocol_type));
            shown.collect()
        }
        other => panic!("not a ListGroups reply: {other:?}"),
    }
}

fn described(h: &mut Harness) -> Result<ConsumerDescription, DescribeError> {
    let waiter = h.ask(Request::DescribeConsumer);
    match h.reply(waiter) {
        Some(Reply::DescribeConsumer(described)) => described,
        other => panic!("not a ConsumerGroupDescribe reply: {other:?}"),
    }
}

fn described_as_classic(h: &mut Harness) -> Option<DescribeError> {
    let waiter = h.ask(Request::Describe);
    match h.reply(waiter) {
        Some(Reply::Describe(described)) => described.err(),
        other => panic!("not a DescribeGroups reply: {other:?}"),
    }
}

fn outcome(h: &mut Harness, waiter: Waiter) -> ErrorCode {
    match h.reply(waiter) {
        Some(Reply::Commit(error) | Reply::Delete(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Members, what they have, and what they have committed survive a restart; commits and fetches need the member's epoch.
#[test]
fn a_group_and_its_offsets_survive_a_restart() {
    let mut h = Harness::new();
    let reply = beat(&mut h, joins("a"));
    assert_eq!((reply.error, reply.member_epoch), (ErrorCode::None, 1));
    assert_eq!(
        reply.assignment.unwrap().values().map(|set| set.len()).sum::<usize>(),
        3
    );
    let waiter = h.commit(member("a", 1), 42);
    assert_eq!(outcome(&mut h, waiter), ErrorCode::None);
    let waiter = h.commit(member("a", 2), 43);
    assert_eq!(outcome(&mut h, waiter), ErrorCode::StaleMemberEpoch);
    let waiter = h.commit(nobody(), 43);
    assert_eq!(outcome(&mut h, waiter), ErrorCode::UnknownMemberId);
    let mut h = h.restart();
    assert_eq!(h.committed(), Some(42));
    assert_eq!(beat(&mut h, in_epoch("a", 1)).error, ErrorCode::None);
    let fetch = |member_id: &str, member_epoch| {
        Request::FetchOffsets(FetchOffsets {
            require_stable: true,
            member_id: Some(member_id.to_owned()),
            member_epoch,
            topics: None,
        })
    };
    for (id, epoch, expected) in [
        ("a", 1, None),
        ("a", 0, Some(ErrorCode::StaleMemberEpoch)),
        ("b", 1, Some(ErrorCode::UnknownMemberId)),
    ] {
        let waiter = h.ask(fetch(id, epoch));
        match h.reply(waiter) {
            Some(Reply::FetchOffsets(found)) => assert_eq!(found.err(), expected),
            other => panic!("{other:?}"),
        }
    }
    h.pass(Duration::from_secs(46));
    assert_eq!(beat(&mut h, in_epoch("a", 1)).error, ErrorCode::UnknownMemberId);
    assert_eq!(listed(&mut h), [("consumer", "Empty", "consumer".to_owned())]);
}

/// Offsets in transactions need the member's epoch too, under classic groups' name for it; who names nobody is believed.
#[test]
fn transactional_commits_need_the_members_epoch() {
    let mut h = Harness::new();
    beat(&mut h, joins("a"));
    let cases = [
        (member("a", 1), ErrorCode::None),
        (member("a", 2), ErrorCode::IllegalGeneration),
        (member("x", 1), ErrorCode::UnknownMemberId),
        (nobody(), ErrorCode::None),
    ];
    for (who, expected) in cases {
        let waiter = h.commit_in_transaction(who.clone(), 7, 5);
        assert_eq!(outcome(&mut h, waiter), expected, "{who:?}");
    }
}

/// Each type is described by its own request only, and says so to the other.
#[test]
fn a_group_is_described_as_what_it_is() {
    let mut h = Harness::new();
    assert_eq!(described(&mut h), Err(DescribeError::Code(ErrorCode::GroupIdNotFound)));
    beat(&mut h, joins("a"));
    assert_eq!(described_as_classic(&mut h), Some(DescribeError::OtherType));
    let group = described(&mut h).unwrap();
    assert_eq!((group.state, group.epoch, group.assignment_epoch), ("Stable", 1, 1));
    assert_eq!((group.assignor, group.members.len()), ("uniform", 1));
    assert_eq!(group.members[0].assigned, group.members[0].target);
    let mut h = Harness::new();
    h.stable(&["a"]);
    assert_eq!(described(&mut h), Err(DescribeError::OtherType));
    assert_eq!(listed(&mut h), [("classic", "Stable", "consumer".to_owned())]);
}

/// An empty group becomes one of the other kind when somebody joins so, and keeps what was committed; one with members
/// stays what it is. The log says the same.
#[test]
fn empty_groups_become_what_is_joined() {
    let mut h = Harness::new();
    let generation = h.stable(&["a"]);
    h.commit(member("a", generation), 7);
    assert_eq!(beat(&mut h, joins("b")).error, ErrorCode::GroupIdNotFound);
    h.ask(leave(&["a"]));
    assert_eq!(beat(&mut h, joins("b")).error, ErrorCode::None);
    let mut h = h.restart();
    assert_eq!(listed(&mut h), [("consumer", "Stable", "consumer".to_owned())]);
    let waiter = h.ask(new_member("c"));
    assert_eq!(h.joined(waiter).error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(h.heartbeat("c", 1), ErrorCode::UnknownMemberId);
    assert_eq!(beat(&mut h, in_epoch("b", -1)).error, ErrorCode::None);
    h.stable(&["c"]);
    assert_eq!(h.committed(), Some(7));
    let mut h = h.restart();
    assert_eq!(listed(&mut h), [("classic", "Stable", "consumer".to_owned())]);
    assert_eq!(h.committed(), Some(7));
}

/// A group is deleted when it is empty, and nothing of it is left in the log.
#[test]
fn an_empty_group_is_deleted_with_all_its_records() {
    let mut h = Harness::new();
    beat(&mut h, joins("a"));
    h.commit(member("a", 1), 7);
    let waiter = h.ask(Request::Delete);
    assert_eq!(outcome(&mut h, waiter), ErrorCode::NonEmptyGroup);
    beat(&mut h, in_epoch("a", -1));
    let waiter = h.ask(Request::Delete);
    assert_eq!(outcome(&mut h, waiter), ErrorCode::None);
    assert_eq!(h.shard.len(), 0);
    let h = h.restart();
    assert_eq!(h.shard.len(), 0);
}

/// What a live group's members don't want expires from its commit on; an empty group without offsets is forgotten.
#[test]
fn offsets_and_empty_groups_expire() {
    let mut h = Harness::new();
    beat(&mut h, joins("a"));
    h.commit(member("a", 1), 7);
    for _ in 0..8 * 86_400 / 40 {
        h.pass(Duration::from_secs(40));
        beat(&mut h, in_epoch("a", 1));
    }
    assert_eq!(h.committed(), Some(7), "a member wants the topic");
    beat(&mut h, in_epoch("a", -1));
    h.pass(Duration::from_secs(1300));
    assert_eq!(h.shard.len(), 0);
    assert_eq!(h.restart().shard.len(), 0);
}

/// A first heartbeat that is refused founds nothing, and one of a member of a group that isn't there says so.
#[test]
fn refusals_found_no_group() {
    let mut h = Harness::new();
    assert_eq!(beat(&mut h, in_epoch("a", 1)).error, ErrorCode::GroupIdNotFound);
    let bad = Heartbeat {
        regex: Some("(".to_owned()),
        ..joins("a")
    };
    assert_eq!(beat(&mut h, bad).error, ErrorCode::InvalidRegularExpression);
    assert_eq!(h.shard.len(), 0);
    h.commits_at_once = false;
    let waiter = h.ask(Request::ConsumerHeartbeat(Box::new(joins("a"))));
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    match h.reply(waiter) {
        Some(Reply::ConsumerHeartbeat(reply)) => assert_eq!(reply.error, ErrorCode::CoordinatorNotAvailable),
        other => panic!("{other:?}"),
    }
    assert_eq!(h.shard.len(), 0);
}
