//! CreatePartitions and DeleteRecords.

pub use create::*;
pub use delete_records::*;

mod create {
    use crate::{ErrorCode, Str};

    api! {
        CreatePartitions, versions 0..=3, flexible 2..;

        request CreatePartitionsRequest {
            topics: Vec<CreatePartitionsTopic>,
            timeout_ms: i32,
            validate_only: bool,
        }

        response CreatePartitionsResponse {
            throttle_time_ms: i32,
            results: Vec<CreatePartitionsTopicResult>,
        }

        struct CreatePartitionsTopic {
            name: Str,
            /// How many there shall be, old and new together.
            count: i32,
            /// Of the new ones; `None`: the broker's choice.
            assignments: Option<Vec<CreatePartitionsAssignment>>,
        }

        struct CreatePartitionsAssignment {
            broker_ids: Vec<i32>,
        }

        struct CreatePartitionsTopicResult {
            name: Str,
            error_code: ErrorCode,
            error_message: Option<Str>,
        }
    }
}

mod delete_records {
    use crate::{ErrorCode, Str};

    api! {
        DeleteRecords, versions 0..=2, flexible 2..;

        request DeleteRecordsRequest {
            topics: Vec<DeleteRecordsTopic>,
            timeout_ms: i32,
        }

        response DeleteRecordsResponse {
            throttle_time_ms: i32,
            topics: Vec<DeleteRecordsTopicResult>,
        }

        struct DeleteRecordsTopic {
            name: Str,
            partitions: Vec<DeleteRecordsPartition>,
        }

        struct DeleteRecordsPartition {
            partition_index: i32,
            /// Everything below goes; -1: up to the high watermark.
            offset: i64,
        }

        struct DeleteRecordsTopicResult {
            name: Str,
            partitions: Vec<DeleteRecordsPartitionResult>,
        }

        struct DeleteRecordsPartitionResult {
            partition_index: i32,
            low_watermark: i64,
            error_code: ErrorCode,
        }
    }
}
