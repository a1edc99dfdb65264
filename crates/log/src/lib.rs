//! The state of one partition's log, pure: what its batches, one behind the other, add up to.
//!
//! Owns: the rules of idempotent producers (KIP-98, KIP-360), the start of each leader epoch, the restoring of both from
//! a snapshot and the batches behind it. Does not own: the bytes of a snapshot (`format::snapshot`), batches and their
//! validation (`kafka::batch`), offsets in flight and who is answered when (`frontend`), any I/O or clock.
//!
//! The leader and the compactor run the same state over the same batches. That keeps the promise of docs/design.md
//! section 3: each upload brings a snapshot that is exact at the uploaded end, so a new leader reads only what is behind.

mod error;
mod producers;
mod scanner;
mod state;

pub use error::LogError;
pub use producers::{Decision, MAX_PRODUCERS, Refusal};
pub use scanner::{Pass, Scanner};
pub use state::{PartitionState, Replayed};

#[cfg(test)]
mod testing;
