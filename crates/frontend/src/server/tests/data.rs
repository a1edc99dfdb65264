//! What Produce, Fetch and ListOffsets say of topics and partitions, over the wire.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_types::Lsn;

use super::client::{Client, Server};
use crate::testing::{batch, commit};

/// The first version of both that names topics by id.
const BY_ID: i16 = 13;

async fn produce_to(client: &mut Client, topic_id: Uuid) -> PartitionProduceResponse {
    let request = ProduceRequest {
        acks: -1,
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
    };
    let mut response = client.ask(BY_ID, &request).await;
    response.responses.remove(0).partition_responses.remove(0)
}

async fn fetch_from(client: &mut Client, version: i16, topic: FetchTopic) -> PartitionData {
    let request = FetchRequest {
        min_bytes: 1,
        rack_id: "somewhere".into(),
        topics: vec![FetchTopic {
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..topic
        }],
        ..Default::default()
    };
    let mut response = client.ask(version, &request).await;
    response.responses.remove(0).partitions.remove(0)
}

/// Rule 2: Produce 13 and Fetch 13 name topics by id; a topic made anew under the name has another, and the old one is
/// UNKNOWN_TOPIC_ID.
#[tokio::test]
async fn rule_2_records_go_by_topic_id() {
    let server = Server::start().await;
    let old = server.fixture.topic("t").await;
    let mut client = server.connect().await;
    let by_id = |topic_id| FetchTopic {
        topic_id,
        ..Default::default()
    };
    let ids = (old.topic().0, Uuid::from_u128(9));
    for (id, expected) in [(ids.0, ErrorCode::None), (ids.1, ErrorCode::UnknownTopicId)] {
        assert_eq!(produce_to(&mut client, id).await.error_code, expected);
        assert_eq!(fetch_from(&mut client, BY_ID, by_id(id)).await.error_code, expected);
    }
    server.fixture.controller.delete_topic_now(old.topic());
    let new = server.fixture.topic("t").await;
    assert_ne!(new.topic(), old.topic());
    for (id, expected) in [(ids.0, ErrorCode::UnknownTopicId), (new.topic().0, ErrorCode::None)] {
        let sent = produce_to(&mut client, id).await;
        assert_eq!(
            (sent.error_code, sent.base_offset),
            (expected, if expected.is_error() { -1 } else { 0 })
        );
        assert_eq!(fetch_from(&mut client, BY_ID, by_id(id)).await.error_code, expected);
    }
}

/// Rule 23: nobody is sent to another replica, in any version and from any rack.
#[tokio::test]
async fn rule_23_no_other_replica_is_preferred() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    commit(&partition, batch(&[b"x"])).await;
    let mut client = server.connect().await;
    for version in 4..=18 {
        let topic = match version >= BY_ID {
            true => FetchTopic {
                topic_id: partition.topic().0,
                ..Default::default()
            },
            false => FetchTopic {
                topic: "t".into(),
                ..Default::default()
            },
        };
        let found = fetch_from(&mut client, version, topic).await;
        assert_eq!(
            (found.error_code, found.preferred_read_replica),
            (ErrorCode::None, -1),
            "version {version}"
        );
        assert!(
            found.records.is_some_and(|records| !records.is_empty()),
            "version {version}"
        );
    }
}

/// Rule 10: ListOffsets tells who believes in an older leadership that it is over, and who in a newer one that it isn't
/// known here, from the version on that can ask.
#[tokio::test]
async fn rule_10_listed_offsets_are_of_the_leadership_asked_for() {
    let server = Server::start().await;
    let fixture = &server.fixture;
    let topic = fixture.topic("t").await.topic();
    fixture.controller.set_sealed(fixture.journal(), Lsn(0));
    fixture.controller.move_to(fixture.controller.stream(topic, 0), 1);
    let mut changes = fixture.data.partitions.changes();
    while !matches!(fixture.data.partitions.get(topic, 0), Ok(found) if found.leader_epoch().0 == 1) {
        changes.changed().await.unwrap();
    }
    let mut client = server.connect().await;
    for version in 1..=11 {
        let cases = [
            (-1, ErrorCode::None),
            (0, ErrorCode::FencedLeaderEpoch),
            (1, ErrorCode::None),
            (2, ErrorCode::UnknownLeaderEpoch),
        ];
        for (current_leader_epoch, expected) in cases {
            let request = ListOffsetsRequest {
                topics: vec![ListOffsetsTopic {
                    name: "t".into(),
                    partitions: vec![ListOffsetsPartition {
                        partition_index: 0,
                        current_leader_epoch,
                        timestamp: -1,
                    }],
                }],
                ..Default::default()
            };
            let response = client.ask(version, &request).await;
            let found = &response.topics[0].partitions[0];
            let expected = if version >= 4 { expected } else { ErrorCode::None };
            assert_eq!(
                found.error_code, expected,
                "version {version}, epoch {current_leader_epoch}"
            );
            let epoch = if version >= 4 && !expected.is_error() { 1 } else { -1 };
            assert_eq!(found.leader_epoch, epoch, "version {version}");
        }
    }
}
