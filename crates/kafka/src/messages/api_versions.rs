//! ApiVersions: what this broker speaks (KIP-35, KIP-511, KIP-584).

use crate::{ErrorCode, Str};

api! {
    ApiVersions, versions 0..=4, flexible 3..;

    request ApiVersionsRequest {
        client_software_name: Str [3.., ignorable],
        client_software_version: Str [3.., ignorable],
    }

    /// Always sent with response header v0.
    response ApiVersionsResponse {
        error_code: ErrorCode,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1.., ignorable],
        supported_features: Vec<SupportedFeature> [3.., tag 0, ignorable],
        /// -1 is unknown.
        finalized_features_epoch: i64 [3.., tag 1, ignorable] = -1,
        finalized_features: Vec<FinalizedFeature> [3.., tag 2, ignorable],
        zk_migration_ready: bool [3.., tag 3, ignorable],
    }

    struct ApiVersion {
        /// Any API's number: a client may know more APIs than this crate.
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    struct SupportedFeature {
        name: Str,
        min_version: i16,
        max_version: i16,
    }

    struct FinalizedFeature {
        name: Str,
        max_version_level: i16,
        min_version_level: i16,
    }
}
