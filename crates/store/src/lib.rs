//! Object storage: the port, its adapters, the names of objects, and reading them block by block.
//!
//! Owns: what a put or a get promises, retries, keys, the block cache. Does not own: which objects exist (the
//! controller's metadata; nothing here lists a bucket) and what is in them (`format`).

mod adapter;
mod error;
mod faulty;
pub mod keys;
mod open;
mod payload;
mod reader;
mod retry;
mod storage;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use faulty::{Failure, Fault, FaultyStorage};
pub use open::{Location, Services, StorageOptions, is_s3_setting, open};
pub use reader::{ObjectReader, ObjectRef, ReaderOptions};
pub use retry::RetryPolicy;
pub use storage::{ObjectStorage, Operation, Tail};
