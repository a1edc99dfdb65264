//! Several listeners: clients are told addresses of the one that they came through, and of no other.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_rpc::controller::NodeState;

use super::client::{Client, Server};
use crate::config::Config;
use crate::listeners::ListenerConfig;
use crate::testing::batch;

const INSIDE: usize = 0;
const OUTSIDE: usize = 1;

/// Node 1, which is connected to, has both listeners, at localhost:9092 and localhost:9093.
async fn two_listeners() -> Server {
    let mut config = Config::default();
    let outside = ListenerConfig {
        listen: "127.0.0.1:0".to_owned(),
        advertise: String::new(),
    };
    config.listeners.insert("OUTSIDE".to_owned(), outside);
    Server::with(config).await
}

/// A topic "t" that another node leads, which has these listeners.
async fn led_elsewhere(server: &Server, listeners: &[(&str, &str)]) -> Uuid {
    let fixture = &server.fixture;
    let partition = fixture.topic("t").await;
    let controller = &fixture.controller;
    controller.add_frontend_with(2, NodeState::Active, listeners);
    controller.move_to(controller.stream(partition.topic(), 0), 2);
    let mut changes = fixture.data.partitions.changes();
    while !partition.has_ended() {
        changes.changed().await.unwrap();
    }
    partition.topic().0
}

async fn brokers(client: &mut Client) -> Vec<(i32, String, i32)> {
    let metadata = client.ask(9, &MetadataRequest::default()).await;
    let described = client.ask(0, &DescribeClusterRequest::default()).await;
    let found = metadata.brokers.iter();
    let found: Vec<_> = found
        .map(|each| (each.node_id, each.host.as_str().to_owned(), each.port))
        .collect();
    let also = described.brokers.iter();
    let also: Vec<_> = also
        .map(|each| (each.broker_id, each.host.as_str().to_owned(), each.port))
        .collect();
    assert_eq!(found, also, "Metadata and DescribeCluster say the same");
    assert!(found.iter().any(|(id, ..)| *id == metadata.controller_id));
    assert_eq!(metadata.controller_id, described.controller_id);
    found
}

fn produce(topic_id: Uuid) -> ProduceRequest {
    ProduceRequest {
        acks: 1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            topic_id,
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch(&[b"x"])),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch(topic_id: Uuid) -> FetchRequest {
    FetchRequest {
        topics: vec![FetchTopic {
            topic_id,
            partitions: vec![FetchPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Where Produce and Fetch send a client that asks the wrong node (KIP-951); both the same.
async fn redirected(client: &mut Client, topic_id: Uuid) -> Option<(i32, String)> {
    let produced = client.ask(13, &produce(topic_id)).await;
    let fetched = client.ask(17, &fetch(topic_id)).await;
    let refused = &produced.responses[0].partition_responses[0];
    assert_eq!(refused.error_code, ErrorCode::NotLeaderOrFollower);
    let from_produce = produced.node_endpoints.first();
    let from_produce = from_produce.map(|node| (node.node_id, node.host.as_str().to_owned()));
    let from_fetch = fetched.node_endpoints.first();
    let from_fetch = from_fetch.map(|node| (node.node_id, node.host.as_str().to_owned()));
    assert_eq!(from_produce, from_fetch);
    assert_eq!(
        refused.current_leader.leader_id,
        from_produce.as_ref().map_or(-1, |(id, _)| *id)
    );
    from_produce
}

async fn coordinator(client: &mut Client) -> (ErrorCode, String, i32) {
    let find = FindCoordinatorRequest {
        key: "g".into(),
        ..Default::default()
    };
    let found = client.ask(3, &find).await;
    (found.error_code, found.host.as_str().to_owned(), found.port)
}

/// Every answer that holds an address holds the one of the client's own listener.
#[tokio::test]
async fn clients_are_told_addresses_of_their_own_listener() {
    let server = two_listeners().await;
    let (mut inside, mut outside) = (server.connect_to(INSIDE).await, server.connect_to(OUTSIDE).await);
    for (client, port) in [(&mut inside, 9092), (&mut outside, 9093)] {
        let expected = (ErrorCode::None, "localhost".to_owned(), port);
        assert_eq!(coordinator(client).await, expected);
    }
    let topic = led_elsewhere(&server, &[("PLAINTEXT", "in-two"), ("OUTSIDE", "out-two")]).await;
    for (client, port, host) in [(&mut inside, 9092, "in-two"), (&mut outside, 9093, "out-two")] {
        let expected = [(1, "localhost".to_owned(), port), (2, host.to_owned(), 9093)];
        assert_eq!(brokers(client).await, expected);
        assert_eq!(redirected(client, topic).await, Some((2, host.to_owned())));
    }
}

fn one_topic() -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some("t".into()),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

/// A broker without the client's listener isn't there for it, and a partition that it leads has LISTENER_NOT_FOUND, from
/// Metadata 6 on; before, LEADER_NOT_AVAILABLE. Clients of its listener find it.
#[tokio::test]
async fn a_broker_without_the_listener_is_left_out() {
    let server = two_listeners().await;
    let topic = led_elsewhere(&server, &[("PLAINTEXT", "in-two")]).await;
    let (mut inside, mut outside) = (server.connect_to(INSIDE).await, server.connect_to(OUTSIDE).await);
    assert_eq!(brokers(&mut inside).await.len(), 2);
    assert_eq!(brokers(&mut outside).await, [(1, "localhost".to_owned(), 9093)]);
    assert_eq!(redirected(&mut inside, topic).await, Some((2, "in-two".to_owned())));
    assert_eq!(redirected(&mut outside, topic).await, None);
    for version in 4..=9 {
        let metadata = inside.ask(version, &one_topic()).await;
        let partition = &metadata.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::None, 2));
        let metadata = outside.ask(version, &one_topic()).await;
        let partition = &metadata.topics[0].partitions[0];
        let expected = match version {
            ..6 => ErrorCode::LeaderNotAvailable,
            6.. => ErrorCode::ListenerNotFound,
        };
        assert_eq!((partition.error_code, partition.leader_id), (expected, -1), "{version}");
        assert_eq!(partition.replica_nodes, [2]);
    }
    let described = outside.ask(0, &DescribeTopicPartitionsRequest::default()).await;
    let partition = &described.topics[0].partitions[0];
    assert_eq!((partition.leader_id, &*partition.offline_replicas), (-1, &[2][..]));
}
