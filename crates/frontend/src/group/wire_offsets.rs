//! OffsetCommit and OffsetFetch of the wire, as questions to a group's owner, and back.
//!
//! Owns: topics by name and by id (from version 10 on), which partitions exist, how long metadata may be. What was
//! committed for a topic that has been deleted since, or for one of the same name before it, isn't shown.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_types::TopicId;

use super::coordinator::Groups;
use super::effects::{
    Commit, CommittedOffset, FetchOffsets, Fetched, FetchedTopic, MemberRef, Request, TopicPartition,
};
use crate::server::RequestContext;
use crate::view::{Snapshot, Topic};

/// From here on an unknown group is called so; before, its members are told of a wrong generation.
const FIRST_UNKNOWN_GROUP_VERSION: i16 = 9;
/// From here on members of groups whose coordinator assigns say their epoch (KIP-848).
const FIRST_EPOCH_VERSION: i16 = 9;
/// From here on topics have ids instead of names.
const FIRST_ID_VERSION: i16 = 10;
/// From here on one request asks about several groups (KIP-709).
const FIRST_SEVERAL_GROUPS_VERSION: i16 = 8;
/// From here on an error can be said of the whole response.
const FIRST_WHOLE_ERROR_VERSION: i16 = 2;
const NOTHING: i64 = -1;
/// Offsets are kept as long as the broker says; any other time counts as it is, one before now too.
const BROKERS_RETENTION: i64 = -1;

pub(crate) async fn offset_commit(
    groups: &Groups,
    context: &RequestContext,
    view: &Snapshot,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let by_id = context.version >= FIRST_ID_VERSION;
    let now_ms = groups.clock().wall_ms();
    let expire_timestamp_ms = match request.retention_time_ms {
        BROKERS_RETENTION => -1,
        retention_ms => now_ms.saturating_add(retention_ms),
    };
    let at_ms = (now_ms, expire_timestamp_ms);
    let Sorted {
        offsets,
        mut topics,
        is_group_asked,
    } = sort(groups, view, request.topics, by_id, at_ms);
    if is_group_asked {
        let unknown_group = match context.version >= FIRST_UNKNOWN_GROUP_VERSION {
            true => ErrorCode::GroupIdNotFound,
            false => ErrorCode::IllegalGeneration,
        };
        let member = MemberRef {
            member_id: request.member_id.into(),
            instance_id: request.group_instance_id.map(String::from),
            generation: request.generation_id_or_member_epoch,
        };
        let commit = Request::Commit(Commit {
            member,
            offsets,
            unknown_group,
            knows_epochs: context.version >= FIRST_EPOCH_VERSION,
        });
        let error = groups.commit(request.group_id.into(), commit).await;
        refuse(&mut topics, error);
    }
    OffsetCommitResponse {
        throttle_time_ms: 0,
        topics,
    }
}

/// What is to be committed, and what is wrong with the rest.
pub(super) struct Sorted {
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
    pub topics: Vec<OffsetCommitResponseTopic>,
    /// Whether there is anything that the group judges.
    pub is_group_asked: bool,
}

/// `at_ms`: when it is committed, and when it expires.
pub(super) fn sort(
    groups: &Groups,
    view: &Snapshot,
    asked: Vec<OffsetCommitRequestTopic>,
    by_id: bool,
    (now_ms, expire_timestamp_ms): (i64, i64),
) -> Sorted {
    let mut sorted = Sorted {
        offsets: Vec::new(),
        topics: Vec::with_capacity(asked.len()),
        is_group_asked: false,
    };
    for asked in asked {
        let topic = find(view, &asked.name, asked.topic_id, by_id);
        let mut answered = OffsetCommitResponseTopic {
            name: asked.name,
            topic_id: asked.topic_id,
            partitions: Vec::new(),
        };
        for partition in asked.partitions {
            let partition_index = partition.partition_index;
            let error_code = check_commit(topic, &partition, by_id, groups.config().offset_metadata_max_chars);
            sorted.is_group_asked |= is_for_the_group(error_code);
            if let (Some(topic), ErrorCode::None) = (topic, error_code) {
                let at = TopicPartition {
                    topic: topic.name.to_string(),
                    partition: partition_index,
                };
                let offset = to_offset(partition, topic.info.id, now_ms, expire_timestamp_ms);
                sorted.offsets.push((at, offset));
            }
            answered.partitions.push(OffsetCommitResponsePartition {
                partition_index,
                error_code,
            });
        }
        sorted.topics.push(answered);
    }
    sorted
}

/// The group's error, if it is one, for all partitions that it was asked about.
pub(super) fn refuse(topics: &mut [OffsetCommitResponseTopic], error: ErrorCode) {
    if error.is_error() {
        let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions
            .filter(|partition| is_for_the_group(partition.error_code))
            .for_each(|partition| partition.error_code = error);
    }
}

/// Of a partition that is there the group judges first, and only then the length of its metadata.
fn is_for_the_group(error: ErrorCode) -> bool {
    matches!(error, ErrorCode::None | ErrorCode::OffsetMetadataTooLarge)
}

fn find<'a>(view: &'a Snapshot, name: &str, id: Uuid, by_id: bool) -> Option<&'a std::sync::Arc<Topic>> {
    match by_id {
        true => view.topic(TopicId(id)),
        false => view.topic_named(name),
    }
}

fn check_commit(
    topic: Option<&std::sync::Arc<Topic>>,
    partition: &OffsetCommitRequestPartition,
    by_id: bool,
    max_chars: usize,
) -> ErrorCode {
    let Some(topic) = topic else {
        return if by_id {
            ErrorCode::UnknownTopicId
        } else {
            ErrorCode::UnknownTopicOrPartition
        };
    };
    // Kafka counts the characters of a Java string.
    let chars = partition
        .committed_metadata
        .as_ref()
        .map_or(0, |text| text.encode_utf16().count());
    if !topic.partitions.contains_key(&partition.partition_index) {
        ErrorCode::UnknownTopicOrPartition
    } else if chars > max_chars {
        ErrorCode::OffsetMetadataTooLarge
    } else {
        ErrorCode::None
    }
}

fn to_offset(
    partition: OffsetCommitRequestPartition,
    topic: TopicId,
    now_ms: i64,
    expire_timestamp_ms: i64,
) -> CommittedOffset {
    CommittedOffset {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.map(String::from).unwrap_or_default(),
        commit_timestamp_ms: now_ms,
        expire_timestamp_ms,
        topic_id: Some(topic),
    }
}

pub(crate) async fn offset_fetch(
    groups: &Groups,
    context: &RequestContext,
    view: &Snapshot,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let version = context.version;
    let require_stable = request.require_stable;
    if version < FIRST_SEVERAL_GROUPS_VERSION {
        let topics: Option<Vec<_>> = request.topics.map(|topics| topics.into_iter().map(by_name).collect());
        let asked = OffsetFetchRequestGroup {
            group_id: request.group_id,
            topics: topics.clone(),
            ..Default::default()
        };
        let answered = fetch_group(groups, view, asked, false, require_stable).await;
        return one_group(answered, topics.unwrap_or_default(), version);
    }
    let by_id = version >= FIRST_ID_VERSION;
    let mut answered = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        answered.push(fetch_group(groups, view, group, by_id, require_stable).await);
    }
    OffsetFetchResponse {
        groups: answered,
        ..Default::default()
    }
}

fn by_name(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics {
        name: topic.name,
        topic_id: Uuid::nil(),
        partition_indexes: topic.partition_indexes,
    }
}

async fn fetch_group(
    groups: &Groups,
    view: &Snapshot,
    OffsetFetchRequestGroup {
        group_id,
        member_id,
        member_epoch,
        topics,
    }: OffsetFetchRequestGroup,
    by_id: bool,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let mut unknown = Vec::new();
    let asked = topics.map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            match by_id {
                false => known.push((String::from(topic.name), topic.partition_indexes)),
                true => match view.topic(TopicId(topic.topic_id)) {
                    Some(found) => known.push((found.name.to_string(), topic.partition_indexes)),
                    None => unknown.push(refused(topic, ErrorCode::UnknownTopicId)),
                },
            }
        }
        known
    });
    let request = Request::FetchOffsets(FetchOffsets {
        require_stable,
        member_id: member_id.map(String::from),
        member_epoch,
        topics: asked.clone(),
    });
    let fetched = groups.ask(group_id.clone().into(), request).await.into_fetched();
    let mut answer = OffsetFetchResponseGroup {
        group_id,
        topics: unknown,
        error_code: ErrorCode::None,
    };
    match fetched {
        Ok(topics) => {
            let wants_all = asked.is_none();
            let shown = topics.into_iter().map(|topic| to_response(view, topic, wants_all));
            answer
                .topics
                .extend(shown.filter(|topic| !wants_all || !topic.partitions.is_empty()));
        }
        Err(error) => answer.error_code = error,
    }
    answer
}

fn refused(topic: OffsetFetchRequestTopics, error_code: ErrorCode) -> OffsetFetchResponseTopics {
    let partition = |partition_index| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: NOTHING,
        error_code,
        ..Default::default()
    };
    OffsetFetchResponseTopics {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.into_iter().map(partition).collect(),
    }
}

fn to_response(view: &Snapshot, (name, partitions): FetchedTopic, wants_all: bool) -> OffsetFetchResponseTopics {
    let current = view.topic_named(&name).map(|topic| topic.info.id);
    let is_current = |offset: &CommittedOffset| match (offset.topic_id, current) {
        (Some(committed), Some(current)) => committed == current,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    let partition = |(partition_index, fetched): (i32, Fetched)| {
        let nothing = OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: NOTHING,
            ..Default::default()
        };
        match fetched {
            Fetched::Offset(offset) if is_current(&offset) => Some(OffsetFetchResponsePartitions {
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch,
                metadata: Some(offset.metadata.into()),
                ..nothing
            }),
            Fetched::Unstable => Some(OffsetFetchResponsePartitions {
                error_code: ErrorCode::UnstableOffsetCommit,
                ..nothing
            }),
            Fetched::Nothing | Fetched::Offset(_) => (!wants_all).then_some(nothing),
        }
    };
    OffsetFetchResponseTopics {
        name: name.into(),
        topic_id: current.map(|id| id.0).unwrap_or_default(),
        partitions: partitions.into_iter().filter_map(partition).collect(),
    }
}

/// The answer about one group, as versions below 8 have it.
fn one_group(
    mut group: OffsetFetchResponseGroup,
    asked: Vec<OffsetFetchRequestTopics>,
    version: i16,
) -> OffsetFetchResponse {
    let mut error_code = group.error_code;
    if error_code.is_error() && version < FIRST_WHOLE_ERROR_VERSION {
        group.topics = asked.into_iter().map(|topic| refused(topic, error_code)).collect();
        error_code = ErrorCode::None;
    }
    let partition = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    let topics = group.topics.into_iter().map(topic).collect();
    OffsetFetchResponse {
        topics,
        error_code,
        ..Default::default()
    }
}
