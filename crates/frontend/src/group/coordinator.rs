//! The groups whose coordinator this node is.
//!
//! Owns: `__consumer_offsets` as a topic, and what members of groups that are being loaded are told. Does not own: owners
//! and the way to them (`crate::coordinator`).

use std::sync::Arc;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_log::TransactionMarker;
use tailwater_rpc::controller::NewTopic;
use tailwater_runtime::Clock;
use tailwater_types::NodeId;

use super::effects::{GroupSummary, Limits, Reply, Request};
use super::machine::GroupMachine;
use super::metrics::GroupMetrics;
use super::shard::Shard;
use crate::admin::settings;
use crate::config::GroupsConfig;
use crate::coordinator::{Host, Hosted};
use crate::metadata::{TopicCreator, names};
use crate::partition::{Partition, Partitions};
use crate::session::Session;
use crate::view::View;

/// Kafka's own setting for the internal topic, shown to tools.
const SEGMENT_BYTES: &str = "104857600";
/// How long a commit is waited for: Kafka's `offsets.commit.timeout.ms`.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Clones share everything.
#[derive(Clone)]
pub(crate) struct Groups {
    config: Arc<GroupsConfig>,
    host: Host<GroupMachine>,
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
        let metrics = GroupMetrics::new(&runtime.metrics);
        let limits = Limits::new(&config);
        let topics = view.clone();
        let hosted = Hosted {
            topic: new_topic(&config),
            coordinators: metrics.coordinators.clone(),
            loading: metrics.loading.clone(),
            failed: metrics.failed.clone(),
            new_machine: Box::new(move |_| {
                GroupMachine::new(Shard::new(limits.clone()), topics.clone(), metrics.clone())
            }),
        };
        let host = Host::new(
            hosted,
            session,
            view,
            partitions,
            creator,
            runtime.tasks.child("groups"),
        );
        Self {
            config: Arc::new(config),
            host,
        }
    }

    pub fn config(&self) -> &GroupsConfig {
        &self.config
    }

    pub fn clock(&self) -> &Clock {
        self.host.clock()
    }

    /// Keeps one owner for each led partition of the internal topic; runs until its task is dropped.
    pub async fn follow(self) {
        self.host.follow().await;
    }

    /// Gives up every group: whoever waits is told to look for another coordinator.
    pub fn resign(&self) {
        self.host.resign();
    }

    /// Asks a group's owner. Whatever goes wrong is in the reply.
    pub async fn ask(&self, group: String, request: Request) -> Reply {
        let owner = match self.host.owner_of(&group) {
            Ok(owner) => owner,
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
        owner.ask(group, request).await
    }

    /// Asks for a commit of offsets, and waits for it only so long: one connection's requests are answered in order, and its
    /// member's heartbeats are behind. What is written later counts all the same, as with Kafka.
    pub async fn commit(&self, group: String, request: Request) -> ErrorCode {
        match self.clock().timeout(COMMIT_TIMEOUT, self.ask(group, request)).await {
            Ok(reply) => reply.into_commit(),
            Err(_elapsed) => ErrorCode::CoordinatorNotAvailable,
        }
    }

    /// Ends a producer's transaction in all groups of a partition of the internal topic that is coordinated here. Their
    /// owner writes the marker, so that what it knows is what the log says.
    pub async fn end_transaction(&self, index: i32, marker: TransactionMarker) -> ErrorCode {
        let request = Request::EndTransaction(marker);
        let owner = match self.host.owner_at(index) {
            Ok(owner) => owner,
            Err(error) => return error,
        };
        owner.ask(String::new(), request).await.into_ended()
    }

    /// The log of a group that is coordinated here.
    ///
    /// # Errors
    /// The code for clients.
    pub fn log_of(&self, group: &str) -> Result<Arc<Partition>, ErrorCode> {
        self.host.log_of(group)
    }

    /// All groups that are coordinated here.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS while some are still being read.
    pub async fn list(&self) -> Result<Vec<GroupSummary>, ErrorCode> {
        let mut groups = Vec::new();
        for owner in self.host.all_owners()? {
            // An owner that has resigned meanwhile has no groups.
            let found = owner.ask(String::new(), Request::List).await.into_list();
            groups.extend(found.unwrap_or_default());
        }
        Ok(groups)
    }

    /// The node that coordinates `group`, after making the internal topic if there is none.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE while nobody leads the group's partition.
    pub async fn coordinator_of(&self, group: &str) -> Result<NodeId, ErrorCode> {
        self.host.coordinator_of(group).await
    }

    /// The partition of the internal topic that has `group`, after making the topic if there is none.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE without the topic.
    pub async fn partition_of(&self, group: &str) -> Result<i32, ErrorCode> {
        self.host.partition_of(group).await
    }

    /// What the internal topic is made as.
    pub fn new_topic(&self) -> NewTopic {
        self.host.new_topic().clone()
    }
}

fn new_topic(config: &GroupsConfig) -> NewTopic {
    let configs = [
        (settings::CLEANUP_POLICY, "compact"),
        (settings::COMPRESSION_TYPE, "producer"),
        (settings::SEGMENT_BYTES, SEGMENT_BYTES),
    ];
    NewTopic {
        name: names::CONSUMER_OFFSETS.to_owned(),
        partitions: config.offsets_topic_partitions,
        configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        internal: true,
        validate_only: false,
    }
}
