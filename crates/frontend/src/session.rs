//! This node's registration at the controller: its epochs, its heartbeat, and its end when it is fenced.
//!
//! Owns: the [`Caller`] that every call to the controller carries. Invariant: once the controller has answered that
//! this node's epoch is stale or fenced, the process is asked to stop with [`EXIT_FENCED`] and nothing more is answered
//! (docs/design.md section 3, "Seal and failover").

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tailwater_rpc::Error;
use tailwater_rpc::controller::{
    Caller, Controller, Endpoint, Heartbeat, NodeState, OpenStream, RegisterNode, Tier, until_answered,
};
use tailwater_runtime::{Backoff, Clock, Random, Runtime};
use tailwater_types::{ClusterId, ControllerEpoch, JournalId, NodeEpoch, NodeId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lease::Lease;

/// Exit code of a process whose node was fenced.
pub const EXIT_FENCED: i32 = 70;

/// How long a heartbeat may take, however short the interval is.
const HEARTBEAT_AT_LEAST: Duration = Duration::from_millis(500);

/// Who a node is, and where it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub node: NodeId,
    /// Its Kafka listeners.
    pub endpoints: Vec<Endpoint>,
    /// Its gRPC port ([`RegisterNode::address`]).
    pub address: Option<String>,
}

/// One registration of this node; clones share it.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    controller: Controller,
    node: NodeId,
    node_epoch: NodeEpoch,
    cluster: ClusterId,
    /// The newest controller term seen.
    controller_epoch: AtomicU64,
    fenced: CancellationToken,
    /// Whether this node has been asked to stop, which every heartbeat tells from then on.
    leaving: AtomicBool,
    /// What the controller asks this node to give away, told again with each of its answers.
    asked: watch::Sender<Vec<OpenStream>>,
    /// Whether the last heartbeat was answered.
    heard: AtomicBool,
    lease: Mutex<Lease>,
    runtime: Runtime,
}

impl Session {
    /// Registers the node, trying again while the controller can't answer.
    ///
    /// # Errors
    /// What trying again can't mend: another tier under this id, another cluster.
    pub async fn register(controller: Controller, identity: Identity, runtime: Runtime) -> Result<Self, Error> {
        let Identity {
            node,
            endpoints,
            address,
        } = identity;
        let request = RegisterNode {
            node,
            tier: Tier::Frontend,
            cluster: None,
            incarnation: runtime.random.u128(),
            endpoints,
            address,
            device: None,
        };
        let register = || {
            let sent = runtime.clock.now();
            let answer = controller.nodes.register(request.clone());
            async move { Ok((sent, answer.await?)) }
        };
        let (sent, registration) = until_answered(&runtime, register).await?;
        let inner = Inner {
            controller,
            node,
            node_epoch: registration.node_epoch,
            cluster: registration.cluster,
            controller_epoch: AtomicU64::new(registration.controller_epoch.0),
            fenced: CancellationToken::new(),
            leaving: AtomicBool::new(false),
            asked: watch::Sender::default(),
            heard: AtomicBool::new(true),
            lease: Mutex::new(Lease::new(sent, registration.lease)),
            runtime,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn controller(&self) -> &Controller {
        &self.inner.controller
    }

    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    pub fn node_epoch(&self) -> NodeEpoch {
        self.inner.node_epoch
    }

    pub fn cluster(&self) -> ClusterId {
        self.inner.cluster
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.runtime.clock
    }

    pub fn random(&self) -> &Random {
        &self.inner.runtime.random
    }

    /// What a call to the controller made now carries.
    pub fn caller(&self) -> Caller {
        Caller {
            node: self.inner.node,
            node_epoch: self.inner.node_epoch,
            controller_epoch: ControllerEpoch(self.inner.controller_epoch.load(Ordering::Relaxed)),
        }
    }

    /// Cancelled once this node is known to be fenced: from then on nobody is to be answered.
    pub fn fenced(&self) -> &CancellationToken {
        &self.inner.fenced
    }

    /// Leaderships that the controller asks this node to give away: told with each answer that names any, and once none is named any more.
    pub fn asked(&self) -> watch::Receiver<Vec<OpenStream>> {
        self.inner.asked.subscribe()
    }

    /// Looks whether the controller's refusal means that this node is fenced, and if so stops the process.
    pub fn judge(&self, error: &Error) {
        match error {
            Error::NodeEpochStale { .. } | Error::NodeFenced { .. } => self.stop(&error.to_string()),
            Error::NotActiveController { term, .. } => self.saw(*term),
            _ => {}
        }
    }

    /// Asks the controller whether this node still is what it was.
    ///
    /// # Errors
    /// What the call failed with; fencing has been judged already.
    pub async fn heartbeat(&self) -> Result<NodeState, Error> {
        let request = Heartbeat {
            controlled_shutdown: self.inner.leaving.load(Ordering::Relaxed),
        };
        let sent = self.clock().now();
        let answer = self.controller().nodes.heartbeat(self.caller(), request).await;
        match answer {
            Ok(answer) => {
                self.saw(answer.controller_epoch);
                if answer.state != NodeState::Fenced {
                    self.inner.lease.lock().renew(sent, answer.lease);
                }
                let is_asked = !answer.asked.is_empty() || !self.inner.asked.borrow().is_empty();
                if is_asked {
                    self.inner.asked.send_replace(answer.asked);
                }
                if answer.state == NodeState::Fenced {
                    self.stop("the controller has fenced this node");
                }
                Ok(answer.state)
            }
            Err(error) => {
                self.judge(&error);
                Err(error)
            }
        }
    }

    /// Tells the controller that a journal was opened and is going to be written, until it answers.
    ///
    /// # Errors
    /// What asking again can't mend: [`Error::JournalFenced`], a fenced node.
    pub async fn confirm_journal(&self, journal: JournalId) -> Result<(), Error> {
        let journals = &self.controller().journals;
        until_answered(&self.inner.runtime, || journals.confirm_journal(self.caller(), journal)).await
    }

    /// Tells the controller that this node wants to leave in order.
    ///
    /// # Errors
    /// As [`Session::heartbeat`].
    pub async fn leave(&self) -> Result<NodeState, Error> {
        self.inner.leaving.store(true, Ordering::Relaxed);
        self.heartbeat().await
    }

    /// Whether nobody can have taken this node's place for its being silent; if it can, only the WAL knows whether somebody has.
    pub(crate) fn is_leased(&self) -> bool {
        self.inner.lease.lock().holds(self.clock().now())
    }

    /// Whether the controller answers; if not, what is known of the cluster is what it said last.
    pub fn is_heard(&self) -> bool {
        self.inner.heard.load(Ordering::Relaxed)
    }

    /// Keeps the lease; runs until its task is dropped. A heartbeat that hangs is given up, so that it doesn't keep back the
    /// next.
    pub async fn keep_alive(self, interval: Duration) {
        let clock = self.clock();
        loop {
            let began = clock.now();
            let within = (interval * 2).max(HEARTBEAT_AT_LEAST);
            let failed = match clock.timeout(within, self.heartbeat()).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_elapsed) => Some(format!("none within {within:?}")),
            };
            let was_heard = self.inner.heard.swap(failed.is_none(), Ordering::Relaxed);
            match &failed {
                None if !was_heard => tracing::info!("heartbeats are answered again"),
                Some(error) if was_heard => tracing::warn!(error, "no answer to a heartbeat; trying on"),
                _ => {}
            }
            clock.sleep_until(began + interval).await;
        }
    }

    pub(crate) fn backoff(&self, first: Duration, max: Duration) -> Backoff {
        self.inner.runtime.backoff(first, max)
    }

    fn saw(&self, epoch: ControllerEpoch) {
        self.inner.controller_epoch.fetch_max(epoch.0, Ordering::Relaxed);
    }

    fn stop(&self, reason: &str) {
        if self.inner.fenced.is_cancelled() {
            return;
        }
        self.inner.fenced.cancel();
        tracing::error!(node = %self.node(), reason, "fenced, stopping at once");
        self.inner.runtime.tasks.fail("session", reason, EXIT_FENCED);
    }
}
