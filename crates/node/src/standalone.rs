//! All four tiers in one process, over the same ports that they meet at when they are apart.
//!
//! Owns: the order of starting (controller, WAL, frontend, compactor; each needs those before it) and of stopping, the ready
//! line, and the exit code. Does not own: anything a tier does.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use tailwater_compactor::Compactor;
use tailwater_controller::ControllerService;
use tailwater_frontend::Frontend;
use tailwater_rpc::controller::Controller;
use tailwater_rpc::wal::{Wal, WalDirectory};
use tailwater_runtime::tasks::Fatal;
use tailwater_runtime::{Clock, Metrics, Random, Runtime, Tasks};
use tailwater_store::Services;
use tailwater_types::{DeviceId, NodeId};
use tailwater_wal::WalService;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::http::{self, Readiness};
use crate::process::DataDirLock;

/// One node a tier, always the same: a restart is recognised by them.
const FRONTEND: NodeId = NodeId(1);
const WAL: NodeId = NodeId(101);
const COMPACTOR: NodeId = NodeId(201);

/// Runs until a signal or a fatal failure ends it.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: Config) -> Result<ExitCode> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.node.worker_threads > 0 {
        builder.worker_threads(config.node.worker_threads);
    }
    let tokio = builder
        .enable_all()
        .thread_name("tailwater")
        .build()
        .context("the threads can't be started")?;
    let stop_timeout = config.node.stop_timeout.as_duration();
    let ended = tokio.block_on(serve(config));
    // Whatever still blocks a thread now has nothing to say any more.
    tokio.shutdown_timeout(stop_timeout.min(std::time::Duration::from_secs(1)));
    ended
}

async fn serve(config: Config) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be handled")?;
    let _lock = DataDirLock::take(&config.node.data_dir)?;
    let runtime = Runtime {
        clock: Clock::system(),
        random: Random::system(),
        tasks: Tasks::new("tailwater"),
        metrics: Metrics::new(),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), data_dir = %config.node.data_dir.display(), "starting");

    let starting = Standalone::start(&config, &runtime);
    let standalone = tokio::select! {
        biased;
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        fatal = runtime.tasks.fatal() => return Ok(exit_code(&fatal)),
        started = starting => started?,
    };
    standalone.say_ready();

    let fatal = tokio::select! {
        biased;
        fatal = runtime.tasks.fatal() => Some(fatal),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    if let Some(fatal) = fatal {
        // Not in order: a fenced node may not answer anybody any more, and everything acknowledged is durable anyway.
        return Ok(exit_code(&fatal));
    }
    tracing::info!("stopping");
    standalone.stop().await;
    if let Err(stragglers) = runtime.tasks.shutdown(config.node.stop_timeout.as_duration()).await {
        tracing::error!(%stragglers, "not everything has stopped");
        return Ok(ExitCode::FAILURE);
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn exit_code(fatal: &Fatal) -> ExitCode {
    tracing::error!(
        task = fatal.task,
        reason = fatal.reason,
        exit_code = fatal.exit_code,
        "the process can't go on"
    );
    ExitCode::from(u8::try_from(fatal.exit_code).unwrap_or(1))
}

/// The running tiers.
struct Standalone {
    controller: Arc<ControllerService>,
    wal: Arc<WalService>,
    frontend: Frontend,
    compactor: Compactor,
    readiness: Readiness,
    http_address: std::net::SocketAddr,
}

impl Standalone {
    async fn start(config: &Config, runtime: &Runtime) -> Result<Self> {
        let readiness = Readiness::default();
        let http_address = http::start(
            config.http.listen,
            readiness.clone(),
            runtime.metrics.clone(),
            &runtime.tasks,
        )
        .await?;
        let services = Services {
            clock: runtime.clock.clone(),
            random: runtime.random.clone(),
            tasks: runtime.tasks.child("store"),
            metrics: runtime.metrics.clone(),
        };
        let options = config.storage.options(std::env::vars_os());
        let storage = tailwater_store::open(&config.storage.location()?, &options, &services)?;

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
        readiness.set(true);
        Ok(Self {
            controller,
            wal,
            frontend,
            compactor,
            readiness,
            http_address,
        })
    }

    /// The one line on stdout.
    fn say_ready(&self) {
        println!(
            "ready: kafka {} http {}",
            self.frontend.kafka_address(),
            self.http_address
        );
    }

    /// Those who need others first.
    async fn stop(&self) {
        self.readiness.set(false);
        self.frontend.shutdown().await;
        self.compactor.shutdown().await;
        self.wal.shutdown().await;
        self.controller.shutdown().await;
    }
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
