//! TxnOffsetCommit of the wire, as far as it is about its transaction.
//!
//! Owns: that the group's partition of `__consumer_offsets` is in the transaction before anything is committed. Does not own:
//! offsets, who may commit them (`group`).

use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_log::{Guard, Verification};

use super::coordinator::Transactions;
use super::state::ProducerRef;
use crate::group::{self, Groups};
use crate::metadata::names;
use crate::view::Snapshot;

/// From here on a commit adds the group to the transaction (transactions of version 2).
const FIRST_ADDING_VERSION: i16 = 5;
/// From here on clients know TRANSACTION_ABORTABLE (KIP-890).
const FIRST_ABORTABLE_VERSION: i16 = 4;
/// How long a coordinator is asked that can't answer yet: Kafka's `offsets.commit.timeout.ms`.
const ASKED_AT_MOST: Duration = Duration::from_secs(5);

pub(crate) async fn txn_offset_commit(
    transactions: &Transactions,
    groups: &Groups,
    version: i16,
    view: &Snapshot,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let producer = ProducerRef {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let (id, group) = (request.transactional_id.clone(), request.group_id.clone());
    let verified = async move {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        verify(transactions, groups, version, &id, producer, &group).await
    };
    group::txn_offset_commit(groups, view, request, verified).await
}

/// # Errors
/// The code for clients.
async fn verify(
    transactions: &Transactions,
    groups: &Groups,
    version: i16,
    id: &str,
    producer: ProducerRef,
    group: &str,
) -> Result<Option<Guard>, ErrorCode> {
    let log = groups.log_of(group)?;
    let adds = version >= FIRST_ADDING_VERSION;
    let until = groups.clock().now() + ASKED_AT_MOST;
    let mut confirmed = None;
    loop {
        let guard = match log.begin_verification_of_offsets(producer.id, producer.epoch, adds) {
            Verification::Ongoing => return Ok(None),
            Verification::Needed(guard) => guard,
        };
        // Another one than before: the last transaction's marker came in between.
        if confirmed == Some(guard) {
            return Ok(confirmed);
        }
        if confirmed.is_some() && groups.clock().now() >= until {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let wanted = vec![(names::CONSUMER_OFFSETS.to_owned(), log.index())];
        let errors = transactions.confirm(id, producer, !adds, wanted, until).await;
        match errors.first() {
            Some(ErrorCode::None) => confirmed = Some(guard),
            Some(error) => return Err(as_known(*error, version)),
            None => return Err(ErrorCode::UnknownServerError),
        }
    }
}

/// A transactional id's coordinator's answer as a group's says it, like Apache Kafka 4.3.
fn as_known(error: ErrorCode, version: i16) -> ErrorCode {
    use ErrorCode::*;
    match error {
        ProducerFenced => InvalidProducerEpoch,
        TransactionAbortable if version < FIRST_ABORTABLE_VERSION => InvalidTxnState,
        ConcurrentTransactions if version >= FIRST_ADDING_VERSION => ConcurrentTransactions,
        // The group's coordinator is here; what isn't to be had is the other one.
        NotCoordinator | CoordinatorLoadInProgress | ConcurrentTransactions | UnknownTopicOrPartition => {
            CoordinatorNotAvailable
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What producers of each version are told of a coordinator's answer.
    #[test]
    fn errors_are_what_each_version_knows() {
        use ErrorCode::*;
        let cases = [
            (ProducerFenced, 5, InvalidProducerEpoch),
            (ProducerFenced, 0, InvalidProducerEpoch),
            (TransactionAbortable, 4, TransactionAbortable),
            (TransactionAbortable, 3, InvalidTxnState),
            (ConcurrentTransactions, 5, ConcurrentTransactions),
            (ConcurrentTransactions, 4, CoordinatorNotAvailable),
            (NotCoordinator, 5, CoordinatorNotAvailable),
            (InvalidProducerIdMapping, 5, InvalidProducerIdMapping),
        ];
        for (error, version, known) in cases {
            assert_eq!(as_known(error, version), known, "{error:?} in version {version}");
        }
    }
}
