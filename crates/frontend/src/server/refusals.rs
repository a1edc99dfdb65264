//! One line for a request that no repeat makes right.
//!
//! Owns: which errors say that the client is at fault, and what the line says. Does not own: connections that are closed
//! (`connection`). Whoever sends such requests in a loop doesn't fill the log (`quiet`).

use tailwater_kafka::messages::{FetchResponse, ProduceResponse};
use tailwater_kafka::{ApiKey, ErrorCode, ResponseMessage, Str, Uuid};
use tailwater_runtime::Clock;

use super::context::RequestContext;
use super::errors_in::ErrorsIn;
use super::quiet::Quiet;

/// Tells of refused requests; shared by all connections.
pub(super) struct Refusals {
    quiet: Quiet,
}

/// What was refused of one partition.
struct Refused<'a> {
    topic: &'a Str,
    topic_id: Uuid,
    partition: i32,
    error: ErrorCode,
    reason: &'a str,
}

impl Refusals {
    pub fn new(clock: Clock) -> Self {
        Self {
            quiet: Quiet::new(clock),
        }
    }

    pub fn in_produce(&self, context: &RequestContext, response: &ProduceResponse) {
        let partitions = response.responses.iter().flat_map(|topic| {
            topic.partition_responses.iter().map(move |partition| Refused {
                topic: &topic.name,
                topic_id: topic.topic_id,
                partition: partition.index,
                error: partition.error_code,
                reason: partition.error_message.as_deref().unwrap_or_default(),
            })
        });
        self.tell_partitions(ApiKey::Produce, context, partitions);
    }

    pub fn in_fetch(&self, context: &RequestContext, response: &FetchResponse) {
        let partitions = response.responses.iter().flat_map(|topic| {
            topic.partitions.iter().map(move |partition| Refused {
                topic: &topic.topic,
                topic_id: topic.topic_id,
                partition: partition.partition_index,
                error: partition.error_code,
                reason: "",
            })
        });
        self.tell_partitions(ApiKey::Fetch, context, partitions);
    }

    /// Of any other request.
    pub fn in_answer<R: ResponseMessage + ErrorsIn>(&self, context: &RequestContext, response: &R) {
        let (mut first, mut refused) = (None, 0usize);
        response.errors_in(&mut |error| {
            if is_refusal(R::API, error) {
                first = first.or(Some(error));
                refused += 1;
            }
        });
        let Some(error) = first else { return };
        if let Some(left_out) = self.quiet.admit() {
            let (peer, client, others) = (context.peer, context.client_id(), refused - 1);
            tracing::info!(%peer, client, api = %R::API, ?error, others, left_out, "request refused");
        }
    }

    /// About the first that is refused.
    fn tell_partitions<'a>(
        &self,
        api: ApiKey,
        context: &RequestContext,
        partitions: impl Iterator<Item = Refused<'a>>,
    ) {
        let mut refused = partitions.filter(|partition| is_refusal(api, partition.error));
        let Some(first) = refused.next() else { return };
        let Some(left_out) = self.quiet.admit() else { return };
        // Newer versions name topics by id only.
        let topic = match first.topic.is_empty() {
            true => first.topic_id.to_string(),
            false => first.topic.to_string(),
        };
        tracing::info!(
            peer = %context.peer,
            client = context.client_id(),
            %api,
            topic,
            partition = first.partition,
            error = ?first.error,
            reason = first.reason,
            others = refused.count(),
            left_out,
            "request refused"
        );
    }
}

/// Whether an answer says that the client is at fault: what it sent, or where to. To ask whether something is there is no
/// fault where that is what the request is for.
fn is_refusal(api: ApiKey, error: ErrorCode) -> bool {
    use ErrorCode::*;
    match error {
        CorruptMessage
        | InvalidConfig
        | InvalidGroupId
        | InvalidPartitions
        | InvalidRecord
        | InvalidTimestamp
        | InvalidReplicaAssignment
        | InvalidReplicationFactor
        | InvalidRequest
        | InvalidRequiredAcks
        | InvalidTopicException
        | MessageTooLarge
        | OffsetMetadataTooLarge
        | UnsupportedCompressionType => true,
        UnknownTopicOrPartition | UnknownTopicId => {
            matches!(api, ApiKey::Produce | ApiKey::Fetch | ApiKey::ListOffsets)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Faults of a client are told; what comes and goes by itself, or is only asked about, is not.
    #[test]
    fn only_faults_are_told() {
        for (api, error) in [
            (ApiKey::Produce, ErrorCode::CorruptMessage),
            (ApiKey::Produce, ErrorCode::UnknownTopicOrPartition),
            (ApiKey::Fetch, ErrorCode::UnknownTopicId),
            (ApiKey::Metadata, ErrorCode::InvalidTopicException),
            (ApiKey::CreateTopics, ErrorCode::InvalidPartitions),
        ] {
            assert!(is_refusal(api, error), "{api} {error:?}");
        }
        for (api, error) in [
            (ApiKey::Produce, ErrorCode::None),
            (ApiKey::Produce, ErrorCode::NotLeaderOrFollower),
            (ApiKey::Fetch, ErrorCode::OffsetOutOfRange),
            (ApiKey::Metadata, ErrorCode::UnknownTopicOrPartition),
            (ApiKey::CreateTopics, ErrorCode::TopicAlreadyExists),
        ] {
            assert!(!is_refusal(api, error), "{api} {error:?}");
        }
    }
}
