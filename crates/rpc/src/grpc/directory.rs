//! Which WAL node has which device, as the controller knows it, and a client for each.
//!
//! Owns: one client a node, made anew when its address changes and dropped when it is gone. While the controller can't be
//! asked, what it said last goes on. Does not own: what a client does with its address.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tailwater_runtime::Runtime;
use tailwater_types::{DeviceId, NodeId};

use super::wal::WalClient;
use crate::Result;
use crate::controller::{NodeInfo, NodeState, Nodes, Tier};
use crate::wal::{Wal, WalDirectory};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Makes a client for the WAL node at an address (HOST:PORT), without waiting for it.
pub type ConnectWal = dyn Fn(&str) -> Result<Arc<dyn Wal>> + Send + Sync;

/// The WAL nodes that are registered at a controller, found by their devices.
#[derive(Clone)]
pub struct RemoteWals {
    inner: Arc<Inner>,
}

struct Inner {
    nodes: Arc<dyn Nodes>,
    connect: Box<ConnectWal>,
    known: Mutex<Known>,
    runtime: Runtime,
}

#[derive(Default)]
struct Known {
    clients: BTreeMap<NodeId, Client>,
    devices: BTreeMap<DeviceId, NodeId>,
}

struct Client {
    address: String,
    wal: Arc<dyn Wal>,
}

impl RemoteWals {
    /// Knows nobody until [`RemoteWals::follow`] runs.
    pub fn new(nodes: Arc<dyn Nodes>, connect: Box<ConnectWal>, runtime: Runtime) -> Self {
        let inner = Inner {
            nodes,
            connect,
            known: Mutex::default(),
            runtime,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The nodes at the other end of gRPC. To be made inside a tokio runtime.
    pub fn over_grpc(nodes: Arc<dyn Nodes>, runtime: Runtime) -> Self {
        let within = runtime.clone();
        let connect = move |address: &str| {
            let wal: Arc<dyn Wal> = Arc::new(WalClient::new(address, within.clone())?);
            Ok(wal)
        };
        Self::new(nodes, Box::new(connect), runtime)
    }

    /// Follows the controller's list of nodes until it is dropped.
    pub async fn follow(self) {
        let mut retry = self.inner.runtime.backoff(RETRY_FIRST, RETRY_MAX);
        let mut reached = true;
        loop {
            let ended = match self.inner.nodes.watch_nodes().await {
                Ok(mut lists) => loop {
                    match lists.next().await {
                        Some(Ok(nodes)) => {
                            retry.reset();
                            reached = true;
                            self.take(&nodes);
                        }
                        Some(Err(error)) => break error.to_string(),
                        None => break "the list of nodes has ended".to_owned(),
                    }
                },
                Err(error) => error.to_string(),
            };
            if std::mem::take(&mut reached) {
                tracing::info!(
                    reason = ended,
                    "the WAL nodes are those known so far until the controller answers"
                );
            }
            retry.wait().await;
        }
    }

    /// The nodes as they are now.
    fn take(&self, nodes: &[NodeInfo]) {
        let mut known = self.inner.known.lock();
        let mut before = std::mem::take(&mut *known);
        for node in nodes {
            let (Some(device), Some(address)) = (node.device, &node.address) else {
                continue;
            };
            if node.tier != Tier::Wal || node.state == NodeState::Gone {
                continue;
            }
            let client = match before.clients.remove(&node.node) {
                Some(client) if client.address == *address => client,
                _ => match (self.inner.connect)(address) {
                    Ok(wal) => {
                        tracing::info!(node = %node.node, address, %device, "found a WAL node");
                        let address = address.clone();
                        Client { address, wal }
                    }
                    Err(error) => {
                        tracing::error!(node = %node.node, address, %error, "a WAL node can't be reached at its address");
                        continue;
                    }
                },
            };
            known.clients.insert(node.node, client);
            known.devices.insert(device, node.node);
        }
    }
}

impl WalDirectory for RemoteWals {
    fn wal(&self, device: DeviceId) -> Option<Arc<dyn Wal>> {
        let known = self.inner.known.lock();
        let node = known.devices.get(&device)?;
        known.clients.get(node).map(|client| client.wal.clone())
    }
}
