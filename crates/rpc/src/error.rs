//! Why a call through a port failed: the refusals of docs/design.md section 5, and what can befall any call.

use tailwater_types::{
    ControllerEpoch, DeviceId, JournalId, Kind, Lsn, MetadataVersion, NodeEpoch, NodeId, Outcome, StreamId, TaskId,
};

/// A refused or failed call. The refusals change nothing; [`Error::outcome`] says so for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("node {node} calls under epoch {carried}, but epoch {registered} is registered")]
    NodeEpochStale {
        node: NodeId,
        carried: NodeEpoch,
        registered: NodeEpoch,
    },
    #[error("node {node} calls under epoch {carried}, which was never given out (registered: {registered})")]
    NodeEpochUnknown {
        node: NodeId,
        carried: NodeEpoch,
        registered: NodeEpoch,
    },
    #[error("node {node} is fenced")]
    NodeFenced { node: NodeId },
    #[error("node {node} isn't registered")]
    NodeUnknown { node: NodeId },
    #[error("this controller's term is {term}, the caller has seen {seen}")]
    NotActiveController {
        term: ControllerEpoch,
        seen: ControllerEpoch,
    },

    #[error("device {found} is here, device {expected} was meant")]
    DeviceChanged { expected: DeviceId, found: DeviceId },
    #[error("journal {journal} is sealed, or open under a newer epoch")]
    JournalFenced { journal: JournalId },
    #[error("journal {journal} was not opened under that epoch yet")]
    JournalEpochUnknown { journal: JournalId },
    #[error("stream {stream} has a newer leader")]
    StreamFenced { stream: StreamId },
    #[error("journal {journal} goes on at LSN {expected}, not at {found}")]
    LsnGap {
        journal: JournalId,
        expected: Lsn,
        found: Lsn,
    },
    #[error("a newer sealing epoch has been seen for journal {journal}")]
    ControllerFenced { journal: JournalId },
    #[error("stream {stream}: journals of its previous leader aren't sealed or closed yet")]
    StreamNotClosed { stream: StreamId },

    #[error("task {task} is leased to another holder")]
    LeaseFenced { task: TaskId },
    #[error("object {object} is not prepared, or expired")]
    ObjectExpired { object: tailwater_types::ObjectId },
    /// Somebody has replaced it, or the stream has something else there now.
    #[error("object {object} was replaced")]
    ObjectReplaced { object: tailwater_types::ObjectId },
    #[error("journal {journal}: the commit does not begin at its trim LSN {trim}")]
    OffsetNotMatched { journal: JournalId, trim: Lsn },

    /// The range was trimmed: it is in objects as of this metadata version at the latest.
    #[error("trimmed: look in objects, as of metadata version {version}")]
    Trimmed { version: MetadataVersion },
    /// This member doesn't have the range: ask another, or look again with newer metadata.
    #[error("not here")]
    NotHere,

    #[error("{0}")]
    Invalid(String),
    #[error("{0} was not found")]
    NotFound(String),
    #[error("{0} exists already")]
    AlreadyExists(String),
    #[error("{0}")]
    Throttled(String),
    #[error("{detail}")]
    Unavailable { detail: String, outcome: Outcome },
    #[error("{0}")]
    Corrupt(String),
    #[error("shutting down")]
    Shutdown,
    #[error("{0}")]
    Internal(String),
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NodeEpochStale { .. }
            | Self::NodeFenced { .. }
            | Self::JournalFenced { .. }
            | Self::StreamFenced { .. }
            | Self::ControllerFenced { .. }
            | Self::DeviceChanged { .. }
            | Self::LeaseFenced { .. }
            | Self::ObjectExpired { .. }
            | Self::ObjectReplaced { .. } => Kind::Fenced,
            Self::NodeEpochUnknown { .. }
            | Self::JournalEpochUnknown { .. }
            | Self::LsnGap { .. }
            | Self::OffsetNotMatched { .. }
            | Self::Invalid(_)
            | Self::AlreadyExists(_) => Kind::Invalid,
            Self::NodeUnknown { .. } | Self::Trimmed { .. } | Self::NotHere | Self::NotFound(_) => Kind::NotFound,
            Self::NotActiveController { .. } | Self::StreamNotClosed { .. } | Self::Unavailable { .. } => {
                Kind::Unavailable
            }
            Self::Throttled(_) => Kind::Throttled,
            Self::Corrupt(_) => Kind::Corrupt,
            Self::Shutdown => Kind::Shutdown,
            Self::Internal(_) => Kind::Internal,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unavailable { outcome, .. } => *outcome,
            Self::Shutdown | Self::Internal(_) => Outcome::Unknown,
            _ => Outcome::DidNotHappen,
        }
    }
}
