//! DescribeQuorum: who keeps the metadata (KIP-595, KIP-836, KIP-853).

use crate::{ErrorCode, Str, Uuid};

api! {
    DescribeQuorum, versions 0..=2, flexible 0..;

    request DescribeQuorumRequest {
        topics: Vec<DescribeQuorumTopic>,
    }

    response DescribeQuorumResponse {
        error_code: ErrorCode,
        error_message: Option<Str> [2.., ignorable],
        topics: Vec<DescribeQuorumTopicResponse>,
        nodes: Vec<QuorumNode> [2.., ignorable],
    }

    struct DescribeQuorumTopic {
        topic_name: Str,
        partitions: Vec<DescribeQuorumPartition>,
    }

    struct DescribeQuorumPartition {
        partition_index: i32,
    }

    struct DescribeQuorumTopicResponse {
        topic_name: Str,
        partitions: Vec<DescribeQuorumPartitionResponse>,
    }

    struct DescribeQuorumPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<Str> [2.., ignorable],
        leader_id: i32,
        leader_epoch: i32,
        high_watermark: i64,
        current_voters: Vec<QuorumReplicaState>,
        observers: Vec<QuorumReplicaState>,
    }

    struct QuorumReplicaState {
        replica_id: i32,
        replica_directory_id: Uuid [2..],
        /// -1: unknown, as below.
        log_end_offset: i64,
        last_fetch_timestamp: i64 [1.., ignorable] = -1,
        last_caught_up_timestamp: i64 [1.., ignorable] = -1,
    }

    struct QuorumNode {
        node_id: i32,
        listeners: Vec<QuorumListener>,
    }

    struct QuorumListener {
        name: Str,
        host: Str,
        port: u16,
    }
}
