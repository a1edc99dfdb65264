use tailwater_format::metadata::NodeState::*;
use tailwater_rpc::Error;

use super::*;

fn heartbeat(machine: &mut Machine, caller: Caller, stops: bool) -> Result<tailwater_format::metadata::NodeState> {
    let request = Heartbeat {
        controlled_shutdown: stops,
    };
    machine.run(|tx| nodes::heartbeat(tx, caller, &request))
}

/// A WAL node is starting until it has confirmed its device's epoch; nodes without a device have nothing to confirm.
#[test]
fn a_registration_is_complete_when_all_is_confirmed() {
    let mut machine = Machine::new();
    let mut request = request(101, Tier::Wal, 1);
    request.device = Some(report(DEVICE, 0));
    let caller = machine.try_register(&request).unwrap();
    assert_eq!(machine.node_state(101), Starting);
    let wrong = machine.run(|tx| nodes::confirm_device(tx, caller, DEVICE, DeviceEpoch(2)));
    assert!(matches!(wrong, Err(Error::Invalid(_))));
    for _ in 0..2 {
        machine
            .run(|tx| nodes::confirm_device(tx, caller, DEVICE, DeviceEpoch(1)))
            .unwrap();
        assert_eq!(machine.node_state(101), Active);
    }
    assert!(machine.effects.contains(&Effect::DeviceServes(DEVICE)));
    machine.register(1, Tier::Frontend, 1);
    assert_eq!(machine.node_state(1), Active);
}

/// Active → Fenced when the lease is lost, and back with a new epoch; the old epoch is refused meanwhile and after.
#[test]
fn a_lost_lease_fences() {
    let mut machine = Machine::new();
    let old = machine.register(1, Tier::Frontend, 1);
    machine.pass(LEASE);
    machine.chores();
    assert_eq!(machine.node_state(1), Active, "the lease isn't over yet");
    machine.pass(SECOND);
    machine.chores();
    assert_eq!(machine.node_state(1), Fenced);
    let node = NodeId(1);
    assert_eq!(heartbeat(&mut machine, old, false), Err(Error::NodeFenced { node }));
    let new = machine.register(1, Tier::Frontend, 1);
    assert_eq!(machine.node_state(1), Active);
    assert!(new.node_epoch > old.node_epoch.next(), "the fencing has raised it too");
    let stale = Error::NodeEpochStale {
        node,
        carried: old.node_epoch,
        registered: new.node_epoch,
    };
    assert_eq!(heartbeat(&mut machine, old, false), Err(stale));
    assert_eq!(heartbeat(&mut machine, new, false), Ok(Active));
}

/// A lease runs from the latest of heartbeat, activation and the end of a stall; without a lease nobody is fenced.
#[test]
fn a_lease_runs_from_the_latest_reading() {
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    machine.pass(LEASE);
    heartbeat(&mut machine, caller, false).unwrap();
    machine.pass(LEASE);
    machine.chores();
    assert_eq!(machine.node_state(1), Active, "heard a lease ago");
    machine.pass(LEASE);
    machine.timers.stalled(machine.now);
    machine.chores();
    assert_eq!(machine.node_state(1), Active, "nobody could be heard");
    machine.pass(LEASE * 2);
    machine.timers = Timers::new(machine.now);
    machine.chores();
    assert_eq!(machine.node_state(1), Active, "a controller's start fences nobody");
    machine.limits.node_lease = None;
    machine.pass(LEASE * 1000);
    machine.chores();
    assert_eq!(machine.node_state(1), Active, "no lease, no end");
}

/// ControlledShutdown → ShuttingDown → Gone, drained or silent, never Fenced; and back by registering.
#[test]
fn a_controlled_shutdown_is_no_failure() {
    for silent in [false, true] {
        let mut machine = Machine::new();
        let caller = machine.register(1, Tier::Frontend, 1);
        machine.topic(caller, "a", 2);
        let other = machine.register(2, Tier::Frontend, 1);
        assert_eq!(heartbeat(&mut machine, caller, true), Ok(ControlledShutdown));
        assert_eq!(
            heartbeat(&mut machine, caller, false),
            Ok(ControlledShutdown),
            "there is no way back"
        );
        machine.chores();
        assert_eq!(machine.node_state(1), ControlledShutdown, "it still leads");
        if silent {
            machine.pass(LEASE + SECOND);
            heartbeat(&mut machine, other, false).unwrap();
            machine.chore(nodes::expire);
            assert_eq!(machine.node_state(1), ShuttingDown);
            let fenced = heartbeat(&mut machine, caller, false);
            assert_eq!(
                fenced,
                Err(Error::NodeFenced { node: NodeId(1) }),
                "its epoch was raised"
            );
            machine.chores();
            machine.chores();
            assert_eq!(machine.node_state(1), Gone, "its partitions are led elsewhere");
        } else {
            let topic = machine.state.index().topic("a").unwrap();
            machine.run(|tx| catalog::delete_topic(tx, other, topic)).unwrap();
            machine.chores();
            assert_eq!(machine.node_state(1), ShuttingDown, "drained");
            assert_eq!(
                heartbeat(&mut machine, caller, true),
                Ok(ShuttingDown),
                "it may still call"
            );
        }
        machine.register(1, Tier::Frontend, 2);
        assert_eq!(machine.node_state(1), Active);
    }
}

/// With nobody to take over, or nothing to take, a node that stops is drained at once.
#[test]
fn a_node_alone_is_drained_at_once() {
    let mut machine = Machine::new();
    let wal = machine.wal();
    let frontend = machine.register(1, Tier::Frontend, 1);
    let compactor = machine.register(201, Tier::Compactor, 1);
    machine.topic(frontend, "a", 1);
    machine.journal(frontend);
    assert_eq!(heartbeat(&mut machine, wal, true), Ok(ShuttingDown));
    let lease = machine.lease(compactor, TaskKind::Upload).unwrap().lease;
    assert_eq!(heartbeat(&mut machine, compactor, true), Ok(ControlledShutdown));
    machine.run(|tx| tasks::release(tx, compactor, lease, false)).unwrap();
    assert_eq!(heartbeat(&mut machine, compactor, true), Ok(ShuttingDown));
    assert_eq!(heartbeat(&mut machine, frontend, true), Ok(ShuttingDown));
}

/// Registering again seals what the frontend had open, raises its partitions' epochs, and leaves them with it.
#[test]
fn registering_again_seals_and_leads_anew() {
    let mut machine = Machine::new();
    machine.wal();
    let old = machine.register(1, Tier::Frontend, 1);
    machine.topic(old, "a", 3);
    let journal = machine.journal(old);
    assert_eq!(
        machine.register(1, Tier::Frontend, 1),
        old,
        "a repeat answers as the first did"
    );
    assert!(!machine.effects.contains(&Effect::Settle(journal)));
    machine.register(1, Tier::Frontend, 2);
    assert!(machine.effects.contains(&Effect::Settle(journal)));
    let state = machine.state.journal(journal).unwrap().state;
    assert_eq!(state, tailwater_format::metadata::JournalState::Sealing);
    machine.chore(streams::place);
    for index in 0..3 {
        let row = machine.state.row(StreamId(index)).unwrap();
        assert_eq!(row.leader.unwrap().0, NodeId(1));
        assert_eq!(row.leader_epoch, LeaderEpoch(1));
        assert_eq!(row.owners, [NodeId(1)]);
    }
}

/// Who calls is checked before anything else, in both directions.
#[test]
fn callers_are_checked() {
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    machine.register(2, Tier::Frontend, 1);
    let node = NodeId(1);
    let (epoch, next) = (caller.node_epoch, caller.node_epoch.next());
    let table = [
        (
            Caller {
                node: NodeId(3),
                ..caller
            },
            Error::NodeUnknown { node: NodeId(3) },
        ),
        (
            Caller {
                node_epoch: NodeEpoch(0),
                ..caller
            },
            Error::NodeEpochStale {
                node,
                carried: NodeEpoch(0),
                registered: epoch,
            },
        ),
        (
            Caller {
                node_epoch: next,
                ..caller
            },
            Error::NodeEpochUnknown {
                node,
                carried: next,
                registered: epoch,
            },
        ),
        (
            Caller {
                controller_epoch: ControllerEpoch(6),
                ..caller
            },
            Error::NotActiveController {
                term: ControllerEpoch(5),
                seen: ControllerEpoch(6),
            },
        ),
    ];
    for (caller, refusal) in table {
        assert_eq!(nodes::check(&machine.state, caller), Err(refusal));
    }
    let older_term = Caller {
        controller_epoch: ControllerEpoch(4),
        ..caller
    };
    assert_eq!(nodes::check(&machine.state, older_term), Ok(()));
    // The epoch that a fencing has raised to was given to nobody.
    machine.pass(LEASE * 2);
    machine.chores();
    let refusal = Error::NodeEpochUnknown {
        node,
        carried: next,
        registered: next,
    };
    assert_eq!(
        nodes::check(
            &machine.state,
            Caller {
                node_epoch: next,
                ..caller
            }
        ),
        Err(refusal)
    );
}

/// A registration that doesn't fit what is known is refused, and says what was found and what was expected.
#[test]
fn registrations_are_checked() {
    let mut machine = Machine::new();
    machine.wal();
    let wal = |node, device: Option<DeviceReport>| RegisterNode {
        device,
        ..request(node, Tier::Wal, 7)
    };
    let other = DeviceId::from_bytes([8; 16]);
    let table = [
        (
            RegisterNode {
                cluster: Some(ClusterId::from_bytes([2; 16])),
                ..request(1, Tier::Frontend, 1)
            },
            "this is cluster",
        ),
        (request(1 << 31, Tier::Frontend, 1), "at most 2147483647"),
        (request(101, Tier::Frontend, 1), "is a Wal node here"),
        (wal(102, None), "have a device"),
        (
            RegisterNode {
                device: Some(report(DEVICE, 1)),
                ..request(1, Tier::Frontend, 1)
            },
            "no others do",
        ),
        (
            wal(102, Some(report(DEVICE, 1))),
            "belongs to node 101, found at node 102",
        ),
        (wal(101, Some(report(DEVICE, 0))), "has epoch 0, expected 1"),
        (wal(101, Some(report(DEVICE, 2))), "has epoch 2, expected 1"),
        (
            wal(101, Some(report(other, 3))),
            "has epoch 3, but no device of that id",
        ),
    ];
    let before = machine.state.clone();
    for (request, text) in table {
        match machine.try_register(&request) {
            Err(Error::Invalid(detail)) => assert!(detail.contains(text), "{detail}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(machine.state, before);
}

/// A device's epoch is the granted one, or the previous one while the grant is unconfirmed, whatever was lost on the way.
#[test]
fn device_epochs() {
    let mut machine = Machine::new();
    let start = |machine: &mut Machine, incarnation, found, confirm| {
        let mut request = request(101, Tier::Wal, incarnation);
        request.device = Some(report(DEVICE, found));
        let registration = machine.run(|tx| nodes::register(tx, &request))?;
        let granted = registration.device_epoch.unwrap();
        let caller = Caller {
            node: NodeId(101),
            node_epoch: registration.node_epoch,
            controller_epoch: registration.controller_epoch,
        };
        if confirm {
            machine.run(|tx| nodes::confirm_device(tx, caller, DEVICE, granted))?;
        }
        Ok::<_, Error>(granted.0)
    };
    // (incarnation, epoch in the superblock, confirms) → epoch granted
    let table = [
        (1, 0, false, Some(1)),
        (1, 0, false, Some(1)),
        (2, 0, false, Some(2)),
        (3, 2, false, Some(3)),
        (4, 2, true, Some(4)),
        (5, 2, true, None),
        (6, 3, true, None),
        (7, 4, true, Some(5)),
        (8, 4, true, None),
    ];
    for (incarnation, found, confirm, expected) in table {
        let granted = start(&mut machine, incarnation, found, confirm).ok();
        assert_eq!(granted, expected, "incarnation {incarnation}");
    }
}

/// A WAL node that has much to recover is `Starting` meanwhile: its heartbeats keep its lease, and it is given no journal
/// before it has confirmed its device.
#[test]
fn a_node_that_recovers_keeps_its_lease_and_is_given_nothing() {
    let mut machine = Machine::new();
    let frontend = machine.register(1, Tier::Frontend, 1);
    let mut request = request(101, Tier::Wal, 1);
    request.device = Some(report(DEVICE, 0));
    let wal = machine.try_register(&request).unwrap();
    for _ in 0..10 {
        machine.pass(LEASE / 2);
        for caller in [frontend, wal] {
            heartbeat(&mut machine, caller, false).unwrap();
        }
        machine.chores();
        assert_eq!(machine.node_state(101), Starting);
        let none = machine.run(|tx| journals::create_journal(tx, frontend, true));
        assert!(matches!(none, Err(Error::Unavailable { .. })), "{none:?}");
    }
    machine
        .run(|tx| nodes::confirm_device(tx, wal, DEVICE, DeviceEpoch(1)))
        .unwrap();
    machine.journal(frontend);
}

/// The record of a node that is gone is deleted after an hour. Whoever comes under its number has a higher epoch than it ever
/// had, and its own lives are told that they are fenced for as long as they ask.
#[test]
fn what_is_gone_is_forgotten_and_its_epochs_never_come_back() {
    const MINUTE: Duration = Duration::from_secs(60);
    let mut machine = Machine::new();
    machine.limits.balance_after = None;
    machine.wal();
    let frontend = machine.register(1, Tier::Frontend, 1);
    let mut lives: Vec<Caller> = Vec::new();
    for incarnation in 0..4 {
        let life = machine.register(201, Tier::Compactor, incarnation);
        assert_eq!(heartbeat(&mut machine, life, false), Ok(Active));
        assert!(lives.iter().all(|before| before.node_epoch < life.node_epoch));
        lives.push(life);
        for minutes in [1, 0, 50] {
            machine.pass(MINUTE * minutes);
            machine.chores();
        }
        assert_eq!(machine.node_state(201), Gone);
        if incarnation == 1 {
            machine.state = machine.rebuilt();
            machine.timers = Timers::new(machine.now);
            machine.pass(MINUTE * 50);
            machine.chores();
            assert_eq!(
                machine.node_state(201),
                Gone,
                "this controller doesn't know for how long"
            );
        }
        machine.pass(MINUTE * 11);
        machine.chores();
        assert_eq!(machine.state.node(NodeId(201)), None);
        machine.state = machine.rebuilt();
        for life in &lives {
            let node = NodeId(201);
            assert_eq!(heartbeat(&mut machine, *life, false), Err(Error::NodeFenced { node }));
        }
    }
    let node = NodeId(201);
    let never = Caller {
        node_epoch: NodeEpoch(1000),
        ..lives[0]
    };
    assert_eq!(heartbeat(&mut machine, never, false), Err(Error::NodeUnknown { node }));
    assert_eq!(machine.node_state(1), Fenced, "who may come back is remembered");
    assert!(machine.register(1, Tier::Frontend, 2).node_epoch > frontend.node_epoch);
}
