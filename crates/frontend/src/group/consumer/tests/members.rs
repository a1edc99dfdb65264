//! How members come, go, and get what they shall have.

use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::group::consumer::heartbeat::Heartbeat;
use crate::group::consumer::record;
use crate::group::consumer::state::{LEAVING_FOR_A_WHILE, Partitions};

fn error(h: &mut Harness, request: Heartbeat) -> ErrorCode {
    h.heartbeat(request).error
}

/// The first member has all partitions with its first answer; a second one gets its share as soon as that is given back.
#[test]
fn partitions_go_over_when_they_are_given_back() {
    let mut h = Harness::new(&[("t", 12)]);
    let mut first = Client::join(&mut h, "a", &["t"]);
    assert_eq!((first.epoch, first.load()), (1, 12));
    let mut second = Client::join(&mut h, "b", &["t"]);
    assert_eq!(
        (second.epoch, second.load()),
        (2, 0),
        "the first one has all of it still"
    );
    let before = first.has.clone();
    first.beat(&mut h);
    assert_eq!(
        (first.epoch, first.load()),
        (1, 6),
        "it is told to give back, in its epoch"
    );
    second.beat(&mut h);
    assert_eq!(second.load(), 0, "it hasn't said that it has given back");
    // The client still works on its last records.
    let slow = Client {
        has: before,
        ..first.clone()
    };
    assert_eq!(h.heartbeat(slow.request()).assignment, None);
    second.beat(&mut h);
    assert_eq!(second.load(), 0);
    first.beat(&mut h);
    assert_eq!(first.epoch, 2);
    second.beat(&mut h);
    assert_eq!((second.load(), h.group.state().name()), (6, "Stable"));
    let mut h = h.restart();
    assert_eq!(h.group.state().name(), "Stable");
    first.beat(&mut h);
    second.beat(&mut h);
    assert!(first.errors.is_empty() && second.errors.is_empty());
}

/// Three over twelve; one leaves, and what it had goes to the others, who keep what they had.
#[test]
fn a_member_that_leaves_frees_what_it_had() {
    let mut h = Harness::new(&[("t", 12)]);
    let mut clients: Vec<Client> = ["a", "b", "c"]
        .iter()
        .map(|id| Client::join(&mut h, id, &["t"]))
        .collect();
    h.settle(&mut clients);
    assert!(clients.iter().all(|client| client.load() == 4));
    let gone = clients.remove(0);
    let kept: Vec<Partitions> = clients.iter().map(|client| client.has.clone()).collect();
    let left = h.heartbeat(Heartbeat {
        member_epoch: -1,
        ..gone.request()
    });
    assert_eq!((left.error, left.member_epoch), (ErrorCode::None, -1));
    h.settle(&mut clients);
    for (client, kept) in clients.iter().zip(kept) {
        assert_eq!(client.load(), 6);
        assert!(kept[&id_of("t")].is_subset(&client.has[&id_of("t")]));
    }
    assert_eq!(error(&mut h, gone.request()), ErrorCode::UnknownMemberId);
}

/// A member without heartbeats is put out after the session timeout, one that gives nothing back after its rebalance
/// timeout; both are told so, and the others get what they had. So it is after a restart.
#[test]
fn members_whose_time_is_up_are_put_out() {
    let mut h = Harness::new(&[("t", 4)]);
    let silent = Client::join(&mut h, "a", &["t"]);
    let mut other = Client::join(&mut h, "b", &["t"]);
    let mut h = h.restart();
    h.pass(SESSION - Duration::from_secs(1));
    other.beat(&mut h);
    assert_eq!(other.load(), 0);
    h.pass(Duration::from_secs(2));
    other.beat(&mut h);
    assert_eq!(other.load(), 4);
    assert_eq!(error(&mut h, silent.request()), ErrorCode::UnknownMemberId);
    // "b" goes on with heartbeats, but keeps what it shall give back.
    Client::join(&mut h, "c", &["t"]);
    other.beat(&mut h);
    let stubborn = Client {
        has: [(id_of("t"), (0..4).collect())].into(),
        ..other.clone()
    };
    for _ in 0..5 {
        assert_eq!(error(&mut h, stubborn.request()), ErrorCode::None);
        assert_eq!(error(&mut h, join("c", &["t"])), ErrorCode::None);
        h.pass(Duration::from_secs(13));
    }
    assert_eq!(error(&mut h, stubborn.request()), ErrorCode::UnknownMemberId);
    let mut last = Client::join(&mut h, "c", &["t"]);
    last.beat(&mut h);
    assert_eq!(last.load(), 4);
}

/// An epoch that isn't the member's is fenced, but for the previous one of a member that missed an answer.
#[test]
fn epochs_are_checked() {
    let mut h = Harness::new(&[("t", 4)]);
    let mut first = Client::join(&mut h, "a", &["t"]);
    let late = first.clone();
    Client::join(&mut h, "b", &["t"]);
    first.beat(&mut h);
    first.beat(&mut h);
    assert_eq!(first.epoch, 2);
    let with_epoch = |epoch| Heartbeat {
        member_epoch: epoch,
        ..first.request()
    };
    assert_eq!(error(&mut h, with_epoch(3)), ErrorCode::FencedMemberEpoch);
    assert_eq!(
        error(&mut h, with_epoch(1)),
        ErrorCode::None,
        "it may have missed the answer"
    );
    assert_eq!(
        error(&mut h, late.request()),
        ErrorCode::FencedMemberEpoch,
        "it has what it gave back"
    );
    let silent = Heartbeat {
        owned: None,
        ..with_epoch(1)
    };
    assert_eq!(error(&mut h, silent), ErrorCode::FencedMemberEpoch);
    assert_eq!(
        error(&mut h, join("a", &["t"])),
        ErrorCode::None,
        "whoever begins anew may"
    );
    assert_eq!(h.group.state().members.len(), 2);
}

/// Who leaves for a while keeps its partitions for whoever comes back with its instance, until its session ends.
#[test]
fn static_members_survive_a_restart() {
    let mut h = Harness::new(&[("t", 4)]);
    assert_eq!(h.heartbeat(static_join("i", "a", &["t"])).error, ErrorCode::None);
    let mut other = Client::join(&mut h, "b", &["t"]);
    let mut first = Client {
        id: "a".to_owned(),
        epoch: 1,
        has: [(id_of("t"), (0..4).collect())].into(),
        ..Client::default()
    };
    for _ in 0..3 {
        first.beat(&mut h);
        other.beat(&mut h);
    }
    assert_eq!((first.load(), other.load()), (2, 2));
    assert_eq!(
        error(&mut h, static_join("i", "a2", &["t"])),
        ErrorCode::UnreleasedInstanceId
    );
    let with = |id: &str, epoch| Heartbeat {
        member_id: id.to_owned(),
        member_epoch: epoch,
        instance_id: Some("i".to_owned()),
        ..Heartbeat::default()
    };
    let left = h.heartbeat(with("a", -2));
    assert_eq!((left.error, left.member_epoch), (ErrorCode::None, -2));
    let epoch = h.group.state().epoch;
    let back = h.heartbeat(static_join("i", "a2", &["t"]));
    assert_eq!(back.assignment, Some(first.has.clone()), "without a rebalance");
    assert_eq!((back.member_epoch, h.group.state().epoch), (epoch, epoch));
    assert_eq!(error(&mut h, with("a", epoch)), ErrorCode::FencedInstanceId);
    assert_eq!(error(&mut h, with("a2", -2)), ErrorCode::None);
    let mut h = h.restart();
    h.pass(SESSION / 2);
    other.beat(&mut h);
    h.pass(SESSION / 2 + Duration::from_secs(1));
    other.beat(&mut h);
    assert_eq!(other.load(), 4, "it didn't come back in time");
}

/// What makes no sense is refused before anything changes, and so is one member too many.
#[test]
fn senseless_requests_are_refused() {
    let h = Harness::new(&[("t", 4)]);
    let j = || join("a", &["t"]);
    let refused = [
        Heartbeat {
            rebalance_timeout_ms: None,
            ..j()
        },
        Heartbeat { owned: None, ..j() },
        Heartbeat { topics: None, ..j() },
        Heartbeat {
            instance_id: Some(String::new()),
            ..j()
        },
        Heartbeat {
            rack_id: Some(String::new()),
            ..j()
        },
        Heartbeat {
            member_id: String::new(),
            ..j()
        },
        Heartbeat {
            member_epoch: -2,
            ..j()
        },
        Heartbeat {
            member_epoch: -3,
            ..j()
        },
    ];
    for request in refused {
        assert_eq!(
            request.validate(true).unwrap_err().0,
            ErrorCode::InvalidRequest,
            "{request:?}"
        );
    }
    let unknown = Heartbeat {
        assignor: Some("sticky".to_owned()),
        ..j()
    };
    assert_eq!(unknown.validate(true).unwrap_err().0, ErrorCode::UnsupportedAssignor);
    assert_eq!(j().validate(true), Ok(()));
    assert_eq!(
        Heartbeat {
            member_id: String::new(),
            ..j()
        }
        .validate(false),
        Ok(())
    );
    let mut h = h;
    for id in ["a", "b", "c", "d"] {
        Client::join(&mut h, id, &["t"]);
    }
    assert_eq!(error(&mut h, join("e", &["t"])), ErrorCode::GroupMaxSizeReached);
    assert_eq!(error(&mut h, join("a", &["t"])), ErrorCode::None);
}

/// A decision counts when its record is stored: what waits for it is decided then, and a failure leaves all as it was.
#[test]
fn nothing_is_told_before_it_is_stored() {
    let mut h = Harness::new(&[("t", 4)]);
    h.commits_at_once = false;
    let first = h.ask(join("a", &["t"]));
    let second = h.ask(join("b", &["t"]));
    assert_eq!((h.reply(first), h.reply(second)), (None, None));
    assert!(h.group.state().members.is_empty());
    h.commit(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(h.reply(first).unwrap().error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(h.reply(second), None, "its own write is on its way now");
    h.commit(Ok(()));
    let reply = h.reply(second).unwrap();
    assert_eq!(reply.assignment.unwrap()[&id_of("t")].len(), 4);
    assert_eq!(h.group.state().members.keys().collect::<Vec<_>>(), ["b"]);
}

/// Within the assignment interval nothing is assigned anew, but for the first time.
#[test]
fn assignments_keep_their_distance() {
    let mut h = Harness::new(&[("t", 4)]);
    h.settings.assignment_interval = Duration::from_secs(1);
    let first = Client::join(&mut h, "a", &["t"]);
    assert_eq!(first.load(), 4);
    let mut clients = vec![first, Client::join(&mut h, "b", &["t"])];
    assert_eq!(h.group.state().name(), "Assigning");
    h.settle(&mut clients);
    assert_eq!((clients[0].load(), clients[1].load()), (4, 0));
    h.pass(Duration::from_secs(1));
    h.settle(&mut clients);
    assert_eq!((clients[0].load(), clients[1].load()), (2, 2));
}

/// What compaction leaves of the log, each key's last record at its own place, says the same as all of it: a member that came
/// from another address has what it had, and a static member's target outlives the pods that it was made for.
#[test]
fn a_compacted_log_says_the_same() {
    let mut h = Harness::new(&[("t", 4), ("u", 1)]);
    let mut first = Client::join(&mut h, "a", &["t"]);
    first.host = "elsewhere".to_owned();
    first.beat(&mut h);
    h.compact(h.log.len());
    let mut h = h.restart();
    first.beat(&mut h);
    assert_eq!((first.errors.len(), first.epoch, first.load()), (0, 1, 4));

    let mut h = Harness::new(&[("t", 1), ("u", 1)]);
    let leave = |id: &str, epoch| Heartbeat {
        member_epoch: epoch,
        ..static_join("pod-0", id, &["t"])
    };
    h.heartbeat(static_join("pod-0", "a", &["t"]));
    h.heartbeat(leave("a", LEAVING_FOR_A_WHILE));
    let back = h.heartbeat(Heartbeat {
        client_host: "elsewhere".to_owned(),
        ..static_join("pod-0", "b", &["t"])
    });
    assert_eq!(back.assignment.map(|has| has.len()), Some(1));
    Client::join(&mut h, "c", &["u"]);
    h.compact(h.log.len());
    let mut h = h.restart();
    h.heartbeat(leave("b", LEAVING_FOR_A_WHILE));
    let again = h.heartbeat(static_join("pod-0", "d", &["t"]));
    assert_eq!(again.error, ErrorCode::None);
    assert_eq!(again.assignment, Some([(id_of("t"), [0].into())].into()));
}

/// While the last assignment is too short ago for another, nobody keeps or gets what it doesn't want any more (KAFKA-19431).
#[test]
fn what_is_unwanted_does_not_wait_for_the_next_assignment() {
    let mut h = Harness::new(&[("t", 2), ("u", 2)]);
    h.settings.assignment_interval = Duration::from_secs(1);
    let mut client = Client::join(&mut h, "a", &["t"]);
    assert_eq!(client.load(), 2);
    let changed = Heartbeat {
        topics: Some(["u".to_owned()].into()),
        ..client.request()
    };
    client.take(h.heartbeat(changed));
    assert_eq!(client.load(), 0);
    client.beat(&mut h);
    h.pass(Duration::from_secs(1));
    client.beat(&mut h);
    assert_eq!(client.has.keys().copied().collect::<Vec<_>>(), [id_of("u")]);

    // A pod that comes back with another subscription.
    let mut h = Harness::new(&[("t", 2), ("u", 2)]);
    h.settings.assignment_interval = Duration::from_secs(1);
    h.heartbeat(static_join("pod-0", "a", &["t"]));
    h.heartbeat(Heartbeat {
        member_epoch: LEAVING_FOR_A_WHILE,
        ..static_join("pod-0", "a", &["t"])
    });
    let back = h.heartbeat(static_join("pod-0", "b", &["u"]));
    assert_eq!(
        (back.error, back.assignment),
        (ErrorCode::None, Some(Partitions::new()))
    );
}

/// Members whose heartbeats had to wait while the log stood still stay, however long that was; who was silent goes.
#[test]
fn a_log_that_stands_still_puts_nobody_out() {
    let mut h = Harness::new(&[("t", 4)]);
    h.settings.max_size = 10;
    let mut clients: Vec<Client> = ["a", "b", "silent"]
        .iter()
        .map(|id| Client::join(&mut h, id, &["t"]))
        .collect();
    h.settle(&mut clients);
    h.commits_at_once = false;
    h.ask(join("c", &["t"]));
    h.pass(SESSION + Duration::from_secs(5));
    // The log goes on, and what has waited meanwhile is taken before anybody's time is looked at.
    h.commit(Ok(()));
    assert_eq!(h.group.state().members.len(), 4);
    h.commits_at_once = true;
    for client in &mut clients[..2] {
        client.beat(&mut h);
        assert!(client.errors.is_empty(), "{:?}", client.errors);
    }
    h.pass(Duration::ZERO);
    let left: Vec<_> = h.group.state().members.keys().map(String::as_str).collect();
    assert_eq!(left, ["a", "b"], "whoever joined and gave up is silent, too");
}

/// A member that is told to give back something else has its rebalance timeout for that, not the rest of the last one.
#[test]
fn each_revocation_has_its_own_time() {
    let mut h = Harness::new(&[("t", 6)]);
    let mut first = Client::join(&mut h, "a", &["t"]);
    let all = first.has.clone();
    Client::join(&mut h, "b", &["t"]);
    first.beat(&mut h);
    assert_eq!(first.load(), 3);
    let beats = |h: &mut Harness, seconds: u64| {
        for _ in 0..seconds / 10 {
            h.pass(Duration::from_secs(10));
            assert_eq!(error(h, join("b", &["t"])), ErrorCode::None);
        }
    };
    // It is slow, but not too slow.
    let slow = Client {
        has: all,
        ..first.clone()
    };
    beats(&mut h, 40);
    assert_eq!(error(&mut h, slow.request()), ErrorCode::None);
    let mut third = Client::join(&mut h, "c", &["t"]);
    let before = first.has.clone();
    first.beat(&mut h);
    assert_eq!(first.load(), 2, "there is more to give back");
    let slow = Client {
        has: before,
        ..first.clone()
    };
    for _ in 0..5 {
        beats(&mut h, 10);
        third.beat(&mut h);
        assert_eq!(error(&mut h, slow.request()), ErrorCode::None);
    }
    beats(&mut h, 10);
    third.beat(&mut h);
    beats(&mut h, 10);
    assert_eq!(error(&mut h, slow.request()), ErrorCode::UnknownMemberId);
}

/// What many ask at once is stored in writes that a batch has room for.
#[test]
fn requests_together_fit_into_a_batch() {
    let mut h = Harness::new(&[]);
    h.settings.max_size = 100;
    h.commits_at_once = false;
    let topics: Vec<String> = (0..2_000).map(|n| format!("a-topic-with-a-longer-name-{n}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    for n in 0..20 {
        h.ask(join(&format!("m{n}"), &topics));
    }
    let mut writes = 0;
    while let Some(write) = &h.in_flight {
        let encoded = write.records.iter().map(|record| record::encode("g", record).unwrap());
        let bytes: usize = encoded.map(|(_, value)| value.map_or(0, |value| value.len())).sum();
        assert!(bytes < 512 << 10, "{bytes} bytes");
        writes += 1;
        h.commit(Ok(()));
    }
    assert!(writes > 2, "{writes}");
    assert_eq!(h.group.state().members.len(), 20);
}

/// While the log stands still only so many requests wait, and so large ones; who comes then is told to come again, and lives.
#[test]
fn what_waits_for_the_log_is_bounded() {
    let mut h = Harness::new(&[("t", 1)]);
    h.commits_at_once = false;
    h.ask(join("a", &["t"]));
    let beat = || Heartbeat {
        member_id: "b".to_owned(),
        member_epoch: 1,
        ..Heartbeat::default()
    };
    let waiters: Vec<_> = (0..5_000).map(|_| h.ask(beat())).collect();
    let refused = waiters.iter().filter_map(|waiter| h.reply(*waiter)).collect::<Vec<_>>();
    assert_eq!(refused.len(), 5_000 - 4_096);
    assert!(
        refused
            .iter()
            .all(|reply| reply.error == ErrorCode::CoordinatorNotAvailable)
    );
    h.commit(Ok(()));
    let answered = waiters.iter().filter_map(|waiter| h.reply(*waiter)).count();
    assert_eq!(answered, 4_096, "the others when the log goes on");
    h.ask(join("c", &["t"]));
    let large = || Heartbeat {
        topics: Some(["x".repeat(6 << 20)].into()),
        ..beat()
    };
    let waiters = [large(), large(), large()].map(|request| h.ask(request));
    let errors = waiters.map(|waiter| h.reply(waiter).map(|reply| reply.error));
    assert_eq!(errors, [None, None, Some(ErrorCode::CoordinatorNotAvailable)]);
}
