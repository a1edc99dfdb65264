//! DescribeTopicPartitions: topics and their partitions in the order of their names, a page at a time (KIP-966).

use std::collections::BTreeSet;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::names;
use super::topics::{ALL_TOPIC_OPERATIONS, show_partition};
use crate::listeners::ListenerName;
use crate::server::{Handlers, RequestContext};
use crate::view::{Snapshot, Topic};

/// The most partitions of one answer (Kafka's `max.request.partition.size.limit`).
const MAX_PARTITIONS: i32 = 2000;

pub(crate) fn describe_topic_partitions(
    handlers: &Handlers,
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let view = handlers.view().snapshot();
    let wants_all = request.topics.is_empty();
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let asked: BTreeSet<&str> = match wants_all {
        true => view.topics().map(|topic| &*topic.name).collect(),
        false => request.topics.iter().map(|topic| topic.name.as_str()).collect(),
    };
    let is_listed = wants_all || request.cursor.is_none() || asked.contains(first_topic);
    if first_partition < 0 || !is_listed {
        return refused(&request);
    }
    let mut left = request.response_partition_limit.clamp(1, MAX_PARTITIONS) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in asked.range(first_topic..).copied() {
        let first = if name == first_topic { first_partition } else { 0 };
        if left == 0 {
            response.next_cursor = Some(cursor(name, 0));
            break;
        }
        let Some(topic) = view.topic_named(name) else {
            response.topics.push(missing(name));
            continue;
        };
        let partitions: Vec<_> = topic.partitions.range(first..).take(left + 1).collect();
        let (shown, next) = match partitions.split_at_checked(left) {
            Some((shown, [(next, _), ..])) => (shown, Some(**next)),
            _ => (&partitions[..], None),
        };
        let shown_infos = shown.iter().map(|(_, info)| *info);
        response.topics.push(show(&view, &context.listener, topic, shown_infos));
        if let Some(next) = next {
            response.next_cursor = Some(cursor(name, next));
            break;
        }
        left -= shown.len();
    }
    response
}

fn cursor(topic: &str, partition_index: i32) -> TopicPartitionCursor {
    TopicPartitionCursor {
        topic_name: topic.into(),
        partition_index,
    }
}

/// A cursor that names what isn't asked for, or what can't be: there is no error of the whole answer.
fn refused(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topic = |topic: &TopicToDescribe| DescribedTopic {
        error_code: ErrorCode::InvalidRequest,
        name: Some(topic.name.clone()),
        ..Default::default()
    };
    DescribeTopicPartitionsResponse {
        topics: request.topics.iter().map(topic).collect(),
        ..Default::default()
    }
}

fn missing(name: &str) -> DescribedTopic {
    DescribedTopic {
        error_code: match names::check(name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        },
        name: Some(Str::from(name)),
        is_internal: names::is_internal(name),
        topic_authorized_operations: ALL_TOPIC_OPERATIONS,
        ..Default::default()
    }
}

fn show<'a>(
    view: &Snapshot,
    listener: &ListenerName,
    topic: &Topic,
    partitions: impl Iterator<Item = &'a tailwater_rpc::controller::PartitionInfo>,
) -> DescribedTopic {
    let partition = |info| {
        let shown = show_partition(view, listener, true, info);
        DescribedTopicPartition {
            error_code: shown.error_code,
            partition_index: shown.partition_index,
            leader_id: shown.leader_id,
            leader_epoch: shown.leader_epoch,
            replica_nodes: shown.replica_nodes,
            isr_nodes: shown.isr_nodes,
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: shown.offline_replicas,
        }
    };
    DescribedTopic {
        error_code: ErrorCode::None,
        name: Some((&*topic.name).into()),
        topic_id: topic.info.id.0,
        is_internal: topic.info.internal,
        partitions: partitions.map(partition).collect(),
        topic_authorized_operations: ALL_TOPIC_OPERATIONS,
    }
}
