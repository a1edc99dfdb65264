//! Replicas that a client assigns: which brokers may be named. Where a partition really goes is the controller's to say.

use tailwater_kafka::ErrorCode;

use super::refusal::Refusal;
use crate::metadata::broker_id;
use crate::view::Snapshot;

/// # Errors
/// What is wrong with one partition's replicas, in Kafka's words.
pub(super) fn check(view: &Snapshot, brokers: &[i32]) -> Result<(), Refusal> {
    let refused = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if brokers.is_empty() {
        return refused("The manual partition assignment includes an empty replica list.".to_owned());
    }
    for (at, broker) in brokers.iter().enumerate() {
        if !view.frontends().any(|node| broker_id(node.node) == *broker) {
            return refused(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
        if brokers[..at].contains(broker) {
            return refused(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
    }
    Ok(())
}
