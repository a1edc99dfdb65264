//! The frontends' port, over every way to reach one: in this process, and over gRPC.
//!
//! The same tests run over both: what they hold is the port's contract as its caller sees it, and that the wire changes nothing
//! of it. Whoever implements it is a fake here; what its answers rest on is the frontend's to test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use parking_lot::Mutex;
use tailwater_kafka::ErrorCode;
use tailwater_rpc::frontend::{
    AddPartitions, CallOrder, Fault, FaultyFrontend, Frontend, MarkedPartition, MarkerFor, Peer, WriteMarkers,
};
use tailwater_rpc::grpc::{FrontendClient, frontend_routes, serve};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::{CancellationToken, Policy, Runtime};
use tailwater_types::*;
use tokio::net::TcpListener;

use crate::support::{runtime, until, wire};

const REGISTERED: NodeEpoch = NodeEpoch(5);

/// What a frontend answers that knows one other one, and does what a test says.
#[derive(Default)]
struct Fake {
    marked: Mutex<Vec<WriteMarkers>>,
    added: Mutex<Vec<AddPartitions>>,
    answer: Mutex<Answer>,
    open: Arc<AtomicUsize>,
}

#[derive(Clone, Default)]
enum Answer {
    /// A code for each partition, another one each.
    #[default]
    Codes,
    Refused(Error),
    /// As if everything asked had no partitions.
    Nothing,
    Never,
}

/// A call that is being served for as long as this lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Fake {
    async fn answer(&self, from: Peer, asked: &[usize]) -> Result<Vec<Vec<ErrorCode>>> {
        self.open.fetch_add(1, Ordering::Relaxed);
        let _open = Open(self.open.clone());
        if from.node_epoch < REGISTERED {
            return Err(Error::NodeEpochStale {
                node: from.node,
                carried: from.node_epoch,
                registered: REGISTERED,
            });
        }
        let answer = self.answer.lock().clone();
        match answer {
            Answer::Codes => Ok(asked.iter().map(|asked| codes(*asked)).collect()),
            Answer::Refused(error) => Err(error),
            Answer::Nothing => Ok(vec![Vec::new(); asked.len()]),
            Answer::Never => futures::future::pending().await,
        }
    }

    async fn until_open(&self, wanted: usize) {
        until(async || (self.open.load(Ordering::Relaxed) == wanted).then_some(())).await;
    }
}

fn codes(count: usize) -> Vec<ErrorCode> {
    ErrorCode::ALL.iter().copied().cycle().take(count).collect()
}

#[async_trait]
impl Frontend for Fake {
    async fn write_markers(&self, request: WriteMarkers) -> Result<Vec<Vec<ErrorCode>>> {
        let asked: Vec<_> = request.markers.iter().map(|marker| marker.partitions.len()).collect();
        let answer = self.answer(request.from, &asked).await?;
        self.marked.lock().push(request);
        Ok(answer)
    }

    async fn add_partitions(&self, request: AddPartitions) -> Result<Vec<ErrorCode>> {
        let answer = self.answer(request.from, &[request.partitions.len()]).await?;
        self.added.lock().push(request);
        Ok(answer.into_iter().next().unwrap_or_default())
    }
}

/// The port as the tests see it, and who is behind it.
struct Subject {
    port: Arc<dyn Frontend>,
    fake: Arc<Fake>,
}

macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        mod in_process {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::in_process().await).await;
            })*
        }
        mod with_faults {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::with_faults().await).await;
            })*
        }
        mod over_grpc {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::over_grpc().await).await;
            })*
        }
    };
}

conformance!(
    markers_are_answered_one_by_one,
    partitions_are_answered_one_by_one,
    an_older_registration_is_refused,
    refusals_are_what_they_were,
    a_dropped_call_is_given_up,
    many_calls_at_once_keep_apart,
);

async fn in_process() -> Subject {
    let fake = Arc::new(Fake::default());
    Subject {
        port: fake.clone(),
        fake,
    }
}

/// None is ordered.
async fn with_faults() -> Subject {
    let fake = Arc::new(Fake::default());
    Subject {
        port: Arc::new(FaultyFrontend::new(fake.clone())),
        fake,
    }
}

async fn over_grpc() -> Subject {
    let (runtime, fake) = (runtime(), Arc::new(Fake::default()));
    let served = served(&fake, &runtime).await;
    let port = Arc::new(FrontendClient::new(&served.to_string(), &runtime).unwrap());
    Subject { port, fake }
}

async fn served(fake: &Arc<Fake>, runtime: &Runtime) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = serve(listener, frontend_routes(fake.clone()), stop, runtime.clock.clone());
    let serving = serving.map(|ended| ended.unwrap());
    runtime.tasks.spawn("grpc", Policy::FATAL_ABORT, serving);
    address
}

fn from(epoch: u64) -> Peer {
    Peer {
        node: NodeId(7),
        node_epoch: NodeEpoch(epoch),
    }
}

fn marker(producer_id: i64, is_commit: bool, partitions: i32) -> MarkerFor {
    MarkerFor {
        producer_id,
        producer_epoch: 3,
        is_commit,
        coordinator_epoch: LeaderEpoch(4),
        transaction_version: 2,
        partitions: (0..partitions).map(marked).collect(),
    }
}

fn marked(index: i32) -> MarkedPartition {
    MarkedPartition {
        topic: topic(),
        index,
        leader_epoch: Some(LeaderEpoch(6)),
    }
}

fn topic() -> TopicId {
    TopicId::from_random(9)
}

fn markers(epoch: u64) -> WriteMarkers {
    WriteMarkers {
        from: from(epoch),
        order: CallOrder {
            number: 9,
            over_below: 8,
        },
        markers: vec![marker(1, true, 3), marker(2, false, 0), marker(3, false, 1)],
    }
}

fn add(epoch: u64, producer_id: i64, partitions: i32) -> AddPartitions {
    AddPartitions {
        from: from(epoch),
        transactional_id: "t".to_owned(),
        producer_id,
        producer_epoch: 3,
        verify_only: producer_id % 2 == 0,
        partitions: (0..partitions).map(|index| ("topic".to_owned(), index)).collect(),
    }
}

/// Each partition of each marker has its own code, in the request's order, and the request arrives as it was made.
async fn markers_are_answered_one_by_one(on: Subject) {
    let answer = on.port.write_markers(markers(5)).await.unwrap();
    assert_eq!(answer, [codes(3), codes(0), codes(1)]);
    assert_eq!(*on.fake.marked.lock(), [markers(5)]);
    let none = WriteMarkers {
        from: from(5),
        order: CallOrder::default(),
        markers: Vec::new(),
    };
    assert_eq!(on.port.write_markers(none).await, Ok(Vec::new()));
}

/// As above, of partitions in a transaction: each code that there is.
async fn partitions_are_answered_one_by_one(on: Subject) {
    let all = i32::try_from(ErrorCode::ALL.len()).unwrap();
    for (producer_id, partitions) in [(1, all), (2, 0)] {
        let answer = on.port.add_partitions(add(5, producer_id, partitions)).await.unwrap();
        assert_eq!(answer, codes(partitions.try_into().unwrap()));
    }
    assert_eq!(*on.fake.added.lock(), [add(5, 1, all), add(5, 2, 0)]);
}

/// Who calls under an epoch before the registered one learns both, and certainly nothing was done; a newer one is served.
async fn an_older_registration_is_refused(on: Subject) {
    let stale = Error::NodeEpochStale {
        node: NodeId(7),
        carried: NodeEpoch(4),
        registered: REGISTERED,
    };
    assert_eq!(on.port.write_markers(markers(4)).await, Err(stale.clone()));
    assert_eq!(on.port.add_partitions(add(4, 1, 1)).await, Err(stale.clone()));
    assert_eq!((stale.kind(), stale.outcome()), (Kind::Fenced, Outcome::DidNotHappen));
    assert!(on.fake.marked.lock().is_empty() && on.fake.added.lock().is_empty());
    assert!(on.port.write_markers(markers(6)).await.is_ok());
}

/// What the call as a whole failed with comes back with whether it may have happened.
async fn refusals_are_what_they_were(on: Subject) {
    let unavailable = |outcome| Error::Unavailable {
        detail: "why".to_owned(),
        outcome,
    };
    let errors = [
        unavailable(Outcome::Unknown),
        unavailable(Outcome::DidNotHappen),
        Error::Shutdown,
        Error::NodeFenced { node: NodeId(7) },
        Error::Internal("why".to_owned()),
    ];
    for error in errors {
        *on.fake.answer.lock() = Answer::Refused(error.clone());
        assert_eq!(on.port.write_markers(markers(5)).await, Err(error.clone()));
        assert_eq!(on.port.add_partitions(add(5, 1, 1)).await, Err(error));
    }
}

/// Who drops a call isn't served any more.
async fn a_dropped_call_is_given_up(on: Subject) {
    *on.fake.answer.lock() = Answer::Never;
    let call = on.port.write_markers(markers(5));
    tokio::select! {
        biased;
        _ = call => panic!("it has no answer"),
        () = on.fake.until_open(1) => {}
    }
    on.fake.until_open(0).await;
    assert!(on.fake.marked.lock().is_empty());
}

/// Calls under way at the same time each get their own answer.
async fn many_calls_at_once_keep_apart(on: Subject) {
    let calls = (0..200).map(|partitions| on.port.add_partitions(add(5, 1, partitions)));
    let answers = futures::future::join_all(calls).await;
    for (asked, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer, Ok(codes(asked)));
    }
}

/// Both calls of a client, each with what it failed with.
async fn failures(client: &FrontendClient) -> [Error; 2] {
    let (marked, added) = tokio::join!(
        client.write_markers(markers(5)).map(Result::unwrap_err),
        client.add_partitions(add(5, 1, 1)).map(Result::unwrap_err)
    );
    [marked, added]
}

/// An answer that leaves partitions out is none: what it says could be said of others.
#[tokio::test]
async fn an_answer_of_another_length_is_an_error() {
    let (runtime, fake) = (runtime(), Arc::new(Fake::default()));
    *fake.answer.lock() = Answer::Nothing;
    let address = served(&fake, &runtime).await.to_string();
    for error in failures(&FrontendClient::new(&address, &runtime).unwrap()).await {
        assert_eq!((error.kind(), error.outcome()), (Kind::Internal, Outcome::Unknown));
        assert!(error.to_string().contains("0 partitions are answered"), "{error}");
    }
}

/// Without an answer in time the outcome is unknown, and the other side gives the call up too.
#[tokio::test]
async fn a_deadline_ends_a_call_on_both_sides() {
    let (runtime, fake) = (runtime(), Arc::new(Fake::default()));
    *fake.answer.lock() = Answer::Never;
    let address = served(&fake, &runtime).await.to_string();
    let client = FrontendClient::new(&address, &runtime).unwrap();
    for error in failures(&client.with_deadline(Duration::from_millis(100))).await {
        assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::Unknown));
        assert!(
            error.to_string().contains(&format!("the frontend at {address}")),
            "{error}"
        );
    }
    fake.until_open(0).await;
}

/// Where nobody listens nothing happened.
#[tokio::test]
async fn without_a_connection_nothing_happened() {
    let runtime = runtime();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for error in failures(&FrontendClient::new(&free.to_string(), &runtime).unwrap()).await {
        assert_eq!(
            (error.kind(), error.outcome()),
            (Kind::Unavailable, Outcome::DidNotHappen),
            "{error}"
        );
    }
    assert!(matches!(
        FrontendClient::new("frontend", &runtime),
        Err(Error::Invalid(_))
    ));
}

/// A frontend that has fallen silent in a call is noticed long before the call's own deadline.
#[tokio::test]
async fn a_silent_frontend_is_noticed() {
    let (runtime, fake) = (runtime(), Arc::new(Fake::default()));
    *fake.answer.lock() = Answer::Never;
    let (address, cut) = (served(&fake, &runtime).await, CancellationToken::new());
    let through = wire(address, cut.clone(), &runtime).await.to_string();
    let client = FrontendClient::new(&through, &runtime).unwrap();
    let client = client.with_deadline(Duration::from_secs(600));
    let silent = async {
        fake.until_open(1).await;
        cut.cancel();
    };
    let (answer, ()) = tokio::join!(client.write_markers(markers(5)), silent);
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::Unknown));
    fake.until_open(0).await;
}

/// What each fault does, and what the caller is told of it.
#[tokio::test]
async fn a_frontend_that_fails_does_as_it_is_told() {
    let fake = Arc::new(Fake::default());
    let port = FaultyFrontend::new(fake.clone());
    let held = CancellationToken::new();
    let marked = |fake: &Fake| fake.marked.lock().len();
    let cases = [
        (Some(Fault::Before), Some(Outcome::DidNotHappen), 0, 0),
        (Some(Fault::After), Some(Outcome::Unknown), 1, 0),
        (Some(Fault::Late), Some(Outcome::Unknown), 0, 1),
        (Some(Fault::Twice), None, 1, 1),
        (None, None, 1, 0),
    ];
    for (fault, outcome, effects, late) in cases {
        let before = marked(&fake);
        port.order([fault.clone()]);
        let answer = port.write_markers(markers(5)).await;
        assert_eq!(answer.err().map(|error| error.outcome()), outcome, "{fault:?}");
        assert_eq!(marked(&fake) - before, effects, "{fault:?}");
        assert_eq!(port.late(), late, "{fault:?}");
        assert_eq!(port.deliver(0).await, late > 0);
        assert_eq!(marked(&fake) - before, effects + late, "{fault:?}");
    }
    port.order([Some(Fault::Held(held.clone())), None]);
    let order = Mutex::new(Vec::new());
    let first = port.add_partitions(add(5, 1, 1)).map(|_| order.lock().push("first"));
    let second = async {
        let _ = port.add_partitions(add(5, 2, 1)).await;
        order.lock().push("second");
        held.cancel();
    };
    tokio::join!(first, second);
    assert_eq!(*order.lock(), ["second", "first"]);
}
