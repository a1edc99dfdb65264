//! Groups whose coordinator assigns (KIP-848), from the wire to the log and back.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Uuid};

use super::client::{Client, Server};
use super::groups::{commit, coordinator, join as classic_join};

/// The type of settings' resources that groups are.
const GROUP_RESOURCE: i8 = 32;

fn joins(member_id: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

fn in_epoch(member_id: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member_id.into(),
        member_epoch,
        ..Default::default()
    }
}

async fn describe(client: &mut Client) -> DescribedConsumerGroup {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec!["g".into()],
        include_authorized_operations: true,
    };
    client.ask(1, &request).await.groups.remove(0)
}

fn fetch(topic_id: Uuid, member_id: &str, member_epoch: i32) -> OffsetFetchRequest {
    OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            member_id: Some(member_id.into()),
            member_epoch,
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                topic_id,
                partition_indexes: vec![0],
            }]),
        }],
        ..Default::default()
    }
}

/// A member joins with its own id, gets its partitions, commits and fetches under its epoch by name and by id, and is found
/// again after a restart; in version 0 it gets an id.
#[tokio::test]
async fn a_member_joins_commits_and_survives_a_restart() {
    let server = Server::start().await;
    let topic_id = server.fixture.topic("t").await.topic().0;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let reply = client.ask(1, &joins("me")).await;
    assert_eq!(
        (reply.error_code, reply.member_epoch),
        (ErrorCode::None, 1),
        "{:?}",
        reply.error_message
    );
    assert_eq!(
        (reply.member_id.as_deref(), reply.heartbeat_interval_ms),
        (Some("me"), 5000)
    );
    let assignment = reply.assignment.unwrap().topic_partitions;
    assert_eq!(assignment.len(), 1);
    assert_eq!(assignment[0].topic_id, topic_id);
    let error = |response: OffsetCommitResponse| response.topics[0].partitions[0].error_code;
    for (version, epoch, expected) in [
        (9, 1, ErrorCode::None),
        (10, 1, ErrorCode::None),
        (9, 2, ErrorCode::StaleMemberEpoch),
        (8, 1, ErrorCode::UnsupportedVersion),
    ] {
        let mut request = commit("me", epoch, "t", "");
        if version >= 10 {
            request.topics[0].name = Default::default();
            request.topics[0].topic_id = topic_id;
        }
        assert_eq!(
            error(client.ask(version, &request).await),
            expected,
            "version {version}"
        );
    }
    let server = server.restart().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    assert_eq!(client.ask(1, &in_epoch("me", 1)).await.error_code, ErrorCode::None);
    for version in [9, 10] {
        let group = client.ask(version, &fetch(topic_id, "me", 1)).await.groups.remove(0);
        assert_eq!(
            (group.error_code, group.topics[0].partitions[0].committed_offset),
            (ErrorCode::None, 42)
        );
        let stale = client.ask(version, &fetch(topic_id, "me", 7)).await.groups.remove(0);
        assert_eq!(stale.error_code, ErrorCode::StaleMemberEpoch);
    }
    let reply = client.ask(0, &joins("")).await;
    assert_eq!(reply.error_code, ErrorCode::None);
    assert_eq!(reply.member_id.unwrap().len(), 36, "an id was given");
}

/// Administrators find out a group's type, and are told the other request's words where they ask for the wrong one.
#[tokio::test]
async fn administrators_see_both_types() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let none = describe(&mut client).await;
    assert_eq!(
        (none.error_code, none.error_message.as_deref()),
        (ErrorCode::GroupIdNotFound, Some("Group g not found."))
    );
    client.ask(1, &joins("me")).await;
    let group = describe(&mut client).await;
    assert_eq!(
        (group.error_code, &*group.group_state, group.group_epoch),
        (ErrorCode::None, "Stable", 1)
    );
    let member = &group.members[0];
    assert_eq!(
        (&*member.member_id, member.member_type, member.member_epoch),
        ("me", 1, 1)
    );
    assert_eq!(
        (&*member.client_id, &member.assignment),
        ("test", &member.target_assignment)
    );
    assert_eq!(&*member.assignment.topic_partitions[0].topic_name, "t");
    let as_classic = DescribeGroupsRequest {
        groups: vec!["g".into()],
        ..Default::default()
    };
    let wrong = client.ask(6, &as_classic).await.groups.remove(0);
    assert_eq!(
        (wrong.error_code, wrong.error_message.as_deref()),
        (ErrorCode::GroupIdNotFound, Some("Group g is not a classic group."))
    );
    let listed = |types: &[&str]| ListGroupsRequest {
        types_filter: types.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    };
    let found = client.ask(5, &listed(&["consumer"])).await.groups;
    assert_eq!(
        (&*found[0].group_type, &*found[0].group_state, &*found[0].protocol_type),
        ("consumer", "Stable", "consumer")
    );
    assert!(client.ask(5, &listed(&["classic"])).await.groups.is_empty());
    assert_eq!(client.ask(1, &in_epoch("me", -1)).await.error_code, ErrorCode::None);
    client.ask(3, &classic_join("")).await;
    let wrong = describe(&mut client).await;
    assert_eq!(wrong.error_message.as_deref(), Some("Group g is not a consumer group."));
}

/// What can't be is refused, with an explanation.
#[tokio::test]
async fn senseless_heartbeats_are_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let nameless = ConsumerGroupHeartbeatRequest {
        group_id: Default::default(),
        ..joins("me")
    };
    let sticky = ConsumerGroupHeartbeatRequest {
        server_assignor: Some("sticky".into()),
        ..joins("me")
    };
    let regex = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("(".into()),
        ..joins("me")
    };
    let cases = [
        (nameless, ErrorCode::InvalidRequest),
        (joins(""), ErrorCode::InvalidRequest),
        (sticky, ErrorCode::UnsupportedAssignor),
        (regex, ErrorCode::InvalidRegularExpression),
        (in_epoch("me", 3), ErrorCode::GroupIdNotFound),
    ];
    for (request, expected) in cases {
        let reply = client.ask(1, &request).await;
        assert_eq!((reply.error_code, reply.assignment), (expected, None), "{request:?}");
    }
}

/// A group obeys what is set of it, from the next heartbeat on.
#[tokio::test]
async fn groups_obey_their_own_settings() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    assert_eq!(client.ask(1, &joins("me")).await.heartbeat_interval_ms, 5000);
    let set = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalAlterConfigsResource {
            resource_type: GROUP_RESOURCE,
            resource_name: "g".into(),
            configs: vec![IncrementalAlterableConfig {
                name: "consumer.heartbeat.interval.ms".into(),
                value: Some("7000".into()),
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let answer = client.ask(1, &set).await;
    assert_eq!(
        answer.responses[0].error_code,
        ErrorCode::None,
        "{:?}",
        answer.responses[0].error_message
    );
    // The change comes with the next metadata.
    let mut interval_ms = 5000;
    while interval_ms == 5000 {
        interval_ms = client.ask(1, &in_epoch("me", 1)).await.heartbeat_interval_ms;
        tokio::task::yield_now().await;
    }
    assert_eq!(interval_ms, 7000);
}
