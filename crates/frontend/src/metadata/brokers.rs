//! Frontends as clients see them: brokers, each with one address a listener. Clients are told those of the listener that they
//! came through; a broker without it isn't there for them.

use tailwater_rpc::controller::{Endpoint, NodeInfo};
use tailwater_types::NodeId;

use crate::listeners::ListenerName;
use crate::view::Snapshot;

/// Kafka's number for no broker.
pub(crate) const NO_BROKER: i32 = -1;

/// Where clients of the listener reach a frontend; `None` if they can't reach it now.
pub(crate) fn endpoint<'a>(view: &'a Snapshot, node: NodeId, listener: &ListenerName) -> Option<&'a Endpoint> {
    view.frontend(node).and_then(|info| address(info, listener))
}

/// A node's address for clients of the listener, if it has one of this name.
pub(crate) fn address<'a>(info: &'a NodeInfo, listener: &ListenerName) -> Option<&'a Endpoint> {
    info.endpoints
        .iter()
        .find(|endpoint| endpoint.listener == listener.as_str())
}

/// The broker that clients are told is the controller: this one, if it can be reached. Any will do: each takes what only a
/// controller may decide to the real one.
pub(crate) fn shown_controller(view: &Snapshot, listener: &ListenerName, here: i32) -> i32 {
    let brokers = view.frontends().filter(|info| address(info, listener).is_some());
    let found = brokers.min_by_key(|info| broker_id(info.node) != here);
    found.map_or(NO_BROKER, |info| broker_id(info.node))
}

pub(crate) fn broker_id(node: NodeId) -> i32 {
    i32::try_from(node.0).expect("frontends' ids are at most i32::MAX")
}
