use tailwater_format::metadata::ObjectLife;
use tailwater_rpc::Error;

use super::super::tasks::{lease, release, renew};
use super::*;

struct Fixture {
    machine: Machine,
    frontend: Caller,
    compactor: Caller,
}

fn fixture() -> Fixture {
    let mut machine = Machine::new();
    machine.limits.node_lease = None;
    machine.wal();
    let frontend = machine.register(1, Tier::Frontend, 1);
    let compactor = machine.register(201, Tier::Compactor, 1);
    machine.topic(frontend, "a", 2);
    machine.journal(frontend);
    Fixture {
        machine,
        frontend,
        compactor,
    }
}

/// A task has one holder: another gets it when the time is over, the holder is registered anew, or it was given back; then the
/// old lease is refused.
#[test]
fn a_lease_has_one_holder() {
    let Fixture {
        mut machine, compactor, ..
    } = fixture();
    let other = machine.register(202, Tier::Compactor, 1);
    let first = machine.lease(compactor, TaskKind::Upload).unwrap();
    assert!(machine.lease(other, TaskKind::Upload).is_none());
    machine.pass(LEASE * 3);
    machine.run(|tx| renew(tx, compactor, first.lease)).unwrap();
    machine.pass(LEASE * 3);
    assert!(machine.lease(other, TaskKind::Upload).is_none(), "renewed in time");
    machine.pass(SECOND);
    machine
        .run(|tx| renew(tx, compactor, first.lease))
        .expect("late, but nobody else has it");
    machine.pass(LEASE * 3 + SECOND);
    let second = machine.lease(other, TaskKind::Upload).unwrap();
    assert!(second.lease.epoch > first.lease.epoch);
    let task = first.lease.task;
    let fenced = Error::LeaseFenced { task };
    assert_eq!(machine.run(|tx| renew(tx, compactor, first.lease)), Err(fenced.clone()));
    assert_eq!(
        machine.run(|tx| renew(tx, compactor, second.lease)),
        Err(fenced.clone()),
        "of another holder"
    );
    assert_eq!(
        machine.run(|tx| release(tx, compactor, first.lease, false)),
        Err(fenced)
    );
    machine.register(202, Tier::Compactor, 2);
    let third = machine.lease(compactor, TaskKind::Upload).unwrap();
    machine.run(|tx| release(tx, compactor, third.lease, false)).unwrap();
    let fourth = machine.lease(compactor, TaskKind::Upload).unwrap();
    assert!(fourth.lease.epoch > third.lease.epoch);
    let frontend = machine.register(1, Tier::Frontend, 9);
    let refused = machine.run(|tx| lease(tx, frontend, &[TaskKind::Upload], WALL_MS));
    assert!(matches!(refused, Err(Error::Invalid(_))));
}

/// A controller's restart takes no lease away, and gives none out again before its time.
#[test]
fn leases_outlive_the_controller() {
    let Fixture {
        mut machine, compactor, ..
    } = fixture();
    let other = machine.register(202, Tier::Compactor, 1);
    let held = machine.lease(compactor, TaskKind::Upload).unwrap().lease;
    machine.pass(LEASE * 3);
    machine.state = machine.rebuilt();
    machine.timers = Timers::new(machine.now);
    machine.pass(LEASE * 3);
    assert!(machine.lease(other, TaskKind::Upload).is_none());
    machine.run(|tx| renew(tx, compactor, held)).unwrap();
}

/// An owner's journals are uploaded in order; different owners' side by side.
#[test]
fn uploads_are_in_order_of_an_owners_journals() {
    let Fixture {
        mut machine,
        frontend,
        compactor,
    } = fixture();
    let neighbour = machine.register(2, Tier::Frontend, 1);
    let second = machine.journal(frontend);
    let theirs = machine.journal(neighbour);
    let journal_of = |lease: Lease| match lease.work {
        Work::Upload { journal, .. } => journal,
        Work::Delete { .. } | Work::Clean { .. } => panic!("only uploads were asked for"),
    };
    let leased = [(); 3].map(|()| machine.lease(compactor, TaskKind::Upload).map(journal_of));
    assert_eq!(leased, [Some(JournalId(0)), Some(theirs), None]);
    machine
        .run(|tx| journals::commit_seal(tx, JournalId(0), Lsn(0)))
        .unwrap();
    let next = machine.lease(compactor, TaskKind::Upload).map(journal_of);
    assert_eq!(next, Some(second), "the one before is gone");
}

/// A prepared object expires with its lease or its deadline; it can't be committed then, is deleted at once, and again until its
/// writer can't write any more.
#[test]
fn expired_objects_are_deleted_until_nobody_writes() {
    for by_deadline in [false, true] {
        let Fixture {
            mut machine, compactor, ..
        } = fixture();
        let upload = machine.lease(compactor, TaskKind::Upload).unwrap().lease;
        let id = machine.prepare(compactor, upload, 1)[0];
        machine.chores();
        assert_eq!(machine.object_life(id), Some(ObjectLife::Prepared));
        if by_deadline {
            machine.pass(LEASE * 9);
        } else {
            machine.run(|tx| release(tx, compactor, upload, false)).unwrap();
        }
        machine.chores();
        assert_eq!(machine.object_life(id), Some(ObjectLife::Expired));
        if by_deadline {
            let request = commit(upload, JournalId(0), (0, 1), vec![object(id, &[])]);
            let refused = machine.run(|tx| objects::commit(tx, compactor, &request));
            assert_eq!(refused, Err(Error::ObjectExpired { object: id }));
        }
        let mut deletions = 0;
        while machine.object_life(id).is_some() {
            if let Some(Lease { lease, work, .. }) = machine.lease(compactor, TaskKind::Delete) {
                let key = machine.state.object(id).unwrap().key.clone();
                assert_eq!(
                    work,
                    Work::Delete {
                        objects: vec![(id, key)]
                    }
                );
                assert!(
                    machine.lease(compactor, TaskKind::Delete).is_none(),
                    "it is being deleted"
                );
                machine.run(|tx| release(tx, compactor, lease, true)).unwrap();
                deletions += 1;
            }
            machine.pass(LEASE);
            machine.chores();
        }
        // Each delay, the first at once, the last when deadline and delay have passed.
        assert_eq!(deletions, if by_deadline { 2 } else { 4 });
    }
}

/// A marked object is deleted once, after the delay, and again if that failed; a restart begins the delay anew.
#[test]
fn marked_objects_are_deleted_after_the_delay() {
    let Fixture {
        mut machine,
        frontend,
        compactor,
    } = fixture();
    let upload = machine.lease(compactor, TaskKind::Upload).unwrap().lease;
    let id = machine.prepare(compactor, upload, 1)[0];
    let request = commit(upload, JournalId(0), (0, 1), vec![object(id, &[(0, 0, 5)])]);
    machine.run(|tx| objects::commit(tx, compactor, &request)).unwrap();
    let topic = machine.state.index().topic("a").unwrap();
    machine.run(|tx| catalog::delete_topic(tx, frontend, topic)).unwrap();
    machine.chores();
    machine.pass(LEASE * 5);
    assert!(machine.lease(compactor, TaskKind::Delete).is_none());
    machine.state = machine.rebuilt();
    machine.timers = Timers::new(machine.now);
    machine.pass(LEASE * 5);
    assert!(machine.lease(compactor, TaskKind::Delete).is_none());
    machine.pass(LEASE);
    let failed = machine.lease(compactor, TaskKind::Delete).unwrap().lease;
    machine.run(|tx| release(tx, compactor, failed, false)).unwrap();
    assert!(machine.lease(compactor, TaskKind::Delete).is_none());
    machine.pass(LEASE * 6);
    let lost = machine.lease(compactor, TaskKind::Delete).unwrap();
    machine.pass(LEASE * 4);
    let again = machine.lease(compactor, TaskKind::Delete).unwrap();
    assert_eq!(
        (again.lease.task, &again.work),
        (lost.lease.task, &lost.work),
        "its holder was silent"
    );
    machine.run(|tx| release(tx, compactor, again.lease, true)).unwrap();
    assert_eq!(machine.object_life(id), None);
    assert_eq!(machine.rebuilt(), machine.state);
}

/// What a commit abandons expires with it.
#[test]
fn abandoned_objects_expire() {
    let Fixture {
        mut machine, compactor, ..
    } = fixture();
    let upload = machine.lease(compactor, TaskKind::Upload).unwrap().lease;
    let ids = machine.prepare(compactor, upload, 2);
    let mut request = commit(upload, JournalId(0), (0, 1), vec![object(ids[0], &[(0, 0, 5)])]);
    request.abandoned = vec![ids[1], ObjectId(77)];
    machine.run(|tx| objects::commit(tx, compactor, &request)).unwrap();
    assert_eq!(machine.object_life(ids[1]), Some(ObjectLife::Expired));
}
