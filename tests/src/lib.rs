//! What the integration tests and the bench share: a `tailwater` process, clients of several sorts, skipping.
//!
//! Owns: starting, killing and watching processes from outside. Does not own: any knowledge of a tier's inside; what is
//! asked of the server goes through its Kafka port, its HTTP port, its log and its exit code.

mod cluster;
mod connection;
mod environment;
mod group;
mod http;
mod load;
mod process;
mod reference;
mod server;
mod tmpfs;
mod transaction;

pub use cluster::{Cluster, ClusterOptions};
pub use connection::{Connection, batch};
pub use environment::{Seed, is_long, prepare_clients, python, python_with, repository, skip, wait_until};
pub use group::{GroupMember, GroupProtocol, SharedTopic, join_as_one, settle_group};
pub use http::{Metrics, get};
pub use load::{Load, Verified, run_client_script, run_with_restart, verify};
pub use process::{Log, Process};
pub use reference::Reference;
pub use server::{Server, free_port};
pub use tmpfs::Tmpfs;
pub use transaction::{Leaders, Stable, Transaction, committed_offset, read_stable};
