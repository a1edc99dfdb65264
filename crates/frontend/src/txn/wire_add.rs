//! AddPartitionsToTxn and AddOffsetsToTxn of the wire, as questions to a transactional id's owner, and back.
//!
//! Owns: which field means what in which version.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_rpc::frontend::AddPartitions;

use super::coordinator::Transactions;
use super::state::ProducerRef;
use super::wire::as_known;
use crate::group::Groups;
use crate::metadata::names;

/// From here on the request is a broker's, about several transactions.
const FIRST_BATCHED_VERSION: i16 = 4;
/// See `wire.rs`; for both requests.
const FIRST_FENCED_VERSION: i16 = 2;

pub(crate) async fn add_partitions_to_txn(
    transactions: &Transactions,
    version: i16,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if version < FIRST_BATCHED_VERSION {
        let producer = ProducerRef {
            id: request.v3_and_below_producer_id,
            epoch: request.v3_and_below_producer_epoch,
        };
        let id = request.v3_and_below_transactional_id;
        let partitions = flat(&request.v3_and_below_topics);
        let errors = transactions.add_for_client(&id, producer, &partitions).await;
        let errors = errors
            .into_iter()
            .map(|error| as_known(error, version, FIRST_FENCED_VERSION));
        return AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: results(&request.v3_and_below_topics, errors),
            ..Default::default()
        };
    }
    let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let wanted = AddPartitions {
            // Whoever sends it, it is asked as by this node.
            from: transactions.me(),
            transactional_id: transaction.transactional_id.to_string(),
            producer_id: transaction.producer_id,
            producer_epoch: transaction.producer_epoch,
            verify_only: transaction.verify_only,
            partitions: flat(&transaction.topics),
        };
        let errors = transactions.add_here(&wanted).await;
        results_by_transaction.push(AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id,
            topic_results: results(&transaction.topics, errors.into_iter()),
        });
    }
    AddPartitionsToTxnResponse {
        results_by_transaction,
        ..Default::default()
    }
}

fn flat(topics: &[AddPartitionsToTxnTopic]) -> Vec<(String, i32)> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| {
        let name = topic.name.to_string();
        let partitions = topic.partitions.iter();
        partitions.map(|index| (name.clone(), *index)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

/// The errors of [`flat`] partitions, by topic again.
fn results(
    topics: &[AddPartitionsToTxnTopic],
    mut errors: impl Iterator<Item = ErrorCode>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut result = |partition_index: i32| AddPartitionsToTxnPartitionResult {
        partition_index,
        partition_error_code: errors.next().unwrap_or(ErrorCode::UnknownServerError),
    };
    let mut of_topic = |topic: &AddPartitionsToTxnTopic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic.partitions.iter().map(|index| result(*index)).collect(),
    };
    topics.iter().map(&mut of_topic).collect()
}

pub(crate) async fn add_offsets_to_txn(
    transactions: &Transactions,
    groups: &Groups,
    version: i16,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let producer = ProducerRef {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let error = match groups.partition_of(&request.group_id).await {
        Ok(index) => {
            let partition = (names::CONSUMER_OFFSETS.to_owned(), index);
            let errors = transactions
                .add_for_client(&request.transactional_id, producer, &[partition])
                .await;
            errors.into_iter().next().unwrap_or(ErrorCode::UnknownServerError)
        }
        Err(error) => error,
    };
    AddOffsetsToTxnResponse {
        error_code: as_known(error, version, FIRST_FENCED_VERSION),
        ..Default::default()
    }
}
