//! Object storage that fails on order, to test what its user does then.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tailwater_runtime::CancellationToken;
use tailwater_types::Outcome;

use crate::error::StoreError;
use crate::storage::{ObjectStorage, Operation, Tail};

/// What a call fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    NoSpace,
    Throttled,
    Unavailable,
    Refused,
    NotFound,
}

/// How one call goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Fails and has no effect.
    Before(Failure),
    /// Takes effect, then fails: the caller can't know which it was.
    After(Failure),
    /// Waits until the token is cancelled, then runs: a slow store, without a test that depends on time.
    Held(CancellationToken),
}

/// Wraps a store; without orders it changes nothing. Its failures come as after all retries.
pub struct FaultyStorage {
    storage: Arc<dyn ObjectStorage>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Every call, in the order of beginning.
    begun: Vec<(Operation, String)>,
    orders: Vec<(Operation, usize, Fault)>,
    outages: Vec<(Operation, Failure)>,
}

impl FaultyStorage {
    pub fn new(storage: Arc<dyn ObjectStorage>) -> Self {
        Self {
            storage,
            state: Mutex::default(),
        }
    }

    /// Sets a fault on the `nth` call of `operation` from now, 0 being the next one. Each fault strikes once.
    pub fn inject(&self, operation: Operation, nth: usize, fault: Fault) {
        let mut state = self.state.lock();
        let at = count(&state.begun, operation) + nth;
        state.orders.push((operation, at, fault));
    }

    /// From now on every call of `operation` fails without effect, or with `None` none does any more.
    pub fn set_outage(&self, operation: Operation, failure: Option<Failure>) {
        let mut state = self.state.lock();
        state.outages.retain(|&(of, _)| of != operation);
        state.outages.extend(failure.map(|failure| (operation, failure)));
    }

    /// All calls so far with their keys, in the order of beginning.
    pub fn begun(&self) -> Vec<(Operation, String)> {
        self.state.lock().begun.clone()
    }

    async fn run<T>(
        &self,
        operation: Operation,
        key: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match self.next_fault(operation, key) {
            None => call.await,
            Some(Fault::Before(failure)) => Err(error(failure, operation, key, Outcome::DidNotHappen)),
            Some(Fault::After(failure)) => {
                call.await?;
                Err(error(failure, operation, key, Outcome::Unknown))
            }
            Some(Fault::Held(release)) => {
                release.cancelled().await;
                call.await
            }
        }
    }

    fn next_fault(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut state = self.state.lock();
        let nth = count(&state.begun, operation);
        state.begun.push((operation, key.to_owned()));
        if let Some(order) = state
            .orders
            .iter()
            .position(|&(of, at, _)| of == operation && at == nth)
        {
            return Some(state.orders.swap_remove(order).2);
        }
        let outage = state.outages.iter().find(|&&(of, _)| of == operation)?;
        Some(Fault::Before(outage.1))
    }
}

fn count(begun: &[(Operation, String)], operation: Operation) -> usize {
    begun.iter().filter(|&&(of, _)| of == operation).count()
}

fn error(failure: Failure, operation: Operation, key: &str, outcome: Outcome) -> StoreError {
    let (key, reason) = (key.to_owned(), "injected".to_owned());
    match failure {
        Failure::NoSpace => StoreError::NoSpace { operation, key, reason },
        Failure::Throttled => StoreError::Throttled {
            operation,
            key,
            reason,
            outcome,
        },
        Failure::Unavailable => StoreError::Unavailable {
            operation,
            key,
            reason,
            outcome,
        },
        Failure::Refused => StoreError::Refused {
            operation,
            key,
            reason,
            outcome,
        },
        Failure::NotFound => StoreError::NotFound { operation, key },
    }
}

#[async_trait]
impl ObjectStorage for FaultyStorage {
    async fn put(&self, key: &str, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        self.run(Operation::Put, key, self.storage.put(key, chunks)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.run(Operation::GetRange, key, self.storage.get_range(key, range))
            .await
    }

    async fn get_tail(&self, key: &str, bytes: u64) -> Result<Tail, StoreError> {
        self.run(Operation::GetTail, key, self.storage.get_tail(key, bytes))
            .await
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        self.run(Operation::Head, key, self.storage.head(key)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.run(Operation::Delete, key, self.storage.delete(key)).await
    }
}
