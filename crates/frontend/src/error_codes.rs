//! Which failure is which of Kafka's error codes, as Apache Kafka answers: the data path's and the controller's.
//!
//! Owns: what an error of another crate or of the data path becomes. Does not own: what a handler finds wrong with a request
//! itself, or what a state machine decides (`group`).

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchError;
use tailwater_log::Refusal as SequenceRefusal;
use tailwater_rpc::Error;
use tailwater_types::{Kind, Outcome};

use crate::partition::{AppendError, EpochMismatch, Missing, ReadError};
use crate::produce::Refusal;

/// Why a batch of a client isn't stored.
pub(crate) fn of_refusal(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Batch(BatchError::Crc { .. } | BatchError::Truncated { .. } | BatchError::Length(_)) => {
            ErrorCode::CorruptMessage
        }
        Refusal::Batch(BatchError::Compression(_)) | Refusal::ZstdTooEarly => ErrorCode::UnsupportedCompressionType,
        Refusal::TooLarge { .. } | Refusal::TooLargeEncoded { .. } => ErrorCode::MessageTooLarge,
        Refusal::Records(faults) if faults.about_time => ErrorCode::InvalidTimestamp,
        Refusal::Records(_) => ErrorCode::InvalidRecord,
        Refusal::Batch(_) | Refusal::Record(_) | Refusal::Decompress(_) | Refusal::Empty => ErrorCode::InvalidRecord,
    }
}

pub(crate) fn of_append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::NotLeader => ErrorCode::NotLeaderOrFollower,
        AppendError::TimedOut => ErrorCode::RequestTimedOut,
        AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::Refused(SequenceRefusal::OutOfOrderSequence { .. }) => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::Refused(SequenceRefusal::InvalidProducerEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::Refused(SequenceRefusal::InvalidTransactionState { .. }) => ErrorCode::InvalidTxnState,
        AppendError::Refused(SequenceRefusal::CoordinatorFenced { .. }) => ErrorCode::TransactionCoordinatorFenced,
        // Of those that a producer repeats, the one that says that a partition can't take anything now.
        AppendError::Refused(SequenceRefusal::TooManyTransactions) => ErrorCode::NotEnoughReplicas,
    }
}

pub(crate) fn of_read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::NotLeader => ErrorCode::NotLeaderOrFollower,
        // Retriable both: the bytes may be had from elsewhere, or later.
        ReadError::Unavailable(_) | ReadError::Corrupt(_) => ErrorCode::KafkaStorageError,
    }
}

/// `by_id`: whether the request named the topic by its id.
pub(crate) fn of_missing(missing: &Missing, by_id: bool) -> ErrorCode {
    match missing {
        Missing::UnknownTopic if by_id => ErrorCode::UnknownTopicId,
        Missing::UnknownTopic | Missing::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        Missing::NotLeader { .. } | Missing::Opening { .. } => ErrorCode::NotLeaderOrFollower,
    }
}

pub(crate) fn of_epoch(mismatch: EpochMismatch) -> ErrorCode {
    match mismatch {
        EpochMismatch::Fenced => ErrorCode::FencedLeaderEpoch,
        EpochMismatch::Unknown => ErrorCode::UnknownLeaderEpoch,
    }
}

/// Why a topic wasn't created, changed or deleted.
pub(crate) fn of_catalog(error: &Error) -> ErrorCode {
    match error {
        Error::AlreadyExists(_) => ErrorCode::TopicAlreadyExists,
        Error::NotFound(_) => ErrorCode::UnknownTopicOrPartition,
        Error::Invalid(_) => ErrorCode::InvalidRequest,
        // Its repeat could be told that the topic exists already, or undo what somebody else did.
        error if error.outcome() == Outcome::Unknown => ErrorCode::RequestTimedOut,
        error => match error.kind() {
            // Retriable: another node, or another controller, may be able to, or this one later. (THROTTLING_QUOTA_EXCEEDED has a
            // meaning, and a version, of its own: KIP-599.)
            Kind::Unavailable | Kind::Fenced | Kind::Shutdown | Kind::Throttled => ErrorCode::NotController,
            _ => ErrorCode::UnknownServerError,
        },
    }
}

/// Why the sizes of partitions aren't known: to Kafka's tools, a log directory that can't be read.
pub(crate) fn of_sizes(_: &Error) -> ErrorCode {
    ErrorCode::KafkaStorageError
}

/// Why settings weren't changed.
pub(crate) fn of_alter_configs(error: &Error) -> ErrorCode {
    match error {
        Error::Invalid(_) => ErrorCode::InvalidConfig,
        error => of_catalog(error),
    }
}

/// Why a topic hasn't more partitions.
pub(crate) fn of_create_partitions(error: &Error) -> ErrorCode {
    match error {
        Error::Invalid(_) => ErrorCode::InvalidPartitions,
        error => of_catalog(error),
    }
}

/// Why records weren't deleted. Clients ask again, or another node, where it is one that passes.
pub(crate) fn of_delete_records(error: &Error) -> ErrorCode {
    match error.kind() {
        Kind::NotFound => ErrorCode::UnknownTopicOrPartition,
        Kind::Throttled | Kind::Unavailable | Kind::Fenced | Kind::Shutdown => ErrorCode::NotLeaderOrFollower,
        _ => ErrorCode::UnknownServerError,
    }
}

/// Why there is no producer id. Clients try a coordinator again that is loading.
pub(crate) fn of_producer_ids(error: &Error) -> ErrorCode {
    match error.kind() {
        Kind::Throttled | Kind::Unavailable | Kind::Fenced | Kind::Shutdown => ErrorCode::CoordinatorLoadInProgress,
        _ => ErrorCode::UnknownServerError,
    }
}
