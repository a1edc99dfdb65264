//! A running WAL node: start, the port's calls, the writer thread, reads, heartbeats, shutdown.

mod append;
mod driver;
mod heartbeat;
mod metrics;
mod port;
mod read;
mod shared;
mod start;
#[cfg(test)]
mod tests;

pub use port::WalService;
pub use start::{start, start_on};
