//! WriteTxnMarkers of the wire: an administrator's way to end a transaction in partitions that this node leads
//! (`kafka-transactions abort`). Frontends have their own (`tailwater_rpc::frontend`).
//!
//! Owns: which field means what, and that no epoch of a coordinator is taken that none has had: the markers of the true one
//! would be refused for ever.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_rpc::frontend::{MarkedPartition, MarkerFor};
use tailwater_types::LeaderEpoch;

use super::writer::MarkerWriter;
use crate::metadata::names;
use crate::view::Snapshot;

pub(crate) async fn write_txn_markers(
    writer: &MarkerWriter,
    view: &Snapshot,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let newest_epoch = newest_epoch(view);
    let is_sound = |marker: &WritableTxnMarker| marker.coordinator_epoch <= newest_epoch;
    let sound = request.markers.iter().filter(|marker| is_sound(marker));
    let markers: Vec<MarkerFor> = sound.map(|marker| to_marker(marker, view)).collect();
    let mut written = writer.write(&markers).await.into_iter();
    let answered = request.markers.into_iter().map(|marker| {
        let errors = match is_sound(&marker) {
            true => written.next().unwrap_or_default(),
            false => vec![ErrorCode::InvalidRequest; partitions_of(&marker)],
        };
        (marker, errors)
    });
    WriteTxnMarkersResponse {
        markers: answered
            .map(|(marker, errors)| to_result(marker, errors, view))
            .collect(),
    }
}

/// The newest epoch that any coordinator of transactions has had; -1, which is no coordinator's, before the first.
fn newest_epoch(view: &Snapshot) -> i32 {
    let topic = view.topic_named(names::TRANSACTION_STATE);
    let partitions = topic.iter().flat_map(|topic| topic.partitions.values());
    partitions.map(|partition| partition.leader_epoch.0).max().unwrap_or(-1)
}

fn partitions_of(marker: &WritableTxnMarker) -> usize {
    marker.topics.iter().map(|topic| topic.partition_indexes.len()).sum()
}

/// Without topics that aren't there.
fn to_marker(marker: &WritableTxnMarker, view: &Snapshot) -> MarkerFor {
    let known = marker.topics.iter().filter_map(|topic| {
        let id = view.topic_named(&topic.name)?.info.id;
        Some(topic.partition_indexes.iter().map(move |index| MarkedPartition {
            topic: id,
            index: *index,
            leader_epoch: None,
        }))
    });
    MarkerFor {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        is_commit: marker.transaction_result,
        coordinator_epoch: LeaderEpoch(marker.coordinator_epoch),
        transaction_version: marker.transaction_version,
        partitions: known.flatten().collect(),
    }
}

fn to_result(marker: WritableTxnMarker, errors: Vec<ErrorCode>, view: &Snapshot) -> WritableTxnMarkerResult {
    let mut errors = errors.into_iter();
    let mut topics = Vec::with_capacity(marker.topics.len());
    for topic in marker.topics {
        let is_known = view.topic_named(&topic.name).is_some();
        let mut result = |partition_index: i32| WritableTxnMarkerPartitionResult {
            partition_index,
            error_code: match is_known {
                true => errors.next().unwrap_or(ErrorCode::UnknownServerError),
                false => ErrorCode::UnknownTopicOrPartition,
            },
        };
        topics.push(WritableTxnMarkerTopicResult {
            partitions: topic.partition_indexes.iter().map(|index| result(*index)).collect(),
            name: topic.name,
        });
    }
    WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics,
    }
}
