//! What administrators see of groups, and what they may delete.

use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::group::effects::*;

fn state(h: &mut Harness) -> &'static str {
    h.described().map_or("Dead", |described| described.state)
}

fn deleted(h: &mut Harness, waiter: Waiter) -> Option<ErrorCode> {
    h.reply(waiter).map(|reply| match reply {
        Reply::Delete(error) => error,
        other => panic!("not a DeleteGroups reply: {other:?}"),
    })
}

fn delete(h: &mut Harness) -> ErrorCode {
    let waiter = h.ask(Request::Delete);
    deleted(h, waiter).expect("nothing is in flight")
}

fn delete_offsets(h: &mut Harness, topics: &[&str]) -> Result<Vec<ErrorCode>, ErrorCode> {
    let partition = |topic: &&str| TopicPartition {
        topic: (*topic).to_owned(),
        partition: 0,
    };
    let waiter = h.ask(Request::DeleteOffsets(topics.iter().map(partition).collect()));
    match h.reply(waiter) {
        Some(Reply::DeleteOffsets(result)) => result,
        other => panic!("not an OffsetDelete reply: {other:?}"),
    }
}

/// A consumer that wants these topics, in a stable group.
fn subscribed(h: &mut Harness, id: &str, protocol_type: &str, subscription: &'static [u8]) -> i32 {
    let mut ask = join("", id);
    ask.protocol_type = protocol_type.to_owned();
    ask.protocols[0].metadata = Bytes::from_static(subscription);
    let waiter = h.ask(Request::Join(ask));
    h.pass(Duration::from_secs(10));
    let generation = h.joined(waiter).generation;
    let waiter = h.ask(Request::Sync(Sync {
        member: member(id, generation),
        protocol_type: None,
        protocol_name: None,
        assignments: [(id.to_owned(), Bytes::from_static(b"part"))].into(),
    }));
    assert_eq!(h.synced(waiter).error, ErrorCode::None);
    generation
}

/// Every state has Kafka's name; what members say and have shows in a stable group only.
#[test]
fn groups_are_described_in_every_state() {
    let mut h = Harness::new();
    assert_eq!(h.described(), Err(DescribeError::Code(ErrorCode::GroupIdNotFound)));
    assert_eq!(h.shard.len(), 0, "asking makes no group");
    let a = h.ask(new_member("a"));
    assert_eq!(state(&mut h), "PreparingRebalance");
    h.pass(Duration::from_secs(10));
    let generation = h.joined(a).generation;
    let unsettled = h.described().unwrap();
    assert_eq!(
        (unsettled.state, &*unsettled.protocol_name, unsettled.members.len()),
        ("CompletingRebalance", "", 1)
    );
    assert!(unsettled.members[0].subscription.is_empty() && unsettled.members[0].assignment.is_empty());
    let waiter = h.ask(sync("a", generation, &[("a", "part")]));
    h.synced(waiter);
    let stable = h.described().unwrap();
    assert_eq!(
        (stable.state, &*stable.protocol_type, &*stable.protocol_name),
        ("Stable", "consumer", "range")
    );
    let shown = &stable.members[0];
    assert_eq!((&*shown.member_id, &*shown.client_host), ("a", "/127.0.0.1"));
    assert_eq!(
        (&shown.subscription[..], &shown.assignment[..]),
        (&b"range metadata"[..], &b"part"[..])
    );
    h.ask(leave(&["a"]));
    let empty = h.described().unwrap();
    assert_eq!(
        (empty.state, &*empty.protocol_type, empty.members.len()),
        ("Empty", "consumer", 0)
    );
}

/// A list has every group once, with its state.
#[test]
fn groups_are_listed() {
    let mut h = Harness::new();
    h.commit(nobody(), 1);
    let waiter = h.ask(Request::List);
    let only = GroupSummary {
        id: GROUP.to_owned(),
        group_type: "classic",
        state: "Empty",
        protocol_type: String::new(),
    };
    assert_eq!(h.reply(waiter), Some(Reply::List(Ok(vec![only]))));
}

/// A group is deleted only when nobody is in it; then it is gone, and stays so after a restart.
#[test]
fn a_group_is_deleted_when_it_is_empty() {
    let mut h = Harness::new();
    assert_eq!(delete(&mut h), ErrorCode::GroupIdNotFound);
    let generation = h.stable(&["a"]);
    h.commit(member("a", generation), 5);
    assert_eq!(delete(&mut h), ErrorCode::NonEmptyGroup);
    h.ask(leave(&["a"]));
    assert_eq!(delete(&mut h), ErrorCode::None);
    assert_eq!((h.committed(), h.shard.len()), (None, 0));
    assert_eq!(delete(&mut h), ErrorCode::GroupIdNotFound);
    let mut h = h.restart();
    assert_eq!((h.committed(), h.shard.len()), (None, 0));
}

/// Invariant 10: a deletion is answered, and shows, once its tombstones are committed; if they can't be, all is as before.
#[test]
fn a_deletion_shows_once_it_is_committed() {
    let mut h = Harness::new();
    let generation = h.stable(&["a"]);
    h.commit(member("a", generation), 5);
    h.ask(leave(&["a"]));
    h.commits_at_once = false;
    let first = h.ask(Request::Delete);
    assert_eq!((deleted(&mut h, first), h.committed()), (None, Some(5)));
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(deleted(&mut h, first), Some(ErrorCode::CoordinatorNotAvailable));
    assert_eq!((h.committed(), state(&mut h)), (Some(5), "Empty"));
    let second = h.ask(Request::Delete);
    assert_eq!(h.in_flight[0].records.len(), 2, "the offset's and the group's");
    h.commit_next(Ok(()));
    assert_eq!((deleted(&mut h, second), h.shard.len()), (Some(ErrorCode::None), 0));
}

/// A commit that is on its way when its group is deleted is deleted too, and doesn't come back with a restart.
#[test]
fn a_deletion_takes_commits_on_their_way() {
    let mut h = Harness::new();
    h.commits_at_once = false;
    let commit = h.commit(nobody(), 5);
    let first = h.ask(Request::Delete);
    let second = h.ask(Request::Delete);
    h.commit_next(Ok(()));
    assert_eq!(h.reply(commit), Some(Reply::Commit(ErrorCode::None)));
    h.commit_next(Ok(()));
    assert_eq!(deleted(&mut h, first), Some(ErrorCode::None));
    h.commit_next(Ok(()));
    assert_eq!(deleted(&mut h, second), Some(ErrorCode::None));
    assert_eq!((h.committed(), h.shard.len()), (None, 0));
    assert_eq!(h.restart().shard.len(), 0);
}

/// A group that always has a commit on its way can be deleted all the same, and what is committed behind that stays.
#[test]
fn commits_that_never_cease_do_not_keep_a_deletion_waiting() {
    let mut h = Harness::new();
    h.commits_at_once = false;
    h.commit(nobody(), 1);
    let deletion = h.ask(Request::Delete);
    h.commit(nobody(), 2);
    h.commit_next(Ok(()));
    h.commit(nobody(), 3);
    h.commit_next(Ok(()));
    assert_eq!(deleted(&mut h, deletion), Some(ErrorCode::None));
    let drop = h.ask(Request::DeleteOffsets(vec![at(0)]));
    h.commit(nobody(), 4);
    h.commit_next(Ok(()));
    h.commit_next(Ok(()));
    assert_eq!(h.committed(), Some(3));
    h.commit_next(Ok(()));
    assert_eq!(h.reply(drop), Some(Reply::DeleteOffsets(Ok(vec![ErrorCode::None]))));
    assert_eq!(h.committed(), None);
    h.commit_next(Ok(()));
    assert_eq!(h.committed(), Some(4));
    assert_eq!(h.restart().committed(), Some(4), "the log has it as memory had");
}

/// A member that joins while its group is being deleted is in a group that goes on.
#[test]
fn who_joins_during_a_deletion_stays() {
    let mut h = Harness::new();
    h.commit(nobody(), 5);
    h.commits_at_once = false;
    let waiter = h.ask(Request::Delete);
    let joining = h.ask(new_member("a"));
    h.commit_next(Ok(()));
    assert_eq!(deleted(&mut h, waiter), Some(ErrorCode::None));
    h.pass(Duration::from_secs(10));
    assert_eq!(h.joined(joining).error, ErrorCode::None);
    assert_eq!(h.committed(), None);
}

/// Offsets of topics that nobody in the group reads can be deleted; whose subscription can't be read may read any.
#[test]
fn offsets_are_deleted_where_nobody_reads() {
    let none = Ok(vec![ErrorCode::None]);
    let mut h = Harness::new();
    assert_eq!(delete_offsets(&mut h, &["t"]), Err(ErrorCode::GroupIdNotFound));
    h.commit(nobody(), 5);
    assert_eq!((delete_offsets(&mut h, &["t"]), h.committed()), (none.clone(), None));

    let mut h = Harness::new();
    h.commit(nobody(), 5);
    let generation = subscribed(&mut h, "a", "consumer", b"\0\0\0\0\0\x01\0\x01u\xff\xff\xff\xff");
    let both = delete_offsets(&mut h, &["u", "t"]);
    assert_eq!(both, Ok(vec![ErrorCode::GroupSubscribedToTopic, ErrorCode::None]));
    assert_eq!(h.committed(), None);
    h.commit(member("a", generation), 6);
    let mut h = h.restart();
    assert_eq!((delete_offsets(&mut h, &["t"]), h.committed()), (none, None));

    let mut h = Harness::new();
    subscribed(&mut h, "a", "consumer", b"?");
    assert_eq!(
        delete_offsets(&mut h, &["t"]),
        Ok(vec![ErrorCode::GroupSubscribedToTopic])
    );
    let mut h = Harness::new();
    subscribed(&mut h, "a", "connect", b"?");
    assert_eq!(delete_offsets(&mut h, &["t"]), Err(ErrorCode::NonEmptyGroup));
}
