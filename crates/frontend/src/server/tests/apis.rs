//! Metadata, topics, offsets by time, producer ids, and the order of answers.

use bytes::BytesMut;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Uuid};

use super::client::{Client, Server};
use crate::config::Config;
use crate::testing::batch;

fn names(names: &[&str]) -> Option<Vec<MetadataRequestTopic>> {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some((*name).into()),
        ..Default::default()
    };
    Some(names.iter().map(topic).collect())
}

async fn metadata(
    client: &mut Client,
    version: i16,
    topics: Option<Vec<MetadataRequestTopic>>,
    creates: bool,
) -> MetadataResponse {
    client
        .ask(
            version,
            &MetadataRequest {
                topics,
                allow_auto_topic_creation: creates,
                ..Default::default()
            },
        )
        .await
}

fn produce(topic: &str, records: BytesMut, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(records),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Rule 31: a topic is made only where request and broker both allow it; a bad name is INVALID_TOPIC.
#[tokio::test]
async fn rule_31_topics_are_made_where_both_sides_allow_it() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let refused = metadata(&mut client, 12, names(&["new"]), false).await;
    assert_eq!(refused.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
    let bad = metadata(&mut client, 12, names(&["a/b", ".."]), true).await;
    assert!(
        bad.topics
            .iter()
            .all(|topic| topic.error_code == ErrorCode::InvalidTopicException)
    );
    let made = metadata(&mut client, 12, names(&["new"]), true).await;
    assert_eq!(
        (made.topics[0].error_code, made.topics[0].partitions.len()),
        (ErrorCode::None, 4)
    );
    let collides = metadata(&mut client, 12, names(&["a.b"]), true).await;
    assert_eq!(collides.topics[0].error_code, ErrorCode::None);
    let collides = metadata(&mut client, 12, names(&["a_b"]), true).await;
    assert_eq!(collides.topics[0].error_code, ErrorCode::InvalidTopicException);

    let mut config = Config::default();
    config.topics.auto_create = false;
    let server = Server::with(config).await;
    let refused = metadata(&mut server.connect().await, 12, names(&["new"]), true).await;
    assert_eq!(refused.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
}

/// Rule 2: topics have ids from version 12 on, can be asked for by them, and a stale id is UNKNOWN_TOPIC_ID.
#[tokio::test]
async fn rule_2_topics_are_found_by_their_ids() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    let by_name = metadata(&mut client, 12, names(&["t"]), false).await;
    let id = by_name.topics[0].topic_id;
    assert_ne!(id, Uuid::nil());
    let by_id = |topic_id| Some(vec![MetadataRequestTopic { topic_id, name: None }]);
    let found = metadata(&mut client, 12, by_id(id), false).await;
    assert_eq!(found.topics, by_name.topics);
    let stale = metadata(&mut client, 12, by_id(Uuid::from_u128(9)), false).await;
    assert_eq!(
        (stale.topics[0].error_code, stale.topics[0].name.as_ref()),
        (ErrorCode::UnknownTopicId, None)
    );
}

/// All versions of Metadata say where brokers are, who leads, and that there is one replica.
#[tokio::test]
async fn every_version_of_metadata_shows_brokers_and_leaders() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    for version in 0..=13 {
        let response = metadata(
            &mut client,
            version,
            if version == 0 { Some(Vec::new()) } else { None },
            true,
        )
        .await;
        assert_eq!(response.brokers.len(), 1, "version {version}");
        let topic = &response.topics[0];
        assert_eq!(
            (topic.error_code, topic.name.as_deref()),
            (ErrorCode::None, Some("t")),
            "version {version}"
        );
        assert_eq!(
            (topic.partitions[0].leader_id, &topic.partitions[0].replica_nodes),
            (1, &vec![1])
        );
        let none = metadata(&mut client, version, Some(Vec::new()), true).await;
        assert_eq!(none.topics.is_empty(), version > 0, "version {version}");
    }
}

/// Rule 27: a new topic's answer has every setting with a source; what is wrong is refused one by one.
#[tokio::test]
async fn rule_27_topics_are_created_with_all_settings_shown() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let topic = |name: &str, partitions: i32, replicas: i16, config: Option<(&str, Option<&str>)>| CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        configs: config
            .map(|(name, value)| CreatableTopicConfig {
                name: name.into(),
                value: value.map(Str::from),
            })
            .into_iter()
            .collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![
            topic("good", 2, 3, Some(("max.message.bytes", Some("5000")))),
            topic("default", -1, -1, None),
            topic("a/b", 1, 1, None),
            topic("zero", 0, 1, None),
            topic("replicas", 1, 0, None),
            topic("unknown", 1, 1, Some(("nosuch", Some("1")))),
            topic("bad", 1, 1, Some(("segment.bytes", Some("1")))),
            topic("null", 1, 1, Some(("segment.bytes", None))),
            topic("twice", 1, 1, None),
            topic("twice", 1, 1, None),
        ],
        ..Default::default()
    };
    let response = client.ask(7, &request).await;
    let errors: Vec<(&str, ErrorCode)> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.error_code))
        .collect();
    let expected = [
        ("good", ErrorCode::None),
        ("default", ErrorCode::None),
        ("a/b", ErrorCode::InvalidTopicException),
        ("zero", ErrorCode::InvalidPartitions),
        ("replicas", ErrorCode::InvalidReplicationFactor),
        ("unknown", ErrorCode::InvalidConfig),
        ("bad", ErrorCode::InvalidConfig),
        ("null", ErrorCode::InvalidConfig),
        ("twice", ErrorCode::InvalidRequest),
    ];
    assert_eq!(errors, expected);
    let good = &response.topics[0];
    assert_eq!((good.num_partitions, good.replication_factor), (2, 1));
    let configs = good.configs.as_ref().unwrap();
    assert!(
        configs
            .iter()
            .all(|config| [1, 5].contains(&config.config_source) && config.value.is_some())
    );
    let set: Vec<_> = configs.iter().filter(|config| config.config_source == 1).collect();
    assert_eq!((set.len(), set[0].value.as_deref()), (1, Some("5000")));
    assert_eq!(response.topics[1].num_partitions, 4);
    let again = client
        .ask(
            7,
            &CreateTopicsRequest {
                topics: vec![topic("good", 1, 1, None)],
                ..Default::default()
            },
        )
        .await;
    assert_eq!(again.topics[0].error_code, ErrorCode::TopicAlreadyExists);
}

/// Rule 29: DeleteTopics answers for each topic, by name and by id, and the topic is gone with the answer.
#[tokio::test]
async fn rule_29_topics_are_deleted_by_name_and_by_id() {
    let server = Server::start().await;
    server.fixture.topic("a").await;
    let b = server.fixture.topic("b").await;
    let mut client = server.connect().await;
    let request = DeleteTopicsRequest {
        topic_names: vec!["a".into(), "x".into()],
        timeout_ms: 1000,
        ..Default::default()
    };
    let response = client.ask(5, &request).await;
    let errors: Vec<_> = response.responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    let state = |name: Option<&str>, topic_id| DeleteTopicState {
        name: name.map(Str::from),
        topic_id,
    };
    let topics = vec![
        state(None, b.topic().0),
        state(None, Uuid::from_u128(9)),
        state(Some("b"), b.topic().0),
        state(None, Uuid::nil()),
    ];
    let response = client
        .ask(
            6,
            &DeleteTopicsRequest {
                topics,
                timeout_ms: 1000,
                ..Default::default()
            },
        )
        .await;
    let errors: Vec<_> = response.responses.iter().map(|topic| topic.error_code).collect();
    let expected = [
        ErrorCode::None,
        ErrorCode::UnknownTopicId,
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidRequest,
    ];
    assert_eq!(errors, expected);
    assert!(metadata(&mut client, 12, None, false).await.topics.is_empty());
}

/// Rule 32: pipelined requests are answered in their order, and a Produce with acks=0 not at all.
#[tokio::test]
async fn rule_32_answers_come_in_order_and_none_for_acks_0() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client.send(9, &produce("t", batch(&[b"v"]), -1)).await);
    }
    client.send(9, &produce("t", batch(&[b"unheard"]), 0)).await;
    let list = ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                current_leader_epoch: -1,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let last = client.send(6, &list).await;
    for (offset, id) in ids.into_iter().enumerate() {
        let response = client.receive::<ProduceRequest>(id, 9).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(
            (partition.error_code, partition.base_offset),
            (ErrorCode::None, offset as i64)
        );
    }
    let end = client.receive::<ListOffsetsRequest>(last, 6).await;
    assert_eq!(
        end.topics[0].partitions[0].offset, 6,
        "the one without an answer was appended before"
    );
}

/// Rule 8: ends, starts and times, each from the version on that has it.
#[tokio::test]
async fn rule_8_offsets_are_listed_by_time() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    // The records' timestamps are a millisecond apart.
    let sent = client.ask(9, &produce("t", batch(&[b"a", b"b", b"c"]), -1)).await;
    assert_eq!(sent.responses[0].partition_responses[0].error_code, ErrorCode::None);
    let mut list = async |version: i16, timestamp: i64, current_leader_epoch: i32| {
        let partitions = vec![ListOffsetsPartition {
            timestamp,
            current_leader_epoch,
            partition_index: 0,
        }];
        let topics = vec![ListOffsetsTopic {
            name: "t".into(),
            partitions,
        }];
        let response = client
            .ask(
                version,
                &ListOffsetsRequest {
                    topics,
                    ..Default::default()
                },
            )
            .await;
        response.topics[0].partitions[0].clone()
    };
    let first = list(7, 0, -1).await;
    assert_eq!(first.offset, 0);
    let cases = [
        (-1, 3),
        (-2, 0),
        (-3, 2),
        (-4, 0),
        (-5, -1),
        (first.timestamp + 1, 1),
        (first.timestamp + 3, -1),
    ];
    for (timestamp, expected) in cases {
        let found = list(9, timestamp, -1).await;
        assert_eq!(
            (found.error_code, found.offset),
            (ErrorCode::None, expected),
            "{timestamp}"
        );
    }
    assert_eq!(list(6, -3, -1).await.error_code, ErrorCode::UnsupportedVersion);
    assert_eq!(list(9, -1, 99).await.error_code, ErrorCode::UnknownLeaderEpoch);
}

/// Idempotent producers get ids that nobody else has; one that half knows who it is is refused.
#[tokio::test]
async fn producer_ids_are_unique() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let ask = InitProducerIdRequest {
        transaction_timeout_ms: 1000,
        ..Default::default()
    };
    let (first, second) = (client.ask(4, &ask).await, client.ask(4, &ask).await);
    assert_eq!((first.error_code, first.producer_epoch), (ErrorCode::None, 0));
    assert_ne!(first.producer_id, second.producer_id);
    let half = InitProducerIdRequest { producer_id: 5, ..ask };
    assert_eq!(client.ask(4, &half).await.error_code, ErrorCode::InvalidRequest);
}
