//! The compactor: uploads journals to object storage, compacts by key what is there, and deletes objects that metadata has
//! given up.
//!
//! Owns: nothing durable. Every task is a lease from the controller, and whatever a compactor was doing when it went away
//! is done again by the next holder. Does not own: which journals and objects there are, when space is freed (the
//! controller, by the trim LSN that a commit moves).
//!
//! - `upload` takes a journal's entries from its trim LSN to objects, batch by batch.
//! - `clean` rewrites the objects of compacted topics, so that each key's newest value stays.
//! - `gc` deletes what the controller's deletion tasks name.

mod clean;
mod config;
mod error;
mod gc;
mod lease;
mod put;
mod service;
mod session;
mod upload;

pub use config::Config;
pub use error::Error;
pub use service::{Compactor, start};

#[cfg(test)]
mod testing;
