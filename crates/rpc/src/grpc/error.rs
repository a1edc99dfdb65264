//! [`Error`] ⇄ gRPC status: the one place that knows gRPC's codes (style rule 15).
//!
//! An error travels as a [`proto::Refusal`] in the status' details, so that it comes back as the variant that it was. The
//! code and message beside it are for people and for tools that speak gRPC only. A status without a refusal comes from
//! what lies between the two sides. Does not own: who calls again.

use std::error::Error as StdError;

use prost::Message;
use tailwater_types::{
    ControllerEpoch, DeviceId, JournalId, Kind, Lsn, MetadataVersion, NodeEpoch, NodeId, ObjectId, Outcome, StreamId,
    TaskId,
};
use tonic::{Code, ConnectError, Status};

use super::proto;
use super::proto::refusal::{self, Reason};
use crate::{Error, Result};

/// The most of an error's text that travels: a status goes into HTTP/2 headers, which peers take up to 16 KiB of.
const MAX_TEXT_BYTES: usize = 6 << 10;

/// The most of it in the status' message, where it may take three times its size.
const MAX_MESSAGE_BYTES: usize = 512;

/// The status that carries `error`.
pub(crate) fn to_status(error: &Error) -> Status {
    let details = to_refusal(error).encode_to_vec();
    let message = clipped(&error.to_string(), MAX_MESSAGE_BYTES);
    Status::with_details(code(error), message, details.into())
}

/// The error that a call to `peer` failed with; `peer` says whom and where in the text of what the peer didn't say itself.
pub(crate) fn from_status(status: &Status, peer: &str) -> Error {
    if !status.details().is_empty() {
        let refusal = proto::Refusal::decode(status.details()).map_err(|error| error.to_string());
        match refusal.and_then(|refusal| from_refusal(refusal).map_err(|error| error.to_string())) {
            Ok(error) => return error,
            // A newer peer may know more reasons than this process.
            Err(unread) => return without_refusal(status, peer, &format!(" ({unread})")),
        }
    }
    without_refusal(status, peer, "")
}

/// A call that had no answer in time: it may have been carried out.
pub(crate) fn timed_out(peer: &str) -> Error {
    Error::Unavailable {
        detail: format!("{peer} didn't answer in time"),
        outcome: Outcome::Unknown,
    }
}

/// The refusal of one part of a request, or of all of it.
pub(crate) fn to_refusal(error: &Error) -> proto::Refusal {
    let text = |text: &String| clipped(text, MAX_TEXT_BYTES);
    let reason = match error {
        Error::NodeEpochStale {
            node,
            carried,
            registered,
        } => Reason::NodeEpochStale(node_epoch(*node, *carried, *registered)),
        Error::NodeEpochUnknown {
            node,
            carried,
            registered,
        } => Reason::NodeEpochUnknown(node_epoch(*node, *carried, *registered)),
        Error::NodeFenced { node } => Reason::NodeFenced(node.0),
        Error::NodeUnknown { node } => Reason::NodeUnknown(node.0),
        Error::NotActiveController { term, seen } => Reason::NotActiveController(refusal::NotActiveController {
            term: term.0,
            seen: seen.0,
        }),
        Error::DeviceChanged { expected, found } => Reason::DeviceChanged(refusal::DeviceChanged {
            expected: expected.to_bytes().to_vec().into(),
            found: found.to_bytes().to_vec().into(),
        }),
        Error::JournalFenced { journal } => Reason::JournalFenced(journal.0),
        Error::JournalEpochUnknown { journal } => Reason::JournalEpochUnknown(journal.0),
        Error::StreamFenced { stream } => Reason::StreamFenced(stream.0),
        Error::LsnGap {
            journal,
            expected,
            found,
        } => Reason::LsnGap(refusal::LsnGap {
            journal: journal.0,
            expected: expected.0,
            found: found.0,
        }),
        Error::ControllerFenced { journal } => Reason::ControllerFenced(journal.0),
        Error::StreamNotClosed { stream } => Reason::StreamNotClosed(stream.0),
        Error::LeaseFenced { task } => Reason::LeaseFenced(task.0),
        Error::ObjectExpired { object } => Reason::ObjectExpired(object.0),
        Error::ObjectReplaced { object } => Reason::ObjectReplaced(object.0),
        Error::OffsetNotMatched { journal, trim } => Reason::OffsetNotMatched(refusal::OffsetNotMatched {
            journal: journal.0,
            trim: trim.0,
        }),
        Error::Trimmed { version } => Reason::TrimmedAtVersion(version.0),
        Error::NotHere => Reason::NotHere(refusal::NotHere {}),
        Error::Invalid(detail) => Reason::Invalid(text(detail)),
        Error::NotFound(what) => Reason::NotFound(text(what)),
        Error::AlreadyExists(what) => Reason::AlreadyExists(text(what)),
        Error::Throttled(detail) => Reason::Throttled(text(detail)),
        Error::Unavailable { detail, outcome } => Reason::Unavailable(refusal::Unavailable {
            detail: text(detail),
            outcome_unknown: *outcome == Outcome::Unknown,
        }),
        Error::Corrupt(detail) => Reason::Corrupt(text(detail)),
        Error::Shutdown => Reason::Shutdown(refusal::Shutdown {}),
        Error::Internal(detail) => Reason::Internal(text(detail)),
    };
    proto::Refusal { reason: Some(reason) }
}

/// # Errors
/// [`Error::Invalid`] for a refusal without a reason, or with one that this process doesn't know.
pub(crate) fn from_refusal(refusal: proto::Refusal) -> Result<Error> {
    let Some(reason) = refusal.reason else {
        return Err(Error::Invalid("a refusal without a reason known here".to_owned()));
    };
    Ok(match reason {
        Reason::NodeEpochStale(it) => Error::NodeEpochStale {
            node: NodeId(it.node),
            carried: NodeEpoch(it.carried),
            registered: NodeEpoch(it.registered),
        },
        Reason::NodeEpochUnknown(it) => Error::NodeEpochUnknown {
            node: NodeId(it.node),
            carried: NodeEpoch(it.carried),
            registered: NodeEpoch(it.registered),
        },
        Reason::NodeFenced(node) => Error::NodeFenced { node: NodeId(node) },
        Reason::NodeUnknown(node) => Error::NodeUnknown { node: NodeId(node) },
        Reason::NotActiveController(it) => Error::NotActiveController {
            term: ControllerEpoch(it.term),
            seen: ControllerEpoch(it.seen),
        },
        Reason::DeviceChanged(it) => Error::DeviceChanged {
            expected: device(&it.expected)?,
            found: device(&it.found)?,
        },
        Reason::JournalFenced(journal) => Error::JournalFenced {
            journal: JournalId(journal),
        },
        Reason::JournalEpochUnknown(journal) => Error::JournalEpochUnknown {
            journal: JournalId(journal),
        },
        Reason::StreamFenced(stream) => Error::StreamFenced {
            stream: StreamId(stream),
        },
        Reason::LsnGap(it) => Error::LsnGap {
            journal: JournalId(it.journal),
            expected: Lsn(it.expected),
            found: Lsn(it.found),
        },
        Reason::ControllerFenced(journal) => Error::ControllerFenced {
            journal: JournalId(journal),
        },
        Reason::StreamNotClosed(stream) => Error::StreamNotClosed {
            stream: StreamId(stream),
        },
        Reason::LeaseFenced(task) => Error::LeaseFenced { task: TaskId(task) },
        Reason::ObjectReplaced(object) => Error::ObjectReplaced {
            object: ObjectId(object),
        },
        Reason::ObjectExpired(object) => Error::ObjectExpired {
            object: ObjectId(object),
        },
        Reason::OffsetNotMatched(it) => Error::OffsetNotMatched {
            journal: JournalId(it.journal),
            trim: Lsn(it.trim),
        },
        Reason::TrimmedAtVersion(version) => Error::Trimmed {
            version: MetadataVersion(version),
        },
        Reason::NotHere(_) => Error::NotHere,
        Reason::Invalid(detail) => Error::Invalid(detail),
        Reason::NotFound(what) => Error::NotFound(what),
        Reason::AlreadyExists(what) => Error::AlreadyExists(what),
        Reason::Throttled(detail) => Error::Throttled(detail),
        Reason::Unavailable(it) => Error::Unavailable {
            detail: it.detail,
            outcome: if it.outcome_unknown {
                Outcome::Unknown
            } else {
                Outcome::DidNotHappen
            },
        },
        Reason::Corrupt(detail) => Error::Corrupt(detail),
        Reason::Shutdown(_) => Error::Shutdown,
        Reason::Internal(detail) => Error::Internal(detail),
    })
}

fn node_epoch(node: NodeId, carried: NodeEpoch, registered: NodeEpoch) -> refusal::NodeEpoch {
    refusal::NodeEpoch {
        node: node.0,
        carried: carried.0,
        registered: registered.0,
    }
}

fn device(bytes: &[u8]) -> Result<DeviceId> {
    let bytes = bytes
        .try_into()
        .map_err(|_| Error::Invalid(format!("a refusal names a device of {} bytes", bytes.len())))?;
    Ok(DeviceId::from_bytes(bytes))
}

fn code(error: &Error) -> Code {
    match error.kind() {
        Kind::Invalid if matches!(error, Error::AlreadyExists(_)) => Code::AlreadyExists,
        Kind::Invalid if matches!(error, Error::Invalid(_)) => Code::InvalidArgument,
        Kind::Invalid | Kind::Fenced => Code::FailedPrecondition,
        Kind::NotFound => Code::NotFound,
        Kind::Throttled => Code::ResourceExhausted,
        Kind::Unavailable | Kind::Shutdown => Code::Unavailable,
        Kind::Corrupt => Code::DataLoss,
        Kind::Internal => Code::Internal,
    }
}

/// What didn't come from the peer's port: the connection, a deadline, a limit, a server of another version.
fn without_refusal(status: &Status, peer: &str, unread: &str) -> Error {
    let outcome = if never_sent(status) {
        Outcome::DidNotHappen
    } else {
        Outcome::Unknown
    };
    let detail = format!("{peer}: {}{unread}", causes(status));
    match status.code() {
        // A message above a limit: no repeat makes it smaller.
        Code::OutOfRange => Error::Internal(detail),
        _ => Error::Unavailable { detail, outcome },
    }
}

/// Whether it is certain that nobody has carried the call out.
fn never_sent(status: &Status) -> bool {
    // An older peer that doesn't know the call: it may be upgraded meanwhile.
    if status.code() == Code::Unimplemented {
        return true;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The status' message with what caused it, each text once.
fn causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if text.is_empty() {
        text = status.code().description().to_owned();
    }
    let mut cause = status.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// `text`, or its beginning.
fn clipped(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let end = (0..=max_bytes)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or_default();
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_variant() -> Vec<Error> {
        let (node, journal, stream) = (NodeId(7), JournalId(u64::MAX), StreamId(9));
        let (carried, registered) = (NodeEpoch(3), NodeEpoch(4));
        let text = || "what a person reads: ä\n\0 %20".to_owned();
        let unavailable = |outcome| Error::Unavailable {
            detail: text(),
            outcome,
        };
        let all = vec![
            Error::NodeEpochStale {
                node,
                carried,
                registered,
            },
            Error::NodeEpochUnknown {
                node,
                carried,
                registered,
            },
            Error::NodeFenced { node },
            Error::NodeUnknown { node: NodeId(0) },
            Error::NotActiveController {
                term: ControllerEpoch(1),
                seen: ControllerEpoch(2),
            },
            Error::DeviceChanged {
                expected: DeviceId::from_bytes([1; 16]),
                found: DeviceId::from_bytes([2; 16]),
            },
            Error::JournalFenced { journal },
            Error::JournalEpochUnknown { journal },
            Error::StreamFenced { stream },
            Error::LsnGap {
                journal,
                expected: Lsn(5),
                found: Lsn(6),
            },
            Error::ControllerFenced { journal },
            Error::StreamNotClosed { stream },
            Error::LeaseFenced { task: TaskId(0) },
            Error::ObjectExpired { object: ObjectId(8) },
            Error::ObjectReplaced { object: ObjectId(9) },
            Error::OffsetNotMatched { journal, trim: Lsn(3) },
            Error::Trimmed {
                version: MetadataVersion(0),
            },
            Error::NotHere,
            Error::Invalid(text()),
            Error::NotFound(text()),
            Error::AlreadyExists(String::new()),
            Error::Throttled(text()),
            unavailable(Outcome::DidNotHappen),
            unavailable(Outcome::Unknown),
            Error::Corrupt(text()),
            Error::Shutdown,
            Error::Internal(text()),
        ];
        // A new variant must be added above: without its arm here this doesn't compile.
        for error in &all {
            match error {
                Error::NodeEpochStale { .. }
                | Error::NodeEpochUnknown { .. }
                | Error::NodeFenced { .. }
                | Error::NodeUnknown { .. }
                | Error::NotActiveController { .. }
                | Error::DeviceChanged { .. }
                | Error::JournalFenced { .. }
                | Error::JournalEpochUnknown { .. }
                | Error::StreamFenced { .. }
                | Error::LsnGap { .. }
                | Error::ControllerFenced { .. }
                | Error::StreamNotClosed { .. }
                | Error::LeaseFenced { .. }
                | Error::ObjectExpired { .. }
                | Error::ObjectReplaced { .. }
                | Error::OffsetNotMatched { .. }
                | Error::Trimmed { .. }
                | Error::NotHere
                | Error::Invalid(_)
                | Error::NotFound(_)
                | Error::AlreadyExists(_)
                | Error::Throttled(_)
                | Error::Unavailable { .. }
                | Error::Corrupt(_)
                | Error::Shutdown
                | Error::Internal(_) => {}
            }
        }
        all
    }

    /// What a status is on the wire: its headers, and nothing else of it.
    fn over_the_wire(status: &Status) -> Status {
        let mut headers = tonic::codegen::http::HeaderMap::new();
        status.add_header(&mut headers).expect("legal headers");
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum();
        assert!(bytes < 16 << 10, "{bytes} bytes of headers");
        Status::from_header_map(&headers).expect("a status")
    }

    /// Every error comes back as itself, with all its fields.
    #[test]
    fn every_error_survives_the_wire() {
        for error in every_variant() {
            let status = over_the_wire(&to_status(&error));
            assert_ne!(status.code(), Code::Ok);
            assert_eq!(from_status(&status, "the peer"), error);
        }
    }

    /// A text of any length and any characters fits into the headers; its beginning arrives.
    #[test]
    fn long_texts_are_clipped() {
        let status = over_the_wire(&to_status(&Error::Invalid("ä\n".repeat(100_000))));
        let Error::Invalid(text) = from_status(&status, "the peer") else {
            panic!("another variant");
        };
        assert!(text.starts_with("ä\nä\n") && text.ends_with('…') && text.len() > 6000);
    }

    /// What the peer's port didn't say is unavailability of unknown outcome, and names the peer.
    #[test]
    fn without_a_refusal_the_outcome_is_unknown() {
        for code in [
            Code::Unavailable,
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Unknown,
            Code::Internal,
        ] {
            let error = from_status(&Status::new(code, "gone"), "controller at c:1");
            let Error::Unavailable { detail, outcome } = error else {
                panic!("{code}: {error}");
            };
            assert_eq!(
                (detail.as_str(), outcome),
                ("controller at c:1: gone", Outcome::Unknown)
            );
        }
    }

    /// A failed connection and an unknown call certainly did nothing.
    #[test]
    fn without_a_connection_nothing_happened() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let connect = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        for status in [connect, Status::unimplemented("")] {
            let error = from_status(&status, "controller at c:1");
            assert_eq!(error.outcome(), Outcome::DidNotHappen, "{error}");
            assert_eq!(error.kind(), Kind::Unavailable);
            assert!(error.to_string().starts_with("controller at c:1: "), "{error}");
        }
    }

    /// Details that can't be read, as of a newer peer's new reason, are an error like any other, and no panic.
    #[test]
    fn unread_refusals_are_unavailable() {
        let newer = Status::with_details(Code::Internal, "new", proto::Refusal::default().encode_to_vec().into());
        let garbage = Status::with_details(Code::Internal, "new", vec![0xff; 9].into());
        let short_id = proto::Refusal {
            reason: Some(Reason::DeviceChanged(refusal::DeviceChanged::default())),
        };
        let short_id = Status::with_details(Code::Internal, "new", short_id.encode_to_vec().into());
        for status in [newer, garbage, short_id] {
            assert_eq!(from_status(&status, "the peer").kind(), Kind::Unavailable);
        }
    }
}
