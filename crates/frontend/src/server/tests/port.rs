//! This frontend as other ones call it, over every way to it: in this process, and over gRPC. The same tests run over both.

use std::sync::Arc;

use tailwater_kafka::ErrorCode;
use tailwater_rpc::Error;
use tailwater_rpc::frontend::{AddPartitions, CallOrder, Frontend, MarkedPartition, MarkerFor, Peer, WriteMarkers};
use tailwater_rpc::grpc::{FrontendClient, frontend_routes, serve};
use tailwater_runtime::{Policy, Runtime};
use tailwater_types::{LeaderEpoch, NodeEpoch, TopicId};

use super::client::{Client, Server};
use super::txn::{ID, coordinator, fetch, init, produce};
use crate::testing::transactional;
use crate::txn::ProducerRef;

/// A frontend with a topic `t` and a transactional producer, and how it is called.
struct Subject {
    server: Server,
    client: Client,
    port: Arc<dyn Frontend>,
    who: ProducerRef,
}

impl Subject {
    async fn start() -> Self {
        let server = Server::start().await;
        server.fixture.topic("t").await;
        let mut client = server.connect().await;
        coordinator(&mut client).await;
        let who = init(&mut client).await;
        let port: Arc<dyn Frontend> = server.protocol.port();
        Self {
            server,
            client,
            port,
            who,
        }
    }

    async fn over_grpc(self) -> Self {
        let runtime = self.server.fixture.runtime.clone();
        let port = Arc::new(served(self.port, &runtime).await);
        Self { port, ..self }
    }

    /// The node itself, whose registration its metadata has, as of so many registrations before.
    fn peer(&self, registrations_ago: u64) -> Peer {
        let session = &self.server.fixture.data.session;
        Peer {
            node: session.node(),
            node_epoch: NodeEpoch(session.node_epoch().0 - registrations_ago),
        }
    }

    fn add(&self, verify_only: bool, topics: &[&str]) -> AddPartitions {
        AddPartitions {
            from: self.peer(0),
            transactional_id: ID.to_owned(),
            producer_id: self.who.id,
            producer_epoch: self.who.epoch,
            verify_only,
            partitions: topics.iter().map(|topic| ((*topic).to_owned(), 0)).collect(),
        }
    }

    fn abort(&self, topics: &[TopicId]) -> WriteMarkers {
        let marker = MarkerFor {
            producer_id: self.who.id,
            producer_epoch: self.who.epoch + 1,
            is_commit: false,
            coordinator_epoch: LeaderEpoch(0),
            transaction_version: 2,
            partitions: topics.iter().map(|topic| marked(*topic)).collect(),
        };
        WriteMarkers {
            from: self.peer(0),
            order: CallOrder::default(),
            markers: vec![marker],
        }
    }

    fn topic(&self) -> TopicId {
        let view = self.server.fixture.data.view.snapshot();
        view.topic_named("t").unwrap().info.id
    }
}

fn marked(topic: TopicId) -> MarkedPartition {
    MarkedPartition {
        topic,
        index: 0,
        leader_epoch: Some(LeaderEpoch(0)),
    }
}

/// A client of `port`, which is served on loopback.
async fn served(port: Arc<dyn Frontend>, runtime: &Runtime) -> FrontendClient {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = serve(
        listener,
        frontend_routes(port),
        runtime.tasks.token(),
        runtime.clock.clone(),
    );
    runtime.tasks.spawn("grpc", Policy::LOGGED_ABORT, async move {
        serving.await.unwrap();
    });
    FrontendClient::new(&address, runtime).unwrap()
}

macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        mod in_process {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Subject::start().await).await;
            })*
        }
        mod over_grpc {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Subject::start().await.over_grpc().await).await;
            })*
        }
    };
}

conformance!(
    an_older_registration_is_refused_first,
    partitions_are_added_and_verified,
    a_marker_ends_a_transaction_once,
);

/// Whatever it asks: a call under a registration that another one has replaced does nothing.
async fn an_older_registration_is_refused_first(on: Subject) {
    let stale = Error::NodeEpochStale {
        node: on.peer(0).node,
        carried: on.peer(1).node_epoch,
        registered: on.peer(0).node_epoch,
    };
    let mut add = on.add(false, &["t", "unknown"]);
    add.from = on.peer(1);
    assert_eq!(on.port.add_partitions(add).await, Err(stale.clone()));
    let mut abort = on.abort(&[TopicId::from_random(u128::MAX)]);
    abort.from = on.peer(1);
    assert_eq!(on.port.write_markers(abort).await, Err(stale));
}

/// A partition is in the transaction once it was added, and not before; of another producer nothing is.
async fn partitions_are_added_and_verified(on: Subject) {
    let verify = || on.port.add_partitions(on.add(true, &["t"]));
    assert_eq!(verify().await, Ok(vec![ErrorCode::TransactionAbortable]));
    let unknown = on.port.add_partitions(on.add(false, &["t", "unknown"])).await;
    let expected = [ErrorCode::OperationNotAttempted, ErrorCode::UnknownTopicOrPartition];
    assert_eq!(unknown, Ok(expected.to_vec()));
    for _ in 0..2 {
        let added = on.port.add_partitions(on.add(false, &["t"])).await;
        assert_eq!(added, Ok(vec![ErrorCode::None]), "it may be repeated");
    }
    assert_eq!(verify().await, Ok(vec![ErrorCode::None]));
    let mut other = on.add(true, &["t"]);
    other.producer_id += 1;
    assert_eq!(
        on.port.add_partitions(other).await,
        Ok(vec![ErrorCode::InvalidProducerIdMapping])
    );
}

/// Readers of committed records see the end once it is answered; a marker that is there already changes nothing, and a
/// partition that isn't there is named.
async fn a_marker_ends_a_transaction_once(mut on: Subject) {
    let batch = transactional(on.who.id, on.who.epoch, 0, &[b"x"]);
    let written = produce(&mut on.client, &on.server, 12, batch).await;
    assert_eq!(written, ErrorCode::None);
    assert_eq!(fetch(&mut on.client, 1).await.last_stable_offset, 0);
    let topics = [on.topic(), TopicId::from_random(u128::MAX)];
    let expected = vec![vec![ErrorCode::None, ErrorCode::UnknownTopicOrPartition]];
    for _ in 0..2 {
        assert_eq!(on.port.write_markers(on.abort(&topics)).await, Ok(expected.clone()));
        let found = fetch(&mut on.client, 1).await;
        assert!(found.last_stable_offset >= 2 && found.last_stable_offset == found.high_watermark);
        assert_eq!(found.aborted_transactions.unwrap_or_default().len(), 1);
    }
}
