//! The primitives of the protocol: how each type stands on the wire in a version, decoded within the input's bounds.
//!
//! Source: the protocol guide's "protocol primitive types", KIP-482 for flexible versions.

mod reader;
mod types;
mod writer;

pub use reader::Reader;
pub(crate) use types::Nullable;
pub use writer::Writer;
pub(crate) use writer::{LENGTH_BYTES, LengthPrefix};

use crate::CodecError;

/// The version a message is read or written in. Flexible versions have compact lengths and tagged fields (KIP-482).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub number: i16,
    pub flexible: bool,
}

/// A type of the wire.
pub trait Wire: Sized {
    /// The bytes of the smallest value: what an array's count is held against before anything is allocated.
    fn min_bytes(version: Version) -> usize;

    /// Takes one value from the front of `reader`.
    ///
    /// # Errors
    /// Any [`CodecError`]; the reader's position is then of no use.
    fn read(reader: &mut Reader, version: Version) -> Result<Self, CodecError>;

    /// Appends the value to `writer`.
    ///
    /// # Errors
    /// What the version can't express; the writer's content is then of no use.
    fn write(&self, writer: &mut Writer, version: Version) -> Result<(), CodecError>;

    /// Whether this is the null of a nullable type.
    fn is_null(&self) -> bool {
        false
    }
}
