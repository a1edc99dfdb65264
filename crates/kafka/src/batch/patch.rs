//! What a broker writes into a producer's batch, in place.

use tailwater_types::{LeaderEpoch, Offset};

use super::{BatchError, BatchHeader, CRC_END, HEADER_BYTES, LOG_APPEND_TIME_BIT, at};
use crate::crc;

/// Gives a batch its offsets. Both fields lie outside the CRC.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn assign(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    put(batch, at::BASE_OFFSET, base_offset.0.to_be_bytes());
    put(batch, at::LEADER_EPOCH, leader_epoch.0.to_be_bytes());
}

/// Makes a batch one of LogAppendTime: the bit, the time (ms) as the largest timestamp, and the CRC that follows from the
/// one it had, which must have been right. The records keep their timestamps; readers take the batch's.
///
/// # Errors
/// `batch` doesn't begin with a header.
pub fn set_log_append_time(batch: &mut [u8], timestamp_ms: i64) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::read(batch)?;
    let old_front = crc32c::crc32c(&batch[CRC_END..HEADER_BYTES]);
    put(
        batch,
        at::ATTRIBUTES,
        (header.attributes | LOG_APPEND_TIME_BIT).to_be_bytes(),
    );
    put(batch, at::MAX_TIMESTAMP, timestamp_ms.to_be_bytes());
    let new_front = crc32c::crc32c(&batch[CRC_END..HEADER_BYTES]);
    let crc = crc::replace_front(header.crc, old_front, new_front, header.size() - HEADER_BYTES);
    put(batch, at::CRC, crc.to_be_bytes());
    BatchHeader::read(batch)
}

/// The CRC32C of all of a batch's bytes, from the CRC in its header, which must be right: only the 21 bytes that that
/// one doesn't cover are summed.
///
/// # Errors
/// `batch` doesn't begin with a header.
pub fn whole_crc(batch: &[u8]) -> Result<u32, BatchError> {
    let header = BatchHeader::read(batch)?;
    let front = crc32c::crc32c(&batch[..CRC_END]);
    Ok(crc::combine(front, header.crc, header.size() - CRC_END))
}

fn put<const N: usize>(batch: &mut [u8], at: usize, field: [u8; N]) {
    batch[at..at + N].copy_from_slice(&field);
}
