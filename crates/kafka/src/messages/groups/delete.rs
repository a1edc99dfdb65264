//! DeleteGroups and OffsetDelete: forgetting what groups have committed.

pub use delete_groups::*;
pub use offset_delete::*;

mod delete_groups {
    use crate::{ErrorCode, Str};

    api! {
        DeleteGroups, versions 0..=2, flexible 2..;

        request DeleteGroupsRequest {
            groups_names: Vec<Str>,
        }

        response DeleteGroupsResponse {
            throttle_time_ms: i32,
            results: Vec<DeletableGroupResult>,
        }

        struct DeletableGroupResult {
            group_id: Str,
            error_code: ErrorCode,
        }
    }
}

mod offset_delete {
    use crate::{ErrorCode, Str};

    api! {
        // It has no flexible version.
        OffsetDelete, versions 0..=0, flexible 32_767..;

        request OffsetDeleteRequest {
            group_id: Str,
            topics: Vec<OffsetDeleteRequestTopic>,
        }

        response OffsetDeleteResponse {
            error_code: ErrorCode,
            throttle_time_ms: i32 [0.., ignorable],
            topics: Vec<OffsetDeleteResponseTopic>,
        }

        struct OffsetDeleteRequestTopic {
            name: Str,
            partitions: Vec<OffsetDeleteRequestPartition>,
        }

        struct OffsetDeleteRequestPartition {
            partition_index: i32,
        }

        struct OffsetDeleteResponseTopic {
            name: Str,
            partitions: Vec<OffsetDeleteResponsePartition>,
        }

        struct OffsetDeleteResponsePartition {
            partition_index: i32,
            error_code: ErrorCode,
        }
    }
}
