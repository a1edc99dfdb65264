//! DescribeGroups and ListGroups: what administrators see of groups.

pub use describe_groups::*;
pub use list_groups::*;

mod describe_groups {
    use bytes::Bytes;

    use crate::{ErrorCode, Str};

    api! {
        DescribeGroups, versions 0..=6, flexible 5..;

        request DescribeGroupsRequest {
            groups: Vec<Str>,
            include_authorized_operations: bool [3..],
        }

        response DescribeGroupsResponse {
            throttle_time_ms: i32 [1.., ignorable],
            groups: Vec<DescribedGroup>,
        }

        struct DescribedGroup {
            error_code: ErrorCode,
            error_message: Option<Str> [6..],
            group_id: Str,
            group_state: Str,
            protocol_type: Str,
            /// The protocol's name, in the state Stable.
            protocol_data: Str,
            members: Vec<DescribedGroupMember>,
            /// A set of bits; `i32::MIN` where nobody asked.
            authorized_operations: i32 [3..] = i32::MIN,
        }

        struct DescribedGroupMember {
            member_id: Str,
            group_instance_id: Option<Str> [4.., ignorable],
            client_id: Str,
            client_host: Str,
            /// Like the assignment, in the state Stable only.
            member_metadata: Bytes,
            member_assignment: Bytes,
        }
    }
}

mod list_groups {
    use crate::{ErrorCode, Str};

    api! {
        ListGroups, versions 0..=5, flexible 3..;

        request ListGroupsRequest {
            /// Empty: all (KIP-518).
            states_filter: Vec<Str> [4..],
            /// Empty: all (KIP-848).
            types_filter: Vec<Str> [5..],
        }

        response ListGroupsResponse {
            throttle_time_ms: i32 [1.., ignorable],
            error_code: ErrorCode,
            groups: Vec<ListedGroup>,
        }

        struct ListedGroup {
            group_id: Str,
            protocol_type: Str,
            group_state: Str [4.., ignorable],
            group_type: Str [5.., ignorable],
        }
    }
}
