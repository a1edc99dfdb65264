//! The device port: block storage as the WAL sees it, by absolute position.
//!
//! Owns: the contract, its errors, and its three implementations: a file, memory that can lose power, and a wrapper
//! that fails on order. All pass one conformance suite. Does not own: what is written where (`format`, `wal`).

mod faulty;
mod file;
mod memory;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use tailwater_types::{Kind, Outcome};

pub use self::faulty::{Fault, FaultyDevice, Hold, Operation};
pub use self::file::FileDevice;
pub use self::memory::MemoryDevice;
pub use crate::pool::ALIGNMENT_BYTES;

/// Storage of a fixed size. Calls block; they come from a thread that may.
///
/// - Positions, lengths and buffer addresses are multiples of [`ALIGNMENT_BYTES`] everywhere, whether the
///   implementation needs it or not, so that what works in memory works with O_DIRECT.
/// - A write is visible to reads once it has returned, and durable once a `flush` that began after that has returned.
///   Before, any part of it may survive a power cut, in units of a sector, and in any combination with other writes.
/// - After a failed write or flush the content of what was in flight is unknown, and a later flush that succeeds
///   proves nothing about it: whoever gets such an error stops (design invariant 9).
pub trait Device: Send + Sync + 'static {
    /// Size in bytes, a multiple of [`ALIGNMENT_BYTES`]; never changes.
    fn len(&self) -> u64;

    /// True for no device that could be opened.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` from `position`.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<(), DeviceError>;

    /// Writes all of `bytes` at `position`.
    fn write_at(&self, bytes: &[u8], position: u64) -> Result<(), DeviceError>;

    /// Makes every write that has returned durable.
    fn flush(&self) -> Result<(), DeviceError>;
}

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("{path} is not a regular file")]
    NotRegular { path: PathBuf },
    #[error("{path} does not exist")]
    NotFound { path: PathBuf },
    #[error("{path} exists already")]
    Exists { path: PathBuf },
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("{path} has {found_bytes} bytes, at least {needed_bytes} are needed")]
    TooSmall {
        path: PathBuf,
        found_bytes: u64,
        needed_bytes: u64,
    },
    #[error("no space to allocate {path} with {needed_bytes} bytes")]
    NoSpace { path: PathBuf, needed_bytes: u64 },
    #[error("{operation} of {bytes} bytes at {position} is not aligned to {ALIGNMENT_BYTES}")]
    Misaligned {
        operation: Operation,
        position: u64,
        bytes: usize,
    },
    #[error("{operation} of {bytes} bytes at {position} is beyond the device's end at {end}")]
    OutOfRange {
        operation: Operation,
        position: u64,
        bytes: usize,
        end: u64,
    },
    #[error("{operation} at {position} failed on {device}: {source}")]
    Io {
        operation: Operation,
        device: String,
        position: u64,
        source: io::Error,
    },
}

impl DeviceError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotRegular { .. }
            | Self::Exists { .. }
            | Self::TooSmall { .. }
            | Self::Misaligned { .. }
            | Self::OutOfRange { .. } => Kind::Invalid,
            Self::NotFound { .. } => Kind::NotFound,
            Self::NoSpace { .. } => Kind::Throttled,
            Self::InUse { .. } | Self::Io { .. } => Kind::Unavailable,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Io {
                operation: Operation::Write | Operation::Flush,
                ..
            } => Outcome::Unknown,
            _ => Outcome::DidNotHappen,
        }
    }
}

/// What every implementation checks before it does anything.
fn check(operation: Operation, buffer: &[u8], position: u64, end: u64) -> Result<std::ops::Range<u64>, DeviceError> {
    let bytes = buffer.len();
    let aligned = position.is_multiple_of(ALIGNMENT_BYTES as u64)
        && bytes.is_multiple_of(ALIGNMENT_BYTES)
        && buffer.as_ptr().addr().is_multiple_of(ALIGNMENT_BYTES);
    if !aligned {
        return Err(DeviceError::Misaligned {
            operation,
            position,
            bytes,
        });
    }
    match position.checked_add(bytes as u64) {
        Some(stop) if stop <= end => Ok(position..stop),
        _ => Err(DeviceError::OutOfRange {
            operation,
            position,
            bytes,
            end,
        }),
    }
}
