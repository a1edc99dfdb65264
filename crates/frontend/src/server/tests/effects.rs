//! Topics' settings that batches are held against, changed while producers go on.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::{BatchBuilder, Batches, Compression};
use tailwater_kafka::messages::*;
use tailwater_types::Offset;

use super::client::{Client, Server};
use crate::testing::{START_MS, values_from};

async fn create(client: &mut Client, name: &str, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    };
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: -1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = client.ask(7, &request).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::None);
}

async fn set(client: &mut Client, resource_type: i8, resource_name: &str, name: &str, value: &str) {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalAlterConfigsResource {
            resource_type,
            resource_name: resource_name.into(),
            configs: vec![IncrementalAlterableConfig {
                name: name.into(),
                config_operation: 0,
                value: Some(value.into()),
            }],
        }],
        validate_only: false,
    };
    let answer = client.ask(1, &request).await;
    assert_eq!(answer.responses[0].error_code, ErrorCode::None, "{name}={value}");
}

async fn produce(client: &mut Client, topic: &str, records: BytesMut) -> PartitionProduceResponse {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(records),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut answer = client.ask(9, &request).await;
    answer.responses.remove(0).partition_responses.remove(0)
}

async fn opened(server: &Server, topic: &str) -> std::sync::Arc<crate::partition::Partition> {
    let id = server.fixture.data.view.snapshot().topic_named(topic).unwrap().info.id;
    server.fixture.opened(id, 0).await
}

/// Records of these keys, values and times.
fn records(records: &[(Option<&str>, &[u8], i64)]) -> BytesMut {
    let mut builder = BatchBuilder::new();
    for (key, value, timestamp_ms) in records {
        builder.push(*timestamp_ms, key.map(str::as_bytes), Some(value), &[]);
    }
    builder.build()
}

fn value(value: &[u8]) -> BytesMut {
    records(&[(None, value, START_MS)])
}

async fn stored(server: &Server, topic: &str, offset: i64) -> Bytes {
    let partition = opened(server, topic).await;
    let read = partition
        .read(Offset(offset), partition.high_watermark(), 1, true)
        .await;
    read.unwrap().remove(0)
}

/// Rule 25: a record without a key where only the newest of each key is kept is INVALID_RECORD, and each is named; an empty
/// key is one.
#[tokio::test]
async fn rule_25_compacted_topics_need_keys() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", &[]).await;
    opened(&server, "t").await;
    let mixed = || {
        records(&[
            (None, b"a", START_MS),
            (Some("k"), b"b", START_MS),
            (None, b"c", START_MS),
        ])
    };
    assert_eq!(produce(&mut client, "t", mixed()).await.error_code, ErrorCode::None);
    set(&mut client, 2, "t", "cleanup.policy", "delete,compact").await;
    let refused = produce(&mut client, "t", mixed()).await;
    assert_eq!(
        (refused.error_code, refused.base_offset),
        (ErrorCode::InvalidRecord, -1)
    );
    let message = "Compacted topic cannot accept message without key in topic partition t-0";
    let named: Vec<_> = refused
        .record_errors
        .iter()
        .map(|error| (error.batch_index, error.batch_index_error_message.as_deref().unwrap()))
        .collect();
    assert_eq!(named, [(0, message), (2, message)]);
    assert_eq!(
        refused.error_message.as_deref().unwrap(),
        format!(
            "One or more records have been rejected due to 2 record errors in total, and only showing the first three \
             errors at most: [RecordError(batchIndex=0, message='{message}'), RecordError(batchIndex=2, \
             message='{message}')]"
        )
    );
    let keyed = records(&[(Some(""), b"a", START_MS), (Some("k"), b"b", START_MS)]);
    assert_eq!(produce(&mut client, "t", keyed).await.base_offset, 3);
}

/// Rule 26: `max.message.bytes` holds from when it is set, also where a topic inherits it, and for what is stored: a batch
/// that is small only until the topic has it decompressed is too large.
#[tokio::test]
async fn rule_26_sizes_hold_at_once() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", &[]).await;
    opened(&server, "t").await;
    let large = [b'v'; 2000];
    assert_eq!(
        produce(&mut client, "t", value(&large)).await.error_code,
        ErrorCode::None
    );
    set(&mut client, 4, "", "message.max.bytes", "1000").await;
    assert_eq!(
        produce(&mut client, "t", value(&large)).await.error_code,
        ErrorCode::MessageTooLarge
    );
    set(&mut client, 2, "t", "max.message.bytes", "3000").await;
    assert_eq!(
        produce(&mut client, "t", value(&large)).await.error_code,
        ErrorCode::None
    );
    set(&mut client, 2, "t", "max.message.bytes", "1000").await;
    set(&mut client, 2, "t", "compression.type", "uncompressed").await;
    let mut builder = BatchBuilder::new();
    builder.push(START_MS, None, Some(&large), &[]);
    let small = builder.build_compressed(Compression::Gzip, |plain| {
        crate::produce::compressed_for_tests(Compression::Gzip, plain).into()
    });
    assert!(small.len() < 1000);
    assert_eq!(
        produce(&mut client, "t", small).await.error_code,
        ErrorCode::MessageTooLarge
    );
}

/// Rule 9: LogAppendTime is answered and stored from when it is set, whatever the producer's time was; before and after, -1.
#[tokio::test]
async fn rule_9_log_append_time_can_be_switched_on() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", &[]).await;
    opened(&server, "t").await;
    assert_eq!(produce(&mut client, "t", value(b"a")).await.log_append_time_ms, -1);
    set(&mut client, 2, "t", "message.timestamp.type", "LogAppendTime").await;
    let far = records(&[(None, b"b", START_MS + 99_999_999)]);
    let appended = produce(&mut client, "t", far).await;
    assert_eq!((appended.error_code, appended.base_offset), (ErrorCode::None, 1));
    let time = appended.log_append_time_ms;
    assert!(time >= START_MS);
    let (header, _) = Batches::new(stored(&server, "t", 1).await).next().unwrap().unwrap();
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp_ms, time);
    set(&mut client, 2, "t", "message.timestamp.type", "CreateTime").await;
    assert_eq!(produce(&mut client, "t", value(b"c")).await.log_append_time_ms, -1);
}

/// A time too far in the past or in the future is INVALID_TIMESTAMP, each record named; no time is always legal.
#[tokio::test]
async fn timestamps_are_held_against_the_topics_bounds() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", &[]).await;
    opened(&server, "t").await;
    let hour = Duration::from_secs(3600).as_millis() as i64;
    let future = || records(&[(None, b"a", START_MS), (None, b"b", START_MS + 2 * hour)]);
    let refused = produce(&mut client, "t", future()).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTimestamp);
    assert_eq!(
        refused.error_message.as_deref(),
        Some("One or more records have been rejected due to invalid timestamp")
    );
    assert_eq!(refused.record_errors.len(), 1);
    assert_eq!(refused.record_errors[0].batch_index, 1);
    let text = refused.record_errors[0].batch_index_error_message.as_deref().unwrap();
    let begins = format!(
        "Timestamp {} of message with offset 1 is out of range. The timestamp should be within [",
        START_MS + 2 * hour
    );
    assert!(text.starts_with(&begins), "{text}");
    set(
        &mut client,
        2,
        "t",
        "message.timestamp.after.max.ms",
        &(3 * hour).to_string(),
    )
    .await;
    assert_eq!(produce(&mut client, "t", future()).await.error_code, ErrorCode::None);
    let past = || records(&[(None, b"a", START_MS - 2 * hour)]);
    assert_eq!(produce(&mut client, "t", past()).await.error_code, ErrorCode::None);
    set(
        &mut client,
        4,
        "",
        "log.message.timestamp.before.max.ms",
        &hour.to_string(),
    )
    .await;
    assert_eq!(
        produce(&mut client, "t", past()).await.error_code,
        ErrorCode::InvalidTimestamp
    );
    let none = records(&[(None, b"a", -1)]);
    assert_eq!(produce(&mut client, "t", none).await.error_code, ErrorCode::None);
}

/// A topic that names a codec has every batch in it, of whatever codec and size it came; `producer` leaves the bytes alone.
#[tokio::test]
async fn batches_are_stored_in_the_codec_that_the_topic_names() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", &[]).await;
    let partition = opened(&server, "t").await;
    let large = vec![b'v'; 100_000];
    let mut offset = 0;
    for (name, stored_as) in [
        ("producer", None),
        ("gzip", Some(Compression::Gzip)),
        ("snappy", Some(Compression::Snappy)),
        ("lz4", Some(Compression::Lz4)),
        ("zstd", Some(Compression::Zstd)),
        ("uncompressed", Some(Compression::None)),
    ] {
        set(&mut client, 2, "t", "compression.type", name).await;
        for sent in [Compression::None, Compression::Gzip, Compression::Zstd] {
            for length in [10, large.len()] {
                let mut builder = BatchBuilder::new().producer(7, 0, offset as i32);
                builder.push(START_MS, None, Some(&large[..length]), &[]);
                let batch = match sent {
                    Compression::None => builder.build(),
                    sent => {
                        builder.build_compressed(sent, |plain| crate::produce::compressed_for_tests(sent, plain).into())
                    }
                };
                let answer = produce(&mut client, "t", batch.clone()).await;
                assert_eq!(
                    (answer.error_code, answer.base_offset),
                    (ErrorCode::None, offset),
                    "{name} {sent:?}"
                );
                let bytes = stored(&server, "t", offset).await;
                let (header, _) = Batches::new(bytes.clone()).next().unwrap().unwrap();
                tailwater_kafka::batch::validate(&bytes).unwrap();
                assert_eq!(header.compression(), Ok(stored_as.unwrap_or(sent)), "{name} {sent:?}");
                assert_eq!((header.producer_id, header.base_sequence), (7, offset as i32));
                if header.compression() == Ok(sent) {
                    assert_eq!(bytes[21..], batch[21..], "{name} {sent:?}: as it came");
                }
                let repeat = produce(&mut client, "t", batch).await;
                assert_eq!(
                    (repeat.error_code, repeat.base_offset),
                    (ErrorCode::None, offset),
                    "a repeat is known"
                );
                offset += 1;
            }
        }
    }
    let plain = offset - 6;
    let values = values_from(&partition, plain).await;
    let lengths: Vec<usize> = values.iter().map(|(_, value)| value.len()).collect();
    assert_eq!(lengths, [10, 100_000, 10, 100_000, 10, 100_000]);
}
