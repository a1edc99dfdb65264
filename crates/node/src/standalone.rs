//! All four tiers in one process, over the same ports that they meet at when they are apart.
//!
//! Owns: the order of starting (controller, WAL, frontend, compactor; each needs those before it) and of stopping. Does not
//! own: anything a tier does, nor the process around them (`run`).

use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use tailwater_rpc::controller::Controller;
use tailwater_rpc::wal::{Wal, WalDirectory};
use tailwater_runtime::Runtime;
use tailwater_types::{DeviceId, NodeId};

use crate::config::Config;
use crate::run::Running;
use crate::tiers;

/// One node a tier, always the same: a restart is recognised by them.
const FRONTEND: NodeId = NodeId(1);
const WAL: NodeId = NodeId(101);
const COMPACTOR: NodeId = NodeId(201);

/// Starts all four and waits until the partitions are open.
///
/// # Errors
/// What kept one from starting.
pub async fn start(config: &Config, runtime: &Runtime) -> Result<Running> {
    let storage = tiers::storage(config, runtime)?;
    let wals = Arc::<LocalWal>::default();
    let controller = tailwater_controller::start(config.controller.clone(), wals.clone(), runtime.clone())
        .await
        .context("the controller can't start")?;
    let ports = Controller::of(controller.clone());
    let wal = tailwater_wal::start(config.wal.clone(), WAL, None, ports.nodes.clone(), runtime.clone())
        .await
        .context("the WAL can't start")?;
    wals.set(wal.device(), wal.clone());
    let frontend = tailwater_frontend::start(
        config.frontend.clone(),
        FRONTEND,
        None,
        ports.clone(),
        wals.clone(),
        storage.clone(),
        runtime.clone(),
    )
    .await
    .context("the frontend can't start")?;
    let compactor = tailwater_compactor::start(
        config.compactor.clone(),
        COMPACTOR,
        ports,
        wals,
        storage,
        runtime.clone(),
    )
    .await
    .context("the compactor can't start")?;
    frontend.ready().await;
    Ok(Running {
        serves: tiers::kafka(&frontend),
        // Those who need others first.
        stop: Box::pin(async move {
            frontend.shutdown().await;
            compactor.shutdown().await;
            wal.shutdown().await;
            controller.shutdown().await;
        }),
    })
}

/// The one WAL of the process, once it has started.
#[derive(Default)]
struct LocalWal(OnceLock<(DeviceId, Arc<dyn Wal>)>);

impl LocalWal {
    fn set(&self, device: DeviceId, wal: Arc<dyn Wal>) {
        assert!(self.0.set((device, wal)).is_ok(), "there is one WAL in the process");
    }
}

impl WalDirectory for LocalWal {
    fn wal(&self, device: DeviceId) -> Option<Arc<dyn Wal>> {
        self.0
            .get()
            .filter(|(found, _)| *found == device)
            .map(|(_, wal)| wal.clone())
    }
}
