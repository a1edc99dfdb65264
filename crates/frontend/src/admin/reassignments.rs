//! AlterPartitionReassignments and ListPartitionReassignments: partitions on their way to other brokers.
//!
//! Owns: what is answered where nothing is ever on its way. A partition's one replica is its leader, which holds no data
//! and moves at once; which broker that is, the controller decides. So the assignment that is there can be confirmed, and
//! any other is refused.

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use crate::metadata::brokers::broker_id;
use crate::server::Handlers;
use crate::view::{Snapshot, Topic};

pub(crate) fn alter_partition_reassignments(
    handlers: &Handlers,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let view = handlers.view().snapshot();
    let responses = request.topics.into_iter().map(|topic| {
        let found = view.topic_named(&topic.name);
        let answer = |partition: ReassignablePartition| {
            let refusal = match found {
                Some(found) => alter(&view, found, &partition).err(),
                None => Some((
                    ErrorCode::UnknownTopicOrPartition,
                    Some(format!("Unable to find a topic named {}.", topic.name)),
                )),
            };
            let (error_code, message) = refusal.unwrap_or((ErrorCode::None, None));
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code,
                error_message: message.map(Str::from),
            }
        };
        ReassignableTopicResponse {
            partitions: topic.partitions.into_iter().map(answer).collect(),
            name: topic.name,
        }
    });
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: responses.collect(),
        ..Default::default()
    }
}

/// # Errors
/// Kafka's error, and its words where it has any.
fn alter(view: &Snapshot, topic: &Topic, asked: &ReassignablePartition) -> Result<(), (ErrorCode, Option<String>)> {
    let index = asked.partition_index;
    let Some(partition) = topic.partitions.get(&index) else {
        let message = format!("Unable to find partition {}:{index}.", topic.name);
        return Err((ErrorCode::UnknownTopicOrPartition, Some(message)));
    };
    let Some(replicas) = &asked.replicas else {
        // Nothing is under way that could be cancelled.
        return Err((ErrorCode::NoReassignmentInProgress, None));
    };
    let refused = |message: String| Err((ErrorCode::InvalidReplicaAssignment, Some(message)));
    if replicas.is_empty() {
        return refused("The manual partition assignment includes an empty replica list.".to_owned());
    }
    for (at, replica) in replicas.iter().enumerate() {
        if replicas[..at].contains(replica) {
            return refused(format!(
                "The manual partition assignment includes the broker {replica} more than once."
            ));
        }
        if !view.frontends().any(|info| broker_id(info.node) == *replica) {
            return refused(format!(
                "The manual partition assignment includes broker {replica}, but no such broker is registered."
            ));
        }
    }
    match partition.leader.map(broker_id) {
        Some(leader) if replicas[..] == [leader] => Ok(()),
        _ => refused("Partitions are assigned by the controller: each has one replica, its leader.".to_owned()),
    }
}

/// Nothing is ever under way.
pub(crate) fn list_partition_reassignments() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
