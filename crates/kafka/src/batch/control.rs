//! End-of-transaction markers: control batches of one record that say how a producer's transaction ended (KIP-98).
//!
//! ```text
//! key    i16 version (0), i16 type: 0 abort, 1 commit
//! value  i16 version (0), i32 epoch of the coordinator
//! ```
//!
//! Higher versions begin with the same fields. A control batch carries the producer's id and epoch and no sequence.

use bytes::BytesMut;

use super::{BatchBuilder, BatchHeader, HEADER_BYTES};
use crate::record::Record;

/// The batch has one record, 17 bytes long, whatever is in it.
pub const MARKER_BYTES: usize = HEADER_BYTES + 17;

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionEnd {
    Abort,
    Commit,
}

/// An end of a transaction, as the coordinator decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub end: TransactionEnd,
    /// The epoch of the coordinator's leadership; an older coordinator's markers are to be refused.
    pub coordinator_epoch: i32,
}

/// What is wrong with a control batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    #[error("a control batch without a whole record")]
    Truncated,
    #[error("a control record with a key of {key_bytes} and a value of {value_bytes} bytes")]
    Malformed { key_bytes: usize, value_bytes: usize },
}

impl Marker {
    /// The marker in `batch`, a whole control batch with its header. `None` for a control record that ends no transaction.
    ///
    /// # Errors
    /// The batch is no control batch. Its CRC isn't looked at.
    pub fn read(batch: &[u8]) -> Result<Option<Self>, MarkerError> {
        let mut body = batch.get(HEADER_BYTES..).ok_or(MarkerError::Truncated)?;
        let record = Record::read(&mut body).map_err(|_broken| MarkerError::Truncated)?;
        let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
        let malformed = MarkerError::Malformed {
            key_bytes: key.len(),
            value_bytes: value.len(),
        };
        let [_, _, type_high, type_low, ..] = *key else {
            return Err(malformed);
        };
        let end = match i16::from_be_bytes([type_high, type_low]) {
            ABORT => TransactionEnd::Abort,
            COMMIT => TransactionEnd::Commit,
            _ => return Ok(None),
        };
        let Some(epoch) = value.get(2..).and_then(|epoch| epoch.first_chunk()) else {
            return Err(malformed);
        };
        Ok(Some(Self {
            end,
            coordinator_epoch: i32::from_be_bytes(*epoch),
        }))
    }

    /// The control batch, with base offset 0. `timestamp_ms` is in milliseconds since 1970.
    pub fn build(self, producer_id: i64, producer_epoch: i16, timestamp_ms: i64) -> BytesMut {
        let end = match self.end {
            TransactionEnd::Abort => ABORT,
            TransactionEnd::Commit => COMMIT,
        };
        let [version_high, version_low] = VERSION.to_be_bytes();
        let [type_high, type_low] = end.to_be_bytes();
        let mut value = [version_high, version_low, 0, 0, 0, 0];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let key = [version_high, version_low, type_high, type_low];
        let mut batch = BatchBuilder::new()
            .producer(producer_id, producer_epoch, BatchHeader::NO_SEQUENCE)
            .transactional()
            .control();
        batch.push(timestamp_ms, Some(&key), Some(&value), &[]);
        batch.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Apache Kafka 4.3 wrote with `MemoryRecords.withEndTransactionMarker`: producer 7, epoch 3, coordinator epoch 9.
    const COMMIT_7_3: &str = "000000000000000000000042ffffffff02159354790030000000000000018bcfe568000000018bcfe568000000\
        0000000000070003ffffffff000000012000000008000000010c00000000000900";
    const ABORT_7_3: &str = "000000000000000000000042ffffffff02e1ad82310030000000000000018bcfe568000000018bcfe568000000\
        0000000000070003ffffffff000000012000000008000000000c00000000000900";

    fn marker(end: TransactionEnd) -> Marker {
        Marker {
            end,
            coordinator_epoch: 9,
        }
    }

    /// Markers are Kafka's bytes, both ways.
    #[test]
    fn markers_are_kafkas_bytes() {
        for (end, golden) in [(TransactionEnd::Commit, COMMIT_7_3), (TransactionEnd::Abort, ABORT_7_3)] {
            let batch = marker(end).build(7, 3, 1_700_000_000_000);
            let hex: String = batch.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, golden);
            assert_eq!(batch.len(), MARKER_BYTES);
            assert_eq!(Marker::read(&batch), Ok(Some(marker(end))));
            let header = BatchHeader::read(&batch).unwrap();
            assert!(header.is_control() && header.is_transactional());
            assert_eq!(
                (header.producer_id, header.producer_epoch, header.base_sequence),
                (7, 3, -1)
            );
        }
    }

    /// Rule 24: a client's control batch is refused, even one that is a marker.
    #[test]
    fn rule_24_a_marker_is_no_batch_of_a_client() {
        let batch = marker(TransactionEnd::Commit).build(7, 3, 0);
        assert_eq!(crate::batch::validate(&batch), Err(crate::batch::BatchError::Control));
    }

    /// Any cut and any other key or value is found, and a control record of another type ends nothing.
    #[test]
    fn a_control_record_that_is_no_marker() {
        let batch = marker(TransactionEnd::Commit).build(7, 3, 0);
        for length in 0..batch.len() {
            assert_eq!(
                Marker::read(&batch[..length]),
                Err(MarkerError::Truncated),
                "{length} bytes"
            );
        }
        let control = |key: &[u8], value: &[u8]| {
            let mut batch = BatchBuilder::new().producer(7, 3, -1).transactional().control();
            batch.push(0, Some(key), Some(value), &[]);
            Marker::read(&batch.build())
        };
        assert_eq!(control(&[0, 0, 0, 2], &[]), Ok(None), "a leader change of KRaft's");
        let newer = marker(TransactionEnd::Commit);
        assert_eq!(
            control(&[0, 1, 0, 1, 99], &[0, 1, 0, 0, 0, 9, 99]),
            Ok(Some(newer)),
            "a newer version with more in it"
        );
        assert!(control(&[0, 0, 0], &[0, 0, 0, 0, 0, 9]).is_err());
        assert!(control(&[0, 0, 0, 1], &[0, 0, 0, 0, 0]).is_err());
    }
}
