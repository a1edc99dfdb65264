//! A store that fails on demand, over one that doesn't.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tailwater_types::{Kind, Outcome};

use super::{MetadataStore, Pair, StoreError, Write};

/// How the next call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A commit is refused, cleanly, for want of room.
    Full,
    /// A commit ends for want of room, before or after it was written; nobody knows which until the next load. What was
    /// written is only cached: loads find it, and a later store over the same inner one, as after a power failure, doesn't.
    Lost { written: bool },
    /// As `Lost`, but for another reason than want of room: the last thing that this store does.
    Broken { written: bool },
    /// A load fails.
    Load,
    /// A load fails, finally.
    BrokenLoad,
}

impl Fault {
    fn is_of_load(self) -> bool {
        matches!(self, Self::Load | Self::BrokenLoad)
    }
}

/// What is to fail; clones are one list.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    next: Arc<Mutex<VecDeque<Fault>>>,
}

impl Faults {
    /// Adds a fault behind those that wait.
    pub fn add(&self, fault: Fault) {
        self.next.lock().push_back(fault);
    }

    fn take(&self, wanted: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut next = self.next.lock();
        let fault = next.front().copied().filter(|fault| wanted(*fault))?;
        next.pop_front();
        Some(fault)
    }
}

/// A store that carries out [`Faults`].
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    faults: Faults,
    /// After an unknown outcome, until it is loaded.
    lost: bool,
    /// Written, but not on the disk.
    cached: Vec<Write>,
}

impl<S: MetadataStore> FaultyStore<S> {
    pub fn new(inner: S, faults: Faults) -> Self {
        Self {
            inner,
            faults,
            lost: false,
            cached: Vec::new(),
        }
    }
}

#[async_trait]
impl<S: MetadataStore> MetadataStore for FaultyStore<S> {
    async fn load(&mut self) -> Result<Vec<Pair>, StoreError> {
        match self.faults.take(Fault::is_of_load) {
            Some(Fault::BrokenLoad) => return Err(failed(Kind::Unavailable, Outcome::Unknown)),
            Some(_) => return Err(failed(Kind::Unavailable, Outcome::DidNotHappen)),
            None => self.lost = false,
        }
        let mut pairs: BTreeMap<_, _> = self.inner.load().await?.into_iter().collect();
        for (key, value) in self.cached.iter().cloned() {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(pairs.into_iter().collect())
    }

    async fn commit(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        if self.lost {
            return Err(failed(Kind::Unavailable, Outcome::DidNotHappen));
        }
        let (kind, written) = match self.faults.take(|fault| !fault.is_of_load()) {
            None | Some(Fault::Load | Fault::BrokenLoad) => {
                // Newer values take the place of cached ones.
                self.cached.retain(|(key, _)| batch.iter().all(|(new, _)| new != key));
                return self.inner.commit(batch).await;
            }
            Some(Fault::Full) => return Err(failed(Kind::Throttled, Outcome::DidNotHappen)),
            Some(Fault::Lost { written }) => (Kind::Throttled, written),
            Some(Fault::Broken { written }) => (Kind::Unavailable, written),
        };
        self.lost = true;
        if written {
            self.cached.extend(batch);
        }
        Err(failed(kind, Outcome::Unknown))
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }
}

fn failed(kind: Kind, outcome: Outcome) -> StoreError {
    StoreError {
        kind,
        outcome,
        detail: "as a test asked for".to_owned(),
    }
}
