//! Settings of resources: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources.
//!
//! The type of a resource is Kafka's number: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.

pub use alter::*;
pub use describe::*;
pub use incremental_alter::*;
pub use list::*;

mod describe {
    use crate::{ErrorCode, Str};

    api! {
        DescribeConfigs, versions 1..=4, flexible 4..;

        request DescribeConfigsRequest {
            resources: Vec<DescribeConfigsResource>,
            include_synonyms: bool,
            include_documentation: bool [3..],
        }

        response DescribeConfigsResponse {
            throttle_time_ms: i32,
            results: Vec<DescribeConfigsResult>,
        }

        struct DescribeConfigsResource {
            resource_type: i8,
            resource_name: Str,
            /// `None`: all of them.
            configuration_keys: Option<Vec<Str>>,
        }

        struct DescribeConfigsResult {
            error_code: ErrorCode,
            error_message: Option<Str>,
            resource_type: i8,
            resource_name: Str,
            configs: Vec<DescribeConfigsResourceResult>,
        }

        struct DescribeConfigsResourceResult {
            name: Str,
            value: Option<Str>,
            read_only: bool,
            /// 1: topic, 2: dynamic broker, 3: dynamic default broker, 4: static broker, 5: default, 7: dynamic client
            /// metrics, 8: dynamic group.
            config_source: i8 [1.., ignorable] = -1,
            is_sensitive: bool,
            synonyms: Vec<DescribeConfigsSynonym> [1.., ignorable],
            /// 1: boolean, 2: string, 3: int, 4: short, 5: long, 6: double, 7: list, 8: class, 9: password.
            config_type: i8 [3.., ignorable],
            documentation: Option<Str> [3.., ignorable],
        }

        struct DescribeConfigsSynonym {
            name: Str,
            value: Option<Str>,
            source: i8,
        }
    }
}

mod alter {
    use crate::{ErrorCode, Str};

    api! {
        AlterConfigs, versions 0..=2, flexible 2..;

        /// Replaces everything that is set of each resource.
        request AlterConfigsRequest {
            resources: Vec<AlterConfigsResource>,
            validate_only: bool,
        }

        response AlterConfigsResponse {
            throttle_time_ms: i32,
            responses: Vec<AlterConfigsResourceResponse>,
        }

        struct AlterConfigsResource {
            resource_type: i8,
            resource_name: Str,
            configs: Vec<AlterableConfig>,
        }

        struct AlterableConfig {
            name: Str,
            value: Option<Str>,
        }

        struct AlterConfigsResourceResponse {
            error_code: ErrorCode,
            error_message: Option<Str>,
            resource_type: i8,
            resource_name: Str,
        }
    }
}

mod incremental_alter {
    use super::AlterConfigsResourceResponse;
    use crate::Str;

    api! {
        IncrementalAlterConfigs, versions 0..=1, flexible 1..;

        /// Changes what is named and nothing else.
        request IncrementalAlterConfigsRequest {
            resources: Vec<IncrementalAlterConfigsResource>,
            validate_only: bool,
        }

        response IncrementalAlterConfigsResponse {
            throttle_time_ms: i32,
            responses: Vec<AlterConfigsResourceResponse>,
        }

        struct IncrementalAlterConfigsResource {
            resource_type: i8,
            resource_name: Str,
            configs: Vec<IncrementalAlterableConfig>,
        }

        struct IncrementalAlterableConfig {
            name: Str,
            /// 0: set, 1: delete, 2: append to a list, 3: subtract from it.
            config_operation: i8,
            value: Option<Str>,
        }
    }
}

mod list {
    use crate::{ErrorCode, Str};

    api! {
        ListConfigResources, versions 0..=1, flexible 0..;

        request ListConfigResourcesRequest {
            /// Empty: all of them.
            resource_types: Vec<i8> [1..],
        }

        response ListConfigResourcesResponse {
            throttle_time_ms: i32,
            error_code: ErrorCode,
            config_resources: Vec<ConfigResource>,
        }

        struct ConfigResource {
            resource_name: Str,
            resource_type: i8 [1.., ignorable] = 16,
        }
    }
}
