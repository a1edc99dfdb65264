//! Why a WAL node doesn't start.

use std::path::PathBuf;

use tailwater_format::FormatError;
use tailwater_runtime::DeviceError;
use tailwater_types::{ClusterId, DeviceEpoch, Kind, NodeId, Outcome};

/// Says what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{device} is not empty and not a Tailwater device; it is left as it is")]
    NotOurs { device: String },
    #[error("{device}: {source}")]
    Superblock { device: String, source: FormatError },
    #[error("{device} belongs to node {found}, this is node {expected}")]
    OtherNode {
        device: String,
        found: NodeId,
        expected: NodeId,
    },
    #[error("{device} belongs to cluster {found}, this is cluster {expected}")]
    OtherCluster {
        device: String,
        found: ClusterId,
        expected: ClusterId,
    },
    #[error("{device} was formatted with {needed_bytes} bytes and has {found_bytes} now")]
    TooSmall {
        device: String,
        found_bytes: u64,
        needed_bytes: u64,
    },
    #[error("{device} was started under epoch {found} before, the controller grants {granted:?}")]
    DeviceEpoch {
        device: String,
        found: DeviceEpoch,
        granted: Option<DeviceEpoch>,
    },
    /// Acknowledged data may be lost: the node must not go on with what is left.
    #[error("{device} is damaged at byte {byte} (log position {position}): {detail}")]
    Damaged {
        device: String,
        position: u64,
        byte: u64,
        detail: String,
    },
    #[error("the controller refuses the device: {0}")]
    Controller(#[from] tailwater_rpc::Error),
    #[error("the device's thread can't be started: {0}")]
    Thread(std::io::Error),
    #[error("shutting down")]
    Shutdown,
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config(_)
            | Self::NotOurs { .. }
            | Self::OtherNode { .. }
            | Self::OtherCluster { .. }
            | Self::TooSmall { .. } => Kind::Invalid,
            Self::DeviceEpoch { .. } => Kind::Fenced,
            Self::Device(error) => error.kind(),
            Self::Superblock { source, .. } => source.kind(),
            Self::Damaged { .. } => Kind::Corrupt,
            Self::Controller(error) => error.kind(),
            Self::File { .. } | Self::Thread(_) => Kind::Unavailable,
            Self::Shutdown => Kind::Shutdown,
        }
    }

    /// A failed start has served nobody.
    pub fn outcome(&self) -> Outcome {
        Outcome::DidNotHappen
    }
}
