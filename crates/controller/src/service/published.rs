//! What everybody may see: the state as far as it is durable, and those who follow it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::StreamExt;
use parking_lot::{RwLock, RwLockWriteGuard};
use tailwater_rpc::controller::MetadataUpdate;
use tailwater_rpc::{Error, Stream};
use tailwater_types::{MetadataVersion, Outcome};
use tokio::sync::{mpsc, watch};

use super::metrics::Metrics;
use super::update;
use crate::state::{Changes, State};

/// Updates that a watcher may be behind, and changes in them together; a snapshot counts as one change.
const BACKLOG_UPDATES: usize = 1024;
const BACKLOG_CHANGES: usize = 200_000;

pub struct Published {
    shared: RwLock<Shared>,
    versions: watch::Sender<MetadataVersion>,
    metrics: Metrics,
}

struct Shared {
    state: State,
    watchers: Vec<Watcher>,
}

struct Watcher {
    updates: mpsc::Sender<Arc<MetadataUpdate>>,
    backlog: Arc<Backlog>,
}

/// How far a watcher is behind.
#[derive(Default)]
struct Backlog {
    changes: AtomicUsize,
    too_long: AtomicBool,
}

impl Published {
    pub fn new(state: State, metrics: &Metrics) -> Self {
        let versions = watch::Sender::new(state.version());
        metrics.observe(&state, 0);
        let watchers = Vec::new();
        Self {
            shared: RwLock::new(Shared { state, watchers }),
            versions,
            metrics: metrics.clone(),
        }
    }

    /// Looks at the state. `look` must be short: the driver waits for it.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.read().state)
    }

    /// The version that is published, as it rises.
    pub fn versions(&self) -> watch::Receiver<MetadataVersion> {
        self.versions.subscribe()
    }

    /// Shows a batch that is durable, to all at the same time.
    pub fn publish(&self, changes: &Changes) {
        let mut shared = self.shared.write();
        let previous = shared.state.version();
        let changes = update::advance(&mut shared.state, changes);
        let version = shared.state.version();
        if !shared.watchers.is_empty() {
            let update = Arc::new(MetadataUpdate {
                version,
                previous: Some(previous),
                changes,
            });
            shared.watchers.retain(|watcher| self.offer(watcher, &update));
        }
        drop(shared);
        self.versions.send_replace(version);
    }

    /// Ends all watching.
    pub fn close(&self) {
        let watchers = std::mem::take(&mut self.shared.write().watchers);
        drop(watchers);
    }

    /// Shows another state, of which no changes are known: whoever follows starts again.
    pub fn replace(&self, state: State) {
        let version = state.version();
        self.shared.write().state = state;
        self.close();
        self.versions.send_replace(version);
    }

    /// The state now, then every change of it.
    pub fn watch(&self) -> Stream<Arc<MetadataUpdate>> {
        let (updates, receiver) = mpsc::channel(BACKLOG_UPDATES);
        let backlog = Arc::new(Backlog::default());
        let mut shared = self.shared.write();
        let snapshot = MetadataUpdate {
            version: shared.state.version(),
            previous: None,
            changes: update::snapshot(&shared.state),
        };
        let watcher = Watcher {
            updates,
            backlog: backlog.clone(),
        };
        shared.watchers.push(watcher);
        drop(shared);
        let counted = Counted::new(&self.metrics);
        let changes = futures::stream::unfold(Some((receiver, backlog, counted)), |watched| async move {
            let (mut receiver, backlog, counted) = watched?;
            match receiver.recv().await {
                Some(update) => {
                    backlog.changes.fetch_sub(weight(&update), Ordering::Relaxed);
                    Some((Ok(update), Some((receiver, backlog, counted))))
                }
                None => Some((Err(ended(&backlog)), None)),
            }
        });
        let first = futures::stream::iter([Ok(Arc::new(snapshot))]);
        first.chain(changes).boxed()
    }

    /// Counts what is there, and forgets watchers that have gone away.
    pub fn observe(&self, failing_cleanings: usize) {
        let mut shared = self.shared.write();
        shared.watchers.retain(|watcher| !watcher.updates.is_closed());
        // Who reads goes on meanwhile.
        let shared = RwLockWriteGuard::downgrade(shared);
        self.metrics.observe(&shared.state, failing_cleanings);
    }

    /// Whether the watcher goes on.
    fn offer(&self, watcher: &Watcher, update: &Arc<MetadataUpdate>) -> bool {
        let changes = weight(update);
        let backlog = watcher.backlog.changes.fetch_add(changes, Ordering::Relaxed);
        // A single update may be as large as it is.
        let fits = backlog == 0 || backlog + changes <= BACKLOG_CHANGES;
        if fits && watcher.updates.try_send(update.clone()).is_ok() {
            return true;
        }
        if !watcher.updates.is_closed() {
            watcher.backlog.too_long.store(true, Ordering::Relaxed);
            self.metrics.dropped_watchers.inc();
        }
        false
    }
}

fn weight(update: &MetadataUpdate) -> usize {
    update.changes.len() + 1
}

fn ended(backlog: &Backlog) -> Error {
    if backlog.too_long.load(Ordering::Relaxed) {
        Error::Throttled("the watcher fell behind: it has to start again".to_owned())
    } else {
        Error::Unavailable {
            detail: "the metadata can't be followed any more: the watcher has to start again".to_owned(),
            outcome: Outcome::DidNotHappen,
        }
    }
}

/// Counts a watcher for as long as its stream lives.
struct Counted(Metrics);

impl Counted {
    fn new(metrics: &Metrics) -> Self {
        metrics.watchers.inc();
        Self(metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.watchers.dec();
    }
}
