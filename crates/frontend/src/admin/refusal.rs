//! Why one thing of a request isn't done.

use tailwater_kafka::ErrorCode;

/// What a client is told: Kafka's code, and mostly Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub error: ErrorCode,
    pub message: Option<String>,
}

impl Refusal {
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            error,
            message: Some(message.into()),
        }
    }

    /// Where Kafka says nothing more than the code.
    pub fn bare(error: ErrorCode) -> Self {
        Self { error, message: None }
    }
}
