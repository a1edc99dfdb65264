//! Streams that move: every cell of docs/design.md section 5's row for `OpenStream` and `CloseStream`, and random moves,
//! losses and uploads against a model that knows every record.

use proptest::prelude::*;
use tailwater_format::metadata::{JournalState, NodeState};

use super::*;

const STREAM: StreamId = StreamId(0);

/// A cluster of three frontends with a journal each, and a topic of which the first leads everything.
struct Cluster {
    machine: Machine,
    a: Caller,
    b: Caller,
    journal_a: JournalId,
    journal_b: JournalId,
}

impl Cluster {
    fn new() -> Self {
        let mut machine = Machine::new();
        machine.wal();
        let a = machine.register(1, Tier::Frontend, 0);
        machine.topic(a, "t", 1);
        let b = machine.register(2, Tier::Frontend, 0);
        let (journal_a, journal_b) = (machine.journal(a), machine.journal(b));
        Self {
            machine,
            a,
            b,
            journal_a,
            journal_b,
        }
    }

    fn epoch(&self) -> LeaderEpoch {
        self.machine.state.row(STREAM).unwrap().leader_epoch
    }

    fn leader(&self) -> Option<NodeId> {
        self.machine.state.row(STREAM).unwrap().leader.map(|(node, _)| node)
    }

    fn close_with(&mut self, caller: Caller, request: CloseStream) -> Result<()> {
        self.machine
            .run(|tx| streams::close(tx, caller, &[request]))
            .unwrap()
            .remove(0)
    }

    /// Closes the stream at its present epoch.
    fn close(&mut self, caller: Caller, end: i64, journal: JournalId, journal_end: u64) -> Result<()> {
        let leader_epoch = self.epoch();
        let request = request(leader_epoch, end, journal, journal_end);
        self.close_with(caller, request)
    }

    /// Journals and ranges that a leader is told of.
    fn open(&self, caller: Caller) -> Result<Vec<(u64, u64, u64)>> {
        let request = OpenStream {
            stream: STREAM,
            leader_epoch: self.epoch(),
        };
        let opened = streams::open_streams(&self.machine.state, caller, &[request])
            .unwrap()
            .remove(0)?;
        let range = |tail: &StreamTail| (tail.journal.0, tail.range.start.0, tail.range.end.0);
        Ok(opened.tails.iter().map(range).collect())
    }

    fn seal(&mut self, journal: JournalId, end: u64) {
        self.machine
            .run(|tx| journals::commit_seal(tx, journal, Lsn(end)))
            .unwrap();
    }

    fn trim(&mut self, journal: JournalId, to: u64) {
        let mut record = (**self.machine.state.journal(journal).unwrap()).clone();
        record.trim = Lsn(to);
        self.machine
            .run(|tx| {
                tx.put_journal(journal, record);
                Ok(())
            })
            .unwrap();
    }

    fn restart(&mut self) {
        self.machine.state = self.machine.rebuilt();
        self.machine.timers = Timers::new(self.machine.now);
    }
}

fn request(leader_epoch: LeaderEpoch, end: i64, journal: JournalId, journal_end: u64) -> CloseStream {
    CloseStream {
        stream: STREAM,
        leader_epoch,
        end: Offset(end),
        journal,
        journal_end: Lsn(journal_end),
    }
}

const FENCED: Error = Error::StreamFenced { stream: STREAM };
const NOT_CLOSED: Error = Error::StreamNotClosed { stream: STREAM };

/// A journal that its owner hasn't confirmed ends at 0 without its device: when the owner asks for the next one, registers
/// again or is fenced. From then on it can't be confirmed; one that is confirmed only its device can end.
#[test]
fn an_unconfirmed_journal_needs_no_member_to_be_sealed() {
    let next = |cluster: &mut Cluster| {
        cluster.machine.journal(cluster.a);
    };
    let again = |cluster: &mut Cluster| {
        cluster.machine.register(1, Tier::Frontend, 1);
    };
    let fenced = |cluster: &mut Cluster| {
        cluster.machine.pass(LEASE * 2);
        cluster.machine.chore(nodes::expire);
    };
    type End = (&'static str, fn(&mut Cluster));
    let ends: [End; 3] = [("next", next), ("again", again), ("fenced", fenced)];
    for (name, end) in ends {
        for (confirmed, restarts) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut cluster = Cluster::new();
            cluster.seal(cluster.journal_a, 0);
            let journal = cluster.machine.unopened_journal(cluster.a);
            let (a, b) = (cluster.a, cluster.b);
            if confirmed {
                for _ in 0..2 {
                    let confirm = cluster.machine.run(|tx| journals::confirm_journal(tx, a, journal));
                    assert_eq!(confirm, Ok(()), "{name}");
                }
            }
            if restarts {
                cluster.restart();
            }
            let others = cluster.machine.run(|tx| journals::confirm_journal(tx, b, journal));
            assert_eq!(others, Err(Error::JournalFenced { journal }), "{name}");
            cluster.machine.effects.clear();
            end(&mut cluster);
            let state = cluster.machine.state.journal(journal).unwrap().state;
            let expected = match confirmed {
                true => JournalState::Sealing,
                false => JournalState::Gone { end: Lsn(0) },
            };
            assert_eq!(state, expected, "{name}, confirmed: {confirmed}");
            assert!(cluster.machine.effects.contains(&Effect::Settle(journal)), "{name}");
            let late = cluster.machine.run(|tx| journals::confirm_journal(tx, a, journal));
            assert!(late.is_err(), "{name}: {late:?}");
            assert_eq!(cluster.machine.state.journal(journal).unwrap().state, expected);
        }
    }
}

/// A frontend that promises nothing may have appended to any journal that it was given.
#[test]
fn a_journal_of_one_who_promises_nothing_counts_as_opened() {
    let mut cluster = Cluster::new();
    let a = cluster.a;
    let grant = cluster
        .machine
        .run(|tx| journals::create_journal(tx, a, false))
        .unwrap();
    assert!(!grant.unconfirmed);
    cluster.machine.journal(a);
    let state = cluster.machine.state.journal(grant.journal).unwrap().state;
    assert_eq!(state, JournalState::Sealing);
}

/// Who closes must be the leader, under exactly the assigned epoch, over a journal that is its own and open, at an end that
/// nothing uploaded contradicts. Whatever is refused changes nothing.
#[test]
fn a_close_is_refused_by_its_epochs() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a, journal_b) = (cluster.a, cluster.b, cluster.journal_a, cluster.journal_b);
    let epoch = cluster.epoch();
    let old_journal = journal_a;
    let journal_a = cluster.machine.journal(a);
    let stale = Caller {
        node_epoch: NodeEpoch(0),
        ..a
    };
    assert!(matches!(
        cluster.machine.run(|tx| streams::close(tx, stale, &[])),
        Err(Error::NodeEpochStale { .. })
    ));
    let before = cluster.machine.state.clone();
    let cases = [
        ("not the leader", b, request(epoch, 10, journal_b, 5), FENCED),
        ("a later epoch", a, request(epoch.next(), 10, journal_a, 5), FENCED),
        (
            "sealed",
            a,
            request(epoch, 10, old_journal, 5),
            Error::JournalFenced { journal: old_journal },
        ),
    ];
    for (name, caller, request, expected) in cases {
        assert_eq!(cluster.close_with(caller, request), Err(expected), "{name}");
    }
    let other = cluster.close_with(a, request(epoch, 10, journal_b, 5));
    assert!(matches!(other, Err(Error::Invalid(_))), "{other:?}");
    let below = cluster.close_with(a, request(epoch, -1, journal_a, 5));
    assert!(matches!(below, Err(Error::Invalid(_))), "{below:?}");
    let unknown = CloseStream {
        stream: StreamId(9),
        ..request(epoch, 10, journal_a, 5)
    };
    assert!(matches!(cluster.close_with(a, unknown), Err(Error::NotFound(_))));
    assert_eq!(cluster.machine.state, before);
    assert_eq!(cluster.close_with(a, request(epoch, 10, journal_a, 5)), Ok(()));
    assert_eq!((cluster.leader(), cluster.epoch()), (Some(b.node), epoch.next()));
}

/// A repeat answers as the first did, also after a restart and once the journal is sealed; with another end, or after
/// somebody else has closed it, it is refused.
#[test]
fn a_repeated_close_answers_as_the_first() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a, journal_b) = (cluster.a, cluster.b, cluster.journal_a, cluster.journal_b);
    let first = request(cluster.epoch(), 10, journal_a, 5);
    assert_eq!(cluster.close_with(a, first), Ok(()));
    let closed = cluster.machine.state.clone();
    cluster.restart();
    assert_eq!(cluster.close_with(a, first), Ok(()));
    assert_eq!(cluster.machine.state, closed);
    let other_end = CloseStream {
        end: Offset(11),
        ..first
    };
    assert_eq!(cluster.close_with(a, other_end), Err(FENCED));
    cluster.machine.journal(a);
    cluster.seal(journal_a, 5);
    assert_eq!(cluster.close_with(a, first), Ok(()));
    assert_eq!(cluster.close(b, 20, journal_b, 3), Ok(()));
    assert_eq!(cluster.close_with(a, first), Err(FENCED));
}

/// The next leader is told of the open journal as far as it was closed, and of no more of it whatever becomes of it.
#[test]
fn a_closed_stream_opens_over_an_open_journal() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a) = (cluster.a, cluster.b, cluster.journal_a);
    assert_eq!(cluster.open(a), Ok(vec![]));
    cluster.close(a, 10, journal_a, 5).unwrap();
    assert_eq!(cluster.open(a), Err(FENCED));
    let id = journal_a.0;
    assert_eq!(cluster.open(b), Ok(vec![(id, 0, 5)]));
    // It is uploaded while the new leader looks.
    cluster.trim(journal_a, 2);
    assert_eq!(cluster.open(b), Ok(vec![(id, 2, 5)]));
    cluster.restart();
    assert_eq!(cluster.open(b), Ok(vec![(id, 2, 5)]));
    // Its owner goes on with another journal, which has nothing of the stream.
    cluster.machine.journal(a);
    assert_eq!(cluster.open(b), Ok(vec![(id, 2, 5)]));
    cluster.seal(journal_a, 9);
    assert_eq!(cluster.open(b), Ok(vec![(id, 2, 5)]));
    cluster.trim(journal_a, 7);
    assert_eq!(cluster.open(b), Ok(vec![]));
}

/// A leader that closed and is lost holds nobody up: its journal need not be sealed for those that took its streams over.
#[test]
fn an_owner_may_die_after_it_closed() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a) = (cluster.a, cluster.b, cluster.journal_a);
    cluster.close(a, 10, journal_a, 5).unwrap();
    cluster.machine.register(1, Tier::Frontend, 7);
    assert_eq!(
        cluster.machine.state.journal(journal_a).unwrap().state,
        JournalState::Sealing
    );
    assert_eq!(cluster.open(b), Ok(vec![(journal_a.0, 0, 5)]));
    cluster.seal(journal_a, 5);
    assert_eq!(cluster.open(b), Ok(vec![(journal_a.0, 0, 5)]));
}

/// The second leader is lost without closing: whoever is next waits for its seal, and not for the first one's.
#[test]
fn a_second_leader_may_die_without_closing() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a, journal_b) = (cluster.a, cluster.b, cluster.journal_a, cluster.journal_b);
    cluster.machine.register(3, Tier::Frontend, 0);
    cluster.close(a, 10, journal_a, 5).unwrap();
    assert_eq!(cluster.leader(), Some(b.node));
    silence(&mut cluster.machine, b);
    assert_eq!(cluster.leader(), Some(a.node));
    assert_eq!(cluster.open(a), Err(NOT_CLOSED));
    cluster.seal(journal_b, 4);
    assert_eq!(cluster.open(a), Ok(vec![(journal_a.0, 0, 5), (journal_b.0, 0, 4)]));
}

/// A stream that comes back to a leader whose journal still is the same has what it wrote there; if that leader is lost
/// without closing again, what it wrote since has to be sealed first.
#[test]
fn a_stream_may_come_back_over_the_same_journal() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a, journal_b) = (cluster.a, cluster.b, cluster.journal_a, cluster.journal_b);
    cluster.close(a, 10, journal_a, 5).unwrap();
    cluster.close(b, 20, journal_b, 3).unwrap();
    let both = vec![(journal_a.0, 0, 5), (journal_b.0, 0, 3)];
    assert_eq!(cluster.open(a), Ok(both));
    silence(&mut cluster.machine, a);
    assert_eq!(cluster.leader(), Some(b.node));
    assert_eq!(cluster.open(b), Err(NOT_CLOSED));
    cluster.seal(journal_a, 9);
    assert_eq!(cluster.open(b), Ok(vec![(journal_a.0, 0, 9), (journal_b.0, 0, 3)]));
}

/// A second close of the same leader counts, not its first.
#[test]
fn the_last_close_counts() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a, journal_b) = (cluster.a, cluster.b, cluster.journal_a, cluster.journal_b);
    cluster.close(a, 10, journal_a, 5).unwrap();
    cluster.close(b, 20, journal_b, 3).unwrap();
    cluster.close(a, 30, journal_a, 8).unwrap();
    assert_eq!(cluster.open(b), Ok(vec![(journal_a.0, 0, 8), (journal_b.0, 0, 3)]));
    // Over another journal: what the older one has is sealed, and read whole.
    cluster.close(b, 30, journal_b, 3).unwrap();
    let later = cluster.machine.journal(a);
    assert_eq!(cluster.open(a), Err(NOT_CLOSED));
    cluster.seal(journal_a, 8);
    cluster.close(a, 40, later, 2).unwrap();
    assert_eq!(
        cluster.open(b),
        Ok(vec![(journal_a.0, 0, 8), (journal_b.0, 0, 3), (later.0, 0, 2)])
    );
}

/// What is uploaded is forgotten: owners and marks of journals that have nothing left go with the next leadership.
#[test]
fn what_is_uploaded_is_forgotten() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a, journal_b) = (cluster.a, cluster.b, cluster.journal_a, cluster.journal_b);
    cluster.close(a, 10, journal_a, 5).unwrap();
    cluster.trim(journal_a, 5);
    cluster.close(b, 20, journal_b, 3).unwrap();
    let row = cluster.machine.state.row(STREAM).unwrap();
    assert_eq!(row.owners, [b.node, a.node]);
    assert_eq!(row.closed.iter().map(|tail| tail.owner).collect::<Vec<_>>(), [b.node]);
}

/// Without another frontend a closed stream has no leader, and gets one as soon as there is any.
#[test]
fn a_closed_stream_waits_for_a_frontend() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a) = (cluster.a, cluster.b, cluster.journal_a);
    silence(&mut cluster.machine, b);
    let epoch = cluster.epoch();
    cluster
        .machine
        .run(|tx| {
            nodes::heartbeat(
                tx,
                a,
                &Heartbeat {
                    controlled_shutdown: true,
                },
            )
        })
        .unwrap();
    cluster.close(a, 10, journal_a, 5).unwrap();
    cluster.machine.chores();
    assert_eq!((cluster.leader(), cluster.epoch()), (None, epoch.next()));
    let c = cluster.machine.register(3, Tier::Frontend, 0);
    cluster.machine.journal(c);
    cluster.machine.chores();
    assert_eq!((cluster.leader(), cluster.epoch()), (Some(c.node), epoch.next().next()));
    assert_eq!(cluster.open(c), Ok(vec![(journal_a.0, 0, 5)]));
}

/// A frontend that leaves in order is `ShuttingDown` once it leads nothing, and what it has open is sealed then, without
/// waiting for its lease.
#[test]
fn a_drained_frontend_is_sealed_at_once() {
    let mut cluster = Cluster::new();
    let (a, journal_a) = (cluster.a, cluster.journal_a);
    let leave = |cluster: &mut Cluster| {
        let stops = Heartbeat {
            controlled_shutdown: true,
        };
        cluster.machine.run(|tx| nodes::heartbeat(tx, a, &stops)).unwrap()
    };
    assert_eq!(leave(&mut cluster), NodeState::ControlledShutdown);
    cluster.machine.chores();
    assert_eq!(
        cluster.machine.state.journal(journal_a).unwrap().state,
        JournalState::Open
    );
    cluster.close(a, 10, journal_a, 5).unwrap();
    cluster.machine.effects.clear();
    assert_eq!(leave(&mut cluster), NodeState::ShuttingDown);
    assert_eq!(
        cluster.machine.state.journal(journal_a).unwrap().state,
        JournalState::Sealing
    );
    assert_eq!(cluster.machine.effects, [Effect::Settle(journal_a)]);
    cluster.seal(journal_a, 5);
    silence(&mut cluster.machine, a);
    assert_eq!(
        cluster.machine.node_state(1),
        NodeState::ShuttingDown,
        "its end is no failure"
    );
}

/// One that goes silent on its way out is `ShuttingDown` too; what it still led is sealed and placed elsewhere.
#[test]
fn a_frontend_may_go_silent_on_its_way_out() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a) = (cluster.a, cluster.b, cluster.journal_a);
    let stops = Heartbeat {
        controlled_shutdown: true,
    };
    cluster.machine.run(|tx| nodes::heartbeat(tx, a, &stops)).unwrap();
    silence(&mut cluster.machine, a);
    assert_eq!(cluster.machine.node_state(1), NodeState::ShuttingDown);
    assert_eq!(
        cluster.machine.state.journal(journal_a).unwrap().state,
        JournalState::Sealing
    );
    assert_eq!(cluster.leader(), Some(b.node));
    assert_eq!(cluster.open(b), Err(NOT_CLOSED));
    cluster.seal(journal_a, 5);
    assert_eq!(cluster.open(b), Ok(vec![(journal_a.0, 0, 5)]));
}

/// One that is back at once gets its own streams again, behind the seal of what it left, whoever else is there.
#[test]
fn a_frontend_may_be_back_at_once() {
    let mut cluster = Cluster::new();
    let (journal_a, epoch) = (cluster.journal_a, cluster.epoch());
    let again = cluster.machine.register(1, Tier::Frontend, 7);
    cluster.machine.chores();
    assert_eq!((cluster.leader(), cluster.epoch()), (Some(again.node), epoch.next()));
    assert_eq!(
        cluster.machine.state.journal(journal_a).unwrap().state,
        JournalState::Sealing
    );
    assert_eq!(cluster.open(again), Err(NOT_CLOSED));
    cluster.seal(journal_a, 5);
    assert_eq!(cluster.open(again), Ok(vec![(journal_a.0, 0, 5)]));
}

/// One that was lost without closing, and is back with a new journal, holds nobody up: what it opened since has nothing of
/// the streams that it lost.
#[test]
fn a_lost_leader_that_is_back_holds_nobody_up() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a) = (cluster.a, cluster.b, cluster.journal_a);
    silence(&mut cluster.machine, a);
    assert_eq!(cluster.leader(), Some(b.node));
    assert_eq!(cluster.open(b), Err(NOT_CLOSED));
    cluster.seal(journal_a, 9);
    let back = cluster.machine.register(1, Tier::Frontend, 7);
    cluster.machine.journal(back);
    assert_eq!(cluster.open(b), Ok(vec![(journal_a.0, 0, 9)]));
    // And again for whoever is next, while the first one's newest journal stays open.
    let again = cluster.machine.register(2, Tier::Frontend, 8);
    cluster.machine.chores();
    assert_eq!(cluster.leader(), Some(again.node));
    assert_eq!(cluster.open(again), Err(NOT_CLOSED), "the second one's own journal");
    cluster.seal(cluster.journal_b, 4);
    assert_eq!(
        cluster.open(again),
        Ok(vec![(journal_a.0, 0, 9), (cluster.journal_b.0, 0, 4)])
    );
}

/// Streams of many blocks are closed in several steps, each of them within an atomic change; answers keep their order.
#[test]
fn many_streams_are_closed_in_steps() {
    let mut cluster = Cluster::new();
    let (a, b, journal_a) = (cluster.a, cluster.b, cluster.journal_a);
    // Alone, the first gets all of them.
    cluster
        .machine
        .run(|tx| {
            nodes::heartbeat(
                tx,
                b,
                &Heartbeat {
                    controlled_shutdown: true,
                },
            )
        })
        .unwrap();
    cluster.machine.topic(a, "large", 10_000);
    cluster.machine.register(2, Tier::Frontend, 9);
    let requests: Vec<_> = (1..=10_000)
        .rev()
        .map(|id| CloseStream {
            stream: StreamId(id),
            ..request(LeaderEpoch(0), 1, journal_a, 1)
        })
        .collect();
    let steps = streams::close_steps(&requests);
    assert!(steps.len() > 1);
    let mut closed = 0;
    for step in steps {
        let part: Vec<_> = step.iter().map(|at| requests[*at]).collect();
        let answers = cluster.machine.run(|tx| streams::close(tx, a, &part)).unwrap();
        closed += answers.iter().filter(|answer| answer.is_ok()).count();
    }
    assert_eq!(closed, 10_000);
}

/// A node falls silent for longer than its lease.
fn silence(machine: &mut Machine, silent: Caller) {
    for _ in 0..3 {
        machine.pass(LEASE / 2);
        let nodes = nodes::nodes(&machine.state).filter(|(id, node)| *id != silent.node && node.granted);
        let callers = nodes.map(|(node, record)| Caller {
            node,
            node_epoch: record.epoch,
            ..silent
        });
        for caller in callers.collect::<Vec<_>>() {
            machine
                .run(|tx| nodes::heartbeat(tx, caller, &Heartbeat::default()))
                .unwrap();
        }
    }
    machine.chores();
}

/// A leadership as the frontend that was given it has it: it may be fenced without knowing.
#[derive(Clone)]
struct Open {
    caller: Caller,
    stream: StreamId,
    leader_epoch: LeaderEpoch,
    journal: JournalId,
    /// The offset that its next record gets.
    next: usize,
}

/// Frontends that write one record an entry, a WAL that takes it until it is sealed, a compactor that uploads by its rules.
struct Moves {
    machine: Machine,
    frontends: Vec<Caller>,
    compactor: Caller,
    incarnation: u128,
    /// Each journal's entries.
    written: BTreeMap<JournalId, Vec<StreamId>>,
    /// Where each record of a stream lies.
    records: BTreeMap<StreamId, Vec<(JournalId, Lsn)>>,
    current: BTreeMap<NodeId, JournalId>,
    open: Vec<Open>,
    closed: usize,
    reopened: usize,
}

const STREAMS: u64 = 4;

impl Moves {
    fn new() -> Self {
        let mut machine = Machine::new();
        machine.limits.node_lease = None;
        machine.wal();
        let frontends: Vec<_> = (1..=3).map(|node| machine.register(node, Tier::Frontend, 0)).collect();
        let compactor = machine.register(201, Tier::Compactor, 0);
        machine.topic(frontends[0], "t", STREAMS as i32);
        let mut moves = Self {
            machine,
            frontends,
            compactor,
            incarnation: 1,
            written: BTreeMap::new(),
            records: (0..STREAMS).map(|id| (StreamId(id), Vec::new())).collect(),
            current: BTreeMap::new(),
            open: Vec::new(),
            closed: 0,
            reopened: 0,
        };
        (0..3).for_each(|at| moves.roll(at));
        moves
    }

    fn run(&mut self, (op, a, b): (u8, u32, u32)) {
        let frontend = a as usize % 3;
        match op % 16 {
            0 => {
                // It dies, but what it has under way may still arrive; or it doesn't know yet that it is dead.
                self.incarnation += 1;
                let node = self.frontends[frontend].node.0;
                self.frontends[frontend] = self.machine.register(node, Tier::Frontend, self.incarnation);
                self.current.remove(&NodeId(node));
                self.machine.chores();
                if b.is_multiple_of(2) {
                    self.roll(frontend);
                }
            }
            1 => self.roll(frontend),
            2 | 3 => self.seal(a),
            4..=6 => self.open_one(StreamId(u64::from(b) % STREAMS)),
            7..=11 => self.write(b),
            12 | 13 => self.close(b),
            14 => drop(self.upload()),
            _ => {
                self.machine.state = self.machine.rebuilt();
                self.machine.timers = Timers::new(self.machine.now);
            }
        }
    }

    /// A frontend opens its next journal, and ends the leaderships over the one before.
    fn roll(&mut self, frontend: usize) {
        let caller = self.frontends[frontend];
        let journal = self.machine.journal(caller);
        self.written.insert(journal, Vec::new());
        self.current.insert(caller.node, journal);
        self.open.retain(|open| open.caller != caller);
    }

    /// A seal that has begun comes to its end.
    fn seal(&mut self, number: u32) {
        let sealing: Vec<_> = journals::all(&self.machine.state)
            .filter(|(_, journal)| journal.state == JournalState::Sealing)
            .map(|(id, _)| id)
            .collect();
        let Some(&id) = sealing.get(number as usize % sealing.len().max(1)) else {
            return;
        };
        let end = Lsn(self.written[&id].len() as u64);
        self.machine.run(|tx| journals::commit_seal(tx, id, end)).unwrap();
        self.open.retain(|open| open.journal != id);
    }

    fn open_one(&mut self, stream: StreamId) {
        let row = self.machine.state.row(stream).unwrap();
        let leader_epoch = row.leader_epoch;
        let Some(caller) = row
            .leader
            .and_then(|(node, _)| self.frontends.iter().find(|caller| caller.node == node))
        else {
            return;
        };
        let (caller, Some(&journal)) = (*caller, self.current.get(&caller.node)) else {
            return;
        };
        if self
            .open
            .iter()
            .any(|open| open.caller == caller && open.stream == stream)
        {
            return;
        }
        let request = OpenStream { stream, leader_epoch };
        let opened = match streams::open_streams(&self.machine.state, caller, &[request])
            .unwrap()
            .remove(0)
        {
            Ok(opened) => opened,
            Err(error) => {
                assert_eq!(error, Error::StreamNotClosed { stream });
                return;
            }
        };
        let records = &self.records[&stream];
        for (offset, (journal, lsn)) in records.iter().enumerate().skip(opened.uploaded.0 as usize) {
            let told = opened
                .tails
                .iter()
                .any(|tail| tail.journal == *journal && tail.range.contains(*lsn));
            assert!(
                told,
                "{stream}: offset {offset} in journal {journal} at {lsn} is lost: {opened:?}"
            );
        }
        if let Some(ClosedAt {
            leader_epoch: ended,
            end,
        }) = opened.closed
        {
            assert!(ended < leader_epoch && end.0 as usize <= records.len());
        }
        self.reopened += usize::from(!records.is_empty());
        self.open.push(Open {
            caller,
            stream,
            leader_epoch,
            journal,
            next: records.len(),
        });
    }

    /// Somebody who believes to lead writes: what is taken is acknowledged.
    fn write(&mut self, number: u32) {
        let count = self.open.len().max(1);
        let Some(open) = self.open.get_mut(number as usize % count) else {
            return;
        };
        let records = self.records.get_mut(&open.stream).unwrap();
        assert_eq!(open.next, records.len(), "two write to stream {}", open.stream);
        let entries = self.written.get_mut(&open.journal).unwrap();
        records.push((open.journal, Lsn(entries.len() as u64)));
        entries.push(open.stream);
        open.next += 1;
    }

    fn close(&mut self, number: u32) {
        let at = number as usize % self.open.len().max(1);
        let Some(open) = self.open.get(at).cloned() else { return };
        let request = CloseStream {
            stream: open.stream,
            leader_epoch: open.leader_epoch,
            end: Offset(open.next as i64),
            journal: open.journal,
            journal_end: Lsn(self.written[&open.journal].len() as u64),
        };
        let caller = open.caller;
        match self.machine.run(|tx| streams::close(tx, caller, &[request])) {
            Ok(answers) if answers[0].is_ok() => {
                self.open.remove(at);
                self.closed += 1;
                let again = self.machine.run(|tx| streams::close(tx, caller, &[request]));
                assert_eq!(again, Ok(vec![Ok(())]), "a repeat answers as the first did");
            }
            Ok(answers) => assert!(matches!(
                answers[0],
                Err(Error::StreamFenced { .. } | Error::JournalFenced { .. })
            )),
            Err(error) => assert_eq!(error.kind(), Kind::Fenced),
        }
    }

    /// Uploads what may be of the journals that are leased: entries up to the first that would leave a hole.
    fn upload(&mut self) -> bool {
        let mut leases = Vec::new();
        while let Some(lease) = self.machine.lease(self.compactor, TaskKind::Upload) {
            leases.push(lease);
        }
        let mut moved = false;
        for lease in leases {
            moved |= self.upload_one(&lease);
            let caller = self.compactor;
            // The task is over if that was the journal's end.
            drop(
                self.machine
                    .run(|tx| super::super::tasks::release(tx, caller, lease.lease, false)),
            );
        }
        moved
    }

    fn upload_one(&mut self, lease: &Lease) -> bool {
        let Work::Upload {
            journal,
            trim,
            sealed_end,
            ..
        } = lease.work
        else {
            panic!("an upload was leased")
        };
        let mut parts: BTreeMap<StreamId, (i64, i64)> = BTreeMap::new();
        let mut end = trim;
        for stream in &self.written[&journal][trim.0 as usize..] {
            let uploaded = self.machine.state.progress(*stream).unwrap().uploaded.0;
            let part = parts.entry(*stream).or_insert((uploaded, uploaded));
            let record = self.records[stream].get(part.1 as usize);
            if record != Some(&(journal, end)) {
                break;
            }
            part.1 += 1;
            end = end.next();
        }
        if end == trim && sealed_end != Some(end) {
            return false;
        }
        let slices: Vec<_> = parts
            .into_iter()
            .filter(|(_, (start, end))| start < end)
            .map(|(stream, (start, end))| (stream.0, start, end))
            .collect();
        let objects = if slices.is_empty() {
            Vec::new()
        } else {
            let id = self.machine.prepare(self.compactor, lease.lease, 1)[0];
            vec![object(id, &slices)]
        };
        let request = commit(lease.lease, journal, (trim.0, end.0), objects);
        let caller = self.compactor;
        self.machine.run(|tx| objects::commit(tx, caller, &request)).unwrap();
        true
    }

    /// Everything comes to rest: every record is in an object, and nobody waits for anybody.
    fn finish(&mut self) {
        (0..3).for_each(|at| self.roll(at));
        let id = |(id, journal): (JournalId, &tailwater_format::metadata::JournalRecord)| {
            (journal.state == JournalState::Sealing).then_some(id)
        };
        let sealing: Vec<_> = journals::all(&self.machine.state).filter_map(id).collect();
        sealing.iter().for_each(|_| self.seal(0));
        while self.upload() {}
        for (stream, records) in &self.records {
            let uploaded = self.machine.state.progress(*stream).unwrap().uploaded;
            assert_eq!(uploaded, Offset(records.len() as i64), "{stream} waits for ever");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever moves, dies, is sealed and uploaded in which order: nobody writes beside another, whoever opens is told of
    /// every record that isn't in objects, and uploads neither pass a hole nor wait for each other.
    #[test]
    fn moves_lose_and_double_nothing(ops in prop::collection::vec((any::<u8>(), any::<u32>(), any::<u32>()), 1..200)) {
        let mut moves = Moves::new();
        ops.into_iter().for_each(|op| moves.run(op));
        moves.finish();
    }
}

/// A long history is one with closes, openings behind them, and uploads.
#[test]
fn a_long_history_moves_often() {
    let random = tailwater_runtime::Random::seeded(5);
    let mut moves = Moves::new();
    for _ in 0..5000 {
        moves.run((random.u64() as u8, random.u64() as u32, random.u64() as u32));
    }
    let records: usize = moves.records.values().map(Vec::len).sum();
    let found = (moves.closed, moves.reopened, records);
    assert!(found.0 > 100 && found.1 > 100 && found.2 > 500, "{found:?}");
    moves.finish();
}
