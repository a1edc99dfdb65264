//! Random histories of commands, with what must hold after every step of every one.

use proptest::prelude::*;
use tailwater_format::metadata::{JournalState, ObjectLife};

use super::super::tasks::{release, renew};
use super::*;

/// One command with two arbitrary numbers to choose its arguments by.
type Op = (u8, u32, u32);

struct History {
    machine: Machine,
    frontends: Vec<Caller>,
    compactor: Caller,
    incarnation: u128,
    leases: Vec<Lease>,
    prepared: Vec<(LeaseRef, ObjectId)>,
    commits: Vec<(CommitObjects, MetadataVersion)>,
}

impl History {
    fn new() -> Self {
        let mut machine = Machine::new();
        machine.limits.node_lease = None;
        machine.wal();
        let frontends = vec![
            machine.register(1, Tier::Frontend, 0),
            machine.register(2, Tier::Frontend, 0),
        ];
        let compactor = machine.register(201, Tier::Compactor, 0);
        Self {
            machine,
            frontends,
            compactor,
            incarnation: 1,
            leases: Vec::new(),
            prepared: Vec::new(),
            commits: Vec::new(),
        }
    }

    /// Runs one command; refusals are part of every history.
    fn run(&mut self, (op, a, b): Op) {
        let frontend = self.frontends[a as usize % 2];
        let compactor = self.compactor;
        let machine = &mut self.machine;
        match op % 17 {
            0 => {
                self.incarnation += 1;
                let node = frontend.node.0;
                self.frontends[a as usize % 2] = machine.register(node, Tier::Frontend, self.incarnation);
            }
            1 if b.is_multiple_of(3) => {
                self.incarnation += 1;
                self.compactor = machine.register(201, Tier::Compactor, self.incarnation);
            }
            1 | 2 => {
                let name = format!("t{}", b % 4);
                let id = TopicId::from_random(u128::from(machine.state.version().0));
                let mut new = topic(&name, 3);
                if b.is_multiple_of(2) {
                    new.configs = compacted();
                }
                drop(machine.run(|tx| catalog::create_topic(tx, frontend, id, &new)));
            }
            3 if b.is_multiple_of(2) => {
                if let Some(id) = machine.state.index().topic(&format!("t{}", b % 4)) {
                    machine.run(|tx| catalog::delete_topic(tx, frontend, id)).unwrap();
                }
            }
            3 | 4 => {
                let grant = machine.run(|tx| journals::create_journal(tx, frontend, !b.is_multiple_of(3)));
                if let Ok(grant) = grant
                    && !b.is_multiple_of(5)
                {
                    machine
                        .run(|tx| journals::confirm_journal(tx, frontend, grant.journal))
                        .unwrap();
                }
            }
            5 => {
                let id = some_journal(&machine.state, a);
                let trim = machine.state.journal(id).map_or(0, |journal| journal.trim.0);
                let end = Lsn(trim + u64::from(b % 3));
                drop(machine.run(|tx| journals::commit_seal(tx, id, end)));
            }
            6 => {
                let id = some_journal(&machine.state, a);
                machine
                    .run(|tx| {
                        journals::forget(tx, id);
                        Ok(())
                    })
                    .unwrap();
            }
            7 => {
                let kind = match b % 4 {
                    0 => TaskKind::Delete,
                    1 => TaskKind::Clean,
                    _ => TaskKind::Upload,
                };
                self.leases.extend(machine.lease(compactor, kind));
            }
            8 | 9 => self.prepare(a),
            10 | 11 => self.commit(a, b),
            12 => self.finish(a, b),
            13 => alter_something(machine, frontend, a, b),
            14 => {
                if let Some(topic) = machine.state.index().topic(&format!("t{}", b % 4)) {
                    let request = CreatePartitions {
                        topic,
                        total: 1 + (a % 5) as i32,
                        validate_only: a.is_multiple_of(3),
                    };
                    drop(machine.run(|tx| catalog::create_partitions(tx, frontend, request)));
                }
            }
            15 => {
                let stream = StreamId(u64::from(b % 7));
                if let Some(leader_epoch) = machine.state.row(stream).map(|row| row.leader_epoch) {
                    let start = Offset(i64::from(a % 30) - 1);
                    let request = DeleteRecords {
                        stream,
                        leader_epoch,
                        start,
                    };
                    drop(machine.run(|tx| catalog::delete_records(tx, frontend, request)));
                }
            }
            _ => machine.pass(LEASE * (b % 5)),
        }
        if b.is_multiple_of(4) {
            self.machine.chores();
        }
        if b.is_multiple_of(50) {
            self.machine.state = self.machine.rebuilt();
            self.machine.timers = Timers::new(self.machine.now);
        }
    }

    fn prepare(&mut self, a: u32) {
        let Some(lease) = pick(&self.leases, a).map(|lease| lease.lease) else {
            return;
        };
        let (caller, request) = (
            self.compactor,
            PrepareObjects {
                lease,
                count: 1 + a % 3,
            },
        );
        if let Ok(prepared) = self.machine.run(|tx| objects::prepare(tx, caller, &request)) {
            self.prepared
                .extend(prepared.iter().map(|object| (lease, object.object)));
        }
    }

    /// A commit of one or two prepared objects with arbitrary slices, overlaps and holes; or the repeat of an earlier one.
    fn commit(&mut self, a: u32, b: u32) {
        let caller = self.compactor;
        if b.is_multiple_of(5) {
            if let Some((request, version)) = pick(&self.commits, a) {
                let state = &self.machine.state;
                // Once they are deleted nobody remembers.
                let known = request
                    .objects
                    .iter()
                    .all(|object| state.object(object.object).is_some());
                let answer = self.machine.run(|tx| objects::commit(tx, caller, request));
                if known {
                    assert_eq!(answer, Ok(*version), "a repeat answers as the first did");
                }
            }
            return;
        }
        let Some(&(lease, first)) = pick(&self.prepared, a) else {
            return;
        };
        let Some(journal) = self.machine.state.index().upload(lease.task) else {
            return;
        };
        let trim = self.machine.state.journal(journal).unwrap().trim.0;
        let slice = |n: u32| {
            let (stream, start) = (u64::from((b + n) % 7), i64::from((a + n * 3) % 20));
            (stream, start, start + i64::from((b + n) % 9))
        };
        let mut objects = vec![object(first, &[slice(1), slice(2)])];
        let second = pick(&self.prepared, a + 1).filter(|second| second.1 != first && second.0 == lease);
        objects.extend(second.map(|second| object(second.1, &[slice(3)])));
        let request = commit(lease, journal, (trim, trim + u64::from(b % 3)), objects);
        if let Ok(version) = self.machine.run(|tx| objects::commit(tx, caller, &request)) {
            self.commits.push((request, version));
        }
    }

    /// Renews or gives back a lease.
    fn finish(&mut self, a: u32, b: u32) {
        let caller = self.compactor;
        let Some(lease) = pick(&self.leases, a).map(|lease| lease.lease) else {
            return;
        };
        if b.is_multiple_of(2) {
            drop(self.machine.run(|tx| renew(tx, caller, lease)));
        } else {
            drop(self.machine.run(|tx| release(tx, caller, lease, !b.is_multiple_of(3))));
        }
    }
}

fn alter_something(machine: &mut Machine, caller: Caller, a: u32, b: u32) {
    let topic = machine.state.index().topic(&format!("t{}", b % 4));
    let resource = match (b % 5, topic) {
        (0, _) => ConfigResource::Broker(None),
        (1, _) => ConfigResource::Broker(Some(NodeId(a % 2))),
        (2, _) => ConfigResource::Group(format!("g{}", a % 2)),
        (3, _) | (_, None) => ConfigResource::ClientMetrics("m".to_owned()),
        (_, Some(topic)) => ConfigResource::Topic(topic),
    };
    let op = match a % 3 {
        0 => ConfigOp::Delete,
        1 => ConfigOp::Set(b.to_string()),
        _ => ConfigOp::Append {
            items: vec![b.to_string()],
            unset: String::new(),
        },
    };
    let name = format!("k{}", b % 2);
    let request = AlterConfigs {
        resource,
        changes: ConfigChanges::Incremental(vec![ConfigChange { name, op }]),
        validate_only: a.is_multiple_of(7),
    };
    machine.run(|tx| configs::alter(tx, caller, &request)).unwrap();
}

/// One of the newest: the older ones are mostly over.
fn pick<T>(all: &[T], number: u32) -> Option<&T> {
    let newest = &all[all.len().saturating_sub(5)..];
    newest.get(number as usize % newest.len().max(1))
}

fn some_journal(state: &State, number: u32) -> JournalId {
    let all: Vec<_> = journals::all(state).map(|(id, _)| id).collect();
    all.get(number as usize % all.len().max(1))
        .copied()
        .unwrap_or(JournalId(0))
}

/// What must hold of one state.
pub(super) fn check_state(machine: &Machine) {
    let state = &machine.state;
    assert_eq!(&machine.rebuilt(), state, "a start from the store gives the same state");
    for (stream, row) in streams::blocks(state).flat_map(|(_, block)| &block.rows) {
        let progress = state.progress(*stream).unwrap();
        let mut at: Option<Offset> = None;
        for slice in objects::find(state, *stream, row.start, usize::MAX).unwrap().objects {
            let object = state.object(slice.object).expect("what is named is there");
            assert_eq!(object.life, ObjectLife::Committed);
            assert!(
                !state.index().is_deleting(slice.object),
                "what is named is never deleted"
            );
            match at {
                None => assert!(slice.range.contains(progress.start), "the start is found"),
                Some(at) => assert_eq!(slice.range.start, at, "contiguous, without overlap"),
            }
            at = Some(slice.range.end);
        }
        let any = progress.start < progress.uploaded;
        assert_eq!(at, any.then_some(progress.uploaded), "all of it is found");
    }
    for task in state.index().deletions() {
        for object in &state.deletion(*task).unwrap().objects {
            let life = state.object(*object).expect("deleted once").life;
            assert!(
                matches!(life, ObjectLife::Marked | ObjectLife::Expired),
                "{life:?} is deleted"
            );
        }
    }
    for (id, journal) in journals::all(state) {
        if let JournalState::Sealed { end } | JournalState::Gone { end } = journal.state {
            assert!(journal.trim <= end, "journal {id}");
        }
    }
}

/// What must hold of two states, the second being later.
fn check_progress(before: &State, after: &State) {
    for (id, journal) in journals::all(before) {
        let Some(later) = after.journal(id) else {
            assert!(
                matches!(journal.state, JournalState::Gone { .. }),
                "only the gone are forgotten"
            );
            continue;
        };
        assert!(journal.trim <= later.trim && journal.lease <= later.lease);
        if let JournalState::Sealed { end } = journal.state {
            let (JournalState::Sealed { end: later } | JournalState::Gone { end: later }) = later.state else {
                panic!("journal {id} is unsealed");
            };
            assert_eq!(end, later);
        }
    }
    for (stream, row) in streams::blocks(before).flat_map(|(_, block)| &block.rows) {
        let Some(later) = after.row(*stream) else {
            continue;
        };
        assert!(row.leader == later.leader || row.leader_epoch < later.leader_epoch);
        assert!(row.start <= later.start, "a start only moves up");
        let snapshot = |state: &State| {
            let uploaded = state.progress(*stream).unwrap().uploaded;
            let slices = state.index().stream(*stream);
            (
                uploaded,
                slices.and_then(|slices| slices.snapshot_below(uploaded)).map(|at| at.0),
            )
        };
        assert!(
            snapshot(before) <= snapshot(after),
            "uploaded and snapshots only move up"
        );
    }
    let fenced = |state: &State, node| state.node(NodeId(node)).unwrap().epoch;
    assert!(fenced(before, 1) <= fenced(after, 1));
    assert!(before.version() <= after.version());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The invariants of docs/design.md section 4 that concern the controller hold after every step.
    #[test]
    fn invariants_hold(ops in prop::collection::vec((any::<u8>(), any::<u32>(), any::<u32>()), 1..120)) {
        let mut history = History::new();
        for op in ops {
            let before = history.machine.state.clone();
            history.run(op);
            check_state(&history.machine);
            check_progress(&before, &history.machine.state);
        }
    }
}

/// One long history reaches what the short ones are for: commits, repeats, journals that end, objects that are deleted.
#[test]
fn a_long_history_gets_everywhere() {
    let random = tailwater_runtime::Random::seeded(3);
    let mut history = History::new();
    let (mut gone, mut deleting) = (0, 0);
    for _ in 0..6000 {
        let before = history.machine.state.clone();
        history.run((random.u64() as u8, random.u64() as u32, random.u64() as u32));
        let state = &history.machine.state;
        check_progress(&before, state);
        gone += journals::all(&before)
            .filter(|(id, _)| state.journal(*id).is_none())
            .count();
        deleting += before
            .index()
            .condemned()
            .iter()
            .filter(|id| state.object(**id).is_none())
            .count();
    }
    check_state(&history.machine);
    let found = (history.commits.len(), gone, deleting);
    assert!(found.0 > 50 && gone > 2 && deleting > 10, "{found:?}");
}
