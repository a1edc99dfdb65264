//! CreateTopics and DeleteTopics.

pub use create::*;
pub use delete::*;

mod create {
    use crate::{ErrorCode, Str, Uuid};

    api! {
        CreateTopics, versions 2..=7, flexible 5..;

        request CreateTopicsRequest {
            topics: Vec<CreatableTopic>,
            timeout_ms: i32 = 60_000,
            validate_only: bool [1..],
        }

        response CreateTopicsResponse {
            throttle_time_ms: i32 [2.., ignorable],
            topics: Vec<CreatableTopicResult>,
        }

        struct CreatableTopic {
            name: Str,
            /// -1 with assignments, or for the broker's default.
            num_partitions: i32,
            /// -1 with assignments, or for the broker's default.
            replication_factor: i16,
            assignments: Vec<CreatableReplicaAssignment>,
            configs: Vec<CreatableTopicConfig>,
        }

        struct CreatableReplicaAssignment {
            partition_index: i32,
            broker_ids: Vec<i32>,
        }

        struct CreatableTopicConfig {
            name: Str,
            value: Option<Str>,
        }

        struct CreatableTopicResult {
            name: Str,
            topic_id: Uuid [7.., ignorable],
            error_code: ErrorCode,
            error_message: Option<Str> [1.., ignorable],
            topic_config_error_code: ErrorCode [5.., tag 0, ignorable],
            num_partitions: i32 [5.., ignorable] = -1,
            replication_factor: i16 [5.., ignorable] = -1,
            /// Not null unless `topic_config_error_code` says why: the Java client throws otherwise.
            configs: Option<Vec<CreatableTopicConfigs>> [5.., ignorable] = Some(Vec::new()),
        }

        struct CreatableTopicConfigs {
            name: Str,
            value: Option<Str>,
            read_only: bool,
            /// 1: topic, 2: dynamic broker, 3: dynamic default broker, 4: static broker, 5: default.
            config_source: i8 [0.., ignorable] = -1,
            is_sensitive: bool,
        }
    }
}

mod delete {
    use crate::{ErrorCode, Str, Uuid};

    api! {
        DeleteTopics, versions 1..=6, flexible 4..;

        request DeleteTopicsRequest {
            topics: Vec<DeleteTopicState> [6..],
            topic_names: Vec<Str> [..=5, ignorable],
            timeout_ms: i32,
        }

        response DeleteTopicsResponse {
            throttle_time_ms: i32 [1.., ignorable],
            responses: Vec<DeletableTopicResult>,
        }

        /// Names the topic by one of both.
        struct DeleteTopicState {
            name: Option<Str>,
            topic_id: Uuid,
        }

        struct DeletableTopicResult {
            name: Option<Str> [0.., null 6..],
            topic_id: Uuid [6.., ignorable],
            error_code: ErrorCode,
            error_message: Option<Str> [5.., ignorable],
        }
    }
}
