//! Why a state could not be restored.

use tailwater_format::FormatError;
use tailwater_kafka::batch::{BatchError, MarkerError};
use tailwater_types::{Kind, LeaderEpoch, Offset, Outcome};

/// Stored batches or snapshots that don't add up to a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("nothing was found at offset {end}, but offsets up to {reach} exist")]
    Gap { end: Offset, reach: Offset },
    #[error("batch [{base}, {batch_end}) begins before the log's end {end} and ends behind it")]
    Straddles {
        base: Offset,
        batch_end: Offset,
        end: Offset,
    },
    #[error("batch at offset {base} is of leader epoch {found}, below it epoch {newest} has written")]
    EpochStepsBack {
        base: Offset,
        newest: LeaderEpoch,
        found: LeaderEpoch,
    },
    #[error("batch at offset {base} has no records")]
    Empty { base: Offset },
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Marker(#[from] MarkerError),
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl LogError {
    /// Each was written and summed by a leader: not to be readable means that it was changed since.
    pub fn kind(&self) -> Kind {
        Kind::Corrupt
    }

    /// Nothing here writes.
    pub fn outcome(&self) -> Outcome {
        Outcome::DidNotHappen
    }
}
