//! DeleteRecords, each partition by itself, at its leader (docs/kafka.md rule 29).
//!
//! Only the start of the log moves: first at the controller, where it is durable, then here, where nothing below it is
//! served from then on. The data goes later, with what else nobody needs.

use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_types::Offset;

use crate::error_codes;
use crate::server::Handlers;

/// Up to the high watermark.
const ALL: i64 = -1;
/// Where nothing can be said.
const NO_WATERMARK: i64 = -1;

pub(crate) async fn delete_records(handlers: &Handlers, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = handlers.clock().now() + timeout;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let deleted = delete(handlers, &topic.name, &asked);
            let deleted = handlers.clock().timeout_at(deadline, deleted).await;
            let deleted = deleted.unwrap_or(Err(ErrorCode::RequestTimedOut));
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: deleted.map_or(NO_WATERMARK, |start| start.0),
                error_code: deleted.err().unwrap_or_default(),
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        });
    }
    DeleteRecordsResponse {
        throttle_time_ms: 0,
        topics,
    }
}

/// Answers where the log begins afterwards.
async fn delete(handlers: &Handlers, topic: &str, asked: &DeleteRecordsPartition) -> Result<Offset, ErrorCode> {
    let topic = handlers.view().snapshot().topic_named(topic).cloned();
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.info.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = handlers.partitions().get(topic.info.id, asked.partition_index);
    let partition = partition.map_err(|missing| error_codes::of_missing(&missing, false))?;
    if topic.settings.compacts && !topic.settings.deletes {
        return Err(ErrorCode::PolicyViolation);
    }
    let end = partition.high_watermark();
    let start = match asked.offset {
        ALL => end,
        offset if offset < 0 || offset > end.0 => return Err(ErrorCode::OffsetOutOfRange),
        offset => Offset(offset),
    };
    if start > partition.log_start() {
        let deleted = handlers.creator().delete_records(partition.deletion(start)).await;
        deleted.map_err(|error| error_codes::of_delete_records(&error))?;
        partition.set_log_start(start);
    }
    Ok(partition.log_start())
}
