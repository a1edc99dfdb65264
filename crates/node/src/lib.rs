//! The process: command line, configuration, logs, HTTP port, and the order in which tiers start and stop.
//!
//! Owns: reading files, environment and flags (no other crate does), the data directory's lock, exit codes. Does not
//! own: what any tier does, or the meaning of its settings.

mod allocator;
mod cli;
mod config;
mod http;
mod layers;
mod logging;
mod process;
mod role;
mod run;
mod standalone;
mod tiers;

pub use cli::main;
pub use config::Config;
