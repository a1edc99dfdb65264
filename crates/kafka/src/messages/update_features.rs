//! UpdateFeatures: other levels of finalized features (KIP-584, KIP-778).

use crate::{ErrorCode, Str};

api! {
    UpdateFeatures, versions 0..=2, flexible 0..;

    request UpdateFeaturesRequest {
        timeout_ms: i32 = 60_000,
        feature_updates: Vec<FeatureUpdateKey>,
        validate_only: bool [1..],
    }

    response UpdateFeaturesResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        results: Vec<UpdatableFeatureResult> [..=1, ignorable],
    }

    struct FeatureUpdateKey {
        feature: Str,
        max_version_level: i16,
        allow_downgrade: bool [..=0],
        /// 1: upgrade, 2: downgrade where nothing is lost, 3: any downgrade.
        upgrade_type: i8 [1..] = 1,
    }

    struct UpdatableFeatureResult {
        feature: Str,
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
