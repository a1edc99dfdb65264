//! `topics offsets`: where partitions begin and end, or what lies at a time.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use super::chosen;
use crate::arguments::Time;
use crate::client::{Client, Patience};
use crate::error::Error;
use crate::offsets::{self, EARLIEST, Found, LATEST, MAX_TIMESTAMP, TopicPartition};
use crate::report::{Report, Table, cell};

#[derive(Debug, Args)]
pub struct Offsets {
    /// Which topics; all but the internal ones if none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The offset there instead: earliest, latest, max-timestamp, or of the first record at or after a time.
    #[arg(long, value_name = "TIME")]
    at: Option<At>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At(i64);

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self(EARLIEST)),
            "latest" => Ok(Self(LATEST)),
            "max-timestamp" => Ok(Self(MAX_TIMESTAMP)),
            time => time.parse().map(|Time(ms)| Self(ms)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Bounds {
    topic: String,
    partition: i32,
    start_offset: i64,
    end_offset: i64,
    /// At most: compaction and aborted transactions leave fewer.
    records: i64,
}

#[derive(Debug, Serialize)]
struct Place {
    topic: String,
    partition: i32,
    /// `None`: nothing lies there.
    offset: Option<i64>,
    timestamp_ms: Option<i64>,
}

impl Offsets {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let (topics, failures) = chosen(client, &self.names)?;
        let partitions: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|partition| TopicPartition::new(&topic.name, partition.index))
            })
            .collect();
        let mut report = match self.at {
            Some(At(timestamp)) => places(client, &partitions, timestamp)?,
            None => bounds(client, &partitions)?,
        };
        report.failures(&failures);
        Ok(report)
    }
}

fn bounds(client: &mut Client, partitions: &[TopicPartition]) -> Result<Report, Error> {
    let starts = offsets::at(client, partitions, EARLIEST, Patience::All)?;
    let ends: BTreeMap<_, _> = offsets::at(client, partitions, LATEST, Patience::All)?
        .into_iter()
        .collect();
    let mut failures = Vec::new();
    let mut found = Vec::new();
    for (at, start) in starts {
        let end = ends
            .get(&at)
            .cloned()
            .unwrap_or_else(|| Err(Error::Absent("no end".to_owned())));
        match start.and_then(|start| Ok((start.offset, end?.offset))) {
            Ok((start_offset, end_offset)) => found.push(Bounds {
                topic: at.topic,
                partition: at.partition,
                start_offset,
                end_offset,
                records: end_offset - start_offset,
            }),
            Err(error) => failures.push((format!("topic {at}"), error)),
        }
    }
    let mut report = Report::new(&found);
    let mut table = Table::new(&["TOPIC", "PARTITION", "START", "END", "RECORDS"]);
    for row in found {
        let numbers = [i64::from(row.partition), row.start_offset, row.end_offset, row.records];
        table.row(
            std::iter::once(row.topic)
                .chain(numbers.map(|number| number.to_string()))
                .collect(),
        );
    }
    report.table(table);
    report.failures(&failures);
    Ok(report)
}

fn places(client: &mut Client, partitions: &[TopicPartition], timestamp: i64) -> Result<Report, Error> {
    let mut failures = Vec::new();
    let mut found = Vec::new();
    for (at, place) in offsets::at(client, partitions, timestamp, Patience::All)? {
        match place {
            Ok(Found { offset, timestamp }) => found.push(Place {
                topic: at.topic,
                partition: at.partition,
                offset: (offset >= 0).then_some(offset),
                timestamp_ms: (timestamp >= 0).then_some(timestamp),
            }),
            Err(error) => failures.push((format!("topic {at}"), error)),
        }
    }
    let mut report = Report::new(&found);
    let mut table = Table::new(&["TOPIC", "PARTITION", "OFFSET", "TIMESTAMP"]);
    for row in found {
        let time = cell(row.timestamp_ms.map(Time));
        table.row(vec![row.topic, row.partition.to_string(), cell(row.offset), time]);
    }
    report.table(table);
    report.failures(&failures);
    Ok(report)
}
