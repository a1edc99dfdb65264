//! The messages, a table for each API (Apache Kafka 4.3's definitions). How to read one: `message.rs`.
//!
//! Field names are Kafka's, in snake case.

mod api_versions;
mod configs;
mod describe_cluster;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
pub mod groups;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod partitions;
mod produce;
mod reassignments;
mod stored;
mod topics;
pub mod transactions;
mod update_features;

pub use api_versions::*;
pub use configs::*;
pub use describe_cluster::*;
pub use describe_log_dirs::*;
pub use describe_producers::*;
pub use describe_quorum::*;
pub use describe_topic_partitions::*;
pub use elect_leaders::*;
pub use fetch::*;
pub use groups::*;
pub use init_producer_id::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offset_for_leader_epoch::*;
pub use partitions::*;
pub use produce::*;
pub use reassignments::*;
pub use stored::StoredValue;
pub use topics::*;
pub use transactions::*;
pub use update_features::*;

#[cfg(test)]
mod tests;
