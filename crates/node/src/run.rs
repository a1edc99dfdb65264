//! A process from its start to its exit code, whatever its role.
//!
//! Owns: threads, signals, the data directory's lock, HTTP port and readiness, the ready line, and the exit code. Does not
//! own: what a role starts and stops (`standalone`, `tiers`).

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use tailwater_runtime::tasks::Fatal;
use tailwater_runtime::{Clock, Metrics, Random, Runtime, Tasks};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::http::{self, Readiness};
use crate::process::{self, DataDirLock};
use crate::role::Role;
use crate::{standalone, tiers};

/// What a role has started.
pub struct Running {
    /// What the ready line says before the HTTP address, as in `kafka HOST:PORT`; may be empty.
    pub serves: String,
    /// Stops it in order.
    pub stop: BoxFuture<'static, ()>,
}

/// Runs until a signal or a fatal failure ends it.
///
/// # Errors
/// What kept it from starting.
pub fn run(role: Role, config: Config) -> Result<ExitCode> {
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
    let ended = tokio.block_on(serve(role, config));
    // Whatever still blocks a thread now has nothing to say any more.
    tokio.shutdown_timeout(stop_timeout.min(Duration::from_secs(1)));
    ended
}

async fn serve(role: Role, mut config: Config) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be handled")?;
    let data_dir = &config.node.data_dir;
    let _lock = role.keeps_data().then(|| DataDirLock::take(data_dir)).transpose()?;
    let open_files = process::raise_open_files();
    if role.serves_clients()
        && let Some(open_files) = open_files
    {
        config.limit_connections(open_files);
    }
    let runtime = Runtime {
        clock: Clock::system(),
        random: Random::system(),
        tasks: Tasks::new("tailwater"),
        metrics: Metrics::new(),
    };
    let (role_name, version) = (role.name(), env!("CARGO_PKG_VERSION"));
    tracing::info!(role = role_name, version, "starting");

    let readiness = Readiness::default();
    let http = http::start(
        config.http.listen,
        readiness.clone(),
        runtime.metrics.clone(),
        &runtime.tasks,
    )
    .await?;
    let running = tokio::select! {
        biased;
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        fatal = runtime.tasks.fatal() => return Ok(exit_code(&fatal)),
        started = start(role, &config, &runtime) => started?,
    };
    readiness.set(true);
    say_ready(&running.serves, http);

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
    readiness.set(false);
    tokio::select! {
        biased;
        // As above: a node may be fenced while it leaves.
        fatal = runtime.tasks.fatal() => return Ok(exit_code(&fatal)),
        () = again(&mut interrupt, &mut terminate) => return Ok(ExitCode::FAILURE),
        () = running.stop => {}
    }
    let stopped = tokio::select! {
        biased;
        () = again(&mut interrupt, &mut terminate) => return Ok(ExitCode::FAILURE),
        stopped = runtime.tasks.shutdown(config.node.stop_timeout.as_duration()) => stopped,
    };
    if let Err(stragglers) = stopped {
        tracing::error!(%stragglers, "not everything has stopped");
        return Ok(ExitCode::FAILURE);
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// A second signal while the process stops: whoever sends it doesn't want to wait.
async fn again(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::warn!("a second signal: ending at once, not in order");
}

async fn start(role: Role, config: &Config, runtime: &Runtime) -> Result<Running> {
    match role {
        Role::Standalone => standalone::start(config, runtime).await,
        Role::Controller => tiers::controller(config, runtime).await,
        Role::Wal => tiers::wal(config, runtime).await,
        Role::Frontend => tiers::frontend(config, runtime).await,
        Role::Compactor => tiers::compactor(config, runtime).await,
    }
}

/// The one line on stdout.
fn say_ready(serves: &str, http: SocketAddr) {
    let separator = if serves.is_empty() { "" } else { " " };
    println!("ready: {serves}{separator}http {http}");
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
