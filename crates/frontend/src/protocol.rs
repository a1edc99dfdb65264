//! The protocol's half, put together over the data path: coordinators, handlers, listeners.
//!
//! Owns: the order of starting and stopping, and which addresses clients are told. Does not own: the data path (`data`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tailwater_rpc::controller::Endpoint;
use tailwater_rpc::frontend::FrontendDirectory;
use tailwater_runtime::Policy;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::data::Data;
use crate::group::Groups;
use crate::listeners::ListenerName;
use crate::metadata::TopicCreator;
use crate::server::{Handlers, Listeners, ServerMetrics};
use crate::txn::{MarkerWriter, Peers, Port, Transactions};

/// Listening addresses that are taken, and what clients are told of them. Nobody is served yet.
pub(crate) struct Bound {
    sockets: Vec<(ListenerName, TcpListener)>,
    pub endpoints: Vec<Endpoint>,
}

/// The Kafka protocol, being served.
pub(crate) struct Protocol {
    listeners: Listeners,
    groups: Groups,
    transactions: Transactions,
    port: Arc<Port>,
}

/// Takes the listening addresses, before the controller is told of them. What clients are told is not looked up: names may
/// resolve later, or only where the clients are.
///
/// # Errors
/// An address is taken, or not one of this machine.
pub(crate) async fn bind(config: &Config) -> io::Result<Bound> {
    let (mut sockets, mut endpoints) = (Vec::new(), Vec::new());
    for listening in config.all_listeners().map_err(io::Error::other)? {
        let named = |error: io::Error| {
            let setting = listening.setting.of("listen");
            io::Error::new(error.kind(), format!("{setting} {}: {error}", listening.listen))
        };
        let socket = TcpListener::bind(listening.listen).await.map_err(named)?;
        let port = match listening.port {
            0 => socket.local_addr()?.port(),
            port => port,
        };
        let endpoint = Endpoint {
            listener: listening.name.to_owned(),
            host: listening.host.to_owned(),
            port,
        };
        tracing::info!(
            listener = endpoint.listener,
            listen = %socket.local_addr()?,
            advertised = format!("{}:{port}", endpoint.host),
            "Kafka clients of this listener are told this address"
        );
        sockets.push((ListenerName::new(listening.name), socket));
        endpoints.push(endpoint);
    }
    Ok(Bound { sockets, endpoints })
}

impl Protocol {
    /// Serves clients over `data`. `others` is the way to other frontends, if there may be any.
    ///
    /// # Errors
    /// The system's, about the socket.
    pub fn start(bound: Bound, data: &Data, others: Option<Arc<dyn FrontendDirectory>>) -> io::Result<Self> {
        let runtime = &data.runtime;
        let creator = TopicCreator::new(data.session.clone(), data.view.clone());
        let groups = Groups::new(
            data.config.groups.clone(),
            data.session.clone(),
            data.view.clone(),
            data.partitions.clone(),
            creator.clone(),
            runtime,
        );
        runtime
            .tasks
            .spawn("groups", Policy::FATAL_ABORT, groups.clone().follow());
        let markers = MarkerWriter::new(data.partitions.clone(), groups.clone(), runtime.clock.clone());
        let transactions = Transactions::new(
            data.config.transactions.clone(),
            data.session.clone(),
            data.view.clone(),
            data.partitions.clone(),
            creator.clone(),
            Peers::new(data.session.clone(), markers.clone(), others),
            runtime,
        );
        let port = Arc::new(Port::new(data.view.clone(), transactions.clone(), markers.clone()));
        runtime
            .tasks
            .spawn("transactions", Policy::FATAL_ABORT, transactions.clone().follow());
        let metrics = ServerMetrics::new(&runtime.metrics);
        let handlers = Arc::new(Handlers::new(
            data,
            groups.clone(),
            transactions.clone(),
            markers,
            creator,
            metrics.clone(),
        ));
        let (server, fenced) = (data.config.server.clone(), data.session.fenced().clone());
        let listeners = Listeners::start(bound.sockets, server, handlers, metrics, fenced, runtime)?;
        Ok(Self {
            listeners,
            groups,
            transactions,
            port,
        })
    }

    /// Where it listens: each listener's name and address, the first listener's first.
    pub fn addresses(&self) -> &[(ListenerName, SocketAddr)] {
        self.listeners.addresses()
    }

    /// This frontend, for others.
    pub fn port(&self) -> Arc<Port> {
        self.port.clone()
    }

    /// Stops intake: nobody is accepted any more, members that wait are told to look for another coordinator, and what
    /// has begun is answered.
    pub async fn shutdown(&self) {
        self.groups.resign();
        self.transactions.resign();
        self.listeners.shutdown().await;
    }
}
