//! Group requests of the wire, as questions to a group's owner, and back.
//!
//! Owns: which field means what in which version, what is refused before any group is asked (ids, session timeouts,
//! topics that aren't there, metadata that is too long). What a group keeps is copied out of the request's memory.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Uuid};

use super::coordinator::Groups;
use super::effects::{Join, JoinReply, JoinedMember, Leaving, MemberRef, Protocol, Request, Sync, SyncReply};
use super::record::from_ms;
use crate::server::RequestContext;

/// KIP-394: a new member is sent back with its id first.
const FIRST_KNOWN_ID_VERSION: i16 = 4;
/// KIP-559: who asks for its assignment says under which protocol.
const FIRST_PROTOCOL_SAYING_VERSION: i16 = 5;
/// KIP-559: a null protocol name can be said.
const FIRST_NULLABLE_PROTOCOL_VERSION: i16 = 7;
/// KIP-814.
const FIRST_SKIPPING_VERSION: i16 = 9;
/// KIP-345: several members leave with one request.
const FIRST_BATCHED_LEAVE_VERSION: i16 = 3;

pub(crate) async fn join_group(
    groups: &Groups,
    context: &RequestContext,
    request: JoinGroupRequest,
    member_uuid: u128,
) -> JoinGroupResponse {
    let version = context.version;
    let config = groups.config();
    let session_timeout = from_ms(request.session_timeout_ms);
    let sessions = config.min_session_timeout.as_duration()..=config.max_session_timeout.as_duration();
    let refusal = if request.group_id.is_empty() {
        Some(ErrorCode::InvalidGroupId)
    } else {
        (!sessions.contains(&session_timeout)).then_some(ErrorCode::InvalidSessionTimeout)
    };
    let reply = match refusal {
        Some(error) => JoinReply::refused(&request.member_id, error),
        None => {
            let group = String::from(request.group_id.clone());
            let join = to_join(request, session_timeout, context, member_uuid);
            groups.ask(group, Request::Join(join)).await.into_join()
        }
    };
    from_join_reply(reply, version)
}

fn to_join(request: JoinGroupRequest, session_timeout: Duration, context: &RequestContext, uuid: u128) -> Join {
    let mut protocols: Vec<Protocol> = Vec::new();
    for protocol in request.protocols {
        if !protocols.iter().any(|known| known.name == *protocol.name) {
            let metadata = Bytes::copy_from_slice(&protocol.metadata);
            protocols.push(Protocol {
                name: protocol.name.into(),
                metadata,
            });
        }
    }
    let instance_id = request.group_instance_id.map(String::from);
    let uuid = Uuid::from_u128(uuid);
    let new_member_id = format!("{}-{uuid}", instance_id.as_deref().unwrap_or(context.client_id()));
    Join {
        member_id: request.member_id.into(),
        instance_id,
        client_id: context.client_id().to_owned(),
        client_host: context.client_host(),
        session_timeout,
        rebalance_timeout: match request.rebalance_timeout_ms {
            // Version 0 has one timeout for both.
            ..0 => session_timeout,
            ms => from_ms(ms),
        },
        protocol_type: request.protocol_type.into(),
        protocols,
        requires_known_member_id: context.version >= FIRST_KNOWN_ID_VERSION,
        can_skip_assignment: context.version >= FIRST_SKIPPING_VERSION,
        new_member_id,
    }
}

fn from_join_reply(reply: JoinReply, version: i16) -> JoinGroupResponse {
    let protocol_name = match reply.protocol_name {
        None if version < FIRST_NULLABLE_PROTOCOL_VERSION => Some(Str::default()),
        name => name.map(Str::from),
    };
    let member = |member: JoinedMember| JoinGroupResponseMember {
        member_id: member.member_id.into(),
        group_instance_id: member.instance_id.map(Str::from),
        metadata: member.metadata,
    };
    JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: reply.error,
        generation_id: reply.generation,
        protocol_type: reply.protocol_type.map(Str::from),
        protocol_name,
        leader: reply.leader.into(),
        skip_assignment: version >= FIRST_SKIPPING_VERSION && reply.skip_assignment,
        member_id: reply.member_id.into(),
        members: reply.members.into_iter().map(member).collect(),
    }
}

pub(crate) async fn sync_group(
    groups: &Groups,
    context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let reply = if context.version >= FIRST_PROTOCOL_SAYING_VERSION && !says_protocol {
        SyncReply::refused(ErrorCode::InconsistentGroupProtocol)
    } else if request.group_id.is_empty() {
        SyncReply::refused(ErrorCode::InvalidGroupId)
    } else {
        let assignments = request.assignments.into_iter();
        let assignments: BTreeMap<String, Bytes> = assignments
            .map(|a| (a.member_id.into(), Bytes::copy_from_slice(&a.assignment)))
            .collect();
        let member = member_ref(request.member_id, request.group_instance_id, request.generation_id);
        let sync = Sync {
            member,
            protocol_type: request.protocol_type.map(String::from),
            protocol_name: request.protocol_name.map(String::from),
            assignments,
        };
        groups
            .ask(request.group_id.into(), Request::Sync(sync))
            .await
            .into_sync()
    };
    SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: reply.error,
        protocol_type: reply.protocol_type.map(Str::from),
        protocol_name: reply.protocol_name.map(Str::from),
        assignment: reply.assignment,
    }
}

pub(crate) async fn heartbeat(groups: &Groups, request: HeartbeatRequest) -> HeartbeatResponse {
    let error_code = if request.group_id.is_empty() {
        ErrorCode::InvalidGroupId
    } else {
        let member = member_ref(request.member_id, request.group_instance_id, request.generation_id);
        let reply = groups.ask(request.group_id.into(), Request::Heartbeat(member)).await;
        reply.into_heartbeat()
    };
    HeartbeatResponse {
        throttle_time_ms: 0,
        error_code,
    }
}

pub(crate) async fn leave_group(
    groups: &Groups,
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    if request.group_id.is_empty() {
        return LeaveGroupResponse {
            error_code: ErrorCode::InvalidGroupId,
            ..Default::default()
        };
    }
    let is_batched = context.version >= FIRST_BATCHED_LEAVE_VERSION;
    let members = match is_batched {
        true => request.members,
        false => vec![MemberIdentity {
            member_id: request.member_id,
            ..Default::default()
        }],
    };
    let leaving = |member: &MemberIdentity| Leaving {
        member_id: member.member_id.clone().into(),
        instance_id: member.group_instance_id.clone().map(String::from),
    };
    let leave = Request::Leave(members.iter().map(leaving).collect());
    let reply = groups.ask(request.group_id.into(), leave).await.into_leave();
    if !is_batched {
        let error_code = match reply.error {
            ErrorCode::None => reply.members.first().copied().unwrap_or_default(),
            error => error,
        };
        return LeaveGroupResponse {
            error_code,
            ..Default::default()
        };
    }
    let answer = |(member, error_code): (MemberIdentity, ErrorCode)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code,
    };
    LeaveGroupResponse {
        throttle_time_ms: 0,
        error_code: reply.error,
        members: members.into_iter().zip(reply.members).map(answer).collect(),
    }
}

fn member_ref(member_id: Str, instance_id: Option<Str>, generation: i32) -> MemberRef {
    MemberRef {
        member_id: member_id.into(),
        instance_id: instance_id.map(String::from),
        generation,
    }
}
