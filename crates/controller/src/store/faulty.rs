//! A store that fails on demand, over one that doesn't.

use std::collections::VecDeque;
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
    /// A commit fails before or after it has happened; nobody knows which until the next load.
    Lost { happened: bool },
    /// A load fails.
    Load,
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
}

impl<S: MetadataStore> FaultyStore<S> {
    pub fn new(inner: S, faults: Faults) -> Self {
        Self {
            inner,
            faults,
            lost: false,
        }
    }
}

#[async_trait]
impl<S: MetadataStore> MetadataStore for FaultyStore<S> {
    async fn load(&mut self) -> Result<Vec<Pair>, StoreError> {
        if self.faults.take(|fault| fault == Fault::Load).is_some() {
            return Err(failed(Kind::Unavailable, Outcome::DidNotHappen));
        }
        let pairs = self.inner.load().await?;
        self.lost = false;
        Ok(pairs)
    }

    async fn commit(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        if self.lost {
            return Err(failed(Kind::Unavailable, Outcome::DidNotHappen));
        }
        match self.faults.take(|fault| fault != Fault::Load) {
            Some(Fault::Full) => Err(failed(Kind::Throttled, Outcome::DidNotHappen)),
            Some(Fault::Lost { happened }) => {
                self.lost = true;
                if happened {
                    self.inner.commit(batch).await?;
                }
                Err(failed(Kind::Unavailable, Outcome::Unknown))
            }
            Some(Fault::Load) | None => self.inner.commit(batch).await,
        }
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
