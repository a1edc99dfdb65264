//! A frontend, from its start to its end: the data path and the protocol over it.
//!
//! Owns: the order of both. Does not own: what each consists of (`data`, `protocol`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tailwater_rpc::controller::Controller;
use tailwater_rpc::frontend::ConnectFrontend;
use tailwater_rpc::wal::WalDirectory;
use tailwater_runtime::Runtime;
use tailwater_store::ObjectStorage;
use tailwater_types::{Kind, NodeId, Outcome};

use crate::config::Config;
use crate::data::Data;
use crate::protocol::{Protocol, bind};
use crate::session::Identity;
use crate::txn;

/// How long tasks may take to end that have nothing to wait for.
const TASKS_END: Duration = Duration::from_secs(5);

/// How long clients that are connected still are told where their partitions have gone.
const REDIRECT: Duration = Duration::from_secs(1);

/// A running frontend.
pub struct Frontend {
    data: Data,
    protocol: Protocol,
}

/// How frontends call each other. One without it is the only one.
pub struct Peering {
    /// HOST:PORT that others are told to call this one at; [`Frontend::port`] is to be served there.
    pub address: String,
    /// The way to an address that another one is called at.
    pub connect: Box<ConnectFrontend>,
}

/// Why a frontend didn't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    Listen(io::Error),
    #[error("the controller refuses the registration: {0}")]
    Register(#[source] tailwater_rpc::Error),
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config(_) => Kind::Invalid,
            Self::Listen(_) => Kind::Unavailable,
            Self::Register(error) => error.kind(),
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Config(_) | Self::Listen(_) => Outcome::DidNotHappen,
            Self::Register(error) => error.outcome(),
        }
    }
}

/// Takes the listening addresses, registers, and serves clients from then on; journal and partitions open in the
/// background.
///
/// # Errors
/// [`Error`]: nothing runs.
pub async fn start(
    config: Config,
    node: NodeId,
    peering: Option<Peering>,
    controller: Controller,
    wals: Arc<dyn WalDirectory>,
    storage: Arc<dyn ObjectStorage>,
    runtime: Runtime,
) -> Result<Frontend, Error> {
    config.validate().map_err(Error::Config)?;
    let runtime = runtime.child("frontend");
    // First the addresses: what clients are told of them goes into the registration.
    let bound = bind(&config).await.map_err(Error::Listen)?;
    let (address, connect) = peering.map(|peering| (peering.address, peering.connect)).unzip();
    let identity = Identity {
        node,
        endpoints: bound.endpoints.clone(),
        address,
    };
    let data = Data::start(config, identity, controller, wals, storage, runtime).await;
    let data = data.map_err(Error::Register)?;
    let others = connect.map(|connect| txn::others(data.view.clone(), connect));
    let protocol = Protocol::start(bound, &data, others).map_err(Error::Listen)?;
    Ok(Frontend { data, protocol })
}

impl Frontend {
    /// Where it listens: each listener's name and address, the first listener's first.
    pub fn kafka_addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        let addresses = self.protocol.addresses().iter();
        addresses.map(|(name, address)| (name.as_str(), *address))
    }

    /// What other frontends may ask of this one.
    pub fn port(&self) -> Arc<dyn tailwater_rpc::frontend::Frontend> {
        self.protocol.port()
    }

    /// Waits until the journal is open, and every partition assigned to this node at start is open or has failed to open
    /// once. Cancellation-safe.
    pub async fn ready(&self) {
        self.data.ready().await;
    }

    /// Gives the partitions to other frontends, if there are any, and goes on until they have them; then stops intake, answers
    /// what has begun, waits for what is in flight, leaves the cluster.
    pub async fn shutdown(&self) {
        if self.data.hand_over().await {
            self.data.runtime.clock.sleep(REDIRECT).await;
        }
        self.protocol.shutdown().await;
        self.data.shutdown().await;
        if let Err(stragglers) = self.data.runtime.tasks.shutdown(TASKS_END).await {
            tracing::warn!(%stragglers, "tasks were left behind");
        }
    }
}
