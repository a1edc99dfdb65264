//! Record batches of magic 2 (KIP-98): the header, in-place changes, validation, building, search by offset.
//!
//! Owns: the 61 bytes in front of a batch's records. Does not own: the records ([`crate::record`]), compression, which
//! Kafka error answers which fault.

mod build;
mod control;
mod patch;
mod retain;
mod search;
mod split;
mod validate;

#[cfg(test)]
mod tests;

pub use build::{BatchBuilder, assemble};
pub use control::{MARKER_BYTES, Marker, MarkerError, TransactionEnd};
pub use patch::{assign, set_log_append_time, whole_crc};
pub use retain::{Retained, empty};
pub use search::locate;
pub use split::{Batches, Piece};
pub use validate::validate;

use tailwater_types::{Kind, LeaderEpoch, Offset, Outcome};

/// Bytes of a batch's header.
pub const HEADER_BYTES: usize = 61;
/// The only magic that is read and written.
pub const MAGIC: i8 = 2;
/// Bytes in front of those that `batchLength` counts.
const LENGTH_END: usize = 12;
/// The CRC covers everything from here.
const CRC_END: usize = 21;

/// Where the fields stand.
mod at {
    pub const BASE_OFFSET: usize = 0;
    pub const LENGTH: usize = 8;
    pub const LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const COUNT: usize = 57;
}

const COMPRESSION_BITS: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
/// The base timestamp is the time from which on tombstones may go (KIP-534).
const DELETE_HORIZON_BIT: i16 = 0x40;

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// The bytes behind this field: 12 less than the whole batch has.
    pub length: i32,
    pub leader_epoch: LeaderEpoch,
    /// CRC32C of everything from the attributes on. Only [`validate`] says that it is right.
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    /// Milliseconds since 1970, as all timestamps.
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    /// -1 without idempotence.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
}

impl BatchHeader {
    /// The base sequence of a batch without one.
    pub const NO_SEQUENCE: i32 = -1;

    /// The header at the front of `bytes`, which may end before the batch does. Checks the magic and that the length is
    /// possible, and nothing else.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::Length`], [`BatchError::Magic`].
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = bytes.first_chunk::<HEADER_BYTES>();
        let bytes = header.ok_or(BatchError::Truncated {
            needed: HEADER_BYTES,
            available: bytes.len(),
        })?;
        let magic = bytes[at::MAGIC].cast_signed();
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let header = Self {
            base_offset: Offset(i64::from_be_bytes(field(bytes, at::BASE_OFFSET))),
            length: i32::from_be_bytes(field(bytes, at::LENGTH)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(bytes, at::LEADER_EPOCH))),
            crc: u32::from_be_bytes(field(bytes, at::CRC)),
            attributes: i16::from_be_bytes(field(bytes, at::ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(field(bytes, at::LAST_OFFSET_DELTA)),
            base_timestamp_ms: i64::from_be_bytes(field(bytes, at::BASE_TIMESTAMP)),
            max_timestamp_ms: i64::from_be_bytes(field(bytes, at::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(bytes, at::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(bytes, at::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(bytes, at::BASE_SEQUENCE)),
            count: i32::from_be_bytes(field(bytes, at::COUNT)),
        };
        size_of_batch(header.length)?;
        Ok(header)
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        size_of_batch(self.length).expect("checked when it was read")
    }

    /// The offset behind the last record's.
    pub fn end_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(i64::from(self.last_offset_delta))
                .saturating_add(1),
        )
    }

    /// # Errors
    /// [`BatchError::Compression`].
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_code(self.attributes & COMPRESSION_BITS)
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// From when on, in milliseconds since 1970, the batch's tombstones or its marker may be cleaned away, if a cleaning has
    /// seen it before (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp_ms)
    }

    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes long")
}

/// Bytes of a batch whose length field says `length`.
fn size_of_batch(length: i32) -> Result<usize, BatchError> {
    match usize::try_from(length) {
        Ok(length) if length >= HEADER_BYTES - LENGTH_END => Ok(length + LENGTH_END),
        _ => Err(BatchError::Length(length)),
    }
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    fn from_code(code: i16) -> Result<Self, BatchError> {
        match code {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            _ => Err(BatchError::Compression(code)),
        }
    }
}

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("{needed} bytes are needed, {available} are there")]
    Truncated { needed: usize, available: usize },
    #[error("{0} bytes behind the batch")]
    Trailing(usize),
    #[error("no batch has the length {0}")]
    Length(i32),
    #[error("magic {0} instead of 2")]
    Magic(i8),
    #[error("the CRC32C is {computed:08x}, the header says {stored:08x}")]
    Crc { stored: u32, computed: u32 },
    #[error("{count} records with a last offset delta of {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    #[error("a control batch from a client")]
    Control,
    #[error("compression {0} is not known")]
    Compression(i16),
    #[error("LogAppendTime is not for clients to set")]
    TimestampType,
    #[error("producer id {producer_id} with epoch {producer_epoch} and sequence {base_sequence}")]
    Producer {
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
    },
}

impl BatchError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Crc { .. } => Kind::Corrupt,
            _ => Kind::Invalid,
        }
    }

    /// A batch is judged before it is appended.
    pub fn outcome(&self) -> Outcome {
        Outcome::DidNotHappen
    }
}
