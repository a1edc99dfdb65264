//! What a client's batch must be before it gets offsets.

use super::{BatchError, BatchHeader, CRC_END};

/// Checks the one batch that `bytes` hold, as it came from a client: length, magic, CRC32C, count, no control batch, no
/// LogAppendTime, a known compression, a whole producer identity. The records inside are not looked at.
///
/// The header's `crc` is the right one after this: sums of larger things are combined from it.
///
/// # Errors
/// The first of these that doesn't hold.
pub fn validate(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::read(bytes)?;
    let size = header.size();
    if bytes.len() < size {
        return Err(BatchError::Truncated {
            needed: size,
            available: bytes.len(),
        });
    }
    if bytes.len() > size {
        return Err(BatchError::Trailing(bytes.len() - size));
    }
    let computed = crc32c::crc32c(&bytes[CRC_END..]);
    if computed != header.crc {
        return Err(BatchError::Crc {
            stored: header.crc,
            computed,
        });
    }
    let BatchHeader {
        count,
        last_offset_delta,
        producer_id,
        producer_epoch,
        base_sequence,
        ..
    } = header;
    if count < 1 || last_offset_delta != count - 1 {
        return Err(BatchError::Count {
            count,
            last_offset_delta,
        });
    }
    header.compression()?;
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.is_log_append_time() {
        return Err(BatchError::TimestampType);
    }
    let identity_is_whole = match header.is_idempotent() {
        true => producer_epoch >= 0 && base_sequence >= 0,
        false => !header.is_transactional(),
    };
    if !identity_is_whole {
        return Err(BatchError::Producer {
            producer_id,
            producer_epoch,
            base_sequence,
        });
    }
    Ok(header)
}
