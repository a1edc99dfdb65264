use std::time::Duration;

use tailwater_kafka::batch::{self, HEADER_BYTES};

use super::*;
use crate::testing::{Fixture, START_MS, batch as batch_of, idempotent, listener, transactional};

fn request(topic: TopicId, batches: Vec<(i32, BytesMut)>) -> ProduceRequest {
    let data = batches.into_iter().map(|(index, records)| PartitionProduceData {
        index,
        records: Some(records),
    });
    ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            topic_id: topic.0,
            partition_data: data.collect(),
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

async fn produce(fixture: &Fixture, request: ProduceRequest) -> Vec<PartitionProduceResponse> {
    let pending = fixture.data.produce.append(request, 13, &listener(), 1 << 20).await;
    match pending.answer().await {
        ProduceAnswer::Response(response) => response
            .responses
            .into_iter()
            .flat_map(|topic| topic.partition_responses)
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn codes(responses: &[PartitionProduceResponse]) -> Vec<ErrorCode> {
    responses.iter().map(|response| response.error_code).collect()
}

/// Rule 3: the answer has each partition's exact base offset; an error in one is that one's alone.
#[tokio::test(start_paused = true)]
async fn rule_3_the_answer_has_the_base_offset() {
    let fixture = Fixture::start().await;
    let topic = fixture.controller.add_topic("t", 2, &[]);
    fixture.opened(topic, 0).await;
    fixture.opened(topic, 1).await;
    let mut damaged = batch_of(&[b"x"]);
    damaged[HEADER_BYTES] ^= 1;
    for round in 0..3 {
        let batches = vec![
            (0, batch_of(&[b"a", b"b"])),
            (1, damaged.clone()),
            (1, batch_of(&[b"c"])),
            (7, batch_of(&[b"d"])),
        ];
        let responses = produce(&fixture, request(topic, batches)).await;
        let expected = [
            ErrorCode::None,
            ErrorCode::CorruptMessage,
            ErrorCode::None,
            ErrorCode::UnknownTopicOrPartition,
        ];
        assert_eq!(codes(&responses), expected);
        let offsets: Vec<i64> = responses.iter().map(|response| response.base_offset).collect();
        assert_eq!(offsets, [2 * round, -1, round, -1]);
        assert_eq!(
            (responses[0].log_append_time_ms, responses[0].log_start_offset),
            (-1, 0)
        );
    }
}

/// Rule 9: under LogAppendTime a batch gets the bit, the time as its largest timestamp and a new CRC, and the answer has
/// that time, for a repeat too.
#[tokio::test(start_paused = true)]
async fn rule_9_log_append_time_is_the_brokers() {
    let fixture = Fixture::start().await;
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let topic = fixture.controller.add_topic("t", 1, &configs);
    let partition = fixture.opened(topic, 0).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let now_ms = fixture.data.runtime.clock.wall_ms();
    assert!(now_ms >= START_MS + 5000);
    for _ in 0..2 {
        let responses = produce(&fixture, request(topic, vec![(0, idempotent(0, 2))])).await;
        assert_eq!((responses[0].base_offset, responses[0].log_append_time_ms), (0, now_ms));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let end = partition.high_watermark();
    let read = partition
        .read(tailwater_types::Offset(0), end, 1 << 20, true)
        .await
        .unwrap();
    let stored = BatchHeader::read(&read[0]).unwrap();
    assert!(stored.is_log_append_time());
    assert_eq!(stored.max_timestamp_ms, now_ms);
    assert_eq!(stored.crc, crc32c::crc32c(&read[0][21..]));
}

/// What isn't LogAppendTime is stored as it came but for offset and leader epoch, which lie outside of its CRC.
#[tokio::test(start_paused = true)]
async fn the_producers_bytes_are_kept() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    produce(&fixture, request(partition.topic(), vec![(0, batch_of(&[b"first"]))])).await;
    let sent = batch_of(&[b"a", b"b"]);
    produce(&fixture, request(partition.topic(), vec![(0, sent.clone())])).await;
    let read = partition.read(tailwater_types::Offset(1), partition.high_watermark(), 1 << 20, true);
    let mut expected = sent;
    batch::assign(&mut expected, tailwater_types::Offset(1), partition.leader_epoch());
    assert_eq!(read.await.unwrap(), [expected.freeze()]);
}

/// Rule 12: a repeat of one of the last five batches succeeds with the first offset; a batch out of turn is refused.
#[tokio::test(start_paused = true)]
async fn rule_12_repeats_succeed_with_the_first_offset() {
    let fixture = Fixture::start().await;
    let topic = fixture.topic("t").await.topic();
    for sequence in 0..6 {
        let batches = vec![(0, idempotent(sequence, 1))];
        let responses = produce(&fixture, request(topic, batches)).await;
        assert_eq!(responses[0].base_offset, i64::from(sequence));
    }
    for sequence in 1..6 {
        let responses = produce(&fixture, request(topic, vec![(0, idempotent(sequence, 1))])).await;
        let found = (responses[0].error_code, responses[0].base_offset);
        assert_eq!(found, (ErrorCode::None, i64::from(sequence)));
    }
    for sequence in [0, 8] {
        let responses = produce(&fixture, request(topic, vec![(0, idempotent(sequence, 1))])).await;
        assert_eq!(codes(&responses), [ErrorCode::OutOfOrderSequenceNumber]);
    }
}

/// Rule 26: the topic's own limit holds.
#[tokio::test(start_paused = true)]
async fn rule_26_the_topics_limit_holds() {
    let fixture = Fixture::start().await;
    let topic = fixture.controller.add_topic("t", 1, &[("max.message.bytes", "200")]);
    fixture.opened(topic, 0).await;
    let responses = produce(&fixture, request(topic, vec![(0, batch_of(&[&[7; 300]]))])).await;
    assert_eq!(codes(&responses), [ErrorCode::MessageTooLarge]);
    let responses = produce(&fixture, request(topic, vec![(0, batch_of(&[&[7; 50]]))])).await;
    assert_eq!(codes(&responses), [ErrorCode::None]);
}

/// Requests are refused that ask for impossible acks, write to an internal topic, name a topic that isn't there, or are in a
/// transaction without a name.
#[tokio::test(start_paused = true)]
async fn what_cant_be_is_refused() {
    let fixture = Fixture::start().await;
    let topic = fixture.topic("t").await.topic();
    let internal = fixture.topic("__consumer_offsets").await.topic();
    let one = |topic| request(topic, vec![(0, batch_of(&[b"x"]))]);
    let bad_acks = ProduceRequest { acks: 2, ..one(topic) };
    assert_eq!(
        codes(&produce(&fixture, bad_acks).await),
        [ErrorCode::InvalidRequiredAcks]
    );
    let unnamed = request(topic, vec![(0, transactional(7, 0, 0, &[b"x"]))]);
    assert_eq!(
        codes(&produce(&fixture, unnamed).await),
        [ErrorCode::TransactionalIdAuthorizationFailed]
    );
    assert_eq!(
        codes(&produce(&fixture, one(internal)).await),
        [ErrorCode::InvalidTopicException]
    );
    let unknown = produce(&fixture, one(TopicId::from_random(77))).await;
    assert_eq!(codes(&unknown), [ErrorCode::UnknownTopicId]);
}

/// With acks=0 nothing is answered, and an error closes the connection.
#[tokio::test(start_paused = true)]
async fn acks_0_gets_no_answer() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let request = |index| ProduceRequest {
        acks: 0,
        ..request(partition.topic(), vec![(index, batch_of(&[b"x"]))])
    };
    let pending = fixture.data.produce.append(request(0), 13, &listener(), 100).await;
    assert!(matches!(pending.answer().await, ProduceAnswer::Nothing));
    assert_eq!(partition.log_end().0, 1);
    let pending = fixture.data.produce.append(request(5), 13, &listener(), 100).await;
    assert!(matches!(pending.answer().await, ProduceAnswer::Close));
}

/// While the WAL doesn't get on, a request is answered at its timeout; the batch may still commit, and its repeat finds it.
#[tokio::test(start_paused = true)]
async fn a_commit_that_takes_too_long_times_out() {
    let fixture = Fixture::start().await;
    let topic = fixture.topic("t").await.topic();
    fixture.wal.hold();
    let responses = produce(&fixture, request(topic, vec![(0, idempotent(0, 1))])).await;
    assert_eq!(codes(&responses), [ErrorCode::RequestTimedOut]);
    fixture.wal.release();
    let responses = produce(&fixture, request(topic, vec![(0, idempotent(0, 1))])).await;
    assert_eq!(
        (codes(&responses), responses[0].base_offset),
        (vec![ErrorCode::None], 0)
    );
}

/// Requests of one connection get their offsets in order although none is committed yet, and commit together.
#[tokio::test(start_paused = true)]
async fn requests_are_pipelined() {
    let fixture = Fixture::start().await;
    let topic = fixture.topic("t").await.topic();
    fixture.wal.hold();
    let mut pending = Vec::new();
    for sequence in 0..5 {
        let request = request(topic, vec![(0, idempotent(sequence, 1))]);
        pending.push(fixture.data.produce.append(request, 13, &listener(), 1000).await);
    }
    fixture.wal.release();
    for (sequence, pending) in (0..).zip(pending) {
        let ProduceAnswer::Response(response) = pending.answer().await else {
            panic!("an answer is due");
        };
        assert_eq!(response.responses[0].partition_responses[0].base_offset, sequence);
    }
}
