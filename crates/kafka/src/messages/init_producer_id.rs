//! InitProducerId: identities for idempotent and transactional producers (KIP-98, KIP-360, KIP-939).

use crate::{ErrorCode, Str};

api! {
    InitProducerId, versions 0..=6, flexible 2..;

    request InitProducerIdRequest {
        transactional_id: Option<Str>,
        transaction_timeout_ms: i32,
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
        enable_2_pc: bool [6..],
        keep_prepared_txn: bool [6..],
    }

    response InitProducerIdResponse {
        throttle_time_ms: i32 [0.., ignorable],
        error_code: ErrorCode,
        producer_id: i64 = -1,
        producer_epoch: i16,
        ongoing_txn_producer_id: i64 [6..] = -1,
        ongoing_txn_producer_epoch: i16 [6..] = -1,
    }
}
