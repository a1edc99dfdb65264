//! Markers on their way to the leaders of partitions: one queue a leader.
//!
//! Owns: that markers which wait for the same leader travel together, and how many calls it is asked at once. A leader that is
//! slow holds up its own markers only; calls are numbered, so that one that arrives when it is over is recognised. Does not
//! own: which markers go where (`markers.rs`), how calls travel (`peers.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tailwater_kafka::ErrorCode;
use tailwater_rpc::Result;
use tailwater_rpc::frontend::{CallOrder, MarkerFor};
use tailwater_runtime::{Policy, Tasks};
use tailwater_types::NodeId;
use tokio::sync::{mpsc, oneshot};

use super::peers::Peers;

/// Markers of one call: with more than a thousand partitions each they still fit into a message of gRPC.
const MOST_MARKERS: usize = 128;
/// Calls to one leader. What comes while these are on their way is for the next one.
const CALLS_AT_ONCE: usize = 4;
/// Markers that wait for one leader; who brings more waits.
const MOST_WAITING: usize = 1024;

/// A marker, and where its partitions' outcomes go; dropped if they aren't known.
struct Waiting {
    marker: MarkerFor,
    outcome: oneshot::Sender<Vec<ErrorCode>>,
}

/// Clones share everything.
#[derive(Clone)]
pub(super) struct Outbox {
    peers: Peers,
    tasks: Tasks,
    leaders: Arc<Mutex<BTreeMap<NodeId, mpsc::Sender<Waiting>>>>,
    /// The number of the last call to any of them.
    calls: Arc<AtomicU64>,
}

impl Outbox {
    pub fn new(peers: Peers, tasks: Tasks) -> Self {
        Self {
            peers,
            tasks,
            leaders: Arc::default(),
            calls: Arc::default(),
        }
    }

    /// What became of a marker at each of its partitions, in its order; `None` if that isn't known.
    pub async fn write(&self, leader: NodeId, marker: MarkerFor) -> Option<Vec<ErrorCode>> {
        if self.peers.is_here(leader) {
            // No call that could be late.
            let order = CallOrder::default();
            let written = self.peers.write_markers(leader, order, vec![marker]).await;
            return written.ok()?.into_iter().next();
        }
        let (outcome, told) = oneshot::channel();
        let waiting = Waiting { marker, outcome };
        self.queue(leader).send(waiting).await.ok()?;
        told.await.ok()
    }

    fn queue(&self, leader: NodeId) -> mpsc::Sender<Waiting> {
        let mut leaders = self.leaders.lock();
        if let Some(queue) = leaders.get(&leader).filter(|queue| !queue.is_closed()) {
            return queue.clone();
        }
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let peers = self.peers.clone();
        let call = move |order, markers| {
            let peers = peers.clone();
            async move { peers.write_markers(leader, order, markers).await }
        };
        let name = format!("markers-{leader}");
        let sending = send_all(leader, waiting, self.calls.clone(), call);
        self.tasks.spawn(&name, Policy::LOGGED_ABORT, sending);
        leaders.insert(leader, queue.clone());
        queue
    }
}

/// Sends what waits for a leader until nobody can bring more.
async fn send_all<C, F>(leader: NodeId, mut waiting: mpsc::Receiver<Waiting>, last_call: Arc<AtomicU64>, call: C)
where
    C: Fn(CallOrder, Vec<MarkerFor>) -> F,
    F: Future<Output = Result<Vec<Vec<ErrorCode>>>>,
{
    let mut calls = FuturesUnordered::new();
    let mut under_way = BTreeSet::new();
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(number) = calls.next() => {
                under_way.remove(&number);
            }
            count = waiting.recv_many(&mut batch, MOST_MARKERS), if calls.len() < CALLS_AT_ONCE => {
                if count == 0 {
                    break;
                }
                let number = 1 + last_call.fetch_add(1, Ordering::Relaxed);
                under_way.insert(number);
                let over_below = under_way.first().copied().unwrap_or(number);
                let order = CallOrder { number, over_below };
                calls.push(send(leader, order, std::mem::take(&mut batch), &call));
            }
        }
    }
    while calls.next().await.is_some() {}
}

/// Answers the call's number once it is over.
async fn send<C, F>(leader: NodeId, order: CallOrder, batch: Vec<Waiting>, call: &C) -> u64
where
    C: Fn(CallOrder, Vec<MarkerFor>) -> F,
    F: Future<Output = Result<Vec<Vec<ErrorCode>>>>,
{
    // Whose coordinator has resigned meanwhile is for its successor.
    let wanted = batch.into_iter().filter(|one| !one.outcome.is_closed());
    let (markers, outcomes): (Vec<_>, Vec<_>) = wanted.map(|one| (one.marker, one.outcome)).unzip();
    if markers.is_empty() {
        return order.number;
    }
    match call(order, markers).await {
        Ok(found) => {
            for (outcome, found) in outcomes.into_iter().zip(found) {
                // An error: its coordinator has resigned.
                drop(outcome.send(found));
            }
        }
        Err(error) => tracing::debug!(%leader, %error, markers = outcomes.len(), "markers not written"),
    }
    order.number
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use tailwater_rpc::Error;
    use tailwater_types::{LeaderEpoch, Outcome};

    use super::*;

    fn marker(producer_id: i64) -> MarkerFor {
        MarkerFor {
            producer_id,
            producer_epoch: 1,
            is_commit: true,
            coordinator_epoch: LeaderEpoch(0),
            transaction_version: 2,
            partitions: Vec::new(),
        }
    }

    async fn write(queue: &mpsc::Sender<Waiting>, producer_id: i64) -> Option<Vec<ErrorCode>> {
        let (outcome, told) = oneshot::channel();
        let marker = marker(producer_id);
        assert!(queue.send(Waiting { marker, outcome }).await.is_ok());
        told.await.ok()
    }

    /// Transactions that end while calls are on their way share the next one, each is told its own outcome, and who was in a
    /// call that failed is told of none.
    #[tokio::test(start_paused = true)]
    async fn markers_for_one_leader_travel_together() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let call = {
            let calls = calls.clone();
            move |order: CallOrder, markers: Vec<MarkerFor>| {
                calls.lock().push((markers.len(), order));
                async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    if markers.iter().any(|marker| marker.producer_id == 0) {
                        return Err(Error::Unavailable {
                            detail: "as asked for".to_owned(),
                            outcome: Outcome::Unknown,
                        });
                    }
                    let of = |marker: &MarkerFor| match marker.producer_id % 2 {
                        0 => vec![ErrorCode::None],
                        _ => vec![ErrorCode::InvalidProducerEpoch],
                    };
                    Ok(markers.iter().map(of).collect())
                }
            }
        };
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let queue = &queue;
        let after = |ms, id| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            write(queue, id).await
        };
        // The first ones fill the calls, one each.
        let first = join_all((0..CALLS_AT_ONCE as u64).map(|number| after(number, number.cast_signed())));
        let many = join_all((10..10 + 2 * MOST_MARKERS as i64).map(|id| after(5, id)));
        let told = tokio::select! {
            biased;
            told = async { tokio::join!(first, many) } => told,
            () = send_all(NodeId(2), waiting, Arc::default(), call) => panic!("it ended while somebody could bring more"),
        };
        let (first, many) = told;
        assert_eq!(first[0], None, "its call failed");
        assert!(first[1..].iter().all(Option::is_some));
        for (id, told) in (10..).zip(many) {
            let expected = match id % 2 {
                0 => ErrorCode::None,
                _ => ErrorCode::InvalidProducerEpoch,
            };
            assert_eq!(told, Some(vec![expected]), "{id}");
        }
        let (sizes, orders): (Vec<_>, Vec<_>) = calls.lock().iter().copied().unzip();
        assert_eq!(sizes, [1, 1, 1, 1, MOST_MARKERS, MOST_MARKERS]);
        // The first one is over, without an outcome, when the fifth is sent.
        let orders: Vec<_> = orders.iter().map(|order| (order.number, order.over_below)).collect();
        assert_eq!(orders, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 3)]);
    }
}
