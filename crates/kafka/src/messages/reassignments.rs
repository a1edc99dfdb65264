//! AlterPartitionReassignments and ListPartitionReassignments: partitions on their way to other brokers (KIP-455).

pub use alter::*;
pub use list::*;

mod alter {
    use crate::{ErrorCode, Str};

    api! {
        AlterPartitionReassignments, versions 0..=1, flexible 0..;

        request AlterPartitionReassignmentsRequest {
            timeout_ms: i32 = 60_000,
            allow_replication_factor_change: bool [1..] = true,
            topics: Vec<ReassignableTopic>,
        }

        response AlterPartitionReassignmentsResponse {
            throttle_time_ms: i32,
            allow_replication_factor_change: bool [1.., ignorable] = true,
            error_code: ErrorCode,
            error_message: Option<Str>,
            responses: Vec<ReassignableTopicResponse>,
        }

        struct ReassignableTopic {
            name: Str,
            partitions: Vec<ReassignablePartition>,
        }

        struct ReassignablePartition {
            partition_index: i32,
            /// `None`: what is under way is cancelled.
            replicas: Option<Vec<i32>>,
        }

        struct ReassignableTopicResponse {
            name: Str,
            partitions: Vec<ReassignablePartitionResponse>,
        }

        struct ReassignablePartitionResponse {
            partition_index: i32,
            error_code: ErrorCode,
            error_message: Option<Str>,
        }
    }
}

mod list {
    use crate::{ErrorCode, Str};

    api! {
        ListPartitionReassignments, versions 0..=0, flexible 0..;

        request ListPartitionReassignmentsRequest {
            timeout_ms: i32 = 60_000,
            /// `None`: all.
            topics: Option<Vec<ListPartitionReassignmentsTopics>>,
        }

        response ListPartitionReassignmentsResponse {
            throttle_time_ms: i32,
            error_code: ErrorCode,
            error_message: Option<Str>,
            topics: Vec<OngoingTopicReassignment>,
        }

        struct ListPartitionReassignmentsTopics {
            name: Str,
            partition_indexes: Vec<i32>,
        }

        struct OngoingTopicReassignment {
            name: Str,
            partitions: Vec<OngoingPartitionReassignment>,
        }

        struct OngoingPartitionReassignment {
            partition_index: i32,
            replicas: Vec<i32>,
            adding_replicas: Vec<i32>,
            removing_replicas: Vec<i32>,
        }
    }
}
