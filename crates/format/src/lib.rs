//! Bytes and structs of everything that is stored: one file a format, each with golden bytes in its tests.
//!
//! All integers are big-endian, every structure is versioned, every decoder is bounded by its input
//! (docs/design.md section 6). Nothing here does I/O.

pub use tailwater_types::crc;
pub mod device;
pub mod entry;
mod error;
pub mod metadata;
pub mod object;
pub mod snapshot;

pub use error::FormatError;
