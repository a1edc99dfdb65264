//! What administrators ask of groups, over the wire: described, listed, deleted.

use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::client::{Client, Server};
use super::groups::LOOKS;

const ALL_GROUP_OPERATIONS: i32 = 3400;

/// Waits until every coordinator is there and has loaded: lists are answered then.
async fn coordinators(client: &mut Client) {
    let find = FindCoordinatorRequest {
        key: "g".into(),
        ..Default::default()
    };
    for _ in 0..LOOKS {
        if client.ask(3, &find).await.error_code == ErrorCode::None {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut loaded = 0;
    for group in ["g", "h", "i", "j", "k", "l"] {
        let request = OffsetFetchRequest {
            group_id: group.into(),
            ..Default::default()
        };
        for _ in 0..LOOKS {
            if client.ask(5, &request).await.error_code == ErrorCode::None {
                loaded += 1;
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(loaded, 6);
}

async fn commit(client: &mut Client, group: &str, topic: &str) -> ErrorCode {
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 42,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    client.ask(8, &request).await.topics[0].partitions[0].error_code
}

/// A member of `group` in a stable generation, subscribed to topic `t`.
async fn stable(client: &mut Client, group: &str) -> Str {
    let join = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        }],
        ..Default::default()
    };
    let joined = client.ask(3, &join).await;
    assert_eq!(joined.error_code, ErrorCode::None);
    let sync = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"part"),
        }],
        ..Default::default()
    };
    assert_eq!(client.ask(3, &sync).await.error_code, ErrorCode::None);
    joined.member_id
}

async fn leave(client: &mut Client, group: &str, member_id: Str) {
    let leave = LeaveGroupRequest {
        group_id: group.into(),
        member_id,
        ..Default::default()
    };
    assert_eq!(client.ask(2, &leave).await.error_code, ErrorCode::None);
}

fn describe(groups: &[&str], include_authorized_operations: bool) -> DescribeGroupsRequest {
    DescribeGroupsRequest {
        groups: groups.iter().map(|group| Str::from(*group)).collect(),
        include_authorized_operations,
    }
}

/// Every version describes a stable group; an unknown one is dead up to version 5, and an error from 6 on.
#[tokio::test]
async fn groups_are_described_in_every_version() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinators(&mut client).await;
    let member = stable(&mut client, "g").await;
    for version in 0..=6 {
        let asked = describe(&["g", "nope"], version >= 3);
        let response = client.ask(version, &asked).await;
        let [found, unknown] = &response.groups[..] else {
            panic!("{response:?}")
        };
        assert_eq!(
            (found.error_code, &*found.group_state),
            (ErrorCode::None, "Stable"),
            "version {version}"
        );
        assert_eq!((&*found.protocol_type, &*found.protocol_data), ("consumer", "range"));
        let shown = &found.members[0];
        assert_eq!(
            (&shown.member_id, &*shown.client_id, &*shown.client_host),
            (&member, "test", "/127.0.0.1")
        );
        assert_eq!(&shown.member_assignment[..], b"part");
        let operations = if version >= 3 { ALL_GROUP_OPERATIONS } else { i32::MIN };
        assert_eq!(found.authorized_operations, operations);
        let (error, message) = match version {
            6 => (ErrorCode::GroupIdNotFound, Some("Group nope not found.")),
            _ => (ErrorCode::None, None),
        };
        assert_eq!((unknown.error_code, unknown.error_message.as_deref()), (error, message));
        assert_eq!(&*unknown.group_state, "Dead");
    }
}

/// Groups of all coordinators are listed, by state and by type where that is asked for, in any case of letters.
#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    let none = client.ask(5, &ListGroupsRequest::default()).await;
    assert_eq!(
        (none.error_code, none.groups.len()),
        (ErrorCode::None, 0),
        "before there is any coordinator"
    );
    coordinators(&mut client).await;
    stable(&mut client, "g").await;
    for group in ["h", "i", "j"] {
        assert_eq!(commit(&mut client, group, "t").await, ErrorCode::None);
    }
    type Names = &'static [&'static str];
    let cases: &[(i16, Names, Names, Names)] = &[
        (0, &[], &[], &["g", "h", "i", "j"]),
        (5, &[], &[], &["g", "h", "i", "j"]),
        (4, &["stable"], &[], &["g"]),
        (4, &["Stable", "EMPTY"], &[], &["g", "h", "i", "j"]),
        (4, &[" stable "], &[], &["g"]),
        (5, &["Empty"], &["Classic"], &["h", "i", "j"]),
        (5, &[], &["consumer"], &[]),
        (5, &[], &[" classic "], &[]),
        (5, &["no such state"], &[], &[]),
    ];
    for (version, states, types, expected) in cases {
        let texts = |texts: Names| texts.iter().map(|text| Str::from(*text)).collect();
        let request = ListGroupsRequest {
            states_filter: texts(states),
            types_filter: texts(types),
        };
        let response = client.ask(*version, &request).await;
        let mut found: Vec<&str> = response.groups.iter().map(|group| &*group.group_id).collect();
        found.sort_unstable();
        assert_eq!(
            (response.error_code, &found[..]),
            (ErrorCode::None, *expected),
            "{request:?}"
        );
        if *version == 5 {
            assert!(response.groups.iter().all(|group| &*group.group_type == "classic"));
        }
    }
}

/// A group with members isn't deleted; an empty one is, once, and is still gone after a restart.
#[tokio::test]
async fn groups_are_deleted_for_good() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinators(&mut client).await;
    let member = stable(&mut client, "g").await;
    commit(&mut client, "h", "t").await;
    let request = DeleteGroupsRequest {
        groups_names: ["g", "h", "nope", "h"].map(Str::from).to_vec(),
    };
    let errors = |response: DeleteGroupsResponse| -> Vec<ErrorCode> {
        response.results.iter().map(|group| group.error_code).collect()
    };
    let expected = [ErrorCode::NonEmptyGroup, ErrorCode::None, ErrorCode::GroupIdNotFound];
    assert_eq!(errors(client.ask(2, &request).await), expected);
    leave(&mut client, "g", member).await;
    let expected = [ErrorCode::None, ErrorCode::GroupIdNotFound, ErrorCode::GroupIdNotFound];
    assert_eq!(errors(client.ask(0, &request).await), expected);

    let server = server.restart().await;
    let mut client = server.connect().await;
    coordinators(&mut client).await;
    let left = client.ask(5, &ListGroupsRequest::default()).await;
    assert_eq!((left.error_code, left.groups.len()), (ErrorCode::None, 0));
}

/// Offsets are deleted one by one: not where a member reads the topic, nor of partitions that aren't there.
#[tokio::test]
async fn offsets_are_deleted_partition_by_partition() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    server.fixture.topic("u").await;
    let mut client = server.connect().await;
    coordinators(&mut client).await;
    for topic in ["t", "u"] {
        assert_eq!(commit(&mut client, "g", topic).await, ErrorCode::None);
    }
    stable(&mut client, "g").await;
    let delete = |group: &str, topics: &[(&str, i32)]| OffsetDeleteRequest {
        group_id: group.into(),
        topics: topics
            .iter()
            .map(|(name, partition_index)| OffsetDeleteRequestTopic {
                name: (*name).into(),
                partitions: vec![OffsetDeleteRequestPartition {
                    partition_index: *partition_index,
                }],
            })
            .collect(),
    };
    let all = [("u", 9), ("t", 0), ("u", 0), ("x", 0)];
    let response = client.ask(0, &delete("g", &all)).await;
    let errors: Vec<ErrorCode> = response
        .topics
        .iter()
        .map(|topic| topic.partitions[0].error_code)
        .collect();
    let expected = [
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::GroupSubscribedToTopic,
        ErrorCode::None,
        ErrorCode::UnknownTopicOrPartition,
    ];
    assert_eq!((response.error_code, &errors[..]), (ErrorCode::None, &expected[..]));
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: None,
        ..Default::default()
    };
    let left = client.ask(7, &request).await;
    assert_eq!((left.topics.len(), &*left.topics[0].name), (1, "t"));
    for (group, error) in [("", ErrorCode::InvalidGroupId), ("nope", ErrorCode::GroupIdNotFound)] {
        let refused = client.ask(0, &delete(group, &all)).await;
        assert_eq!((refused.error_code, refused.topics.len()), (error, 0));
    }
    let nothing = client.ask(0, &delete("nope", &[("x", 0)])).await;
    assert_eq!(
        (nothing.error_code, nothing.topics.len()),
        (ErrorCode::GroupIdNotFound, 0),
        "also where no partition is there"
    );
}
