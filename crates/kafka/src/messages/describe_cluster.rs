//! DescribeCluster: the brokers, for administrators (KIP-700).
//!
//! Tag 10000 of both is Tailwater's own: Kafka numbers its tags from 0, one after the other, and whoever doesn't know a tag
//! skips it (KIP-482).

use crate::{ErrorCode, Str};

api! {
    DescribeCluster, versions 0..=2, flexible 0..;

    request DescribeClusterRequest {
        include_cluster_authorized_operations: bool,
        /// 1: brokers, 2: controllers (KIP-919).
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
        /// Tailwater's own (ADR 9): whether the nodes of all tiers are wanted. Others skip the tag.
        tailwater_nodes: bool [0.., tag 10_000],
    }

    response DescribeClusterResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        endpoint_type: i8 [1..] = 1,
        cluster_id: Str,
        controller_id: i32 = -1,
        brokers: Vec<DescribeClusterBroker>,
        /// A set of bits; `i32::MIN` where nobody asked.
        cluster_authorized_operations: i32 = i32::MIN,
        /// Tailwater's own (ADR 9): the nodes of all tiers, for those who asked for them and nobody else.
        tailwater_nodes: Option<Vec<TailwaterNode>> [0.., tag 10_000],
    }

    struct DescribeClusterBroker {
        broker_id: i32,
        host: Str,
        port: i32,
        rack: Option<Str>,
        is_fenced: bool [2..],
    }

    struct TailwaterNode {
        /// -1: it has none.
        node_id: i64 = -1,
        tier: Str,
        epoch: i64,
        state: Str,
        /// Where Kafka clients reach it.
        listeners: Vec<TailwaterListener>,
        /// HOST:PORT at which other tiers reach it.
        rpc_address: Option<Str>,
        /// A WAL node's.
        device: Option<Str>,
    }

    struct TailwaterListener {
        name: Str,
        host: Str,
        port: i32,
    }
}
