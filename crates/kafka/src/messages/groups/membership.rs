//! Heartbeat and LeaveGroup: staying in a group, and not.

pub use heartbeat::*;
pub use leave_group::*;

mod heartbeat {
    use crate::{ErrorCode, Str};

    api! {
        Heartbeat, versions 0..=4, flexible 4..;

        request HeartbeatRequest {
            group_id: Str,
            generation_id: i32,
            member_id: Str,
            group_instance_id: Option<Str> [3..],
        }

        response HeartbeatResponse {
            throttle_time_ms: i32 [1.., ignorable],
            error_code: ErrorCode,
        }
    }
}

mod leave_group {
    use crate::{ErrorCode, Str};

    api! {
        LeaveGroup, versions 0..=5, flexible 4..;

        request LeaveGroupRequest {
            group_id: Str,
            member_id: Str [..=2],
            members: Vec<MemberIdentity> [3..],
        }

        response LeaveGroupResponse {
            throttle_time_ms: i32 [1.., ignorable],
            error_code: ErrorCode,
            members: Vec<MemberResponse> [3..],
        }

        struct MemberIdentity {
            member_id: Str,
            group_instance_id: Option<Str>,
            reason: Option<Str> [5.., ignorable],
        }

        struct MemberResponse {
            member_id: Str,
            group_instance_id: Option<Str>,
            error_code: ErrorCode,
        }
    }
}
