//! Features of the cluster (KIP-584): which there are, and at which level (UpdateFeatures, ApiVersions).
//!
//! Owns: the table of what is supported. Each feature is at one level, the highest: nothing can be switched, so whatever
//! else is asked for is refused as Kafka refuses what it doesn't support. `metadata.version` stands for the release whose
//! APIs are served, which tools show and ask for; `group.version` tells consumers that groups' coordinators assign for those that want it
//! (KIP-848), `transaction.version` tells producers that each end of a transaction may
//! give them a new epoch (KIP-890). Those that don't know of it are served as ever.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

/// A feature, the levels that are understood, and the one that is in force.
struct Feature {
    name: &'static str,
    lowest: i16,
    level: i16,
}

/// `metadata.version` 30 is Apache Kafka 4.3.
const FEATURES: &[Feature] = &[
    Feature {
        name: "group.version",
        lowest: 0,
        level: 1,
    },
    Feature {
        name: "metadata.version",
        lowest: 30,
        level: 30,
    },
    Feature {
        name: "transaction.version",
        lowest: 0,
        level: 2,
    },
];

/// Levels never change, so all nodes have the same epoch of them.
pub(crate) const FEATURES_EPOCH: i64 = 0;

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// From here on the type of a change is said; before, only whether a lower level is allowed.
const FIRST_TYPED_VERSION: i16 = 1;

pub(crate) fn supported_features() -> Vec<SupportedFeature> {
    let show = |feature: &Feature| SupportedFeature {
        name: Str::from_static(feature.name),
        min_version: feature.lowest,
        max_version: feature.level,
    };
    FEATURES.iter().map(show).collect()
}

pub(crate) fn finalized_features() -> Vec<FinalizedFeature> {
    let show = |feature: &Feature| FinalizedFeature {
        name: Str::from_static(feature.name),
        max_version_level: feature.level,
        min_version_level: feature.level,
    };
    FEATURES.iter().map(show).collect()
}

pub(crate) fn update_features(version: i16, request: &UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let wrong = request
        .feature_updates
        .iter()
        .find_map(|update| refusal(version, update));
    match wrong {
        None => UpdateFeaturesResponse::default(),
        Some(why) => UpdateFeaturesResponse {
            error_code: ErrorCode::InvalidUpdateVersion,
            error_message: Some(
                format!("The update failed for all features since the following feature had an error: {why}").into(),
            ),
            ..Default::default()
        },
    }
}

/// What is wrong with an update, in Kafka's words.
fn refusal(version: i16, update: &FeatureUpdateKey) -> Option<String> {
    let (name, level) = (update.feature.as_str(), update.max_version_level);
    let is_known = matches!(update.upgrade_type, UPGRADE | SAFE_DOWNGRADE | UNSAFE_DOWNGRADE);
    let why = if version >= FIRST_TYPED_VERSION && !is_known {
        "The controller does not support the given upgrade type.".to_owned()
    } else if level < 0 {
        "A feature version cannot be less than 0.".to_owned()
    } else {
        match FEATURES.iter().find(|feature| feature.name == name) {
            Some(feature) if feature.level == level => return None,
            Some(feature) => format!("The controller only supports versions {0}-{0}", feature.level),
            None => "The controller does not support this feature.".to_owned(),
        }
    };
    Some(format!("Invalid update version {level} for feature {name}. {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is supported is finalized, at one level; asking for that level succeeds, for any other it is refused as
    /// Apache Kafka 4.3.0 refuses what it doesn't support.
    #[test]
    fn only_the_level_that_is_served_can_be_asked_for() {
        let ask = |version: i16, feature: &str, max_version_level, upgrade_type| {
            let update = FeatureUpdateKey {
                feature: feature.into(),
                max_version_level,
                upgrade_type,
                ..Default::default()
            };
            let request = UpdateFeaturesRequest {
                feature_updates: vec![update],
                ..Default::default()
            };
            update_features(version, &request)
        };
        assert_eq!(ask(2, "metadata.version", 30, 1), UpdateFeaturesResponse::default());
        assert_eq!(ask(2, "transaction.version", 2, 1), UpdateFeaturesResponse::default());
        let refused = [
            ("metadata.version", 29, 1, "The controller only supports versions 30-30"),
            ("metadata.version", 29, 3, "The controller only supports versions 30-30"),
            ("metadata.version", -1, 3, "A feature version cannot be less than 0."),
            (
                "metadata.version",
                30,
                9,
                "The controller does not support the given upgrade type.",
            ),
            ("transaction.version", 1, 2, "The controller only supports versions 2-2"),
            ("foo", 1, 1, "The controller does not support this feature."),
        ];
        for (feature, level, upgrade_type, why) in refused {
            let response = ask(1, feature, level, upgrade_type);
            let expected = format!(
                "The update failed for all features since the following feature had an error: \
                Invalid update version {level} for feature {feature}. {why}"
            );
            assert_eq!(response.error_code, ErrorCode::InvalidUpdateVersion);
            assert_eq!(response.error_message.as_deref(), Some(&*expected));
        }
        assert_eq!(
            ask(0, "metadata.version", 30, 9).error_code,
            ErrorCode::None,
            "version 0 has no types"
        );
        let levels: Vec<_> = supported_features()
            .iter()
            .zip(finalized_features())
            .map(|(supported, finalized)| {
                assert_eq!(supported.name, finalized.name);
                (
                    supported.min_version,
                    supported.max_version,
                    finalized.max_version_level,
                )
            })
            .collect();
        assert_eq!(levels, [(0, 1, 1), (30, 30, 30), (0, 2, 2)]);
    }
}
