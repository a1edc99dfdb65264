//! DescribeGroups and ListGroups of the wire, as questions to groups' owners, and back.
//!
//! Owns: what an unknown group is called in which version, and the filters of a list.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::coordinator::Groups;
use super::effects::{DescribeError, GroupDescription, GroupSummary, MemberMetadata, Request};
use crate::server::RequestContext;

/// From here on an unknown group is an error (KIP-1043); before, it is a group in the state Dead.
const FIRST_UNKNOWN_GROUP_VERSION: i16 = 6;
const DEAD: &str = "Dead";
/// What a client may do with a group where nobody is forbidden anything, as Kafka's bits: read, delete, describe, and
/// both for configs.
pub(super) const ALL_GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

pub(crate) async fn describe_groups(
    groups: &Groups,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut described = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let reply = groups.ask(group_id.clone().into(), Request::Describe).await;
        let mut group = to_described(group_id, reply.into_described(), context.version);
        if request.include_authorized_operations && !group.error_code.is_error() {
            group.authorized_operations = ALL_GROUP_OPERATIONS;
        }
        described.push(group);
    }
    DescribeGroupsResponse {
        throttle_time_ms: 0,
        groups: described,
    }
}

fn to_described(group_id: Str, found: Result<GroupDescription, DescribeError>, version: i16) -> DescribedGroup {
    match found {
        Ok(group) => DescribedGroup {
            group_id,
            group_state: Str::from_static(group.state),
            protocol_type: group.protocol_type.into(),
            protocol_data: group.protocol_name.into(),
            members: group.members.into_iter().map(to_member).collect(),
            ..Default::default()
        },
        Err(error) => {
            let (error_code, error_message) = not_found(&group_id, error, "classic");
            let is_unknown = error_code == ErrorCode::GroupIdNotFound;
            let says_so = version >= FIRST_UNKNOWN_GROUP_VERSION || !is_unknown;
            DescribedGroup {
                error_code: if says_so { error_code } else { ErrorCode::None },
                error_message: error_message.filter(|_| says_so),
                group_id,
                group_state: Str::from_static(if is_unknown { DEAD } else { "" }),
                ..Default::default()
            }
        }
    }
}

/// Why a group isn't described, in the words by which clients find out that they are to ask for the other type.
pub(super) fn not_found(group_id: &str, error: DescribeError, asked_type: &str) -> (ErrorCode, Option<Str>) {
    let message = match error {
        DescribeError::Code(ErrorCode::GroupIdNotFound) => format!("Group {group_id} not found."),
        DescribeError::OtherType => format!("Group {group_id} is not a {asked_type} group."),
        DescribeError::Code(code) => return (code, None),
    };
    (ErrorCode::GroupIdNotFound, Some(message.into()))
}

fn to_member(member: MemberMetadata) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.member_id.into(),
        group_instance_id: member.instance_id.map(Str::from),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        member_metadata: member.subscription,
        member_assignment: member.assignment,
    }
}

pub(crate) async fn list_groups(groups: &Groups, request: ListGroupsRequest) -> ListGroupsResponse {
    let found = match groups.list().await {
        Ok(found) => found,
        Err(error_code) => {
            return ListGroupsResponse {
                error_code,
                ..Default::default()
            };
        }
    };
    // Kafka takes blanks off states, and not off types.
    let states: Vec<&str> = request.states_filter.iter().map(|state| state.trim()).collect();
    let types: Vec<&str> = request.types_filter.iter().map(|wanted| &**wanted).collect();
    let passes = |filter: &[&str], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let is_asked_for = |group: &GroupSummary| passes(&states, group.state) && passes(&types, group.group_type);
    let listed = |group: GroupSummary| ListedGroup {
        group_id: group.id.into(),
        protocol_type: group.protocol_type.into(),
        group_state: Str::from_static(group.state),
        group_type: Str::from_static(group.group_type),
    };
    ListGroupsResponse {
        groups: found.into_iter().filter(is_asked_for).map(listed).collect(),
        ..Default::default()
    }
}
