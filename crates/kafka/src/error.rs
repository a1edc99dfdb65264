//! Why bytes could not be decoded, or a message not be encoded.

use tailwater_types::{Kind, Outcome};

/// A failure to decode or encode. A decoder stops at the first one: the connection that sent the bytes is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("{needed} bytes are needed, {remaining} are left")]
    Truncated { needed: usize, remaining: usize },
    #[error("a length or count of {length} where {remaining} bytes are left")]
    Length { length: i64, remaining: usize },
    #[error("a variable-length integer is longer than its type")]
    Varint,
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("null where the version has no null")]
    Null,
    #[error("{0} bytes behind the end")]
    Trailing(usize),
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("{field}: {source}")]
    Field {
        field: &'static str,
        source: Box<CodecError>,
    },
    /// Encoding only: a value that would be lost, in a field that must not be.
    #[error("{field} is set, but version {version} doesn't have it")]
    NotInVersion { field: &'static str, version: i16 },
    /// Encoding only.
    #[error("{0} bytes or elements are more than the length field holds")]
    TooLong(usize),
}

impl CodecError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotInVersion { .. } | Self::TooLong(_) => Kind::Internal,
            _ => Kind::Invalid,
        }
    }

    /// Nothing is sent or done by a message that failed here.
    pub fn outcome(&self) -> Outcome {
        Outcome::DidNotHappen
    }
}
