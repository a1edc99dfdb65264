//! Why a controller can't start.

use tailwater_format::FormatError;
use tailwater_types::{Kind, Outcome};

use crate::store::StoreError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("controller: {0}")]
    Config(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store has something that this version doesn't write.
    #[error("metadata store: {0}")]
    Format(#[from] FormatError),
    #[error("metadata store: it has records, but none that names a cluster: it is no store of ours, or damaged")]
    NoCluster,
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config(_) => Kind::Invalid,
            Self::Store(error) => error.kind(),
            Self::Format(error) => error.kind(),
            Self::NoCluster => Kind::Corrupt,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Store(error) => error.outcome(),
            Self::Config(_) | Self::Format(_) | Self::NoCluster => Outcome::DidNotHappen,
        }
    }
}
