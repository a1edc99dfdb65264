//! OffsetCommit: how far a group has come.

use crate::{ErrorCode, Str, Uuid};

api! {
    OffsetCommit, versions 2..=10, flexible 8..;

    request OffsetCommitRequest {
        group_id: Str,
        /// -1 with an empty member id: a commit from outside the group's membership.
        generation_id_or_member_epoch: i32 [1.., ignorable] = -1,
        member_id: Str [1.., ignorable],
        group_instance_id: Option<Str> [7..],
        retention_time_ms: i64 [2..=4, ignorable] = -1,
        topics: Vec<OffsetCommitRequestTopic>,
    }

    response OffsetCommitResponse {
        throttle_time_ms: i32 [3.., ignorable],
        topics: Vec<OffsetCommitResponseTopic>,
    }

    struct OffsetCommitRequestTopic {
        name: Str [..=9, ignorable],
        topic_id: Uuid [10.., ignorable],
        partitions: Vec<OffsetCommitRequestPartition>,
    }

    struct OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [6.., ignorable] = -1,
        committed_metadata: Option<Str>,
    }

    struct OffsetCommitResponseTopic {
        name: Str [..=9, ignorable],
        topic_id: Uuid [10.., ignorable],
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    struct OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
