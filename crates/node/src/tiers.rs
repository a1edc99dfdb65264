//! One tier a process: what each starts and stops, and how it finds the others.
//!
//! Owns: the gRPC port, the way to the controller and to WAL nodes. Does not own: what a tier does, nor the process around
//! it (`run`).

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use tailwater_frontend::{Frontend, Peering};
use tailwater_rpc::controller::Controller;
use tailwater_rpc::frontend::Frontend as FrontendPort;
use tailwater_rpc::grpc::{self, ControllerClient, FrontendClient, RemoteWals, Routes, WalRoutes};
use tailwater_rpc::wal::{Wal, WalDirectory};
use tailwater_runtime::{Policy, Runtime};
use tailwater_store::{ObjectStorage, Services};
use tailwater_types::{DeviceId, NodeId};
use tokio::net::TcpListener;

use crate::config::{Config, RpcConfig};
use crate::process;
use crate::role::Role;
use crate::run::Running;

/// The object store that the configuration names.
///
/// # Errors
/// If it can't be opened.
pub fn storage(config: &Config, runtime: &Runtime) -> Result<Arc<dyn ObjectStorage>> {
    let services = Services {
        clock: runtime.clock.clone(),
        random: runtime.random.clone(),
        tasks: runtime.tasks.child("store"),
        metrics: runtime.metrics.clone(),
    };
    let options = config.storage.options(std::env::vars_os());
    Ok(tailwater_store::open(&config.storage.location()?, &options, &services)?)
}

/// # Errors
/// What kept it from starting.
pub async fn controller(config: &Config, runtime: &Runtime) -> Result<Running> {
    let listener = bind(&config.rpc).await?;
    let address = listener.local_addr()?;
    let wals = Arc::<LateWals>::default();
    let controller = tailwater_controller::start(config.controller.clone(), wals.clone(), runtime.clone())
        .await
        .context("the controller can't start")?;
    let ports = Controller::of(controller.clone());
    wals.set(remote_wals(&ports, runtime));
    serve(listener, grpc::controller_routes(&ports), runtime);
    Ok(Running {
        serves: format!("rpc {address}"),
        stop: Box::pin(async move { controller.shutdown().await }),
    })
}

/// # Errors
/// What kept it from starting.
pub async fn wal(config: &Config, runtime: &Runtime) -> Result<Running> {
    let node = node_id(Role::Wal, config, runtime)?;
    // First the address: the controller is told of it.
    let (listener, advertised) = bind_advertised(&config.rpc).await?;
    let address = listener.local_addr()?;
    let nodes = remote_controller(config, runtime)?.nodes;
    let wal = tailwater_wal::start(config.wal.clone(), node, Some(advertised), nodes, runtime.clone())
        .await
        .context("the WAL can't start")?;
    serve(listener, Routes::new(WalRoutes::new(wal.clone())), runtime);
    Ok(Running {
        serves: format!("rpc {address}"),
        stop: Box::pin(async move { wal.shutdown().await }),
    })
}

/// # Errors
/// What kept it from starting.
pub async fn frontend(config: &Config, runtime: &Runtime) -> Result<Running> {
    let node = node_id(Role::Frontend, config, runtime)?;
    let (listener, advertised) = bind_advertised(&config.rpc).await?;
    let address = listener.local_addr()?;
    let storage = storage(config, runtime)?;
    let controller = remote_controller(config, runtime)?;
    let wals = Arc::new(remote_wals(&controller, runtime));
    let frontend = tailwater_frontend::start(
        config.frontend.clone(),
        node,
        Some(peering(advertised, runtime)),
        controller,
        wals,
        storage,
        runtime.clone(),
    )
    .await
    .context("the frontend can't start")?;
    serve(listener, grpc::frontend_routes(frontend.port()), runtime);
    frontend.ready().await;
    Ok(Running {
        serves: format!("{} rpc {address}", kafka(&frontend)),
        stop: Box::pin(async move { frontend.shutdown().await }),
    })
}

/// Other frontends, at the other end of gRPC.
fn peering(address: String, runtime: &Runtime) -> Peering {
    let runtime = runtime.clone();
    let connect = move |address: &str| {
        let frontend: Arc<dyn FrontendPort> = Arc::new(FrontendClient::new(address, &runtime)?);
        Ok(frontend)
    };
    Peering {
        address,
        connect: Box::new(connect),
    }
}

/// What the ready line says of a frontend: `kafka HOST:PORT`, and then the name and address of each further listener.
pub fn kafka(frontend: &Frontend) -> String {
    let mut addresses = frontend.kafka_addresses();
    let first = addresses.next().map(|(_, address)| format!("kafka {address}"));
    let further = addresses.map(|(name, address)| format!("{name} {address}"));
    first.into_iter().chain(further).collect::<Vec<_>>().join(" ")
}

/// # Errors
/// What kept it from starting.
pub async fn compactor(config: &Config, runtime: &Runtime) -> Result<Running> {
    let node = node_id(Role::Compactor, config, runtime)?;
    let storage = storage(config, runtime)?;
    let controller = remote_controller(config, runtime)?;
    let wals = Arc::new(remote_wals(&controller, runtime));
    let compactor = tailwater_compactor::start(
        config.compactor.clone(),
        node,
        controller,
        wals,
        storage,
        runtime.clone(),
    )
    .await
    .context("the compactor can't start")?;
    Ok(Running {
        serves: String::new(),
        stop: Box::pin(async move { compactor.shutdown().await }),
    })
}

/// The WAL nodes that the controller knows, from now on.
fn remote_wals(controller: &Controller, runtime: &Runtime) -> RemoteWals {
    let wals = RemoteWals::over_grpc(controller.nodes.clone(), runtime.clone());
    runtime
        .tasks
        .spawn("wal-nodes", Policy::FATAL_ABORT, wals.clone().follow());
    wals
}

fn remote_controller(config: &Config, runtime: &Runtime) -> Result<Controller> {
    let client = ControllerClient::new(&config.rpc.controller, runtime.clone());
    Ok(Controller::of(Arc::new(client.context("rpc.controller")?)))
}

/// Serves the gRPC port until the process' tasks stop.
fn serve(listener: TcpListener, routes: Routes, runtime: &Runtime) {
    let (stop, clock) = (runtime.tasks.token(), runtime.clock.clone());
    runtime.tasks.spawn("grpc", Policy::FATAL_DRAIN, async move {
        if let Err(error) = grpc::serve(listener, routes, stop, clock).await {
            tracing::error!(%error, "the gRPC port has failed");
        }
    });
}

fn node_id(role: Role, config: &Config, runtime: &Runtime) -> Result<NodeId> {
    let host = process::host_name();
    let node = role.node_id(config.node.id, host.as_deref(), runtime.random.u128())?;
    tracing::info!(%node, controller = config.rpc.controller, "this is a node of the cluster");
    Ok(node)
}

async fn bind(config: &RpcConfig) -> Result<TcpListener> {
    let listen = config.listen;
    let bound = TcpListener::bind(listen).await;
    bound.with_context(|| format!("rpc.listen {listen} can't be bound"))
}

/// Takes the address that others call; answers with what they are told of it.
async fn bind_advertised(config: &RpcConfig) -> Result<(TcpListener, String)> {
    let listener = bind(config).await?;
    let address = advertised(config, listener.local_addr()?);
    tracing::info!(address, "other nodes are told to call this address");
    Ok((listener, address))
}

/// What other nodes are told to call: port 0 stands for the one that is listened on.
fn advertised(config: &RpcConfig, listening: SocketAddr) -> String {
    match config.advertise.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", listening.port()),
        None => config.advertise.clone(),
    }
}

/// The controller's way to WAL nodes, which it is the one to know of: there once it has started.
#[derive(Default)]
struct LateWals(OnceLock<RemoteWals>);

impl LateWals {
    fn set(&self, wals: RemoteWals) {
        assert!(self.0.set(wals).is_ok(), "there is one controller in the process");
    }
}

impl WalDirectory for LateWals {
    fn wal(&self, device: DeviceId) -> Option<Arc<dyn Wal>> {
        self.0.get()?.wal(device)
    }
}
