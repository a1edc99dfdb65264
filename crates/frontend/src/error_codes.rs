//! Which failure of the data path is which of Kafka's error codes, as Apache Kafka answers.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::BatchError;
use tailwater_log::Refusal as SequenceRefusal;

use crate::partition::{AppendError, EpochMismatch, Missing, ReadError};
use crate::produce::Refusal;

/// Why a batch of a client isn't stored.
pub(crate) fn of_refusal(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Batch(BatchError::Crc { .. } | BatchError::Truncated { .. } | BatchError::Length(_)) => {
            ErrorCode::CorruptMessage
        }
        Refusal::Batch(BatchError::Compression(_)) | Refusal::ZstdTooEarly => ErrorCode::UnsupportedCompressionType,
        Refusal::TooLarge { .. } => ErrorCode::MessageTooLarge,
        Refusal::Batch(_) | Refusal::Record(_) | Refusal::Decompress(_) | Refusal::Empty => ErrorCode::InvalidRecord,
        // Until there are transactions, nobody can be in one.
        Refusal::Transactional => ErrorCode::InvalidTxnState,
    }
}

pub(crate) fn of_append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::NotLeader => ErrorCode::NotLeaderOrFollower,
        AppendError::TimedOut => ErrorCode::RequestTimedOut,
        AppendError::Refused(SequenceRefusal::OutOfOrderSequence { .. }) => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::Refused(SequenceRefusal::InvalidProducerEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
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
