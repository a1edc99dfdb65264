//! From a request to the handler that answers it, and from its answer to a frame.
//!
//! Owns: what handlers are given. Does not own: any answer.

use std::future::Future;
use std::sync::Arc;

use tailwater_kafka::messages::ProduceRequest;
use tailwater_kafka::{ApiKey, Request, ResponseMessage, encode_response};
use tailwater_runtime::{Clock, Runtime};

use super::api_versions;
use super::context::RequestContext;
use super::errors_in::ErrorsIn;
use super::metrics::ServerMetrics;
use super::pipeline::{Answer, Running, Work};
use super::refusals::Refusals;
use crate::admin::{self, FixedSettings, Sources};
use crate::data::Data;
use crate::fetch::{FetchHandler, Fetched};
use crate::group::{self, Groups};
use crate::metadata::{self, AutoCreate, TopicCreator};
use crate::partition::Partitions;
use crate::produce::{ProduceAnswer, ProduceHandler};
use crate::session::Session;
use crate::txn::{self, MarkerWriter, Transactions};
use crate::view::{Snapshot, View};

/// Everything that requests need of this node.
pub(crate) struct Handlers {
    session: Session,
    view: View,
    partitions: Partitions,
    produce: ProduceHandler,
    fetch: FetchHandler,
    runtime: Runtime,
    groups: Groups,
    transactions: Transactions,
    markers: MarkerWriter,
    creator: TopicCreator,
    auto_create: AutoCreate,
    /// What this node's configuration says that clients know as a broker's settings.
    fixed: FixedSettings,
    metrics: ServerMetrics,
    refusals: Refusals,
}

impl Handlers {
    pub fn new(
        data: &Data,
        groups: Groups,
        transactions: Transactions,
        markers: MarkerWriter,
        creator: TopicCreator,
        metrics: ServerMetrics,
    ) -> Self {
        let auto_create = AutoCreate {
            creator: creator.clone(),
            internal: vec![groups.new_topic(), transactions.new_topic()],
        };
        Self {
            session: data.session.clone(),
            view: data.view.clone(),
            partitions: data.partitions.clone(),
            produce: ProduceHandler {
                transactions: Some(transactions.clone()),
                ..data.produce.clone()
            },
            fetch: data.fetch.clone(),
            runtime: data.runtime.clone(),
            groups,
            transactions,
            markers,
            creator,
            auto_create,
            fixed: FixedSettings::of(&data.config, data.session.node()),
            metrics,
            refusals: Refusals::new(data.runtime.clock.clone()),
        }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    pub fn clock(&self) -> &Clock {
        &self.runtime.clock
    }

    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    pub fn creator(&self) -> &TopicCreator {
        &self.creator
    }

    pub fn auto_create(&self) -> &AutoCreate {
        &self.auto_create
    }

    /// What holds for settings as of `view`.
    pub fn sources<'a>(&'a self, view: &'a Snapshot) -> Sources<'a> {
        Sources {
            view,
            node: self.session.node(),
            fixed: &self.fixed,
        }
    }

    /// What a request is to do. `frame_bytes` is the memory that it keeps alive.
    pub(super) fn begin(
        self: Arc<Self>,
        context: RequestContext,
        correlation_id: i32,
        request: Request,
        frame_bytes: usize,
    ) -> Work {
        match request {
            Request::Produce(request) => {
                Work::InTurn(Box::pin(self.produce(context, correlation_id, request, frame_bytes)))
            }
            request => Work::Whole(Box::pin(self.answer(context, correlation_id, request))),
        }
    }

    async fn produce(
        self: Arc<Self>,
        context: RequestContext,
        correlation_id: i32,
        request: ProduceRequest,
        frame_bytes: usize,
    ) -> Running {
        let version = context.version;
        let pending = self
            .produce
            .append(request, version, &context.listener, frame_bytes)
            .await;
        Box::pin(async move {
            match pending.answer().await {
                ProduceAnswer::Response(response) => {
                    self.refusals.in_produce(&context, &response);
                    encode(correlation_id, version, &response)
                }
                ProduceAnswer::Nothing => Answer::Nothing,
                ProduceAnswer::Close => Answer::Close,
            }
        })
    }

    async fn answer(self: Arc<Self>, context: RequestContext, correlation_id: i32, request: Request) -> Answer {
        let version = context.version;
        let (here, groups, transactions, context) = (&*self, &self.groups, &self.transactions, &context);
        let to = To {
            correlation_id,
            version,
            metrics: &self.metrics,
            refusals: &self.refusals,
            context,
        };
        let view = || self.view.snapshot();
        match request {
            Request::Produce(_) => Answer::Close,
            Request::Fetch(asked) => {
                let Fetched { response, memory } = self.fetch.handle(asked, version, &context.listener).await;
                self.refusals.in_fetch(context, &response);
                match encode(correlation_id, version, &response) {
                    Answer::Frame(frame, _) => Answer::Frame(frame, memory),
                    other => other,
                }
            }
            Request::ApiVersions(asked) => to.answer(&api_versions::handle(version, &asked)),
            Request::Metadata(asked) => to.answer_with(metadata::metadata(here, context, asked)).await,
            Request::ListOffsets(asked) => to.answer_with(metadata::list_offsets(here, context, asked)).await,
            Request::FindCoordinator(asked) => to.answer_with(metadata::find_coordinator(here, context, asked)).await,
            Request::InitProducerId(asked) => {
                to.answer_with(txn::init_producer_id(transactions, version, asked))
                    .await
            }
            Request::CreateTopics(asked) => to.answer_with(admin::create_topics(here, asked)).await,
            Request::DeleteTopics(asked) => to.answer_with(admin::delete_topics(here, context, asked)).await,
            Request::DescribeConfigs(asked) => to.answer(&admin::describe_configs(here, asked)),
            Request::AlterConfigs(asked) => to.answer_with(admin::alter_configs(here, asked)).await,
            Request::IncrementalAlterConfigs(asked) => {
                to.answer_with(admin::incremental_alter_configs(here, asked)).await
            }
            Request::ListConfigResources(asked) => to.answer(&admin::list_config_resources(here, context, asked)),
            Request::CreatePartitions(asked) => to.answer_with(admin::create_partitions(here, asked)).await,
            Request::DeleteRecords(asked) => to.answer_with(admin::delete_records(here, asked)).await,
            Request::JoinGroup(asked) => {
                let uuid = self.runtime.random.u128();
                to.answer_with(group::join_group(groups, context, asked, uuid)).await
            }
            Request::SyncGroup(asked) => to.answer_with(group::sync_group(groups, context, asked)).await,
            Request::Heartbeat(asked) => to.answer_with(group::heartbeat(groups, asked)).await,
            Request::ConsumerGroupHeartbeat(asked) => {
                let uuid = self.runtime.random.u128();
                to.answer_with(group::consumer_group_heartbeat(groups, context, asked, uuid))
                    .await
            }
            Request::ConsumerGroupDescribe(asked) => {
                let view = view();
                to.answer_with(group::consumer_group_describe(groups, &view, asked))
                    .await
            }
            Request::LeaveGroup(asked) => to.answer_with(group::leave_group(groups, context, asked)).await,
            Request::OffsetCommit(asked) => {
                let view = view();
                to.answer_with(group::offset_commit(groups, context, &view, asked))
                    .await
            }
            Request::OffsetFetch(asked) => {
                let view = view();
                to.answer_with(group::offset_fetch(groups, context, &view, asked)).await
            }
            Request::OffsetForLeaderEpoch(asked) => to.answer(&metadata::offset_for_leader_epoch(here, asked)),
            Request::DescribeCluster(asked) => to.answer(&metadata::describe_cluster(here, context, &asked)),
            Request::DescribeTopicPartitions(asked) => {
                to.answer(&metadata::describe_topic_partitions(here, context, asked))
            }
            Request::DescribeLogDirs(asked) => to.answer_with(admin::describe_log_dirs(here, asked)).await,
            Request::DescribeProducers(asked) => to.answer(&admin::describe_producers(here, asked)),
            Request::ElectLeaders(asked) => to.answer(&admin::elect_leaders(here, asked)),
            Request::UpdateFeatures(asked) => to.answer(&admin::update_features(version, &asked)),
            Request::DescribeQuorum(asked) => to.answer(&admin::describe_quorum(here, context, asked)),
            Request::AlterPartitionReassignments(asked) => {
                to.answer(&admin::alter_partition_reassignments(here, asked))
            }
            Request::ListPartitionReassignments(_) => to.answer(&admin::list_partition_reassignments()),
            Request::AddPartitionsToTxn(asked) => {
                to.answer_with(txn::add_partitions_to_txn(transactions, version, asked))
                    .await
            }
            Request::AddOffsetsToTxn(asked) => {
                to.answer_with(txn::add_offsets_to_txn(transactions, groups, version, asked))
                    .await
            }
            Request::TxnOffsetCommit(asked) => {
                let view = view();
                to.answer_with(txn::txn_offset_commit(transactions, groups, version, &view, asked))
                    .await
            }
            Request::EndTxn(asked) => to.answer_with(txn::end_txn(transactions, version, asked)).await,
            Request::WriteTxnMarkers(asked) => {
                let view = view();
                to.answer_with(txn::write_txn_markers(&self.markers, &view, asked))
                    .await
            }
            Request::DescribeTransactions(asked) => {
                to.answer_with(txn::describe_transactions(transactions, asked)).await
            }
            Request::ListTransactions(asked) => to.answer_with(txn::list_transactions(transactions, asked)).await,
            Request::DescribeGroups(asked) => to.answer_with(group::describe_groups(groups, context, asked)).await,
            Request::ListGroups(asked) => to.answer_with(group::list_groups(groups, asked)).await,
            Request::DeleteGroups(asked) => to.answer_with(group::delete_groups(groups, asked)).await,
            Request::OffsetDelete(asked) => {
                let view = view();
                to.answer_with(group::offset_delete(groups, &view, asked)).await
            }
        }
    }
}

/// Where an answer goes.
struct To<'a> {
    correlation_id: i32,
    version: i16,
    metrics: &'a ServerMetrics,
    refusals: &'a Refusals,
    context: &'a RequestContext,
}

impl To<'_> {
    fn answer<R: ResponseMessage + ErrorsIn>(&self, response: &R) -> Answer {
        response.errors_in(&mut |error| self.metrics.failed(R::API, error));
        self.refusals.in_answer(self.context, response);
        encode(self.correlation_id, self.version, response)
    }

    async fn answer_with<R: ResponseMessage + ErrorsIn>(&self, response: impl Future<Output = R>) -> Answer {
        self.answer(&response.await)
    }
}

/// A response that its version can't say is a fault of ours, and this client's alone.
fn encode<R: ResponseMessage>(correlation_id: i32, version: i16, response: &R) -> Answer {
    match encode_response(correlation_id, version, response) {
        Ok(frame) => Answer::Frame(frame, Vec::new()),
        Err(error) => {
            let api: ApiKey = R::API;
            tracing::error!(%api, version, %error, "an answer can't be encoded");
            Answer::Close
        }
    }
}
