//! `topics delete-records`: moves the start of partitions up. It can't be undone, so that it only says what it would do
//! unless it is told to.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use crate::arguments::TopicPartitions;
use crate::client::{ANY_VERSION, Broker, Client, Outcomes, Patience};
use crate::error::Error;
use crate::offsets::{self, EARLIEST, LATEST, TopicPartition};
use crate::report::{Report, Table};

#[derive(Debug, Args)]
pub struct DeleteRecords {
    /// The topic, or some of its partitions.
    #[arg(value_name = "TOPIC[:PARTITION,…]")]
    topic: TopicPartitions,
    #[command(flatten)]
    to: To,
    /// Does it; without, it only says what it would do.
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// Everything below this offset goes.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// Everything that is there now goes.
    #[arg(long)]
    to_latest: bool,
}

#[derive(Debug, Serialize)]
struct Trimmed {
    topic: String,
    partition: i32,
    start_offset: i64,
    new_start_offset: i64,
    outcome: &'static str,
}

impl DeleteRecords {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let topic = &self.topic.topic;
        let named = client.topics(Some(std::slice::from_ref(topic)))?;
        let (found, mut failures) = Report::sift("topic", named);
        let partitions: Vec<TopicPartition> = match &self.topic.partitions[..] {
            [] => found
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(|partition| TopicPartition::new(topic, partition.index))
                .collect(),
            named if !found.is_empty() => named.iter().map(|index| TopicPartition::new(topic, *index)).collect(),
            _ => Vec::new(),
        };
        let starts = offsets::at(client, &partitions, EARLIEST, Patience::All)?;
        let ends: BTreeMap<_, _> = offsets::at(client, &partitions, LATEST, Patience::All)?
            .into_iter()
            .collect();
        let mut before = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for (at, start) in starts {
            let end = ends
                .get(&at)
                .cloned()
                .unwrap_or_else(|| Err(Error::Absent("no end".to_owned())));
            let bounds = start.and_then(|start| Ok((start.offset, end?.offset)));
            match bounds.and_then(|(start, end)| Ok((start, self.target(start, end)?))) {
                Ok((start, target)) => {
                    before.insert(at.clone(), start);
                    wanted.insert(at, target);
                }
                Err(error) => failures.push((format!("topic {at}"), error)),
            }
        }
        let outcomes = match self.execute {
            true => trim(client, &wanted)?,
            false => wanted.iter().map(|(at, target)| (at.clone(), Ok(*target))).collect(),
        };
        let outcome = if self.execute { "deleted" } else { "would be deleted" };
        let mut trimmed = Vec::new();
        for (at, new_start) in outcomes {
            match new_start {
                Ok(new_start_offset) => trimmed.push(Trimmed {
                    start_offset: before.get(&at).copied().unwrap_or_default(),
                    topic: at.topic,
                    partition: at.partition,
                    new_start_offset,
                    outcome,
                }),
                Err(error) => failures.push((format!("topic {at}"), error)),
            }
        }
        let mut report = Report::new(&trimmed);
        let mut table = Table::new(&["TOPIC", "PARTITION", "START", "NEW-START", "OUTCOME"]);
        for row in trimmed {
            let numbers = [i64::from(row.partition), row.start_offset, row.new_start_offset];
            let numbers = numbers.map(|number| number.to_string());
            let cells = std::iter::once(row.topic).chain(numbers);
            table.row(cells.chain([row.outcome.to_owned()]).collect());
        }
        report.table(table);
        if !self.execute {
            report.note("nothing was deleted: that needs --execute");
        }
        report.failures(&failures);
        Ok(report)
    }

    /// The start that a partition gets; never a lower one than it has.
    fn target(&self, start: i64, end: i64) -> Result<i64, Error> {
        match self.to.to_offset {
            Some(offset) if offset > end => Err(Error::refused(
                ErrorCode::OffsetOutOfRange,
                Some(&format!("offset {offset} is above the end, {end}")),
            )),
            Some(offset) => Ok(offset.max(start)),
            None => Ok(end),
        }
    }
}

/// Where each partition begins afterwards.
fn trim(client: &mut Client, wanted: &BTreeMap<TopicPartition, i64>) -> Result<Outcomes<TopicPartition, i64>, Error> {
    client.settle(wanted.keys().cloned(), Patience::All, |client, open| {
        let mut leaders: BTreeMap<Option<i32>, Vec<TopicPartition>> = BTreeMap::new();
        for at in open {
            leaders.entry(leader(client, at)?).or_default().push(at.clone());
        }
        let mut outcomes = Vec::new();
        for (leader, led) in leaders {
            let answered = match leader {
                Some(leader) => trim_at(client, leader, &led, wanted),
                None => Err(Error::refused(ErrorCode::LeaderNotAvailable, None)),
            };
            match answered {
                Ok(answered) => outcomes.extend(answered),
                Err(error) => outcomes.extend(led.into_iter().map(|at| (at, Err(error.clone())))),
            }
        }
        Ok(outcomes)
    })
}

fn leader(client: &mut Client, at: &TopicPartition) -> Result<Option<i32>, Error> {
    let topics = client.topics(Some(std::slice::from_ref(&at.topic)))?;
    let mut partitions = topics
        .iter()
        .filter_map(|(_, topic)| topic.as_ref().ok())
        .flat_map(|topic| &topic.partitions);
    Ok(partitions
        .find(|partition| partition.index == at.partition)
        .and_then(|partition| partition.leader))
}

fn trim_at(
    client: &mut Client,
    leader: i32,
    led: &[TopicPartition],
    wanted: &BTreeMap<TopicPartition, i64>,
) -> Result<Outcomes<TopicPartition, i64>, Error> {
    let Some(topic) = led.first().map(|at| at.topic.as_str()) else {
        return Ok(Vec::new());
    };
    let partition = |at: &TopicPartition| DeleteRecordsPartition {
        partition_index: at.partition,
        offset: wanted.get(at).copied().unwrap_or_default(),
    };
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Str::from(topic),
            partitions: led.iter().map(partition).collect(),
        }],
        timeout_ms: client.timeout_ms(),
    };
    let response = client.ask(Broker::Id(leader), ANY_VERSION, &request)?;
    let outcome = |answer: DeleteRecordsPartitionResult| {
        let at = TopicPartition::new(topic, answer.partition_index);
        (at, Error::check(answer.error_code, None).map(|()| answer.low_watermark))
    };
    let answers = response.topics.into_iter().flat_map(|topic| topic.partitions);
    Ok(answers.map(outcome).collect())
}
