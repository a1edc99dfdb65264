//! A cache bounded in bytes, least recently used out first, in which each thing is loaded by one reader at a time.
//!
//! Keeps: a failed load leaves nothing behind, and a load that nobody waits for any more is dropped.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use parking_lot::Mutex;
use tailwater_format::object::{DataBlock, Index};
use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{IntCounter, IntGauge};
use tailwater_types::ObjectId;

use crate::error::StoreError;

/// What an entry takes beside its bytes: keys, counters, headers. A generous guess.
const ENTRY_BYTES: u64 = 256;

/// Ids of objects are never used again, so neither are these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CacheKey {
    object: ObjectId,
    /// `None`: the index.
    block_position: Option<u64>,
}

impl CacheKey {
    pub(super) fn index(object: ObjectId) -> Self {
        Self {
            object,
            block_position: None,
        }
    }

    pub(super) fn block(object: ObjectId, position: u64) -> Self {
        Self {
            object,
            block_position: Some(position),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Cached {
    Index(Arc<Index>),
    Block(Arc<DataBlock>),
}

impl Cached {
    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Index(index) => index.memory_bytes(),
            Self::Block(block) => block.body.len(),
        };
        bytes as u64 + ENTRY_BYTES
    }
}

pub(super) type Loaded = Result<Cached, StoreError>;
type Load = BoxFuture<'static, Loaded>;

pub(super) struct Cache {
    shared: Arc<CacheShared>,
}

struct CacheShared {
    state: Mutex<State>,
    bytes: IntGauge,
    evictions: IntCounter,
}

struct State {
    kept: Lru,
    flights: HashMap<CacheKey, Flight>,
    next_flight: u64,
}

/// A load under way. Those who wait for it own it; here is only how to join them.
struct Flight {
    number: u64,
    load: WeakShared<Load>,
}

/// What a look-up found.
pub(super) enum Lookup {
    Hit(Cached),
    /// Somebody else is loading it.
    Joined(Shared<Load>),
    Missed(Shared<Load>),
}

impl Lookup {
    /// The value of the label `result` in metrics.
    pub(super) fn result(&self) -> &'static str {
        match self {
            Self::Hit(_) => "hit",
            Self::Joined(_) => "joined",
            Self::Missed(_) => "miss",
        }
    }

    pub(super) async fn finish(self) -> Loaded {
        match self {
            Self::Hit(cached) => Ok(cached),
            Self::Joined(load) | Self::Missed(load) => load.await,
        }
    }
}

impl Cache {
    pub(super) fn new(max_bytes: u64, metrics: &Metrics) -> Self {
        let state = State {
            kept: Lru::new(max_bytes),
            flights: HashMap::new(),
            next_flight: 0,
        };
        let shared = CacheShared {
            state: Mutex::new(state),
            bytes: metrics.gauge(
                "tailwater_object_cache_bytes",
                "Blocks and indexes of objects in the cache",
            ),
            evictions: metrics.counter(
                "tailwater_object_cache_evictions_total",
                "Blocks and indexes dropped for others",
            ),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Finds `key`, joins whoever loads it, or begins to load it. Nothing is loaded until the result is awaited.
    pub(super) fn look_up(&self, key: CacheKey, load: impl FnOnce() -> Load) -> Lookup {
        let mut state = self.shared.state.lock();
        if let Some(cached) = state.kept.get(key) {
            return Lookup::Hit(cached);
        }
        if let Some(load) = state.flights.get(&key).and_then(|flight| flight.load.upgrade()) {
            return Lookup::Joined(load);
        }
        let number = state.next_flight;
        state.next_flight += 1;
        let landing = Landing {
            shared: self.shared.clone(),
            key,
            number,
        };
        let load = load();
        let load = async move {
            let loaded = load.await;
            landing.keep(&loaded);
            loaded
        };
        let load = load.boxed().shared();
        let weak = load.downgrade().expect("it has not been polled, so it has not ended");
        state.flights.insert(key, Flight { number, load: weak });
        Lookup::Missed(load)
    }

    /// Whether it is here or somebody is loading it.
    pub(super) fn has(&self, key: CacheKey) -> bool {
        let state = self.shared.state.lock();
        state.kept.entries.contains_key(&key) || state.flights.contains_key(&key)
    }
}

/// Ends a flight, when its load ends or is dropped.
struct Landing {
    shared: Arc<CacheShared>,
    key: CacheKey,
    number: u64,
}

impl Landing {
    fn keep(&self, loaded: &Loaded) {
        let Ok(cached) = loaded else { return };
        let mut state = self.shared.state.lock();
        let evicted = state.kept.insert(self.key, cached.clone());
        self.shared
            .bytes
            .set(i64::try_from(state.kept.bytes).unwrap_or(i64::MAX));
        drop(state);
        // Freed outside the lock.
        self.shared.evictions.inc_by(evicted.len() as u64);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        // A dropped load may have a successor already.
        if state
            .flights
            .get(&self.key)
            .is_some_and(|flight| flight.number == self.number)
        {
            state.flights.remove(&self.key);
        }
    }
}

/// The pure part: what is kept, and what goes when there is no room.
struct Lru {
    max_bytes: u64,
    bytes: u64,
    entries: HashMap<CacheKey, Entry>,
    /// By last use; the first is the next to go.
    order: BTreeMap<u64, CacheKey>,
    uses: u64,
}

struct Entry {
    cached: Cached,
    last_use: u64,
}

impl Lru {
    fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            uses: 0,
        }
    }

    fn get(&mut self, key: CacheKey) -> Option<Cached> {
        let entry = self.entries.get_mut(&key)?;
        self.order.remove(&entry.last_use);
        self.uses += 1;
        entry.last_use = self.uses;
        self.order.insert(self.uses, key);
        Some(entry.cached.clone())
    }

    /// Returns what had to go for it. What is larger than the whole cache isn't kept.
    fn insert(&mut self, key: CacheKey, cached: Cached) -> Vec<Cached> {
        let bytes = cached.bytes();
        if bytes > self.max_bytes || self.entries.contains_key(&key) {
            return Vec::new();
        }
        let mut evicted = Vec::new();
        while self.bytes + bytes > self.max_bytes {
            let (_, oldest) = self.order.pop_first().expect("what takes room has an order");
            let entry = self.entries.remove(&oldest).expect("what has an order is here");
            self.bytes -= entry.cached.bytes();
            evicted.push(entry.cached);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.order.insert(self.uses, key);
        self.entries.insert(
            key,
            Entry {
                cached,
                last_use: self.uses,
            },
        );
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> CacheKey {
        CacheKey::index(ObjectId(id))
    }

    fn cached() -> Cached {
        Cached::Index(Arc::default())
    }

    fn kept(lru: &Lru) -> Vec<u64> {
        let mut ids: Vec<_> = lru.entries.keys().map(|key| key.object.0).collect();
        ids.sort_unstable();
        ids
    }

    /// The least recently used goes first, and the bound in bytes holds.
    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(3 * ENTRY_BYTES);
        for id in 0..3 {
            assert!(lru.insert(key(id), cached()).is_empty());
        }
        assert!(lru.get(key(0)).is_some());
        assert_eq!(lru.insert(key(3), cached()).len(), 1);
        assert_eq!(kept(&lru), [0, 2, 3]);
        assert_eq!((lru.bytes, lru.order.len()), (3 * ENTRY_BYTES, 3));
    }

    /// What is larger than the cache empties it of nothing.
    #[test]
    fn what_doesnt_fit_isnt_kept() {
        let mut lru = Lru::new(ENTRY_BYTES - 1);
        assert!(lru.insert(key(0), cached()).is_empty());
        assert_eq!((kept(&lru), lru.bytes), (vec![], 0));
    }

    /// A load that everybody stopped waiting for leaves nothing, and the next look-up begins anew.
    #[tokio::test]
    async fn an_abandoned_load_leaves_nothing() {
        let cache = Cache::new(1 << 20, &Metrics::new());
        let stuck = cache.look_up(key(1), || futures::future::pending().boxed());
        assert_eq!(stuck.result(), "miss");
        let joined = cache.look_up(key(1), || unreachable!());
        assert_eq!(joined.result(), "joined");
        drop(stuck);
        assert!(cache.has(key(1)), "still awaited");
        drop(joined);
        assert!(!cache.has(key(1)));
        let again = cache.look_up(key(1), || async { Ok(cached()) }.boxed());
        assert_eq!(again.result(), "miss");
        again.finish().await.unwrap();
        assert_eq!(cache.look_up(key(1), || unreachable!()).result(), "hit");
    }
}
