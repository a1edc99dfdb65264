//! ListOffsets: from timestamps to offsets.

use crate::{ErrorCode, Str};

api! {
    ListOffsets, versions 1..=11, flexible 6..;

    request ListOffsetsRequest {
        /// -1 for consumers.
        replica_id: i32,
        /// 0: read_uncommitted, 1: read_committed.
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 [10.., ignorable],
    }

    response ListOffsetsResponse {
        throttle_time_ms: i32 [2.., ignorable],
        topics: Vec<ListOffsetsTopicResponse>,
    }

    struct ListOffsetsTopic {
        name: Str,
        partitions: Vec<ListOffsetsPartition>,
    }

    struct ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4.., ignorable] = -1,
        /// Milliseconds since 1970. -1: the end, -2: the start, -3: of the largest timestamp (KIP-734),
        /// -4: the earliest local one (KIP-405), -5: the latest tiered one (KIP-1005).
        timestamp: i64,
    }

    struct ListOffsetsTopicResponse {
        name: Str,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        timestamp: i64 [1..] = -1,
        offset: i64 [1..] = -1,
        leader_epoch: i32 [4.., ignorable] = -1,
    }
}
