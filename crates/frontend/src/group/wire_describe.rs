//! DescribeGroups and ListGroups of the wire, as questions to groups' owners, and back.
//!
//! Owns: what an unknown group is called in which version, and the filters of a list.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::coordinator::Groups;
use super::effects::{GroupDescription, GroupSummary, MemberMetadata, Reply, Request};
use crate::server::RequestContext;

/// From here on an unknown group is an error (KIP-1043); before, it is a group in the state Dead.
const FIRST_UNKNOWN_GROUP_VERSION: i16 = 6;
const DEAD: &str = "Dead";
/// The only type of groups there is here.
const CLASSIC: &str = "classic";
/// What a client may do with a group where nobody is forbidden anything, as Kafka's bits: read, delete, describe, and
/// both for configs.
const ALL_GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

pub(crate) async fn describe_groups(
    groups: &Groups,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut described = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let reply = groups.ask(group_id.clone().into(), Request::Describe).await;
        let found = match reply {
            Reply::Describe(found) => found,
            _ => Err(ErrorCode::UnknownServerError),
        };
        let mut group = to_described(group_id, found, context.version);
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

fn to_described(group_id: Str, found: Result<GroupDescription, ErrorCode>, version: i16) -> DescribedGroup {
    match found {
        Ok(group) => DescribedGroup {
            group_id,
            group_state: Str::from_static(group.state),
            protocol_type: group.protocol_type.into(),
            protocol_data: group.protocol_name.into(),
            members: group.members.into_iter().map(to_member).collect(),
            ..Default::default()
        },
        Err(ErrorCode::GroupIdNotFound) => {
            let is_error = version >= FIRST_UNKNOWN_GROUP_VERSION;
            DescribedGroup {
                error_code: if is_error {
                    ErrorCode::GroupIdNotFound
                } else {
                    ErrorCode::None
                },
                error_message: is_error.then(|| format!("Group {group_id} not found.").into()),
                group_id,
                group_state: Str::from_static(DEAD),
                ..Default::default()
            }
        }
        Err(error_code) => DescribedGroup {
            error_code,
            group_id,
            ..Default::default()
        },
    }
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
    let is_asked_for = |group: &GroupSummary| passes(&states, group.state) && passes(&types, CLASSIC);
    let listed = |group: GroupSummary| ListedGroup {
        group_id: group.id.into(),
        protocol_type: group.protocol_type.into(),
        group_state: Str::from_static(group.state),
        group_type: Str::from_static(CLASSIC),
    };
    ListGroupsResponse {
        groups: found.into_iter().filter(is_asked_for).map(listed).collect(),
        ..Default::default()
    }
}
