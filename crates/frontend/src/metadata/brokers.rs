//! Frontends as clients see them: brokers with one address.

use tailwater_rpc::controller::{Endpoint, NodeInfo};
use tailwater_types::NodeId;

use crate::view::Snapshot;

/// Kafka's number for no broker.
pub(super) const NO_BROKER: i32 = -1;

/// Where clients reach a frontend; `None` if it can't be reached now.
pub(super) fn endpoint(view: &Snapshot, node: NodeId) -> Option<&Endpoint> {
    let mut live = view.frontends();
    live.find(|info| info.node == node).and_then(address)
}

/// A node's address for clients: there is one listener.
pub(super) fn address(info: &NodeInfo) -> Option<&Endpoint> {
    info.endpoints.first()
}

pub(crate) fn broker_id(node: NodeId) -> i32 {
    i32::try_from(node.0).expect("frontends' ids are at most i32::MAX")
}
