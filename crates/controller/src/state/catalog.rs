//! Topics with their partitions, where their streams begin, and producer ids.

use std::collections::BTreeMap;

use tailwater_format::metadata::{Key, StreamRow, TopicRecord};
use tailwater_rpc::controller::{Caller, CreatePartitions, CreatedTopic, DeleteRecords, NewTopic, ProducerIds};
use tailwater_rpc::{Error, Result};
use tailwater_types::{LeaderEpoch, MetadataVersion, NodeEpoch, NodeId, Offset, StreamId, TopicId};

use super::{Tx, View, nodes};
use crate::plan::Spread;

/// The most partitions of one topic: their rows are one atomic change.
pub const MAX_PARTITIONS: i32 = 10_000;

/// The longest topic name, in bytes, as in Kafka.
pub const MAX_NAME_BYTES: usize = 249;

/// The most bytes of one topic's settings together, or one node's, or one group's.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;

/// Producer ids handed out at once, as in Kafka.
const PRODUCER_IDS_PER_BLOCK: i64 = 1000;

/// Creates a topic under `id`, its streams, and places them.
///
/// # Errors
/// [`Error::AlreadyExists`], [`Error::Invalid`].
pub fn create_topic(tx: &mut Tx<'_>, caller: Caller, id: TopicId, topic: &NewTopic) -> Result<CreatedTopic> {
    nodes::check(tx, caller)?;
    let partitions = check_topic(topic)?;
    if let Some(known) = tx.state.index().topic(&topic.name) {
        let name = tx.topic(known).map_or("", |record| &record.name);
        return Err(Error::AlreadyExists(format!("topic {name}")));
    }
    if topic.validate_only {
        let version = tx.state.version();
        return Ok(CreatedTopic { id, version });
    }
    let first = tx.new_streams(partitions);
    let record = TopicRecord {
        name: topic.name.clone(),
        configs: topic.configs.clone(),
        internal: topic.internal,
        runs: vec![(first, partitions)],
    };
    tx.put_topic(id, record);
    put_partitions(tx, id, 0, first, partitions);
    let version = tx.version();
    Ok(CreatedTopic { id, version })
}

/// Gives a topic more partitions, and places them.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Invalid`].
pub fn create_partitions(tx: &mut Tx<'_>, caller: Caller, request: CreatePartitions) -> Result<MetadataVersion> {
    nodes::check(tx, caller)?;
    let CreatePartitions { topic: id, total, .. } = request;
    let Some(topic) = tx.topic(id).cloned() else {
        return Err(Error::NotFound(format!("topic {id}")));
    };
    let present: u32 = topic.runs.iter().map(|(_, count)| count).sum();
    let total = check_count(&topic.name, total)?;
    if total <= present {
        return Err(Error::Invalid(format!(
            "topic {} has {present} partitions, {total} aren't more",
            topic.name
        )));
    }
    if request.validate_only {
        return Ok(tx.state.version());
    }
    let added = total - present;
    let first = tx.new_streams(added);
    let mut grown = (*topic).clone();
    match grown.runs.last_mut() {
        Some((last, count)) if last.0 + u64::from(*count) == first.0 => *count += added,
        _ => grown.runs.push((first, added)),
    }
    tx.put_topic(id, grown);
    put_partitions(tx, id, present, first, added);
    Ok(tx.version())
}

/// Rows of `count` new partitions from `index` on, placed over the active frontends.
fn put_partitions(tx: &mut Tx<'_>, topic: TopicId, index: u32, first: StreamId, count: u32) {
    let mut spread = frontends(tx);
    tx.put_rows(first, count, |at| {
        let leader = spread.place();
        Some(StreamRow {
            topic,
            index: i32::try_from(index + at).expect("checked against MAX_PARTITIONS"),
            leader,
            leader_epoch: LeaderEpoch(0),
            start: Offset::ZERO,
            owners: leader.iter().map(|(node, _)| *node).collect(),
            closed: Vec::new(),
            ended: None,
        })
    });
}

/// Moves a stream's start up: nothing below is served any more.
///
/// # Errors
/// [`Error::NotFound`], [`Error::StreamFenced`], [`Error::Invalid`].
pub fn delete_records(tx: &mut Tx<'_>, caller: Caller, request: DeleteRecords) -> Result<MetadataVersion> {
    nodes::check(tx, caller)?;
    let DeleteRecords {
        stream,
        leader_epoch,
        start,
    } = request;
    let Some(row) = tx.row(stream).cloned() else {
        return Err(Error::NotFound(format!("stream {stream}")));
    };
    if row.leader != Some((caller.node, caller.node_epoch)) || row.leader_epoch != leader_epoch {
        return Err(Error::StreamFenced { stream });
    }
    if start < Offset::ZERO {
        return Err(Error::Invalid(format!("stream {stream} can't begin at {start}")));
    }
    if start <= row.start {
        return Ok(tx.state.version());
    }
    tx.put_rows(stream, 1, |_| Some(StreamRow { start, ..row.clone() }));
    Ok(tx.version())
}

/// Removes a topic and its streams. What objects have of them is left to the deletion of unnamed objects.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete_topic(tx: &mut Tx<'_>, caller: Caller, id: TopicId) -> Result<MetadataVersion> {
    nodes::check(tx, caller)?;
    let Some(topic) = tx.topic(id).cloned() else {
        return Err(Error::NotFound(format!("topic {id}")));
    };
    for &(first, count) in &topic.runs {
        tx.put_rows(first, count, |_| None);
    }
    tx.remove(Key::Topic(id));
    Ok(tx.version())
}

/// A block of producer ids that nobody else gets, ever.
///
/// # Errors
/// Those of [`nodes::check`].
pub fn allocate_producer_ids(tx: &mut Tx<'_>, caller: Caller) -> Result<ProducerIds> {
    nodes::check(tx, caller)?;
    let count = PRODUCER_IDS_PER_BLOCK;
    let first = tx.new_producer_ids(count);
    Ok(ProducerIds { first, count })
}

/// Places leaderships over active frontends by what they lead already.
pub fn frontends(tx: &Tx<'_>) -> Spread<(NodeId, NodeEpoch)> {
    frontends_but(tx, None)
}

/// As [`frontends`], without one of them.
pub fn frontends_but(tx: &Tx<'_>, left_out: Option<NodeId>) -> Spread<(NodeId, NodeEpoch)> {
    let index = tx.state.index();
    let frontends = nodes::active_frontends(tx.state).filter(|(node, _)| Some(*node) != left_out);
    Spread::new(frontends.map(|frontend| (frontend, u64::from(index.led(Some(frontend))))))
}

/// The number of partitions, if the topic may be created.
fn check_topic(topic: &NewTopic) -> Result<u32> {
    let name = &topic.name;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(legal) {
        return Err(Error::Invalid(format!(
            "topic name {name:?}: 1 to {MAX_NAME_BYTES} of a-z, A-Z, 0-9, '.', '_' and '-' are legal"
        )));
    }
    if name == "." || name == ".." {
        return Err(Error::Invalid(format!("topic name {name:?} is not legal")));
    }
    check_configs(name, &topic.configs)?;
    check_count(name, topic.partitions)
}

fn check_count(name: &str, partitions: i32) -> Result<u32> {
    match u32::try_from(partitions) {
        Ok(count) if (1..=MAX_PARTITIONS).contains(&partitions) => Ok(count),
        _ => Err(Error::Invalid(format!(
            "topic {name}: {partitions} partitions, 1 to {MAX_PARTITIONS} are legal"
        ))),
    }
}

/// # Errors
/// [`Error::Invalid`] if these are too many settings of `owner`.
pub fn check_configs(owner: &str, configs: &BTreeMap<String, String>) -> Result<()> {
    let bytes: usize = configs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_CONFIG_BYTES {
        return Err(Error::Invalid(format!(
            "{owner}: settings of {bytes} bytes, {MAX_CONFIG_BYTES} are legal"
        )));
    }
    Ok(())
}
