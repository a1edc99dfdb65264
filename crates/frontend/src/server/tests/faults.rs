//! Whatever a client sends ends at worst its own connection.

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, decode_response};
use tailwater_runtime::config::{ByteSize, Millis};
use tokio::io::AsyncWriteExt as _;

use super::client::Server;
use crate::config::Config;
use crate::testing::{batch, commit};

fn frame(key: i16, version: i16, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(10 + body.len()).unwrap());
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(77);
    frame.put_i16(-1);
    frame.put_slice(body);
    frame
}

/// Rule 1: an ApiVersions of a version that nobody knows is answered in version 0, with error 35 and all ranges.
#[tokio::test]
async fn rule_1_an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client
        .stream
        .write_all(&frame(18, 100, b"\0whatever comes with it"))
        .await
        .unwrap();
    let answer = client.frame().await.unwrap();
    let (id, response) = decode_response::<ApiVersionsResponse>(BytesMut::from(&answer[..]), 0).unwrap();
    assert_eq!((id, response.error_code), (77, ErrorCode::UnsupportedVersion));
    assert!(
        response
            .api_keys
            .iter()
            .any(|api| api.api_key == 18 && api.max_version == 4)
    );
    let again = client.ask(3, &named()).await;
    assert_eq!(again.error_code, ErrorCode::None, "the connection goes on");
}

fn named() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    }
}

/// Frames of impossible lengths, unknown APIs and versions, and bodies that are none: each closes its connection, and
/// another client notices nothing.
#[tokio::test]
async fn bad_input_closes_only_its_own_connection() {
    let server = Server::start().await;
    let mut bystander = server.connect().await;
    let inputs: [(&str, BytesMut); 9] = [
        ("a length of -1", BytesMut::from(&(-1i32).to_be_bytes()[..])),
        ("a length of 0", BytesMut::from(&0i32.to_be_bytes()[..])),
        ("a length of 2 GiB", BytesMut::from(&i32::MAX.to_be_bytes()[..])),
        ("an unknown API", frame(999, 0, b"")),
        ("a negative API", frame(-1, 0, b"")),
        ("an unknown version", frame(3, 99, b"\0")),
        ("a version below those served", frame(0, 2, b"\0\0\0\0\0\0")),
        ("a count that lies", frame(3, 1, &i32::MAX.to_be_bytes())),
        ("bytes behind the end", frame(3, 1, b"\0\0\0\0more")),
    ];
    for (what, bytes) in inputs {
        let mut client = server.connect().await;
        client.stream.write_all(&bytes).await.unwrap();
        assert!(client.is_closed().await, "{what}");
        let answer = bystander.ask(3, &named()).await;
        assert_eq!(answer.error_code, ErrorCode::None, "{what}");
    }
}

/// A frame that arrives byte by byte is a frame; one that never ends takes nothing from others.
#[tokio::test]
async fn torn_frames_are_put_together_or_forgotten() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for byte in frame(18, 0, b"") {
        client.stream.write_all(&[byte]).await.unwrap();
        client.stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(client.frame().await.is_some());
    let torn = frame(18, 0, b"");
    client.stream.write_all(&torn[..7]).await.unwrap();
    client.stream.shutdown().await.unwrap();
    assert!(client.is_closed().await);
}

/// Rule 33: requests beyond the memory for all of them wait; the largest still runs.
#[tokio::test]
async fn rule_33_requests_wait_for_memory_and_the_largest_runs() {
    let mut config = Config::default();
    config.server.max_request = ByteSize::kib(64);
    config.server.request_memory = ByteSize::kib(64);
    let server = Server::with(config).await;
    let mut holder = server.connect().await;
    // 60 KiB are claimed by a frame that doesn't come to its end.
    let mut claim = frame(18, 0, &[]);
    claim[..4].copy_from_slice(&(60i32 << 10).to_be_bytes());
    holder.stream.write_all(&claim).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut client = server.connect().await;
    let names: Vec<MetadataRequestTopic> = (0..1000)
        .map(|n| MetadataRequestTopic {
            name: Some(format!("a-topic-{n}").into()),
            ..Default::default()
        })
        .collect();
    let large = MetadataRequest {
        topics: Some(names),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let id = client.send(4, &large).await;
    let early = tokio::time::timeout(Duration::from_millis(50), client.frame()).await;
    assert!(early.is_err(), "served without memory for it");
    drop(holder);
    assert_eq!(client.receive::<MetadataRequest>(id, 4).await.topics.len(), 1000);
}

/// A client that stops in the middle of a request keeps the memory for it from others no longer than the stall timeout;
/// one that merely has nothing to ask stays.
#[tokio::test]
async fn a_request_that_stalls_gives_its_memory_back() {
    let mut config = Config::default();
    config.server.max_request = ByteSize::kib(64);
    config.server.request_memory = ByteSize::kib(64);
    config.server.stall_timeout = Millis(100);
    let server = Server::with(config).await;
    let (mut holder, mut idle) = (server.connect().await, server.connect().await);
    assert_eq!(idle.ask(3, &named()).await.error_code, ErrorCode::None);
    holder.stream.write_all(&(64i32 << 10).to_be_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let id = idle.send(3, &named()).await;
    assert!(holder.is_closed().await);
    let answer = idle.receive::<ApiVersionsRequest>(id, 3).await;
    assert_eq!(answer.error_code, ErrorCode::None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(idle.ask(3, &named()).await.error_code, ErrorCode::None);
}

const LARGE: i32 = 32 << 20;

/// A partition with more than sockets take up unread, none of it in the tail cache, and room for one answer with it.
async fn large_answers(stall_timeout: Millis) -> Server {
    let mut config = Config::default();
    config.cache.tail_bytes = ByteSize::kib(64);
    config.fetch.cold_read_bytes = ByteSize::mib(55);
    config.server.stall_timeout = stall_timeout;
    let server = Server::with(config).await;
    let partition = server.fixture.topic("t").await;
    let four_mib = vec![7; 4 << 20];
    for _ in 0..8 {
        commit(&partition, batch(&[&four_mib])).await;
    }
    server
}

fn fetch_all() -> FetchRequest {
    FetchRequest {
        min_bytes: 1,
        max_bytes: LARGE,
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![FetchPartition {
                partition_max_bytes: LARGE,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What an answer takes is counted until the client has it; then the next one is read, on this connection or another.
#[tokio::test]
async fn answers_are_counted_until_they_are_written() {
    let server = large_answers(Millis::seconds(30)).await;
    let (mut slow, mut other) = (server.connect().await, server.connect().await);
    let first = slow.send(4, &fetch_all()).await;
    let memory = &server.fixture.data.fetch.cold_bytes;
    while memory.in_use_bytes() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = slow.send(4, &fetch_all()).await;
    let others = other.send(4, &fetch_all()).await;
    let early = tokio::time::timeout(Duration::from_millis(300), other.frame()).await;
    assert!(early.is_err(), "read without memory for it");
    for id in [first, second] {
        assert_eq!(slow.receive::<FetchRequest>(id, 4).await.responses.len(), 1);
        if id == first {
            assert_eq!(other.receive::<FetchRequest>(others, 4).await.responses.len(), 1);
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(memory.in_use_bytes(), 0);
}

/// A client that stops taking its answer keeps the memory for it from others no longer than the stall timeout.
#[tokio::test]
async fn an_answer_that_stalls_gives_its_memory_back() {
    let server = large_answers(Millis(300)).await;
    let (mut stalled, mut other) = (server.connect().await, server.connect().await);
    stalled.send(4, &fetch_all()).await;
    let memory = &server.fixture.data.fetch.cold_bytes;
    while memory.in_use_bytes() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fetch = fetch_all();
    let answer = other.ask(4, &fetch);
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
    assert_eq!(answer.expect("answered").responses.len(), 1);
    assert!(stalled.frame().await.is_none(), "the rest of the answer is given up");
}

/// At shutdown the requests that have begun are answered, and then every connection is closed.
#[tokio::test]
async fn shutdown_answers_what_has_begun() {
    let mut config = Config::default();
    config.server.shutdown_timeout = Millis::seconds(5);
    let server = Server::with(config).await;
    server.fixture.topic("t").await;
    let (mut idle, mut fetching) = (server.connect().await, server.connect().await);
    let fetch = FetchRequest {
        max_wait_ms: 300,
        min_bytes: 1,
        max_bytes: 1 << 20,
        ..Default::default()
    };
    let fetch = FetchRequest {
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..fetch
    };
    let id = fetching.send(4, &fetch).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.protocol.shutdown().await;
    assert_eq!(fetching.receive::<FetchRequest>(id, 4).await.responses.len(), 1);
    assert!(fetching.is_closed().await && idle.is_closed().await);
}
