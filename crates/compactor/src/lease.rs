//! Holding a lease while its work is done, and finding the next one.

use std::future::Future;
use std::time::Duration;

use tailwater_rpc::Error;
use tailwater_rpc::controller::{Lease, LeaseRef, TaskKind, Work};
use tokio::sync::watch;

use crate::session::Session;

/// How long the controller may hold a request for a task until there is one.
const LEASE_WAIT: Duration = Duration::from_secs(10);
/// Leases are renewed at a third of their duration, or each:
const RENEW_AT_MOST: Duration = Duration::from_secs(10);
/// How long giving a lease back may take: it runs out by itself too.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until there is a task of this kind. Dropped at shutdown; a lease that was granted meanwhile runs out.
pub(crate) async fn next(session: &Session, kind: TaskKind) -> Lease {
    let mut retry = session.backoff();
    loop {
        let tasks = &session.controller().tasks;
        match tasks.lease(session.caller(), vec![kind], LEASE_WAIT).await {
            Ok(Some(lease)) => return lease,
            Ok(None) => retry.reset(),
            Err(error) => {
                tracing::debug!(%error, ?kind, "no task was leased");
                retry.wait().await;
            }
        }
    }
}

/// Runs `work` while the lease is held. When it is lost, `work` is dropped where it stands, and `None` is the answer.
///
/// `work` gets the task as the controller last described it.
pub(crate) async fn hold<T, F>(
    session: &Session,
    lease: Lease,
    work: impl FnOnce(watch::Receiver<Work>) -> F,
) -> Option<T>
where
    F: Future<Output = T>,
{
    let (sender, receiver) = watch::channel(lease.work);
    let renewing = renew_until_lost(session, lease.lease, lease.duration, &sender);
    tokio::select! {
        biased;
        () = renewing => None,
        done = work(receiver) => Some(done),
    }
}

/// Gives a lease back.
pub(crate) async fn release(session: &Session, lease: LeaseRef, done: bool) -> Result<(), Error> {
    let clock = &session.runtime().clock;
    let release = session.controller().tasks.release(session.caller(), lease, done);
    clock.timeout(RELEASE_TIMEOUT, release).await.unwrap_or_else(|_| {
        Err(Error::Unavailable {
            detail: "releasing a lease took too long".to_owned(),
            outcome: tailwater_types::Outcome::Unknown,
        })
    })
}

async fn renew_until_lost(session: &Session, lease: LeaseRef, duration: Duration, work: &watch::Sender<Work>) {
    let interval = (duration / 3).min(RENEW_AT_MOST);
    let clock = &session.runtime().clock;
    loop {
        clock.sleep(interval).await;
        match session.controller().tasks.renew(session.caller(), lease).await {
            Ok(now) => publish(work, now),
            Err(Error::LeaseFenced { task }) => {
                tracing::debug!(%task, "lease is lost, or its task finished");
                return;
            }
            // The controller decides whose lease it is: until it says otherwise, the work goes on.
            Err(error) => tracing::debug!(%error, task = %lease.task, "lease was not renewed"),
        }
    }
}

fn publish(work: &watch::Sender<Work>, now: Work) {
    work.send_if_modified(|known| {
        let changed = *known != now;
        *known = now;
        changed
    });
}
