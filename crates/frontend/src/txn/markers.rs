//! Telling the leaders of partitions how a transaction ended.
//!
//! Owns: one round of it: who leads what as of now, one call a leader, what an outcome means. Does not own: that rounds follow
//! each other until every partition has its marker (`shard.rs`). A marker is repeated with the same content after any outcome
//! that isn't known: partitions recognise it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tailwater_kafka::ErrorCode;
use tailwater_rpc::frontend::MarkerFor;
use tailwater_runtime::{Clock, Random};
use tailwater_types::{LeaderEpoch, NodeId, TopicId};
use tokio::sync::Semaphore;

use super::effects::{Marked, Markers};
use super::peers::Peers;
use super::state::TopicPartition;
use crate::view::View;

const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Transactions of one partition of `__transaction_state` whose markers are on their way at the same time.
const AT_ONCE: usize = 256;

/// Sends markers for one leadership of a coordinator; clones share everything.
#[derive(Clone)]
pub(crate) struct MarkerSender {
    peers: Peers,
    view: View,
    clock: Clock,
    random: Random,
    /// The leader epoch of the coordinator's partition: its successor's markers have a higher one.
    coordinator_epoch: LeaderEpoch,
    turns: Arc<Semaphore>,
}

impl MarkerSender {
    pub fn new(peers: Peers, view: View, clock: Clock, random: Random, coordinator_epoch: LeaderEpoch) -> Self {
        Self {
            peers,
            view,
            clock,
            random,
            coordinator_epoch,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// One round. Behind a failed one it waits first.
    pub async fn send(self, markers: Markers) -> Marked {
        if let Some(failures) = markers.attempt.checked_sub(1) {
            let step = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
            self.clock.sleep(step / 2 + self.random.jitter(step / 2)).await;
        }
        // Never closed.
        let _turn = self.turns.acquire().await;
        let (mut done, by_leader) = self.leaders(&markers);
        let calls = by_leader
            .into_iter()
            .map(|(node, partitions)| self.call(&markers, node, partitions));
        done.extend(join_all(calls).await.into_iter().flatten());
        Marked {
            id: markers.id,
            producer: markers.producer,
            partitions: done,
            attempt: markers.attempt,
        }
    }

    /// Those that are gone, and who leads the others. One that nobody leads now is for the next round.
    #[expect(clippy::type_complexity, reason = "one caller, just above")]
    fn leaders(&self, markers: &Markers) -> (Vec<TopicPartition>, BTreeMap<NodeId, Vec<(TopicId, TopicPartition)>>) {
        let view = self.view.snapshot();
        let (mut gone, mut by_leader) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for at in &markers.partitions {
            let topic = view.topic_named(&at.topic);
            let found = topic.and_then(|topic| Some((topic.info.id, topic.partitions.get(&at.partition)?)));
            match found {
                // It was there when it was added, so it was deleted since.
                None => gone.push(at.clone()),
                Some((topic, info)) => {
                    if let Some(leader) = info.leader {
                        by_leader.entry(leader).or_default().push((topic, at.clone()));
                    }
                }
            }
        }
        (gone, by_leader)
    }

    async fn call(
        &self,
        markers: &Markers,
        node: NodeId,
        partitions: Vec<(TopicId, TopicPartition)>,
    ) -> Vec<TopicPartition> {
        let marker = MarkerFor {
            producer_id: markers.producer.id,
            producer_epoch: markers.producer.epoch,
            is_commit: markers.is_commit,
            coordinator_epoch: self.coordinator_epoch,
            transaction_version: i8::try_from(markers.client_version).unwrap_or(i8::MAX),
            partitions: partitions.iter().map(|(topic, at)| (*topic, at.partition)).collect(),
        };
        let results = match self.peers.write_markers(node, vec![marker]).await {
            Ok(results) => results.into_iter().next().unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%node, %error, transactional_id = markers.id, "markers not written, trying on");
                return Vec::new();
            }
        };
        let is_done = |at: &TopicPartition, error: ErrorCode| {
            let is_over = matches!(
                error,
                ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced
            );
            if is_over {
                let TopicPartition { topic, partition } = at;
                tracing::info!(
                    transactional_id = markers.id,
                    topic,
                    partition,
                    ?error,
                    "a newer marker is there"
                );
            }
            is_over || error == ErrorCode::None
        };
        let answered = partitions.into_iter().zip(results);
        answered
            .filter(|((_, at), error)| is_done(at, *error))
            .map(|((_, at), _)| at)
            .collect()
    }
}
