//! Accepting connections.
//!
//! Owns: the listening sockets and the tasks of their connections. Does not own: what a connection does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tailwater_runtime::{ByteSemaphore, CancellationToken, Policy, Runtime, Tasks};
use tokio::net::{TcpListener, TcpStream};

use super::connection::{Connection, Shared};
use super::dispatch::Handlers;
use super::metrics::ServerMetrics;
use super::quiet::Quiet;
use crate::config::ServerConfig;
use crate::listeners::ListenerName;

/// After an accept that failed for want of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// All listeners, running: what is limited is limited for their connections together.
pub(crate) struct Listeners {
    addresses: Vec<(ListenerName, SocketAddr)>,
    tasks: Tasks,
    shutdown_timeout: Duration,
}

impl Listeners {
    pub fn start(
        sockets: Vec<(ListenerName, TcpListener)>,
        config: ServerConfig,
        handlers: Arc<Handlers>,
        metrics: ServerMetrics,
        fenced: CancellationToken,
        runtime: &Runtime,
    ) -> io::Result<Self> {
        let tasks = runtime.tasks.child("kafka");
        let stopping = tasks.token();
        let shutdown_timeout = config.shutdown_timeout.as_duration();
        let shared = Arc::new(Shared {
            memory: ByteSemaphore::new("kafka_requests", config.request_memory.0, &runtime.metrics),
            metrics,
            quiet: Quiet::new(runtime.clock.clone()),
            stopping,
            fenced,
            handlers,
            config,
        });
        let mut addresses = Vec::with_capacity(sockets.len());
        for (name, socket) in sockets {
            addresses.push((name.clone(), socket.local_addr()?));
            let accepting = accept(name, socket, shared.clone(), tasks.clone());
            tasks.spawn("accept", Policy::FATAL_DRAIN, accepting);
        }
        Ok(Self {
            addresses,
            tasks,
            shutdown_timeout,
        })
    }

    /// Where they listen, with the ports that the system chose where it was asked to; the first listener first.
    pub fn addresses(&self) -> &[(ListenerName, SocketAddr)] {
        &self.addresses
    }

    /// Accepts nobody any more, answers the requests that have begun, closes all connections.
    pub async fn shutdown(&self) {
        if let Err(stragglers) = self.tasks.shutdown(self.shutdown_timeout).await {
            tracing::info!(%stragglers, "connections closed with requests unanswered");
        }
    }
}

async fn accept(name: ListenerName, socket: TcpListener, shared: Arc<Shared>, tasks: Tasks) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => begin(&name, stream, peer, &shared, &tasks),
            Err(error) => {
                if let Some(left_out) = shared.quiet.admit() {
                    tracing::warn!(listener = %name, %error, left_out, "can't accept a connection");
                }
                shared.handlers.clock().sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn begin(name: &ListenerName, stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, tasks: &Tasks) {
    shared.metrics.accepted_connections.inc();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection ended");
        return;
    }
    let connection = Connection::new(shared.clone(), name.clone(), peer).run(stream);
    tasks.spawn("connection", Policy::LOGGED_DRAIN, connection);
}
