//! Reading objects: the index once, then whole blocks, one ahead, through one cache bounded in bytes.
//!
//! Owns: the cache, what is in flight, and the check of every byte that is read. Does not own: which object has an
//! offset (metadata), and finding a batch within a block (the frontend).

mod cache;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use tailwater_format::FormatError;
use tailwater_format::object::{self, DataBlock, Index, IndexRow};
use tailwater_runtime::telemetry::{IntCounter, IntCounterVec};
use tailwater_runtime::{BytePermit, ByteSemaphore, Policy};
use tailwater_types::{ObjectId, Offset, StreamId};

use self::cache::{Cache, CacheKey, Cached, Loaded};
use crate::error::StoreError;
use crate::open::Services;
use crate::storage::ObjectStorage;

/// An object as metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    pub id: ObjectId,
    pub key: String,
    pub size_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderOptions {
    /// Blocks and indexes that are kept. What a reader still holds of an evicted block is the reader's.
    pub cache_bytes: u64,
    /// Blocks and indexes that are on their way. A block larger than this comes alone.
    pub in_flight_bytes: u64,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            in_flight_bytes: 32 << 20,
        }
    }
}

/// Reads blocks of objects; clones share the cache.
#[derive(Clone)]
pub struct ObjectReader {
    shared: Arc<Shared>,
}

struct Shared {
    storage: Arc<dyn ObjectStorage>,
    services: Services,
    cache: Cache,
    in_flight: ByteSemaphore,
    lookups: IntCounterVec,
    read_aheads: IntCounter,
}

impl ObjectReader {
    pub fn new(storage: Arc<dyn ObjectStorage>, options: ReaderOptions, services: &Services) -> Self {
        let metrics = &services.metrics;
        let shared = Shared {
            storage,
            cache: Cache::new(options.cache_bytes, metrics),
            in_flight: ByteSemaphore::new("object_reads", options.in_flight_bytes, metrics),
            lookups: metrics.counter_vec(
                "tailwater_object_cache_lookups_total",
                "Lookups in the cache of blocks and indexes; joined: somebody else was reading it already",
                &["what", "result"],
            ),
            read_aheads: metrics.counter(
                "tailwater_object_read_aheads_total",
                "Blocks read before they were asked for",
            ),
            services: services.clone(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The block that has `offset` of `stream`, or the first behind it; `None` if the object ends before it. The
    /// block after that is fetched in the background, if there is room.
    ///
    /// # Errors
    /// What the store says; `NotFound` means to look again with newer metadata. [`StoreError::Corrupt`] for bytes that
    /// aren't what was written: they are never skipped, and not cached.
    pub async fn block(
        &self,
        object: &ObjectRef,
        stream: StreamId,
        offset: Offset,
    ) -> Result<Option<Arc<DataBlock>>, StoreError> {
        let index = self.index(object).await?;
        let rows = index.from(stream, offset);
        let Some(&row) = rows.first() else { return Ok(None) };
        if let Some(&next) = rows.get(1) {
            self.read_ahead(object, next);
        }
        let key = CacheKey::block(object.id, row.position);
        let load = || load_block(self.shared.clone(), object.clone(), row, None).boxed();
        match self.look_up("block", key, load).await? {
            Cached::Block(block) => Ok(Some(block)),
            Cached::Index(_) => unreachable!("indexes have keys of their own"),
        }
    }

    /// The object's index.
    ///
    /// # Errors
    /// As [`ObjectReader::block`].
    pub async fn index(&self, object: &ObjectRef) -> Result<Arc<Index>, StoreError> {
        let load = || load_index(self.shared.clone(), object.clone()).boxed();
        match self.look_up("index", CacheKey::index(object.id), load).await? {
            Cached::Index(index) => Ok(index),
            Cached::Block(_) => unreachable!("blocks have keys of their own"),
        }
    }

    /// Bytes whose place and sum are known from metadata, such as a snapshot. Not cached.
    ///
    /// # Errors
    /// As [`ObjectReader::block`].
    pub async fn checked_range(&self, key: &str, range: Range<u64>, crc: u32) -> Result<Bytes, StoreError> {
        let _permit = self.shared.in_flight.acquire(range.end - range.start).await;
        let bytes = self.shared.storage.get_range(key, range.clone()).await?;
        let computed = crc32c::crc32c(&bytes);
        if computed == crc {
            return Ok(bytes);
        }
        let source = FormatError::Checksum {
            what: "range",
            stored: crc,
            computed,
        };
        Err(StoreError::Corrupt {
            key: key.to_owned(),
            position: range.start,
            source,
        })
    }

    async fn look_up(&self, what: &str, key: CacheKey, load: impl FnOnce() -> BoxFuture<'static, Loaded>) -> Loaded {
        let lookup = self.shared.cache.look_up(key, load);
        self.shared.lookups.with_label_values(&[what, lookup.result()]).inc();
        lookup.finish().await
    }

    /// Fetches a block in the background: only into room that nobody waits for, and only if it isn't here or coming.
    fn read_ahead(&self, object: &ObjectRef, row: IndexRow) {
        let key = CacheKey::block(object.id, row.position);
        if self.shared.cache.has(key) {
            return;
        }
        let Some(permit) = self.shared.in_flight.try_acquire(u64::from(row.size_bytes)) else {
            return;
        };
        self.shared.read_aheads.inc();
        let (shared, object) = (self.shared.clone(), object.clone());
        self.shared
            .services
            .tasks
            .spawn("object-read-ahead", Policy::LOGGED_ABORT, async move {
                let load = || load_block(shared.clone(), object, row, Some(permit)).boxed();
                // An error is met again, and handled, by whoever really wants the block.
                drop(shared.cache.look_up(key, load).finish().await);
            });
    }
}

/// Reads one block and checks it. `permit`: the room for it, if the caller has taken it already.
async fn load_block(shared: Arc<Shared>, object: ObjectRef, row: IndexRow, permit: Option<BytePermit>) -> Loaded {
    let size = u64::from(row.size_bytes);
    let _permit = match permit {
        Some(permit) => permit,
        None => shared.in_flight.acquire(size).await,
    };
    let bytes = shared
        .storage
        .get_range(&object.key, row.position..row.position + size)
        .await?;
    let block = DataBlock::decode(&bytes, &row);
    let block = block.map_err(|source| StoreError::Corrupt {
        key: object.key,
        position: row.position,
        source,
    })?;
    Ok(Cached::Block(Arc::new(block)))
}

/// Reads the object's end and, if it was longer than expected, once more.
async fn load_index(shared: Arc<Shared>, object: ObjectRef) -> Loaded {
    let mut wanted = object::tail_bytes(object.size_bytes);
    for _ in 0..2 {
        let _permit = shared.in_flight.acquire(wanted).await;
        let tail = shared.storage.get_tail(&object.key, wanted).await?;
        let corrupt = |source| {
            let position = tail.object_bytes - tail.bytes.len() as u64;
            StoreError::Corrupt {
                key: object.key.clone(),
                position,
                source,
            }
        };
        if tail.object_bytes != object.size_bytes {
            let detail = format!("{} bytes where metadata has {}", tail.object_bytes, object.size_bytes);
            return Err(corrupt(FormatError::Invalid { what: "object", detail }));
        }
        match object::decode_tail(&tail.bytes, object.size_bytes).map_err(corrupt)? {
            object::Tail::Index(index) => return Ok(Cached::Index(Arc::new(index))),
            object::Tail::NeedsBytes(needed) => wanted = needed,
        }
    }
    let detail = format!("still incomplete in {wanted} bytes, which were to be enough");
    let source = FormatError::Invalid {
        what: "object index",
        detail,
    };
    Err(StoreError::Corrupt {
        key: object.key,
        position: object.size_bytes - wanted.min(object.size_bytes),
        source,
    })
}
