//! This node's registration at the controller: the epochs that its calls carry, and its heartbeat.
//!
//! A compactor that learns that it is fenced asks for the process to stop at once (exit code 70).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tailwater_rpc::controller::{Caller, Controller, Heartbeat, NodeState, RegisterNode, Tier, until_answered};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::{Backoff, Runtime};
use tailwater_types::{ControllerEpoch, NodeEpoch, NodeId, Outcome};

/// Exit code of a process whose node was fenced.
const EXIT_FENCED: i32 = 70;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long an answer to a heartbeat may take, however short the interval is.
const ANSWER_AT_LEAST: Duration = Duration::from_millis(500);

/// One registration; clones share it.
#[derive(Clone)]
pub(crate) struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    controller: Controller,
    runtime: Runtime,
    node: NodeId,
    node_epoch: NodeEpoch,
    /// The newest controller term seen.
    controller_epoch: AtomicU64,
}

impl Session {
    /// Registers, trying again for as long as the controller can't answer.
    ///
    /// # Errors
    /// What trying again doesn't mend.
    pub async fn register(controller: Controller, node: NodeId, runtime: Runtime) -> Result<Self> {
        let request = RegisterNode {
            node,
            tier: Tier::Compactor,
            cluster: None,
            incarnation: runtime.random.u128(),
            endpoints: Vec::new(),
            address: None,
            device: None,
        };
        let register = || controller.nodes.register(request.clone());
        let registration = until_answered(&runtime, register).await?;
        let inner = Inner {
            controller,
            runtime,
            node,
            node_epoch: registration.node_epoch,
            controller_epoch: AtomicU64::new(registration.controller_epoch.0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn controller(&self) -> &Controller {
        &self.inner.controller
    }

    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// The waits between attempts at one thing.
    pub fn backoff(&self) -> Backoff {
        self.inner.runtime.backoff(RETRY_FIRST, RETRY_MAX)
    }

    /// What a call made now carries.
    pub fn caller(&self) -> Caller {
        Caller {
            node: self.inner.node,
            node_epoch: self.inner.node_epoch,
            controller_epoch: ControllerEpoch(self.inner.controller_epoch.load(Ordering::Relaxed)),
        }
    }

    /// Reports to the controller until its task ends.
    pub async fn keep_alive(self, interval: Duration) {
        let mut reachable = true;
        loop {
            // One that hangs doesn't keep back the next.
            let within = (interval * 2).max(ANSWER_AT_LEAST);
            let answer = self.inner.runtime.clock.timeout(within, self.heartbeat(false)).await;
            let answer = answer.unwrap_or_else(|_elapsed| {
                Err(Error::Unavailable {
                    detail: "the controller doesn't answer in time".to_owned(),
                    outcome: Outcome::Unknown,
                })
            });
            match answer {
                Ok(NodeState::Fenced) => return self.stop("the controller has fenced this node"),
                Err(error @ (Error::NodeEpochStale { .. } | Error::NodeFenced { .. })) => {
                    return self.stop(&error.to_string());
                }
                Err(error) => {
                    if std::mem::take(&mut reachable) {
                        tracing::warn!(%error, "no answer to a heartbeat; trying on");
                    }
                }
                Ok(_) => {
                    if !std::mem::replace(&mut reachable, true) {
                        tracing::info!("heartbeats are answered again");
                    }
                }
            }
            self.inner.runtime.clock.sleep(interval).await;
        }
    }

    /// One report; `leaving` says that the node wants to stop in order.
    pub async fn heartbeat(&self, leaving: bool) -> Result<NodeState> {
        let request = Heartbeat {
            controlled_shutdown: leaving,
        };
        let answer = self.controller().nodes.heartbeat(self.caller(), request).await;
        match answer {
            Ok(answer) => {
                self.saw(answer.controller_epoch);
                Ok(answer.state)
            }
            Err(error) => {
                if let Error::NotActiveController { term, .. } = error {
                    self.saw(term);
                }
                Err(error)
            }
        }
    }

    fn saw(&self, epoch: ControllerEpoch) {
        self.inner.controller_epoch.fetch_max(epoch.0, Ordering::Relaxed);
    }

    fn stop(&self, reason: &str) {
        tracing::error!(node = %self.inner.node, reason, "fenced, stopping at once");
        self.inner.runtime.tasks.fail("session", reason, EXIT_FENCED);
    }
}
