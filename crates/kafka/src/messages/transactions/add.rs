//! AddPartitionsToTxn and AddOffsetsToTxn: what a transaction will touch, told before it does.

pub use offsets::*;
pub use partitions::*;

mod partitions {
    use crate::{ErrorCode, Str};

    api! {
        AddPartitionsToTxn, versions 0..=5, flexible 3..;

        /// Up to version 3 a producer's, about its own transaction; from 4 on a broker's, about several.
        request AddPartitionsToTxnRequest {
            transactions: Vec<AddPartitionsToTxnTransaction> [4..],
            v3_and_below_transactional_id: Str [..=3],
            v3_and_below_producer_id: i64 [..=3],
            v3_and_below_producer_epoch: i16 [..=3],
            v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [..=3],
        }

        response AddPartitionsToTxnResponse {
            throttle_time_ms: i32,
            error_code: ErrorCode [4.., ignorable],
            results_by_transaction: Vec<AddPartitionsToTxnResult> [4..],
            results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [..=3],
        }

        struct AddPartitionsToTxnTransaction {
            transactional_id: Str,
            producer_id: i64,
            producer_epoch: i16,
            /// Asks whether the partitions are in the transaction, and adds none.
            verify_only: bool,
            topics: Vec<AddPartitionsToTxnTopic>,
        }

        struct AddPartitionsToTxnTopic {
            name: Str,
            partitions: Vec<i32>,
        }

        struct AddPartitionsToTxnResult {
            transactional_id: Str,
            topic_results: Vec<AddPartitionsToTxnTopicResult>,
        }

        struct AddPartitionsToTxnTopicResult {
            name: Str,
            results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
        }

        struct AddPartitionsToTxnPartitionResult {
            partition_index: i32,
            partition_error_code: ErrorCode,
        }
    }
}

mod offsets {
    use crate::{ErrorCode, Str};

    api! {
        AddOffsetsToTxn, versions 0..=4, flexible 3..;

        /// The group's partition of `__consumer_offsets` becomes a part of the transaction.
        request AddOffsetsToTxnRequest {
            transactional_id: Str,
            producer_id: i64,
            producer_epoch: i16,
            group_id: Str,
        }

        response AddOffsetsToTxnResponse {
            throttle_time_ms: i32,
            error_code: ErrorCode,
        }
    }
}
