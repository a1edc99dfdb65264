//! Two frontends whose way to each other fails: errors before and after the effect, calls that are held, come twice, or arrive when
//! everybody has forgotten them; while partitions and the coordinator move between the two.
//!
//! What must hold: each partition of a transaction gets its marker, as it was decided and with its epoch, and no other one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::{Batches, Marker, TransactionEnd};
use tailwater_rpc::frontend::{Fault, FaultyFrontend, Frontend, FrontendDirectory};
use tailwater_runtime::{CancellationToken, Policy};
use tailwater_types::{NodeId, Offset, TopicId};

use crate::config::Config;
use crate::data::Data;
use crate::group::Groups;
use crate::metadata::TopicCreator;
use crate::metadata::names::TRANSACTION_STATE;
use crate::partition::Partition;
use crate::testing::{Fixture, commit_verified, opened_at, transactional};
use crate::txn::state::Phase;
use crate::txn::{MarkerWriter, Peers, Port, ProducerRef, Transactions};

const PARTITIONS: i32 = 3;
const PRODUCERS: usize = 2;
const STEP: Duration = Duration::from_millis(5);
const LIMIT: Duration = Duration::from_secs(300);

/// The ways to frontends, by their nodes.
#[derive(Default)]
struct Ways(Mutex<BTreeMap<NodeId, Arc<FaultyFrontend>>>);

impl FrontendDirectory for Ways {
    fn frontend(&self, node: NodeId) -> Option<Arc<dyn Frontend>> {
        let way = self.0.lock().get(&node)?.clone();
        Some(way)
    }
}

impl Ways {
    fn all(&self) -> Vec<Arc<FaultyFrontend>> {
        self.0.lock().values().cloned().collect()
    }
}

/// A cluster of two, whose protocol's half is its transactions.
struct World {
    fixture: Fixture,
    second: Data,
    transactions: Vec<Transactions>,
    ways: Arc<Ways>,
    topic: TopicId,
    state_topic: TopicId,
}

/// A producer as it knows itself.
struct Producer {
    id: String,
    version: i16,
    who: ProducerRef,
    sequences: BTreeMap<i32, i32>,
    /// By partition: the first offset of the open transaction.
    open: BTreeMap<i32, i64>,
    /// By partition: each transaction's marker, its epoch and whether it is a commit.
    ended: BTreeMap<i32, Vec<(i16, bool)>>,
}

impl World {
    async fn start() -> Self {
        let mut config = Config::default();
        config.transactions.state_topic_partitions = 1;
        let fixture = Fixture::with(config).await;
        let topic = fixture.controller.add_topic("t", PARTITIONS, &[]);
        let state_topic = fixture.controller.add_topic(TRANSACTION_STATE, 1, &[]);
        let second = fixture.another(2).await;
        let ways = Arc::new(Ways::default());
        let mut transactions = Vec::new();
        for (node, data) in [(1, &fixture.data), (2, &second)] {
            let (coordinators, port) = put_together(data, ways.clone());
            transactions.push(coordinators);
            let way = Arc::new(FaultyFrontend::new(Arc::new(port)));
            ways.0.lock().insert(NodeId(node), way);
        }
        let world = Self {
            fixture,
            second,
            transactions,
            ways,
            topic,
            state_topic,
        };
        for index in 0..PARTITIONS {
            world.led(topic, index).await;
        }
        world
    }

    /// A partition where it is open, and whether that is at the second frontend.
    async fn led(&self, topic: TopicId, index: i32) -> (Arc<Partition>, bool) {
        let begun = tokio::time::Instant::now();
        loop {
            for (data, is_second) in [(&self.fixture.data, false), (&self.second, true)] {
                match data.partitions.get(topic, index) {
                    Ok(partition) if !partition.is_closing() => return (partition, is_second),
                    _ => {}
                }
            }
            assert!(begun.elapsed() < LIMIT, "{topic} {index} isn't led");
            tokio::time::sleep(STEP).await;
        }
    }

    /// Whoever has the partition gives it to the other one.
    async fn hand_over(&self, topic: TopicId, index: i32) {
        let (partition, is_second) = self.led(topic, index).await;
        let (from, to) = match is_second {
            false => (&self.fixture.data, &self.second),
            true => (&self.second, &self.fixture.data),
        };
        let deadline = tokio::time::Instant::now() + LIMIT;
        from.partitions.close(&[partition], deadline).await;
        opened_at(to, topic, index).await;
    }

    /// Asks the coordinator, again while clients would.
    async fn ask<T>(&self, what: impl AsyncFn(&Transactions) -> Result<T, ErrorCode>) -> T {
        let begun = tokio::time::Instant::now();
        loop {
            let (_, is_second) = self.led(self.state_topic, 0).await;
            match what(&self.transactions[usize::from(is_second)]).await {
                Ok(answer) => return answer,
                Err(
                    ErrorCode::NotCoordinator
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::ConcurrentTransactions,
                ) => {}
                Err(error) => panic!("{error:?}"),
            }
            assert!(begun.elapsed() < LIMIT, "not answered");
            tokio::time::sleep(STEP).await;
        }
    }

    async fn producer(&self, id: &str, version: i16) -> Producer {
        let who = self.ask(async |at| at.init(id, 60_000, None).await).await;
        Producer {
            id: id.to_owned(),
            version,
            who,
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    async fn produce(&self, producer: &mut Producer, index: i32) {
        let (id, who) = (&producer.id, producer.who);
        let partitions = vec![("t".to_owned(), index)];
        self.ask(async |at| {
            let errors = match producer.version {
                1 => at.add_for_client(id, who, &partitions).await,
                // As a partition's leader asks, from wherever it is.
                _ => {
                    let asking = &self.transactions[0];
                    asking.add_where_it_is(id, who, false, partitions.clone()).await
                }
            };
            match errors[0] {
                ErrorCode::None => Ok(()),
                error => Err(error),
            }
        })
        .await;
        let sequence = producer.sequences.entry(index).or_default();
        let batch = transactional(who.id, who.epoch, *sequence, &[b"x"]);
        *sequence += 1;
        let (partition, _) = self.led(self.topic, index).await;
        let offset = commit_verified(&partition, batch).await;
        producer.open.entry(index).or_insert(offset.0);
    }

    async fn end(&self, producer: &mut Producer, is_commit: bool) {
        let (id, who, is_bumped) = (&producer.id, producer.who, producer.version > 1);
        let next = self.ask(async |at| at.end(id, who, is_commit, is_bumped).await).await;
        if next != who {
            producer.sequences.clear();
        }
        for (index, _) in std::mem::take(&mut producer.open) {
            let marker = (next.epoch, is_commit);
            producer.ended.entry(index).or_default().push(marker);
        }
        producer.who = next;
    }

    async fn wait_until_ended(&self, producer: &Producer) {
        let begun = tokio::time::Instant::now();
        let is_ended = |phase| matches!(phase, Phase::CompleteCommit | Phase::CompleteAbort);
        while !is_ended(self.ask(async |at| at.describe(&producer.id).await).await.phase) {
            assert!(begun.elapsed() < LIMIT, "the transaction doesn't end");
            tokio::time::sleep(STEP).await;
        }
    }

    /// What is open is open still.
    async fn check_open(&self, producers: &[Producer]) {
        for producer in producers {
            for (index, start) in &producer.open {
                let (partition, _) = self.led(self.topic, *index).await;
                let stable = partition.last_stable_offset();
                assert!(stable.0 <= *start, "{} was ended in {index} at {stable}", producer.id);
            }
        }
    }

    /// Every partition has exactly what was decided.
    async fn check_logs(&self, producers: &[Producer]) {
        for index in 0..PARTITIONS {
            let (partition, _) = self.led(self.topic, index).await;
            assert_eq!(partition.last_stable_offset(), partition.log_end(), "all is decided");
            let found = log_of(&partition).await;
            for producer in producers {
                let expected = producer.ended.get(&index).cloned().unwrap_or_default();
                let found = found.get(&producer.who.id).cloned().unwrap_or_default();
                assert_eq!(found, expected, "{} in {index}", producer.id);
            }
        }
    }

    /// Requests that have hung until now arrive, the oldest first.
    async fn arrive(&self, count: usize) {
        for way in self.ways.all() {
            for _ in 0..count.min(way.late()) {
                way.deliver(0).await;
            }
        }
    }
}

/// As `Protocol::start` does it.
fn put_together(data: &Data, ways: Arc<Ways>) -> (Transactions, Port) {
    let runtime = &data.runtime;
    let creator = TopicCreator::new(data.session.clone(), data.view.clone());
    let groups = Groups::new(
        data.config.groups.clone(),
        data.session.clone(),
        data.view.clone(),
        data.partitions.clone(),
        creator.clone(),
        runtime,
    );
    let markers = MarkerWriter::new(data.partitions.clone(), groups, runtime.clock.clone());
    let peers = Peers::new(data.session.clone(), markers.clone(), Some(ways));
    let transactions = Transactions::new(
        data.config.transactions.clone(),
        data.session.clone(),
        data.view.clone(),
        data.partitions.clone(),
        creator,
        peers,
        runtime,
    );
    let following = transactions.clone().follow();
    runtime.tasks.spawn("transactions", Policy::FATAL_ABORT, following);
    let port = Port::new(data.view.clone(), transactions.clone(), markers);
    (transactions, port)
}

/// Each producer's transactions in a partition: the marker that ended each. One that is repeated before the next transaction's
/// data, as it was, does no harm.
async fn log_of(partition: &Partition) -> BTreeMap<i64, Vec<(i16, bool)>> {
    let (mut markers, mut is_open) = (BTreeMap::<i64, Vec<_>>::new(), BTreeMap::new());
    let mut next = Offset(0);
    while next < partition.high_watermark() {
        let runs = partition.read(next, partition.high_watermark(), 1 << 20, true).await;
        for run in runs.expect("readable") {
            for batch in Batches::new(run) {
                let (header, bytes) = batch.expect("whole batches");
                next = header.end_offset();
                let id = header.producer_id;
                if !header.is_control() {
                    is_open.insert(id, true);
                    continue;
                }
                let marker = Marker::read(&bytes).expect("a good one").expect("a marker");
                let marker = (header.producer_epoch, marker.end == TransactionEnd::Commit);
                let known = markers.entry(id).or_default();
                match is_open.insert(id, false) {
                    Some(true) => known.push(marker),
                    _ => assert_eq!(known.last(), Some(&marker), "a marker of another transaction"),
                }
            }
        }
    }
    markers
}

/// One transaction of each producer.
#[derive(Clone, Debug)]
struct Round {
    /// Partitions by bits, and whether it is committed, of each producer.
    transactions: Vec<(u8, bool)>,
    /// Of the calls to each frontend, in order.
    faults: Vec<Vec<u8>>,
    /// How many late requests arrive while the transactions are open, and when they are ending.
    arrive: [usize; 2],
    /// What is given to the other frontend at the end: a partition, or the coordinator (3).
    moves: Vec<i32>,
}

fn round() -> impl Strategy<Value = Round> {
    let transactions = proptest::collection::vec((1..8u8, any::<bool>()), PRODUCERS);
    let faults = proptest::collection::vec(proptest::collection::vec(0..9u8, 0..6), 2);
    let moves = proptest::collection::vec(0..=PARTITIONS, 0..3);
    let arrive = [0..4usize, 0..3usize];
    (transactions, faults, arrive, moves).prop_map(|(transactions, faults, arrive, moves)| Round {
        transactions,
        faults,
        arrive,
        moves,
    })
}

fn fault(number: u8, held: &mut Vec<CancellationToken>) -> Option<Fault> {
    match number {
        0 => Some(Fault::Before),
        1 => Some(Fault::After),
        2 | 3 => Some(Fault::Late),
        4 => Some(Fault::Twice),
        5 => {
            let token = CancellationToken::new();
            held.push(token.clone());
            Some(Fault::Held(token))
        }
        _ => None,
    }
}

async fn run(version: i16, rounds: Vec<Round>) {
    let world = World::start().await;
    // The coordinator stays with the first one at first, and two of three partitions with the second.
    for index in 1..PARTITIONS {
        world.hand_over(world.topic, index).await;
    }
    let mut producers = Vec::new();
    for number in 0..PRODUCERS {
        producers.push(world.producer(&format!("p{number}"), version).await);
    }
    for round in rounds {
        for (producer, (partitions, _)) in producers.iter_mut().zip(&round.transactions) {
            for index in (0..PARTITIONS).filter(|index| partitions & (1 << index) != 0) {
                world.produce(producer, index).await;
            }
        }
        world.arrive(round.arrive[0]).await;
        world.check_open(&producers).await;
        let mut held = Vec::new();
        for (way, faults) in world.ways.all().iter().zip(&round.faults) {
            let faults: Vec<_> = faults.iter().map(|number| fault(*number, &mut held)).collect();
            way.order(faults);
        }
        for (producer, (_, is_commit)) in producers.iter_mut().zip(&round.transactions) {
            world.end(producer, *is_commit).await;
        }
        for moved in round.moves {
            match moved {
                PARTITIONS => world.hand_over(world.state_topic, 0).await,
                index => world.hand_over(world.topic, index).await,
            }
        }
        world.arrive(round.arrive[1]).await;
        for token in held {
            tokio::time::sleep(STEP).await;
            token.cancel();
        }
        for producer in &producers {
            world.wait_until_ended(producer).await;
        }
        for way in world.ways.all() {
            way.cancel_orders();
        }
    }
    world.arrive(usize::MAX).await;
    world.check_logs(&producers).await;
}

fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens to calls between frontends, a transaction ends in each of its partitions as it was decided, and nothing
    /// ends but what was: neither by a marker that comes late, nor by one that comes twice, in either version of transactions.
    #[test]
    fn transactions_end_as_decided_whatever_befalls_calls(
        version in 1..=2i16,
        rounds in proptest::collection::vec(round(), 1..6),
    ) {
        paused(run(version, rounds));
    }
}

/// A marker of version 1, whose call hung and was given up, arrives when its producer has its next transaction open: it ends
/// nothing, though its epoch is the same.
#[tokio::test(start_paused = true)]
async fn a_marker_that_hung_does_not_end_the_next_transaction() {
    let world = World::start().await;
    world.hand_over(world.topic, 1).await;
    let way = world.ways.all().pop().expect("the way to the second");
    let mut producers = vec![world.producer("p", 1).await];
    for fault in [Fault::Late, Fault::Twice] {
        world.produce(&mut producers[0], 1).await;
        way.order([Some(fault)]);
        world.end(&mut producers[0], true).await;
        world.wait_until_ended(&producers[0]).await;
        world.produce(&mut producers[0], 1).await;
        assert_eq!(way.late(), 1);
        world.arrive(1).await;
        world.check_open(&producers).await;
        world.end(&mut producers[0], false).await;
        world.wait_until_ended(&producers[0]).await;
    }
    world.check_logs(&producers).await;
}

/// The same where the partition has been elsewhere meanwhile, and is back.
#[tokio::test(start_paused = true)]
async fn a_marker_for_an_earlier_leadership_ends_nothing() {
    let world = World::start().await;
    world.hand_over(world.topic, 1).await;
    let way = world.ways.all().pop().expect("the way to the second");
    let mut producers = vec![world.producer("p", 1).await];
    world.produce(&mut producers[0], 1).await;
    way.order([Some(Fault::Late), Some(Fault::Before), Some(Fault::Before)]);
    world.end(&mut producers[0], true).await;
    world.hand_over(world.topic, 1).await;
    world.wait_until_ended(&producers[0]).await;
    world.hand_over(world.topic, 1).await;
    world.produce(&mut producers[0], 1).await;
    assert_eq!(way.late(), 1);
    world.arrive(1).await;
    world.check_open(&producers).await;
    world.end(&mut producers[0], false).await;
    world.wait_until_ended(&producers[0]).await;
    world.check_logs(&producers).await;
}

/// A coordinator that is away is asked less and less often, and at once when it can answer.
#[tokio::test(start_paused = true)]
async fn an_absent_coordinator_is_not_asked_all_the_time() {
    let world = World::start().await;
    let producer = world.producer("p", 2).await;
    let ways = world.ways.all();
    let (way, second) = (&ways[0], &world.transactions[1]);
    let add = |within| {
        let until = tokio::time::Instant::now() + within;
        let partitions = vec![("t".to_owned(), 0)];
        second.confirm(&producer.id, producer.who, false, partitions, until)
    };
    way.order(std::iter::repeat_n(Some(Fault::Before), 1000));
    let before = way.begun();
    assert_eq!(add(Duration::from_secs(5)).await, [ErrorCode::CoordinatorNotAvailable]);
    let asked = way.begun() - before;
    assert!((8..20).contains(&asked), "asked {asked} times in 5 s");
    way.cancel_orders();
    way.order([Some(Fault::Before), Some(Fault::After)]);
    assert_eq!(add(Duration::from_secs(5)).await, [ErrorCode::None]);
}
