//! Starting and stopping a compactor.

use std::sync::Arc;
use std::time::Duration;

use tailwater_rpc::controller::{Controller, TaskKind};
use tailwater_rpc::wal::WalDirectory;
use tailwater_runtime::{Policy, Runtime, Tasks};
use tailwater_store::ObjectStorage;
use tailwater_types::NodeId;
use tokio::sync::Semaphore;

use crate::clean::{self, Cleanings};
use crate::gc::Deletes;
use crate::session::Session;
use crate::upload::{self, Uploads};
use crate::{Config, Error, lease};

/// Behind the grace of uploads: for giving back leases.
const RELEASE_GRACE: Duration = Duration::from_secs(2);
/// How long the report that this node leaves may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A running compactor.
pub struct Compactor {
    session: Session,
    tasks: Tasks,
    shutdown_deadline: Duration,
}

/// Registers `node` at the controller and begins to take tasks. Waits for as long as the controller can't answer.
///
/// # Errors
/// [`Error::Config`], and what the controller refuses for good.
pub async fn start(
    config: Config,
    node: NodeId,
    controller: Controller,
    wals: Arc<dyn WalDirectory>,
    storage: Arc<dyn ObjectStorage>,
    runtime: Runtime,
) -> Result<Compactor, Error> {
    config.validate().map_err(Error::Config)?;
    let runtime = runtime.child("compactor");
    let tasks = runtime.tasks.clone();
    let session = Session::register(controller, node, runtime).await?;
    let compactor = Compactor {
        session: session.clone(),
        tasks: tasks.clone(),
        shutdown_deadline: config.shutdown_grace.as_duration() + RELEASE_GRACE,
    };
    let heartbeat_interval = config.heartbeat_interval.as_duration();
    let (max_journals, max_cleanings) = (config.max_journals, config.max_cleanings);
    let deletes = Deletes::new(session.clone(), storage.clone());
    let cleanings = Arc::new(Cleanings::new(config.clone(), session.clone(), storage.clone()));
    let uploads = Arc::new(Uploads::new(config, session.clone(), wals, storage));
    let heartbeat = async move { session.keep_alive(heartbeat_interval).await };
    tasks.spawn("heartbeat", Policy::FATAL_ABORT, heartbeat);
    tasks.spawn("gc", Policy::FATAL_DRAIN, deletes.run());
    tasks.spawn(
        "lease-uploads",
        Policy::FATAL_ABORT,
        lease_uploads(uploads, max_journals),
    );
    if max_cleanings > 0 {
        let cleaning = lease_cleanings(cleanings, max_cleanings);
        tasks.spawn("lease-cleanings", Policy::FATAL_ABORT, cleaning);
    }
    Ok(compactor)
}

impl Compactor {
    /// Takes no more tasks, lets uploads on their way finish within `shutdown_grace`, gives the leases back. What isn't
    /// finished by then is done again by the next holder.
    pub async fn shutdown(&self) {
        let clock = &self.session.runtime().clock;
        if let Ok(Err(error)) = clock.timeout(LEAVE_TIMEOUT, self.session.heartbeat(true)).await {
            tracing::debug!(%error, "the controller was not told that this compactor leaves");
        }
        if let Err(error) = self.tasks.shutdown(self.shutdown_deadline).await {
            tracing::warn!(%error, "compactor stopped before its tasks had");
        }
    }
}

/// Takes one journal after the other, and uploads each in a task of its own.
async fn lease_uploads(uploads: Arc<Uploads>, max_journals: usize) {
    let slots = Arc::new(Semaphore::new(max_journals));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("it is never closed");
        let lease = lease::next(uploads.session(), TaskKind::Upload).await;
        let name = format!("upload-{}", lease.lease.task);
        let upload = upload::run(uploads.clone(), lease);
        let tasks = &uploads.session().runtime().tasks;
        tasks.spawn(&name, Policy::LOGGED_DRAIN, async move {
            upload.await;
            drop(slot);
        });
    }
}

/// Takes one stream after the other, and cleans each in a task of its own.
async fn lease_cleanings(cleanings: Arc<Cleanings>, max_cleanings: usize) {
    let slots = Arc::new(Semaphore::new(max_cleanings));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("it is never closed");
        let lease = lease::next(cleanings.session(), TaskKind::Clean).await;
        let name = format!("clean-{}", lease.lease.task);
        let cleaning = clean::run(cleanings.clone(), lease);
        let tasks = &cleanings.session().runtime().tasks;
        tasks.spawn(&name, Policy::LOGGED_DRAIN, async move {
            cleaning.await;
            drop(slot);
        });
    }
}
