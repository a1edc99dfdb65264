//! ConsumerGroupHeartbeat and ConsumerGroupDescribe of the wire, as questions to a group's owner, and back (KIP-848).
//!
//! Owns: which field means what in which version, and topics' names for those who look at a group.

use std::collections::BTreeSet;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Uuid};
use tailwater_types::TopicId;

use super::consumer::heartbeat::{Heartbeat, HeartbeatReply};
use super::consumer::state::Partitions;
use super::coordinator::Groups;
use super::effects::{ConsumerDescription, ConsumerMember, Request};
use super::wire_describe::{ALL_GROUP_OPERATIONS, not_found};
use crate::server::RequestContext;
use crate::view::Snapshot;

/// From here on members make their ids themselves (KIP-1082).
const FIRST_OWN_ID_VERSION: i16 = 1;
/// A time that isn't said.
const UNSAID: i32 = -1;

const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

pub(crate) async fn consumer_group_heartbeat(
    groups: &Groups,
    context: &RequestContext,
    request: ConsumerGroupHeartbeatRequest,
    member_uuid: u128,
) -> ConsumerGroupHeartbeatResponse {
    let group_id = String::from(request.group_id.clone());
    let heartbeat = to_heartbeat(request, context, member_uuid);
    let needs_member_id = context.version >= FIRST_OWN_ID_VERSION;
    let reply = if group_id.is_empty() {
        let what = "A group id may not be empty.".to_owned();
        HeartbeatReply::refused((ErrorCode::InvalidRequest, Some(what)))
    } else if let Err(refusal) = heartbeat.validate(needs_member_id) {
        HeartbeatReply::refused(refusal)
    } else {
        let request = Request::ConsumerHeartbeat(Box::new(heartbeat));
        *groups.ask(group_id, request).await.into_consumer_heartbeat()
    };
    from_reply(reply)
}

fn to_heartbeat(request: ConsumerGroupHeartbeatRequest, context: &RequestContext, member_uuid: u128) -> Heartbeat {
    let owned = request.topic_partitions.map(|topics| {
        let mut owned = Partitions::new();
        for topic in topics {
            owned
                .entry(TopicId(topic.topic_id))
                .or_default()
                .extend(topic.partitions);
        }
        owned.retain(|_, partitions| !partitions.is_empty());
        owned
    });
    Heartbeat {
        member_id: request.member_id.into(),
        member_epoch: request.member_epoch,
        instance_id: request.instance_id.map(String::from),
        rack_id: request.rack_id.map(String::from),
        client_id: context.client_id().to_owned(),
        client_host: context.client_host(),
        rebalance_timeout_ms: (request.rebalance_timeout_ms != UNSAID).then_some(request.rebalance_timeout_ms),
        topics: request
            .subscribed_topic_names
            .map(|topics| topics.into_iter().map(String::from).collect::<BTreeSet<String>>()),
        regex: request.subscribed_topic_regex.map(String::from),
        assignor: request.server_assignor.map(String::from),
        owned,
        new_member_id: Uuid::from_u128(member_uuid).to_string(),
    }
}

fn from_reply(reply: HeartbeatReply) -> ConsumerGroupHeartbeatResponse {
    let topic = |(topic, partitions): (TopicId, BTreeSet<i32>)| ConsumerGroupHeartbeatTopic {
        topic_id: topic.0,
        partitions: partitions.into_iter().collect(),
    };
    ConsumerGroupHeartbeatResponse {
        throttle_time_ms: 0,
        error_code: reply.error,
        error_message: reply.message.map(Str::from),
        member_id: reply.member_id.map(Str::from),
        member_epoch: reply.member_epoch,
        heartbeat_interval_ms: i32::try_from(reply.interval.as_millis()).unwrap_or(i32::MAX),
        assignment: reply.assignment.map(|assignment| ConsumerGroupHeartbeatAssignment {
            topic_partitions: assignment.into_iter().map(topic).collect(),
        }),
    }
}

pub(crate) async fn consumer_group_describe(
    groups: &Groups,
    view: &Snapshot,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let mut described = Vec::with_capacity(request.group_ids.len());
    for group_id in request.group_ids {
        let reply = groups.ask(group_id.clone().into(), Request::DescribeConsumer).await;
        let mut group = match reply.into_described_consumer() {
            Ok(found) => to_described(group_id, found, view),
            Err(error) => {
                let (error_code, error_message) = not_found(&group_id, error, "consumer");
                DescribedConsumerGroup {
                    error_code,
                    error_message,
                    group_id,
                    ..Default::default()
                }
            }
        };
        if request.include_authorized_operations && !group.error_code.is_error() {
            group.authorized_operations = ALL_GROUP_OPERATIONS;
        }
        described.push(group);
    }
    ConsumerGroupDescribeResponse {
        throttle_time_ms: 0,
        groups: described,
    }
}

fn to_described(group_id: Str, group: ConsumerDescription, view: &Snapshot) -> DescribedConsumerGroup {
    DescribedConsumerGroup {
        group_id,
        group_state: Str::from_static(group.state),
        group_epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: Str::from_static(group.assignor),
        members: group
            .members
            .into_iter()
            .map(|member| to_member(member, view))
            .collect(),
        ..Default::default()
    }
}

fn to_member(member: ConsumerMember, view: &Snapshot) -> DescribedConsumerGroupMember {
    let is_classic = member.subscription.classic.is_some();
    DescribedConsumerGroupMember {
        member_id: member.member_id.into(),
        instance_id: member.subscription.instance_id.map(Str::from),
        rack_id: member.subscription.rack_id.map(Str::from),
        member_epoch: member.epoch,
        client_id: member.subscription.client_id.into(),
        client_host: member.subscription.client_host.into(),
        subscribed_topic_names: member.subscription.topics.into_iter().map(Str::from).collect(),
        subscribed_topic_regex: member.subscription.regex.map(Str::from),
        assignment: to_assignment(&member.assigned, view),
        target_assignment: to_assignment(&member.target, view),
        member_type: if is_classic { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
    }
}

/// Of the topics that are still there.
fn to_assignment(partitions: &Partitions, view: &Snapshot) -> DescribedAssignment {
    let topics = partitions.iter().filter_map(|(id, partitions)| {
        let topic = view.topic(*id)?;
        Some(DescribedAssignmentTopic {
            topic_id: id.0,
            topic_name: Str::from(&*topic.name),
            partitions: partitions.iter().copied().collect(),
        })
    });
    DescribedAssignment {
        topic_partitions: topics.collect(),
    }
}
