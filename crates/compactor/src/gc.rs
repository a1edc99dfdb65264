//! Deletion of objects that metadata has given up: only those that a task of the controller names.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use tailwater_rpc::controller::{Lease, TaskKind, Work};
use tailwater_runtime::telemetry::IntCounterVec;
use tailwater_store::ObjectStorage;
use tailwater_types::ObjectId;

use crate::lease;
use crate::session::Session;

/// Deletions at the same time.
const PARALLEL_DELETES: usize = 8;

pub(crate) struct Deletes {
    session: Session,
    storage: Arc<dyn ObjectStorage>,
    deleted: IntCounterVec,
}

impl Deletes {
    pub fn new(session: Session, storage: Arc<dyn ObjectStorage>) -> Self {
        let metrics = &session.runtime().metrics;
        let deleted = metrics.counter_vec(
            "tailwater_objects_deleted_total",
            "Deletions of objects, repeats included",
            &["result"],
        );
        Self {
            session,
            storage,
            deleted,
        }
    }

    /// Carries out one deletion task after the other until the process stops. One that failed in part is given back as not
    /// done: deleting again what is gone already does no harm.
    pub async fn run(self) {
        let stop = self.session.runtime().tasks.token();
        let mut retry = self.session.backoff();
        loop {
            let lease = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                lease = lease::next(&self.session, TaskKind::Delete) => lease,
            };
            let held = lease.lease;
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => Some(false),
                done = self.carry_out(lease) => done,
            };
            let Some(done) = done else { continue };
            if let Err(error) = lease::release(&self.session, held, done).await {
                tracing::debug!(%error, done, "lease of a deletion was not given back: it runs out");
            }
            if done {
                retry.reset();
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = retry.wait() => {}
            }
        }
    }

    /// Whether all objects are deleted; `None` if the lease was lost meanwhile.
    async fn carry_out(&self, lease: Lease) -> Option<bool> {
        lease::hold(&self.session, lease, |work| async move {
            let Work::Delete { objects } = work.borrow().clone() else {
                tracing::error!("a deletion's task is another one");
                return false;
            };
            let deletes = stream::iter(objects).map(|(object, key)| self.delete(object, key));
            deletes
                .buffer_unordered(PARALLEL_DELETES)
                .fold(true, |all, one| async move { all && one })
                .await
        })
        .await
    }

    async fn delete(&self, object: ObjectId, key: String) -> bool {
        let deleted = self.storage.delete(&key).await;
        let label = if deleted.is_ok() { "ok" } else { "failed" };
        self.deleted.with_label_values(&[label]).inc();
        if let Err(error) = &deleted {
            tracing::warn!(%object, %error, "object was not deleted, it will be tried again");
        }
        deleted.is_ok()
    }
}

#[cfg(test)]
mod tests;
