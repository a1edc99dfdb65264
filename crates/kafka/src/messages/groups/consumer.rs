//! Groups whose coordinator assigns (KIP-848): ConsumerGroupHeartbeat and ConsumerGroupDescribe.

pub use describe::*;
pub use heartbeat::*;

mod heartbeat {
    use crate::{ErrorCode, Str, Uuid};

    api! {
        ConsumerGroupHeartbeat, versions 0..=1, flexible 0..;

        /// What is `None` or -1 hasn't changed since the last one.
        request ConsumerGroupHeartbeatRequest {
            group_id: Str,
            member_id: Str,
            /// 0 joins, -1 leaves, -2 leaves for a while (static members).
            member_epoch: i32,
            instance_id: Option<Str>,
            rack_id: Option<Str>,
            rebalance_timeout_ms: i32 = -1,
            subscribed_topic_names: Option<Vec<Str>>,
            subscribed_topic_regex: Option<Str> [1..],
            server_assignor: Option<Str>,
            topic_partitions: Option<Vec<ConsumerGroupHeartbeatTopic>>,
        }

        response ConsumerGroupHeartbeatResponse {
            throttle_time_ms: i32,
            error_code: ErrorCode,
            error_message: Option<Str>,
            member_id: Option<Str>,
            member_epoch: i32,
            heartbeat_interval_ms: i32,
            /// `None`: as before.
            assignment: Option<ConsumerGroupHeartbeatAssignment>,
        }

        struct ConsumerGroupHeartbeatAssignment {
            topic_partitions: Vec<ConsumerGroupHeartbeatTopic>,
        }

        struct ConsumerGroupHeartbeatTopic {
            topic_id: Uuid,
            partitions: Vec<i32>,
        }
    }
}

mod describe {
    use crate::{ErrorCode, Str, Uuid};

    api! {
        ConsumerGroupDescribe, versions 0..=1, flexible 0..;

        request ConsumerGroupDescribeRequest {
            group_ids: Vec<Str>,
            include_authorized_operations: bool,
        }

        response ConsumerGroupDescribeResponse {
            throttle_time_ms: i32,
            groups: Vec<DescribedConsumerGroup>,
        }

        struct DescribedConsumerGroup {
            error_code: ErrorCode,
            error_message: Option<Str>,
            group_id: Str,
            group_state: Str,
            group_epoch: i32,
            assignment_epoch: i32,
            assignor_name: Str,
            members: Vec<DescribedConsumerGroupMember>,
            /// A set of bits; `i32::MIN` where nobody asked.
            authorized_operations: i32 = i32::MIN,
        }

        struct DescribedConsumerGroupMember {
            member_id: Str,
            instance_id: Option<Str>,
            rack_id: Option<Str>,
            member_epoch: i32,
            client_id: Str,
            client_host: Str,
            subscribed_topic_names: Vec<Str>,
            subscribed_topic_regex: Option<Str>,
            assignment: DescribedAssignment,
            target_assignment: DescribedAssignment,
            /// -1 unknown, 0 of the classic protocol, 1 of this one.
            member_type: i8 [1.., ignorable] = -1,
        }

        struct DescribedAssignment {
            topic_partitions: Vec<DescribedAssignmentTopic>,
        }

        struct DescribedAssignmentTopic {
            topic_id: Uuid,
            topic_name: Str,
            partitions: Vec<i32>,
        }
    }
}
