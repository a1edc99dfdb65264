//! Where partitions begin and end, and what lies at a time: ListOffsets, asked of each partition's leader.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use crate::client::{ANY_VERSION, Broker, Client, Outcomes, Patience};
use crate::error::Error;

/// Kafka's numbers for what is no time.
pub const LATEST: i64 = -1;
pub const EARLIEST: i64 = -2;
pub const MAX_TIMESTAMP: i64 = -3;
/// Of a consumer, where a broker says who it is.
const NO_REPLICA: i32 = -1;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: &str, partition: i32) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} partition {}", self.topic, self.partition)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// -1: there is no such offset.
    pub offset: i64,
    /// Milliseconds since 1970; -1 where it wasn't looked for.
    pub timestamp: i64,
}

/// The offset at `timestamp`, milliseconds since 1970 or one of the constants above, of each partition.
///
/// # Errors
/// If no broker can be reached.
pub fn at(
    client: &mut Client,
    partitions: &[TopicPartition],
    timestamp: i64,
    patience: Patience,
) -> Result<Outcomes<TopicPartition, Found>, Error> {
    let partitions: BTreeSet<_> = partitions.iter().cloned().collect();
    client.settle(partitions, patience, |client, open| once(client, open, timestamp))
}

fn once(
    client: &mut Client,
    open: &[TopicPartition],
    timestamp: i64,
) -> Result<Outcomes<TopicPartition, Found>, Error> {
    let names: BTreeSet<String> = open.iter().map(|at| at.topic.clone()).collect();
    let names: Vec<String> = names.into_iter().collect();
    let topics: BTreeMap<_, _> = client.topics(Some(&names))?.into_iter().collect();
    let mut outcomes = Vec::new();
    let mut leaders: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
    for at in open {
        let leader = match topics.get(&at.topic) {
            Some(Ok(topic)) => match topic
                .partitions
                .iter()
                .find(|partition| partition.index == at.partition)
            {
                Some(partition) => partition.leader.ok_or(ErrorCode::LeaderNotAvailable),
                None => Err(ErrorCode::UnknownTopicOrPartition),
            },
            Some(Err(Error::Refused { error, .. })) => Err(*error),
            _ => Err(ErrorCode::UnknownTopicOrPartition),
        };
        match leader {
            Ok(leader) => leaders.entry(leader).or_default().push(at.clone()),
            Err(error) => outcomes.push((at.clone(), Err(Error::refused(error, None)))),
        }
    }
    for (leader, led) in leaders {
        let mut asked: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for at in &led {
            asked.entry(&at.topic).or_default().push(ListOffsetsPartition {
                partition_index: at.partition,
                timestamp,
                ..Default::default()
            });
        }
        let topic = |(name, partitions): (&str, _)| ListOffsetsTopic {
            name: Str::from(name),
            partitions,
        };
        let request = ListOffsetsRequest {
            replica_id: NO_REPLICA,
            topics: asked.into_iter().map(topic).collect(),
            timeout_ms: client.timeout_ms(),
            ..Default::default()
        };
        match client.ask(Broker::Id(leader), ANY_VERSION, &request) {
            Ok(response) => outcomes.extend(response.topics.into_iter().flat_map(found)),
            Err(error) => outcomes.extend(led.into_iter().map(|at| (at, Err(error.clone())))),
        }
    }
    Ok(outcomes)
}

fn found(topic: ListOffsetsTopicResponse) -> Outcomes<TopicPartition, Found> {
    let name = topic.name;
    let one = |partition: ListOffsetsPartitionResponse| {
        let at = TopicPartition::new(&name, partition.partition_index);
        let found = Found {
            offset: partition.offset,
            timestamp: partition.timestamp,
        };
        (at, Error::check(partition.error_code, None).map(|()| found))
    };
    topic.partitions.into_iter().map(one).collect()
}
