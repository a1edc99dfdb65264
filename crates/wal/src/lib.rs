//! The journal tier: device log, group commit, recovery (docs/design.md sections 3 to 6).
//!
//! [`start`] opens a node's device, registers it, recovers what is on it, and serves the port [`tailwater_rpc::wal::Wal`].
//! `core` decides (pure), `journal` knows one journal, `device` lays bytes on the device, `service` is the port, the
//! one writer thread, reads and heartbeats.

mod config;
mod core;
mod device;
mod error;
mod journal;
mod service;
#[cfg(test)]
mod testing;

pub use config::Config;
pub use error::Error;
pub use service::{WalService, start, start_on};
