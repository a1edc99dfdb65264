//! DeleteGroups and OffsetDelete of the wire, as questions to groups' owners, and back.
//!
//! Owns: groups named twice, and which partitions exist.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::coordinator::Groups;
use super::effects::{Request, TopicPartition};
use crate::view::Snapshot;

/// Groups of one request that are being deleted at the same time.
const DELETED_AT_ONCE: usize = 16;

pub(crate) async fn delete_groups(groups: &Groups, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut seen = BTreeSet::new();
    let mut asked = request.groups_names;
    asked.retain(|group| seen.insert(group.clone()));
    // Collected: the closures' types would make this future one that can't be shown to be `Send`.
    let deletions: Vec<_> = asked.into_iter().map(|group| delete_group(groups, group)).collect();
    DeleteGroupsResponse {
        throttle_time_ms: 0,
        results: stream::iter(deletions).buffered(DELETED_AT_ONCE).collect().await,
    }
}

async fn delete_group(groups: &Groups, group_id: Str) -> DeletableGroupResult {
    let error_code = groups
        .ask(group_id.clone().into(), Request::Delete)
        .await
        .into_deleted();
    DeletableGroupResult { group_id, error_code }
}

pub(crate) async fn offset_delete(
    groups: &Groups,
    view: &Snapshot,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let refused = |error_code| OffsetDeleteResponse {
        error_code,
        ..Default::default()
    };
    if request.group_id.is_empty() {
        return refused(ErrorCode::InvalidGroupId);
    }
    let exists = |topic: &str, partition: i32| {
        let found = view.topic_named(topic);
        found.is_some_and(|topic| topic.partitions.contains_key(&partition))
    };
    let mut asked = Vec::new();
    for topic in &request.topics {
        let known = topic.partitions.iter().map(|partition| partition.partition_index);
        asked.extend(
            known
                .filter(|index| exists(&topic.name, *index))
                .map(|partition| TopicPartition {
                    topic: topic.name.clone().into(),
                    partition,
                }),
        );
    }
    // Also about nothing: a group that isn't there, or is in use, is an error of the whole request.
    let reply = groups.ask(request.group_id.into(), Request::DeleteOffsets(asked)).await;
    let errors = match reply.into_deleted_offsets() {
        Ok(errors) => errors,
        Err(error) => return refused(error),
    };
    let mut errors = errors.into_iter();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let answer = |partition: OffsetDeleteRequestPartition| OffsetDeleteResponsePartition {
            partition_index: partition.partition_index,
            error_code: match exists(&topic.name, partition.partition_index) {
                true => errors.next().unwrap_or(ErrorCode::UnknownServerError),
                false => ErrorCode::UnknownTopicOrPartition,
            },
        };
        let partitions = topic.partitions.into_iter().map(answer).collect();
        topics.push(OffsetDeleteResponseTopic {
            name: topic.name,
            partitions,
        });
    }
    OffsetDeleteResponse {
        topics,
        ..Default::default()
    }
}
