//! Why a command, or its part about one topic, group or broker, failed; and Kafka's names of errors.

use tailwater_kafka::{ApiKey, CodecError, ErrorCode};
use tailwater_types::{Kind, Outcome};

/// A failure, as the sentence that a person reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The command line says something that can't be meant; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// None of the addresses that the command was given answers; this is the last one.
    #[error("cannot connect to {address}: {reason}")]
    NoBroker { address: String, reason: String },
    /// A broker that the cluster names doesn't answer; another may soon have its place.
    #[error("cannot connect to {address}: {reason}")]
    Connect { address: String, reason: String },
    /// The connection failed once a request was on its way.
    #[error("{address} didn't answer {api}: {reason}")]
    Lost {
        address: String,
        api: ApiKey,
        reason: String,
    },
    #[error("{address} doesn't serve {api} in a version that this program has ({reason})")]
    Unsupported {
        address: String,
        api: ApiKey,
        reason: String,
    },
    /// A broker's refusal.
    #[error("{}: {message}", name(*.error))]
    Refused { error: ErrorCode, message: String },
    /// What a broker answered doesn't hold what was asked for.
    #[error("{0}")]
    Absent(String),
    #[error("a request can't be encoded: {0}")]
    Encode(CodecError),
}

impl Error {
    /// A broker's refusal: in its own words, or in ours where it has none.
    pub fn refused(error: ErrorCode, message: Option<&str>) -> Self {
        let message = message.filter(|text| !text.is_empty()).unwrap_or(meaning(error));
        Self::Refused {
            error,
            message: message.to_owned(),
        }
    }

    /// Nothing, or the broker's refusal.
    ///
    /// # Errors
    /// [`Error::Refused`] if `error` is one.
    pub fn check(error: ErrorCode, message: Option<&str>) -> Result<(), Self> {
        match error.is_error() {
            true => Err(Self::refused(error, message)),
            false => Ok(()),
        }
    }

    /// Whether the same request may do better in a moment, perhaps at another broker; it did nothing so far.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Refused { error, .. } => matches!(
                error,
                ErrorCode::NotController
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::LeaderNotAvailable
            ),
            _ => false,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Usage(_) | Self::Unsupported { .. } => Kind::Invalid,
            Self::NoBroker { .. } | Self::Connect { .. } | Self::Lost { .. } => Kind::Unavailable,
            Self::Refused { error, .. } if error.is_retriable() => Kind::Unavailable,
            Self::Refused { .. } => Kind::Invalid,
            Self::Absent(_) => Kind::NotFound,
            Self::Encode(_) => Kind::Internal,
        }
    }

    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Lost { .. } => Outcome::Unknown,
            Self::Refused { error, .. } if *error == ErrorCode::RequestTimedOut => Outcome::Unknown,
            _ => Outcome::DidNotHappen,
        }
    }
}

/// Kafka's own name of an error, as in `UNKNOWN_TOPIC_OR_PARTITION`.
pub fn name(error: ErrorCode) -> String {
    let mut name = String::new();
    for letter in format!("{error:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// For those that brokers often send without a word.
fn meaning(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::UnknownTopicOrPartition => "there is no such topic or partition",
        ErrorCode::TopicAlreadyExists => "a topic of that name exists already",
        ErrorCode::InvalidTopicException => "the name is no topic's, or the topic is an internal one",
        ErrorCode::InvalidPartitions => "the number of partitions is not possible",
        ErrorCode::OffsetOutOfRange => "the offset is outside of what the partition holds",
        ErrorCode::LeaderNotAvailable => "the partition has no leader at the moment",
        ErrorCode::NotLeaderOrFollower => "the partition's leader is changing",
        ErrorCode::NotController => "the controller can't be reached at the moment",
        ErrorCode::CoordinatorNotAvailable => "the group's coordinator isn't available at the moment",
        ErrorCode::CoordinatorLoadInProgress => "the group's coordinator is still loading",
        ErrorCode::NotCoordinator => "the group's coordinator is changing",
        ErrorCode::GroupIdNotFound => "there is no such group",
        ErrorCode::InvalidGroupId => "that is no group's name",
        ErrorCode::NonEmptyGroup => "the group has members: stop them first",
        ErrorCode::UnknownMemberId => "the group has members: its offsets can only be changed while it is empty",
        ErrorCode::GroupSubscribedToTopic => "the group's members are subscribed to the topic",
        ErrorCode::RequestTimedOut => "the request took too long; whether it was carried out isn't known",
        ErrorCode::InvalidConfig => "a setting isn't known, or its value isn't possible",
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => "not permitted",
        _ => "the broker gives no reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are those of Kafka's documentation.
    #[test]
    fn errors_have_kafka_s_names() {
        for (error, expected) in [
            (ErrorCode::UnknownTopicOrPartition, "UNKNOWN_TOPIC_OR_PARTITION"),
            (ErrorCode::NonEmptyGroup, "NON_EMPTY_GROUP"),
            (ErrorCode::InvalidTopicException, "INVALID_TOPIC_EXCEPTION"),
            (ErrorCode::FetchSessionTopicIdError, "FETCH_SESSION_TOPIC_ID_ERROR"),
            (ErrorCode::None, "NONE"),
        ] {
            assert_eq!(name(error), expected);
        }
        let error = Error::refused(ErrorCode::GroupIdNotFound, Some(""));
        assert_eq!(error.to_string(), "GROUP_ID_NOT_FOUND: there is no such group");
        let error = Error::refused(ErrorCode::InvalidConfig, Some("no"));
        assert_eq!(error.to_string(), "INVALID_CONFIG: no");
    }
}
