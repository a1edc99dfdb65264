//! What clients see of transactions in partitions, over the wire.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::TransactionEnd;
use tailwater_kafka::messages::*;

use super::client::{Client, Server};
use crate::testing::{START_MS, batch, commit, commit_verified, end, marker, send_marker, transactional};

async fn offset_at(client: &mut Client, isolation_level: i8, timestamp: i64) -> i64 {
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                current_leader_epoch: -1,
                timestamp,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let mut response = client.ask(7, &request).await;
    let found = response.topics.remove(0).partitions.remove(0);
    assert_eq!(found.error_code, ErrorCode::None);
    found.offset
}

/// Rule 8: under read_committed the end is the last stable offset, and no time is found at or behind it.
#[tokio::test]
async fn rule_8_the_end_under_read_committed_is_the_last_stable_offset() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    commit(&partition, batch(&[b"a"])).await;
    commit_verified(&partition, transactional(7, 0, 0, &[b"b"])).await;
    commit(&partition, batch(&[b"c", b"d"])).await;
    let mut client = server.connect().await;
    let (uncommitted, committed) = (0, 1);
    assert_eq!(offset_at(&mut client, uncommitted, -1).await, 4);
    assert_eq!(offset_at(&mut client, committed, -1).await, 1);
    assert_eq!(offset_at(&mut client, committed, -2).await, 0);
    assert_eq!(offset_at(&mut client, committed, START_MS).await, 0);
    assert_eq!(offset_at(&mut client, uncommitted, START_MS + 1).await, 3);
    assert_eq!(offset_at(&mut client, committed, START_MS + 1).await, -1);
    end(&partition, 7, 0, TransactionEnd::Commit).await;
    assert_eq!(offset_at(&mut client, committed, -1).await, 5);
    assert_eq!(offset_at(&mut client, committed, START_MS + 1).await, 3);
}

async fn describe(client: &mut Client) -> Vec<ActiveProducer> {
    let request = DescribeProducersRequest {
        topics: vec![DescribeProducersTopic {
            name: "t".into(),
            partition_indexes: vec![0],
        }],
    };
    let mut response = client.ask(0, &request).await;
    let mut described = response.topics.remove(0).partitions.remove(0);
    described.active_producers.sort_by_key(|producer| producer.producer_id);
    described.active_producers
}

/// DescribeProducers shows where a transaction began, and which coordinator ended the last one.
#[tokio::test]
async fn open_transactions_are_described() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    commit_verified(&partition, transactional(7, 2, 0, &[b"a", b"b"])).await;
    commit_verified(&partition, transactional(8, 0, 0, &[b"c"])).await;
    let mut client = server.connect().await;
    let shown = |producers: Vec<ActiveProducer>| -> Vec<_> {
        let one = |producer: ActiveProducer| {
            (
                producer.producer_id,
                producer.producer_epoch,
                producer.last_sequence,
                producer.coordinator_epoch,
                producer.current_txn_start_offset,
            )
        };
        producers.into_iter().map(one).collect()
    };
    assert_eq!(shown(describe(&mut client).await), [(7, 2, 1, -1, 0), (8, 0, 0, -1, 2)]);
    end(&partition, 7, 2, TransactionEnd::Abort).await;
    end(&partition, 8, 1, TransactionEnd::Commit).await;
    let described = describe(&mut client).await;
    assert!(described.iter().all(|producer| producer.last_timestamp >= START_MS));
    assert_eq!(
        shown(described),
        [(7, 2, 1, 1, -1), (8, 1, -1, 1, -1)],
        "a new epoch has no sequence yet"
    );
}

/// Rule 14: data of an epoch that a marker has fenced is INVALID_PRODUCER_EPOCH.
#[tokio::test]
async fn rule_14_a_zombies_data_is_refused_over_the_wire() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    let mut client = server.connect().await;
    let mut produce = async |epoch: i16| {
        let mut builder = tailwater_kafka::batch::BatchBuilder::new().producer(7, epoch, 0);
        builder.push(START_MS, None, Some(b"x"), &[]);
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 1000,
            topic_data: vec![TopicProduceData {
                topic_id: partition.topic().0,
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(builder.build()),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut response = client.ask(13, &request).await;
        response.responses.remove(0).partition_responses.remove(0).error_code
    };
    let sent = send_marker(&partition, marker(7, 4, TransactionEnd::Abort)).await;
    sent.unwrap().committed().await.unwrap();
    assert_eq!(produce(3).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(produce(4).await, ErrorCode::None);
}
