//! What an error of the `object_store` crate means: which may mend, and what may have happened.

use std::error::Error as StdError;
use std::io;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};
use tailwater_types::Outcome;

use crate::error::StoreError;
use crate::storage::Operation;

/// How `object_store` begins the text of an answer with a bad status. Its type for that is private; `s3_tests` would
/// notice if the text changed.
const STATUS_TEXT: &str = "non-2xx status code: ";
/// How it begins the text of a good status with an error in its body, which S3 may give for a completed upload.
const ERROR_BODY_TEXT: &str = "Server returned error response";

pub(super) fn classify(operation: Operation, key: &str, error: &Error) -> StoreError {
    let key = key.to_owned();
    let reason = text(error);
    let unknown = if operation.writes() {
        Outcome::Unknown
    } else {
        Outcome::DidNotHappen
    };
    let refused = |outcome| StoreError::Refused {
        operation,
        key: key.clone(),
        reason: reason.clone(),
        outcome,
    };
    let unavailable = |outcome| StoreError::Unavailable {
        operation,
        key: key.clone(),
        reason: reason.clone(),
        outcome,
    };
    match error {
        Error::NotFound { .. } => return StoreError::NotFound { operation, key },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::AlreadyExists { .. } => {
            return refused(Outcome::DidNotHappen);
        }
        _ => {}
    }
    if let Some(error) = cause::<io::Error>(error) {
        return match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace { operation, key, reason },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
                refused(Outcome::DidNotHappen)
            }
            _ => unavailable(unknown),
        };
    }
    if let Some(status) = status(&reason) {
        return match status {
            408 => unavailable(Outcome::DidNotHappen),
            429 => StoreError::Throttled {
                operation,
                key,
                reason,
                outcome: Outcome::DidNotHappen,
            },
            503 => StoreError::Throttled {
                operation,
                key,
                reason,
                outcome: unknown,
            },
            400..500 => refused(Outcome::DidNotHappen),
            _ => unavailable(unknown),
        };
    }
    match cause::<HttpError>(error).map(HttpError::kind) {
        Some(HttpErrorKind::Connect) => unavailable(Outcome::DidNotHappen),
        Some(_) => unavailable(unknown),
        None if reason.contains(ERROR_BODY_TEXT) => unavailable(unknown),
        // A range beyond the end of a file, an answer that isn't S3's, a redirect to another region.
        None => refused(unknown),
    }
}

impl StoreError {
    /// The value of the label `result` in metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::NoSpace { .. } => "no_space",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable { .. } => "unavailable",
            _ => "refused",
        }
    }
}

/// The first error of type `E` among the error and its causes. An HTTP client's own I/O errors don't count: they say
/// nothing about a disk.
fn cause<E: StdError + 'static>(error: &Error) -> Option<&E> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        if error.is::<HttpError>() {
            return None;
        }
        next = error.source();
    }
    None
}

fn status(reason: &str) -> Option<u16> {
    let (_, behind) = reason.split_once(STATUS_TEXT)?;
    behind.get(..3)?.parse().ok()
}

/// The error with those of its causes that it doesn't repeat itself.
fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl StdError + Send + Sync + 'static) -> StoreError {
        let error = Error::Generic {
            store: "test",
            source: Box::new(source),
        };
        classify(Operation::Put, "key", &error)
    }

    /// A full disk is its own kind, a forbidden one no use trying, a failing one may mend.
    #[test]
    fn disk_errors_are_told_apart() {
        let no_space = generic(io::Error::from_raw_os_error(28));
        assert!(matches!(no_space, StoreError::NoSpace { .. }), "{no_space}");
        assert!(no_space.is_retriable() && !no_space.mends_soon());
        let denied = generic(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(!denied.is_retriable());
        let failing = generic(io::Error::from_raw_os_error(5));
        assert!(failing.mends_soon());
        assert_eq!(failing.outcome(), Outcome::Unknown);
    }

    /// A connection that was refused did nothing; one that broke may have.
    #[test]
    fn broken_connections_have_an_unknown_outcome() {
        let http = |kind| generic(HttpError::new(kind, io::Error::from(io::ErrorKind::StorageFull)));
        let refused = http(HttpErrorKind::Connect);
        assert_eq!((refused.mends_soon(), refused.outcome()), (true, Outcome::DidNotHappen));
        let broken = http(HttpErrorKind::Interrupted);
        assert_eq!((broken.mends_soon(), broken.outcome()), (true, Outcome::Unknown));
    }
}
