//! Produce: batches into partitions.

use bytes::BytesMut;

use crate::{ErrorCode, Str, Uuid};

api! {
    Produce, versions 3..=13, flexible 9..;

    request ProduceRequest {
        transactional_id: Option<Str>,
        /// 0: no answer at all. 1 and -1: when the batch is committed.
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }

    response ProduceResponse {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32 [1.., ignorable],
        node_endpoints: Vec<ProduceNodeEndpoint> [10.., tag 0, ignorable],
    }

    struct TopicProduceData {
        name: Str [..=12, ignorable],
        topic_id: Uuid [13.., ignorable],
        partition_data: Vec<PartitionProduceData>,
    }

    struct PartitionProduceData {
        index: i32,
        /// A piece of the frame that nobody else can see: offsets are written into it in place.
        records: Option<BytesMut>,
    }

    struct TopicProduceResponse {
        name: Str [..=12, ignorable],
        topic_id: Uuid [13.., ignorable],
        partition_responses: Vec<PartitionProduceResponse>,
    }

    struct PartitionProduceResponse {
        index: i32,
        error_code: ErrorCode,
        base_offset: i64,
        /// -1 unless the topic has LogAppendTime.
        log_append_time_ms: i64 [2.., ignorable] = -1,
        log_start_offset: i64 [5.., ignorable] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [8.., ignorable],
        error_message: Option<Str> [8.., ignorable],
        current_leader: ProduceLeaderIdAndEpoch [10.., tag 0, ignorable],
    }

    struct BatchIndexAndErrorMessage {
        batch_index: i32,
        batch_index_error_message: Option<Str>,
    }

    struct ProduceLeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    struct ProduceNodeEndpoint {
        node_id: i32,
        host: Str,
        port: i32,
        rack: Option<Str>,
    }
}
