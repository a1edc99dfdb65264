//! The protocol's half, put together over the data path: coordinators, handlers, listener.
//!
//! Owns: the order of starting and stopping, and which address clients are told. Does not own: the data path (`data`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tailwater_rpc::controller::Endpoint;
use tailwater_runtime::Policy;
use tokio::net::TcpListener;

use crate::config::ServerConfig;
use crate::data::Data;
use crate::group::Groups;
use crate::metadata::TopicCreator;
use crate::server::{Handlers, Listener, ServerMetrics};

/// A listening address that is taken, and what clients are told of it. Nobody is served yet.
pub(crate) struct Bound {
    socket: TcpListener,
    pub endpoint: Endpoint,
}

/// The Kafka protocol, being served.
pub(crate) struct Protocol {
    listener: Listener,
    groups: Groups,
}

/// Takes the listening address, before the controller is told of it.
///
/// # Errors
/// The address is taken, or not one of this machine.
pub(crate) async fn bind(config: &ServerConfig) -> io::Result<Bound> {
    let named = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("frontend.server.listen {}: {error}", config.listen),
        )
    };
    let socket = TcpListener::bind(&config.listen).await.map_err(named)?;
    let port = socket.local_addr()?.port();
    let (host, advertised_port) = config.advertised().map_err(io::Error::other)?;
    let port = if advertised_port == 0 { port } else { advertised_port };
    let endpoint = Endpoint {
        listener: "PLAINTEXT".to_owned(),
        host: host.to_owned(),
        port,
    };
    Ok(Bound { socket, endpoint })
}

impl Protocol {
    /// Serves clients over `data`.
    ///
    /// # Errors
    /// The system's, about the socket.
    pub fn start(bound: Bound, data: &Data) -> io::Result<Self> {
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
        let metrics = ServerMetrics::new(&runtime.metrics);
        let handlers = Arc::new(Handlers::new(data, groups.clone(), creator, metrics.clone()));
        let (server, fenced) = (data.config.server.clone(), data.session.fenced().clone());
        let listener = Listener::start(bound.socket, server, handlers, metrics, fenced, runtime)?;
        Ok(Self { listener, groups })
    }

    /// Where it listens: with the port that the system chose, if it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Stops intake: nobody is accepted any more, members that wait are told to look for another coordinator, and what
    /// has begun is answered.
    pub async fn shutdown(&self) {
        self.groups.resign();
        self.listener.shutdown().await;
    }
}
