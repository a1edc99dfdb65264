//! Metadata: brokers, topics and their leaders, and topics that are made by being asked for.
//!
//! Owns: docs/kafka.md rules 2 and 31. Does not own: how topics are made (`create.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Uuid};
use tailwater_rpc::controller::{NewTopic, PartitionInfo};
use tailwater_types::TopicId;

use super::brokers::{NO_BROKER, address, broker_id};
use super::create::TopicCreator;
use super::names;
use crate::listeners::ListenerName;
use crate::server::{Handlers, RequestContext};
use crate::view::{Snapshot, Topic};

/// In version 0 an empty list asks for all topics; later it asks for none.
const FIRST_NONE_VERSION: i16 = 1;
/// From here on clients are told that the leader lacks their listener; earlier ones take it for one that isn't there.
const FIRST_LISTENER_VERSION: i16 = 6;
/// Topics may be asked for by id.
const FIRST_ID_VERSION: i16 = 12;
/// What a client may do where nobody is forbidden anything, as Kafka's bits: read, write, create, delete, alter,
/// describe, and both for configs.
pub(super) const ALL_TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Create, alter, describe, act, both for configs, and idempotent write.
pub(super) const ALL_CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Making topics that clients ask for.
#[derive(Clone)]
pub(crate) struct AutoCreate {
    pub creator: TopicCreator,
    /// What the internal topics are made as.
    pub internal: Vec<NewTopic>,
}

pub(crate) async fn metadata(
    handlers: &Handlers,
    context: &RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let version = context.version;
    let wants_cluster = request.include_cluster_authorized_operations;
    let wants_operations = request.include_topic_authorized_operations;
    let creates = request.allow_auto_topic_creation && handlers.sources(&handlers.view().snapshot()).creates_topics();
    let mut topics = match request.topics {
        Some(asked) if version >= FIRST_NONE_VERSION || !asked.is_empty() => {
            let mut seen = BTreeSet::new();
            let mut topics = Vec::with_capacity(asked.len());
            for asked in asked {
                if seen.insert((asked.topic_id, asked.name.clone())) {
                    topics.push(one_topic(handlers, context, asked, creates).await);
                }
            }
            topics
        }
        _ => {
            let view = handlers.view().snapshot();
            view.topics().map(|topic| show(&view, context, topic)).collect()
        }
    };
    if wants_operations {
        topics
            .iter_mut()
            .for_each(|topic| topic.topic_authorized_operations = ALL_TOPIC_OPERATIONS);
    }
    let view = handlers.view().snapshot();
    let brokers: Vec<MetadataResponseBroker> = brokers(&view, &context.listener).collect();
    MetadataResponse {
        throttle_time_ms: 0,
        controller_id: controller(&brokers, broker_id(handlers.session().node())),
        brokers,
        cluster_id: Some(handlers.session().cluster().to_string().into()),
        topics,
        cluster_authorized_operations: if wants_cluster {
            ALL_CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        error_code: ErrorCode::None,
    }
}

fn brokers(view: &Snapshot, listener: &ListenerName) -> impl Iterator<Item = MetadataResponseBroker> {
    view.frontends().filter_map(|info| {
        let address = address(info, listener)?;
        Some(MetadataResponseBroker {
            node_id: broker_id(info.node),
            host: address.host.as_str().into(),
            port: i32::from(address.port),
            rack: None,
        })
    })
}

/// Any broker will do: each takes what only a controller may decide to the real one.
fn controller(brokers: &[MetadataResponseBroker], here: i32) -> i32 {
    let is_here = |broker: &&MetadataResponseBroker| broker.node_id == here;
    let broker = brokers.iter().find(is_here).or(brokers.first());
    broker.map_or(NO_BROKER, |broker| broker.node_id)
}

async fn one_topic(
    handlers: &Handlers,
    context: &RequestContext,
    asked: MetadataRequestTopic,
    creates: bool,
) -> MetadataResponseTopic {
    let version = context.version;
    let view = handlers.view().snapshot();
    if asked.topic_id != Uuid::nil() {
        if version < FIRST_ID_VERSION {
            return refused(
                asked.name.or_else(|| Some(Str::default())),
                asked.topic_id,
                ErrorCode::InvalidRequest,
            );
        }
        return match view.topic(TopicId(asked.topic_id)) {
            Some(topic) => show(&view, context, topic),
            None => refused(None, asked.topic_id, ErrorCode::UnknownTopicId),
        };
    }
    let Some(name) = asked.name else {
        let name = (version < FIRST_ID_VERSION).then(Str::default);
        return refused(name, asked.topic_id, ErrorCode::InvalidRequest);
    };
    if let Some(topic) = view.topic_named(&name) {
        return show(&view, context, topic);
    }
    if names::check(&name).is_err() {
        return refused(Some(name), Uuid::nil(), ErrorCode::InvalidTopicException);
    }
    match creates {
        true => {
            let partitions = handlers.sources(&view).default_partitions();
            auto_create(handlers, context, name, partitions).await
        }
        false => refused(Some(name), Uuid::nil(), ErrorCode::UnknownTopicOrPartition),
    }
}

async fn auto_create(
    handlers: &Handlers,
    context: &RequestContext,
    name: Str,
    partitions: i32,
) -> MetadataResponseTopic {
    let (auto, view) = (handlers.auto_create(), handlers.view());
    let internal = auto.internal.iter().find(|topic| *name == *topic.name);
    let new = if let Some(internal) = internal {
        internal.clone()
    } else if names::is_internal(&name) {
        return refused(Some(name), Uuid::nil(), ErrorCode::UnknownTopicOrPartition);
    } else if names::collision(&name, &view.snapshot()).is_some() {
        return refused(Some(name), Uuid::nil(), ErrorCode::InvalidTopicException);
    } else {
        NewTopic {
            name: name.as_str().to_owned(),
            partitions,
            configs: Default::default(),
            internal: false,
            validate_only: false,
        }
    };
    match auto.creator.ensure(new).await {
        Ok(topic) => show(&view.snapshot(), context, &topic),
        Err(error) => {
            tracing::info!(topic = %name, %error, "topic not created for now");
            refused(Some(name), Uuid::nil(), ErrorCode::LeaderNotAvailable)
        }
    }
}

fn refused(name: Option<Str>, topic_id: Uuid, error_code: ErrorCode) -> MetadataResponseTopic {
    let is_internal = name.as_ref().is_some_and(|name| names::is_internal(name));
    MetadataResponseTopic {
        error_code,
        name,
        topic_id,
        is_internal,
        ..Default::default()
    }
}

fn show(view: &Snapshot, context: &RequestContext, topic: &Arc<Topic>) -> MetadataResponseTopic {
    let tells_listeners = context.version >= FIRST_LISTENER_VERSION;
    MetadataResponseTopic {
        error_code: ErrorCode::None,
        name: Some((&*topic.name).into()),
        topic_id: topic.info.id.0,
        is_internal: topic.info.internal,
        partitions: topic
            .partitions
            .values()
            .map(|partition| show_partition(view, &context.listener, tells_listeners, partition))
            .collect(),
        ..Default::default()
    }
}

/// One replica is shown, the leader: copies of the data are the WAL's and the object store's. A leader that clients of the
/// listener can't be sent to is none to them; `tells_listeners`: whether they know the error for one that lacks it.
pub(super) fn show_partition(
    view: &Snapshot,
    listener: &ListenerName,
    tells_listeners: bool,
    partition: &PartitionInfo,
) -> MetadataResponsePartition {
    let alive = partition.leader.and_then(|leader| view.frontend(leader));
    let leader = alive.filter(|info| address(info, listener).is_some());
    let replicas: Vec<i32> = partition.leader.map(broker_id).into_iter().collect();
    let (error_code, offline_replicas) = match leader {
        Some(_) => (ErrorCode::None, Vec::new()),
        None if tells_listeners && alive.is_some() => (ErrorCode::ListenerNotFound, replicas.clone()),
        None => (ErrorCode::LeaderNotAvailable, replicas.clone()),
    };
    MetadataResponsePartition {
        error_code,
        partition_index: partition.index,
        leader_id: leader.map_or(NO_BROKER, |info| broker_id(info.node)),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: replicas.clone(),
        isr_nodes: replicas,
        offline_replicas,
    }
}
