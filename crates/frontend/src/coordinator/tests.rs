//! The driver by itself, over a machine that does what a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::batch::{BatchBuilder, BatchHeader, HEADER_BYTES, Marker, TransactionEnd, empty};
use tailwater_kafka::{CodecError, ErrorCode};
use tailwater_rpc::controller::NewTopic;
use tailwater_runtime::Policy;
use tailwater_runtime::clock::Instant;
use tailwater_runtime::telemetry::IntGauge;
use tokio::sync::{mpsc, oneshot};

use super::host::{RESTART_INTERVAL, Way};
use super::replay::replay_batches;
use super::{Command, Host, Hosted, KeyValue, Machine, Now, Owner, Turn, Waiter};
use crate::metadata::TopicCreator;
use crate::testing::Fixture;

/// After so many requests the test has failed.
const MOST_REQUESTS: usize = 10_000;

enum Ask {
    /// To be asked again at once, in its own queue, until the only timer has run out.
    Again(mpsc::Sender<Command<Scripted>>),
    Nothing,
    Panic,
}

#[derive(Default)]
struct Scripted {
    wake_at: Option<Instant>,
    requests: Arc<AtomicUsize>,
    replayed: Vec<Replayed>,
}

#[derive(Debug, PartialEq)]
enum Replayed {
    /// A key, and the producer whose transaction it is of.
    Record(Vec<u8>, Option<i64>),
    End {
        producer_id: i64,
        is_commit: bool,
    },
}

impl Machine for Scripted {
    type Request = Ask;
    type Reply = ErrorCode;
    type Write = ();
    type Event = ();

    fn replay(
        &mut self,
        key: &[u8],
        _value: Option<&[u8]>,
        producer_id: Option<i64>,
        _now: Now,
    ) -> Result<(), CodecError> {
        self.replayed.push(Replayed::Record(key.to_vec(), producer_id));
        Ok(())
    }

    fn replay_end(&mut self, producer_id: i64, is_commit: bool) {
        self.replayed.push(Replayed::End { producer_id, is_commit });
    }

    fn loaded(&mut self, now: Now) -> Turn<Self> {
        self.wake_at = Some(now.at);
        Turn::default()
    }

    fn step(&mut self, id: &str, request: Ask, waiter: Waiter, _now: Now) -> Turn<Self> {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut turn = Turn::default();
        match request {
            Ask::Again(commands) if self.wake_at.is_some() && count < MOST_REQUESTS => {
                let again = Command {
                    id: id.to_owned(),
                    request: Ask::Again(commands.clone()),
                    reply: oneshot::channel().0,
                };
                assert!(commands.try_send(again).is_ok(), "one request is there at a time");
            }
            Ask::Again(_) | Ask::Nothing => turn.replies.push((waiter, ErrorCode::None)),
            Ask::Panic => panic!("as asked for"),
        }
        turn
    }

    fn written(&mut self, _write: (), _result: Result<(), ErrorCode>, _now: Now) -> Turn<Self> {
        Turn::default()
    }

    fn happened(&mut self, _event: (), _now: Now) -> Turn<Self> {
        Turn::default()
    }

    fn next_wake(&self) -> Option<Instant> {
        self.wake_at
    }

    fn tick(&mut self, now: Now) -> Option<Turn<Self>> {
        self.wake_at.take_if(|at| *at <= now.at).map(|_| Turn::default())
    }

    fn encode(_write: &()) -> Result<Vec<KeyValue>, CodecError> {
        Ok(Vec::new())
    }

    fn refused(_request: &Ask, error: ErrorCode) -> ErrorCode {
        error
    }
}

fn gauge() -> IntGauge {
    IntGauge::new("owners", "Owners").unwrap()
}

/// A queue that never gets empty doesn't keep timers from running out: sessions of silent members end under load too.
#[tokio::test(start_paused = true)]
async fn requests_that_never_cease_do_not_starve_timers() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("log").await;
    let requests = Arc::new(AtomicUsize::new(0));
    let machine = Scripted {
        requests: requests.clone(),
        ..Scripted::default()
    };
    let (owner, handle) = Owner::new(machine, partition, 1 << 20, gauge(), fixture.runtime.clock.clone());
    let (reply, _answer) = oneshot::channel();
    let first = Command {
        id: "busy".to_owned(),
        request: Ask::Again(handle.commands.clone()),
        reply,
    };
    assert!(handle.commands.try_send(first).is_ok(), "the queue has room");
    drop(handle);
    owner.run().await;
    assert!(
        requests.load(Ordering::Relaxed) < MOST_REQUESTS / 2,
        "its timer came too late"
    );
}

/// An owner that has failed is begun again while its leadership goes on: its partition isn't without a coordinator for good.
/// Until then its clients look elsewhere, lists leave it out, and a gauge tells of it until it serves.
#[tokio::test(start_paused = true)]
async fn an_owner_that_fails_is_begun_again() {
    let fixture = Fixture::start().await;
    fixture.topic("log").await;
    let failed = gauge();
    let host = host_that_tells(&fixture, failed.clone());
    let owner = living_owner(&host).await;
    assert_eq!(owner.ask("x".to_owned(), Ask::Panic).await, ErrorCode::NotCoordinator);
    while !owner.is_closed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(host.owner_of("x").err(), Some(ErrorCode::NotCoordinator));
    assert_eq!(host.all_owners().map(|owners| owners.len()).ok(), Some(0));

    let again = living_owner(&host).await;
    assert_eq!(failed.get(), 1);
    assert_eq!(again.ask("x".to_owned(), Ask::Nothing).await, ErrorCode::None);
    assert_eq!(host.all_owners().map(|owners| owners.len()).ok(), Some(1));
    tokio::time::sleep(2 * RESTART_INTERVAL).await;
    assert_eq!(failed.get(), 0, "it serves");
}

/// A coordinator of the topic `log`.
fn host(fixture: &Fixture) -> Host<Scripted> {
    host_that_tells(fixture, gauge())
}

fn host_that_tells(fixture: &Fixture, failed: IntGauge) -> Host<Scripted> {
    let data = &fixture.data;
    let hosted = Hosted {
        topic: NewTopic {
            name: "log".to_owned(),
            partitions: 1,
            configs: Default::default(),
            internal: true,
            validate_only: false,
        },
        new_machine: Box::new(|_| Scripted::default()),
        coordinators: gauge(),
        loading: gauge(),
        failed,
    };
    let tasks = fixture.runtime.tasks.child("host");
    let host = Host::new(
        hosted,
        data.session.clone(),
        data.view.clone(),
        data.partitions.clone(),
        TopicCreator::new(data.session.clone(), data.view.clone()),
        tasks.clone(),
    );
    tasks.spawn("follow", Policy::LOGGED_ABORT, host.clone().follow());
    host
}

async fn living_owner(host: &Host<Scripted>) -> Way<Scripted> {
    // A minute and a half: longer than it takes until owners that have failed are begun again.
    for _ in 0..9000 {
        match host.owner_of("x") {
            Ok(owner) if !owner.is_closed() => return owner,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("nobody coordinates");
}

/// Compaction leaves batches without records, markers too: the coordinator passes over them and takes what is behind.
#[tokio::test(start_paused = true)]
async fn what_compaction_has_emptied_is_passed_over() {
    let fixture = Fixture::start().await;
    let record = |producer_id, key: &[u8]| {
        let mut batch = BatchBuilder::new()
            .producer(producer_id, 0, BatchHeader::NO_SEQUENCE)
            .transactional();
        batch.push(0, Some(key), Some(b"value"), &[]);
        batch.build().freeze()
    };
    let marker = |producer_id, end| {
        let marker = Marker {
            end,
            coordinator_epoch: 1,
        };
        marker.build(producer_id, 0, 0).freeze()
    };
    let emptied = |batch: Bytes| empty(&BatchHeader::read(&batch).unwrap()).freeze();
    let log = [
        emptied(record(7, b"superseded")),
        emptied(marker(7, TransactionEnd::Abort)),
        record(8, b"kept"),
        marker(8, TransactionEnd::Commit),
        emptied(marker(9, TransactionEnd::Commit)),
    ];
    let mut machine = Scripted::default();
    replay_batches(&log, &mut machine, &fixture.runtime.clock).unwrap();
    let end = Replayed::End {
        producer_id: 8,
        is_commit: true,
    };
    assert_eq!(machine.replayed, [Replayed::Record(b"kept".to_vec(), Some(8)), end]);

    // What ends no transaction for want of its record, and isn't compaction's, is damage.
    let broken = marker(8, TransactionEnd::Commit).slice(..HEADER_BYTES);
    assert!(replay_batches(&[broken], &mut machine, &fixture.runtime.clock).is_err());
}

/// The lease that nodes are told in these tests.
const LEASE: Duration = Duration::from_secs(3);

/// A coordinator over an idle log, whose controller hears nothing of it from now on.
async fn unheard() -> (Fixture, Way<Scripted>) {
    let fixture = Fixture::start().await;
    fixture.topic("log").await;
    let host = host(&fixture);
    let owner = living_owner(&host).await;
    fixture.controller.tell_lease(Some(LEASE));
    fixture.data.session.heartbeat().await.expect("answered");
    fixture.controller.hear_nothing(true);
    (fixture, owner)
}

/// As long as its lease holds, an answer costs no write. When it doesn't, since the controller is away, answers wait for the WAL's yes,
/// and many share one write: a controller that is away stops no coordinator.
#[tokio::test(start_paused = true)]
async fn a_coordinator_whose_controller_is_away_answers_on() {
    let (fixture, owner) = unheard().await;
    let sent = fixture.wal.sent();
    assert_eq!(owner.ask("x".to_owned(), Ask::Nothing).await, ErrorCode::None);
    assert_eq!(fixture.wal.sent(), sent, "the lease is enough");
    tokio::time::sleep(LEASE).await;
    let all = (0..100).map(|_| owner.ask("x".to_owned(), Ask::Nothing));
    let answers = futures::future::join_all(all).await;
    assert_eq!(answers, [ErrorCode::None; 100]);
    let writes = fixture.wal.sent() - sent;
    assert!((1..=2).contains(&writes), "{writes} writes for a hundred answers");
    fixture.controller.hear_nothing(false);
    fixture.data.session.heartbeat().await.expect("answered");
    assert_eq!(owner.ask("x".to_owned(), Ask::Nothing).await, ErrorCode::None);
    assert_eq!(fixture.wal.sent() - sent, writes, "the lease is there again");
}

/// Without leases, as standalone and under a controller that tells none, nothing is asked of the WAL however long it is silent.
#[tokio::test(start_paused = true)]
async fn without_a_lease_a_coordinator_answers_by_itself() {
    let (fixture, owner) = unheard().await;
    fixture.controller.hear_nothing(false);
    fixture.controller.tell_lease(None);
    fixture.data.session.heartbeat().await.expect("answered");
    fixture.controller.hear_nothing(true);
    let sent = fixture.wal.sent();
    tokio::time::sleep(LEASE * 100).await;
    assert_eq!(owner.ask("x".to_owned(), Ask::Nothing).await, ErrorCode::None);
    assert_eq!(fixture.wal.sent(), sent);
}

/// A coordinator that was deposed while its process stood still answers nothing from memory when it goes on, though nobody has told it:
/// its lease has run out, and the WAL takes nothing of it.
#[tokio::test(start_paused = true)]
async fn a_coordinator_that_was_deposed_unawares_answers_nothing() {
    let (fixture, owner) = unheard().await;
    fixture.wal.seal_unawares();
    tokio::time::sleep(LEASE).await;
    assert_eq!(owner.ask("x".to_owned(), Ask::Nothing).await, ErrorCode::NotCoordinator);
}

/// While neither the controller nor the WAL says anything, clients are told to look again, in time.
#[tokio::test(start_paused = true)]
async fn without_lease_and_wal_nothing_is_answered() {
    let (fixture, owner) = unheard().await;
    fixture.wal.hold();
    tokio::time::sleep(LEASE).await;
    let begun = tokio::time::Instant::now();
    let all = (0..10).map(|_| owner.ask("x".to_owned(), Ask::Nothing));
    assert_eq!(futures::future::join_all(all).await, [ErrorCode::NotCoordinator; 10]);
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "they wait one after the other"
    );
    fixture.wal.release();
    assert_eq!(owner.ask("x".to_owned(), Ask::Nothing).await, ErrorCode::None);
}
