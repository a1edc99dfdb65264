//! `topics describe`: everything that a person asks first about a topic.
//!
//! What can't be found out about a partition while it has no leader is left empty: that it has none is the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tailwater_kafka::Str;
use tailwater_kafka::messages::*;
use tailwater_types::TopicId;

use super::chosen;
use super::list::replication_factor;
use crate::client::{ANY_VERSION, Broker, Client, Partition, Patience, Topic};
use crate::configs::{self, Resource, Setting};
use crate::error::Error;
use crate::offsets::{self, EARLIEST, LATEST, TopicPartition};
use crate::report::{Report, Table, cell, list, size};

/// A partition that changes its leader is waited for, one without is not.
const PATIENCE: Patience = Patience::Some(Duration::from_secs(3));

#[derive(Debug, Args)]
pub struct Describe {
    /// Which topics; all but the internal ones if none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Described {
    name: String,
    topic_id: String,
    internal: bool,
    replication_factor: usize,
    /// Those that are not defaults.
    configs: Vec<Setting>,
    partitions: Vec<DescribedPartition>,
}

#[derive(Debug, Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
    /// At most: compaction and aborted transactions leave fewer.
    records: Option<i64>,
    size_bytes: Option<i64>,
}

impl Describe {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let (topics, mut failures) = chosen(client, &self.names)?;
        let led: Vec<TopicPartition> = topics.iter().flat_map(with_leader).collect();
        let mut offsets = |timestamp| -> Result<BTreeMap<TopicPartition, i64>, Error> {
            let found = offsets::at(client, &led, timestamp, PATIENCE)?;
            let mut known = BTreeMap::new();
            for (at, found) in found {
                match found {
                    Ok(found) => drop(known.insert(at, found.offset)),
                    Err(error) if timestamp == EARLIEST => failures.push((format!("topic {at}"), error)),
                    Err(_said_already) => {}
                }
            }
            Ok(known)
        };
        let (starts, ends) = (offsets(EARLIEST)?, offsets(LATEST)?);
        let sizes = sizes(client, &topics);
        let mut described = Vec::new();
        for topic in topics {
            let configs = match configs::describe(client, &Resource::Topic(topic.name.clone())) {
                Ok(configs) => configs.into_iter().filter(|setting| !setting.is_default()).collect(),
                Err(error) => {
                    failures.push((format!("settings of topic {}", topic.name), error));
                    Vec::new()
                }
            };
            let partitions = topic.partitions.iter().map(|partition| {
                let at = TopicPartition::new(&topic.name, partition.index);
                let (start, end) = (starts.get(&at).copied(), ends.get(&at).copied());
                to_described(partition, start, end, sizes.get(&at).copied())
            });
            described.push(Described {
                topic_id: TopicId(topic.id).to_string(),
                internal: topic.internal,
                replication_factor: replication_factor(&topic),
                configs,
                partitions: partitions.collect(),
                name: topic.name,
            });
        }
        let mut report = Report::new(&described);
        for (number, topic) in described.iter().enumerate() {
            if number > 0 {
                report.line("");
            }
            show(&mut report, topic);
        }
        report.failures(&failures);
        Ok(report)
    }
}

fn with_leader(topic: &Topic) -> Vec<TopicPartition> {
    let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
    led.map(|partition| TopicPartition::new(&topic.name, partition.index))
        .collect()
}

fn to_described(partition: &Partition, start: Option<i64>, end: Option<i64>, size: Option<i64>) -> DescribedPartition {
    DescribedPartition {
        partition: partition.index,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
        start_offset: start,
        end_offset: end,
        records: start.zip(end).map(|(start, end)| end - start),
        size_bytes: size,
    }
}

/// How large each partition is at its leader. A nicety: a broker that doesn't say is passed over.
fn sizes(client: &mut Client, topics: &[Topic]) -> BTreeMap<TopicPartition, i64> {
    let mut leaders: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
    for topic in topics {
        for partition in &topic.partitions {
            if let Some(leader) = partition.leader {
                leaders
                    .entry(leader)
                    .or_default()
                    .entry(&topic.name)
                    .or_default()
                    .push(partition.index);
            }
        }
    }
    let mut sizes = BTreeMap::new();
    for (leader, led) in leaders {
        let asked: BTreeSet<TopicPartition> = led
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(|index| TopicPartition::new(topic, *index)))
            .collect();
        let topic = |(name, partitions): (&str, Vec<i32>)| DescribableLogDirTopic {
            topic: Str::from(name),
            partitions,
        };
        let request = DescribeLogDirsRequest {
            topics: Some(led.into_iter().map(topic).collect()),
        };
        let Ok(response) = client.ask(Broker::Id(leader), ANY_VERSION, &request) else {
            continue;
        };
        for topic in response.results.iter().flat_map(|dir| &dir.topics) {
            for partition in topic.partitions.iter().filter(|partition| !partition.is_future_key) {
                let at = TopicPartition::new(&topic.name, partition.partition_index);
                if asked.contains(&at) {
                    sizes.insert(at, partition.partition_size);
                }
            }
        }
    }
    sizes
}

fn show(report: &mut Report, topic: &Described) {
    let internal = if topic.internal { ", internal" } else { "" };
    report.line(format!(
        "topic {}: {} partitions, replication {}, id {}{internal}",
        topic.name,
        topic.partitions.len(),
        topic.replication_factor,
        topic.topic_id
    ));
    for setting in &topic.configs {
        let value = setting.value.as_deref().unwrap_or("(secret)");
        report.line(format!("  {}={value} ({})", setting.name, setting.source));
    }
    let mut table = Table::new(&[
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "ISR",
        "START",
        "END",
        "RECORDS",
        "SIZE",
    ]);
    for partition in &topic.partitions {
        table.row(vec![
            partition.partition.to_string(),
            partition
                .leader
                .map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            list(&partition.replicas),
            list(&partition.isr),
            cell(partition.start_offset),
            cell(partition.end_offset),
            cell(partition.records),
            cell(partition.size_bytes.map(size)),
        ]);
    }
    report.table(table);
}
