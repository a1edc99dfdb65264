//! The records of `__transaction_state`, in Kafka's own schemas.

use bytes::Bytes;

use crate::messages::stored::{StoredValue, prefixed};
use crate::{CodecError, Message as _, Reader, Str};

/// A key's type; the only one.
const KEY_TYPE: i16 = 0;

impl TransactionLogKey {
    /// The key in `bytes`; `None` if it is of a type that isn't known.
    ///
    /// # Errors
    /// The bytes are no key.
    pub fn decode_key(bytes: &[u8]) -> Result<Option<Self>, CodecError> {
        let mut reader = Reader::new(bytes);
        match i16::from_be_bytes(reader.array()?) {
            KEY_TYPE => Self::decode(reader.into_rest(), 0).map(Some),
            _ => Ok(None),
        }
    }

    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn encode_key(&self) -> Result<Bytes, CodecError> {
        Ok(prefixed(KEY_TYPE, &self.encode(0)?))
    }
}

/// Kafka writes version 1 where the feature `transaction.version` is 1 or more, as it is by default.
impl StoredValue for TransactionLogValue {
    const WRITTEN: i16 = 1;
}

message! {
    TransactionLogKey, versions 0..=0, flexible i16::MAX, {
        transactional_id: Str,
    }
}

message! {
    TransactionLogValue, versions 0..=1, flexible 1, {
        producer_id: i64,
        /// The one of the last transaction that was committed.
        previous_producer_id: i64 [1.., tag 0, ignorable] = -1,
        /// The one that the producer was given for its next transaction, where this one's epochs are used up.
        next_producer_id: i64 [1.., tag 1, ignorable] = -1,
        producer_epoch: i16,
        transaction_timeout_ms: i32,
        /// Kafka's `TransactionState`: 0 Empty, 1 Ongoing, 2 PrepareCommit, 3 PrepareAbort, 4 CompleteCommit,
        /// 5 CompleteAbort, 6 Dead, 7 PrepareEpochFence.
        transaction_status: i8,
        /// `None` in the state Empty.
        transaction_partitions: Option<Vec<TransactionLogPartitions>>,
        /// Milliseconds since 1970, as the start.
        transaction_last_update_timestamp_ms: i64,
        transaction_start_timestamp_ms: i64,
        client_transaction_version: i16 [1.., tag 2, ignorable],
        next_producer_epoch: i16 [1.., tag 3, ignorable] = -1,
    }
}

structure! {
    TransactionLogPartitions {
        topic: Str,
        partition_ids: Vec<i32>,
    }
}
