//! Why a compactor could not start, or a step of a task failed.

use tailwater_format::FormatError;
use tailwater_kafka::batch::BatchError;
use tailwater_log::LogError;
use tailwater_store::StoreError;
use tailwater_types::{JournalId, Kind, Lsn, LsnRange, Offset, Outcome, StreamId};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("compactor setting: {0}")]
    Config(String),
    #[error(transparent)]
    Rpc(#[from] tailwater_rpc::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No WAL node that is reachable holds a device of the journal's ensemble.
    #[error("no WAL node with journal {journal} is registered")]
    NoMember { journal: JournalId },
    #[error("journal {journal}: entry {found} came where {expected} was next")]
    WrongEntry {
        journal: JournalId,
        expected: Lsn,
        found: Lsn,
    },
    #[error("journal {journal}: nothing came of entries {range}")]
    NoEntries { journal: JournalId, range: LsnRange },
    #[error("stream {stream} in entry {lsn}: {source}")]
    Log {
        stream: StreamId,
        lsn: Lsn,
        source: LogError,
    },
    #[error("stream {stream} in entry {lsn}: {detail}")]
    Slice { stream: StreamId, lsn: Lsn, detail: String },
    #[error("stream {stream} at {offset}: {detail}")]
    Clean {
        stream: StreamId,
        offset: Offset,
        detail: String,
    },
    /// One batch has more keys than there is room for.
    #[error("stream {stream} at {offset}: a batch's keys don't fit into compactor.clean_keys_bytes")]
    TooManyKeys { stream: StreamId, offset: Offset },
    #[error("the cleaning of stream {stream} got no further for compactor.clean_stall, {seconds} s")]
    StandsStill { stream: StreamId, seconds: u64 },
    #[error("snapshot of stream {stream} in object {key} at {position}: {detail}")]
    Snapshot {
        stream: StreamId,
        key: String,
        position: u64,
        detail: String,
    },
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config(_) | Self::TooManyKeys { .. } => Kind::Invalid,
            Self::Rpc(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::NoMember { .. } | Self::NoEntries { .. } | Self::StandsStill { .. } => Kind::Unavailable,
            Self::WrongEntry { .. }
            | Self::Log { .. }
            | Self::Slice { .. }
            | Self::Clean { .. }
            | Self::Snapshot { .. } => Kind::Corrupt,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Rpc(error) => error.outcome(),
            Self::Store(error) => error.outcome(),
            _ => Outcome::DidNotHappen,
        }
    }

    /// Whether somebody else has the task now, or it is finished.
    pub(crate) fn is_lease_lost(&self) -> bool {
        matches!(self, Self::Rpc(tailwater_rpc::Error::LeaseFenced { .. }))
    }

    pub(crate) fn stored(stream: StreamId, lsn: Lsn, source: LogError) -> Self {
        Self::Log { stream, lsn, source }
    }

    pub(crate) fn batch(stream: StreamId, lsn: Lsn, error: BatchError) -> Self {
        Self::Log {
            stream,
            lsn,
            source: LogError::Batch(error),
        }
    }

    pub(crate) fn slice(stream: StreamId, lsn: Lsn, stored: u32, computed: u32) -> Self {
        let what = "slice, summed from its batches";
        let detail = FormatError::Checksum { what, stored, computed }.to_string();
        Self::Slice { stream, lsn, detail }
    }
}

/// Whether a call may have been carried out, or may be later: repeated under the same identity.
pub(crate) fn may_repeat(error: &tailwater_rpc::Error) -> bool {
    error.outcome() == Outcome::Unknown || matches!(error.kind(), Kind::Unavailable | Kind::Throttled)
}
