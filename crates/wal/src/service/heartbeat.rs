//! Keeps the node's lease, and stops the process once the controller takes it for another's.

use std::sync::Arc;
use std::time::Duration;

use tailwater_rpc::Error;
use tailwater_rpc::controller::{Caller, Heartbeat, NodeState, Nodes};
use tailwater_runtime::{Clock, Tasks};
use tailwater_types::{Kind, Outcome};

/// Requirement 16: a fenced node stops its process at once, with this code.
const EXIT_FENCED: i32 = 70;

/// How long an answer may take however short the interval is. One that hangs doesn't keep back the next heartbeat.
const ANSWER_AT_LEAST: Duration = Duration::from_millis(500);

/// Runs until dropped, or until the node is fenced.
pub(super) async fn run(nodes: Arc<dyn Nodes>, mut caller: Caller, interval: Duration, clock: Clock, tasks: Tasks) {
    let mut reachable = true;
    loop {
        clock.sleep(interval).await;
        let answer = clock.timeout(
            (interval * 2).max(ANSWER_AT_LEAST),
            nodes.heartbeat(caller, Heartbeat::default()),
        );
        let answer = answer.await.unwrap_or_else(|_elapsed| {
            Err(Error::Unavailable {
                detail: "the controller doesn't answer in time".to_owned(),
                outcome: Outcome::Unknown,
            })
        });
        match answer {
            Ok(answer) if answer.state == NodeState::Fenced => {
                return fenced(&tasks, "the controller has fenced this node");
            }
            Ok(answer) => {
                caller.controller_epoch = caller.controller_epoch.max(answer.controller_epoch);
                if !std::mem::replace(&mut reachable, true) {
                    tracing::info!("heartbeats are answered again");
                }
            }
            Err(error) if error.kind() == Kind::Fenced => return fenced(&tasks, &error.to_string()),
            Err(error) => {
                if std::mem::take(&mut reachable) && !tasks.token().is_cancelled() {
                    tracing::warn!(%error, "no answer to a heartbeat; trying on");
                }
            }
        }
    }
}

fn fenced(tasks: &Tasks, reason: &str) {
    tracing::error!(reason, "fenced");
    tasks.fail("heartbeat", reason, EXIT_FENCED);
}
