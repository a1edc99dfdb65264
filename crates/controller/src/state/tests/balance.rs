//! Moves that the controller asks for: who takes part and when, what becomes of a request, and that everything ends level.

use proptest::prelude::*;

use super::super::balance::{ask, asked_of};
use super::*;

/// Longer than `balance_after`, shorter than half a lease.
const SETTLED: Duration = Duration::from_secs(5);

/// Frontends with a journal each; all beat before anything is looked at.
struct Cluster {
    machine: Machine,
    wal: Caller,
    frontends: BTreeMap<u32, (Caller, JournalId)>,
}

impl Cluster {
    /// One frontend that leads all partitions of a topic.
    fn new(partitions: i32) -> Self {
        let mut machine = Machine::new();
        let wal = machine.wal();
        let frontends = BTreeMap::new();
        let mut cluster = Self {
            machine,
            wal,
            frontends,
        };
        let first = cluster.join(1, 0);
        cluster.machine.topic(first, "t", partitions);
        cluster
    }

    fn join(&mut self, node: u32, incarnation: u128) -> Caller {
        let caller = self.machine.register(node, Tier::Frontend, incarnation);
        let journal = self.machine.journal(caller);
        self.frontends.insert(node, (caller, journal));
        caller
    }

    fn beat(&mut self, node: u32, controlled_shutdown: bool) {
        let (caller, _) = self.frontends[&node];
        self.beat_as(caller, controlled_shutdown);
    }

    fn beat_as(&mut self, caller: Caller, controlled_shutdown: bool) {
        let heartbeat = Heartbeat { controlled_shutdown };
        self.machine.run(|tx| nodes::heartbeat(tx, caller, &heartbeat)).unwrap();
    }

    fn pass(&mut self, time: Duration) {
        self.machine.pass(time);
        self.beat_as(self.wal, false);
        for node in self.frontends.keys().copied().collect::<Vec<_>>() {
            self.beat(node, false);
        }
    }

    fn ask(&mut self) {
        self.machine
            .run(|tx| {
                ask(tx);
                Ok(())
            })
            .unwrap();
    }

    fn asked(&mut self, node: u32) -> Vec<OpenStream> {
        let (caller, _) = self.frontends[&node];
        self.machine.run(|tx| Ok(asked_of(tx, caller))).unwrap()
    }

    /// Closes these as their owner does.
    fn close(&mut self, node: u32, asked: &[OpenStream]) -> Vec<Result<()>> {
        let (caller, journal) = self.frontends[&node];
        let close = |open: &OpenStream| CloseStream {
            stream: open.stream,
            leader_epoch: open.leader_epoch,
            end: Offset(0),
            journal,
            journal_end: Lsn(0),
        };
        let requests: Vec<_> = asked.iter().map(close).collect();
        self.machine.run(|tx| streams::close(tx, caller, &requests)).unwrap()
    }

    fn led(&self, node: u32) -> usize {
        let rows = streams::blocks(&self.machine.state).flat_map(|(_, block)| block.rows.values());
        rows.filter(|row| row.leader.is_some_and(|(leader, _)| leader.0 == node))
            .count()
    }

    fn shares(&self) -> Vec<usize> {
        self.frontends.keys().map(|node| self.led(*node)).collect()
    }

    /// Everybody does what they are asked for, until nobody is asked for anything.
    fn level(&mut self) {
        for _ in 0..1000 {
            self.ask();
            let mut moved = false;
            for node in self.frontends.keys().copied().collect::<Vec<_>>() {
                let asked = self.asked(node);
                moved |= !asked.is_empty();
                let answers = self.close(node, &asked);
                assert!(answers.iter().all(Result::is_ok), "{answers:?}");
            }
            if !moved {
                return;
            }
        }
        panic!("it doesn't end");
    }
}

/// A newcomer that has no journal which a WAL node has opened could open no partition: it is given none, however long it has been
/// there. With one it gets its share.
#[test]
fn a_frontend_without_a_journal_gets_nothing() {
    let mut cluster = Cluster::new(6);
    let newcomer = cluster.machine.register(2, Tier::Frontend, 0);
    let journal = cluster.machine.unopened_journal(newcomer);
    cluster.frontends.insert(2, (newcomer, journal));
    for _ in 0..10 {
        cluster.pass(SETTLED);
        cluster.level();
    }
    assert_eq!(cluster.shares(), [6, 0]);
    let confirm = |tx: &mut Tx<'_>| journals::confirm_journal(tx, newcomer, journal);
    cluster.machine.run(confirm).unwrap();
    cluster.level();
    assert_eq!(cluster.shares(), [3, 3]);
}

/// A newcomer gets half, once it has been there for a while, and keeps it: nothing is asked for after that.
#[test]
fn a_newcomer_gets_its_share_after_a_while() {
    let mut cluster = Cluster::new(6);
    cluster.pass(SETTLED);
    cluster.join(2, 0);
    cluster.ask();
    cluster.pass(SETTLED - SECOND);
    cluster.ask();
    assert_eq!(cluster.asked(1), [], "not at once");
    cluster.pass(SECOND);
    cluster.ask();
    let asked = cluster.asked(1);
    assert_eq!((asked.len(), cluster.asked(2)), (3, Vec::new()));
    cluster.ask();
    assert_eq!(cluster.asked(1), asked, "what is on its way counts");
    cluster.close(1, &asked);
    assert_eq!(cluster.shares(), [3, 3]);
    assert_eq!(cluster.asked(1), []);
    cluster.ask();
    assert_eq!((cluster.asked(1), cluster.asked(2)), (Vec::new(), Vec::new()));
}

/// What was asked for goes where it was asked for, not where the least is led just then.
#[test]
fn what_was_asked_for_goes_where_it_was_meant_to() {
    let mut cluster = Cluster::new(6);
    cluster.pass(SETTLED);
    cluster.join(2, 0);
    cluster.pass(SETTLED);
    cluster.ask();
    cluster.join(3, 0);
    let asked = cluster.asked(1);
    cluster.close(1, &asked);
    assert_eq!(cluster.shares(), [3, 3, 0]);
    cluster.pass(SETTLED);
    cluster.level();
    assert_eq!(cluster.shares(), [2, 2, 2]);
}

/// Nothing is asked for while that is turned off, without somebody who takes it, or of somebody who isn't there for long.
#[test]
fn nothing_is_asked_for_where_nobody_may_take_it() {
    type Case = (&'static str, fn(&mut Cluster));
    let cases: [Case; 5] = [
        ("turned off", |cluster| cluster.machine.limits.balance_after = None),
        ("leaves", |cluster| cluster.beat(2, true)),
        ("registered again", |cluster| {
            cluster.join(2, 1);
        }),
        ("silent for most of its lease", |cluster| {
            cluster.machine.pass(LEASE / 2 + SECOND);
            cluster.beat(1, false);
        }),
        ("another controller", |cluster| {
            cluster.machine.state = cluster.machine.rebuilt();
            cluster.machine.timers = Timers::new(cluster.machine.now);
        }),
    ];
    for (name, case) in cases {
        for asked_before in [false, true] {
            let mut cluster = Cluster::new(6);
            cluster.join(2, 0);
            cluster.pass(SETTLED);
            if asked_before && name != "turned off" {
                cluster.ask();
                assert_eq!(cluster.asked(1).len(), 3, "{name}");
            }
            case(&mut cluster);
            cluster.ask();
            assert_eq!(cluster.asked(1), [], "{name}, asked before: {asked_before}");
        }
    }
}

/// A close that was begun goes to somebody else if who was meant is gone meanwhile, or back.
#[test]
fn a_close_that_was_begun_finds_another_leader() {
    let mut cluster = Cluster::new(2);
    cluster.join(2, 0);
    cluster.pass(SETTLED);
    cluster.ask();
    let asked = cluster.asked(1);
    assert_eq!(asked.len(), 1);
    cluster.beat(2, true);
    cluster.close(1, &asked);
    cluster.machine.chore(streams::place);
    assert_eq!(cluster.shares(), [2, 0]);
}

/// What isn't done in 10 s isn't asked for any more, and for a minute not again; but it may still happen.
#[test]
fn a_request_is_withdrawn() {
    let mut cluster = Cluster::new(2);
    cluster.join(2, 0);
    cluster.pass(SETTLED);
    cluster.ask();
    let asked = cluster.asked(1);
    assert_eq!(asked.len(), 1);
    for _ in 0..11 {
        assert!(asked == cluster.asked(1));
        cluster.pass(SECOND);
    }
    assert_eq!(cluster.asked(1), []);
    cluster.ask();
    let other = cluster.asked(1);
    assert!(other.len() == 1 && other != asked, "the other partition: {other:?}");
    for _ in 0..11 {
        cluster.pass(SECOND);
    }
    cluster.ask();
    assert_eq!(cluster.asked(1), [], "both were asked for in vain");
    for _ in 0..60 {
        cluster.pass(SECOND);
    }
    cluster.ask();
    assert_eq!(cluster.asked(1).len(), 1);
    assert_eq!(cluster.close(1, &other), [Ok(())]);
    assert_eq!(cluster.shares(), [1, 1]);
}

/// Few are under way at the same time, however many there are to move.
#[test]
fn few_move_at_the_same_time() {
    let mut cluster = Cluster::new(200);
    cluster.join(2, 0);
    cluster.pass(SETTLED);
    cluster.ask();
    cluster.ask();
    let asked = cluster.asked(1);
    assert_eq!(asked.len(), 32);
    cluster.close(1, &asked[..10]);
    cluster.ask();
    assert_eq!(cluster.asked(1).len(), 32);
    cluster.level();
    assert_eq!(cluster.shares(), [100, 100]);
}

/// However often a stream moves, its row names each frontend once; and those no more whose journals are uploaded.
#[test]
fn closed_ends_are_pruned() {
    let mut cluster = Cluster::new(1);
    cluster.join(2, 0);
    cluster.join(3, 0);
    let row = |cluster: &Cluster| cluster.machine.state.row(StreamId(0)).unwrap().clone();
    let step = |cluster: &mut Cluster, end: i64| {
        let (leader, _) = row(cluster).leader.unwrap();
        let (caller, journal) = cluster.frontends[&leader.0];
        let close = CloseStream {
            stream: StreamId(0),
            leader_epoch: row(cluster).leader_epoch,
            end: Offset(end),
            journal,
            journal_end: Lsn(end as u64 + 1),
        };
        let closed = cluster.machine.run(|tx| streams::close(tx, caller, &[close]));
        assert_eq!(closed.unwrap(), [Ok(())]);
    };
    for end in 0..200 {
        step(&mut cluster, end);
        assert!(row(&cluster).closed.len() <= 3 && row(&cluster).owners.len() <= 3);
    }
    for (_, journal) in cluster.frontends.values() {
        let mut record = (**cluster.machine.state.journal(*journal).unwrap()).clone();
        record.trim = Lsn(1000);
        cluster
            .machine
            .run(|tx| {
                tx.put_journal(*journal, record);
                Ok(())
            })
            .unwrap();
    }
    step(&mut cluster, 2000);
    let (leader, _) = row(&cluster).leader.unwrap();
    assert_eq!(
        row(&cluster).closed.len(),
        1,
        "what was closed now: {:?}",
        row(&cluster)
    );
    step(&mut cluster, 2000);
    assert!(row(&cluster).owners.len() <= 3);
    assert!(row(&cluster).closed.iter().any(|tail| tail.owner == leader));
}

proptest! {
    /// Frontends come, go and come back, and do what they are asked for or don't; once they stay and do, all lead equally many.
    #[test]
    fn it_always_ends_level(
        topics in prop::collection::vec(1..9_i32, 1..5),
        ops in prop::collection::vec((0..6_u8, 1..4_u32, 0..20_u64), 0..40),
    ) {
        let mut cluster = Cluster::new(3);
        for (number, partitions) in topics.iter().enumerate() {
            let (first, _) = cluster.frontends[&1];
            cluster.machine.topic(first, &format!("t{number}"), *partitions);
        }
        let mut incarnation = 1;
        for (op, node, amount) in ops {
            match op {
                0 => {
                    incarnation += 1;
                    cluster.join(node, incarnation);
                }
                1 if cluster.frontends.contains_key(&node) => {
                    let asked = cluster.asked(node);
                    let some = asked.len().min(amount as usize);
                    cluster.close(node, &asked[..some]);
                }
                2 if node != 1 && cluster.frontends.contains_key(&node) => {
                    cluster.beat(node, true);
                    cluster.frontends.remove(&node);
                }
                _ => {
                    for _ in 0..amount {
                        cluster.pass(SECOND);
                        cluster.machine.chores();
                    }
                }
            }
            cluster.machine.chores();
        }
        // What was asked for in vain may be asked for again by then.
        for _ in 0..80 {
            cluster.pass(SECOND);
            cluster.machine.chore(nodes::expire);
            cluster.machine.chore(streams::place);
        }
        cluster.level();
        let shares = cluster.shares();
        let total: usize = shares.iter().sum();
        prop_assert_eq!(total as i32, 3 + topics.iter().sum::<i32>());
        prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{:?}", shares);
    }
}
