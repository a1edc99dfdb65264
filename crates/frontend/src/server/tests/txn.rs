//! What transactional producers, their readers and administrators see, over the wire.

use bytes::BytesMut;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::client::{Client, Server};
use crate::testing::transactional;
use crate::txn::ProducerRef;

pub(super) const ID: &str = "tx";

/// Waits until the id's coordinator answers.
pub(super) async fn coordinator(client: &mut Client) {
    let find = FindCoordinatorRequest {
        key_type: 1,
        coordinator_keys: vec![ID.into()],
        ..Default::default()
    };
    for _ in 0..500 {
        let found = client.ask(4, &find).await;
        let list = client.ask(0, &ListTransactionsRequest::default()).await;
        if (found.coordinators[0].error_code, list.error_code) == (ErrorCode::None, ErrorCode::None) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no coordinator");
}

pub(super) fn init_request(timeout_ms: i32) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: timeout_ms,
        ..Default::default()
    }
}

/// Initialises, and again while that is CONCURRENT_TRANSACTIONS, as clients do.
pub(super) async fn init(client: &mut Client) -> ProducerRef {
    for _ in 0..500 {
        let answer = client.ask(5, &init_request(60_000)).await;
        match answer.error_code {
            ErrorCode::ConcurrentTransactions => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            error => {
                assert_eq!(error, ErrorCode::None);
                return ProducerRef {
                    id: answer.producer_id,
                    epoch: answer.producer_epoch,
                };
            }
        }
    }
    panic!("the last transaction doesn't end");
}

async fn add(client: &mut Client, who: ProducerRef, version: i16) -> ErrorCode {
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: ID.into(),
        v3_and_below_producer_id: who.id,
        v3_and_below_producer_epoch: who.epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic {
            name: "t".into(),
            partitions: vec![0],
        }],
        ..Default::default()
    };
    let mut answer = client.ask(version, &request).await;
    let mut topic = answer.results_by_topic_v3_and_below.remove(0);
    topic.results_by_partition.remove(0).partition_error_code
}

pub(super) async fn produce(client: &mut Client, server: &Server, version: i16, batch: BytesMut) -> ErrorCode {
    let view = server.fixture.data.view.snapshot();
    let request = ProduceRequest {
        transactional_id: Some(ID.into()),
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            topic_id: if version >= 13 {
                view.topic_named("t").unwrap().info.id.0
            } else {
                Default::default()
            },
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch),
            }],
        }],
    };
    let mut response = client.ask(version, &request).await;
    response.responses.remove(0).partition_responses.remove(0).error_code
}

pub(super) async fn end(
    client: &mut Client,
    who: ProducerRef,
    committed: bool,
    version: i16,
) -> (ErrorCode, ProducerRef) {
    let request = EndTxnRequest {
        transactional_id: ID.into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        committed,
    };
    let answer = client.ask(version, &request).await;
    let next = ProducerRef {
        id: answer.producer_id,
        epoch: answer.producer_epoch,
    };
    (answer.error_code, next)
}

pub(super) async fn fetch(client: &mut Client, isolation_level: i8) -> PartitionData {
    let request = FetchRequest {
        max_wait_ms: 1,
        max_bytes: 1 << 20,
        isolation_level,
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![FetchPartition {
                current_leader_epoch: -1,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        session_epoch: -1,
        ..Default::default()
    };
    let mut answer = client.ask(12, &request).await;
    answer.responses.remove(0).partitions.remove(0)
}

/// Waits until everything in the partition is decided.
pub(super) async fn decided(client: &mut Client) -> PartitionData {
    for _ in 0..500 {
        let found = fetch(client, 1).await;
        if found.last_stable_offset == found.high_watermark {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the markers don't come");
}

pub(super) async fn describe(client: &mut Client, id: &str) -> DescribedTransaction {
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![id.into()],
    };
    client.ask(0, &request).await.transaction_states.remove(0)
}

/// Version 1: a producer says which partitions it will write, and keeps its epoch. Batches of partitions that it hasn't named
/// are refused.
#[tokio::test]
async fn transactions_of_the_first_version() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let who = init(&mut client).await;
    let batch = |sequence| transactional(who.id, who.epoch, sequence, &[b"x"]);
    assert_eq!(
        produce(&mut client, &server, 9, batch(0)).await,
        ErrorCode::InvalidTxnState
    );
    assert_eq!(
        produce(&mut client, &server, 11, batch(0)).await,
        ErrorCode::TransactionAbortable
    );
    assert_eq!(partition.log_end().0, 0);
    for (round, committed) in [(0, true), (1, false)] {
        assert_eq!(add(&mut client, who, 3).await, ErrorCode::None);
        assert_eq!(
            produce(&mut client, &server, 9, batch(2 * round)).await,
            ErrorCode::None
        );
        assert_eq!(
            produce(&mut client, &server, 11, batch(2 * round + 1)).await,
            ErrorCode::None
        );
        let open = fetch(&mut client, 1).await;
        assert_eq!(open.last_stable_offset, i64::from(3 * round));
        assert_eq!(end(&mut client, who, committed, 4).await.0, ErrorCode::None);
        let found = decided(&mut client).await;
        assert_eq!(found.high_watermark, i64::from(3 * round + 3));
        let aborted = found.aborted_transactions.unwrap_or_default();
        assert_eq!(aborted.len(), usize::from(!committed));
    }
}

/// Rule 16: version 2: Produce 12 adds partitions by itself, each end gives a new epoch, and a late batch of the old epoch
/// can't slip into the next transaction.
#[tokio::test]
async fn rule_16_transactions_of_the_second_version() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let mut who = init(&mut client).await;
    for committed in [true, false, true] {
        let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
        assert_eq!(produce(&mut client, &server, 13, batch).await, ErrorCode::None);
        let described = describe(&mut client, ID).await;
        assert_eq!(described.transaction_state.as_str(), "Ongoing");
        assert_eq!(
            (described.topics[0].topic.as_str(), &described.topics[0].partitions),
            ("t", &vec![0])
        );
        let (error, next) = end(&mut client, who, committed, 5).await;
        assert_eq!(error, ErrorCode::None);
        assert_eq!((next.id, next.epoch), (who.id, who.epoch + 1));
        // The next transaction begins while the last one ends, and waits for that by itself.
        let late = transactional(who.id, who.epoch, 1, &[b"late"]);
        let first = transactional(next.id, next.epoch, 0, &[b"y"]);
        assert_eq!(produce(&mut client, &server, 12, first).await, ErrorCode::None);
        assert_eq!(
            produce(&mut client, &server, 12, late).await,
            ErrorCode::InvalidProducerEpoch
        );
        who = end(&mut client, next, committed, 5).await.1;
        decided(&mut client).await;
    }
}

/// Rule 14: a zombie is refused at the partition with INVALID_PRODUCER_EPOCH, at the coordinator with PRODUCER_FENCED, which
/// older versions know as INVALID_PRODUCER_EPOCH.
#[tokio::test]
async fn rule_14_a_zombie_is_fenced_at_the_partition_and_the_coordinator() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let zombie = init(&mut client).await;
    let batch = |sequence| transactional(zombie.id, zombie.epoch, sequence, &[b"z"]);
    assert_eq!(produce(&mut client, &server, 12, batch(0)).await, ErrorCode::None);
    init(&mut client).await;
    let end_of_log = partition.log_end();
    for version in [9, 11, 12] {
        assert_eq!(
            produce(&mut client, &server, version, batch(1)).await,
            ErrorCode::InvalidProducerEpoch
        );
    }
    assert_eq!(partition.log_end(), end_of_log);
    for (version, expected) in [(1, ErrorCode::InvalidProducerEpoch), (2, ErrorCode::ProducerFenced)] {
        assert_eq!(add(&mut client, zombie, version).await, expected);
        assert_eq!(end(&mut client, zombie, true, version).await.0, expected);
    }
    assert_eq!(end(&mut client, zombie, true, 5).await.0, ErrorCode::ProducerFenced);
    for (version, expected) in [(3, ErrorCode::InvalidProducerEpoch), (4, ErrorCode::ProducerFenced)] {
        let request = InitProducerIdRequest {
            producer_id: zombie.id,
            producer_epoch: zombie.epoch,
            ..init_request(60_000)
        };
        assert_eq!(client.ask(version, &request).await.error_code, expected);
    }
}

/// Rule 15: impossible timeouts and the empty id are refused; an open transaction is aborted first.
#[tokio::test]
async fn rule_15_init_producer_id_is_checked_and_aborts_first() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    for timeout_ms in [0, -1, 900_001] {
        let answer = client.ask(5, &init_request(timeout_ms)).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidTransactionTimeout, "{timeout_ms}");
        assert_eq!((answer.producer_id, answer.producer_epoch), (-1, -1));
    }
    assert_eq!(client.ask(5, &init_request(900_000)).await.error_code, ErrorCode::None);
    let unnamed = InitProducerIdRequest {
        transactional_id: Some(Str::default()),
        ..init_request(1)
    };
    assert_eq!(client.ask(5, &unnamed).await.error_code, ErrorCode::InvalidRequest);
    let who = init(&mut client).await;
    let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
    assert_eq!(produce(&mut client, &server, 12, batch).await, ErrorCode::None);
    let answer = client.ask(5, &init_request(60_000)).await;
    assert_eq!(answer.error_code, ErrorCode::ConcurrentTransactions);
    let next = init(&mut client).await;
    assert!(next.id == who.id && next.epoch > who.epoch);
    let found = decided(&mut client).await;
    assert_eq!(found.aborted_transactions.unwrap_or_default().len(), 1);
}

/// A coordinator that dies with transactions open or decided has a successor that knows of them.
#[tokio::test]
async fn a_coordinator_knows_after_a_restart_what_it_knew() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let who = init(&mut client).await;
    let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
    assert_eq!(produce(&mut client, &server, 12, batch).await, ErrorCode::None);
    let server = server.restart().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    assert_eq!(describe(&mut client, ID).await.transaction_state.as_str(), "Ongoing");
    let (error, next) = end(&mut client, who, true, 5).await;
    assert_eq!((error, next.epoch), (ErrorCode::None, who.epoch + 1));
    let server = server.restart().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    assert_eq!(end(&mut client, who, true, 5).await, (ErrorCode::None, next));
    let found = decided(&mut client).await;
    assert_eq!(
        (
            found.high_watermark,
            found.aborted_transactions.unwrap_or_default().len()
        ),
        (2, 0)
    );
}

/// What administrators see: filters of states, ids, durations and patterns, unknown ids, and an end by their own hand.
#[tokio::test]
async fn administrators_see_and_end_transactions() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let who = init(&mut client).await;
    let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
    assert_eq!(produce(&mut client, &server, 12, batch).await, ErrorCode::None);
    let all = ListTransactionsRequest::default();
    let cases = [
        (all.clone(), 1),
        (
            ListTransactionsRequest {
                state_filters: vec!["Ongoing".into(), "Nonsense".into()],
                ..all.clone()
            },
            1,
        ),
        (
            ListTransactionsRequest {
                state_filters: vec!["Empty".into(), "Dead".into()],
                ..all.clone()
            },
            0,
        ),
        (
            ListTransactionsRequest {
                producer_id_filters: vec![who.id],
                ..all.clone()
            },
            1,
        ),
        (
            ListTransactionsRequest {
                producer_id_filters: vec![who.id + 1],
                ..all.clone()
            },
            0,
        ),
        (
            ListTransactionsRequest {
                duration_filter: 3_600_000,
                ..all.clone()
            },
            0,
        ),
        (
            ListTransactionsRequest {
                transactional_id_pattern: Some("t.".into()),
                ..all.clone()
            },
            1,
        ),
        (
            ListTransactionsRequest {
                transactional_id_pattern: Some("t".into()),
                ..all.clone()
            },
            0,
        ),
    ];
    for (request, count) in cases {
        let listed = client.ask(2, &request).await;
        assert_eq!(listed.transaction_states.len(), count, "{request:?}");
        let unknown = request
            .state_filters
            .iter()
            .filter(|state| state.as_str() == "Nonsense");
        assert_eq!(listed.unknown_state_filters.len(), unknown.count());
    }
    assert_eq!(
        describe(&mut client, "other").await.error_code,
        ErrorCode::TransactionalIdNotFound
    );
    assert_eq!(describe(&mut client, "").await.error_code, ErrorCode::InvalidRequest);

    let mut of_nobody = WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: who.id,
            producer_epoch: who.epoch,
            topics: vec![WritableTxnMarkerTopic {
                name: "t".into(),
                partition_indexes: vec![0],
            }],
            coordinator_epoch: i32::MAX,
            ..Default::default()
        }],
    };
    let mut epochs = Vec::new();
    for (epoch, producer_epoch) in [(i32::MAX, who.epoch), (0, -1)] {
        (
            of_nobody.markers[0].coordinator_epoch,
            of_nobody.markers[0].producer_epoch,
        ) = (epoch, producer_epoch);
        let mut answer = client.ask(1, &of_nobody).await;
        epochs.push(
            answer
                .markers
                .remove(0)
                .topics
                .remove(0)
                .partitions
                .remove(0)
                .error_code,
        );
    }
    assert_eq!(epochs, [ErrorCode::InvalidRequest, ErrorCode::InvalidProducerEpoch]);
    assert_eq!(partition.log_end().0, 1, "neither is in the log");

    let marker = |topic: &str| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: who.id,
            producer_epoch: who.epoch,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic {
                name: topic.into(),
                partition_indexes: vec![0],
            }],
            coordinator_epoch: -1,
            ..Default::default()
        }],
    };
    for (topic, expected) in [("nowhere", ErrorCode::UnknownTopicOrPartition), ("t", ErrorCode::None)] {
        let mut answer = client.ask(1, &marker(topic)).await;
        let mut topics = answer.markers.remove(0).topics;
        assert_eq!(topics.remove(0).partitions.remove(0).error_code, expected);
    }
    assert_eq!(partition.last_stable_offset(), partition.high_watermark());
    assert_eq!(
        decided(&mut client)
            .await
            .aborted_transactions
            .unwrap_or_default()
            .len(),
        1
    );
}
