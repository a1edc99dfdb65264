//! ListOffsets: ends, starts, and offsets by time (docs/kafka.md rule 8).

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;

use crate::error_codes;
use crate::partition::{FoundTimestamp, Missing, Partitions, ReadError};
use crate::server::{Handlers, RequestContext};

/// The isolation level of who sees no end of what isn't decided.
const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
/// The earliest that is to be tiered (KIP-1023).
const EARLIEST_PENDING: i64 = -6;
/// Each of them with the first version that has it.
const SINCE: &[(i64, i16)] = &[
    (MAX_TIMESTAMP, 7),
    (EARLIEST_LOCAL, 8),
    (LATEST_TIERED, 9),
    (EARLIEST_PENDING, 11),
];

pub(crate) async fn list_offsets(
    handlers: &Handlers,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let asking = Asking {
                version: context.version,
                read_committed: request.isolation_level == READ_COMMITTED,
            };
            let found = find(handlers, asking, &topic.name, &asked).await;
            partitions.push(found.unwrap_or_else(|error_code| ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code,
                ..Default::default()
            }));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    ListOffsetsResponse {
        throttle_time_ms: 0,
        topics,
    }
}

/// How a whole request is to be answered.
#[derive(Clone, Copy)]
struct Asking {
    version: i16,
    read_committed: bool,
}

async fn find(
    handlers: &Handlers,
    asking: Asking,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    let view = handlers.view().snapshot();
    let partitions: &Partitions = handlers.partitions();
    let partition = match view.topic_named(topic) {
        Some(topic) => partitions.get(topic.info.id, asked.partition_index),
        None => Err(Missing::UnknownTopic),
    };
    let partition = partition.map_err(|missing| error_codes::of_missing(&missing, false))?;
    partition
        .check_epoch(asked.current_leader_epoch)
        .map_err(error_codes::of_epoch)?;
    let end = match asking.read_committed {
        true => partition.last_stable_offset(),
        false => partition.high_watermark(),
    };
    let epoch = partition.leader_epoch().0;
    let at = |offset: i64, timestamp: i64, leader_epoch: i32| {
        let (partition_index, error_code) = (asked.partition_index, ErrorCode::None);
        ListOffsetsPartitionResponse {
            partition_index,
            error_code,
            timestamp,
            offset,
            leader_epoch,
        }
    };
    let nothing = || at(-1, -1, -1);
    let found = |found: Option<FoundTimestamp>| {
        found.map_or_else(nothing, |found| {
            at(found.offset.0, found.timestamp_ms, found.leader_epoch.0)
        })
    };
    let unreadable = |error: ReadError| {
        if matches!(error, ReadError::Corrupt(_)) {
            let partition = asked.partition_index;
            tracing::error!(topic, partition, timestamp = asked.timestamp, %error, "stored data can't be read");
        }
        error_codes::of_read(&error)
    };
    match asked.timestamp {
        special if is_too_early(special, asking.version) => Err(ErrorCode::UnsupportedVersion),
        LATEST => Ok(at(end.0, -1, epoch)),
        // Topics have no second, local log: nothing is tiered in the sense of remote.storage.enable.
        EARLIEST | EARLIEST_LOCAL => Ok(at(partition.log_start().0, -1, -1)),
        LATEST_TIERED | EARLIEST_PENDING => Ok(nothing()),
        MAX_TIMESTAMP => partition.max_timestamp(end).await.map(found).map_err(unreadable),
        ..0 => Err(ErrorCode::UnsupportedVersion),
        timestamp => partition
            .offset_for_timestamp(timestamp, end)
            .await
            .map(found)
            .map_err(unreadable),
    }
}

fn is_too_early(timestamp: i64, version: i16) -> bool {
    SINCE
        .iter()
        .any(|(special, since)| *special == timestamp && version < *since)
}
