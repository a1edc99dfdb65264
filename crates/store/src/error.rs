//! Why an object could not be written or read.

use std::ops::Range;

use tailwater_format::FormatError;
use tailwater_types::{Kind, Outcome};

use crate::storage::Operation;

/// Cloned to everybody who waited for the same read, so causes are kept as text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("object store {url}: {reason}")]
    BadLocation { url: String, reason: String },
    #[error("object store setting {name}: {reason}")]
    BadSetting { name: String, reason: String },
    #[error("{operation} {key}: there is no such object")]
    NotFound { operation: Operation, key: String },
    /// The store understood and said no: wrong credentials, a wrong request.
    #[error("{operation} {key}: refused: {reason}")]
    Refused {
        operation: Operation,
        key: String,
        reason: String,
        outcome: Outcome,
    },
    #[error("{operation} {key}: no space left: {reason}")]
    NoSpace {
        operation: Operation,
        key: String,
        reason: String,
    },
    #[error("{operation} {key}: told to slow down: {reason}")]
    Throttled {
        operation: Operation,
        key: String,
        reason: String,
        outcome: Outcome,
    },
    #[error("{operation} {key}: {reason}")]
    Unavailable {
        operation: Operation,
        key: String,
        reason: String,
        outcome: Outcome,
    },
    /// The object is not the size that metadata says it has.
    #[error("{key} is short: {found} bytes where [{}, {}) was asked for", .range.start, .range.end)]
    Short { key: String, range: Range<u64>, found: u64 },
    #[error("{key} is damaged at {position}: {source}")]
    Corrupt {
        key: String,
        position: u64,
        source: FormatError,
    },
}

impl StoreError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::BadLocation { .. } | Self::BadSetting { .. } | Self::Refused { .. } => Kind::Invalid,
            Self::NotFound { .. } => Kind::NotFound,
            Self::NoSpace { .. } | Self::Throttled { .. } => Kind::Throttled,
            Self::Unavailable { .. } => Kind::Unavailable,
            Self::Short { .. } | Self::Corrupt { .. } => Kind::Corrupt,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused { outcome, .. } | Self::Throttled { outcome, .. } | Self::Unavailable { outcome, .. } => {
                *outcome
            }
            // A file may have got its name before its folder found no space for that.
            Self::NoSpace { operation, .. } if operation.writes() => Outcome::Unknown,
            _ => Outcome::DidNotHappen,
        }
    }

    /// Whether the same call may succeed later, without anybody having repaired something in between.
    pub fn is_retriable(&self) -> bool {
        matches!(self.kind(), Kind::Throttled | Kind::Unavailable)
    }

    /// Whether it may succeed within seconds. A full disk won't; holding on to the bytes meanwhile helps nobody.
    pub(crate) fn mends_soon(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unavailable { .. })
    }

    /// The same error after an earlier attempt may have taken effect.
    pub(crate) fn after_unknown(mut self) -> Self {
        if let Self::Refused { outcome, .. } | Self::Throttled { outcome, .. } | Self::Unavailable { outcome, .. } =
            &mut self
        {
            *outcome = Outcome::Unknown;
        }
        self
    }
}
