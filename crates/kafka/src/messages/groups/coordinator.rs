//! FindCoordinator: which broker answers for a group or a transactional id.

use crate::{ErrorCode, Str};

api! {
    FindCoordinator, versions 0..=6, flexible 3..;

    request FindCoordinatorRequest {
        key: Str [..=3],
        /// 0: group, 1: transaction, 2: share group.
        key_type: i8 [1..],
        coordinator_keys: Vec<Str> [4..],
    }

    response FindCoordinatorResponse {
        throttle_time_ms: i32 [1.., ignorable],
        error_code: ErrorCode [..=3],
        error_message: Option<Str> [1..=3, ignorable],
        node_id: i32 [..=3],
        host: Str [..=3],
        port: i32 [..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    struct Coordinator {
        key: Str,
        node_id: i32,
        host: Str,
        port: i32,
        error_code: ErrorCode,
        error_message: Option<Str> [0.., ignorable],
    }
}
