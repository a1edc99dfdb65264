//! Whether a client's batch may be stored (docs/kafka.md rules 24 to 26).
//!
//! Pure but for codec contexts. Owns: in which order a batch and its records are checked. Does not own: the header's own
//! rules (`tailwater_kafka::batch::validate`), sequences (`partition`), which Kafka error a refusal is (`error_codes`). The
//! bytes are never changed here.

use std::ops::RangeInclusive;

use tailwater_codec::decompress;
use tailwater_kafka::batch::{self, BatchError, BatchHeader, Compression, HEADER_BYTES};
use tailwater_kafka::record::{RecordError, RecordWalker};
use tailwater_runtime::ZstdPool;

use super::record_faults::{Fault, RecordFaults};

/// The first Produce version in which zstd may be used (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;

/// What a batch is held against.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The request's version.
    pub version: i16,
    /// The topic's `max.message.bytes`, about the stored batch.
    pub max_message_bytes: usize,
    /// The most that a batch's records may have after decompression.
    pub max_decompressed_bytes: usize,
    /// Whether a record without a key is refused.
    pub needs_keys: bool,
    /// The times that records may have, in ms since 1970; `None`: their times don't count.
    pub times_ms: Option<RangeInclusive<i64>>,
}

/// Why a batch is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("{0}")]
    Record(#[from] RecordError),
    #[error("the records can't be decompressed: {0}")]
    Decompress(std::io::Error),
    #[error("a batch of {bytes} bytes, the topic allows {max_bytes}")]
    TooLarge { bytes: usize, max_bytes: usize },
    #[error("a batch of more than the {max_bytes} bytes that the topic allows, in the topic's codec")]
    TooLargeEncoded { max_bytes: usize },
    /// What the topic's settings don't allow.
    #[error("records that the topic doesn't take")]
    Records(RecordFaults),
    #[error("zstd needs Produce version {FIRST_ZSTD_VERSION}")]
    ZstdTooEarly,
    #[error("no records")]
    Empty,
}

/// Checks the one batch in `records` and every record in it.
///
/// # Errors
/// The first rule that it breaks.
pub fn validate(records: &[u8], rules: &Rules, zstd: &ZstdPool) -> Result<BatchHeader, Refusal> {
    if records.is_empty() {
        return Err(Refusal::Empty);
    }
    let header = BatchHeader::read(records)?;
    let compression = header.compression()?;
    if compression == Compression::Zstd && rules.version < FIRST_ZSTD_VERSION {
        return Err(Refusal::ZstdTooEarly);
    }
    // Before its bytes are summed: a batch that is too large isn't worth it.
    if header.size() > rules.max_message_bytes {
        return Err(Refusal::TooLarge {
            bytes: header.size(),
            max_bytes: rules.max_message_bytes,
        });
    }
    let header = batch::validate(records)?;
    let body = &records[HEADER_BYTES..];
    if compression == Compression::None {
        walk(body, &header, body.len(), rules)?;
    } else {
        let max_bytes = rules.max_decompressed_bytes;
        let plain = decompress(compression, body, zstd, max_bytes).map_err(Refusal::Decompress)?;
        walk(plain, &header, max_bytes, rules)?;
    }
    Ok(header)
}

/// A record without a time (-1) may stand anywhere.
const NO_TIMESTAMP: i64 = -1;

fn walk(records: impl std::io::BufRead, header: &BatchHeader, max_bytes: usize, rules: &Rules) -> Result<(), Refusal> {
    let mut faults = RecordFaults::default();
    for record in RecordWalker::new(records, header.count, max_bytes as u64) {
        let record = record?;
        if rules.needs_keys && record.key_bytes.is_none() {
            faults.push(record.offset_delta, Fault::NoKey);
            continue;
        }
        let timestamp_ms = header.base_timestamp_ms.wrapping_add(record.timestamp_delta);
        if let Some(allowed_ms) = &rules.times_ms
            && timestamp_ms != NO_TIMESTAMP
            && !allowed_ms.contains(&timestamp_ms)
        {
            let allowed_ms = allowed_ms.clone();
            faults.push(
                record.offset_delta,
                Fault::Timestamp {
                    timestamp_ms,
                    allowed_ms,
                },
            );
        }
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Refusal::Records(faults)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tailwater_kafka::ErrorCode;
    use tailwater_kafka::batch::{BatchBuilder, assemble};

    use super::super::codecs::{compress, pool};
    use super::*;
    use crate::error_codes;

    const RULES: Rules = Rules {
        version: 9,
        max_message_bytes: 1 << 20,
        max_decompressed_bytes: 4 << 20,
        needs_keys: false,
        times_ms: None,
    };

    fn plain(values: &[usize]) -> BytesMut {
        let mut builder = BatchBuilder::new();
        for length in values {
            builder.push(1_000, None, Some(&vec![b'v'; *length]), &[]);
        }
        builder.build()
    }

    fn compressed(compression: Compression, values: &[usize]) -> BytesMut {
        let batch = plain(values);
        let mut header = BatchHeader::read(&batch).unwrap();
        header.attributes |= compression as i16;
        assemble(&header, &compress(compression, &batch[HEADER_BYTES..]))
    }

    fn code(batch: &[u8]) -> ErrorCode {
        match validate(batch, &RULES, &pool()) {
            Ok(_) => ErrorCode::None,
            Err(refusal) => error_codes::of_refusal(&refusal),
        }
    }

    /// Rule 24: batches of all five codecs are taken.
    #[test]
    fn rule_24_all_codecs_are_taken() {
        for compression in [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let batch = compressed(compression, &[10, 0, 40_000]);
            assert_eq!(code(&batch), ErrorCode::None, "{compression:?}");
        }
    }

    /// Rule 24: a changed byte is CORRUPT_MESSAGE, a wrong count or an old magic INVALID_RECORD, an unknown codec
    /// UNSUPPORTED_COMPRESSION_TYPE.
    #[test]
    fn rule_24_each_fault_has_its_error() {
        let good = plain(&[10, 20]);
        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(code(&changed), ErrorCode::CorruptMessage);
        assert_eq!(code(&good[..good.len() - 1]), ErrorCode::CorruptMessage);
        assert_eq!(code(&[]), ErrorCode::InvalidRecord);
        assert_eq!(code(&[&good[..], &good[..]].concat()), ErrorCode::InvalidRecord);
        let mut old = good.clone();
        old[16] = 1;
        assert_eq!(code(&old), ErrorCode::InvalidRecord);
        let header = BatchHeader::read(&good).unwrap();
        let with = |change: fn(&mut BatchHeader)| {
            let mut changed = header;
            change(&mut changed);
            code(&assemble(&changed, &good[HEADER_BYTES..]))
        };
        assert_eq!(with(|header| header.count = 3), ErrorCode::InvalidRecord);
        let both = |header: &mut BatchHeader| (header.count, header.last_offset_delta) = (3, 2);
        assert_eq!(with(both), ErrorCode::InvalidRecord);
        assert_eq!(with(|header| header.attributes = 0x20), ErrorCode::InvalidRecord);
        assert_eq!(
            with(|header| header.attributes = 5),
            ErrorCode::UnsupportedCompressionType
        );
    }

    /// Rule 24: zstd in a request older than Produce 7 is UNSUPPORTED_COMPRESSION_TYPE.
    #[test]
    fn rule_24_zstd_needs_produce_7() {
        let batch = compressed(Compression::Zstd, &[100]);
        let rules = Rules { version: 6, ..RULES };
        let refusal = validate(&batch, &rules, &pool()).unwrap_err();
        assert_eq!(error_codes::of_refusal(&refusal), ErrorCode::UnsupportedCompressionType);
    }

    /// Rule 26: `max.message.bytes` is about the batch as it is stored, so a compressed batch of more plain bytes passes.
    #[test]
    fn rule_26_the_size_limit_is_about_the_stored_batch() {
        assert_eq!(code(&plain(&[1 << 20])), ErrorCode::MessageTooLarge);
        let batch = compressed(Compression::Gzip, &[2 << 20]);
        assert!(batch.len() < 1 << 20);
        assert_eq!(code(&batch), ErrorCode::None);
    }

    /// Compression that lies about its size, or hides more than is allowed, is refused.
    #[test]
    fn a_decompression_bomb_is_refused() {
        for compression in [
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let bomb = compressed(compression, &[8 << 20]);
            assert_eq!(code(&bomb), ErrorCode::InvalidRecord, "{compression:?}");
        }
    }
}
