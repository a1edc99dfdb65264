//! The tail cache: each partition's newest batches, in memory, within one bound for the whole node.
//!
//! Owns: what is kept and what goes first, the oldest of all partitions. Does not own: what is committed; whoever reads
//! clips at the high watermark. Invariant: the charges of everything kept are at most the budget, and a charge covers
//! the memory that the batch keeps alive, not only its own bytes.
//! A partition's tail is locked inside the cache's lock, never the other way round.

mod tail;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tailwater_types::Offset;

use crate::metrics::CacheMetrics;
use tail::Tail;

/// Below this a batch is copied whenever it isn't nearly alone in its buffer: what it costs is the allocation.
const ALWAYS_COPY_BYTES: usize = 256;
/// What a cached batch costs beside its bytes: its places in the two queues, and its share of the buffer's header.
const ENTRY_BYTES: usize = 96;
/// A shorter queue of places isn't worth sweeping.
const MIN_SWEEP: usize = 1024;

/// The node's tail cache; clones share it.
#[derive(Clone)]
pub struct TailCache {
    inner: Arc<Inner>,
}

struct Inner {
    budget_bytes: usize,
    state: Mutex<State>,
    metrics: CacheMetrics,
}

#[derive(Default)]
struct State {
    used_bytes: usize,
    /// Oldest first. Places outlive their batches where a partition forgets everything, until they are swept.
    queue: VecDeque<Place>,
    /// The queue's length at which it is swept next.
    sweep_at: usize,
}

struct Place {
    owner: Weak<Mutex<Tail>>,
    base: Offset,
}

/// One partition's share of the cache. Dropping it gives everything back.
pub struct CachedTail {
    cache: TailCache,
    tail: Arc<Mutex<Tail>>,
}

impl TailCache {
    pub fn new(budget_bytes: usize, metrics: CacheMetrics) -> Self {
        let inner = Inner {
            budget_bytes,
            state: Mutex::default(),
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// An empty share for one partition.
    pub fn tail(&self) -> CachedTail {
        CachedTail {
            cache: self.clone(),
            tail: Arc::default(),
        }
    }

    #[cfg(test)]
    pub fn used_bytes(&self) -> usize {
        self.inner.state.lock().used_bytes
    }

    fn charge(&self, owner: &Arc<Mutex<Tail>>, base: Offset, charge: usize) {
        let mut evicted = Vec::new();
        let mut state = self.inner.state.lock();
        state.used_bytes += charge;
        state.queue.push_back(Place {
            owner: Arc::downgrade(owner),
            base,
        });
        while state.used_bytes > self.inner.budget_bytes
            && let Some(oldest) = state.queue.pop_front()
        {
            if let Some(owner) = oldest.owner.upgrade() {
                let freed = owner.lock().evict(oldest.base, &mut evicted);
                state.used_bytes -= freed;
            }
        }
        state.sweep();
        self.inner.metrics.bytes.set(state.used_bytes as i64);
        drop(state);
        // Freeing memory takes time: not under the lock.
        drop(evicted);
    }

    fn give_back(&self, bytes: usize) {
        let mut state = self.inner.state.lock();
        state.used_bytes -= bytes;
        self.inner.metrics.bytes.set(state.used_bytes as i64);
    }
}

impl State {
    /// Keeps the queue at most about twice as long as there are batches.
    fn sweep(&mut self) {
        if self.queue.len() < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.queue.retain(|place| {
            let owner = place.owner.upgrade();
            owner.is_some_and(|owner| owner.lock().reaches(place.base))
        });
        self.sweep_at = 2 * self.queue.len();
    }
}

impl CachedTail {
    /// Keeps a batch that begins where the last one ended. `backing_bytes` is what the batch's memory has in all, of which
    /// this batch is charged its share of `shared_bytes`, the batches that lie in it.
    pub fn push(&self, base: Offset, batch: &Bytes, backing_bytes: usize, shared_bytes: usize) {
        let length = batch.len();
        if length > self.cache.inner.budget_bytes {
            // It would push out everything and then itself.
            return self.restart();
        }
        let share = (backing_bytes as u64 * length as u64 / shared_bytes.max(1) as u64) as usize;
        let copies = share > 2 * length || (length <= ALWAYS_COPY_BYTES && share > length + 64);
        let (kept, charge) = if copies {
            self.cache.inner.metrics.copied_bytes.inc_by(length as u64);
            (Bytes::copy_from_slice(batch), length)
        } else {
            (batch.clone(), share.max(length))
        };
        let charge = charge + ENTRY_BYTES;
        self.tail.lock().push(base, kept, charge);
        self.cache.charge(&self.tail, base, charge);
    }

    /// Whole batches from the one that holds `offset`, none at or above `end`, up to `max_bytes` but for the first one.
    /// `None` if the batch isn't here.
    pub fn read(&self, offset: Offset, end: Offset, max_bytes: usize) -> Option<Vec<Bytes>> {
        let found = self.tail.lock().read(offset, end, max_bytes);
        let metrics = &self.cache.inner.metrics;
        match found {
            Some(_) => metrics.hits.inc(),
            None => metrics.misses.inc(),
        }
        found
    }

    /// Whether the batch that holds `offset` is here.
    pub fn has(&self, offset: Offset) -> bool {
        self.tail.lock().reaches(offset)
    }

    /// Forgets everything: what is pushed next need not follow.
    pub fn restart(&self) {
        let (freed, batches) = self.tail.lock().clear();
        self.cache.give_back(freed);
        drop(batches);
    }
}

impl Drop for CachedTail {
    fn drop(&mut self) {
        self.restart();
    }
}

#[cfg(test)]
mod tests;
