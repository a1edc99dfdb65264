//! WriteTxnMarkers of the wire: an administrator's way to end a transaction in partitions that this node leads
//! (`kafka-transactions abort`). Frontends have their own (`tailwater_rpc::frontend`).
//!
//! Owns: which field means what.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_rpc::frontend::MarkerFor;
use tailwater_types::LeaderEpoch;

use super::writer::MarkerWriter;
use crate::view::Snapshot;

pub(crate) async fn write_txn_markers(
    writer: &MarkerWriter,
    view: &Snapshot,
    request: WriteTxnMarkersRequest,
) -> WriteTxnMarkersResponse {
    let markers: Vec<MarkerFor> = request.markers.iter().map(|marker| to_marker(marker, view)).collect();
    let written = writer.write(&markers).await;
    let answered = request.markers.into_iter().zip(written);
    WriteTxnMarkersResponse {
        markers: answered
            .map(|(marker, errors)| to_result(marker, errors, view))
            .collect(),
    }
}

/// Without topics that aren't there.
fn to_marker(marker: &WritableTxnMarker, view: &Snapshot) -> MarkerFor {
    let known = marker.topics.iter().filter_map(|topic| {
        let id = view.topic_named(&topic.name)?.info.id;
        Some(topic.partition_indexes.iter().map(move |index| (id, *index)))
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
