//! Which failure of the controller is which of Kafka's error codes. The data path's are in `error_codes.rs`.

use tailwater_kafka::ErrorCode;
use tailwater_rpc::Error;
use tailwater_types::Kind;

/// Why a topic wasn't created, changed or deleted.
pub(crate) fn of_catalog(error: &Error) -> ErrorCode {
    match error {
        Error::AlreadyExists(_) => ErrorCode::TopicAlreadyExists,
        Error::NotFound(_) => ErrorCode::UnknownTopicOrPartition,
        Error::Invalid(_) => ErrorCode::InvalidRequest,
        error => match error.kind() {
            Kind::Throttled => ErrorCode::ThrottlingQuotaExceeded,
            // Retriable: another node, or another controller, may be able to.
            Kind::Unavailable | Kind::Fenced | Kind::Shutdown => ErrorCode::NotController,
            _ => ErrorCode::UnknownServerError,
        },
    }
}

/// Why there is no producer id. Clients try a coordinator again that is loading.
pub(crate) fn of_producer_ids(error: &Error) -> ErrorCode {
    match error.kind() {
        Kind::Throttled | Kind::Unavailable | Kind::Fenced | Kind::Shutdown => ErrorCode::CoordinatorLoadInProgress,
        _ => ErrorCode::UnknownServerError,
    }
}
