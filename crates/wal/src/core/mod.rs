//! The pure heart: journals, the queue of what shall be written, credits and ring space. No I/O, no waiting.
//!
//! A driver takes groups out of it ([`Core::take_group`]), writes and flushes them, and says so
//! ([`Core::complete`]); the port's calls put things in. Whoever holds the core holds all state of the node.

mod admission;
mod completion;
mod space;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use space::Space;
pub(crate) use state::{Attached, Core, FoundSlice, Limits, Queued, Work};

/// Numbers what is queued: everything up to a ticket is durable before anything behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

impl Ticket {
    /// Durable from the beginning.
    pub(crate) const NONE: Self = Self(0);
}
