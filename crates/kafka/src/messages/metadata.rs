//! Metadata: brokers, topics, and which broker leads which partition.

use crate::{ErrorCode, Str, Uuid};

api! {
    Metadata, versions 0..=13, flexible 9..;

    request MetadataRequest {
        /// `None`: all topics; in version 0 an empty list says so.
        topics: Option<Vec<MetadataRequestTopic>> [0.., null 1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    response MetadataResponse {
        throttle_time_ms: i32 [3.., ignorable],
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<Str> [2.., ignorable],
        controller_id: i32 [1.., ignorable] = -1,
        topics: Vec<MetadataResponseTopic>,
        /// A set of bits; `i32::MIN` where nobody asked.
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        error_code: ErrorCode [13.., ignorable],
    }

    struct MetadataRequestTopic {
        topic_id: Uuid [10.., ignorable],
        name: Option<Str> [0.., null 10..],
    }

    struct MetadataResponseBroker {
        node_id: i32,
        host: Str,
        port: i32,
        rack: Option<Str> [1.., ignorable],
    }

    struct MetadataResponseTopic {
        error_code: ErrorCode,
        /// `None` for an unknown topic id.
        name: Option<Str> [0.., null 12..],
        topic_id: Uuid [10.., ignorable],
        is_internal: bool [1.., ignorable],
        partitions: Vec<MetadataResponsePartition>,
        /// A set of bits; `i32::MIN` where nobody asked.
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    struct MetadataResponsePartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7.., ignorable] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5.., ignorable],
    }
}
