//! The frontend's copy of the metadata: one version at a time, read without waiting.
//!
//! Owns: the current [`Snapshot`] and who waits for a later one. Does not own: what a version has (`snapshot`), nor the
//! controller's stream (`follow`).

mod follow;
mod snapshot;

use std::sync::Arc;

use parking_lot::RwLock;
use tailwater_rpc::controller::MetadataUpdate;
use tailwater_types::{MetadataVersion, NodeId, Offset, StreamId};
use tokio::sync::watch;

pub(crate) use follow::follow;
pub use snapshot::{Gap, Snapshot, Topic};

#[cfg(test)]
pub(crate) use snapshot::tests as testing;

/// Handle to the node's metadata; clones share it.
#[derive(Clone)]
pub struct View {
    inner: Arc<Inner>,
}

struct Inner {
    current: RwLock<Arc<Snapshot>>,
    version: watch::Sender<MetadataVersion>,
}

impl View {
    /// Of this node; empty, at version 0.
    pub fn new(node: NodeId) -> Self {
        let inner = Inner {
            current: RwLock::new(Arc::new(Snapshot::new(node))),
            version: watch::Sender::new(MetadataVersion::default()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The newest version that is here. Cheap; to be held for one answer, not for long.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.current.read().clone()
    }

    pub fn version(&self) -> MetadataVersion {
        *self.inner.version.borrow()
    }

    /// The end of what is in objects of a stream; 0 while nothing is known of it. Only grows.
    pub fn uploaded(&self, stream: StreamId) -> Offset {
        let current = self.inner.current.read();
        let progress = current.progress(stream);
        progress.map_or(Offset::ZERO, |progress| progress.uploaded)
    }

    /// Waits until `version` or a later one is here. Cancellation-safe.
    pub async fn wait_for(&self, version: MetadataVersion) {
        let mut versions = self.subscribe();
        let reached = versions.wait_for(|here| *here >= version).await;
        reached.expect("the sender lives in self");
    }

    /// Told of each version; slow receivers miss some and see the newest.
    pub fn subscribe(&self) -> watch::Receiver<MetadataVersion> {
        self.inner.version.subscribe()
    }

    /// Takes an update over and wakes who waits for it.
    ///
    /// # Errors
    /// [`Gap`]: what is here stays, and an update that is a snapshot must come next.
    pub fn apply(&self, update: &MetadataUpdate) -> Result<(), Gap> {
        let mut current = self.inner.current.write();
        // In place where no reader holds it.
        let next = Arc::make_mut(&mut current);
        let applied = next.apply(update);
        let version = next.version();
        drop(current);
        applied?;
        self.inner.version.send_replace(version);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{topic, update};
    use super::*;

    /// A waiter sees the version it asked for, and a snapshot taken before stays as it was.
    #[tokio::test]
    async fn waiters_see_the_version_they_asked_for() {
        let view = View::new(NodeId(1));
        view.apply(&update(None, 1, vec![])).unwrap();
        let before = view.snapshot();
        let waiting = view.clone();
        let waiter = async move {
            waiting.wait_for(MetadataVersion(2)).await;
            waiting.snapshot()
        };
        let change = async { view.apply(&update(Some(1), 2, vec![topic(1, "a")])).unwrap() };
        let (after, ()) = tokio::join!(waiter, change);
        assert!(after.topic_named("a").is_some());
        assert!(before.topic_named("a").is_none());
    }
}
