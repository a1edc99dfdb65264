//! Transactional batches of clients: whether their partitions are in the transaction.
//!
//! A partition opens a transaction only for a batch whose guard the producer's coordinator has confirmed since the last marker
//! (KIP-890). From Produce 12 on the coordinator is asked to add the partition; before, the producer has done so by itself, and
//! it is only asked whether that is so. Owns: one question for all partitions of a request, and what answers are called. Does
//! not own: guards (`tailwater_log`), coordinators (`txn`).

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchHeader;
use tailwater_kafka::messages::ProduceRequest;
use tailwater_log::{Guard, Verification};
use tailwater_runtime::clock::Instant;
use tailwater_types::TopicId;

use super::{FIRST_ID_VERSION, ProduceHandler};
use crate::txn::{ProducerRef, is_passing};

/// From here on a batch adds its partition to the transaction (transactions of version 2).
const FIRST_ADDING_VERSION: i16 = 12;
/// From here on clients know TRANSACTION_ABORTABLE (KIP-890).
const FIRST_ABORTABLE_VERSION: i16 = 11;

/// How long a coordinator is asked that can't answer yet: clients come again.
const ASKED_AT_MOST: Duration = Duration::from_secs(5);

/// What is known of a request's transactional batches before any of them is appended.
#[derive(Default)]
pub(super) struct Verified {
    by_partition: BTreeMap<(TopicId, i32), Result<Option<Guard>, ErrorCode>>,
}

/// A partition whose coordinator has to be asked.
struct Question {
    topic: TopicId,
    name: String,
    index: i32,
    guard: Guard,
}

impl Verified {
    /// The guard that a batch is to be appended with; none for one that is in no transaction, or in one that is open.
    ///
    /// # Errors
    /// Why the batch isn't taken.
    pub fn guard(&self, topic: TopicId, index: i32, batch: &BatchHeader) -> Result<Option<Guard>, ErrorCode> {
        if !batch.is_transactional() {
            return Ok(None);
        }
        // As Kafka answers who is in a transaction without a name.
        let unnamed = Err(ErrorCode::TransactionalIdAuthorizationFailed);
        self.by_partition.get(&(topic, index)).copied().unwrap_or(unnamed)
    }
}

/// Asks the coordinator about all transactional batches of a request.
pub(super) async fn verify(
    handler: &ProduceHandler,
    request: &ProduceRequest,
    version: i16,
    deadline: Instant,
) -> Verified {
    let mut verified = Verified::default();
    let (Some(id), Some(transactions)) = (&request.transactional_id, &handler.transactions) else {
        return verified;
    };
    let Some((producer, questions)) = begin(handler, request, version, &mut verified) else {
        return verified;
    };
    let wanted: Vec<_> = questions.iter().map(|one| (one.name.clone(), one.index)).collect();
    let at_most = deadline
        .saturating_duration_since(handler.clock.now())
        .min(ASKED_AT_MOST);
    let verify_only = version < FIRST_ADDING_VERSION;
    let errors = transactions.confirm(id, producer, verify_only, wanted, at_most).await;
    for (question, error) in questions.iter().zip(errors) {
        let answer = match error {
            ErrorCode::None => Ok(Some(question.guard)),
            error => Err(as_known(error, version)),
        };
        verified.by_partition.insert((question.topic, question.index), answer);
    }
    verified
}

/// Begins to verify each partition's batch; what is left to be asked, if anything is, and whose it is.
fn begin(
    handler: &ProduceHandler,
    request: &ProduceRequest,
    version: i16,
    verified: &mut Verified,
) -> Option<(ProducerRef, Vec<Question>)> {
    let view = handler.view.snapshot();
    let (mut producer, mut questions) = (None, Vec::new());
    for data in &request.topic_data {
        let topic = match version >= FIRST_ID_VERSION {
            true => view.topic(TopicId(data.topic_id)),
            false => view.topic_named(&data.name),
        };
        let Some(topic) = topic else { continue };
        for partition in &data.partition_data {
            let header = partition.records.as_ref().map(|records| BatchHeader::read(records));
            let Some(Ok(header)) = header else { continue };
            let led = handler.partitions.get(topic.info.id, partition.index);
            let (true, Ok(led)) = (header.is_transactional(), led) else {
                continue;
            };
            let who = ProducerRef {
                id: header.producer_id,
                epoch: header.producer_epoch,
            };
            let answer = match led.begin_verification(&header, version >= FIRST_ADDING_VERSION) {
                Verification::Ongoing => Ok(None),
                Verification::Needed(_) if *producer.get_or_insert(who) != who => {
                    Err(ErrorCode::InvalidProducerIdMapping)
                }
                Verification::Needed(guard) => {
                    questions.push(Question {
                        topic: topic.info.id,
                        name: topic.info.name.clone(),
                        index: partition.index,
                        guard,
                    });
                    continue;
                }
            };
            verified.by_partition.insert((topic.info.id, partition.index), answer);
        }
    }
    producer.filter(|_| !questions.is_empty()).map(|who| (who, questions))
}

/// A coordinator's answer as producers know it, as Apache Kafka 4.3 says it.
fn as_known(error: ErrorCode, version: i16) -> ErrorCode {
    match error {
        // kafka.md section 3, rule 14: at the partition it has this name.
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < FIRST_ABORTABLE_VERSION => ErrorCode::InvalidTxnState,
        // What producers repeat.
        ErrorCode::OperationNotAttempted => ErrorCode::NotEnoughReplicas,
        error if is_passing(error) => ErrorCode::NotEnoughReplicas,
        error => error,
    }
}
