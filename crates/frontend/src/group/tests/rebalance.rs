//! How generations follow each other.

use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::group::effects::*;

/// A group that was empty waits for more to come, and begins its wait again with each that does.
#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut h = Harness::new();
    let a = h.ask(new_member("a"));
    h.pass(Duration::from_secs(2));
    let b = h.ask(new_member("b"));
    h.pass(Duration::from_secs(2));
    assert_eq!(h.reply(a), None, "the wait ended although another member had come");
    h.pass(Duration::from_secs(2));
    let (a, b) = (h.joined(a), h.joined(b));
    assert_eq!(
        (a.leader.as_str(), a.members.len()),
        ("a", 2),
        "the first to come leads and sees all"
    );
    assert_eq!(
        (b.leader.as_str(), b.members.len()),
        ("a", 0),
        "others learn who leads only"
    );
    assert_eq!((a.generation, b.generation), (1, 1));
}

/// A lone member isn't kept waiting longer than the delay.
#[test]
fn a_lone_member_waits_for_one_delay() {
    let mut h = Harness::new();
    let a = h.ask(new_member("a"));
    h.pass(Duration::from_millis(2999));
    assert_eq!(h.reply(a), None);
    h.pass(Duration::from_millis(1));
    assert_eq!(h.joined(a).generation, 1);
}

/// Rule 21: what the leader assigns reaches each member byte for byte, once it is stored, and again when asked again.
#[test]
fn rule_21_assignments_are_handed_on_verbatim_once_stored() {
    let mut h = Harness::new();
    let (a, b) = (h.ask(new_member("a")), h.ask(new_member("b")));
    h.pass(Duration::from_secs(10));
    h.joined(a);
    let generation = h.joined(b).generation;
    h.commits_at_once = false;
    let follower = h.ask(sync("b", generation, &[]));
    let leader = h.ask(sync("a", generation, &[("b", "\0\u{1}for b"), ("x", "for nobody")]));
    assert_eq!(
        (h.reply(leader), h.reply(follower)),
        (None, None),
        "answered before it was stored"
    );
    h.commit_next(Ok(()));
    let expected = SyncReply {
        error: ErrorCode::None,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignment: "\0\u{1}for b".into(),
    };
    assert_eq!(h.synced(follower), expected);
    assert_eq!(
        h.synced(leader).assignment,
        "",
        "who is given nothing gets nothing, and no error"
    );
    let again = h.ask(sync("b", generation, &[]));
    assert_eq!(h.synced(again), expected);
    assert_eq!(h.rebalances, 1);
}

/// An assignment that can't be stored makes everybody rebalance again.
#[test]
fn an_assignment_that_cannot_be_stored_is_nobodys() {
    let mut h = Harness::new();
    let (a, b) = (h.ask(new_member("a")), h.ask(new_member("b")));
    h.pass(Duration::from_secs(10));
    h.joined(a);
    let generation = h.joined(b).generation;
    h.commits_at_once = false;
    let follower = h.ask(sync("b", generation, &[]));
    let leader = h.ask(sync("a", generation, &[("b", "part")]));
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    for waiter in [leader, follower] {
        assert_eq!(h.synced(waiter).error, ErrorCode::CoordinatorNotAvailable);
    }
    assert_eq!(h.heartbeat("a", generation), ErrorCode::RebalanceInProgress);
}

/// An assignment of a generation that is over when it gets stored is nobody's.
#[test]
fn an_assignment_stored_too_late_means_nothing() {
    let mut h = Harness::new();
    let a = h.ask(new_member("a"));
    h.pass(Duration::from_secs(10));
    let generation = h.joined(a).generation;
    h.commits_at_once = false;
    let leader = h.ask(sync("a", generation, &[("a", "part")]));
    let b = h.ask(new_member("b"));
    assert_eq!(h.synced(leader).error, ErrorCode::RebalanceInProgress);
    h.commit_next(Ok(()));
    assert_eq!(h.heartbeat("a", generation), ErrorCode::RebalanceInProgress);
    let a = h.ask(rejoin("a"));
    assert_eq!(
        (h.joined(a).generation, h.joined(b).generation),
        (generation + 1, generation + 1)
    );
    assert_eq!(h.rebalances, 0);
}

/// A member that joins makes the others come again; who doesn't within the rebalance timeout is out.
#[test]
fn members_that_do_not_rejoin_in_time_are_out() {
    let mut h = Harness::new();
    let generation = h.stable(&["a", "b"]);
    let c = h.ask(new_member("c"));
    let a = h.ask(rejoin("a"));
    for _ in 0..6 {
        h.pass(Duration::from_secs(10));
        h.heartbeat("b", generation);
    }
    let (a, c) = (h.joined(a), h.joined(c));
    assert_eq!(
        (a.generation, a.members.len(), c.leader),
        (generation + 1, 2, "a".to_owned())
    );
    assert_eq!(h.heartbeat("b", generation), ErrorCode::UnknownMemberId);
}

/// If the leader doesn't come back, one of those who did leads.
#[test]
fn a_leader_that_does_not_rejoin_is_replaced() {
    let mut h = Harness::new();
    let generation = h.stable(&["a", "b"]);
    let c = h.ask(new_member("c"));
    let b = h.ask(rejoin("b"));
    h.pass(Duration::from_secs(61));
    let (b, c) = (h.joined(b), h.joined(c));
    assert_eq!(
        (b.leader.as_str(), b.members.len(), b.generation),
        ("b", 2, generation + 1)
    );
    assert_eq!(c.leader, "b");
}

/// Members that never ask for their assignment are out after the rebalance timeout.
#[test]
fn members_that_do_not_sync_in_time_are_out() {
    let mut h = Harness::new();
    let (a, b) = (h.ask(new_member("a")), h.ask(new_member("b")));
    h.pass(Duration::from_secs(10));
    h.joined(a);
    let generation = h.joined(b).generation;
    let leader = h.ask(sync("a", generation, &[]));
    assert_eq!(h.synced(leader).error, ErrorCode::None);
    for _ in 0..6 {
        h.heartbeat("a", generation);
        h.heartbeat("b", generation);
        h.pass(Duration::from_secs(10));
    }
    assert_eq!(h.heartbeat("b", generation), ErrorCode::UnknownMemberId);
    assert_eq!(h.heartbeat("a", generation), ErrorCode::RebalanceInProgress);
}

/// The same JoinGroup again is answered with the generation as it stands; one with other metadata rebalances.
#[test]
fn joining_again_with_the_same_metadata_changes_nothing() {
    let mut h = Harness::new();
    let generation = h.stable(&["a", "b"]);
    let same = h.ask(rejoin("b"));
    assert_eq!(h.joined(same).generation, generation);
    assert_eq!(h.heartbeat("a", generation), ErrorCode::None);
    let changed = Join {
        protocols: protocols(&["range", "sticky"]),
        ..join("b", "")
    };
    let changed = h.ask(Request::Join(changed));
    assert_eq!(h.reply(changed), None);
    assert_eq!(h.heartbeat("a", generation), ErrorCode::RebalanceInProgress);
}

/// A stable leader that joins again makes everybody come.
#[test]
fn a_leader_that_joins_again_forces_a_rebalance() {
    let mut h = Harness::new();
    let generation = h.stable(&["a", "b"]);
    let a = h.ask(rejoin("a"));
    assert_eq!(h.reply(a), None);
    assert_eq!(h.heartbeat("b", generation), ErrorCode::RebalanceInProgress);
}

/// The protocol that most members prefer among those that all support is chosen.
#[test]
fn the_most_preferred_common_protocol_wins() {
    let mut h = Harness::new();
    let tables = [
        ("a", ["sticky", "range"]),
        ("b", ["range", "sticky"]),
        ("c", ["range", "sticky"]),
    ];
    let ask = |(id, names): (&str, [&str; 2])| {
        Request::Join(Join {
            protocols: protocols(&names),
            ..join("", id)
        })
    };
    let waiters: Vec<Waiter> = tables.into_iter().map(|table| h.ask(ask(table))).collect();
    h.pass(Duration::from_secs(10));
    for waiter in waiters {
        assert_eq!(h.joined(waiter).protocol_name.as_deref(), Some("range"));
    }
}

/// What SyncGroup and Heartbeat refuse, and with which error.
#[test]
fn syncs_and_heartbeats_that_are_refused() {
    let mut h = Harness::new();
    let generation = h.stable(&["a"]);
    let wrong_protocol = Sync {
        member: member("a", generation),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("sticky".to_owned()),
        assignments: Default::default(),
    };
    let cases = [
        (sync("x", generation, &[]), ErrorCode::UnknownMemberId),
        (sync("a", generation + 1, &[]), ErrorCode::IllegalGeneration),
        (Request::Sync(wrong_protocol), ErrorCode::InconsistentGroupProtocol),
    ];
    for (request, expected) in cases {
        let waiter = h.ask(request);
        assert_eq!(h.synced(waiter).error, expected);
    }
    assert_eq!(h.heartbeat("a", generation - 1), ErrorCode::IllegalGeneration);
    assert_eq!(h.heartbeat("x", generation), ErrorCode::UnknownMemberId);
}

/// A restart keeps generation, members and assignments; sessions begin anew.
#[test]
fn a_group_survives_a_restart() {
    let mut h = Harness::new();
    let generation = h.stable(&["a", "b"]);
    let mut h = h.restart();
    h.pass(Duration::from_secs(29));
    assert_eq!(h.heartbeat("a", generation), ErrorCode::None);
    let waiter = h.ask(sync("b", generation, &[]));
    assert_eq!(h.synced(waiter).assignment, "b");
    h.pass(Duration::from_secs(2));
    assert_eq!(
        h.heartbeat("b", generation),
        ErrorCode::UnknownMemberId,
        "it was silent for a session"
    );
}

/// A static member that got its assignment before it was waited for, under another id, makes nobody rebalance.
#[test]
fn a_member_that_was_replaced_is_not_waited_for() {
    let mut h = Harness::new();
    let (a, s) = (h.ask(new_member("a")), h.ask(static_join("i", "", "s")));
    h.pass(Duration::from_secs(10));
    h.joined(s);
    let generation = h.joined(a).generation;
    let leader = h.ask(sync("a", generation, &[("a", "1"), ("s", "2")]));
    assert_eq!(h.synced(leader).error, ErrorCode::None);
    let back = h.ask(static_join("i", "", "s2"));
    assert_eq!(h.joined(back).error, ErrorCode::None);
    for _ in 0..8 {
        h.pass(Duration::from_secs(10));
        assert_eq!(h.heartbeat("a", generation), ErrorCode::None);
        assert_eq!(h.heartbeat("s2", generation), ErrorCode::None);
    }
}

/// What the log says of a group, with these members of `range`.
fn stored(leader: Option<&str>, ids: &[&str]) -> Record {
    let member = |id: &&str| MemberMetadata {
        member_id: (*id).to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout: Duration::from_secs(60),
        session_timeout: Duration::from_secs(30),
        subscription: "range metadata".into(),
        assignment: "part".into(),
    };
    Record::Group {
        group: GROUP.to_owned(),
        value: Some(GroupMetadata {
            protocol_type: "consumer".to_owned(),
            generation: 7,
            protocol_name: Some("range".to_owned()),
            leader: leader.map(str::to_owned),
            since_ms: 1,
            members: ids.iter().map(member).collect(),
        }),
    }
}

fn loaded(record: Record) -> Harness {
    let mut h = Harness::new();
    h.shard.replay(record, None, h.now);
    h.shard.loaded(h.now, &One(h.topic, h.batch_bytes));
    h
}

/// A stored group whose leader is missing, or isn't among its members, is led by another one and goes on.
#[test]
fn a_group_that_was_stored_without_its_leader_gets_one() {
    for leader in [None, Some("gone")] {
        let mut h = loaded(stored(leader, &["a", "b"]));
        let (a, b) = (h.ask(rejoin("a")), h.ask(rejoin("b")));
        assert_eq!(
            (h.joined(a).members.len(), h.joined(b).generation),
            (2, 8),
            "{leader:?}"
        );
    }
}

/// A member that the log names twice is one.
#[test]
fn a_member_that_is_stored_twice_is_one() {
    let mut h = loaded(stored(Some("a"), &["a", "a"]));
    assert_eq!(h.heartbeat("a", 7), ErrorCode::None);
    let a = h.ask(rejoin("a"));
    assert_eq!(h.joined(a).members.len(), 1);
}

/// A group that has more members than it may when it is read rebalances, and takes as many back as it may.
#[test]
fn a_group_that_is_too_large_when_it_is_read_rebalances() {
    let mut h = loaded(stored(Some("a"), &["a", "b", "c", "d"]));
    assert_eq!(h.heartbeat("a", 7), ErrorCode::None, "four may be in it");
    let mut h = loaded(stored(Some("a"), &["a", "b", "c", "d", "e"]));
    assert_eq!(h.heartbeat("a", 7), ErrorCode::RebalanceInProgress);
    let waiters = ["a", "b", "c", "d"].map(|id| h.ask(rejoin(id)));
    let late = h.ask(rejoin("e"));
    assert_eq!(h.joined(late).error, ErrorCode::GroupMaxSizeReached);
    h.pass(Duration::from_secs(60));
    for waiter in waiters {
        let reply = h.joined(waiter);
        assert_eq!((reply.error, reply.generation), (ErrorCode::None, 8));
    }
}
