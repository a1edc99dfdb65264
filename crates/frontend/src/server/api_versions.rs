//! ApiVersions: what this node speaks.
//!
//! Owns: rule 1 of docs/kafka.md. A version that isn't spoken is answered in version 0 with error 35 and all
//! ranges, so that a newer client can go on with what there is.

use tailwater_kafka::messages::{ApiVersionsRequest, ApiVersionsResponse};
use tailwater_kafka::{ApiKey, CodecError, ErrorCode, Frame, encode_response, supported};

use crate::admin::features;

/// From here on clients name their software (KIP-511).
const FIRST_NAMED_VERSION: i16 = 3;

pub(super) fn handle(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let is_named =
        is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version);
    if version >= FIRST_NAMED_VERSION && !is_named {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest,
            ..Default::default()
        };
    }
    ApiVersionsResponse {
        api_keys: supported(ApiKey::ALL),
        supported_features: features::supported_features(),
        finalized_features_epoch: features::FEATURES_EPOCH,
        finalized_features: features::finalized_features(),
        ..Default::default()
    }
}

/// The answer to a version that isn't spoken.
///
/// # Errors
/// None in practice: version 0 can say everything that is in it.
pub(super) fn unsupported(correlation_id: i32) -> Result<Frame, CodecError> {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: supported(ApiKey::ALL),
        ..Default::default()
    };
    encode_response(correlation_id, 0, &response)
}

/// Letters and digits, with dashes and dots between them.
fn is_software_name(name: &str) -> bool {
    let is_outer = |byte: &u8| byte.is_ascii_alphanumeric();
    let is_inner = |byte: &u8| is_outer(byte) || matches!(byte, b'-' | b'.');
    let bytes = name.as_bytes();
    bytes.first().is_some_and(is_outer) && bytes.last().is_some_and(is_outer) && bytes.iter().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are checked as Apache Kafka checks them, and only where clients send any.
    #[test]
    fn software_names_are_checked_from_version_3_on() {
        let named = |name: &str| ApiVersionsRequest {
            client_software_name: name.into(),
            client_software_version: "1.0-SNAPSHOT".into(),
        };
        let error = |version, name: &str| handle(version, &named(name)).error_code;
        assert_eq!(error(3, "apache-kafka.java"), ErrorCode::None);
        for name in ["", "-a", "a-", "a b", "a\n"] {
            assert_eq!(error(3, name), ErrorCode::InvalidRequest, "{name:?}");
            assert_eq!(error(2, name), ErrorCode::None, "{name:?}");
        }
    }

    /// Produce is advertised from 0, or old librdkafka stops compressing; everything else as it is served.
    #[test]
    fn produce_is_advertised_from_0() {
        let response = handle(0, &ApiVersionsRequest::default());
        assert_eq!(response.api_keys.len(), ApiKey::ALL.len());
        let produce = response
            .api_keys
            .iter()
            .find(|api| api.api_key == ApiKey::Produce.code())
            .unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
}
