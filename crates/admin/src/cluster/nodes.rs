//! `cluster nodes`: who is there in each tier.
//!
//! Kafka has no API for it. A Tailwater frontend adds the nodes to its DescribeCluster for who asks with a tag of our own
//! (ADR 9); of another Kafka the brokers are shown, and the controllers as DescribeQuorum has them.

use clap::Args;
use serde::Serialize;
use tailwater_kafka::messages::*;

use super::describe;
use crate::client::{ANY_VERSION, Broker, Client, host_port};
use crate::error::Error;
use crate::report::{Report, Table, cell};

/// The state of a node that has left for good.
const GONE: &str = "Gone";
const UNREACHABLE: &str = "Unreachable";
const CONTROLLER: &str = "controller";
/// The order in which tiers are shown.
const TIERS: [&str; 5] = [CONTROLLER, "wal", "frontend", "broker", "compactor"];
/// Kafka's log of its metadata, by which DescribeQuorum is asked.
const METADATA_TOPIC: &str = "__cluster_metadata";

#[derive(Debug, Args)]
pub struct Nodes {
    /// Nodes that have left for good too.
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Node {
    /// `None`: Tailwater's controller has none.
    id: Option<i64>,
    tier: String,
    /// Raised with each registration and each fencing; a controller's term. `None`: unknown.
    epoch: Option<i64>,
    state: String,
    /// Where Kafka clients reach it.
    kafka: Vec<String>,
    /// Where other tiers reach it.
    rpc: Option<String>,
    /// A WAL node's.
    device: Option<String>,
}

impl Nodes {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let response = describe::ask(client, true)?;
        let is_tailwater = response.tailwater_nodes.is_some();
        let mut nodes: Vec<Node> = match &response.tailwater_nodes {
            Some(nodes) => nodes.iter().map(of_tailwater).collect(),
            None => of_kafka(client, &response)?,
        };
        nodes.sort_by_key(|node| {
            let tier = TIERS.iter().position(|tier| *tier == node.tier);
            (tier.unwrap_or(TIERS.len()), node.id)
        });
        let known = nodes.len();
        nodes.retain(|node| self.all || node.state != GONE);
        let hidden = known - nodes.len();
        let lost = nodes
            .iter()
            .any(|node| node.tier == CONTROLLER && node.state == UNREACHABLE);

        let mut report = Report::new(&nodes);
        let mut table = Table::new(&["TIER", "ID", "EPOCH", "STATE", "KAFKA", "RPC"]);
        for node in nodes {
            let (id, epoch) = (cell(node.id), cell(node.epoch));
            table.row(vec![
                node.tier,
                id,
                epoch,
                node.state,
                node.kafka.join(","),
                cell(node.rpc),
            ]);
        }
        report.table(table);
        if !is_tailwater {
            report.note("this is no Tailwater cluster: brokers and controllers only, without epochs");
        }
        if lost {
            report.note("the controller doesn't answer the frontend that was asked: the states are those it gave last");
        }
        if hidden > 0 {
            report.note(format!("{hidden} more have left for good: --all shows them"));
        }
        Ok(report)
    }
}

fn of_tailwater(node: &TailwaterNode) -> Node {
    let listener = |listener: &TailwaterListener| host_port(&listener.host, listener.port);
    Node {
        id: (node.node_id >= 0).then_some(node.node_id),
        tier: node.tier.to_string(),
        epoch: Some(node.epoch),
        state: node.state.to_string(),
        kafka: node.listeners.iter().map(listener).collect(),
        rpc: node.rpc_address.as_ref().map(ToString::to_string),
        device: node.device.as_ref().map(ToString::to_string),
    }
}

fn of_kafka(client: &mut Client, response: &DescribeClusterResponse) -> Result<Vec<Node>, Error> {
    let broker = |broker: &DescribeClusterBroker| Node {
        id: Some(broker.broker_id.into()),
        tier: "broker".to_owned(),
        epoch: None,
        state: if broker.is_fenced { "Fenced" } else { "Active" }.to_owned(),
        kafka: vec![host_port(&broker.host, broker.port)],
        rpc: None,
        device: None,
    };
    let mut nodes: Vec<Node> = response.brokers.iter().map(broker).collect();
    let request = DescribeQuorumRequest {
        topics: vec![DescribeQuorumTopic {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![DescribeQuorumPartition { partition_index: 0 }],
        }],
    };
    let quorum = match client.ask(Broker::Any, ANY_VERSION, &request) {
        // Brokers that keep their metadata in ZooKeeper.
        Err(Error::Unsupported { .. }) => return Ok(nodes),
        answer => answer?,
    };
    Error::check(quorum.error_code, quorum.error_message.as_deref())?;
    let voters = quorum
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .flat_map(|partition| {
            partition
                .current_voters
                .iter()
                .map(|voter| (voter.replica_id, partition.leader_id))
        });
    nodes.extend(voters.map(|(id, leader)| {
        let known = quorum.nodes.iter().find(|node| node.node_id == id);
        let listeners = known.map(|node| &node.listeners[..]).unwrap_or_default();
        let rpc = listeners
            .first()
            .map(|listener| host_port(&listener.host, listener.port.into()));
        Node {
            id: Some(id.into()),
            tier: CONTROLLER.to_owned(),
            epoch: None,
            state: if id == leader { "Leader" } else { "Voter" }.to_owned(),
            kafka: Vec::new(),
            rpc,
            device: None,
        }
    }));
    Ok(nodes)
}
