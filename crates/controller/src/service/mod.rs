//! The controller at work: the queue of commands, the driver, what is published, and what is done outside.
//!
//! Owns: order, durability before visibility, group commit, effects and their repetition. Does not own: any decision
//! (`state`) or how bytes become durable (`store`).

mod commands;
mod driver;
mod metrics;
mod ports;
mod published;
mod settle;
mod told;
mod update;

use std::sync::Arc;
use std::time::Duration;

use tailwater_format::metadata::{ClusterRecord, Key, Record};
use tailwater_rpc::wal::WalDirectory;
use tailwater_runtime::{Policy, Runtime};
use tailwater_types::{ClusterId, ControllerEpoch};

use self::commands::{Commands, queue};
use self::driver::{Batch, Driver, Standing, decode};
use self::metrics::Metrics;
use self::published::Published;
use self::settle::Settler;
use crate::state::{State, Timers, View, journals};
use crate::store::{MetadataStore, SledOptions, SledStore};
use crate::{Config, Error};

/// How long the tasks of a controller may take to end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// A running controller. It implements the five ports of `rpc::controller`.
pub struct ControllerService {
    cluster: ClusterId,
    commands: Commands,
    published: Arc<Published>,
    runtime: Runtime,
}

/// Opens the metadata store in `config.data_dir`, making it and the cluster if there is none, and begins a new term.
///
/// # Errors
/// If a setting can't work, or the store can't be opened, read or written.
pub async fn start(
    config: Config,
    wals: Arc<dyn WalDirectory>,
    runtime: Runtime,
) -> Result<Arc<ControllerService>, Error> {
    let runtime = runtime.child("controller");
    let options = SledOptions {
        path: config.data_dir.join("metadata"),
        cache_bytes: config.cache.0,
        ballast_bytes: config.ballast.0,
    };
    let store = SledStore::new(options, runtime.tasks.clone());
    start_in(&config, Box::new(store), wals, runtime).await
}

/// As [`start`], with another store.
///
/// # Errors
/// As [`start`].
pub async fn start_with(
    config: Config,
    store: Box<dyn MetadataStore>,
    wals: Arc<dyn WalDirectory>,
    runtime: Runtime,
) -> Result<Arc<ControllerService>, Error> {
    let runtime = runtime.child("controller");
    start_in(&config, store, wals, runtime).await
}

async fn start_in(
    config: &Config,
    mut store: Box<dyn MetadataStore>,
    wals: Arc<dyn WalDirectory>,
    runtime: Runtime,
) -> Result<Arc<ControllerService>, Error> {
    config.validate().map_err(Error::Config)?;
    let state = begin_term(store.as_mut(), &runtime).await?;
    let ClusterRecord { cluster, term } = state.cluster();
    tracing::info!(%cluster, %term, version = %state.version(), "the controller is active");

    let metrics = Metrics::new(&runtime.metrics);
    let published = Arc::new(Published::new(state.clone(), &metrics));
    let (commands, requests) = queue(&runtime, &metrics);
    let settler = Settler::new(published.clone(), commands.clone(), wals, &runtime, term);
    for (journal, _) in journals::all(&state).filter(|(_, journal)| journals::is_unsettled(journal)) {
        settler.settle(journal);
    }
    let timers = Timers::new(runtime.clock.now());
    let driver = Driver {
        store,
        state,
        timers,
        limits: config.limits(),
        published: published.clone(),
        settler,
        metrics,
        runtime: runtime.clone(),
        batch: Batch::default(),
        standing: Standing::Works,
        to_sweep: 0,
        reported: false,
    };
    runtime.tasks.spawn("driver", Policy::FATAL_DRAIN, driver.run(requests));
    Ok(Arc::new(ControllerService {
        cluster,
        commands,
        published,
        runtime,
    }))
}

impl ControllerService {
    /// The cluster's id, made when the store was first opened.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Takes no more calls, answers those it has taken, and closes the store.
    pub async fn shutdown(&self) {
        if let Err(stragglers) = self.runtime.tasks.shutdown(SHUTDOWN_DEADLINE).await {
            tracing::warn!(%stragglers, "the controller stops");
        }
    }
}

/// Reads the state, and raises the term durably before anything is done under it.
async fn begin_term(store: &mut dyn MetadataStore, runtime: &Runtime) -> Result<State, Error> {
    let records = decode(store.load().await?)?;
    let mut state = State::of(records);
    let cluster = match state.record(Key::Cluster) {
        Some(Record::Cluster(cluster)) => (**cluster).clone(),
        _ if state == State::default() => ClusterRecord {
            cluster: ClusterId::from_random(runtime.random.u128()),
            term: ControllerEpoch(0),
        },
        _ => return Err(Error::NoCluster),
    };
    let next = ClusterRecord {
        term: cluster.term.next(),
        ..cluster
    };
    let record = Record::Cluster(Arc::new(next));
    let write = (Key::Cluster.to_bytes(), Some(record.encode(Key::Cluster)));
    store.commit(vec![write]).await?;
    state.put(Key::Cluster, Some(record));
    Ok(state)
}
