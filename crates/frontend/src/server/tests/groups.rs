//! Consumer groups from the wire to the log and back.

use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Uuid};

use super::client::{Client, Server};
use crate::metadata::names;

/// How many times something is looked for, every 5 ms.
pub(super) const LOOKS: usize = 2000;

/// Waits until the group's coordinator is there and has loaded.
pub(super) async fn coordinator(client: &mut Client) {
    let find = FindCoordinatorRequest {
        key: "g".into(),
        ..Default::default()
    };
    let found = client.ask(3, &find).await;
    assert_eq!((found.error_code, found.node_id), (ErrorCode::None, 1));
    for _ in 0..LOOKS {
        let request = OffsetFetchRequest {
            group_id: "g".into(),
            topics: None,
            ..Default::default()
        };
        match client.ask(5, &request).await.error_code {
            ErrorCode::None => return,
            ErrorCode::CoordinatorLoadInProgress => tokio::time::sleep(Duration::from_millis(5)).await,
            error => panic!("{error}"),
        }
    }
    panic!("the coordinator doesn't load");
}

pub(super) fn join(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\xffmeta"),
        }],
        ..Default::default()
    }
}

pub(super) fn commit(member_id: &str, generation: i32, topic: &str, metadata: &str) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: generation,
        member_id: member_id.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 42,
                committed_leader_epoch: 3,
                committed_metadata: Some(metadata.into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Rules 19, 20 and 21 over the wire: a member joins, gets its assignment verbatim, commits, leaves; after a restart
/// its offset and metadata are there as sent.
#[tokio::test]
async fn a_group_lives_through_join_sync_commit_leave_and_a_restart() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let first = client.ask(9, &join("")).await;
    assert_eq!(first.error_code, ErrorCode::MemberIdRequired);
    assert!(first.member_id.starts_with("test-"), "{}", first.member_id);
    let joined = client.ask(9, &join(&first.member_id)).await;
    assert_eq!(
        (joined.error_code, joined.generation_id, joined.members.len()),
        (ErrorCode::None, 1, 1)
    );
    assert_eq!(
        (&joined.leader, &joined.members[0].metadata[..]),
        (&first.member_id, &b"\0\xffmeta"[..])
    );
    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: first.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: first.member_id.clone(),
            assignment: Bytes::from_static(b"\0\x01part"),
        }],
        ..Default::default()
    };
    assert_eq!(&client.ask(5, &sync).await.assignment[..], b"\0\x01part");
    let beat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: first.member_id.clone(),
        ..Default::default()
    };
    assert_eq!(client.ask(4, &beat).await.error_code, ErrorCode::None);
    let error = |response: OffsetCommitResponse| response.topics[0].partitions[0].error_code;
    let stored = client
        .ask(8, &commit(&first.member_id, 1, "t", "as sent \u{1f600}"))
        .await;
    assert_eq!(error(stored), ErrorCode::None);
    let cases = [
        (
            commit(&first.member_id, 1, "nosuch", ""),
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            commit(&first.member_id, 1, "t", &"x".repeat(4097)),
            ErrorCode::OffsetMetadataTooLarge,
        ),
        (commit(&first.member_id, 2, "t", ""), ErrorCode::IllegalGeneration),
        (commit("nobody", 1, "t", ""), ErrorCode::UnknownMemberId),
    ];
    for (request, expected) in cases {
        assert_eq!(error(client.ask(8, &request).await), expected);
    }
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![MemberIdentity {
            member_id: first.member_id.clone(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let left = client.ask(5, &leave).await;
    assert_eq!(
        (left.error_code, left.members[0].error_code),
        (ErrorCode::None, ErrorCode::None)
    );

    let server = server.restart().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let found = fetch(&mut client, 5).await;
    assert_eq!((found.committed_offset, found.committed_leader_epoch), (42, 3));
    assert_eq!(found.metadata.as_deref(), Some("as sent \u{1f600}"));
    assert_eq!(
        client.ask(9, &join(&first.member_id)).await.error_code,
        ErrorCode::UnknownMemberId
    );
}

async fn fetch(client: &mut Client, version: i16) -> OffsetFetchResponsePartition {
    let topics = vec![OffsetFetchRequestTopic {
        name: "t".into(),
        partition_indexes: vec![0],
    }];
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(topics),
        ..Default::default()
    };
    let response = client.ask(version, &request).await;
    assert_eq!(response.error_code, ErrorCode::None);
    response.topics[0].partitions[0].clone()
}

/// Rule 18 in every version: a group that nobody has heard of has no error and offset -1.
#[tokio::test]
async fn rule_18_an_unknown_group_answers_minus_1_in_every_version() {
    let server = Server::start().await;
    let t = server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    for version in 1..=7 {
        let found = fetch(&mut client, version).await;
        assert_eq!(
            (found.error_code, found.committed_offset),
            (ErrorCode::None, -1),
            "version {version}"
        );
    }
    for version in 8..=10 {
        let by_id = version == 10;
        let (name, topic_id) = if by_id {
            (Str::default(), t.topic().0)
        } else {
            ("t".into(), Uuid::nil())
        };
        let topics = Some(vec![OffsetFetchRequestTopics {
            name,
            topic_id,
            partition_indexes: vec![0],
        }]);
        let group = |id: &str| OffsetFetchRequestGroup {
            group_id: id.into(),
            topics: topics.clone(),
            ..Default::default()
        };
        let request = OffsetFetchRequest {
            groups: vec![group("g"), group("h")],
            require_stable: true,
            ..Default::default()
        };
        let response = loop {
            let response = client.ask(version, &request).await;
            if response
                .groups
                .iter()
                .all(|group| group.error_code != ErrorCode::CoordinatorLoadInProgress)
            {
                break response;
            }
        };
        assert_eq!(response.groups.len(), 2);
        for group in response.groups {
            let found = &group.topics[0].partitions[0];
            assert_eq!(
                (group.error_code, found.error_code, found.committed_offset),
                (ErrorCode::None, ErrorCode::None, -1)
            );
        }
    }
}

/// Rule 2: from version 10 on offsets are committed and read by topic id; what was committed for a topic that was
/// deleted doesn't show for the next one of that name.
#[tokio::test]
async fn rule_2_offsets_belong_to_a_topic_and_not_to_its_name() {
    let server = Server::start().await;
    let old = server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let by_id = |topic_id| {
        let mut request = commit("", -1, "", "m");
        request.topics[0].topic_id = topic_id;
        request
    };
    let error = |response: OffsetCommitResponse| response.topics[0].partitions[0].error_code;
    assert_eq!(
        error(client.ask(10, &by_id(Uuid::from_u128(9))).await),
        ErrorCode::UnknownTopicId
    );
    assert_eq!(error(client.ask(10, &by_id(old.topic().0)).await), ErrorCode::None);
    assert_eq!(fetch(&mut client, 5).await.committed_offset, 42);
    let delete = DeleteTopicsRequest {
        topic_names: vec!["t".into()],
        timeout_ms: 1000,
        ..Default::default()
    };
    client.ask(5, &delete).await;
    assert_eq!(fetch(&mut client, 5).await.committed_offset, -1);
    server.fixture.topic("t").await;
    assert_eq!(fetch(&mut client, 5).await.committed_offset, -1);
}

/// Invariant 10: while the WAL doesn't ack, a commit isn't answered and doesn't show; then both.
#[tokio::test]
async fn a_commit_is_answered_when_it_is_durable() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let (mut client, mut reader) = (server.connect().await, server.connect().await);
    coordinator(&mut client).await;
    server.fixture.wal.hold();
    let id = client.send(8, &commit("", -1, "t", "")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(fetch(&mut reader, 5).await.committed_offset, -1);
    server.fixture.wal.release();
    let response = client.receive::<OffsetCommitRequest>(id, 8).await;
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::None);
    assert_eq!(fetch(&mut reader, 5).await.committed_offset, 42);
}

/// A leadership that ends with a commit on its way answers NOT_COORDINATOR, and the next one knows what was durable.
#[tokio::test]
async fn a_lost_leadership_sends_clients_to_look_for_another_coordinator() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    client.ask(8, &commit("", -1, "t", "durable")).await;
    let waiting = client.ask(9, &join("")).await.member_id;
    let mut member = server.connect().await;
    let joining = member.send(9, &join(&waiting)).await;
    assert_eq!(member.receive::<JoinGroupRequest>(joining, 9).await.generation_id, 1);
    server.fixture.wal.hold();
    let id = client.send(8, &commit("", -1, "t", "lost")).await;
    let mut syncing = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: 1,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        ..Default::default()
    };
    syncing.member_id = waiting;
    let sync_id = member.send(5, &syncing).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let journal = server.fixture.journal();
    let end = server.fixture.wal.seal_now(journal);
    server.fixture.controller.set_sealed(journal, end);
    server.fixture.wal.release();
    let synced = member.receive::<SyncGroupRequest>(sync_id, 5).await;
    assert_eq!(synced.error_code, ErrorCode::NotCoordinator);
    let refused = client.receive::<OffsetCommitRequest>(id, 8).await.topics[0].partitions[0].error_code;
    assert!(
        [ErrorCode::NotCoordinator, ErrorCode::UnknownMemberId].contains(&refused),
        "{refused}"
    );
    while client
        .ask(
            4,
            &HeartbeatRequest {
                group_id: "g".into(),
                ..Default::default()
            },
        )
        .await
        .error_code
        == ErrorCode::NotCoordinator
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    coordinator(&mut client).await;
    assert_eq!(fetch(&mut client, 5).await.metadata.as_deref(), Some("durable"));
}

/// Commits that come together are stored together and each is answered.
#[tokio::test]
async fn commits_of_many_clients_share_batches() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut first = server.connect().await;
    coordinator(&mut first).await;
    server.fixture.wal.hold();
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = server.connect().await;
        let id = client.send(8, &commit("", -1, "t", "")).await;
        clients.push((client, id));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.fixture.wal.release();
    for (mut client, id) in clients {
        let response = client.receive::<OffsetCommitRequest>(id, 8).await;
        assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::None);
    }
    let index = server.partition_for(names::CONSUMER_OFFSETS, "g");
    let batches = server.batches(names::CONSUMER_OFFSETS, index).await;
    let records: i32 = batches.iter().map(|(header, _)| header.count).sum();
    assert_eq!(records, 50);
    // So many are on their way while nothing is stored; all others wait for room, and then go together.
    assert!(batches.len() <= 17, "{} batches", batches.len());
}

/// What group requests refuse before any group is asked.
#[tokio::test]
async fn bad_group_ids_and_session_timeouts_are_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let nameless = JoinGroupRequest {
        group_id: "".into(),
        ..join("")
    };
    let hasty = JoinGroupRequest {
        session_timeout_ms: 1,
        ..join("")
    };
    let endless = JoinGroupRequest {
        session_timeout_ms: i32::MAX,
        ..join("")
    };
    for version in 0..=9 {
        assert_eq!(
            client.ask(version, &nameless).await.error_code,
            ErrorCode::InvalidGroupId
        );
        assert_eq!(
            client.ask(version, &hasty).await.error_code,
            ErrorCode::InvalidSessionTimeout
        );
        assert_eq!(
            client.ask(version, &endless).await.error_code,
            ErrorCode::InvalidSessionTimeout
        );
    }
}

/// From version 5 on who asks for its assignment must say both the type and the name of its protocol (KIP-559).
#[tokio::test]
async fn who_asks_for_its_assignment_says_its_protocol() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let cases = [
        (4, None, None, ErrorCode::UnknownMemberId),
        (5, None, None, ErrorCode::InconsistentGroupProtocol),
        (5, Some("consumer"), None, ErrorCode::InconsistentGroupProtocol),
        (5, None, Some("range"), ErrorCode::InconsistentGroupProtocol),
        (5, Some("consumer"), Some("range"), ErrorCode::UnknownMemberId),
    ];
    for (version, protocol_type, protocol_name, expected) in cases {
        let request = SyncGroupRequest {
            group_id: "g".into(),
            member_id: "nobody".into(),
            protocol_type: protocol_type.map(Str::from_static),
            protocol_name: protocol_name.map(Str::from_static),
            ..Default::default()
        };
        assert_eq!(client.ask(version, &request).await.error_code, expected, "{request:?}");
    }
}

/// The group judges a commit before the length of its metadata is, also where nothing else is in it.
#[tokio::test]
async fn who_may_not_commit_is_told_so_before_the_length_of_its_metadata() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let long = "x".repeat(4097);
    let cases = [
        ("nobody", 1, ErrorCode::IllegalGeneration),
        ("", -1, ErrorCode::OffsetMetadataTooLarge),
    ];
    for (member, generation, expected) in cases {
        let response = client.ask(8, &commit(member, generation, "t", &long)).await;
        assert_eq!(response.topics[0].partitions[0].error_code, expected);
    }
    let listed = client.ask(5, &ListGroupsRequest::default()).await;
    assert_eq!(listed.groups.len(), 0, "a commit of nothing makes no group");
}
