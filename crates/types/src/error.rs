//! What every error of every crate answers: its kind and its outcome (design section 5, style rule 14).

/// What sort of failure it is, so that a caller can decide without knowing the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong and stays wrong.
    Invalid,
    NotFound,
    /// An epoch was too old: somebody else owns what the caller thought it owned.
    Fenced,
    /// A bound is reached: later, slower, or less at once.
    Throttled,
    /// The other side can't answer now.
    Unavailable,
    /// Stored bytes are not what was written.
    Corrupt,
    /// This process is stopping.
    Shutdown,
    Internal,
}

/// Whether a failed write may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    DidNotHappen,
    /// May have happened: repeat it only with the same identity, so that the receiver recognises it.
    Unknown,
}
