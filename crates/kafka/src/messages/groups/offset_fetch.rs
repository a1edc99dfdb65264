//! OffsetFetch: how far groups have come. Up to version 7 about one group, from 8 on about several (KIP-709).

use crate::{ErrorCode, Str, Uuid};

api! {
    OffsetFetch, versions 1..=10, flexible 6..;

    request OffsetFetchRequest {
        group_id: Str [..=7],
        /// `None`: every topic the group has offsets of.
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7, null 2..=7, ignorable],
        groups: Vec<OffsetFetchRequestGroup> [8..],
        require_stable: bool [7..],
    }

    response OffsetFetchResponse {
        throttle_time_ms: i32 [3.., ignorable],
        topics: Vec<OffsetFetchResponseTopic> [..=7],
        error_code: ErrorCode [2..=7, ignorable],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    struct OffsetFetchRequestTopic {
        name: Str,
        partition_indexes: Vec<i32>,
    }

    struct OffsetFetchRequestGroup {
        group_id: Str,
        member_id: Option<Str> [9.., ignorable],
        member_epoch: i32 [9.., ignorable] = -1,
        /// `None`: every topic the group has offsets of.
        topics: Option<Vec<OffsetFetchRequestTopics>>,
    }

    struct OffsetFetchRequestTopics {
        name: Str [..=9, ignorable],
        topic_id: Uuid [10.., ignorable],
        partition_indexes: Vec<i32>,
    }

    struct OffsetFetchResponseTopic {
        name: Str,
        partitions: Vec<OffsetFetchResponsePartition>,
    }

    struct OffsetFetchResponsePartition {
        partition_index: i32,
        /// -1: none committed.
        committed_offset: i64,
        committed_leader_epoch: i32 [5..=7, ignorable] = -1,
        metadata: Option<Str> = Some(Str::default()),
        error_code: ErrorCode,
    }

    struct OffsetFetchResponseGroup {
        group_id: Str,
        topics: Vec<OffsetFetchResponseTopics>,
        error_code: ErrorCode,
    }

    struct OffsetFetchResponseTopics {
        name: Str [..=9, ignorable],
        topic_id: Uuid [10.., ignorable],
        partitions: Vec<OffsetFetchResponsePartitions>,
    }

    struct OffsetFetchResponsePartitions {
        partition_index: i32,
        /// -1: none committed.
        committed_offset: i64,
        committed_leader_epoch: i32 = -1,
        metadata: Option<Str> = Some(Str::default()),
        error_code: ErrorCode,
    }
}
