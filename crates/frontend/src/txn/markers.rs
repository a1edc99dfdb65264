//! Telling the leaders of partitions how a transaction ended.
//!
//! Owns: one round of it: who leads what as of now, what an outcome means. Does not own: that rounds follow each other until
//! every partition has its marker (`shard.rs`), calls (`outbox.rs`). A marker is repeated with the same content after any outcome
//! that isn't known: partitions recognise it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tailwater_kafka::ErrorCode;
use tailwater_rpc::frontend::{MarkedPartition, MarkerFor};
use tailwater_runtime::{Clock, Random};
use tailwater_types::{LeaderEpoch, NodeId};

use super::effects::{Marked, Markers};
use super::outbox::Outbox;
use super::state::TopicPartition;
use crate::view::View;

const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Behind so many rounds, which take about a minute, somebody should know of a transaction that can't be ended.
const STUCK_AFTER: u32 = 80;

/// Sends markers for one leadership of a coordinator; clones share everything.
#[derive(Clone)]
pub(crate) struct MarkerSender {
    outbox: Outbox,
    view: View,
    clock: Clock,
    random: Random,
    /// The leader epoch of the coordinator's partition: its successor's markers have a higher one.
    coordinator_epoch: LeaderEpoch,
}

impl MarkerSender {
    pub fn new(outbox: Outbox, view: View, clock: Clock, random: Random, coordinator_epoch: LeaderEpoch) -> Self {
        Self {
            outbox,
            view,
            clock,
            random,
            coordinator_epoch,
        }
    }

    /// One round. Behind a failed one it waits first.
    pub async fn send(self, markers: Markers) -> Marked {
        if let Some(failures) = markers.attempt.checked_sub(1) {
            let step = RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(RETRY_MAX);
            self.clock.sleep(step / 2 + self.random.jitter(step / 2)).await;
        }
        let (mut done, by_leader) = self.leaders(&markers);
        let calls = by_leader
            .into_iter()
            .map(|(node, partitions)| self.call(&markers, node, partitions));
        done.extend(join_all(calls).await.into_iter().flatten());
        if markers.attempt == STUCK_AFTER && done.len() < markers.partitions.len() {
            let left: Vec<_> = markers.partitions.iter().filter(|at| !done.contains(at)).collect();
            tracing::warn!(
                transactional_id = markers.id,
                is_commit = markers.is_commit,
                partitions = left.len(),
                first = ?left[0],
                "a transaction that was decided long ago can't be ended everywhere, trying on"
            );
        }
        Marked {
            id: markers.id,
            producer: markers.producer,
            partitions: done,
            attempt: markers.attempt,
        }
    }

    /// Those that are gone, and who leads the others. One that nobody leads now is for the next round.
    #[expect(clippy::type_complexity, reason = "one caller, just above")]
    fn leaders(
        &self,
        markers: &Markers,
    ) -> (
        Vec<TopicPartition>,
        BTreeMap<NodeId, Vec<(MarkedPartition, TopicPartition)>>,
    ) {
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
                        let marked = MarkedPartition {
                            topic,
                            index: at.partition,
                            leader_epoch: Some(info.leader_epoch),
                        };
                        by_leader.entry(leader).or_default().push((marked, at.clone()));
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
        partitions: Vec<(MarkedPartition, TopicPartition)>,
    ) -> Vec<TopicPartition> {
        let marker = MarkerFor {
            producer_id: markers.producer.id,
            producer_epoch: markers.producer.epoch,
            is_commit: markers.is_commit,
            coordinator_epoch: self.coordinator_epoch,
            transaction_version: i8::try_from(markers.client_version).unwrap_or(i8::MAX),
            partitions: partitions.iter().map(|(marked, _)| *marked).collect(),
        };
        let results = self.outbox.write(node, marker).await.unwrap_or_default();
        let is_done = |at: &TopicPartition, error: ErrorCode| {
            let TopicPartition { topic, partition } = at;
            let transactional_id = &markers.id;
            match error {
                ErrorCode::None => true,
                ErrorCode::InvalidProducerEpoch => {
                    tracing::info!(transactional_id, topic, partition, "a newer marker is there");
                    true
                }
                // Either this leadership is over, and its successor sends markers, or the partition was told an epoch that no
                // coordinator has had: then its transaction is open still.
                error => {
                    tracing::debug!(transactional_id, topic, partition, ?error, "a marker isn't written");
                    false
                }
            }
        };
        let answered = partitions.into_iter().zip(results);
        answered
            .filter(|((_, at), error)| is_done(at, *error))
            .map(|((_, at), _)| at)
            .collect()
    }
}
