//! Where metadata is kept: one small port, with an embedded, a memory and a fault-injecting implementation.
//!
//! Owns: durability of atomic batches of opaque keys and values. Does not own: what they mean (`format::metadata`), or
//! how much one batch may hold (the state machine).

mod ballast;
mod faulty;
mod memory;
mod sled;

#[cfg(test)]
mod conformance;

use async_trait::async_trait;
use tailwater_types::{Kind, Outcome};

pub use faulty::{Fault, Faults, FaultyStore};
pub use memory::MemoryStore;
pub use sled::{SledOptions, SledStore};

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A key, and its new value or `None` to remove it.
pub type Write = (Vec<u8>, Option<Vec<u8>>);

/// A store of keys and values that has one user at a time, which knows all that is in it.
#[async_trait]
pub trait MetadataStore: Send {
    /// All keys with their values, in ascending order of keys: every batch that was answered, and no part of any other, but
    /// possibly the whole of one whose outcome was unknown.
    ///
    /// It is called first, and again after an error of unknown outcome that isn't final: a store may have to be opened anew
    /// before it goes on. Until then [`MetadataStore::commit`] refuses. What is found of such a batch counts as durable only
    /// once it was committed again.
    async fn load(&mut self) -> Result<Vec<Pair>, StoreError>;

    /// Makes a batch durable, all of it or nothing. Not cancellation-safe.
    ///
    /// # Errors
    /// Whether it happened is in [`StoreError::outcome`]; if that is unknown, [`MetadataStore::load`] tells, unless it
    /// [is final](StoreError::is_final).
    async fn commit(&mut self, batch: Vec<Write>) -> Result<(), StoreError>;

    /// Ends the use: another may open it. What was answered needs no closing.
    async fn close(&mut self);
}

/// A failed or refused use of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata store: {detail}")]
pub struct StoreError {
    /// `Throttled`: there is no room; `Unavailable`; `Corrupt`; `Invalid` for what is no store of ours.
    pub kind: Kind,
    pub outcome: Outcome,
    pub detail: String,
}

impl StoreError {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the store must not be used again by this process: a write or sync failed for another reason than want of
    /// room. The pages may count as clean since, so that a repeat succeeds and a read finds what the disk never got.
    pub fn is_final(&self) -> bool {
        self.outcome == Outcome::Unknown && self.kind != Kind::Throttled
    }
}
