//! DescribeProducers: the producers that partitions remember (KIP-664).

use crate::{ErrorCode, Str};

api! {
    DescribeProducers, versions 0..=0, flexible 0..;

    request DescribeProducersRequest {
        topics: Vec<DescribeProducersTopic>,
    }

    response DescribeProducersResponse {
        throttle_time_ms: i32,
        topics: Vec<DescribeProducersTopicResponse>,
    }

    struct DescribeProducersTopic {
        name: Str,
        partition_indexes: Vec<i32>,
    }

    struct DescribeProducersTopicResponse {
        name: Str,
        partitions: Vec<DescribeProducersPartitionResponse>,
    }

    struct DescribeProducersPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        active_producers: Vec<ActiveProducer>,
    }

    struct ActiveProducer {
        producer_id: i64,
        producer_epoch: i32,
        last_sequence: i32 = -1,
        last_timestamp: i64 = -1,
        coordinator_epoch: i32,
        /// -1: none is open.
        current_txn_start_offset: i64 = -1,
    }
}
