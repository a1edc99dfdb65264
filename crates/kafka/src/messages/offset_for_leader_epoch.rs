//! OffsetForLeaderEpoch: where what was written under a leader epoch ends (KIP-101, KIP-320).

use crate::{ErrorCode, Str};

api! {
    OffsetForLeaderEpoch, versions 2..=4, flexible 4..;

    request OffsetForLeaderEpochRequest {
        /// -1 for consumers, -2 for who debugs.
        replica_id: i32 [3.., ignorable] = -2,
        topics: Vec<OffsetForLeaderTopic>,
    }

    response OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 [2.., ignorable],
        topics: Vec<OffsetForLeaderTopicResult>,
    }

    struct OffsetForLeaderTopic {
        topic: Str,
        partitions: Vec<OffsetForLeaderPartition>,
    }

    struct OffsetForLeaderPartition {
        partition: i32,
        current_leader_epoch: i32 [2.., ignorable] = -1,
        leader_epoch: i32,
    }

    struct OffsetForLeaderTopicResult {
        topic: Str,
        partitions: Vec<LeaderEpochEndOffset>,
    }

    struct LeaderEpochEndOffset {
        error_code: ErrorCode,
        partition: i32,
        /// The newest epoch that isn't newer than the one asked for; -1 if it isn't known.
        leader_epoch: i32 [1.., ignorable] = -1,
        end_offset: i64 = -1,
    }
}
