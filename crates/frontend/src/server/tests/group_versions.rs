//! Group requests in every version: what is said how, and where errors stand.

use bytes::Bytes;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Uuid};

use super::client::Server;
use super::groups::{commit, coordinator, join};

/// From here on topics have ids instead of names.
const FIRST_ID_VERSION: i16 = 10;

fn committed(response: OffsetCommitResponse) -> ErrorCode {
    response.topics[0].partitions[0].error_code
}

fn fetch_one(version: i16, topic_id: Uuid) -> OffsetFetchRequest {
    let (name, topic_id) = match version < FIRST_ID_VERSION {
        true => (Str::from_static("t"), Uuid::nil()),
        false => (Str::default(), topic_id),
    };
    if version < 8 {
        let topics = vec![OffsetFetchRequestTopic {
            name,
            partition_indexes: vec![0],
        }];
        return OffsetFetchRequest {
            group_id: "g".into(),
            topics: Some(topics),
            ..Default::default()
        };
    }
    OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name,
                topic_id,
                partition_indexes: vec![0],
            }]),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The error of the whole, of the partition, and its offset.
fn fetched(version: i16, response: OffsetFetchResponse) -> (ErrorCode, Option<(ErrorCode, i64)>) {
    if version < 8 {
        let partition = response.topics.first().map(|topic| &topic.partitions[0]);
        let found = partition.map(|found| (found.error_code, found.committed_offset));
        return (response.error_code, found);
    }
    let group = &response.groups[0];
    let partition = group.topics.first().map(|topic| &topic.partitions[0]);
    let found = partition.map(|found| (found.error_code, found.committed_offset));
    (group.error_code, found)
}

/// What is committed in any version is read in every one, and refusals have the code of their version.
#[tokio::test]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let server = Server::start().await;
    let topic = server.fixture.topic("t").await.topic().0;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    for version in 2..=10 {
        let by_id = version >= FIRST_ID_VERSION;
        let said = |name: &str, id: Uuid, member: &str, generation: i32| {
            let mut request = commit(member, generation, if by_id { "" } else { name }, "m");
            request.topics[0].topic_id = if by_id { id } else { Uuid::nil() };
            request.topics[0].partitions[0].committed_offset = i64::from(version);
            if version >= 6 {
                request.topics[0].partitions[0].committed_leader_epoch = 1;
            } else {
                request.topics[0].partitions[0].committed_leader_epoch = -1;
            }
            request
        };
        let unknown = client.ask(version, &said("nosuch", Uuid::from_u128(9), "", -1)).await;
        let expected = match by_id {
            true => ErrorCode::UnknownTopicId,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        assert_eq!(committed(unknown), expected, "version {version}");
        let mut stranger = said("t", topic, "nobody", 1);
        stranger.group_id = "unknown".into();
        let expected = match version >= 9 {
            true => ErrorCode::GroupIdNotFound,
            false => ErrorCode::IllegalGeneration,
        };
        assert_eq!(
            committed(client.ask(version, &stranger).await),
            expected,
            "version {version}"
        );
        let stored = client.ask(version, &said("t", topic, "", -1)).await;
        assert_eq!(committed(stored), ErrorCode::None, "version {version}");
        for reader in 1..=10 {
            let found = fetched(reader, client.ask(reader, &fetch_one(reader, topic)).await);
            let expected = (ErrorCode::None, Some((ErrorCode::None, i64::from(version))));
            assert_eq!(found, expected, "committed in {version}, read in {reader}");
        }
    }
}

/// An error of the whole request stands at each partition in version 1, at the whole up to 7, at the group from 8 on.
#[tokio::test]
async fn errors_of_offset_fetch_stand_where_their_version_has_them() {
    let server = Server::start().await;
    let topic = server.fixture.topic("t").await.topic().0;
    let mut client = server.connect().await;
    let error = ErrorCode::NotCoordinator;
    for version in 1..=10 {
        let found = fetched(version, client.ask(version, &fetch_one(version, topic)).await);
        let expected = match version {
            1 => (ErrorCode::None, Some((error, -1))),
            _ => (error, None),
        };
        assert_eq!(
            found, expected,
            "version {version}: nobody has looked for a coordinator yet"
        );
    }
}

/// Up to version 2 one member leaves, and the answer is its error; from 3 on each of several has its own.
#[tokio::test]
async fn members_leave_in_every_version() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    for version in 0..=5 {
        let joined = client.ask(3, &join("")).await;
        assert_eq!(joined.error_code, ErrorCode::None);
        let leaving = |ids: &[&str]| LeaveGroupRequest {
            group_id: "g".into(),
            member_id: if version < 3 { ids[0].into() } else { Str::default() },
            members: match version < 3 {
                true => Vec::new(),
                false => ids
                    .iter()
                    .map(|id| MemberIdentity {
                        member_id: (*id).into(),
                        ..Default::default()
                    })
                    .collect(),
            },
        };
        let response = client.ask(version, &leaving(&["nobody", &joined.member_id])).await;
        if version < 3 {
            assert_eq!(response.error_code, ErrorCode::UnknownMemberId, "version {version}");
            let left = client.ask(version, &leaving(&[&joined.member_id])).await;
            assert_eq!(left.error_code, ErrorCode::None, "version {version}");
        } else {
            let errors: Vec<ErrorCode> = response.members.iter().map(|member| member.error_code).collect();
            let expected = [ErrorCode::UnknownMemberId, ErrorCode::None];
            assert_eq!(
                (response.error_code, &errors[..]),
                (ErrorCode::None, &expected[..]),
                "version {version}"
            );
        }
        let nameless = LeaveGroupRequest {
            group_id: Str::default(),
            ..leaving(&["nobody"])
        };
        assert_eq!(
            client.ask(version, &nameless).await.error_code,
            ErrorCode::InvalidGroupId
        );
    }
}

/// A list says the state of a group from version 4 on, and its type from 5 on.
#[tokio::test]
async fn a_list_of_groups_says_more_in_newer_versions() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    assert_eq!(
        committed(client.ask(8, &commit("", -1, "t", "")).await),
        ErrorCode::None
    );
    for version in 0..=5 {
        let response = loop {
            let response = client.ask(version, &ListGroupsRequest::default()).await;
            if response.error_code != ErrorCode::CoordinatorLoadInProgress {
                break response;
            }
            tokio::task::yield_now().await;
        };
        let [group] = &response.groups[..] else {
            panic!("{response:?}")
        };
        let state = if version >= 4 { "Empty" } else { "" };
        let group_type = if version >= 5 { "classic" } else { "" };
        assert_eq!(
            (&*group.group_id, &*group.protocol_type),
            ("g", ""),
            "version {version}"
        );
        assert_eq!(
            (&*group.group_state, &*group.group_type),
            (state, group_type),
            "version {version}"
        );
    }
}

/// A static leader that comes back is told from version 9 on that it leads and assigns nothing (KIP-814); below, its old id
/// is named as the leader's, so that it doesn't assign.
#[tokio::test]
async fn a_static_leader_that_comes_back_does_not_assign() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let ask = JoinGroupRequest {
        group_instance_id: Some("i".into()),
        ..join("")
    };
    let mut id = {
        let joined = client.ask(9, &ask).await;
        assert_eq!((joined.error_code, joined.skip_assignment), (ErrorCode::None, false));
        let sync = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: Some("i".into()),
            assignments: vec![SyncGroupRequestAssignment {
                member_id: joined.member_id.clone(),
                assignment: Bytes::from_static(b"part"),
            }],
            ..Default::default()
        };
        assert_eq!(client.ask(4, &sync).await.error_code, ErrorCode::None);
        joined.member_id
    };
    for version in 5..=9 {
        let back = client.ask(version, &ask).await;
        assert_eq!(
            (back.error_code, back.generation_id),
            (ErrorCode::None, 1),
            "version {version}"
        );
        assert_ne!(back.member_id, id);
        let skips = version >= 9;
        let leader = if skips { &back.member_id } else { &id };
        assert_eq!(
            (back.skip_assignment, &back.leader, back.members.len()),
            (skips, leader, usize::from(skips)),
            "version {version}"
        );
        id = back.member_id;
    }
}
