//! Markers into partitions that this node leads.
//!
//! Owns: what a partition's outcome is called. Does not own: which markers are taken (`tailwater_log`), their appends
//! (`partition`; in `__consumer_offsets` the groups' owner's).

use std::time::Duration;

use futures::future::join_all;
use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::{Marker, TransactionEnd};
use tailwater_log::TransactionMarker;
use tailwater_rpc::frontend::{MarkedPartition, MarkerFor};
use tailwater_runtime::Clock;

use crate::error_codes;
use crate::group::Groups;
use crate::metadata::names;
use crate::partition::Partitions;

/// How long a marker waits for the WAL's credit (Kafka's `request.timeout.ms`).
const APPEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes markers here; clones share everything.
#[derive(Clone)]
pub(crate) struct MarkerWriter {
    partitions: Partitions,
    groups: Groups,
    clock: Clock,
}

impl MarkerWriter {
    pub fn new(partitions: Partitions, groups: Groups, clock: Clock) -> Self {
        Self {
            partitions,
            groups,
            clock,
        }
    }

    /// Writes all of them, and waits until they are committed. Answers for each marker and each of its partitions.
    pub async fn write(&self, markers: &[MarkerFor]) -> Vec<Vec<ErrorCode>> {
        let partitions = |marker: &MarkerFor| {
            let sent = to_marker(marker);
            let written = marker.partitions.iter().map(|at| self.write_one(*at, sent));
            join_all(written.collect::<Vec<_>>())
        };
        join_all(markers.iter().map(partitions)).await
    }

    async fn write_one(&self, at: MarkedPartition, marker: TransactionMarker) -> ErrorCode {
        let partition = match self.partitions.get(at.topic, at.index) {
            Ok(partition) => partition,
            Err(missing) => return error_codes::of_missing(&missing, false),
        };
        // Sent to an earlier leadership, it may have been repeated to another since, and the next transaction have begun.
        if at.leader_epoch.is_some_and(|epoch| epoch != partition.leader_epoch()) {
            return ErrorCode::NotLeaderOrFollower;
        }
        if **partition.topic_name() == *names::CONSUMER_OFFSETS {
            return as_of_partition(self.groups.end_transaction(at.index, marker).await);
        }
        let deadline = self.clock.now() + APPEND_TIMEOUT;
        match partition.write_marker(marker, deadline).await {
            Ok(appended) => match appended.committed().await {
                Ok(_) => ErrorCode::None,
                Err(_ended) => ErrorCode::NotLeaderOrFollower,
            },
            Err(error) => error_codes::of_append(&error),
        }
    }
}

/// A groups' owner's answer in the words of any partition, as Kafka's transaction coordinators know them.
fn as_of_partition(error: ErrorCode) -> ErrorCode {
    use ErrorCode::*;
    match error {
        CoordinatorNotAvailable | CoordinatorLoadInProgress | NotCoordinator => NotLeaderOrFollower,
        error => error,
    }
}

fn to_marker(marker: &MarkerFor) -> TransactionMarker {
    TransactionMarker {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        marker: Marker {
            end: match marker.is_commit {
                true => TransactionEnd::Commit,
                false => TransactionEnd::Abort,
            },
            coordinator_epoch: marker.coordinator_epoch.0,
        },
        transaction_version: marker.transaction_version,
    }
}
