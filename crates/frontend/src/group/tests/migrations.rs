//! A group with members changes its protocol: what becomes of members, of what waits, and of what is committed.

use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::{AssignedPartitions, ConsumerAssignment};

use super::harness::*;
use crate::config::MigrationPolicy;
use crate::group::consumer::heartbeat::{Heartbeat, HeartbeatReply};
use crate::group::consumer::record::ConsumerRecord;
use crate::group::consumer::state::Partitions;
use crate::group::effects::*;
use crate::group::shard::Shard;

/// A consumer that wants the topic, in version 0.
const WANTS: &[u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";

fn consumer_join(id: &str, new_id: &str) -> Join {
    Join {
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(WANTS),
        }],
        ..join(id, new_id)
    }
}

fn part(partitions: &[i32], user_data: Option<&'static [u8]>) -> Bytes {
    let assignment = ConsumerAssignment {
        assigned_partitions: vec![AssignedPartitions {
            topic: "t".into(),
            partitions: partitions.to_vec(),
        }],
        user_data: user_data.map(Bytes::from_static),
    };
    assignment.encode_with_version(0).unwrap()
}

fn sync_of(id: &str, generation: i32, parts: &[(&str, Bytes)]) -> Request {
    Request::Sync(Sync {
        member: member(id, generation),
        protocol_type: None,
        protocol_name: None,
        assignments: parts
            .iter()
            .map(|(id, part)| ((*id).to_owned(), part.clone()))
            .collect(),
    })
}

/// Members "a", which leads and has partitions 0 and 1, and "b", which has 2, in a stable classic group; gives its generation.
fn classic(h: &mut Harness) -> i32 {
    classic_of(h, "range", None)
}

/// The same by the assignor of this name, which tells "a" this too.
fn classic_of(h: &mut Harness, assignor: &str, user_data: Option<&'static [u8]>) -> i32 {
    let waiters = ["a", "b"].map(|id| {
        let mut join = consumer_join("", id);
        join.protocols[0].name = assignor.to_owned();
        h.ask(Request::Join(join))
    });
    h.pass(Duration::from_secs(10));
    let generation = waiters.map(|waiter| h.joined(waiter).generation)[0];
    let waiter = h.ask(sync_of("b", generation, &[]));
    let parts = [("a", part(&[0, 1], user_data)), ("b", part(&[2], None))];
    let leader = h.ask(sync_of("a", generation, &parts));
    assert_eq!(h.synced(leader).error, ErrorCode::None);
    assert_eq!(h.synced(waiter).error, ErrorCode::None);
    generation
}

fn with(change: impl FnOnce(&mut Limits)) -> Harness {
    let mut limits = limits();
    change(&mut limits);
    let mut h = Harness::new();
    h.shard = Shard::new(limits);
    h
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

fn ask_to_join(h: &mut Harness, id: &str) -> Waiter {
    h.ask(Request::ConsumerHeartbeat(Box::new(joins(id))))
}

fn beat_of(h: &mut Harness, waiter: Waiter) -> HeartbeatReply {
    match h.reply(waiter) {
        Some(Reply::ConsumerHeartbeat(reply)) => *reply,
        other => panic!("not a ConsumerGroupHeartbeat reply: {other:?}"),
    }
}

fn leaves(h: &mut Harness, id: &str) -> Waiter {
    h.ask(Request::ConsumerHeartbeat(Box::new(Heartbeat {
        member_id: id.to_owned(),
        member_epoch: -1,
        ..Heartbeat::default()
    })))
}

fn group_type(h: &mut Harness) -> (&'static str, &'static str) {
    let waiter = h.ask(Request::List);
    match h.reply(waiter) {
        Some(Reply::List(Ok(groups))) => (groups[0].group_type, groups[0].state),
        other => panic!("not a ListGroups reply: {other:?}"),
    }
}

fn commit_of(h: &mut Harness, who: MemberRef, offset: i64) -> ErrorCode {
    let topic_id = h.topic;
    let waiter = h.ask(Request::Commit(Commit {
        member: who,
        offsets: vec![(
            at(0),
            CommittedOffset {
                topic_id,
                ..committed(offset)
            },
        )],
        unknown_group: ErrorCode::IllegalGeneration,
        knows_epochs: false,
    }));
    match h.reply(waiter) {
        Some(Reply::Commit(error)) => error,
        other => panic!("not an OffsetCommit reply: {other:?}"),
    }
}

/// One write makes the classic group one whose coordinator assigns: its members stay, with what they have, under their generation as
/// epoch, and are told to join again; what was committed stays, and they go on committing. All of it is in the log.
#[test]
fn a_member_of_the_new_protocol_upgrades_a_classic_group() {
    let mut h = Harness::new();
    let generation = classic(&mut h);
    assert_eq!(commit_of(&mut h, member("a", generation), 7), ErrorCode::None);
    h.commits_at_once = false;
    let waiter = ask_to_join(&mut h, "n");
    assert_eq!(h.in_flight.len(), 1, "one batch");
    let records = h.in_flight[0].records.clone();
    let group = GROUP.to_owned();
    assert_eq!(records[0], Record::Group { group, value: None });
    let classics = records.iter().filter(|record| {
        let Record::Consumer {
            record: ConsumerRecord::Member(id, Some(wants)),
            ..
        } = record
        else {
            return false;
        };
        wants.classic.is_some() && id != "n"
    });
    assert_eq!(classics.count(), 2);
    h.commit_next(Ok(()));
    h.commits_at_once = true;
    let reply = beat_of(&mut h, waiter);
    assert_eq!((reply.error, reply.member_epoch), (ErrorCode::None, generation + 1));
    assert_eq!(
        reply.assignment,
        Some(Partitions::new()),
        "everything is with the others"
    );
    let mut h = h.restart();
    assert_eq!(group_type(&mut h).0, "consumer");
    assert_eq!(h.committed(), Some(7));
    assert_eq!(commit_of(&mut h, member("a", generation), 8), ErrorCode::None);
    assert_eq!(h.heartbeat("a", generation), ErrorCode::RebalanceInProgress);
    assert_eq!(h.heartbeat("b", generation), ErrorCode::RebalanceInProgress);
    let waiter = h.ask(Request::Join(consumer_join("a", "")));
    let joined = h.joined(waiter);
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, generation + 1));
    assert_eq!(
        commit_of(&mut h, member("a", generation), 9),
        ErrorCode::None,
        "it has had that since then"
    );
    assert_eq!(
        commit_of(&mut h, member("b", generation + 1), 9),
        ErrorCode::IllegalGeneration
    );
}

/// The policy, the protocol's type, the group's size and what its members say decide whether a group is upgraded; if not, it stays
/// as it is, and the refusal says why.
#[test]
fn groups_that_cannot_be_upgraded_stay_classic() {
    let refused = |h: &mut Harness, why: &str| {
        let waiter = ask_to_join(h, "n");
        let reply = beat_of(h, waiter);
        assert_eq!(reply.error, ErrorCode::GroupIdNotFound);
        assert!(reply.message.as_ref().unwrap().contains(why), "{reply:?}");
        assert_eq!(group_type(h), ("classic", "Stable"));
    };
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let mut h = with(|limits| limits.consumer.migration = policy);
        classic(&mut h);
        refused(&mut h, "disabled");
    }
    let mut h = with(|limits| limits.consumer.max_size = 1);
    classic(&mut h);
    refused(&mut h, "too many");
    let mut h = Harness::new();
    let generation = classic_of(&mut h, "mine", Some(b"more"));
    refused(&mut h, "more than partitions");
    assert_eq!(h.heartbeat("a", generation), ErrorCode::None);
    // What librdkafka's leader hands on is what the member itself has said.
    let mut h = Harness::new();
    classic_of(&mut h, "cooperative-sticky", Some(b"more"));
    let waiter = ask_to_join(&mut h, "n");
    assert_eq!(beat_of(&mut h, waiter).error, ErrorCode::None);
    let mut h = Harness::new();
    h.stable(&["a"]);
    refused(&mut h, "can't be read");
    // A refusal of the heartbeat itself.
    let mut h = Harness::new();
    let generation = classic(&mut h);
    let bad = Heartbeat {
        regex: Some("(".to_owned()),
        ..joins("n")
    };
    let waiter = h.ask(Request::ConsumerHeartbeat(Box::new(bad)));
    assert_eq!(beat_of(&mut h, waiter).error, ErrorCode::InvalidRegularExpression);
    assert_eq!(group_type(&mut h), ("classic", "Stable"));
    assert_eq!(h.heartbeat("a", generation), ErrorCode::None);
}

/// Who waits for a rebalance of the classic group is told to join again, and finds the new one. A group amid its first rebalance
/// has no protocol yet.
#[test]
fn an_upgrade_ends_a_rebalance() {
    let mut h = Harness::new();
    let first = h.ask(Request::Join(consumer_join("", "a")));
    let waiter = ask_to_join(&mut h, "n");
    assert_eq!(beat_of(&mut h, waiter).error, ErrorCode::None);
    let reply = h.joined(first);
    assert_eq!(
        (reply.error, reply.member_id.as_str()),
        (ErrorCode::RebalanceInProgress, "a")
    );
    let waiter = h.ask(Request::Join(consumer_join("a", "")));
    assert_eq!(h.joined(waiter).error, ErrorCode::None);
    let mut h = Harness::new();
    let joins = ["a", "b"].map(|id| h.ask(Request::Join(consumer_join("", id))));
    h.pass(Duration::from_secs(10));
    let generation = joins.map(|waiter| h.joined(waiter).generation)[0];
    let follower = h.ask(sync_of("b", generation, &[]));
    ask_to_join(&mut h, "n");
    assert_eq!(h.synced(follower).error, ErrorCode::RebalanceInProgress);
    let leader = h.ask(sync_of("a", generation, &[("a", part(&[0, 1, 2], None))]));
    assert_eq!(h.synced(leader).error, ErrorCode::RebalanceInProgress);
}

/// Where an upgrade can't be stored the group is the classic one that it was, and answers what came meanwhile.
#[test]
fn an_upgrade_that_is_not_stored_leaves_a_classic_group() {
    let mut h = Harness::new();
    let generation = classic(&mut h);
    h.commits_at_once = false;
    let upgrade = ask_to_join(&mut h, "n");
    let heartbeat = h.ask(Request::Heartbeat(member("a", generation)));
    let leaving = h.ask(leave(&["b"]));
    let commit = h.commit(member("a", generation), 5);
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(beat_of(&mut h, upgrade).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(h.reply(heartbeat), Some(Reply::Heartbeat(ErrorCode::None)));
    assert!(matches!(h.reply(leaving), Some(Reply::Leave(reply)) if reply.members == [ErrorCode::None]));
    h.commits_at_once = true;
    h.commit_next(Ok(()));
    assert_eq!(h.reply(commit), Some(Reply::Commit(ErrorCode::None)));
    assert_eq!(h.committed(), Some(5));
    assert_eq!(group_type(&mut h), ("classic", "PreparingRebalance"));
    assert_eq!(h.heartbeat("a", generation), ErrorCode::RebalanceInProgress);
    let mut h = h.restart();
    assert_eq!((group_type(&mut h), h.committed()), (("classic", "Stable"), Some(5)));
}

/// When the last member of the new protocol has left, the others are a classic group again, in one write and under the epoch that
/// they know, and are asked to join; what is asked meanwhile waits for that. What was committed stays.
#[test]
fn the_last_member_of_the_new_protocol_downgrades_the_group() {
    let mut h = Harness::new();
    let generation = classic(&mut h);
    ask_to_join(&mut h, "n");
    for id in ["a", "b"] {
        let waiter = h.ask(Request::Join(consumer_join(id, "")));
        assert_eq!(h.joined(waiter).generation, generation + 1);
        let waiter = h.ask(sync_of(id, generation + 1, &[]));
        assert_eq!(h.synced(waiter).error, ErrorCode::None);
    }
    assert_eq!(commit_of(&mut h, member("a", generation + 1), 7), ErrorCode::None);
    h.commits_at_once = false;
    let leaving = leaves(&mut h, "n");
    assert_eq!(h.in_flight.len(), 1, "one batch");
    let heartbeat = h.ask(Request::Heartbeat(member("a", generation + 1)));
    let joining = h.ask(Request::Join(consumer_join("b", "")));
    assert!(h.reply(heartbeat).is_none());
    h.commit_next(Ok(()));
    h.commits_at_once = true;
    assert_eq!(beat_of(&mut h, leaving).error, ErrorCode::None);
    assert_eq!(
        h.reply(heartbeat),
        Some(Reply::Heartbeat(ErrorCode::RebalanceInProgress))
    );
    assert!(h.reply(joining).is_none(), "it waits for the other one");
    let stored = h.log.iter().rev().find_map(|record| match record {
        Record::Group { value: Some(value), .. } => Some(value),
        _ => None,
    });
    let stored = stored.unwrap();
    assert_eq!(
        (stored.generation, stored.members.len()),
        (generation + 3, 2),
        "nobody's"
    );
    let waiter = h.ask(Request::Join(consumer_join("a", "")));
    let leads = h.joined(waiter);
    assert_eq!(
        (leads.error, leads.generation, leads.members.len()),
        (ErrorCode::None, generation + 2, 2)
    );
    assert_eq!(h.joined(joining).generation, generation + 2);
    assert_eq!(h.committed(), Some(7));
    let mut h = h.restart();
    assert_eq!((group_type(&mut h), h.committed()), (("classic", "Stable"), Some(7)));
    // Which was decided, and isn't recorded.
    assert_eq!(h.heartbeat("a", generation + 1), ErrorCode::IllegalGeneration);
    assert_eq!(h.heartbeat("a", generation + 2), ErrorCode::IllegalGeneration);
}

/// A downgrade that can't be stored leaves the group as it was; it is tried again when somebody leaves, or is put out, again.
#[test]
fn a_downgrade_that_is_not_stored_leaves_the_group() {
    let mut h = Harness::new();
    classic(&mut h);
    ask_to_join(&mut h, "n");
    h.commits_at_once = false;
    let leaving = leaves(&mut h, "n");
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(beat_of(&mut h, leaving).error, ErrorCode::CoordinatorNotAvailable);
    h.commits_at_once = true;
    assert_eq!(group_type(&mut h).0, "consumer");
    let leaving = leaves(&mut h, "n");
    assert_eq!(beat_of(&mut h, leaving).error, ErrorCode::None);
    assert_eq!(group_type(&mut h), ("classic", "PreparingRebalance"));
}

/// A group of which nobody is left becomes what is joined next also where that comes while the last one's leaving is on its way.
#[test]
fn a_classic_member_may_join_while_the_last_one_leaves() {
    let mut h = Harness::new();
    ask_to_join(&mut h, "n");
    h.commits_at_once = false;
    leaves(&mut h, "n");
    let joining = h.ask(Request::Join(consumer_join("", "a")));
    h.commits_at_once = true;
    h.commit_next(Ok(()));
    h.pass(Duration::from_secs(10));
    assert_eq!(h.joined(joining).error, ErrorCode::None);
    assert_eq!(group_type(&mut h), ("classic", "CompletingRebalance"));
}

/// A group whose coordinator assigned and that couldn't be deleted doesn't come back beside the classic members that have come
/// meanwhile, nor in the log.
#[test]
fn a_deletion_that_fails_leaves_those_alone_who_came_meanwhile() {
    let mut h = Harness::new();
    ask_to_join(&mut h, "n");
    leaves(&mut h, "n");
    assert_eq!(group_type(&mut h), ("consumer", "Empty"));
    h.commits_at_once = false;
    h.ask(Request::Delete);
    let first = h.ask(Request::Join(consumer_join("", "a")));
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    h.commits_at_once = true;
    while !h.in_flight.is_empty() {
        h.commit_next(Ok(()));
    }
    h.pass(Duration::from_secs(10));
    let generation = h.joined(first).generation;
    let leader = h.ask(sync_of("a", generation, &[("a", part(&[0, 1, 2], None))]));
    assert_eq!(h.synced(leader).error, ErrorCode::None);
    assert_eq!(h.heartbeat("a", generation), ErrorCode::None);
    let mut h = h.restart();
    assert_eq!(group_type(&mut h), ("classic", "Stable"));
    assert_eq!(h.heartbeat("a", generation), ErrorCode::None);
}

/// A group whose classic kind would be larger than a batch stays one whose coordinator assigns when the last member of the new protocol
/// goes, and lets it go; it becomes a classic one with the next that goes, when it is smaller.
#[test]
fn a_group_that_is_too_large_to_be_classic_stays_as_it_is() {
    let mut h = Harness::new();
    let generation = classic(&mut h);
    ask_to_join(&mut h, "n");
    let large = |id: &str| {
        let mut join = consumer_join(id, "");
        // What a member says of itself may have anything at its end.
        let said = [&WANTS[..WANTS.len() - 4], &1_000i32.to_be_bytes(), &[0; 1_000]];
        join.protocols[0].metadata = said.concat().into();
        Request::Join(join)
    };
    for id in ["a", "b"] {
        let waiter = h.ask(large(id));
        assert_eq!(h.joined(waiter).generation, generation + 1);
        let waiter = h.ask(sync_of(id, generation + 1, &[]));
        assert_eq!(h.synced(waiter).error, ErrorCode::None);
    }
    h.batch_bytes = 2_300;
    let waiter = leaves(&mut h, "n");
    assert_eq!(beat_of(&mut h, waiter).error, ErrorCode::None);
    assert_eq!(group_type(&mut h).0, "consumer");
    assert_eq!(
        h.heartbeat("a", generation + 1),
        ErrorCode::RebalanceInProgress,
        "it goes on"
    );
    let waiter = h.ask(leave(&["b"]));
    assert!(matches!(h.reply(waiter), Some(Reply::Leave(reply)) if reply.members == [ErrorCode::None]));
    assert_eq!(group_type(&mut h).0, "classic");
    let batch_bytes = h.batch_bytes;
    let mut h = h.restart();
    h.batch_bytes = batch_bytes;
    assert_eq!(group_type(&mut h).0, "classic");
}

/// What a group is reckoned to take before it is made a classic one is no less than what it takes, and not much more.
#[test]
fn the_size_of_a_downgrade_is_reckoned_before() {
    let becomes_classic = |batch_bytes: usize| {
        let mut h = Harness::new();
        classic(&mut h);
        ask_to_join(&mut h, "n");
        h.batch_bytes = batch_bytes;
        h.commits_at_once = false;
        leaves(&mut h, "n");
        let is_downgrade = |record: &Record| matches!(record, Record::Group { value: Some(_), .. });
        let write = h.in_flight[0].records.clone();
        write.iter().any(is_downgrade).then(|| bytes_of(&write))
    };
    let bytes = becomes_classic(usize::MAX).expect("there is room");
    let least = (bytes..)
        .find(|most| becomes_classic(*most).is_some())
        .expect("at some size");
    assert!(least < bytes + 300, "{bytes} bytes need room for {least}");
}

/// A static member that comes back with the new protocol amid its classic group's rebalance gets its part, though nothing of what is
/// wanted has changed: nobody has been given anything yet.
#[test]
fn an_upgrade_by_a_static_member_amid_a_rebalance_assigns() {
    let mut h = Harness::new();
    h.ask(Request::Join(Join {
        instance_id: Some("i".to_owned()),
        ..consumer_join("", "a")
    }));
    let waiter = h.ask(Request::ConsumerHeartbeat(Box::new(Heartbeat {
        instance_id: Some("i".to_owned()),
        ..joins("n")
    })));
    let reply = beat_of(&mut h, waiter);
    let all = Partitions::from([(h.topic.unwrap(), [0, 1, 2].into())]);
    assert_eq!((reply.error, reply.assignment), (ErrorCode::None, Some(all)));
}

/// The same where a rebalance was to follow a change to the classic protocol, of which its next coordinator knows nothing.
#[test]
fn an_upgrade_by_a_static_member_behind_a_downgrade_assigns() {
    let mut h = Harness::new();
    let join = |new_id: &str| {
        Request::Join(Join {
            instance_id: Some("i".to_owned()),
            ..consumer_join("", new_id)
        })
    };
    ask_to_join(&mut h, "n");
    let waiter = h.ask(join("a"));
    assert_eq!(h.joined(waiter).error, ErrorCode::None);
    let waiter = leaves(&mut h, "n");
    assert_eq!(beat_of(&mut h, waiter).error, ErrorCode::None);
    let mut h = h.restart();
    assert_eq!(group_type(&mut h), ("classic", "Stable"));
    let waiter = h.ask(Request::ConsumerHeartbeat(Box::new(Heartbeat {
        instance_id: Some("i".to_owned()),
        ..joins("o")
    })));
    let reply = beat_of(&mut h, waiter);
    let all = Partitions::from([(h.topic.unwrap(), [0, 1, 2].into())]);
    assert_eq!((reply.error, reply.assignment), (ErrorCode::None, Some(all)));
}
