//! DescribeLogDirs: where partitions lie, and how large they are (KIP-113).

use crate::{ErrorCode, Str};

api! {
    DescribeLogDirs, versions 1..=5, flexible 2..;

    request DescribeLogDirsRequest {
        /// `None`: all.
        topics: Option<Vec<DescribableLogDirTopic>>,
    }

    response DescribeLogDirsResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode [3.., ignorable],
        results: Vec<DescribeLogDirsResult>,
    }

    struct DescribableLogDirTopic {
        topic: Str,
        partitions: Vec<i32>,
    }

    struct DescribeLogDirsResult {
        error_code: ErrorCode,
        log_dir: Str,
        topics: Vec<DescribeLogDirsTopic>,
        /// -1: unknown.
        total_bytes: i64 [4.., ignorable] = -1,
        /// -1: unknown.
        usable_bytes: i64 [4.., ignorable] = -1,
        is_cordoned: bool [5.., ignorable],
    }

    struct DescribeLogDirsTopic {
        name: Str,
        partitions: Vec<DescribeLogDirsPartition>,
    }

    struct DescribeLogDirsPartition {
        partition_index: i32,
        partition_size: i64,
        offset_lag: i64,
        is_future_key: bool,
    }
}
