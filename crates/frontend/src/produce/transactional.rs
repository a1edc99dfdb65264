//! Transactional batches of clients: whether their partitions are in the transaction.
//!
//! A partition opens a transaction only for a batch whose guard the producer's coordinator has confirmed since the last marker
//! (KIP-890). From Produce 12 on the coordinator is asked to add the partition; before, the producer has done so by itself, and
//! it is only asked whether that is so. Owns: one question for all partitions of a request, and what answers are called. Does
//! not own: guards (`tailwater_log`), coordinators (`txn`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchHeader;
use tailwater_kafka::messages::ProduceRequest;
use tailwater_log::{Guard, Verification};
use tailwater_runtime::clock::Instant;
use tailwater_types::TopicId;

use super::{FIRST_ID_VERSION, ProduceHandler};
use crate::partition::Partition;
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
    /// Whether the request says whose transaction it is about.
    is_named: bool,
    by_partition: BTreeMap<(TopicId, i32), Result<Option<Guard>, Unverified>>,
}

/// Why a batch isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unverified {
    pub code: ErrorCode,
    /// What the code doesn't say.
    pub message: Option<&'static str>,
}

impl From<ErrorCode> for Unverified {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None }
    }
}

/// What producers repeat.
fn to_be_repeated(message: &'static str) -> Unverified {
    Unverified {
        code: ErrorCode::NotEnoughReplicas,
        message: Some(message),
    }
}

/// A partition whose coordinator has to be asked.
struct Question {
    led: Arc<Partition>,
    header: BatchHeader,
    guard: Guard,
}

impl Question {
    fn topic_partition(&self) -> (TopicId, i32) {
        (self.led.topic(), self.led.index())
    }
}

impl Verified {
    /// The guard that a batch is to be appended with; none for one that is in no transaction, or in one that is open.
    ///
    /// # Errors
    /// Why the batch isn't taken.
    pub fn guard(&self, topic: TopicId, index: i32, batch: &BatchHeader) -> Result<Option<Guard>, Unverified> {
        if !batch.is_transactional() {
            return Ok(None);
        }
        let missing = match self.is_named {
            // It wasn't led here yet when the coordinator was asked.
            true => ErrorCode::NotLeaderOrFollower,
            // As Kafka answers who is in a transaction without a name.
            false => ErrorCode::TransactionalIdAuthorizationFailed,
        };
        self.by_partition
            .get(&(topic, index))
            .copied()
            .unwrap_or(Err(missing.into()))
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
    verified.is_named = true;
    let Some((producer, mut questions)) = begin(handler, request, version, &mut verified) else {
        return verified;
    };
    let adds = version >= FIRST_ADDING_VERSION;
    let until = deadline.min(handler.clock.now() + ASKED_AT_MOST);
    while !questions.is_empty() {
        let named = |one: &Question| (one.led.topic_name().to_string(), one.led.index());
        let wanted = questions.iter().map(named).collect();
        let errors = transactions.confirm(id, producer, !adds, wanted, until).await;
        let is_late = handler.clock.now() >= until;
        let mut again = Vec::new();
        for (mut question, error) in questions.into_iter().zip(errors) {
            let answer = match error {
                ErrorCode::None => match question.led.begin_verification(&question.header, adds) {
                    Verification::Ongoing => Ok(None),
                    Verification::Needed(guard) if guard == question.guard => Ok(Some(guard)),
                    // The last transaction's marker came in between, and took the guard along.
                    Verification::Needed(guard) if !is_late => {
                        question.guard = guard;
                        again.push(question);
                        continue;
                    }
                    Verification::Needed(_) => {
                        Err(to_be_repeated("the last transaction of its producer ended just now"))
                    }
                },
                error => Err(as_known(error, version)),
            };
            verified.by_partition.insert(question.topic_partition(), answer);
        }
        questions = again;
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
        let Some(topic) = topic.filter(|topic| !topic.info.internal) else {
            continue;
        };
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
                    Err(ErrorCode::InvalidProducerIdMapping.into())
                }
                Verification::Needed(guard) => {
                    questions.push(Question { led, header, guard });
                    continue;
                }
            };
            verified.by_partition.insert((topic.info.id, partition.index), answer);
        }
    }
    producer.filter(|_| !questions.is_empty()).map(|who| (who, questions))
}

/// A coordinator's answer as producers know it, as Apache Kafka 4.3 says it.
fn as_known(error: ErrorCode, version: i16) -> Unverified {
    match error {
        // kafka.md section 3, rule 14: at the partition it has this name.
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch.into(),
        ErrorCode::TransactionAbortable if version < FIRST_ABORTABLE_VERSION => ErrorCode::InvalidTxnState.into(),
        ErrorCode::OperationNotAttempted => to_be_repeated("another partition of the request isn't there"),
        ErrorCode::ConcurrentTransactions => to_be_repeated("the last transaction of its producer is still ending"),
        error if is_passing(error) => to_be_repeated("the coordinator of its transaction can't be asked now"),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// A partition that the coordinator wasn't asked about, because it was opened here meanwhile, is to be tried again; only
    /// who names no transaction isn't allowed to be in one.
    #[test]
    fn what_was_not_verified_is_to_be_repeated() {
        let header = |batch: BytesMut| BatchHeader::read(&batch).expect("whole");
        let batch = header(crate::testing::transactional(7, 0, 0, &[b"x"]));
        let topic = TopicId::from_random(1);
        let named = Verified {
            is_named: true,
            ..Verified::default()
        };
        assert_eq!(
            named.guard(topic, 0, &batch),
            Err(ErrorCode::NotLeaderOrFollower.into())
        );
        let unnamed = Verified::default();
        let refused = Err(ErrorCode::TransactionalIdAuthorizationFailed.into());
        assert_eq!(unnamed.guard(topic, 0, &batch), refused);
        let plain = header(crate::testing::batch(&[b"x"]));
        assert_eq!(unnamed.guard(topic, 0, &plain), Ok(None));
    }

    /// What producers are to repeat has one code for many causes, so it comes with a word about the cause.
    #[test]
    fn what_is_to_be_repeated_says_why() {
        let passing = [
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorNotAvailable,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::ConcurrentTransactions,
            ErrorCode::OperationNotAttempted,
        ];
        for error in passing {
            let Unverified { code, message } = as_known(error, 13);
            assert_eq!(
                (code, message.is_some()),
                (ErrorCode::NotEnoughReplicas, true),
                "{error:?}"
            );
        }
        let fenced = ErrorCode::InvalidProducerEpoch.into();
        assert_eq!(as_known(ErrorCode::ProducerFenced, 13), fenced);
    }
}
