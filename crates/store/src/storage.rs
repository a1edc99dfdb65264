//! The object storage port.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::StoreError;

/// Immutable objects under keys, which are relative paths such as those of [`crate::keys`].
///
/// - When `put` has returned, the object is durable, and every later read by anybody sees all of it. Before, or after
///   an error whose outcome is unknown, a reader sees all of it or nothing.
/// - A key is written once, or again with the same bytes: so a put may be repeated after any error.
/// - Calls retry what may mend, with backoff, up to a deadline, and then fail. What can't mend fails at once.
/// - After an error nothing of the call is left: no memory, no request, no part of an upload that costs space (unless
///   the store was out of reach to the end, which is logged).
/// - Not cancellation-safe: a dropped `put` may leave parts of an upload behind. A dropped read leaves nothing.
#[async_trait]
pub trait ObjectStorage: Send + Sync + 'static {
    /// Writes the chunks behind one another as one object. They are not joined in memory, except for small ones.
    async fn put(&self, key: &str, chunks: Vec<Bytes>) -> Result<(), StoreError>;

    /// Exactly the bytes of a half-open range that isn't empty. [`StoreError::Short`] if the object ends before it.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// The last `bytes` of the object, or all of it if it is no longer than that; at least 1.
    async fn get_tail(&self, key: &str, bytes: u64) -> Result<Tail, StoreError>;

    /// The object's size in bytes.
    async fn head(&self, key: &str) -> Result<u64, StoreError>;

    /// Deletes the object and what an interrupted put of it may have left. An object that isn't there is deleted.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}

/// The end of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    pub bytes: Bytes,
    /// Size of the whole object.
    pub object_bytes: u64,
}

/// What was asked of the store: for errors, metrics and faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Put,
    GetRange,
    GetTail,
    Head,
    Delete,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::GetRange => "get_range",
            Self::GetTail => "get_tail",
            Self::Head => "head",
            Self::Delete => "delete",
        }
    }

    /// Whether a failure may have changed something.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Delete)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
