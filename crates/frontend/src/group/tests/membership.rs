//! Who gets in, who is fenced, who is lost.

use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::group::effects::*;
use crate::group::membership::MAX_PENDING_JOINS;

/// Rule 20: from JoinGroup 4 on a new member is sent back with an id, which it may use until its session ends.
#[test]
fn rule_20_a_new_member_must_come_back_with_its_id() {
    let mut h = Harness::new();
    let ask = Join {
        requires_known_member_id: true,
        ..join("", "a")
    };
    let first = h.ask(Request::Join(ask.clone()));
    let reply = h.joined(first);
    assert_eq!(
        (reply.error, reply.member_id.as_str()),
        (ErrorCode::MemberIdRequired, "a")
    );
    let second = h.ask(Request::Join(Join {
        member_id: "a".to_owned(),
        ..ask.clone()
    }));
    h.pass(Duration::from_secs(10));
    assert_eq!(h.joined(second).error, ErrorCode::None);

    let mut late = Harness::new();
    let first = late.ask(Request::Join(ask.clone()));
    late.joined(first);
    late.pass(Duration::from_secs(31));
    assert_eq!(late.shard.len(), 0, "an id that nobody came back with keeps no group");
    let second = late.ask(Request::Join(Join {
        member_id: "a".to_owned(),
        ..ask
    }));
    assert_eq!(late.joined(second).error, ErrorCode::UnknownMemberId);
}

/// Rule 20: a static member that comes back takes its place without a rebalance, and its older self is fenced.
#[test]
fn rule_20_a_static_member_survives_a_restart_and_fences_its_older_self() {
    let mut h = Harness::new();
    let a = h.ask(static_join("i", "", "a"));
    h.pass(Duration::from_secs(10));
    let generation = h.joined(a).generation;
    let s = h.ask(Request::Sync(Sync {
        member: MemberRef {
            instance_id: Some("i".to_owned()),
            ..member("a", generation)
        },
        protocol_type: None,
        protocol_name: None,
        assignments: [("a".to_owned(), "part".into())].into(),
    }));
    assert_eq!(h.synced(s).assignment, "part");

    h.commits_at_once = false;
    let back = h.ask(static_join("i", "", "b"));
    assert_eq!(h.reply(back), None, "answered before its new id was stored");
    h.commit_next(Ok(()));
    let reply = h.joined(back);
    assert_eq!(
        (reply.error, reply.generation, reply.member_id.as_str()),
        (ErrorCode::None, generation, "b")
    );
    assert!(
        reply.skip_assignment && reply.members.len() == 1,
        "the leader is told to assign nothing"
    );
    let who = |id: &str| MemberRef {
        instance_id: Some("i".to_owned()),
        ..member(id, generation)
    };
    for (id, expected) in [("a", ErrorCode::FencedInstanceId), ("b", ErrorCode::None)] {
        let waiter = h.ask(Request::Heartbeat(who(id)));
        assert_eq!(h.reply(waiter), Some(Reply::Heartbeat(expected)), "{id}");
    }
    let s = h.ask(Request::Sync(Sync {
        member: who("b"),
        protocol_type: None,
        protocol_name: None,
        assignments: Default::default(),
    }));
    assert_eq!(h.synced(s).assignment, "part", "the assignment stayed");
    let old = h.ask(static_join("i", "a", ""));
    assert_eq!(h.joined(old).error, ErrorCode::FencedInstanceId);
}

/// A static member whose new id can't be stored is told so, and its old id counts again.
#[test]
fn a_static_member_keeps_its_old_id_if_the_new_one_cannot_be_stored() {
    let mut h = Harness::new();
    let a = h.ask(static_join("i", "", "a"));
    h.pass(Duration::from_secs(10));
    let generation = h.joined(a).generation;
    let who = MemberRef {
        instance_id: Some("i".to_owned()),
        ..member("a", generation)
    };
    let assignments = [("a".to_owned(), "part".into())].into();
    h.ask(Request::Sync(Sync {
        member: who.clone(),
        protocol_type: None,
        protocol_name: None,
        assignments,
    }));
    h.commits_at_once = false;
    let back = h.ask(static_join("i", "", "b"));
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(h.joined(back).error, ErrorCode::CoordinatorNotAvailable);
    let beat = h.ask(Request::Heartbeat(who));
    assert_eq!(h.reply(beat), Some(Reply::Heartbeat(ErrorCode::None)));
}

/// What JoinGroup refuses, and with which error.
#[test]
fn joins_that_are_refused() {
    let mut h = Harness::new();
    h.stable(&["a"]);
    let cases = [
        ("a member of nobody's", rejoin("x"), ErrorCode::UnknownMemberId),
        (
            "an instance of nobody's",
            static_join("i", "a", ""),
            ErrorCode::UnknownMemberId,
        ),
        (
            "another protocol type",
            Request::Join(Join {
                protocol_type: "connect".to_owned(),
                ..join("", "b")
            }),
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "no protocol in common",
            Request::Join(Join {
                protocols: protocols(&["sticky"]),
                ..join("", "b")
            }),
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            "no protocol at all",
            Request::Join(Join {
                protocols: Vec::new(),
                ..join("", "b")
            }),
            ErrorCode::InconsistentGroupProtocol,
        ),
    ];
    for (what, request, expected) in cases {
        let waiter = h.ask(request);
        assert_eq!(h.joined(waiter).error, expected, "{what}");
    }
    let mut empty = Harness::new();
    let waiter = empty.ask(rejoin("a"));
    assert_eq!(
        empty.joined(waiter).error,
        ErrorCode::UnknownMemberId,
        "an unknown group"
    );
    assert_eq!(empty.shard.len(), 0);
}

/// A group takes no more members than its limit.
#[test]
fn a_full_group_refuses_more() {
    let mut h = Harness::new();
    h.stable(&["a", "b", "c", "d"]);
    let waiter = h.ask(new_member("e"));
    assert_eq!(h.joined(waiter).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(h.heartbeat("a", 1), ErrorCode::None, "nobody else noticed");
}

/// A member that is silent for its session timeout is out, and the others rebalance; one that beats stays.
#[test]
fn a_silent_member_is_lost() {
    let mut h = Harness::new();
    let generation = h.stable(&["a", "b"]);
    for _ in 0..4 {
        h.pass(Duration::from_secs(10));
        let expected = [ErrorCode::None, ErrorCode::RebalanceInProgress];
        assert!(expected.contains(&h.heartbeat("a", generation)));
    }
    assert_eq!(h.heartbeat("b", generation), ErrorCode::UnknownMemberId);
    let waiter = h.ask(rejoin("a"));
    let reply = h.joined(waiter);
    assert_eq!((reply.generation, reply.members.len()), (generation + 1, 1));
}

/// A member that waits for the others in a JoinGroup doesn't lose its session meanwhile.
#[test]
fn waiting_keeps_a_session() {
    let mut h = Harness::new();
    let generation = h.stable(&["a", "b"]);
    let waiting = h.ask(rejoin("a"));
    for _ in 0..5 {
        h.pass(Duration::from_secs(10));
        assert_eq!(h.heartbeat("b", generation), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(h.reply(waiting), None);
    let second = h.ask(rejoin("b"));
    assert_eq!(h.joined(waiting).members.len(), 2);
    assert_eq!(h.joined(second).generation, generation + 1);
}

/// LeaveGroup answers for each member; the last one out is told when it is stored that the group is empty.
#[test]
fn leaving_answers_each_member_and_stores_an_empty_group() {
    let mut h = Harness::new();
    h.stable(&["a", "b"]);
    let waiter = h.ask(leave(&["a", "x"]));
    let members = vec![ErrorCode::None, ErrorCode::UnknownMemberId];
    assert_eq!(
        h.reply(waiter),
        Some(Reply::Leave(LeaveReply {
            error: ErrorCode::None,
            members
        }))
    );
    h.commits_at_once = false;
    let last = h.ask(leave(&["b"]));
    assert_eq!(h.reply(last), None, "answered before it was stored");
    h.commit_next(Ok(()));
    let members = vec![ErrorCode::None];
    assert_eq!(
        h.reply(last),
        Some(Reply::Leave(LeaveReply {
            error: ErrorCode::None,
            members
        }))
    );
    let Some(Record::Group { value: Some(value), .. }) = h.log.last() else {
        panic!("{:?}", h.log)
    };
    assert!(value.members.is_empty() && value.protocol_name.is_none() && value.protocol_type == "consumer");
}

/// An administrator removes a static member by its instance id alone.
#[test]
fn a_static_member_can_be_removed_by_its_instance() {
    let mut h = Harness::new();
    let a = h.ask(static_join("i", "", "a"));
    h.pass(Duration::from_secs(10));
    h.joined(a);
    let leaving = |instance: &str| Leaving {
        member_id: String::new(),
        instance_id: Some(instance.to_owned()),
    };
    let waiter = h.ask(Request::Leave(vec![leaving("i"), leaving("j")]));
    let members = vec![ErrorCode::None, ErrorCode::UnknownMemberId];
    assert_eq!(
        h.reply(waiter),
        Some(Reply::Leave(LeaveReply {
            error: ErrorCode::None,
            members
        }))
    );
}

/// What an unknown group answers to those who say that they are in it.
#[test]
fn an_unknown_group_has_no_members() {
    let mut h = Harness::new();
    assert_eq!(h.heartbeat("a", 1), ErrorCode::UnknownMemberId);
    let waiter = h.ask(sync("a", 1, &[]));
    assert_eq!(h.synced(waiter).error, ErrorCode::UnknownMemberId);
    let waiter = h.ask(leave(&["a"]));
    let members = vec![ErrorCode::UnknownMemberId];
    assert_eq!(
        h.reply(waiter),
        Some(Reply::Leave(LeaveReply {
            error: ErrorCode::None,
            members
        }))
    );
    assert_eq!(h.shard.len(), 0);
}

/// A static member whose new id was stored later than its session lasts was never lost again.
#[test]
fn a_static_member_stored_late_still_has_a_session_to_lose() {
    let mut h = Harness::new();
    let a = h.ask(static_join("i", "", "a"));
    h.pass(Duration::from_secs(10));
    let generation = h.joined(a).generation;
    let who = |id: &str| MemberRef {
        instance_id: Some("i".to_owned()),
        ..member(id, generation)
    };
    h.ask(Request::Sync(Sync {
        member: who("a"),
        protocol_type: None,
        protocol_name: None,
        assignments: Default::default(),
    }));
    h.commits_at_once = false;
    h.ask(static_join("i", "", "b"));
    h.pass(Duration::from_secs(31));
    h.commit_next(Ok(()));
    h.pass(Duration::from_secs(31));
    let beat = h.ask(Request::Heartbeat(who("b")));
    assert_eq!(h.reply(beat), Some(Reply::Heartbeat(ErrorCode::UnknownMemberId)));
}

/// A static member that restarts while its first JoinGroup waits goes on waiting: its new self isn't lost meanwhile.
#[test]
fn a_static_member_that_restarts_during_its_first_join_keeps_waiting() {
    let mut h = Harness::new();
    let generation = h.stable(&["a"]);
    let first = h.ask(static_join("i", "", "s"));
    let second = h.ask(static_join("i", "", "s2"));
    assert_eq!(h.joined(first).error, ErrorCode::FencedInstanceId);
    for _ in 0..5 {
        h.pass(Duration::from_secs(10));
        assert_eq!(h.heartbeat("a", generation), ErrorCode::RebalanceInProgress);
    }
    assert_eq!(h.reply(second), None, "its session is 30 s, and its waiting keeps it");
    let a = h.ask(rejoin("a"));
    assert_eq!(h.joined(a).members.len(), 2);
    assert_eq!(h.joined(second).error, ErrorCode::None);
}

/// Of ids that nobody comes back with the oldest is forgotten for a new one: nobody is kept out by them.
#[test]
fn the_oldest_id_that_was_handed_out_makes_room_for_a_new_one() {
    let mut h = Harness::new();
    let ask = |id: &str, new_id: String| {
        Request::Join(Join {
            requires_known_member_id: true,
            ..join(id, &new_id)
        })
    };
    for number in 0..=MAX_PENDING_JOINS {
        let waiter = h.ask(ask("", format!("m{number}")));
        assert_eq!(h.joined(waiter).error, ErrorCode::MemberIdRequired);
        if number == 0 {
            h.pass(Duration::from_millis(1));
        }
    }
    let oldest = h.ask(ask("m0", String::new()));
    assert_eq!(h.joined(oldest).error, ErrorCode::UnknownMemberId);
    let next = h.ask(ask("m1", String::new()));
    assert_eq!(h.reply(next), None, "it joins");
}

/// A group that comes and goes, for a long time, leaves no trace of each time in memory.
#[test]
fn times_that_no_longer_count_are_forgotten() {
    let mut h = Harness::new();
    for number in 0..500 {
        let id = format!("m{number}");
        h.ask(new_member(&id));
        h.ask(leave(&[&id]));
    }
    assert!(h.shard.kept_wakes() < 100, "{} times are kept", h.shard.kept_wakes());
}
