//! Why bytes could not be read.

use tailwater_types::{Kind, Outcome};

/// Bytes that are not what this format writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("{what}: {have} bytes are too few, {need} are needed")]
    Truncated {
        what: &'static str,
        need: usize,
        have: usize,
    },
    #[error("{what}: magic {found:#010x} instead of {expected:#010x}")]
    Magic {
        what: &'static str,
        expected: u32,
        found: u32,
    },
    #[error("{what}: version {found} is not known here (newest: {newest})")]
    Version { what: &'static str, newest: u8, found: u8 },
    #[error("{what}: CRC32C is {computed:#010x} but {stored:#010x} is stored")]
    Checksum {
        what: &'static str,
        stored: u32,
        computed: u32,
    },
    #[error("{what}: {detail}")]
    Invalid { what: &'static str, detail: String },
}

impl FormatError {
    /// What could not be decoded is corrupt, or from a newer version.
    pub fn kind(&self) -> Kind {
        Kind::Corrupt
    }

    /// Decoding changes nothing.
    pub fn outcome(&self) -> Outcome {
        Outcome::DidNotHappen
    }
}
