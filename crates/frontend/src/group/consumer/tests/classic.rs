//! Members of the classic protocol in a group whose coordinator assigns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::messages::{AssignedPartitions, ConsumerAssignment, ConsumerSubscription};
use tailwater_kafka::{ErrorCode, Message as _};

use super::harness::*;
use crate::config::MigrationPolicy;
use crate::group::consumer::record::ConsumerRecord;
use crate::group::consumer::state::Partitions;
use crate::group::effects::{Join, JoinReply, Leaving, MemberRef, Membership, Protocol, Reply, Sync, SyncReply};

/// What a consumer says in JoinGroup, in version 1.
pub fn metadata(topics: &[&str], owned: &[(&str, &[i32])]) -> Bytes {
    let owned = owned.iter().map(|(topic, partitions)| AssignedPartitions {
        topic: (*topic).into(),
        partitions: partitions.to_vec(),
    });
    let subscription = ConsumerSubscription {
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
        owned_partitions: owned.collect(),
        ..ConsumerSubscription::default()
    };
    Bytes::from([b"\0\x01", &subscription.encode(1).unwrap()[..]].concat())
}

fn join_request(id: &str, owned: &[i32]) -> Join {
    Join {
        member_id: id.to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: metadata(&["t"], &[("t", owned)]),
        }],
        requires_known_member_id: true,
        can_skip_assignment: true,
        new_member_id: "new".to_owned(),
    }
}

fn joined(h: &mut Harness, request: Join) -> JoinReply {
    match h.call(Membership::Join(request)) {
        Reply::Join(reply) => reply,
        other => panic!("not a JoinGroup reply: {other:?}"),
    }
}

fn synced(h: &mut Harness, id: &str, generation: i32) -> SyncReply {
    let sync = Sync {
        member: member(id, generation),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: BTreeMap::new(),
    };
    match h.call(Membership::Sync(sync)) {
        Reply::Sync(reply) => reply,
        other => panic!("not a SyncGroup reply: {other:?}"),
    }
}

fn beat(h: &mut Harness, id: &str, generation: i32) -> ErrorCode {
    match h.call(Membership::Heartbeat(member(id, generation))) {
        Reply::Heartbeat(error) => error,
        other => panic!("not a Heartbeat reply: {other:?}"),
    }
}

fn leave(h: &mut Harness, who: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
    let leaving = who.iter().map(|(id, instance)| Leaving {
        member_id: (*id).to_owned(),
        instance_id: instance.map(str::to_owned),
    });
    match h.call(Membership::Leave(leaving.collect())) {
        Reply::Leave(reply) => reply.members,
        other => panic!("not a LeaveGroup reply: {other:?}"),
    }
}

fn member(id: &str, generation: i32) -> MemberRef {
    MemberRef {
        member_id: id.to_owned(),
        instance_id: None,
        generation,
    }
}

fn indexes(assignment: &Bytes) -> BTreeSet<i32> {
    let assignment = ConsumerAssignment::decode_any(assignment).unwrap();
    let topics = assignment.assigned_partitions.into_iter();
    topics.flat_map(|topic| topic.partitions).collect()
}

/// Members "new" of the new protocol and "old" of the classic one, settled: gives their clients' views.
fn mixed() -> (Harness, Client, i32) {
    let mut h = Harness::new(&[("t", 4)]);
    let mut new = Client::join(&mut h, "n", &["t"]);
    let reply = joined(&mut h, join_request("old", &[]));
    assert_eq!(reply.error, ErrorCode::None);
    new.beat(&mut h);
    new.beat(&mut h);
    let reply = joined(&mut h, join_request("old", &[]));
    let sync = synced(&mut h, "old", reply.generation);
    assert_eq!((sync.error, indexes(&sync.assignment).len()), (ErrorCode::None, 2));
    assert_eq!((new.load(), h.group.state().name()), (2, "Stable"));
    (h, new, reply.generation)
}

/// A classic member joins with the id that it is given first, leads nothing, gets nothing before others have given it back,
/// hears of that from its heartbeat, and gets its part in the version that it speaks; all of it is in the log.
#[test]
fn a_classic_member_joins_and_gets_its_part() {
    let mut h = Harness::new(&[("t", 4)]);
    let mut new = Client::join(&mut h, "n", &["t"]);
    let reply = joined(&mut h, join_request("", &[]));
    assert_eq!(
        (reply.error, reply.member_id.as_str()),
        (ErrorCode::MemberIdRequired, "new")
    );
    let reply = joined(&mut h, join_request("new", &[]));
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, 2));
    assert_eq!((reply.leader.as_str(), reply.members.len()), ("", 0));
    assert_eq!(
        (reply.protocol_type.as_deref(), reply.protocol_name.as_deref()),
        (Some("consumer"), Some("range"))
    );
    let sync = synced(&mut h, "new", 2);
    assert_eq!((sync.error, indexes(&sync.assignment).len()), (ErrorCode::None, 0));
    assert_eq!(beat(&mut h, "new", 2), ErrorCode::None, "it waits for the other one");
    new.beat(&mut h);
    assert_eq!(beat(&mut h, "new", 2), ErrorCode::None);
    new.beat(&mut h);
    assert_eq!(
        beat(&mut h, "new", 2),
        ErrorCode::RebalanceInProgress,
        "what it waits for is free"
    );
    let reply = joined(&mut h, join_request("new", &[]));
    assert_eq!(reply.generation, 2);
    let sync = synced(&mut h, "new", 2);
    assert_eq!(indexes(&sync.assignment).len(), 2);
    assert_eq!(&sync.assignment[..2], b"\0\x01", "the version that it spoke");
    assert_eq!(beat(&mut h, "new", 2), ErrorCode::None);
    let mut h = h.restart();
    assert_eq!(beat(&mut h, "new", 2), ErrorCode::None);
    assert_eq!(synced(&mut h, "new", 2).assignment, sync.assignment);
}

/// An eager member has given everything back when it joins again; a cooperative one learns what to give back, keeps its
/// generation meanwhile, and nobody gets that before it has joined without it.
#[test]
fn a_classic_member_gives_back_before_another_one_gets_it() {
    let (mut h, _new, generation) = mixed();
    let has: Vec<i32> = indexes(&synced(&mut h, "old", generation).assignment)
        .into_iter()
        .collect();
    let mut third = Client::join(&mut h, "third", &["t"]);
    assert_eq!(beat(&mut h, "old", generation), ErrorCode::RebalanceInProgress);
    assert_eq!(synced(&mut h, "old", generation).error, ErrorCode::RebalanceInProgress);
    let reply = joined(&mut h, join_request("old", &has));
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, generation));
    let kept: Vec<i32> = indexes(&synced(&mut h, "old", generation).assignment)
        .into_iter()
        .collect();
    assert_eq!(kept.len(), 1);
    third.beat(&mut h);
    assert_eq!(third.load(), 0, "it hasn't said that it has given back");
    assert_eq!(beat(&mut h, "old", generation), ErrorCode::RebalanceInProgress);
    let reply = joined(&mut h, join_request("old", &kept));
    assert!(reply.generation > generation);
    assert_eq!(beat(&mut h, "old", generation), ErrorCode::IllegalGeneration);
    third.beat(&mut h);
    assert_eq!(third.load(), 1);
}

/// What a member isn't, or isn't any more, is told as in a classic group; and no offset of an older generation counts for what
/// was another one's then.
#[test]
fn strangers_and_latecomers_are_refused() {
    let (mut h, new, generation) = mixed();
    assert_eq!(beat(&mut h, "nobody", generation), ErrorCode::UnknownMemberId);
    assert_eq!(
        beat(&mut h, &new.id, new.epoch),
        ErrorCode::UnknownMemberId,
        "it doesn't speak this protocol"
    );
    assert_eq!(beat(&mut h, "old", generation + 1), ErrorCode::IllegalGeneration);
    let other = Join {
        protocols: vec![Protocol {
            name: "sticky".to_owned(),
            metadata: metadata(&["t"], &[]),
        }],
        ..join_request("other", &[])
    };
    assert_eq!(joined(&mut h, other).error, ErrorCode::InconsistentGroupProtocol);
    let connect = Join {
        protocol_type: "connect".to_owned(),
        ..join_request("other", &[])
    };
    assert_eq!(joined(&mut h, connect).error, ErrorCode::InconsistentGroupProtocol);
    let unreadable = Join {
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"\0"),
        }],
        ..join_request("other", &[])
    };
    assert_eq!(joined(&mut h, unreadable).error, ErrorCode::InconsistentGroupProtocol);
    let sync = Sync {
        member: member("old", generation),
        protocol_type: None,
        protocol_name: Some("sticky".to_owned()),
        assignments: BTreeMap::new(),
    };
    let Reply::Sync(reply) = h.call(Membership::Sync(sync)) else {
        panic!()
    };
    assert_eq!(reply.error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(
        leave(&mut h, &[("nobody", None), ("old", None), ("", Some("i"))]),
        [ErrorCode::UnknownMemberId, ErrorCode::None, ErrorCode::UnknownMemberId]
    );
    assert_eq!(h.group.state().members.len(), 1);
    h.settings.max_size = 1;
    assert_eq!(
        joined(&mut h, join_request("more", &[])).error,
        ErrorCode::GroupMaxSizeReached
    );
}

/// A classic member is lost when its own session ends, when it doesn't join after it was told to, and when it doesn't ask for
/// its assignment after it has joined.
#[test]
fn a_classic_member_is_lost_when_its_time_is_up() {
    let second = Duration::from_secs(1);
    let is_there = |h: &Harness| h.group.state().members.contains_key("old");
    let (mut h, _, generation) = mixed();
    h.pass(9 * second);
    assert!(is_there(&h));
    beat(&mut h, "old", generation);
    h.pass(9 * second);
    assert!(is_there(&h), "a heartbeat keeps its session");
    h.pass(second);
    assert!(!is_there(&h), "its own session timeout, not the group's");

    let (mut h, mut new, generation) = mixed();
    let mut third = Client::join(&mut h, "third", &["t"]);
    for _ in 0..59 {
        assert_eq!(beat(&mut h, "old", generation), ErrorCode::RebalanceInProgress);
        new.beat(&mut h);
        third.beat(&mut h);
        h.pass(second);
    }
    assert!(is_there(&h));
    h.pass(second);
    assert!(!is_there(&h), "it was to join again");

    let (mut h, mut new, generation) = mixed();
    joined(&mut h, join_request("old", &[0, 1, 2, 3]));
    for _ in 0..59 {
        assert_eq!(beat(&mut h, "old", generation), ErrorCode::None);
        new.beat(&mut h);
        h.pass(second);
    }
    assert!(is_there(&h));
    h.pass(second);
    assert!(!is_there(&h), "it was to ask for its assignment");
}

/// Who was put out and comes back with what it had is no member: that may be with others by now. With nothing it is as new.
#[test]
fn a_classic_member_that_was_put_out_loses_what_it_had_first() {
    let (mut h, mut new, _) = mixed();
    for _ in 0..20 {
        h.pass(Duration::from_secs(1));
        new.beat(&mut h);
    }
    assert!(!h.group.state().members.contains_key("old"));
    let back = joined(&mut h, join_request("old", &[0]));
    assert_eq!(back.error, ErrorCode::UnknownMemberId);
    assert_eq!(joined(&mut h, join_request("old", &[])).error, ErrorCode::None);
}

/// New partitions are assigned also where only classic members are left to hear of it.
#[test]
fn classic_members_alone_get_new_partitions() {
    let (mut h, new, generation) = mixed();
    h.settings.migration = MigrationPolicy::Upgrade;
    assert_eq!(leave(&mut h, &[(&new.id, None)]), [ErrorCode::None]);
    assert_eq!(beat(&mut h, "old", generation), ErrorCode::RebalanceInProgress);
    let reply = joined(&mut h, join_request("old", &[]));
    assert_eq!(indexes(&synced(&mut h, "old", reply.generation).assignment).len(), 4);
    h.set_topic("t", 6);
    assert_eq!(beat(&mut h, "old", reply.generation), ErrorCode::RebalanceInProgress);
    let reply = joined(&mut h, join_request("old", &[]));
    assert_eq!(indexes(&synced(&mut h, "old", reply.generation).assignment).len(), 6);
}

/// The group's members go on as a classic group when the last one of the new protocol has left, however that was, and the policy
/// and the group's size allow it: then nothing of this half is left in the log.
#[test]
fn the_last_member_of_the_new_protocol_dissolves_the_group() {
    let (mut h, new, _) = mixed();
    h.commits_at_once = false;
    h.ask(crate::group::consumer::heartbeat::Heartbeat {
        member_epoch: -1,
        ..new.request()
    });
    let write = h.in_flight.as_ref().unwrap();
    let dissolved = write.dissolved.as_ref().unwrap();
    assert!(dissolved.rebalances);
    assert_eq!(dissolved.state.members.keys().collect::<Vec<_>>(), ["old"]);
    assert_eq!(dissolved.state.epoch, 2, "the generation that its members know");
    assert!(
        write
            .records
            .iter()
            .all(|record| !matches!(record, ConsumerRecord::Member(_, Some(_))))
    );
    assert_eq!(write.records.last(), Some(&ConsumerRecord::Epoch(None)));

    let (mut h, _, generation) = mixed();
    h.commits_at_once = false;
    for _ in 0..9 {
        h.ask_any(Membership::Heartbeat(member("old", generation)));
        h.pass(Duration::from_secs(5));
    }
    assert!(
        h.in_flight.as_ref().unwrap().dissolved.is_some(),
        "its session has ended"
    );

    for stays in [true, false] {
        let (mut h, new, _) = mixed();
        match stays {
            true => h.settings.migration = MigrationPolicy::Upgrade,
            false => h.settings.classic_max_size = 0,
        }
        h.commits_at_once = false;
        h.ask_any(Membership::Leave(vec![Leaving {
            member_id: new.id,
            instance_id: None,
        }]));
        assert!(h.in_flight.unwrap().dissolved.is_none());
    }
    let (mut h, new, _) = mixed();
    h.commits_at_once = false;
    let both = [new.id.as_str(), "old"].map(|id| Leaving {
        member_id: id.to_owned(),
        instance_id: None,
    });
    h.ask_any(Membership::Leave(both.to_vec()));
    assert!(h.in_flight.unwrap().dissolved.is_none(), "nobody is left");
}

/// A static member changes its protocol under its instance id, in either direction, and keeps what it had and shall have; its old
/// self is fenced, or unknown.
#[test]
fn a_static_member_changes_its_protocol() {
    let of_instance = |id: &str| Join {
        instance_id: Some("i".to_owned()),
        ..join_request(id, &[])
    };
    let mut h = Harness::new(&[("t", 4)]);
    let _other = Client::join(&mut h, "n", &["t"]);
    let as_new = joined(
        &mut h,
        Join {
            new_member_id: "first".to_owned(),
            ..of_instance("")
        },
    );
    assert_eq!((as_new.error, as_new.member_id.as_str()), (ErrorCode::None, "first"));
    let target = h.group.state().target_of("first");
    let epoch = h.group.state().epoch;
    // Its classic self may still run: who speaks the new protocol takes its place at once.
    let mut next = Client {
        id: "second".to_owned(),
        ..Client::default()
    };
    let reply = h.heartbeat(static_join("i", "second", &["t"]));
    assert_eq!(reply.error, ErrorCode::None);
    next.take(reply);
    assert_eq!(
        (h.group.state().target_of("second"), h.group.state().epoch),
        (target.clone(), epoch)
    );
    assert_eq!(beat(&mut h, "first", as_new.generation), ErrorCode::UnknownMemberId);
    assert_eq!(joined(&mut h, of_instance("first")).error, ErrorCode::FencedInstanceId);
    // And back.
    let again = joined(
        &mut h,
        Join {
            new_member_id: "third".to_owned(),
            ..of_instance("")
        },
    );
    assert_eq!((again.error, again.member_id.as_str()), (ErrorCode::None, "third"));
    assert_eq!(
        (h.group.state().target_of("third"), h.group.state().epoch),
        (target, epoch)
    );
    assert_eq!(h.heartbeat(next.request()).error, ErrorCode::UnknownMemberId);
    let unknown = Join {
        instance_id: Some("j".to_owned()),
        ..join_request("fourth", &[])
    };
    assert_eq!(joined(&mut h, unknown).error, ErrorCode::UnknownMemberId);
    assert_eq!(
        leave(&mut h, &[("second", Some("i")), ("", Some("i"))]),
        [ErrorCode::FencedInstanceId, ErrorCode::None]
    );
}

/// A static classic member that takes the place of the last one of the new protocol makes the group a classic one, without a
/// rebalance if its wishes are the same.
#[test]
fn a_static_member_that_comes_back_as_classic_dissolves_the_group() {
    for (topics, rebalances) in [(&["t"][..], false), (&["t", "u"][..], true)] {
        let mut h = Harness::new(&[("t", 4), ("u", 1)]);
        let reply = h.heartbeat(static_join("i", "first", &["t"]));
        let has = reply.assignment.unwrap();
        h.commits_at_once = false;
        let waiter = h.ask_any(Membership::Join(Join {
            instance_id: Some("i".to_owned()),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: metadata(topics, &[]),
            }],
            ..join_request("", &[])
        }));
        let dissolved = h.in_flight.as_ref().unwrap().dissolved.clone().unwrap();
        assert_eq!(dissolved.rebalances, rebalances);
        let target: &Partitions = &dissolved.state.target_of("new");
        assert_eq!(target, &has);
        assert!(h.reply_of_any(waiter).is_none(), "it waits for the log");
        h.commit(Ok(()));
        let Some(Reply::Join(reply)) = h.reply_of_any(waiter) else {
            panic!()
        };
        assert_eq!((reply.error, reply.member_id.as_str()), (ErrorCode::None, "new"));
        assert_eq!(reply.generation == dissolved.state.epoch, !rebalances);
    }
}
