//! What nodes are told of the metadata: pure conversions of records.

use std::collections::{BTreeMap, BTreeSet};

use tailwater_format::metadata::{
    ConfigOwner, ConfigRecord, Key, NodeRecord, NodeState, NodeTier, Record, StreamRow, TopicRecord,
};
use tailwater_rpc::controller::{
    self, ConfigInfo, ConfigResource, Endpoint, MetadataChange, NodeInfo, PartitionInfo, Tier, TopicInfo,
};
use tailwater_types::{NodeId, StreamId, TopicId};

use crate::state::{Changes, State, View, streams};

/// Everything.
pub fn snapshot(state: &State) -> Vec<MetadataChange> {
    let mut told = Vec::new();
    let all = state.range(Key::Cluster, Key::Streams(0));
    for (key, record) in all {
        match (key, record) {
            (Key::Node(id), Record::Node(node)) => told.push(MetadataChange::Node(node_info(*id, node))),
            (Key::Topic(id), Record::Topic(topic)) => {
                told.push(MetadataChange::Topic(topic_info(*id, topic)));
            }
            _ => {}
        }
    }
    for (_, record) in state.range(Key::Config(0), Key::Config(u64::MAX)) {
        if let Record::Config(config) = record {
            told.push(MetadataChange::Config(config_info(config)));
        }
    }
    for (stream, row) in streams::blocks(state).flat_map(|(_, block)| &block.rows) {
        told.push(MetadataChange::Partition(partition_info(*stream, row)));
        told.extend(state.progress(*stream).map(MetadataChange::Stream));
    }
    told
}

/// Carries out `changes`, and answers with what of them nodes are told: deletions first, since a name may be used again.
pub fn advance(state: &mut State, changes: &Changes) -> Vec<MetadataChange> {
    let touched = touched_streams(state, changes);
    let before: BTreeMap<_, _> = touched
        .iter()
        .map(|stream| {
            let row = state.row(*stream).map(|row| (row.leader, row.leader_epoch));
            (*stream, (row, state.progress(*stream)))
        })
        .collect();
    let deleted = |key: &Key, record: &Option<Record>| match (key, record) {
        (Key::Topic(id), None) if state.topic(*id).is_some() => Some(MetadataChange::TopicDeleted(*id)),
        _ => None,
    };
    let mut told: Vec<_> = changes
        .iter()
        .filter_map(|(key, record)| deleted(key, record))
        .collect();
    for (key, record) in changes {
        match (key, record) {
            (Key::Node(id), Some(Record::Node(node))) => {
                told.push(MetadataChange::Node(node_info(*id, node)));
            }
            (Key::Topic(id), Some(Record::Topic(topic))) => {
                told.push(MetadataChange::Topic(topic_info(*id, topic)));
            }
            (Key::Config(_), Some(Record::Config(config))) => {
                told.push(MetadataChange::Config(config_info(config)));
            }
            (Key::Config(number), None) => {
                told.extend(state.config(*number).map(|config| {
                    MetadataChange::Config(ConfigInfo {
                        configs: BTreeMap::new(),
                        ..config_info(config)
                    })
                }));
            }
            _ => {}
        }
    }
    state.put_all(changes);
    for (stream, (row_before, progress_before)) in before {
        let Some(row) = state.row(stream) else {
            continue;
        };
        if row_before != Some((row.leader, row.leader_epoch)) {
            told.push(MetadataChange::Partition(partition_info(stream, row)));
        }
        let progress = state.progress(stream);
        if progress != progress_before {
            told.extend(progress.map(MetadataChange::Stream));
        }
    }
    told
}

/// Every stream whose leader or progress these changes may change.
fn touched_streams(state: &State, changes: &Changes) -> BTreeSet<StreamId> {
    let mut touched = BTreeSet::new();
    for (key, record) in changes {
        for record in state.record(*key).into_iter().chain(record) {
            match record {
                Record::Streams(block) => touched.extend(block.rows.keys()),
                Record::Object(object) => {
                    touched.extend(object.slices.iter().map(|slice| slice.stream));
                }
                _ => {}
            }
        }
    }
    touched
}

pub fn node_info(node: NodeId, record: &NodeRecord) -> NodeInfo {
    let endpoint = |(listener, host, port): &(String, String, u16)| Endpoint {
        listener: listener.clone(),
        host: host.clone(),
        port: *port,
    };
    NodeInfo {
        node,
        tier: match record.tier {
            NodeTier::Frontend => Tier::Frontend,
            NodeTier::Wal => Tier::Wal,
            NodeTier::Compactor => Tier::Compactor,
        },
        epoch: record.epoch,
        state: node_state(record.state),
        endpoints: record.endpoints.iter().map(endpoint).collect(),
        address: record.address.clone(),
        device: record.device,
    }
}

pub fn node_state(state: NodeState) -> controller::NodeState {
    match state {
        NodeState::Starting => controller::NodeState::Starting,
        NodeState::Active => controller::NodeState::Active,
        NodeState::Fenced => controller::NodeState::Fenced,
        NodeState::ControlledShutdown => controller::NodeState::ControlledShutdown,
        NodeState::ShuttingDown => controller::NodeState::ShuttingDown,
        NodeState::Gone => controller::NodeState::Gone,
    }
}

fn topic_info(id: TopicId, record: &TopicRecord) -> TopicInfo {
    TopicInfo {
        id,
        name: record.name.clone(),
        configs: record.configs.clone(),
        internal: record.internal,
    }
}

fn config_info(record: &ConfigRecord) -> ConfigInfo {
    ConfigInfo {
        resource: match &record.owner {
            ConfigOwner::Broker(node) => ConfigResource::Broker(*node),
            ConfigOwner::Group(name) => ConfigResource::Group(name.clone()),
            ConfigOwner::ClientMetrics(name) => ConfigResource::ClientMetrics(name.clone()),
        },
        configs: record.configs.clone(),
    }
}

fn partition_info(stream: StreamId, row: &StreamRow) -> PartitionInfo {
    PartitionInfo {
        topic: row.topic,
        index: row.index,
        stream,
        leader: row.leader.map(|(node, _)| node),
        leader_epoch: row.leader_epoch,
    }
}
