//! Which node answers for a group, and the way to its groups' owner here.
//!
//! Owns: `__consumer_offsets` (made when it is first needed), the hash from group to partition, one owner for each of its
//! partitions that is led here. Does not own: what owners do (`owner.rs`), which partitions are led here.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tailwater_kafka::ErrorCode;
use tailwater_rpc::controller::NewTopic;
use tailwater_runtime::{Clock, Policy, Tasks};
use tailwater_types::NodeId;
use tokio::sync::{mpsc, oneshot};

use super::effects::{GroupSummary, Limits, Reply, Request};
use super::metrics::GroupMetrics;
use super::owner::{Command, Owner, OwnerHandle};
use super::shard::Shard;
use crate::admin::settings;
use crate::config::GroupsConfig;
use crate::metadata::{TopicCreator, names};
use crate::partition::{Partition, Partitions};
use crate::session::Session;
use crate::view::{Topic, View};

/// Kafka's own setting for the internal topic, shown to tools.
const SEGMENT_BYTES: &str = "104857600";

/// The groups whose coordinator this node is; clones share them.
#[derive(Clone)]
pub(crate) struct Groups {
    inner: Arc<Inner>,
}

struct Inner {
    config: GroupsConfig,
    session: Session,
    view: View,
    partitions: Partitions,
    creator: TopicCreator,
    tasks: Tasks,
    metrics: GroupMetrics,
    /// By partition of the internal topic.
    owners: RwLock<BTreeMap<i32, OwnerHandle>>,
}

impl Groups {
    pub fn new(
        config: GroupsConfig,
        session: Session,
        view: View,
        partitions: Partitions,
        creator: TopicCreator,
        runtime: &tailwater_runtime::Runtime,
    ) -> Self {
        let inner = Inner {
            config,
            session,
            view,
            partitions,
            creator,
            tasks: runtime.tasks.child("groups"),
            metrics: GroupMetrics::new(&runtime.metrics),
            owners: RwLock::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn config(&self) -> &GroupsConfig {
        &self.inner.config
    }

    pub fn clock(&self) -> &Clock {
        self.inner.session.clock()
    }

    /// Keeps one owner for each led partition of the internal topic; runs until its task is dropped.
    pub async fn follow(self) {
        let mut changes = self.inner.partitions.changes();
        loop {
            changes.borrow_and_update();
            self.reconcile();
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Gives up every group: whoever waits is told to look for another coordinator.
    pub fn resign(&self) {
        self.inner.owners.write().clear();
        self.inner.metrics.coordinators.set(0);
    }

    /// Asks a group's owner. Whatever goes wrong is in the reply.
    pub async fn ask(&self, group: String, request: Request) -> Reply {
        let commands = match self.owner_of(&group) {
            Ok(commands) => commands,
            // A group that is being loaded can't miss a heartbeat.
            Err(ErrorCode::CoordinatorLoadInProgress) if matches!(request, Request::Heartbeat(_)) => {
                return Reply::Heartbeat(ErrorCode::None);
            }
            // Java's client takes this error of SyncGroup for fatal; what a loading coordinator has lost is joined anew.
            Err(ErrorCode::CoordinatorLoadInProgress) if matches!(request, Request::Sync(_)) => {
                return request.refused(ErrorCode::RebalanceInProgress);
            }
            Err(error) => return request.refused(error),
        };
        send(&commands, group, request).await
    }

    /// All groups that are coordinated here.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS while some are still being read.
    pub async fn list(&self) -> Result<Vec<GroupSummary>, ErrorCode> {
        let owners: Vec<_> = {
            let (topic, here) = (self.topic(), Some(self.inner.session.node()));
            let owners = self.inner.owners.read();
            let loaded = |owner: &OwnerHandle| owner.is_loaded().then(|| owner.commands.clone());
            // Also of those that are being opened, or given away: nobody else has their groups meanwhile.
            let partitions = topic.iter().flat_map(|topic| &topic.partitions);
            let led = partitions.filter(|(_, info)| info.leader == here);
            led.map(|(index, _)| owners.get(index).and_then(loaded)).collect()
        };
        let mut groups = Vec::new();
        for commands in owners {
            let commands = commands.ok_or(ErrorCode::CoordinatorLoadInProgress)?;
            // An owner that has resigned meanwhile has no groups.
            if let Reply::List(Ok(found)) = send(&commands, String::new(), Request::List).await {
                groups.extend(found);
            }
        }
        Ok(groups)
    }

    /// The node that coordinates `group`, after making the internal topic if there is none.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE while nobody leads the group's partition.
    pub async fn coordinator_of(&self, group: &str) -> Result<NodeId, ErrorCode> {
        let topic = match self.topic() {
            Some(topic) => topic,
            None => self.create_topic().await.ok_or(ErrorCode::CoordinatorNotAvailable)?,
        };
        let partition = topic.partitions.get(&partition_of(group, topic.partitions.len()));
        partition
            .and_then(|partition| partition.leader)
            .ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// What the internal topic is made as.
    pub fn new_topic(&self) -> NewTopic {
        let configs = [
            (settings::CLEANUP_POLICY, "compact"),
            (settings::COMPRESSION_TYPE, "producer"),
            (settings::SEGMENT_BYTES, SEGMENT_BYTES),
        ];
        NewTopic {
            name: names::CONSUMER_OFFSETS.to_owned(),
            partitions: self.inner.config.offsets_topic_partitions,
            configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            internal: true,
            validate_only: false,
        }
    }

    fn topic(&self) -> Option<Arc<Topic>> {
        self.inner.view.snapshot().topic_named(names::CONSUMER_OFFSETS).cloned()
    }

    async fn create_topic(&self) -> Option<Arc<Topic>> {
        match self.inner.creator.ensure(self.new_topic()).await {
            Ok(topic) => Some(topic),
            Err(error) => {
                tracing::info!(%error, "the topic of consumer groups isn't there yet");
                None
            }
        }
    }

    fn owner_of(&self, group: &str) -> Result<mpsc::Sender<Command>, ErrorCode> {
        let topic = self.topic().ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let index = partition_of(group, topic.partitions.len());
        let leader = topic.partitions.get(&index).and_then(|partition| partition.leader);
        if leader != Some(self.inner.session.node()) {
            return Err(ErrorCode::NotCoordinator);
        }
        let owners = self.inner.owners.read();
        match owners.get(&index) {
            Some(owner) if owner.is_loaded() && owner.partition.topic() == topic.info.id => Ok(owner.commands.clone()),
            _ => Err(ErrorCode::CoordinatorLoadInProgress),
        }
    }

    /// An owner for each open partition, none for any other.
    fn reconcile(&self) {
        let topic = self.topic();
        let open: Vec<Arc<Partition>> = topic
            .as_ref()
            .map_or_else(Vec::new, |topic| self.inner.partitions.of_topic(topic.info.id));
        // What is being given away has another coordinator soon, which must not be contradicted.
        let open: Vec<_> = open.into_iter().filter(|partition| !partition.is_closing()).collect();
        let mut owners = self.inner.owners.write();
        owners.retain(|_, owner| open.iter().any(|partition| Arc::ptr_eq(partition, &owner.partition)));
        for partition in open {
            let Some(topic) = &topic else { break };
            let index = partition.index();
            owners
                .entry(index)
                .or_insert_with(|| self.start_owner(partition, topic));
        }
        self.inner
            .metrics
            .coordinators
            .set(i64::try_from(owners.len()).unwrap_or(i64::MAX));
    }

    fn start_owner(&self, partition: Arc<Partition>, topic: &Topic) -> OwnerHandle {
        let limits = Limits {
            initial_rebalance_delay: self.inner.config.initial_rebalance_delay.as_duration(),
            max_size: self.inner.config.max_size,
        };
        let max_batch_bytes = topic.settings.max_message_bytes;
        let name = format!("owner-{}", partition.index());
        let (owner, handle) = Owner::new(
            Shard::new(limits),
            partition,
            max_batch_bytes,
            self.clock().clone(),
            self.inner.metrics.clone(),
        );
        self.inner.tasks.spawn(&name, Policy::LOGGED_ABORT, owner.run());
        handle
    }
}

/// Asks an owner; one whose leadership is over leaves the question unanswered.
async fn send(commands: &mpsc::Sender<Command>, group: String, request: Request) -> Reply {
    let resigned = request.refused(ErrorCode::NotCoordinator);
    let (reply, answer) = oneshot::channel();
    if commands.send(Command { group, request, reply }).await.is_err() {
        return resigned;
    }
    answer.await.unwrap_or(resigned)
}

/// The partition of the internal topic that has a group: Java's hash of its name, made positive as Kafka does.
fn partition_of(group: &str, partitions: usize) -> i32 {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    let count = i32::try_from(partitions).unwrap_or(i32::MAX).max(1);
    positive % count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash is Java's, over UTF-16 units, and its absolute value Kafka's, for which the smallest number is 0.
    #[test]
    fn groups_hash_to_kafkas_partitions() {
        let cases = [
            ("", 50, 0),
            ("a", 50, 47),
            ("console-consumer", 50, 40),
            // Its hash is i32::MIN.
            ("polygenelubricants", 50, 0),
            ("é", 1000, 233),
            ("\u{1f600}x", 50, 39),
        ];
        for (group, partitions, expected) in cases {
            assert_eq!(partition_of(group, partitions), expected, "{group}");
        }
    }
}
