//! DescribeProducers: the idempotent and transactional producers that partitions led here remember (KIP-664).

use tailwater_format::snapshot::Producer;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use crate::error_codes;
use crate::metadata::names;
use crate::partition::Missing;
use crate::server::Handlers;

/// Nothing: of a sequence, an open transaction.
const NONE: i32 = -1;

pub(crate) fn describe_producers(handlers: &Handlers, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partition = |index| describe(handlers, &topic.name, index);
        DescribeProducersTopicResponse {
            partitions: topic.partition_indexes.into_iter().map(partition).collect(),
            name: topic.name,
        }
    });
    DescribeProducersResponse {
        throttle_time_ms: 0,
        topics: topics.collect(),
    }
}

fn describe(handlers: &Handlers, topic: &str, partition_index: i32) -> DescribeProducersPartitionResponse {
    let nothing = DescribeProducersPartitionResponse {
        partition_index,
        ..Default::default()
    };
    if let Err(wrong) = names::check(topic) {
        return DescribeProducersPartitionResponse {
            error_code: ErrorCode::InvalidTopicException,
            error_message: Some(wrong.into()),
            ..nothing
        };
    }
    let view = handlers.view().snapshot();
    let partition = match view.topic_named(topic) {
        Some(topic) => handlers.partitions().get(topic.info.id, partition_index),
        None => Err(Missing::UnknownTopic),
    };
    match partition {
        Ok(partition) => DescribeProducersPartitionResponse {
            active_producers: partition.producers(show),
            ..nothing
        },
        Err(missing) => DescribeProducersPartitionResponse {
            error_code: error_codes::of_missing(&missing, false),
            error_message: Some(Str::from_static("This node doesn't lead the partition.")),
            ..nothing
        },
    }
}

fn show(producer: &Producer) -> ActiveProducer {
    let last = producer.batches.last();
    ActiveProducer {
        producer_id: producer.id,
        producer_epoch: producer.epoch.into(),
        last_sequence: last.map_or(NONE, |batch| batch.last_sequence),
        // With a marker of a new epoch the batches are forgotten, and when it came is what is left.
        last_timestamp: last.map_or(producer.last_used_ms, |batch| batch.max_timestamp_ms),
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.map_or(NONE.into(), |start| start.0),
    }
}
