//! The messages, a table for each API (Apache Kafka 4.3's definitions). How to read one: `message.rs`.
//!
//! Field names are Kafka's, in snake case.

mod api_versions;
mod fetch;
mod metadata;
mod produce;

pub use api_versions::*;
pub use fetch::*;
pub use metadata::*;
pub use produce::*;
