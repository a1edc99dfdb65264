//! InitProducerId and EndTxn of the wire, as questions to a transactional id's owner, and back.
//!
//! Owns: which field means what in which version, and what is refused before anybody is asked.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;

use super::coordinator::Transactions;
use super::state::{NO_EPOCH, NO_ID, ProducerRef};

/// From here on a fenced producer is told so by PRODUCER_FENCED (KIP-588); before, by INVALID_PRODUCER_EPOCH.
const FIRST_FENCED_INIT_VERSION: i16 = 4;
const FIRST_FENCED_END_VERSION: i16 = 2;
/// From here on each end gives a new epoch (KIP-890).
const FIRST_NEW_EPOCH_VERSION: i16 = 5;

/// The error as clients of this version know it (kafka.md section 3, rule 14).
pub(super) fn as_known(error: ErrorCode, version: i16, first_fenced: i16) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if version < first_fenced => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}

pub(crate) async fn init_producer_id(
    transactions: &Transactions,
    version: i16,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match init(transactions, request).await {
        Ok(producer) => InitProducerIdResponse {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            ..Default::default()
        },
        Err(error) => InitProducerIdResponse {
            error_code: as_known(error, version, FIRST_FENCED_INIT_VERSION),
            producer_epoch: NO_EPOCH,
            ..Default::default()
        },
    }
}

async fn init(transactions: &Transactions, request: InitProducerIdRequest) -> Result<ProducerRef, ErrorCode> {
    // A producer that has an id says so with its epoch (KIP-360). Without a transactional id it gets a new one anyway.
    let expected = match (request.producer_id, request.producer_epoch) {
        (NO_ID, NO_EPOCH) => None,
        (NO_ID, _) | (_, NO_EPOCH) => return Err(ErrorCode::InvalidRequest),
        (id, epoch) => Some(ProducerRef { id, epoch }),
    };
    match request.transactional_id.as_deref() {
        None => {
            let id = transactions.new_producer_id().await?;
            Ok(ProducerRef { id, epoch: 0 })
        }
        Some("") => Err(ErrorCode::InvalidRequest),
        Some(id) => {
            let timeout_ms = request.transaction_timeout_ms;
            let max_ms = transactions.config().max_timeout.0;
            if timeout_ms <= 0 || u64::from(timeout_ms.unsigned_abs()) > max_ms {
                return Err(ErrorCode::InvalidTransactionTimeout);
            }
            transactions.init(id, timeout_ms, expected).await
        }
    }
}

pub(crate) async fn end_txn(transactions: &Transactions, version: i16, request: EndTxnRequest) -> EndTxnResponse {
    let producer = ProducerRef {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let with_new_epoch = version >= FIRST_NEW_EPOCH_VERSION;
    let ended = match request.transactional_id.as_str() {
        "" => Err(ErrorCode::InvalidRequest),
        id => transactions.end(id, producer, request.committed, with_new_epoch).await,
    };
    match ended {
        Ok(next) => EndTxnResponse {
            producer_id: next.id,
            producer_epoch: next.epoch,
            ..Default::default()
        },
        Err(error) => EndTxnResponse {
            error_code: as_known(error, version, FIRST_FENCED_END_VERSION),
            ..Default::default()
        },
    }
}
