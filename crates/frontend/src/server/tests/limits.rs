//! How many connections there may be, and for how long without a use.

use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_runtime::config::Millis;
use tokio::net::TcpSocket;

use super::client::{Client, Server};
use crate::config::Config;

async fn with(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config::default();
    change(&mut config);
    Server::with(config).await
}

impl Server {
    /// The value of a metric, given with its labels.
    fn metric(&self, name: &str) -> u64 {
        let text = self.fixture.runtime.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    async fn wait_for(&self, name: &str, value: u64) {
        let until = async {
            while self.metric(name) != value {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(20), until).await;
        assert!(reached.is_ok(), "{name} is {}, not {value}", self.metric(name));
    }
}

async fn is_served(client: &mut Client) -> bool {
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    client.ask(3, &request).await.error_code == ErrorCode::None
}

const OPEN: &str = "tailwater_frontend_connections";

/// A connection above the limit is closed at once and counted, the others go on, and one that ends makes room.
#[tokio::test]
async fn a_connection_above_the_limit_is_closed() {
    let server = with(|config| config.server.max_connections = 2).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    assert!(server.connect().await.is_closed().await);
    let over = "tailwater_frontend_connections_over_limit_total{limit=\"all\"}";
    server.wait_for(over, 1).await;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    drop(first);
    server.wait_for(OPEN, 1).await;
    // The place is given back just behind the count.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(is_served(&mut server.connect().await).await);
}

async fn connect_from(server: &Server, source: &str) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(source.parse().unwrap()).unwrap();
    let stream = socket.connect(server.protocol.addresses()[0].1).await.unwrap();
    Client::of(stream)
}

/// The limit of one address is no other's.
#[tokio::test]
async fn an_address_has_its_own_limit() {
    let server = with(|config| config.server.max_connections_per_ip = 1).await;
    let mut first = connect_from(&server, "127.0.0.1:0").await;
    assert!(is_served(&mut first).await);
    assert!(connect_from(&server, "127.0.0.1:0").await.is_closed().await);
    let over = "tailwater_frontend_connections_over_limit_total{limit=\"ip\"}";
    server.wait_for(over, 1).await;
    let mut other = connect_from(&server, "127.0.0.2:0").await;
    assert!(is_served(&mut other).await && is_served(&mut first).await);
}

fn long_poll(max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A connection without a request is closed after the idle timeout; a long poll, however long, is answered first, and the
/// time without a use begins with its answer.
#[tokio::test]
async fn an_idle_connection_is_closed_and_a_long_poll_is_not_idle() {
    let server = with(|config| config.server.idle_timeout = Millis(150)).await;
    server.fixture.topic("t").await;
    let (mut idle, mut waiting) = (server.connect().await, server.connect().await);
    let id = waiting.send(4, &long_poll(600)).await;
    assert!(idle.is_closed().await);
    let answer = waiting.receive::<FetchRequest>(id, 4).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::None);
    assert!(waiting.is_closed().await);
    server.wait_for("tailwater_frontend_connections_idle_total", 2).await;
}

/// Kafka's `connections.max.idle.ms` can be turned off.
#[tokio::test]
async fn without_an_idle_timeout_idle_connections_stay() {
    let server = with(|config| config.server.idle_timeout = Millis(0)).await;
    let mut idle = server.connect().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(is_served(&mut idle).await);
}

/// A client that is gone in the middle of a long poll keeps its descriptor no longer: nobody is there to be answered.
#[tokio::test]
async fn a_client_that_vanishes_in_a_long_poll_is_let_go() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    client.send(4, &long_poll(300_000)).await;
    server.wait_for("tailwater_frontend_fetch_waits_total", 1).await;
    assert_eq!(server.metric(OPEN), 1);
    drop(client);
    server.wait_for(OPEN, 0).await;
}
