//! The Kafka tier: listeners, produce, fetch, groups.
//!
//! The data path: `server` reads a request, `produce` validates its batches, `partition` gives them offsets, `journal` sends
//! them to the WAL and tells the partitions of commits; `fetch` reads back from `cache`, objects and the WAL. `view` is what
//! is known of the cluster, `session` this node's standing in it. Owns nothing durable: everything here is rebuilt from the
//! controller's metadata, journals and objects (docs/design.md section 1).

mod admin;
mod cache;
mod config;
mod coordinator;
mod data;
mod error_codes;
mod fetch;
mod frontend;
mod group;
mod journal;
mod lease;
mod listeners;
mod metadata;
mod metrics;
mod partition;
mod produce;
mod protocol;
mod server;
mod session;
#[cfg(test)]
pub(crate) mod testing;
mod txn;
mod view;

pub use config::{
    CacheConfig, Config, FetchConfig, GroupsConfig, JournalConfig, NodeConfig, ProduceConfig, ServerConfig,
    TopicsConfig, TransactionsConfig,
};
pub use frontend::{Error, Frontend, Peering, start};
pub use listeners::ListenerConfig;
pub use session::EXIT_FENCED;
