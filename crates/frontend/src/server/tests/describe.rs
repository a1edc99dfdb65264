//! What clients and administrators ask of brokers and partitions.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_rpc::controller::NodeState;
use tailwater_types::Lsn;

use super::client::{Client, Server};
use crate::testing::{START_MS, batch, commit, idempotent};

async fn epoch_ends(
    client: &mut Client,
    version: i16,
    topic: &str,
    asked: &[(i32, i32, i32)],
) -> Vec<LeaderEpochEndOffset> {
    let partition = |(partition, current_leader_epoch, leader_epoch): &(i32, i32, i32)| OffsetForLeaderPartition {
        partition: *partition,
        current_leader_epoch: *current_leader_epoch,
        leader_epoch: *leader_epoch,
    };
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic {
            topic: topic.into(),
            partitions: asked.iter().map(partition).collect(),
        }],
    };
    let mut response = client.ask(version, &request).await;
    response.topics.remove(0).partitions
}

/// Rule 10: epochs end where the next one begins, the current one at the high watermark, unknown ones nowhere; whoever
/// believes in an older or newer leadership is told so.
#[tokio::test]
async fn rule_10_leader_epochs_end_where_the_next_begins() {
    let server = Server::start().await;
    let fixture = &server.fixture;
    let partition = fixture.topic("t").await;
    for _ in 0..3 {
        commit(&partition, batch(&[b"x"])).await;
    }
    let journal = fixture.journal();
    let written = fixture.wal.entries(journal).len() as u64;
    fixture.controller.set_sealed(journal, Lsn(written));
    let stream = fixture.controller.stream(partition.topic(), 0);
    fixture.controller.move_to(stream, 1);
    fixture.controller.move_to(stream, 1);
    let mut changes = fixture.data.partitions.changes();
    let again = loop {
        match fixture.data.partitions.get(partition.topic(), 0) {
            Ok(found) if found.leader_epoch().0 == 2 => break found,
            _ => changes.changed().await.unwrap(),
        }
    };
    let mut client = server.connect().await;
    let shown = |found: Vec<LeaderEpochEndOffset>| -> Vec<(ErrorCode, i32, i64)> {
        let one = |found: LeaderEpochEndOffset| (found.error_code, found.leader_epoch, found.end_offset);
        found.into_iter().map(one).collect()
    };
    let none = ErrorCode::None;
    for version in 2..=4 {
        let asked = [
            (0, -1, 0),
            (0, 2, 1),
            (0, 2, 2),
            (0, -1, 3),
            (0, -1, -1),
            (0, 1, 0),
            (0, 3, 0),
            (9, -1, 0),
        ];
        let expected = [
            (none, 0, 3),
            (none, 0, 3),
            (none, 2, 3),
            (none, -1, -1),
            (none, -1, -1),
            (ErrorCode::FencedLeaderEpoch, -1, -1),
            (ErrorCode::UnknownLeaderEpoch, -1, -1),
            (ErrorCode::UnknownTopicOrPartition, -1, -1),
        ];
        assert_eq!(
            shown(epoch_ends(&mut client, version, "t", &asked).await),
            expected,
            "version {version}"
        );
        let unknown = epoch_ends(&mut client, version, "nope", &[(0, -1, 0)]).await;
        assert_eq!(shown(unknown), [(ErrorCode::UnknownTopicOrPartition, -1, -1)]);
    }
    commit(&again, batch(&[b"y"])).await;
    let after = epoch_ends(&mut client, 4, "t", &[(0, -1, 0), (0, -1, 1), (0, -1, 2)]).await;
    assert_eq!(shown(after), [(none, 0, 3), (none, 0, 3), (none, 2, 4)]);
    fixture.controller.move_to(stream, 7);
    while !again.has_ended() {
        changes.changed().await.unwrap();
    }
    let moved = epoch_ends(&mut client, 4, "t", &[(0, -1, 0)]).await;
    assert_eq!(shown(moved), [(ErrorCode::NotLeaderOrFollower, -1, -1)]);
}

/// Brokers are described with their addresses, fenced ones where they are asked for; controllers aren't reached here.
#[tokio::test]
async fn the_cluster_is_described() {
    let server = Server::start().await;
    server.fixture.controller.add_frontend(2, NodeState::Active, "two");
    server.fixture.controller.add_frontend(3, NodeState::Fenced, "three");
    server.fixture.controller.add_frontend(4, NodeState::Gone, "four");
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    for version in 0..=2 {
        let fenced = version == 2;
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            include_fenced_brokers: fenced,
            ..Default::default()
        };
        let response = client.ask(version, &request).await;
        assert_eq!((response.error_code, response.controller_id), (ErrorCode::None, 1));
        assert_eq!(
            (response.cluster_authorized_operations, response.cluster_id.len()),
            (8096, 22)
        );
        let brokers: Vec<_> = response
            .brokers
            .iter()
            .map(|broker| (broker.broker_id, &*broker.host, broker.port, broker.is_fenced))
            .collect();
        let mut expected = vec![(1, "localhost", 9092, false), (2, "two", 9093, false)];
        expected.extend(fenced.then_some((3, "three", 9093, true)));
        assert_eq!(brokers, expected, "version {version}");
    }
    for (endpoint_type, error) in [
        (2, ErrorCode::MismatchedEndpointType),
        (3, ErrorCode::UnsupportedEndpointType),
    ] {
        let request = DescribeClusterRequest {
            endpoint_type,
            ..Default::default()
        };
        let response = client.ask(1, &request).await;
        assert_eq!((response.error_code, response.brokers.len()), (error, 0));
        assert!(response.error_message.is_some());
    }
}

/// Whoever asks with Tailwater's own tag is told of the nodes of all tiers, in any version; nobody else is (ADR 9).
#[tokio::test]
async fn nodes_of_all_tiers_are_told_to_who_asks_for_them() {
    let server = Server::start().await;
    server.fixture.controller.add_frontend(2, NodeState::Fenced, "two");
    server.fixture.controller.add_frontend(4, NodeState::Gone, "four");
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    for version in 0..=2 {
        let response = client.ask(version, &DescribeClusterRequest::default()).await;
        assert_eq!(response.tailwater_nodes, None);
        let request = DescribeClusterRequest {
            tailwater_nodes: true,
            ..Default::default()
        };
        let response = client.ask(version, &request).await;
        let nodes = response.tailwater_nodes.unwrap();
        let shown: Vec<_> = nodes
            .iter()
            .map(|node| {
                (
                    node.node_id,
                    &*node.tier,
                    &*node.state,
                    node.listeners.first().map(|at| &*at.host),
                )
            })
            .collect();
        let expected = [
            (-1, "controller", "Active", None),
            (1, "frontend", "Active", Some("localhost")),
            (2, "frontend", "Fenced", Some("two")),
            (4, "frontend", "Gone", Some("four")),
        ];
        assert_eq!(shown, expected, "version {version}");
        let (session, own) = (server.fixture.data.session.clone(), &nodes[1]);
        assert_eq!(own.epoch, i64::try_from(session.node_epoch().0).unwrap());
    }
}

fn topics(names: &[&str]) -> Vec<TopicToDescribe> {
    names
        .iter()
        .map(|name| TopicToDescribe { name: (*name).into() })
        .collect()
}

/// Topics come in the order of their names, with so many partitions at a time; the cursor leads through all of them.
#[tokio::test]
async fn topics_are_described_a_page_at_a_time() {
    let server = Server::start().await;
    for (name, partitions) in [("b", 3), ("a", 2), ("c", 1)] {
        server.fixture.controller.add_topic(name, partitions, &[]);
    }
    let mut client = server.connect().await;
    for limit in 1..=7 {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let request = DescribeTopicPartitionsRequest {
                topics: Vec::new(),
                response_partition_limit: limit,
                cursor,
            };
            let response = client.ask(0, &request).await;
            let mut shown = 0;
            for topic in &response.topics {
                assert_eq!(
                    (topic.error_code, topic.topic_authorized_operations),
                    (ErrorCode::None, 3576)
                );
                for partition in &topic.partitions {
                    assert_eq!((partition.leader_id, &partition.replica_nodes), (1, &vec![1]));
                    found.push((topic.name.clone().unwrap().to_string(), partition.partition_index));
                    shown += 1;
                }
            }
            assert!(shown <= limit);
            cursor = response.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let expected = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)];
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, index)| ((*name).to_owned(), *index))
            .collect();
        assert_eq!(found, expected, "limit {limit}");
    }
}

/// Each topic has its own error; a cursor that names something else than was asked for is refused as Kafka refuses it.
#[tokio::test]
async fn described_topics_have_their_own_errors() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    let cursor = |topic: &str, partition_index| {
        Some(TopicPartitionCursor {
            topic_name: topic.into(),
            partition_index,
        })
    };
    let (none, invalid) = (ErrorCode::None, ErrorCode::InvalidRequest);
    let cases = [
        (
            vec!["zz", "t", "a b", "t"],
            None,
            vec![
                ("a b", ErrorCode::InvalidTopicException, 0),
                ("t", none, 1),
                ("zz", ErrorCode::UnknownTopicOrPartition, 0),
            ],
        ),
        (vec!["t", "a"], cursor("t", 0), vec![("t", none, 1)]),
        (vec!["t"], cursor("t", 7), vec![("t", none, 0)]),
        (vec!["t"], cursor("t", -1), vec![("t", invalid, 0)]),
        (vec!["t"], cursor("s", 0), vec![("t", invalid, 0)]),
    ];
    for (asked, cursor, expected) in cases {
        let request = DescribeTopicPartitionsRequest {
            topics: topics(&asked),
            cursor,
            ..Default::default()
        };
        let response = client.ask(0, &request).await;
        let found: Vec<_> = response
            .topics
            .iter()
            .map(|topic| {
                (
                    topic.name.as_deref().unwrap_or_default(),
                    topic.error_code,
                    topic.partitions.len(),
                )
            })
            .collect();
        assert_eq!(
            (found, response.next_cursor.is_some()),
            (expected, false),
            "{request:?}"
        );
    }
}

/// The producers that a partition remembers are shown with their last sequence and timestamp.
#[tokio::test]
async fn producers_are_described() {
    let server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    commit(&partition, idempotent(0, 3)).await;
    commit(&partition, idempotent(3, 2)).await;
    let mut client = server.connect().await;
    let topic = |name: &str, indexes: &[i32]| DescribeProducersTopic {
        name: name.into(),
        partition_indexes: indexes.to_vec(),
    };
    let request = DescribeProducersRequest {
        topics: vec![topic("t", &[0, 9]), topic("zz", &[0]), topic("a b", &[0])],
    };
    let response = client.ask(0, &request).await;
    let found: Vec<_> = response.topics.iter().flat_map(|topic| &topic.partitions).collect();
    let errors: Vec<ErrorCode> = found.iter().map(|partition| partition.error_code).collect();
    let expected = [
        ErrorCode::None,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::InvalidTopicException,
    ];
    assert_eq!(errors, expected);
    let only = ActiveProducer {
        producer_id: 7,
        producer_epoch: 0,
        last_sequence: 4,
        last_timestamp: START_MS,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    };
    assert_eq!(found[0].active_producers, [only]);
}

/// No election is ever needed where somebody leads; what isn't there is told, and where all are meant only what fails.
#[tokio::test]
async fn leaders_need_no_election() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    let asked = |topic: &str, partitions: &[i32]| ElectLeadersTopicPartitions {
        topic: topic.into(),
        partitions: partitions.to_vec(),
    };
    for version in 0..=2 {
        for election_type in if version == 0 { 0..=0 } else { 0..=1 } {
            let request = ElectLeadersRequest {
                election_type,
                topic_partitions: Some(vec![asked("t", &[0, 9]), asked("zz", &[0])]),
                ..Default::default()
            };
            let response = client.ask(version, &request).await;
            assert_eq!(response.error_code, ErrorCode::None);
            let results: Vec<_> = response
                .replica_election_results
                .iter()
                .flat_map(|topic| &topic.partition_result)
                .map(|result| (result.error_code, result.error_message.as_deref().unwrap_or_default()))
                .collect();
            let expected = [
                (
                    ErrorCode::ElectionNotNeeded,
                    "Leader election not needed for topic partition.",
                ),
                (ErrorCode::UnknownTopicOrPartition, "No such partition as t-9"),
                (ErrorCode::UnknownTopicOrPartition, "No such topic as zz"),
            ];
            assert_eq!(results, expected, "version {version}");
        }
    }
    let all = ElectLeadersRequest::default();
    let response = client.ask(2, &all).await;
    assert!(
        response
            .replica_election_results
            .iter()
            .all(|topic| topic.partition_result.is_empty())
    );
    let odd = ElectLeadersRequest {
        election_type: 7,
        ..Default::default()
    };
    assert_eq!(client.ask(2, &odd).await.error_code, ErrorCode::InvalidRequest);
}

/// The assignment that is there can be confirmed, no other made, and nothing is ever under way.
#[tokio::test]
async fn only_the_controller_assigns_partitions() {
    let server = Server::start().await;
    server.fixture.controller.add_topic("t", 1, &[]);
    server.fixture.controller.add_frontend(2, NodeState::Active, "two");
    let mut client = server.connect().await;
    let cases: &[(&str, i32, Option<&[i32]>, ErrorCode)] = &[
        ("t", 0, Some(&[1]), ErrorCode::None),
        ("t", 0, None, ErrorCode::NoReassignmentInProgress),
        ("t", 9, Some(&[1]), ErrorCode::UnknownTopicOrPartition),
        ("zz", 0, Some(&[1]), ErrorCode::UnknownTopicOrPartition),
        ("t", 0, Some(&[]), ErrorCode::InvalidReplicaAssignment),
        ("t", 0, Some(&[1, 1]), ErrorCode::InvalidReplicaAssignment),
        ("t", 0, Some(&[7]), ErrorCode::InvalidReplicaAssignment),
        ("t", 0, Some(&[2]), ErrorCode::InvalidReplicaAssignment),
        ("t", 0, Some(&[1, 2]), ErrorCode::InvalidReplicaAssignment),
    ];
    for version in 0..=1 {
        for (topic, partition_index, replicas, expected) in cases {
            let partition = ReassignablePartition {
                partition_index: *partition_index,
                replicas: replicas.map(<[i32]>::to_vec),
            };
            let request = AlterPartitionReassignmentsRequest {
                topics: vec![ReassignableTopic {
                    name: (*topic).into(),
                    partitions: vec![partition],
                }],
                ..Default::default()
            };
            let response = client.ask(version, &request).await;
            assert_eq!(response.responses[0].partitions[0].error_code, *expected, "{request:?}");
        }
    }
    let under_way = client.ask(0, &ListPartitionReassignmentsRequest::default()).await;
    assert_eq!((under_way.error_code, under_way.topics.len()), (ErrorCode::None, 0));
}

/// The quorum of the metadata is one voter, at the metadata's own version; nothing else has a quorum.
#[tokio::test]
async fn the_metadata_has_a_quorum_of_one() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    let request = |topic: &str| DescribeQuorumRequest {
        topics: vec![DescribeQuorumTopic {
            topic_name: topic.into(),
            partitions: vec![DescribeQuorumPartition { partition_index: 0 }],
        }],
    };
    for version in 0..=2 {
        let response = client.ask(version, &request("__cluster_metadata")).await;
        let found = &response.topics[0].partitions[0];
        let expected = server.fixture.data.view.version().0 as i64;
        assert_eq!(
            (found.error_code, found.leader_id, found.leader_epoch),
            (ErrorCode::None, 1, 1)
        );
        assert_eq!((found.high_watermark, found.observers.len()), (expected, 0));
        let voters: Vec<_> = found
            .current_voters
            .iter()
            .map(|voter| (voter.replica_id, voter.log_end_offset))
            .collect();
        assert_eq!(voters, [(1, expected)]);
        let nodes: Vec<i32> = response.nodes.iter().map(|node| node.node_id).collect();
        assert_eq!(nodes, if version == 2 { vec![1] } else { Vec::new() });
        let other = client.ask(version, &request("t")).await;
        assert_eq!(
            (other.topics[0].partitions[0].error_code, other.nodes.len()),
            (ErrorCode::UnknownTopicOrPartition, 0)
        );
    }
}

/// ApiVersions names the features with their level, from version 3 on; the level that is served can be asked for.
#[tokio::test]
async fn features_are_told_and_fixed() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for version in 0..=4 {
        let request = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
        };
        let response = client.ask(version, &request).await;
        let found: Vec<_> = response
            .finalized_features
            .iter()
            .map(|feature| (&*feature.name, feature.max_version_level))
            .collect();
        let (features, epoch) = match version {
            3.. => (
                vec![
                    ("group.version", 1),
                    ("metadata.version", 30),
                    ("transaction.version", 2),
                ],
                0,
            ),
            _ => (Vec::new(), -1),
        };
        assert_eq!(
            (found, response.finalized_features_epoch),
            (features, epoch),
            "version {version}"
        );
    }
    for version in 0..=2 {
        for (max_version_level, expected) in [(30, ErrorCode::None), (29, ErrorCode::InvalidUpdateVersion)] {
            let update = FeatureUpdateKey {
                feature: "metadata.version".into(),
                max_version_level,
                ..Default::default()
            };
            let request = UpdateFeaturesRequest {
                feature_updates: vec![update],
                ..Default::default()
            };
            let response = client.ask(version, &request).await;
            assert_eq!((response.error_code, response.results.len()), (expected, 0));
        }
    }
}

/// A frontend has one directory: partitions that it leads, with the bytes that are in objects and those that aren't yet;
/// where the controller doesn't answer there is an error instead of sizes.
#[tokio::test]
async fn log_dirs_have_the_sizes_of_partitions() {
    let mut server = Server::start().await;
    let partition = server.fixture.topic("t").await;
    server.fixture.controller.add_topic("u", 1, &[]);
    let (one, two) = (batch(&[b"x", b"y"]), batch(&[&[7; 500]]));
    commit(&partition, one.clone()).await;
    let journal = server.fixture.journal();
    let written = server.fixture.wal.entries(journal).len() as u64;
    server.fixture.upload(journal, Lsn(written), false).await;
    let stream = server.fixture.controller.stream(partition.topic(), 0);
    server.fixture.controller.set_bytes(stream, 1_000_000);
    let mut versions = server.fixture.data.view.subscribe();
    while server.fixture.data.view.uploaded(stream).0 < 2 {
        versions.changed().await.unwrap();
    }
    commit(&partition, two.clone()).await;
    let mut client = server.connect().await;
    let ask = |topics: Option<&[(&str, i32)]>| DescribeLogDirsRequest {
        topics: topics.map(|topics| {
            let topic = |(topic, partition): &(&str, i32)| DescribableLogDirTopic {
                topic: (*topic).into(),
                partitions: vec![*partition],
            };
            topics.iter().map(topic).collect()
        }),
    };
    let names = |response: &DescribeLogDirsResponse| -> Vec<String> {
        response.results[0]
            .topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    };
    for version in 1..=5 {
        let response = client.ask(version, &ask(Some(&[("t", 0), ("t", 9), ("zz", 0)]))).await;
        assert_eq!((response.error_code, response.results.len()), (ErrorCode::None, 1));
        let dir = &response.results[0];
        assert_eq!(
            (dir.error_code, dir.total_bytes, names(&response)),
            (ErrorCode::None, -1, vec!["t".to_owned()])
        );
        let [found] = &dir.topics[0].partitions[..] else {
            panic!("{dir:?}")
        };
        assert_eq!((found.partition_index, found.offset_lag), (0, 0));
        // The stretch of the log that is uploaded in part counts by its offsets.
        let size = found.partition_size - 1_000_000;
        assert!(0 < size && size <= (one.len() + two.len()) as i64, "{size}");
    }
    server
        .fixture
        .opened(server.fixture.data.view.snapshot().topic_named("u").unwrap().info.id, 0)
        .await;
    assert_eq!(names(&client.ask(5, &ask(None)).await), ["t", "u"]);
    assert_eq!(names(&client.ask(5, &ask(Some(&[]))).await), Vec::<String>::new());
    server.fixture.controller.hide_uploads();
    let response = client.ask(5, &ask(None)).await;
    assert_eq!(response.results[0].error_code, ErrorCode::KafkaStorageError);
    assert!(response.results[0].topics.is_empty());
}
