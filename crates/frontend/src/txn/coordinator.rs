//! The transactional ids whose coordinator this node is, and the way to the others.
//!
//! Owns: `__transaction_state` as a topic, producer ids for those that need one, and which partitions a transaction may
//! have. Does not own: owners and the way to them (`crate::coordinator`), decisions (`shard.rs`).

use std::sync::Arc;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_rpc::controller::NewTopic;
use tailwater_rpc::frontend::{AddPartitions, Peer};
use tailwater_runtime::Runtime;
use tailwater_runtime::clock::Instant;
use tailwater_types::NodeId;

use super::effects::{Limits, Reply, Request, Summary};
use super::machine::TxnMachine;
use super::markers::MarkerSender;
use super::metrics::TxnMetrics;
use super::outbox::Outbox;
use super::peers::Peers;
use super::shard::Shard;
use super::state::{EPOCH_PER_TRANSACTION, ProducerRef, TopicPartition, Transaction};
use crate::admin::settings;
use crate::config::TransactionsConfig;
use crate::coordinator::{Host, Hosted};
use crate::error_codes;
use crate::metadata::{ProducerIdPool, TopicCreator, names};
use crate::partition::Partitions;
use crate::session::Session;
use crate::view::View;

/// Between two questions, about as Kafka's `add.partitions.to.txn.retry.backoff.ms`: while the last transaction is ending.
const RETRY: Duration = Duration::from_millis(20);
/// While the coordinator is away the pause doubles up to this.
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Kafka's own setting for the internal topic, shown to tools.
const SEGMENT_BYTES: &str = "104857600";
/// How long a request may wait for the end of the last transaction.
const PATIENCE: Duration = Duration::from_secs(1);

/// Clones share everything.
#[derive(Clone)]
pub(crate) struct Transactions {
    config: Arc<TransactionsConfig>,
    session: Session,
    view: View,
    host: Host<TxnMachine>,
    peers: Peers,
    ids: Arc<ProducerIdPool>,
}

impl Transactions {
    pub fn new(
        config: TransactionsConfig,
        session: Session,
        view: View,
        partitions: Partitions,
        creator: TopicCreator,
        peers: Peers,
        runtime: &Runtime,
    ) -> Self {
        let metrics = TxnMetrics::new(&runtime.metrics);
        let limits = Limits {
            id_expiration: config.id_expiration.as_duration(),
            patience: PATIENCE,
        };
        let hosted = Hosted {
            topic: new_topic(&config),
            coordinators: metrics.coordinators.clone(),
            loading: metrics.loading.clone(),
            failed: metrics.failed.clone(),
            new_machine: {
                let (outbox, view, clock, random) = (
                    Outbox::new(peers.clone(), runtime.tasks.child("markers")),
                    view.clone(),
                    runtime.clock.clone(),
                    runtime.random.clone(),
                );
                Box::new(move |partition| {
                    let epoch = partition.leader_epoch();
                    let sender = MarkerSender::new(outbox.clone(), view.clone(), clock.clone(), random.clone(), epoch);
                    TxnMachine::new(Shard::new(limits.clone()), sender, metrics.clone())
                })
            },
        };
        let tasks = runtime.tasks.child("transactions");
        let host = Host::new(hosted, session.clone(), view.clone(), partitions, creator, tasks);
        Self {
            config: Arc::new(config),
            ids: Arc::new(ProducerIdPool::new(session.clone())),
            session,
            view,
            host,
            peers,
        }
    }

    pub fn config(&self) -> &TransactionsConfig {
        &self.config
    }

    /// Keeps one owner for each led partition of the internal topic; runs until its task is dropped.
    pub async fn follow(self) {
        self.host.follow().await;
    }

    /// Gives every transactional id up: whoever waits is told to look for another coordinator.
    pub fn resign(&self) {
        self.host.resign();
    }

    /// The node that coordinates a transactional id, after making the internal topic if there is none.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE while nobody leads the id's partition.
    pub async fn coordinator_of(&self, id: &str) -> Result<NodeId, ErrorCode> {
        self.host.coordinator_of(id).await
    }

    /// How this node names itself to others.
    pub fn me(&self) -> Peer {
        self.peers.me()
    }

    /// What the internal topic is made as.
    pub fn new_topic(&self) -> NewTopic {
        self.host.new_topic().clone()
    }

    /// A producer id that nobody else gets, ever.
    ///
    /// # Errors
    /// The code for clients.
    pub async fn new_producer_id(&self) -> Result<i64, ErrorCode> {
        self.ids.next().await.map_err(|error| {
            tracing::info!(%error, "no producer id for now");
            error_codes::of_producer_ids(&error)
        })
    }

    /// Who the producer is from now on, whatever it was.
    ///
    /// # Errors
    /// The code for clients.
    pub async fn init(
        &self,
        id: &str,
        timeout_ms: i32,
        expected: Option<ProducerRef>,
    ) -> Result<ProducerRef, ErrorCode> {
        let request = |new_id| Request::Init {
            timeout_ms,
            expected,
            new_id,
        };
        self.ask_with_id(id, request).await
    }

    /// Ends a transaction, and says who the producer is from now on.
    ///
    /// # Errors
    /// The code for clients.
    pub async fn end(
        &self,
        id: &str,
        producer: ProducerRef,
        is_commit: bool,
        with_new_epoch: bool,
    ) -> Result<ProducerRef, ErrorCode> {
        let request = |new_id| Request::End {
            producer,
            is_commit,
            with_new_epoch,
            new_id,
        };
        self.ask_with_id(id, request).await
    }

    /// Asks with a new producer id where there is no other way: most requests need none.
    async fn ask_with_id(&self, id: &str, request: impl Fn(Option<i64>) -> Request) -> Result<ProducerRef, ErrorCode> {
        let mut new_id = None;
        loop {
            match self.ask(id, request(new_id)).await {
                Reply::Producer(result) => return result,
                Reply::NeedsProducerId if new_id.is_none() => new_id = Some(self.new_producer_id().await?),
                _ => return Err(ErrorCode::UnknownServerError),
            }
        }
    }

    /// Adds partitions to a transaction that is coordinated here, or says whether they are in it; for each of them.
    pub async fn add_here(&self, wanted: &AddPartitions) -> Vec<ErrorCode> {
        let all = |error| vec![error; wanted.partitions.len()];
        if wanted.transactional_id.is_empty() {
            return all(ErrorCode::InvalidRequest);
        }
        if let Some(errors) = self.not_there(&wanted.partitions) {
            return errors;
        }
        let producer = ProducerRef {
            id: wanted.producer_id,
            epoch: wanted.producer_epoch,
        };
        let partitions = wanted.partitions.iter().map(|(topic, partition)| TopicPartition {
            topic: topic.clone(),
            partition: *partition,
        });
        let request = match wanted.verify_only {
            true => Request::Verify {
                producer,
                partitions: partitions.collect(),
            },
            false => Request::Add {
                producer,
                partitions: partitions.collect(),
                client_version: EPOCH_PER_TRANSACTION,
            },
        };
        match self.ask(&wanted.transactional_id, request).await {
            Reply::Added(error) => all(error),
            Reply::Verified(Ok(errors)) => errors,
            Reply::Verified(Err(error)) => all(error),
            _ => all(ErrorCode::UnknownServerError),
        }
    }

    /// Adds partitions on behalf of a producer of the first version.
    pub async fn add_for_client(
        &self,
        id: &str,
        producer: ProducerRef,
        partitions: &[(String, i32)],
    ) -> Vec<ErrorCode> {
        if id.is_empty() {
            return vec![ErrorCode::InvalidRequest; partitions.len()];
        }
        if let Some(errors) = self.not_there(partitions) {
            return errors;
        }
        let to_partition = |(topic, partition): &(String, i32)| TopicPartition {
            topic: topic.clone(),
            partition: *partition,
        };
        let request = Request::Add {
            producer,
            partitions: partitions.iter().map(to_partition).collect(),
            client_version: 0,
        };
        let error = match self.ask(id, request).await {
            Reply::Added(error) => error,
            _ => ErrorCode::UnknownServerError,
        };
        vec![error; partitions.len()]
    }

    /// [`tailwater_rpc::frontend::Frontend::add_partitions`] of whoever coordinates the id.
    pub async fn add_where_it_is(
        &self,
        id: &str,
        producer: ProducerRef,
        verify_only: bool,
        partitions: Vec<(String, i32)>,
    ) -> Vec<ErrorCode> {
        let count = partitions.len();
        let node = match self.coordinator_of(id).await {
            Ok(node) => node,
            Err(error) => return vec![error; count],
        };
        let request = AddPartitions {
            from: self.peers.me(),
            transactional_id: id.to_owned(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            verify_only,
            partitions,
        };
        if node == self.session.node() {
            return self.add_here(&request).await;
        }
        match self.peers.add_partitions(node, request).await {
            Ok(errors) if errors.len() == count => errors,
            Ok(_) => vec![ErrorCode::UnknownServerError; count],
            Err(error) => {
                tracing::debug!(%node, %error, "a coordinator was not asked");
                vec![ErrorCode::CoordinatorNotAvailable; count]
            }
        }
    }

    /// [`Transactions::add_where_it_is`], again while that may be answered otherwise in a moment, but not past `until`.
    pub async fn confirm(
        &self,
        id: &str,
        producer: ProducerRef,
        verify_only: bool,
        partitions: Vec<(String, i32)>,
        until: Instant,
    ) -> Vec<ErrorCode> {
        let clock = self.host.clock();
        let mut pause = RETRY;
        loop {
            let errors = self
                .add_where_it_is(id, producer, verify_only, partitions.clone())
                .await;
            if !errors.iter().any(|error| is_passing(*error)) || clock.now() + pause > until {
                return errors;
            }
            clock.sleep(pause).await;
            pause = match errors.contains(&ErrorCode::ConcurrentTransactions) {
                true => RETRY,
                false => (pause * 2).min(RETRY_MAX),
            };
        }
    }

    /// What all partitions are told if some of them aren't in this node's metadata.
    fn not_there(&self, partitions: &[(String, i32)]) -> Option<Vec<ErrorCode>> {
        let view = self.view.snapshot();
        let is_there = |(topic, index): &(String, i32)| {
            let topic = view.topic_named(topic);
            topic.is_some_and(|topic| topic.partitions.contains_key(index))
        };
        if partitions.iter().all(is_there) {
            return None;
        }
        let error = |at| match is_there(at) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        Some(partitions.iter().map(error).collect())
    }

    /// # Errors
    /// The code for clients.
    pub async fn describe(&self, id: &str) -> Result<Transaction, ErrorCode> {
        match self.ask(id, Request::Describe).await {
            Reply::Described(found) => found.map(|state| *state),
            _ => Err(ErrorCode::UnknownServerError),
        }
    }

    /// All transactional ids that are coordinated here.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS while some are still being read.
    pub async fn list(&self) -> Result<Vec<Summary>, ErrorCode> {
        let mut all = Vec::new();
        for owner in self.host.all_owners()? {
            // An owner that has resigned meanwhile has none.
            if let Reply::Listed(Ok(found)) = owner.ask(String::new(), Request::List).await {
                all.extend(found);
            }
        }
        Ok(all)
    }

    pub fn now_ms(&self) -> i64 {
        self.host.clock().wall_ms()
    }

    /// Asks an id's owner here. Whatever goes wrong is in the reply.
    async fn ask(&self, id: &str, request: Request) -> Reply {
        match self.host.owner_of(id) {
            Ok(owner) => owner.ask(id.to_owned(), request).await,
            Err(error) => request.refused(error),
        }
    }
}

/// Whether the same question may be answered otherwise in a moment.
pub(crate) fn is_passing(error: ErrorCode) -> bool {
    use ErrorCode::*;
    matches!(
        error,
        NotCoordinator | CoordinatorNotAvailable | CoordinatorLoadInProgress | ConcurrentTransactions
    )
}

fn new_topic(config: &TransactionsConfig) -> NewTopic {
    let configs = [
        (settings::CLEANUP_POLICY, "compact"),
        (settings::COMPRESSION_TYPE, "uncompressed"),
        (settings::SEGMENT_BYTES, SEGMENT_BYTES),
        (settings::UNCLEAN_LEADER_ELECTION, "false"),
    ];
    NewTopic {
        name: names::TRANSACTION_STATE.to_owned(),
        partitions: config.state_topic_partitions,
        configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        internal: true,
        validate_only: false,
    }
}
