//! The state of one partition's log, pure: what its batches, one behind the other, add up to.
//!
//! Owns: the rules of idempotent and transactional producers (KIP-98, KIP-360, KIP-890), open and aborted transactions,
//! the start of each leader epoch, the restoring of all of these from a snapshot and the batches behind it. Does not own: the bytes of a snapshot (`format::snapshot`), batches and their
//! validation (`kafka::batch`), offsets in flight and who is answered when (`frontend`), any I/O or clock.
//!
//! The leader and the compactor run the same state over the same batches. That keeps the promise of docs/design.md
//! section 3: each upload brings a snapshot that is exact at the uploaded end, so a new leader reads only what is behind.

mod error;
mod producers;
mod scanner;
mod state;
mod transactions;
mod verification;

pub use error::LogError;
pub use producers::{Decision, MAX_PRODUCERS, Refusal, TransactionMarker};
pub use scanner::{Pass, Scanner};
pub use state::{PartitionState, Replayed, StoredBatch};
pub use transactions::{EndedTransaction, MAX_ABORTED_TRANSACTIONS, MAX_OPEN_TRANSACTIONS, UncommittedEnds};
pub use verification::{Guard, Verification, Verifications};

#[cfg(test)]
mod testing;
