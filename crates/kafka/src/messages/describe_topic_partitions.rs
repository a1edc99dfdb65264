//! DescribeTopicPartitions: topics and their partitions, some at a time (KIP-966).

use crate::{ErrorCode, Str, Uuid};

api! {
    DescribeTopicPartitions, versions 0..=0, flexible 0..;

    request DescribeTopicPartitionsRequest {
        /// Empty: all.
        topics: Vec<TopicToDescribe>,
        response_partition_limit: i32 = 2000,
        cursor: Option<TopicPartitionCursor>,
    }

    response DescribeTopicPartitionsResponse {
        throttle_time_ms: i32 [0.., ignorable],
        topics: Vec<DescribedTopic>,
        next_cursor: Option<TopicPartitionCursor>,
    }

    struct TopicToDescribe {
        name: Str,
    }

    /// Where to go on: topics by name, partitions by index.
    struct TopicPartitionCursor {
        topic_name: Str,
        partition_index: i32,
    }

    struct DescribedTopic {
        error_code: ErrorCode,
        name: Option<Str>,
        topic_id: Uuid [0.., ignorable],
        is_internal: bool [0.., ignorable],
        partitions: Vec<DescribedTopicPartition>,
        /// A set of bits; `i32::MIN` where nobody asked.
        topic_authorized_operations: i32 = i32::MIN,
    }

    struct DescribedTopicPartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [0.., ignorable] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_elr: Option<Vec<i32>>,
        offline_replicas: Vec<i32> [0.., ignorable],
    }
}
