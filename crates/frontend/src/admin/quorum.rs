//! DescribeQuorum: who keeps the metadata, in Kafka's terms.
//!
//! Owns: what is said of a quorum where there is none. One controller is active, in a term of its own, and the metadata
//! has one version: they are shown as the leader's epoch and as the end of its log. Clients never reach controllers; the
//! broker that takes what is theirs to decide is shown in their place, as in Metadata, without a listener.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;

use crate::listeners::ListenerName;
use crate::metadata::brokers::{broker_id, shown_controller};
use crate::server::{Handlers, RequestContext};

/// The log that a quorum keeps in Kafka.
const CLUSTER_METADATA: &str = "__cluster_metadata";

pub(crate) fn describe_quorum(
    handlers: &Handlers,
    context: &RequestContext,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let mut nodes = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let is_metadata = *topic.topic_name == *CLUSTER_METADATA;
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for DescribeQuorumPartition { partition_index } in topic.partitions {
            partitions.push(match is_metadata && partition_index == 0 {
                true => {
                    let shown = describe(handlers, &context.listener);
                    nodes = vec![QuorumNode {
                        node_id: shown.leader_id,
                        listeners: Vec::new(),
                    }];
                    shown
                }
                false => DescribeQuorumPartitionResponse {
                    partition_index,
                    error_code: ErrorCode::UnknownTopicOrPartition,
                    ..Default::default()
                },
            });
        }
        topics.push(DescribeQuorumTopicResponse {
            topic_name: topic.topic_name,
            partitions,
        });
    }
    DescribeQuorumResponse {
        topics,
        nodes,
        ..Default::default()
    }
}

fn describe(handlers: &Handlers, listener: &ListenerName) -> DescribeQuorumPartitionResponse {
    let session = handlers.session();
    let view = handlers.view().snapshot();
    let leader_id = shown_controller(&view, listener, broker_id(session.node()));
    // Kafka counts both in narrower numbers; neither gets near their ends.
    let term = i32::try_from(session.caller().controller_epoch.0).unwrap_or(i32::MAX);
    let version = i64::try_from(view.version().0).unwrap_or(i64::MAX);
    let now_ms = handlers.clock().wall_ms();
    let voter = QuorumReplicaState {
        replica_id: leader_id,
        log_end_offset: version,
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
        ..Default::default()
    };
    DescribeQuorumPartitionResponse {
        partition_index: 0,
        leader_id,
        leader_epoch: term,
        high_watermark: version,
        current_voters: vec![voter],
        ..Default::default()
    }
}
