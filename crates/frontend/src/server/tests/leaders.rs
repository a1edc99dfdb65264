//! Where clients are sent that ask the wrong node.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Uuid};
use tailwater_rpc::controller::NodeState;

use super::client::Server;
use crate::testing::batch;

/// Topics by id: from here on in Fetch and in Produce.
const FIRST_ID_VERSION: i16 = 13;

/// A topic by name or by id, whichever the version has.
fn named(version: i16, id: Uuid) -> (Str, Uuid) {
    match version >= FIRST_ID_VERSION {
        true => (Str::default(), id),
        false => ("t".into(), Uuid::nil()),
    }
}

/// Rule 11: whoever asks a node that doesn't lead is told who does, and where it is reached, in the versions that can say
/// so (KIP-951); in older ones the error is all.
#[tokio::test]
async fn rule_11_the_leader_and_its_endpoint_are_told() {
    let server = Server::start().await;
    let fixture = &server.fixture;
    let partition = fixture.topic("t").await;
    let id = partition.topic().0;
    for (node, host) in [(2, "two"), (3, "three")] {
        fixture.controller.add_frontend(node, NodeState::Active, host);
    }
    fixture
        .controller
        .move_to(fixture.controller.stream(partition.topic(), 0), 2);
    let mut changes = fixture.data.partitions.changes();
    while !partition.has_ended() {
        changes.changed().await.unwrap();
    }
    let mut client = server.connect().await;
    for version in 4..=18 {
        let (topic, topic_id) = named(version, id);
        let request = FetchRequest {
            topics: vec![FetchTopic {
                topic,
                topic_id,
                partitions: vec![FetchPartition::default()],
            }],
            ..Default::default()
        };
        let response = client.ask(version, &request).await;
        let found = &response.responses[0].partitions[0];
        assert_eq!(found.error_code, ErrorCode::NotLeaderOrFollower, "Fetch {version}");
        let leader = (found.current_leader.leader_id, found.current_leader.leader_epoch);
        let endpoints: Vec<_> = response
            .node_endpoints
            .iter()
            .map(|at| (at.node_id, &*at.host, at.port))
            .collect();
        match version {
            16.. => assert_eq!(
                (leader, &endpoints[..]),
                ((2, 1), &[(2, "two", 9093)][..]),
                "Fetch {version}"
            ),
            _ => assert_eq!((leader, &endpoints[..]), ((-1, -1), &[][..]), "Fetch {version}"),
        }
    }
    for version in 3..=13 {
        let (name, topic_id) = named(version, id);
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 1000,
            topic_data: vec![TopicProduceData {
                name,
                topic_id,
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(batch(&[b"x"])),
                }],
            }],
            ..Default::default()
        };
        let response = client.ask(version, &request).await;
        let found = &response.responses[0].partition_responses[0];
        assert_eq!(found.error_code, ErrorCode::NotLeaderOrFollower, "Produce {version}");
        let leader = (found.current_leader.leader_id, found.current_leader.leader_epoch);
        let endpoints: Vec<_> = response
            .node_endpoints
            .iter()
            .map(|at| (at.node_id, &*at.host, at.port))
            .collect();
        match version {
            10.. => assert_eq!(
                (leader, &endpoints[..]),
                ((2, 1), &[(2, "two", 9093)][..]),
                "Produce {version}"
            ),
            _ => assert_eq!((leader, &endpoints[..]), ((-1, -1), &[][..]), "Produce {version}"),
        }
    }
}

/// Rule 11: a leader that clients can't reach isn't named, and a fetcher that is behind its leader's epoch is told the
/// leader's own.
#[tokio::test]
async fn rule_11_only_leaders_that_can_be_reached_are_told() {
    let server = Server::start().await;
    let fixture = &server.fixture;
    let partition = fixture.topic("t").await;
    let topic = partition.topic();
    let stream = fixture.controller.stream(topic, 0);
    fixture.controller.add_frontend(2, NodeState::Fenced, "two");
    fixture.controller.move_to(stream, 2);
    let mut changes = fixture.data.partitions.changes();
    while !partition.has_ended() {
        changes.changed().await.unwrap();
    }
    let mut client = server.connect().await;
    let request = |current_leader_epoch| FetchRequest {
        topics: vec![FetchTopic {
            topic_id: topic.0,
            partitions: vec![FetchPartition {
                current_leader_epoch,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = client.ask(17, &request(-1)).await;
    let found = &response.responses[0].partitions[0];
    assert_eq!(found.error_code, ErrorCode::NotLeaderOrFollower);
    assert_eq!((found.current_leader.leader_id, response.node_endpoints.len()), (-1, 0));
    fixture
        .controller
        .set_sealed(fixture.journal(), tailwater_types::Lsn(0));
    fixture.controller.move_to(stream, 1);
    fixture.opened(topic, 0).await;
    let response = client.ask(17, &request(0)).await;
    let found = &response.responses[0].partitions[0];
    assert_eq!(found.error_code, ErrorCode::FencedLeaderEpoch);
    assert_eq!(
        (found.current_leader.leader_id, found.current_leader.leader_epoch),
        (1, 2)
    );
    assert_eq!(response.node_endpoints.len(), 1);
    let response = client.ask(17, &request(9)).await;
    let found = &response.responses[0].partitions[0];
    assert_eq!(
        (found.error_code, found.current_leader.leader_id),
        (ErrorCode::UnknownLeaderEpoch, -1)
    );
}
