//! Accepting connections.
//!
//! Owns: the listening sockets and the tasks of their connections, and that want of file descriptors keeps only new clients
//! waiting, without spinning. Does not own: what a connection does, who is refused (`admission`).

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tailwater_runtime::{Backoff, ByteSemaphore, CancellationToken, Policy, Runtime, Tasks};
use tokio::net::{TcpListener, TcpStream};

use super::admission::{Admission, Limits};
use super::connection::{Connection, Shared};
use super::dispatch::Handlers;
use super::metrics::ServerMetrics;
use super::quiet::Quiet;
use crate::config::ServerConfig;
use crate::listeners::ListenerName;

/// After an accept that failed for want of file descriptors or memory, unless a connection is closed before.
const ACCEPT_RETRY_FIRST: Duration = Duration::from_millis(100);
const ACCEPT_RETRY_MAX: Duration = Duration::from_secs(1);
/// One line a period about connections that can't be, or aren't, taken.
const LOG_PERIOD: Duration = Duration::from_secs(10);

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
            quiet_accepts: Quiet::once_in(LOG_PERIOD, runtime.clock.clone()),
            quiet_limits: Quiet::once_in(LOG_PERIOD, runtime.clock.clone()),
            admission: Admission::new(Limits {
                all: config.max_connections,
                per_ip: config.max_connections_per_ip,
            }),
            stopping,
            fenced,
            handlers,
            config,
        });
        let mut addresses = Vec::with_capacity(sockets.len());
        for (name, socket) in sockets {
            addresses.push((name.clone(), socket.local_addr()?));
            let retry = runtime.backoff(ACCEPT_RETRY_FIRST, ACCEPT_RETRY_MAX);
            let accepting = accept(name, socket, shared.clone(), tasks.clone(), retry);
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

async fn accept(name: ListenerName, socket: TcpListener, shared: Arc<Shared>, tasks: Tasks, mut retry: Backoff) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if retry.failures() > 0 {
                    retry.reset();
                    tracing::info!(listener = %name, "connections are accepted again");
                }
                begin(&name, stream, peer, &shared, &tasks);
            }
            // The client has given up already, which says nothing about the next one.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                shared.metrics.accept_failures.inc();
                if let Some(left_out) = shared.quiet_accepts.admit() {
                    tracing::warn!(
                        listener = %name, %error, left_out,
                        "can't accept connections, trying again; those that are open go on"
                    );
                }
                // For want of file descriptors, mostly: the client is still waiting, and the socket is ready at once.
                tokio::select! {
                    biased;
                    () = shared.stopping.cancelled() => return,
                    () = retry.wait() => {}
                    () = shared.admission.freed() => {}
                }
            }
        }
    }
}

fn begin(name: &ListenerName, stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, tasks: &Tasks) {
    shared.metrics.accepted_connections.inc();
    let place = match shared.admission.admit(peer.ip()) {
        Ok(place) => place,
        Err(too_many) => {
            shared.metrics.over_limit(too_many.label());
            if let Some(left_out) = shared.quiet_limits.admit() {
                tracing::warn!(%peer, listener = %name, reason = %too_many, left_out, "connection closed at once");
            }
            return;
        }
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "connection ended");
        return;
    }
    let connection = Connection::new(shared.clone(), name.clone(), peer).run(stream);
    tasks.spawn("connection", Policy::LOGGED_DRAIN, async move {
        connection.await;
        drop(place);
    });
}
