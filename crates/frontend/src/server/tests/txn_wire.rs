//! What of transactions only brokers and administrators ask, in every version that is offered.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;

use super::client::{Client, Server};
use super::txn::{ID, coordinator, end, fetch, init, produce};
use super::txn_kills::NOBODY;
use super::{groups, txn_offsets};
use crate::metadata::names;
use crate::testing::transactional;
use crate::txn::ProducerRef;

/// What each of `asked`, an id, a producer and whether it is only to be looked at, is answered about partition 0 of `t`.
async fn batched(client: &mut Client, version: i16, asked: &[(&str, ProducerRef, bool)]) -> Vec<ErrorCode> {
    let transaction = |(id, who, verify_only): &(&str, ProducerRef, bool)| AddPartitionsToTxnTransaction {
        transactional_id: (*id).into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        verify_only: *verify_only,
        topics: vec![AddPartitionsToTxnTopic {
            name: "t".into(),
            partitions: vec![0],
        }],
    };
    let request = AddPartitionsToTxnRequest {
        transactions: asked.iter().map(transaction).collect(),
        ..Default::default()
    };
    let answer = client.ask(version, &request).await;
    assert_eq!(answer.error_code, ErrorCode::None);
    let ids = answer
        .results_by_transaction
        .iter()
        .map(|result| result.transactional_id.as_str());
    assert!(
        ids.eq(asked.iter().map(|(id, ..)| *id)),
        "in the order of the questions"
    );
    let results = answer.results_by_transaction.into_iter();
    results
        .map(|mut result| {
            let mut topic = result.topic_results.remove(0);
            topic.results_by_partition.remove(0).partition_error_code
        })
        .collect()
}

/// Versions 4 and 5 of AddPartitionsToTxn ask about several transactions: they look, or add, each by itself.
#[tokio::test]
async fn brokers_ask_about_several_transactions_at_once() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    for version in [4, 5] {
        let who = init(&mut client).await;
        let stranger = ProducerRef { id: who.id + 1, ..who };
        let newer = ProducerRef {
            epoch: who.epoch + 1,
            ..who
        };
        let asked = [
            (ID, who, true),
            ("nobody", who, true),
            (ID, stranger, false),
            (ID, newer, false),
            (ID, who, false),
            (ID, who, true),
        ];
        let expected = [
            ErrorCode::TransactionAbortable,
            ErrorCode::InvalidProducerIdMapping,
            ErrorCode::InvalidProducerIdMapping,
            ErrorCode::ProducerFenced,
            ErrorCode::None,
            ErrorCode::None,
        ];
        assert_eq!(
            batched(&mut client, version, &asked).await,
            expected,
            "version {version}"
        );
        let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
        assert_eq!(produce(&mut client, &server, 11, batch).await, ErrorCode::None);
        assert_eq!(end(&mut client, who, true, 5).await.0, ErrorCode::None);
    }
}

/// AddOffsetsToTxn says what is wrong in the words of its version.
#[tokio::test]
async fn groups_are_added_in_every_version() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    txn_offsets::ready(&mut client).await;
    let zombie = init(&mut client).await;
    let who = init(&mut client).await;
    for version in 0..=4 {
        let mut add = async |id: &str, producer: ProducerRef| {
            let request = AddOffsetsToTxnRequest {
                transactional_id: id.into(),
                producer_id: producer.id,
                producer_epoch: producer.epoch,
                group_id: "g".into(),
            };
            client.ask(version, &request).await.error_code
        };
        let fenced = match version {
            ..=1 => ErrorCode::InvalidProducerEpoch,
            _ => ErrorCode::ProducerFenced,
        };
        assert_eq!(add(ID, zombie).await, fenced, "version {version}");
        assert_eq!(add("nobody", who).await, ErrorCode::InvalidProducerIdMapping);
        let stranger = ProducerRef { id: who.id + 1, ..who };
        assert_eq!(add(ID, stranger).await, ErrorCode::InvalidProducerIdMapping);
        assert_eq!(add("", who).await, ErrorCode::InvalidRequest);
        assert_eq!(add(ID, who).await, ErrorCode::None);
        assert_eq!(
            txn_offsets::commit(&mut client, who, 3, i64::from(version)).await,
            ErrorCode::None
        );
        assert_eq!(end(&mut client, who, true, 4).await.0, ErrorCode::None);
        assert_eq!(txn_offsets::stable(&mut client).await, i64::from(version));
    }
}

/// WriteTxnMarkers answers each partition by itself, whatever stands beside it: topics that aren't there, partitions that are
/// led elsewhere, and a partition of the groups' offsets, whose owner ends what is pending there.
#[tokio::test]
async fn markers_are_answered_partition_by_partition() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    server.fixture.topic("away").await;
    let mut client = server.connect().await;
    txn_offsets::ready(&mut client).await;
    for version in [1, 2] {
        let who = init(&mut client).await;
        let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
        assert_eq!(produce(&mut client, &server, 12, batch).await, ErrorCode::None);
        assert_eq!(
            txn_offsets::commit(&mut client, who, 5, i64::from(version)).await,
            ErrorCode::None
        );
        server.move_to("away", NOBODY).await;
        let group = server.partition_for(names::CONSUMER_OFFSETS, "g");
        let topics = [
            ("nowhere", vec![0, 1]),
            ("t", vec![0, 9]),
            ("away", vec![0]),
            ("nowhere either", vec![0]),
            (names::CONSUMER_OFFSETS, vec![group]),
        ];
        let request = WriteTxnMarkersRequest {
            markers: vec![WritableTxnMarker {
                producer_id: who.id,
                // A later one than the data's, as of transactions that end with a new epoch.
                producer_epoch: who.epoch + 1,
                transaction_result: true,
                topics: topics
                    .iter()
                    .map(|(name, partition_indexes)| WritableTxnMarkerTopic {
                        name: (*name).into(),
                        partition_indexes: partition_indexes.clone(),
                    })
                    .collect(),
                coordinator_epoch: 0,
                transaction_version: if version == 2 { 2 } else { 0 },
            }],
        };
        let mut answer = client.ask(version, &request).await;
        let found = answer.markers.remove(0).topics.into_iter();
        let found: Vec<_> = found
            .map(|topic| {
                let partitions = topic.partitions.iter();
                let partitions: Vec<_> = partitions.map(|one| (one.partition_index, one.error_code)).collect();
                (topic.name.to_string(), partitions)
            })
            .collect();
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let expected = [
            ("nowhere", vec![(0, unknown), (1, unknown)]),
            ("t", vec![(0, ErrorCode::None), (9, unknown)]),
            ("away", vec![(0, ErrorCode::NotLeaderOrFollower)]),
            ("nowhere either", vec![(0, unknown)]),
            (names::CONSUMER_OFFSETS, vec![(group, ErrorCode::None)]),
        ];
        let expected: Vec<_> = expected.map(|(name, errors)| (name.to_owned(), errors)).into();
        assert_eq!(found, expected, "version {version}");
        assert_eq!(partition.last_stable_offset(), partition.high_watermark());
        assert_eq!(
            fetch(&mut client, 1)
                .await
                .aborted_transactions
                .unwrap_or_default()
                .len(),
            0
        );
        assert_eq!(txn_offsets::stable(&mut client).await, i64::from(version));
    }
}

/// Rule 20: of a static member that was replaced, whatever comes by its old id is told so, in every request that names it.
#[tokio::test]
async fn rule_20_a_replaced_static_member_is_fenced_everywhere() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    groups::coordinator(&mut client).await;
    let mut join = async || {
        let request = JoinGroupRequest {
            group_instance_id: Some("pod-0".into()),
            ..groups::join("")
        };
        client.ask(5, &request).await
    };
    let old = join().await;
    assert_eq!(old.error_code, ErrorCode::None);
    let new = join().await;
    assert_eq!(new.error_code, ErrorCode::None);
    assert_ne!(old.member_id, new.member_id);
    let generation = new.generation_id;
    let instance = || Some("pod-0".into());
    let heartbeat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: old.member_id.clone(),
        group_instance_id: instance(),
    };
    assert_eq!(client.ask(4, &heartbeat).await.error_code, ErrorCode::FencedInstanceId);
    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: old.member_id.clone(),
        group_instance_id: instance(),
        ..Default::default()
    };
    assert_eq!(client.ask(4, &sync).await.error_code, ErrorCode::FencedInstanceId);
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: generation,
        member_id: old.member_id.clone(),
        group_instance_id: instance(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(8, &commit).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::FencedInstanceId);
    let rejoin = JoinGroupRequest {
        group_instance_id: instance(),
        ..groups::join(&old.member_id)
    };
    assert_eq!(client.ask(5, &rejoin).await.error_code, ErrorCode::FencedInstanceId);
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![MemberIdentity {
            member_id: old.member_id,
            group_instance_id: instance(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(
        client.ask(4, &leave).await.members[0].error_code,
        ErrorCode::FencedInstanceId
    );
}
