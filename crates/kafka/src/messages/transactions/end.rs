//! EndTxn, which decides a transaction, and WriteTxnMarkers, which tells its partitions.

pub use end_txn::*;
pub use markers::*;

mod end_txn {
    use crate::{ErrorCode, Str};

    api! {
        EndTxn, versions 0..=5, flexible 3..;

        request EndTxnRequest {
            transactional_id: Str,
            producer_id: i64,
            producer_epoch: i16,
            committed: bool,
        }

        response EndTxnResponse {
            throttle_time_ms: i32,
            error_code: ErrorCode,
            /// The identity of the next transaction: from version 5 on each end gives a new epoch (KIP-890).
            producer_id: i64 [5.., ignorable] = -1,
            producer_epoch: i16 [5.., ignorable] = -1,
        }
    }
}

mod markers {
    use crate::{ErrorCode, Str};

    api! {
        WriteTxnMarkers, versions 1..=2, flexible 1..;

        request WriteTxnMarkersRequest {
            markers: Vec<WritableTxnMarker>,
        }

        response WriteTxnMarkersResponse {
            markers: Vec<WritableTxnMarkerResult>,
        }

        struct WritableTxnMarker {
            producer_id: i64,
            producer_epoch: i16,
            /// Whether it is committed.
            transaction_result: bool,
            topics: Vec<WritableTxnMarkerTopic>,
            coordinator_epoch: i32,
            /// From 2 on the epoch is one that no data of the transaction has (KIP-1228).
            transaction_version: i8 [2.., ignorable],
        }

        struct WritableTxnMarkerTopic {
            name: Str,
            partition_indexes: Vec<i32>,
        }

        struct WritableTxnMarkerResult {
            producer_id: i64,
            topics: Vec<WritableTxnMarkerTopicResult>,
        }

        struct WritableTxnMarkerTopicResult {
            name: Str,
            partitions: Vec<WritableTxnMarkerPartitionResult>,
        }

        struct WritableTxnMarkerPartitionResult {
            partition_index: i32,
            error_code: ErrorCode,
        }
    }
}
