//! DescribeCluster: the brokers, as administrators ask for them (KIP-700, KIP-919, KIP-1073), and for `tailwater cluster
//! nodes` the nodes of all tiers (ADR 9).

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_rpc::controller::{Endpoint, NodeInfo, NodeState, Tier};

use super::brokers::{address, broker_id, shown_controller};
use super::topics::ALL_CLUSTER_OPERATIONS;
use crate::listeners::ListenerName;
use crate::server::{Handlers, RequestContext};
use crate::session::Session;
use crate::view::Snapshot;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn describe_cluster(
    handlers: &Handlers,
    context: &RequestContext,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let refused = |error_code, message: String| DescribeClusterResponse {
        error_code,
        error_message: Some(message.into()),
        ..Default::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message = "This is a broker: controllers are reached by the other tiers only.";
            return refused(ErrorCode::MismatchedEndpointType, message.to_owned());
        }
        other => {
            return refused(
                ErrorCode::UnsupportedEndpointType,
                format!("Unsupported endpoint type {other}"),
            );
        }
    }
    let (view, listener) = (handlers.view().snapshot(), &context.listener);
    let alive = view.frontends().filter_map(|info| show(info, listener, false));
    let mut brokers: Vec<DescribeClusterBroker> = alive.collect();
    let controller_id = shown_controller(&view, listener, broker_id(handlers.session().node()));
    if request.include_fenced_brokers {
        brokers.extend(fenced(&view).filter_map(|info| show(info, listener, true)));
    }
    DescribeClusterResponse {
        cluster_id: handlers.session().cluster().to_string().into(),
        controller_id,
        brokers,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => ALL_CLUSTER_OPERATIONS,
            false => i32::MIN,
        },
        tailwater_nodes: request.tailwater_nodes.then(|| nodes(handlers.session(), &view)),
        ..Default::default()
    }
}

/// Everybody whom this node knows of; the controller, which has no number, first.
fn nodes(session: &Session, view: &Snapshot) -> Vec<TailwaterNode> {
    let controller = TailwaterNode {
        tier: Str::from_static("controller"),
        epoch: to_epoch(session.caller().controller_epoch.0),
        state: Str::from_static(match session.is_heard() {
            true => "Active",
            false => "Unreachable",
        }),
        ..Default::default()
    };
    std::iter::once(controller).chain(view.nodes().map(to_node)).collect()
}

fn to_node(info: &NodeInfo) -> TailwaterNode {
    let listener = |endpoint: &Endpoint| TailwaterListener {
        name: Str::from(endpoint.listener.as_str()),
        host: Str::from(endpoint.host.as_str()),
        port: i32::from(endpoint.port),
    };
    TailwaterNode {
        node_id: info.node.0.into(),
        tier: Str::from_static(match info.tier {
            Tier::Frontend => "frontend",
            Tier::Wal => "wal",
            Tier::Compactor => "compactor",
        }),
        epoch: to_epoch(info.epoch.0),
        state: Str::from(format!("{:?}", info.state)),
        listeners: info.endpoints.iter().map(listener).collect(),
        rpc_address: info.address.as_deref().map(Str::from),
        device: info.device.map(|device| device.to_string().into()),
    }
}

fn to_epoch(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

/// Frontends whose lease was lost, and that may come back.
fn fenced(view: &Snapshot) -> impl Iterator<Item = &NodeInfo> {
    view.nodes()
        .filter(|info| info.tier == Tier::Frontend && info.state == NodeState::Fenced)
}

fn show(info: &NodeInfo, listener: &ListenerName, is_fenced: bool) -> Option<DescribeClusterBroker> {
    let address = address(info, listener)?;
    Some(DescribeClusterBroker {
        broker_id: broker_id(info.node),
        host: Str::from(address.host.as_str()),
        port: i32::from(address.port),
        rack: None,
        is_fenced,
    })
}
