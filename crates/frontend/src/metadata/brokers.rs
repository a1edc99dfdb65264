//! Frontends as clients see them: brokers with one address.

use tailwater_rpc::controller::{Endpoint, NodeInfo};
use tailwater_types::NodeId;

use crate::view::Snapshot;

/// Kafka's number for no broker.
pub(crate) const NO_BROKER: i32 = -1;

/// Where clients reach a frontend; `None` if it can't be reached now.
pub(crate) fn endpoint(view: &Snapshot, node: NodeId) -> Option<&Endpoint> {
    view.frontend(node).and_then(address)
}

/// A node's address for clients: there is one listener.
pub(crate) fn address(info: &NodeInfo) -> Option<&Endpoint> {
    info.endpoints.first()
}

/// The broker that clients are told is the controller: this one, if it can be reached. Any will do: each takes what only a
/// controller may decide to the real one.
pub(crate) fn shown_controller(view: &Snapshot, here: i32) -> i32 {
    let brokers = view.frontends().filter(|info| address(info).is_some());
    let found = brokers.min_by_key(|info| broker_id(info.node) != here);
    found.map_or(NO_BROKER, |info| broker_id(info.node))
}

pub(crate) fn broker_id(node: NodeId) -> i32 {
    i32::try_from(node.0).expect("frontends' ids are at most i32::MAX")
}
