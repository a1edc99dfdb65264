//! Transactions as records of `__transaction_state`, in Kafka's own schemas.
//!
//! Owns: which field is which. Does not own: the schemas (`tailwater_kafka::messages`), batches and the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use tailwater_kafka::messages::{StoredValue as _, TransactionLogKey, TransactionLogPartitions, TransactionLogValue};
use tailwater_kafka::{CodecError, Str};

use super::state::{NO_EPOCH, Phase, TopicPartition, Transaction};
use crate::coordinator::KeyValue;

/// # Errors
/// A text that is too long for its field.
pub fn encode(id: &str, value: Option<&Transaction>) -> Result<KeyValue, CodecError> {
    let key = TransactionLogKey {
        transactional_id: Str::from(id),
    };
    let value = value.map(|value| to_value(value).encode_value());
    Ok((key.encode_key()?, value.transpose()?))
}

/// The id and its value; `None` under a key of another type.
///
/// # Errors
/// The bytes are no record of this topic.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<(String, Option<Transaction>)>, CodecError> {
    let Some(key) = TransactionLogKey::decode_key(key)? else {
        return Ok(None);
    };
    let value: Option<Bytes> = value.map(Bytes::copy_from_slice);
    let value = value
        .map(|value| TransactionLogValue::decode_value(&value))
        .transpose()?;
    let value = value.map(from_value).transpose()?;
    Ok(Some((key.transactional_id.into(), value)))
}

fn to_value(state: &Transaction) -> TransactionLogValue {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in &state.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let partitions = topics
        .into_iter()
        .map(|(topic, partition_ids)| TransactionLogPartitions {
            topic: Str::from(topic),
            partition_ids,
        });
    TransactionLogValue {
        producer_id: state.producer_id,
        previous_producer_id: state.previous_producer_id,
        next_producer_id: state.next_producer_id,
        producer_epoch: state.epoch,
        transaction_timeout_ms: state.timeout_ms,
        transaction_status: state.phase.code(),
        transaction_partitions: (state.phase != Phase::Empty).then(|| partitions.collect()),
        transaction_last_update_timestamp_ms: state.updated_ms,
        transaction_start_timestamp_ms: state.start_ms,
        client_transaction_version: state.client_version,
        ..Default::default()
    }
}

fn from_value(value: TransactionLogValue) -> Result<Transaction, CodecError> {
    let status = value.transaction_status;
    let phase = Phase::from_code(status).ok_or(CodecError::UnsupportedVersion {
        message: "TransactionLogValue: state",
        version: i16::from(status),
    })?;
    let topics = value.transaction_partitions.unwrap_or_default();
    let partitions = topics.into_iter().flat_map(|topic| {
        let name = String::from(topic.topic);
        let at = move |partition| TopicPartition {
            topic: name.clone(),
            partition,
        };
        topic.partition_ids.into_iter().map(at)
    });
    Ok(Transaction {
        producer_id: value.producer_id,
        previous_producer_id: value.previous_producer_id,
        next_producer_id: value.next_producer_id,
        epoch: value.producer_epoch,
        last_epoch: NO_EPOCH,
        timeout_ms: value.transaction_timeout_ms,
        phase,
        partitions: partitions.collect(),
        start_ms: value.transaction_start_timestamp_ms,
        updated_ms: value.transaction_last_update_timestamp_ms,
        client_version: value.client_transaction_version,
    })
}
