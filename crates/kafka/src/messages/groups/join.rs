//! JoinGroup and SyncGroup: one rebalance. Metadata and assignments are the members' own business.

pub use join_group::*;
pub use sync_group::*;

mod join_group {
    use bytes::Bytes;

    use crate::{ErrorCode, Str};

    api! {
        JoinGroup, versions 0..=9, flexible 6..;

        request JoinGroupRequest {
            group_id: Str,
            session_timeout_ms: i32,
            /// -1: the session timeout.
            rebalance_timeout_ms: i32 [1.., ignorable] = -1,
            /// Empty at first.
            member_id: Str,
            group_instance_id: Option<Str> [5..],
            protocol_type: Str,
            protocols: Vec<JoinGroupRequestProtocol>,
            reason: Option<Str> [8.., ignorable],
        }

        response JoinGroupResponse {
            throttle_time_ms: i32 [2.., ignorable],
            error_code: ErrorCode,
            generation_id: i32 = -1,
            protocol_type: Option<Str> [7.., ignorable],
            protocol_name: Option<Str> [0.., null 7..] = Some(Str::default()),
            leader: Str,
            skip_assignment: bool [9..],
            member_id: Str,
            /// For the leader only.
            members: Vec<JoinGroupResponseMember>,
        }

        struct JoinGroupRequestProtocol {
            name: Str,
            metadata: Bytes,
        }

        struct JoinGroupResponseMember {
            member_id: Str,
            group_instance_id: Option<Str> [5.., ignorable],
            metadata: Bytes,
        }
    }
}

mod sync_group {
    use bytes::Bytes;

    use crate::{ErrorCode, Str};

    api! {
        SyncGroup, versions 0..=5, flexible 4..;

        request SyncGroupRequest {
            group_id: Str,
            generation_id: i32,
            member_id: Str,
            group_instance_id: Option<Str> [3..],
            protocol_type: Option<Str> [5.., ignorable],
            protocol_name: Option<Str> [5.., ignorable],
            /// From the leader only.
            assignments: Vec<SyncGroupRequestAssignment>,
        }

        response SyncGroupResponse {
            throttle_time_ms: i32 [1.., ignorable],
            error_code: ErrorCode,
            protocol_type: Option<Str> [5.., ignorable],
            protocol_name: Option<Str> [5.., ignorable],
            assignment: Bytes,
        }

        struct SyncGroupRequestAssignment {
            member_id: Str,
            assignment: Bytes,
        }
    }
}
