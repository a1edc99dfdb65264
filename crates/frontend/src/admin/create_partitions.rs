//! CreatePartitions, each topic by itself (docs/kafka.md rule 29).
//!
//! Owns: what is refused before the controller is asked, in Kafka's words. Placement is the controller's: an assignment is
//! checked, and says nothing more than that it is possible.

use std::time::Duration;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_rpc::controller::CreatePartitions;

use super::assignments;
use super::refusal::Refusal;
use crate::error_codes;
use crate::server::Handlers;
use crate::view::Snapshot;

pub(crate) async fn create_partitions(
    handlers: &Handlers,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = handlers.clock().now() + timeout;
    let mut results = Vec::with_capacity(request.topics.len());
    for (at, asked) in request.topics.iter().enumerate() {
        let is_named = |other: &CreatePartitionsTopic| other.name == asked.name;
        if request.topics[..at].iter().any(is_named) {
            continue;
        }
        let created = match request.topics[at + 1..].iter().any(is_named) {
            true => Err(Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            false => {
                let created = create(handlers, asked, request.validate_only);
                let created = handlers.clock().timeout_at(deadline, created).await;
                let late = |_| Refusal::new(ErrorCode::RequestTimedOut, "The controller took too long.");
                created.map_err(late).flatten()
            }
        };
        let refused = created.err().unwrap_or_else(|| Refusal::bare(ErrorCode::None));
        results.push(CreatePartitionsTopicResult {
            name: asked.name.clone(),
            error_code: refused.error,
            error_message: refused.message.map(Str::from),
        });
    }
    CreatePartitionsResponse {
        throttle_time_ms: 0,
        results,
    }
}

async fn create(handlers: &Handlers, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refusal> {
    let request = {
        let view = handlers.view().snapshot();
        check(&view, asked, validate_only)?
    };
    let created = handlers.creator().create_partitions(request).await;
    created.map_err(|error| Refusal::new(error_codes::of_create_partitions(&error), error.to_string()))
}

fn check(view: &Snapshot, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<CreatePartitions, Refusal> {
    let refused = |error, message: String| Err(Refusal::new(error, message));
    let Some(topic) = view.topic_named(&asked.name) else {
        return Err(Refusal::bare(ErrorCode::UnknownTopicOrPartition));
    };
    if topic.info.internal {
        let message = format!(
            "The number of partitions of {} says which coordinates what.",
            asked.name
        );
        return refused(ErrorCode::InvalidRequest, message);
    }
    let present = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    if asked.count == present {
        return refused(
            ErrorCode::InvalidPartitions,
            format!("Topic already has {present} partition(s)."),
        );
    }
    if asked.count < present {
        let message = format!(
            "The topic {} currently has {present} partition(s); {} would not be an increase.",
            asked.name, asked.count
        );
        return refused(ErrorCode::InvalidPartitions, message);
    }
    if let Some(assigned) = &asked.assignments {
        let added = asked.count - present;
        if usize::try_from(added) != Ok(assigned.len()) {
            let message = format!(
                "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                assigned.len()
            );
            return refused(ErrorCode::InvalidReplicaAssignment, message);
        }
        for assigned in assigned {
            assignments::check(view, &assigned.broker_ids)?;
        }
    }
    Ok(CreatePartitions {
        topic: topic.info.id,
        total: asked.count,
        validate_only,
    })
}
