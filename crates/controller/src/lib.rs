//! The controller: all metadata, as a pure state machine over a durable store.
//!
//! Owns: nodes and their epochs, topics, streams, journals, objects, tasks; their durability; what every node is told of
//! them. Does not own: record bytes (it never sees any), which it moves only by orders to WAL nodes and leases to
//! compactors.
//!
//! A call goes: port (`service`) → queue → driver → decision on the state (`state`, `plan`, `balance`) → durable batch (`store`) →
//! published to readers and watchers → answered → effects. Nothing is seen before it is durable.

mod balance;
mod config;
mod error;
mod plan;
mod service;
mod state;
pub mod store;

pub use config::Config;
pub use error::Error;
pub use service::{ControllerService, start, start_with};
