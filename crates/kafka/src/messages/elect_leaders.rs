//! ElectLeaders: back to preferred leaders, or to any (KIP-460).

use crate::{ErrorCode, Str};

api! {
    ElectLeaders, versions 0..=2, flexible 2..;

    request ElectLeadersRequest {
        /// 0: the preferred one, 1: any that lives.
        election_type: i8 [1..],
        /// `None`: all.
        topic_partitions: Option<Vec<ElectLeadersTopicPartitions>>,
        timeout_ms: i32 = 60_000,
    }

    response ElectLeadersResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode [1..],
        replica_election_results: Vec<ReplicaElectionResult>,
    }

    struct ElectLeadersTopicPartitions {
        topic: Str,
        partitions: Vec<i32>,
    }

    struct ReplicaElectionResult {
        topic: Str,
        partition_result: Vec<ElectionPartitionResult>,
    }

    struct ElectionPartitionResult {
        partition_id: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
