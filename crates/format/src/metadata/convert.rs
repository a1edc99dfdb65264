//! Records to messages and back; what a message can say and a record can't is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, DeviceId, JournalId, LeaderEpoch, LeaseEpoch, Lsn, LsnRange,
    MetadataVersion, NodeEpoch, NodeId, ObjectId, Offset, OffsetRange, StreamId, TaskId, TopicId,
};

use super::message::{
    BlockMessage, CleaningMessage, ClosedMessage, ClusterMessage, CommitMessage, ConfigMessage, CountersMessage,
    DeletionMessage, DeviceMessage, EndMessage, EndpointMessage, JournalMessage, MinimumMessage, NodeMessage,
    ObjectMessage, RegistrationMessage, RowMessage, RunMessage, SliceMessage, SnapshotMessage, TopicMessage,
};
use super::{
    CleaningRecord, ClosedTail, ClusterRecord, ConfigOwner, ConfigRecord, Counters, DeletionRecord, DeviceRecord,
    JournalCommit, JournalRecord, JournalState, Key, NodeRecord, NodeState, NodeTier, ObjectLife, ObjectRecord,
    ObjectSlice, ObjectSnapshot, Record, STREAMS_PER_BLOCK, StreamBlock, StreamEnd, StreamRow, TopicRecord, WHAT,
};
use crate::FormatError;

/// Appends the record's message to `out`.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Cluster(record) => out.extend(cluster_message(record).encode_to_vec()),
        Record::Counters(record) => out.extend(counters_message(record).encode_to_vec()),
        Record::Node(record) => out.extend(node_message(record).encode_to_vec()),
        Record::Device(record) => out.extend(device_message(record).encode_to_vec()),
        Record::Topic(record) => out.extend(topic_message(record).encode_to_vec()),
        Record::Streams(record) => out.extend(block_message(record).encode_to_vec()),
        Record::Journal(record) => out.extend(journal_message(record).encode_to_vec()),
        Record::Object(record) => out.extend(object_message(record).encode_to_vec()),
        Record::Deletion(record) => out.extend(deletion_message(record).encode_to_vec()),
        Record::Config(record) => out.extend(config_message(record).encode_to_vec()),
        Record::Cleaning(record) => out.extend(cleaning_message(record).encode_to_vec()),
    }
}

/// Reads the message of `key`'s kind.
pub(super) fn decode(key: Key, bytes: &[u8]) -> Result<Record, FormatError> {
    let record = match key {
        Key::Cluster => Record::Cluster(Arc::new(cluster(parse(bytes)?)?)),
        Key::Counters => Record::Counters(Arc::new(counters(parse(bytes)?))),
        Key::Node(_) => Record::Node(Arc::new(node(parse(bytes)?)?)),
        Key::Device(_) => Record::Device(Arc::new(device(parse(bytes)?))),
        Key::Topic(_) => Record::Topic(Arc::new(topic(parse(bytes)?))),
        Key::Streams(number) => Record::Streams(Arc::new(block(number, parse(bytes)?)?)),
        Key::Journal(_) => Record::Journal(Arc::new(journal(parse(bytes)?)?)),
        Key::Object(_) => Record::Object(Arc::new(object(parse(bytes)?)?)),
        Key::Deletion(_) => Record::Deletion(Arc::new(deletion(parse(bytes)?))),
        Key::Config(_) => Record::Config(Arc::new(config(parse(bytes)?)?)),
        Key::Cleaning(_) => Record::Cleaning(Arc::new(cleaning(parse(bytes)?)?)),
    };
    Ok(record)
}

fn parse<M: Message + Default>(bytes: &[u8]) -> Result<M, FormatError> {
    M::decode(bytes).map_err(|error| invalid(error.to_string()))
}

fn invalid(detail: String) -> FormatError {
    FormatError::Invalid { what: WHAT, detail }
}

fn uuid(bytes: &[u8]) -> Result<[u8; 16], FormatError> {
    bytes
        .try_into()
        .map_err(|_| invalid(format!("an id of {} bytes", bytes.len())))
}

fn registration_message((node, epoch): (NodeId, NodeEpoch)) -> RegistrationMessage {
    RegistrationMessage {
        node: node.0,
        epoch: epoch.0,
    }
}

fn registration(message: RegistrationMessage) -> (NodeId, NodeEpoch) {
    (NodeId(message.node), NodeEpoch(message.epoch))
}

fn cluster_message(record: &ClusterRecord) -> ClusterMessage {
    ClusterMessage {
        cluster: record.cluster.to_bytes().to_vec(),
        term: record.term.0,
    }
}

fn cluster(message: ClusterMessage) -> Result<ClusterRecord, FormatError> {
    Ok(ClusterRecord {
        cluster: ClusterId::from_bytes(uuid(&message.cluster)?),
        term: ControllerEpoch(message.term),
    })
}

fn counters_message(record: &Counters) -> CountersMessage {
    CountersMessage {
        version: record.version.0,
        next_stream: record.next_stream,
        next_journal: record.next_journal,
        next_object: record.next_object,
        next_task: record.next_task,
        next_producer_id: record.next_producer_id,
        next_config: record.next_config,
        forgotten_epoch: record.forgotten_epoch.0,
    }
}

fn counters(message: CountersMessage) -> Counters {
    Counters {
        version: MetadataVersion(message.version),
        next_stream: message.next_stream,
        next_journal: message.next_journal,
        next_object: message.next_object,
        next_task: message.next_task,
        next_producer_id: message.next_producer_id,
        next_config: message.next_config,
        forgotten_epoch: NodeEpoch(message.forgotten_epoch),
    }
}

fn node_message(record: &NodeRecord) -> NodeMessage {
    let endpoint = |(listener, host, port): &(String, String, u16)| EndpointMessage {
        listener: listener.clone(),
        host: host.clone(),
        port: u32::from(*port),
    };
    NodeMessage {
        tier: match record.tier {
            NodeTier::Frontend => 1,
            NodeTier::Wal => 2,
            NodeTier::Compactor => 3,
        },
        epoch: record.epoch.0,
        granted: record.granted,
        state: match record.state {
            NodeState::Starting => 1,
            NodeState::Active => 2,
            NodeState::Fenced => 3,
            NodeState::ControlledShutdown => 4,
            NodeState::ShuttingDown => 5,
            NodeState::Gone => 6,
        },
        incarnation: record.incarnation.to_be_bytes().to_vec(),
        endpoints: record.endpoints.iter().map(endpoint).collect(),
        device: record.device.map(|device| device.to_bytes().to_vec()),
        address: record.address.clone(),
    }
}

fn node(message: NodeMessage) -> Result<NodeRecord, FormatError> {
    let endpoint = |endpoint: EndpointMessage| {
        let port = u16::try_from(endpoint.port).map_err(|_| invalid(format!("port {}", endpoint.port)))?;
        Ok((endpoint.listener, endpoint.host, port))
    };
    Ok(NodeRecord {
        tier: match message.tier {
            1 => NodeTier::Frontend,
            2 => NodeTier::Wal,
            3 => NodeTier::Compactor,
            other => return Err(invalid(format!("tier {other}"))),
        },
        epoch: NodeEpoch(message.epoch),
        granted: message.granted,
        state: match message.state {
            1 => NodeState::Starting,
            2 => NodeState::Active,
            3 => NodeState::Fenced,
            4 => NodeState::ControlledShutdown,
            5 => NodeState::ShuttingDown,
            6 => NodeState::Gone,
            other => return Err(invalid(format!("node state {other}"))),
        },
        incarnation: u128::from_be_bytes(uuid(&message.incarnation)?),
        endpoints: message
            .endpoints
            .into_iter()
            .map(endpoint)
            .collect::<Result<_, FormatError>>()?,
        device: message
            .device
            .map(|device| uuid(&device).map(DeviceId::from_bytes))
            .transpose()?,
        address: message.address,
    })
}

fn device_message(record: &DeviceRecord) -> DeviceMessage {
    DeviceMessage {
        node: record.node.0,
        epoch: record.epoch.0,
        previous: record.previous.map(|epoch| epoch.0),
        capacity_bytes: record.capacity_bytes,
    }
}

fn device(message: DeviceMessage) -> DeviceRecord {
    DeviceRecord {
        node: NodeId(message.node),
        epoch: DeviceEpoch(message.epoch),
        previous: message.previous.map(DeviceEpoch),
        capacity_bytes: message.capacity_bytes,
    }
}

fn topic_message(record: &TopicRecord) -> TopicMessage {
    let run = |&(first, count): &(StreamId, u32)| RunMessage { first: first.0, count };
    TopicMessage {
        name: record.name.clone(),
        configs: record.configs.clone(),
        internal: record.internal,
        runs: record.runs.iter().map(run).collect(),
    }
}

fn topic(message: TopicMessage) -> TopicRecord {
    let run = |run: RunMessage| (StreamId(run.first), run.count);
    TopicRecord {
        name: message.name,
        configs: message.configs,
        internal: message.internal,
        runs: message.runs.into_iter().map(run).collect(),
    }
}

fn block_message(record: &StreamBlock) -> BlockMessage {
    let row = |(stream, row): (&StreamId, &StreamRow)| RowMessage {
        stream: stream.0,
        topic: row.topic.to_bytes().to_vec(),
        index: row.index,
        leader: row.leader.map(registration_message),
        leader_epoch: row.leader_epoch.0,
        start: row.start.0,
        owners: row.owners.iter().map(|node| node.0).collect(),
        closed: row.closed.iter().map(closed_message).collect(),
        ended: row.ended.map(|StreamEnd { leader_epoch, end }| EndMessage {
            leader_epoch: leader_epoch.0,
            end: end.0,
        }),
    };
    BlockMessage {
        rows: record.rows.iter().map(row).collect(),
    }
}

fn block(number: u64, message: BlockMessage) -> Result<StreamBlock, FormatError> {
    let mut rows = BTreeMap::new();
    for row in message.rows {
        if row.stream / STREAMS_PER_BLOCK != number {
            return Err(invalid(format!("stream {} in block {number}", row.stream)));
        }
        let value = StreamRow {
            topic: TopicId::from_bytes(uuid(&row.topic)?),
            index: row.index,
            leader: row.leader.map(registration),
            leader_epoch: LeaderEpoch(row.leader_epoch),
            start: Offset(row.start),
            owners: row.owners.into_iter().map(NodeId).collect(),
            closed: row.closed.into_iter().map(closed).collect(),
            ended: row.ended.map(|EndMessage { leader_epoch, end }| StreamEnd {
                leader_epoch: LeaderEpoch(leader_epoch),
                end: Offset(end),
            }),
        };
        rows.insert(StreamId(row.stream), value);
    }
    Ok(StreamBlock { rows })
}

fn closed_message(tail: &ClosedTail) -> ClosedMessage {
    ClosedMessage {
        owner: tail.owner.0,
        journal: tail.journal.0,
        end: tail.end.0,
    }
}

fn closed(message: ClosedMessage) -> ClosedTail {
    ClosedTail {
        owner: NodeId(message.owner),
        journal: JournalId(message.journal),
        end: Lsn(message.end),
    }
}

fn journal_message(record: &JournalRecord) -> JournalMessage {
    let minimum = |&(stream, epoch): &(StreamId, LeaderEpoch)| MinimumMessage {
        stream: stream.0,
        leader_epoch: epoch.0,
    };
    let commit = |commit: JournalCommit| CommitMessage {
        lease: commit.lease.0,
        start: commit.range.start.0,
        end: commit.range.end.0,
        version: commit.version.0,
    };
    let (state, end) = match record.state {
        JournalState::Open => (1, None),
        JournalState::Sealing => (2, None),
        JournalState::Sealed { end } => (3, Some(end.0)),
        JournalState::Gone { end } => (4, Some(end.0)),
    };
    JournalMessage {
        owner: Some(registration_message((record.owner, record.owner_epoch))),
        ensemble: record
            .ensemble
            .iter()
            .map(|device| device.to_bytes().to_vec())
            .collect(),
        ack_quorum: u32::from(record.ack_quorum),
        min_leader_epochs: record.min_leader_epochs.iter().map(minimum).collect(),
        state,
        end,
        trim: record.trim.0,
        task: record.task.0,
        lease: record.lease.0,
        holder: record.holder.map(registration_message),
        last_commit: record.last_commit.map(commit),
        unconfirmed: record.unconfirmed,
    }
}

fn journal(message: JournalMessage) -> Result<JournalRecord, FormatError> {
    let (owner, owner_epoch) = message
        .owner
        .map(registration)
        .ok_or_else(|| invalid("a journal without an owner".to_owned()))?;
    let commit = |commit: CommitMessage| {
        if commit.end < commit.start {
            return Err(invalid(format!("LSNs [{}, {})", commit.start, commit.end)));
        }
        Ok(JournalCommit {
            lease: LeaseEpoch(commit.lease),
            range: LsnRange::new(Lsn(commit.start), Lsn(commit.end)),
            version: MetadataVersion(commit.version),
        })
    };
    let minimum = |minimum: MinimumMessage| (StreamId(minimum.stream), LeaderEpoch(minimum.leader_epoch));
    Ok(JournalRecord {
        owner,
        owner_epoch,
        ensemble: message
            .ensemble
            .iter()
            .map(|device| uuid(device).map(DeviceId::from_bytes))
            .collect::<Result<_, _>>()?,
        ack_quorum: u8::try_from(message.ack_quorum)
            .map_err(|_| invalid(format!("ack quorum {}", message.ack_quorum)))?,
        min_leader_epochs: message.min_leader_epochs.into_iter().map(minimum).collect(),
        state: match (message.state, message.end.map(Lsn)) {
            (1, None) => JournalState::Open,
            (2, None) => JournalState::Sealing,
            (3, Some(end)) => JournalState::Sealed { end },
            (4, Some(end)) => JournalState::Gone { end },
            other => return Err(invalid(format!("journal state {other:?}"))),
        },
        trim: Lsn(message.trim),
        task: TaskId(message.task),
        lease: LeaseEpoch(message.lease),
        holder: message.holder.map(registration),
        last_commit: message.last_commit.map(commit).transpose()?,
        unconfirmed: message.unconfirmed,
    })
}

fn object_message(record: &ObjectRecord) -> ObjectMessage {
    let slice = |slice: &ObjectSlice| SliceMessage {
        stream: slice.stream.0,
        start: slice.range.start.0,
        count: slice.range.end.0 - slice.range.start.0,
        unstable: slice.range.end.0 - slice.stable_end.0,
        max_timestamp_ms: slice.max_timestamp_ms,
        bytes: slice.bytes,
        is_cleaned: slice.is_cleaned,
    };
    let snapshot = |snapshot: &ObjectSnapshot| SnapshotMessage {
        stream: snapshot.stream.0,
        at: snapshot.at.0,
        position: snapshot.position,
        length: snapshot.length,
        crc: snapshot.crc,
    };
    ObjectMessage {
        key: record.key.clone(),
        task: record.task.0,
        lease: record.lease.0,
        life: match record.life {
            ObjectLife::Prepared => 1,
            ObjectLife::Committed => 2,
            ObjectLife::Marked => 3,
            ObjectLife::Expired => 4,
        },
        committed: record.committed.map(|version| version.0),
        size_bytes: record.size_bytes,
        slices: record.slices.iter().map(slice).collect(),
        snapshots: record.snapshots.iter().map(snapshot).collect(),
    }
}

fn object(message: ObjectMessage) -> Result<ObjectRecord, FormatError> {
    let snapshot = |snapshot: SnapshotMessage| ObjectSnapshot {
        stream: StreamId(snapshot.stream),
        at: Offset(snapshot.at),
        position: snapshot.position,
        length: snapshot.length,
        crc: snapshot.crc,
    };
    Ok(ObjectRecord {
        key: message.key,
        task: TaskId(message.task),
        lease: LeaseEpoch(message.lease),
        life: match message.life {
            1 => ObjectLife::Prepared,
            2 => ObjectLife::Committed,
            3 => ObjectLife::Marked,
            4 => ObjectLife::Expired,
            other => return Err(invalid(format!("object state {other}"))),
        },
        committed: message.committed.map(MetadataVersion),
        size_bytes: message.size_bytes,
        slices: message.slices.into_iter().map(slice).collect::<Result<_, _>>()?,
        snapshots: message.snapshots.into_iter().map(snapshot).collect(),
    })
}

fn slice(message: SliceMessage) -> Result<ObjectSlice, FormatError> {
    let end = message.start.checked_add(message.count);
    match end.and_then(|end| Some((end, end.checked_sub(message.unstable)?))) {
        Some((end, stable_end)) if message.start >= 0 && message.count >= 0 => Ok(ObjectSlice {
            stream: StreamId(message.stream),
            range: OffsetRange::new(Offset(message.start), Offset(end)),
            stable_end: Offset(stable_end),
            max_timestamp_ms: message.max_timestamp_ms,
            bytes: message.bytes,
            is_cleaned: message.is_cleaned,
        }),
        _ => Err(invalid(format!(
            "{} offsets from {} of stream {}",
            message.count, message.start, message.stream
        ))),
    }
}

fn deletion_message(record: &DeletionRecord) -> DeletionMessage {
    DeletionMessage {
        objects: record.objects.iter().map(|object| object.0).collect(),
        lease: record.lease.0,
        holder: record.holder.map(registration_message),
    }
}

fn deletion(message: DeletionMessage) -> DeletionRecord {
    DeletionRecord {
        objects: message.objects.into_iter().map(ObjectId).collect(),
        lease: LeaseEpoch(message.lease),
        holder: message.holder.map(registration),
    }
}

fn cleaning_message(record: &CleaningRecord) -> CleaningMessage {
    CleaningMessage {
        stream: record.stream.0,
        start: record.range.start.0,
        end: record.range.end.0,
        first_dirty: record.first_dirty.0,
        delete_retention_ms: record.delete_retention_ms,
        lease: record.lease.0,
        holder: record.holder.map(registration_message),
        done_to: record.done_to.0,
        keys_end: record.keys_end.0,
    }
}

fn cleaning(message: CleaningMessage) -> Result<CleaningRecord, FormatError> {
    if message.start < 0 || message.end < message.start || message.done_to < 0 || message.keys_end < 0 {
        return Err(invalid(format!(
            "offsets [{}, {}), done to {} with keys to {}",
            message.start, message.end, message.done_to, message.keys_end
        )));
    }
    Ok(CleaningRecord {
        stream: StreamId(message.stream),
        range: OffsetRange::new(Offset(message.start), Offset(message.end)),
        first_dirty: Offset(message.first_dirty),
        delete_retention_ms: message.delete_retention_ms,
        lease: LeaseEpoch(message.lease),
        holder: message.holder.map(registration),
        done_to: Offset(message.done_to),
        keys_end: Offset(message.keys_end),
    })
}

fn config_message(record: &ConfigRecord) -> ConfigMessage {
    let (owner, node, name) = match &record.owner {
        ConfigOwner::Broker(node) => (1, node.map(|node| node.0), ""),
        ConfigOwner::Group(name) => (2, None, name.as_str()),
        ConfigOwner::ClientMetrics(name) => (3, None, name.as_str()),
    };
    ConfigMessage {
        owner,
        node,
        name: name.to_owned(),
        configs: record.configs.clone(),
    }
}

fn config(message: ConfigMessage) -> Result<ConfigRecord, FormatError> {
    let owner = match message.owner {
        1 => ConfigOwner::Broker(message.node.map(NodeId)),
        2 => ConfigOwner::Group(message.name),
        3 => ConfigOwner::ClientMetrics(message.name),
        other => return Err(invalid(format!("settings of owner {other}"))),
    };
    Ok(ConfigRecord {
        owner,
        configs: message.configs,
    })
}
