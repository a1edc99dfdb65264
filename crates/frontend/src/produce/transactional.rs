//! Transactional batches of clients: the one place that says whether they are taken.
//!
//! A partition opens a transaction only for a batch whose guard the producer's coordinator has confirmed (KIP-890). There is
//! no coordinator yet that could be asked, so all of them are refused here, as they are where the coordinator doesn't know
//! of a transaction: with INVALID_TXN_STATE. Whoever serves coordinators asks theirs instead, between
//! [`Partition::begin_verification`](crate::partition::Partition::begin_verification) and the append.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchHeader;
use tailwater_kafka::messages::ProduceRequest;
use tailwater_log::Guard;

use super::Refusal;

/// What is wrong with a request that names a transaction.
pub(super) fn refuse_request(request: &ProduceRequest) -> Option<ErrorCode> {
    request.transactional_id.as_ref().map(|_| ErrorCode::InvalidTxnState)
}

/// The guard that a batch is to be appended with; none for one that is in no transaction.
///
/// # Errors
/// [`Refusal::Transactional`].
pub(super) fn guard(batch: &BatchHeader) -> Result<Option<Guard>, Refusal> {
    match batch.is_transactional() {
        true => Err(Refusal::Transactional),
        false => Ok(None),
    }
}
