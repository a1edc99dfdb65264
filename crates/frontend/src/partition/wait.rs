//! Fetchers that wait for more bytes: one waiter a fetch, known to each of its partitions.
//!
//! Owns: waking a fetch once enough has been committed, and decided if it asks for that, in all its partitions together. A commit costs each waiter one
//! subtraction; a fetch reads again only when it has enough, at its deadline, or when a leadership ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tailwater_types::Offset;
use tokio::sync::Notify;

use super::Partition;

impl Partition {
    /// Has `waiter` told of what is committed above `seen`, the high watermark that its fetch knows.
    pub fn add_waiter(&self, waiter: &Arc<FetchWaiter>, seen: Offset) {
        let mut state = self.state.lock();
        if self.high_watermark() != seen || self.has_ended() {
            // It has missed something: it is to look again.
            return waiter.wake();
        }
        state.waiters.add(waiter);
    }

    /// Waits until everything below `end` is committed; false if the leadership ended first.
    pub async fn wait_for_commit(&self, end: Offset) -> bool {
        loop {
            let seen = self.high_watermark();
            if seen >= end || self.has_ended() {
                return seen >= end;
            }
            let waiter = FetchWaiter::new(1, false);
            self.add_waiter(&waiter, seen);
            waiter.woken().await;
            self.remove_waiter(&waiter);
        }
    }

    /// Waits until no other coordinator works on this partition: one that goes on until its records are committed must have
    /// its last word first. Cancellation-safe.
    pub async fn be_coordinator(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.coordinator.lock().await
    }

    #[cfg(test)]
    pub fn waiting_fetches(&self) -> usize {
        self.state.lock().waiters.0.len()
    }

    pub fn remove_waiter(&self, waiter: &Arc<FetchWaiter>) {
        self.state.lock().waiters.remove(waiter);
    }
}

/// One waiting fetch.
#[derive(Debug)]
pub struct FetchWaiter {
    /// Bytes that still have to be committed before it is woken.
    missing_bytes: AtomicI64,
    /// Whether only bytes below the last stable offset count.
    stable_only: bool,
    woken: Notify,
}

impl FetchWaiter {
    /// Waits for `missing_bytes` to be committed in the partitions that it is registered with, all together;
    /// `stable_only`: to be stable there.
    pub fn new(missing_bytes: usize, stable_only: bool) -> Arc<Self> {
        let missing = i64::try_from(missing_bytes).unwrap_or(i64::MAX);
        Arc::new(Self {
            missing_bytes: AtomicI64::new(missing),
            stable_only,
            woken: Notify::new(),
        })
    }

    /// Cancellation-safe.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    fn advance(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.missing_bytes.fetch_sub(bytes, Ordering::Relaxed) <= bytes {
            self.wake();
        }
    }

    fn key(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

/// What a commit did to the last stable offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stable {
    /// Nothing: a transaction is still open.
    Same,
    /// It went along with the high watermark: all that was committed is decided.
    All,
    /// It came over bytes that were committed earlier.
    More,
}

/// The fetches that wait at one partition, by their addresses: each keeps its own alive.
#[derive(Debug, Default)]
pub(super) struct Waiters(BTreeMap<usize, Arc<FetchWaiter>>);

impl Waiters {
    pub fn add(&mut self, waiter: &Arc<FetchWaiter>) {
        self.0.insert(waiter.key(), waiter.clone());
    }

    pub fn remove(&mut self, waiter: &Arc<FetchWaiter>) {
        self.0.remove(&waiter.key());
    }

    /// `bytes` were committed; `stable` says what of the log is decided since.
    pub fn advance(&self, bytes: usize, stable: Stable) {
        for waiter in self.0.values() {
            match (waiter.stable_only, stable) {
                (false, _) => waiter.advance(bytes),
                (true, Stable::All) => waiter.advance(bytes),
                (true, Stable::More) => waiter.wake(),
                (true, Stable::Same) => {}
            }
        }
    }

    pub fn wake_all(&self) {
        self.0.values().for_each(|waiter| waiter.wake());
    }
}
