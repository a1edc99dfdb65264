//! Nodes: registration, epochs, device grants, leases, and the states of docs/design.md section 3.
//!
//! ```text
//! Starting ──registered──▶ Active ──lease lost──▶ Fenced ──registers again (new epoch)──▶ Starting
//!                            │ ▲ registers again: old epoch fenced, Starting
//!                            └─asks to stop─▶ ControlledShutdown ──drained, or silent──▶ ShuttingDown ──▶ Gone
//! ```
//!
//! A registration is complete when there is nothing left to confirm: at once, except for a node with a device, which is
//! `Starting` until it has confirmed its device epoch.

use std::time::Duration;

use tailwater_format::metadata::{DeviceRecord, Key, NodeRecord, NodeState, NodeTier, Record};
use tailwater_rpc::controller::{Caller, DeviceReport, Endpoint, Heartbeat, RegisterNode, Registration, Tier};
use tailwater_rpc::{Error, Result};
use tailwater_types::{DeviceEpoch, DeviceId, NodeEpoch, NodeId};

use super::{Effect, State, Touch, Tx, View, journals};

/// A step that fences nodes stops here, well below what an atomic change may hold; the next one goes on.
const FENCE_KEYS: usize = 60;

/// How long the record of a node that is gone is kept: for those who look what has become of it.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);

/// Checks who calls, before anything else (docs/design.md section 5).
///
/// # Errors
/// The refusals of that section's first row.
pub fn check(view: &impl View, caller: Caller) -> Result<()> {
    let term = view.cluster().term;
    if caller.controller_epoch > term {
        return Err(Error::NotActiveController {
            term,
            seen: caller.controller_epoch,
        });
    }
    let node = caller.node;
    let carried = caller.node_epoch;
    let Some(record) = view.node(node) else {
        // Nobody has a registration up to that epoch who isn't known any more.
        let forgotten = NodeEpoch(1)..=view.counters().forgotten_epoch;
        return Err(if forgotten.contains(&carried) {
            Error::NodeFenced { node }
        } else {
            Error::NodeUnknown { node }
        });
    };
    let registered = record.epoch;
    // The epoch that a fencing raised to was given to nobody; the one below it is the one that was fenced.
    let known = carried < registered || (carried == registered && record.granted);
    if !known {
        return Err(Error::NodeEpochUnknown {
            node,
            carried,
            registered,
        });
    }
    if carried < registered {
        if !record.granted && carried.next() == registered {
            return Err(Error::NodeFenced { node });
        }
        return Err(Error::NodeEpochStale {
            node,
            carried,
            registered,
        });
    }
    Ok(())
}

/// Gives the node a new epoch and seals what an older epoch of a frontend left open. Its partitions follow with
/// [`super::streams::place`].
///
/// # Errors
/// [`Error::Invalid`] for whatever doesn't fit what is known of the node, its device or the cluster.
pub fn register(tx: &mut Tx<'_>, request: &RegisterNode) -> Result<Registration> {
    check_request(tx, request)?;
    let node = request.node;
    let device = request.device.as_ref().map(|report| report.device);
    let before = tx.node(node).cloned();
    tx.touch(Touch::Heard(node));
    if let Some(before) = &before
        && before.granted
        && before.incarnation == request.incarnation
        && before.device == device
    {
        let device_epoch = device.and_then(|device| tx.device(device)).map(|record| record.epoch);
        return Ok(registration(tx, before.epoch, device_epoch));
    }
    let device_epoch = request
        .device
        .as_ref()
        .map(|report| grant_device(tx, node, report))
        .transpose()?;
    // Never one that a node of this number had before, though its record may be deleted.
    let forgotten = tx.counters().forgotten_epoch;
    let epoch = before.map_or(forgotten, |record| record.epoch).next();
    let record = NodeRecord {
        tier: tier(request.tier),
        epoch,
        granted: true,
        state: if device.is_some() {
            NodeState::Starting
        } else {
            NodeState::Active
        },
        incarnation: request.incarnation,
        endpoints: request
            .endpoints
            .iter()
            .map(|Endpoint { listener, host, port }| (listener.clone(), host.clone(), *port))
            .collect(),
        address: request.address.clone(),
        device,
    };
    tx.put_node(node, record);
    tx.touch(Touch::Registered(node));
    journals::seal_all_of(tx, node);
    Ok(registration(tx, epoch, device_epoch))
}

fn registration(tx: &Tx<'_>, node_epoch: NodeEpoch, device_epoch: Option<DeviceEpoch>) -> Registration {
    let cluster = tx.cluster();
    Registration {
        cluster: cluster.cluster,
        controller_epoch: cluster.term,
        node_epoch,
        device_epoch,
        lease: tx.limits.node_lease,
    }
}

fn check_request(tx: &Tx<'_>, request: &RegisterNode) -> Result<()> {
    let node = request.node;
    let here = tx.cluster().cluster;
    if let Some(found) = request.cluster
        && found != here
    {
        return invalid(format!(
            "node {node} has data of cluster {found}, this is cluster {here}"
        ));
    }
    if request.tier == Tier::Frontend && i32::try_from(node.0).is_err() {
        return invalid(format!(
            "node {node}: a frontend's id is Kafka's broker id, at most {}",
            i32::MAX
        ));
    }
    if (request.tier == Tier::Wal) != request.device.is_some() {
        return invalid(format!("node {node}: WAL nodes have a device, no others do"));
    }
    if let Some(before) = tx.node(node)
        && before.tier != tier(request.tier)
    {
        let (known, found) = (before.tier, request.tier);
        return invalid(format!(
            "node {node} is a {known:?} node here, it came as a {found:?} node"
        ));
    }
    Ok(())
}

/// The next epoch of a device, unconfirmed; what its superblock reports must be what was granted before.
fn grant_device(tx: &mut Tx<'_>, node: NodeId, report: &DeviceReport) -> Result<DeviceEpoch> {
    let (device, found) = (report.device, report.epoch);
    let granted = match tx.device(device) {
        None if found != DeviceEpoch(0) => {
            return invalid(format!(
                "device {device} of node {node} has epoch {found}, but no device of that id was ever granted one here"
            ));
        }
        None => DeviceEpoch(0),
        Some(known) if known.node != node => {
            return invalid(format!(
                "device {device} belongs to node {}, found at node {node}",
                known.node
            ));
        }
        Some(known) if found != known.epoch && Some(found) != known.previous => {
            let or_previous = known
                .previous
                .map_or_else(String::new, |previous| format!(" or {previous}"));
            return invalid(format!(
                "device {device} of node {node} has epoch {found}, expected {}{or_previous}",
                known.epoch
            ));
        }
        Some(known) => known.epoch,
    };
    let epoch = granted.next();
    let record = DeviceRecord {
        node,
        epoch,
        previous: Some(found),
        capacity_bytes: report.capacity_bytes,
    };
    tx.put_device(device, record);
    Ok(epoch)
}

/// The superblock with the granted epoch is durable: the grant is confirmed, and the node `Active`.
///
/// # Errors
/// [`Error::Invalid`] for a device or epoch that wasn't granted to the caller.
pub fn confirm_device(tx: &mut Tx<'_>, caller: Caller, device: DeviceId, epoch: DeviceEpoch) -> Result<()> {
    check(tx, caller)?;
    let node = caller.node;
    let record = tx
        .device(device)
        .filter(|record| record.node == node && record.epoch == epoch);
    let Some(record) = record.cloned() else {
        return invalid(format!(
            "epoch {epoch} of device {device} was not granted to node {node}"
        ));
    };
    tx.touch(Touch::Heard(node));
    if record.previous.is_some() {
        let confirmed = DeviceRecord {
            previous: None,
            ..(*record).clone()
        };
        tx.put_device(device, confirmed);
    }
    set_state(tx, node, |state| match state {
        NodeState::Starting => NodeState::Active,
        other => other,
    });
    tx.effect(Effect::DeviceServes(device));
    Ok(())
}

/// Keeps the lease; a node that asks to stop is on its way out from then on.
///
/// # Errors
/// Those of [`check`].
pub fn heartbeat(tx: &mut Tx<'_>, caller: Caller, request: &Heartbeat) -> Result<NodeState> {
    check(tx, caller)?;
    let node = caller.node;
    tx.touch(Touch::Heard(node));
    let stops = request.controlled_shutdown;
    let drained = is_drained(tx.state, (node, caller.node_epoch));
    let state = set_state(tx, node, |state| match state {
        NodeState::Starting | NodeState::Active | NodeState::ControlledShutdown if stops && drained => {
            NodeState::ShuttingDown
        }
        NodeState::Starting | NodeState::Active if stops => NodeState::ControlledShutdown,
        other => other,
    });
    if state == NodeState::ShuttingDown {
        seal_left(tx, (node, caller.node_epoch));
    }
    Ok(state)
}

/// Seals what a frontend that has left in order has open: it leads nothing, so nothing can be appended there any more, and
/// nobody has to wait until it is silent. One that could give its streams to nobody goes on until it ends.
fn seal_left(tx: &mut Tx<'_>, registration: (NodeId, NodeEpoch)) {
    if tx.state.index().led(Some(registration)) == 0 {
        journals::seal_all_of(tx, registration.0);
    }
}

/// Fences nodes whose lease is lost, moves those that leave along, and forgets those that are gone. Answers whether it stopped before the end.
pub fn expire(tx: &mut Tx<'_>) -> bool {
    let state = tx.state;
    for (id, node) in nodes(state) {
        if tx.keys() >= FENCE_KEYS {
            return true;
        }
        let silent = tx
            .limits
            .node_lease
            .is_some_and(|lease| tx.now.saturating_duration_since(tx.timers.heard(id)) > lease);
        let registration = (id, node.epoch);
        match node.state {
            NodeState::Starting | NodeState::Active if silent => fence(tx, id, NodeState::Fenced),
            NodeState::ControlledShutdown | NodeState::ShuttingDown if node.granted && silent => {
                fence(tx, id, NodeState::ShuttingDown);
            }
            NodeState::ControlledShutdown if is_drained(state, registration) => {
                set_state(tx, id, |_| NodeState::ShuttingDown);
                seal_left(tx, registration);
            }
            NodeState::ShuttingDown if !node.granted && is_bare(state, id, node) => {
                set_state(tx, id, |_| NodeState::Gone);
            }
            // It keeps nothing, and may come back under another number: nobody has to look after this one.
            NodeState::Fenced if node.tier == NodeTier::Compactor => {
                set_state(tx, id, |_| NodeState::Gone);
            }
            NodeState::Gone if tx.now.saturating_duration_since(tx.timers.heard(id)) > FORGET_AFTER => {
                tx.forget_node(id, node.epoch);
            }
            _ => {}
        }
    }
    false
}

/// Ends a registration: its epoch is raised, given to nobody, and what a frontend has open is sealed.
fn fence(tx: &mut Tx<'_>, id: NodeId, to: NodeState) {
    let Some(record) = tx.node(id).cloned() else {
        return;
    };
    let fenced = NodeRecord {
        epoch: record.epoch.next(),
        granted: false,
        state: to,
        ..(*record).clone()
    };
    tx.put_node(id, fenced);
    journals::seal_all_of(tx, id);
}

fn set_state(tx: &mut Tx<'_>, id: NodeId, next: impl FnOnce(NodeState) -> NodeState) -> NodeState {
    let record = tx
        .node(id)
        .cloned()
        .expect("the caller has checked that it is registered");
    let state = next(record.state);
    if state != record.state {
        let moved = NodeRecord {
            state,
            ..(*record).clone()
        };
        tx.put_node(id, moved);
    }
    state
}

/// Whether a node that wants to stop has nothing left that another could take over.
///
/// A WAL node's journals wait on its volume for its return.
fn is_drained(state: &State, registration: (NodeId, NodeEpoch)) -> bool {
    let (id, _) = registration;
    match state.node(id).map(|node| node.tier) {
        Some(NodeTier::Frontend) => {
            let leads = state.index().led(Some(registration)) > 0;
            !leads || active_frontends(state).all(|other| other.0 == id)
        }
        Some(NodeTier::Compactor) => !super::tasks::is_holder(state, registration),
        Some(NodeTier::Wal) | None => true,
    }
}

/// Whether nothing names a node that has left, so that it is gone.
fn is_bare(state: &State, id: NodeId, node: &NodeRecord) -> bool {
    let mut journals = journals::all(state).map(|(_, journal)| journal);
    match node.tier {
        NodeTier::Frontend => {
            let leads = state.index().leaders().flatten().any(|leader| leader.0 == id);
            !leads && !journals.any(|journal| journal.owner == id)
        }
        NodeTier::Wal => !journals.any(|journal| node.device.is_some_and(|device| journal.ensemble.contains(&device))),
        NodeTier::Compactor => true,
    }
}

pub fn nodes(state: &State) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
    let range = state.range(Key::Node(NodeId(0)), Key::Node(NodeId(u32::MAX)));
    range.filter_map(|(key, record)| match (key, record) {
        (Key::Node(id), Record::Node(node)) => Some((*id, &**node)),
        _ => None,
    })
}

/// Registrations of frontends that partitions may be given to.
pub fn active_frontends(state: &State) -> impl Iterator<Item = (NodeId, NodeEpoch)> {
    nodes(state)
        .filter(|(_, node)| node.tier == NodeTier::Frontend && node.granted && node.state == NodeState::Active)
        .map(|(id, node)| (id, node.epoch))
}

/// Devices that serve and may be given journals.
pub fn active_devices(state: &State) -> impl Iterator<Item = DeviceId> {
    nodes(state)
        .filter(|(_, node)| node.tier == NodeTier::Wal && node.granted && node.state == NodeState::Active)
        .filter_map(|(_, node)| node.device)
}

fn tier(tier: Tier) -> NodeTier {
    match tier {
        Tier::Frontend => NodeTier::Frontend,
        Tier::Wal => NodeTier::Wal,
        Tier::Compactor => NodeTier::Compactor,
    }
}

fn invalid<T>(text: String) -> Result<T> {
    Err(Error::Invalid(text))
}
