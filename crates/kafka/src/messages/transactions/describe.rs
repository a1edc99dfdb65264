//! DescribeTransactions and ListTransactions: what administrators see of transactions (KIP-664, KIP-994, KIP-1152).

pub use describe_transactions::*;
pub use list_transactions::*;

mod describe_transactions {
    use crate::{ErrorCode, Str};

    api! {
        DescribeTransactions, versions 0..=0, flexible 0..;

        request DescribeTransactionsRequest {
            transactional_ids: Vec<Str>,
        }

        response DescribeTransactionsResponse {
            throttle_time_ms: i32,
            transaction_states: Vec<DescribedTransaction>,
        }

        struct DescribedTransaction {
            error_code: ErrorCode,
            transactional_id: Str,
            transaction_state: Str,
            transaction_timeout_ms: i32,
            transaction_start_time_ms: i64,
            producer_id: i64,
            producer_epoch: i16,
            /// While it ends, those that have no marker yet.
            topics: Vec<DescribedTransactionTopic>,
        }

        struct DescribedTransactionTopic {
            topic: Str,
            partitions: Vec<i32>,
        }
    }
}

mod list_transactions {
    use crate::{ErrorCode, Str};

    api! {
        ListTransactions, versions 0..=2, flexible 0..;

        request ListTransactionsRequest {
            /// Empty: all.
            state_filters: Vec<Str>,
            /// Empty: all.
            producer_id_filters: Vec<i64>,
            /// Those that run longer, in milliseconds; below 0: all.
            duration_filter: i64 [1..] = -1,
            /// A regular expression; empty or `None`: all.
            transactional_id_pattern: Option<Str> [2..],
        }

        response ListTransactionsResponse {
            throttle_time_ms: i32,
            error_code: ErrorCode,
            unknown_state_filters: Vec<Str>,
            transaction_states: Vec<ListedTransaction>,
        }

        struct ListedTransaction {
            transactional_id: Str,
            producer_id: i64,
            transaction_state: Str,
        }
    }
}
