//! The messages, a table for each API (Apache Kafka 4.3's definitions). How to read one: `message.rs`.
//!
//! Field names are Kafka's, in snake case.

mod api_versions;
mod configs;
mod fetch;
pub mod groups;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod partitions;
mod produce;
mod topics;

pub use api_versions::*;
pub use configs::*;
pub use fetch::*;
pub use groups::*;
pub use init_producer_id::*;
pub use list_offsets::*;
pub use metadata::*;
pub use partitions::*;
pub use produce::*;
pub use topics::*;

#[cfg(test)]
mod tests;
