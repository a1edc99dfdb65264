//! `groups delete` and `groups delete-offsets`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::question;
use crate::arguments::TopicPartitions;
use crate::client::{ANY_VERSION, Client, Patience, by_coordinator};
use crate::error::Error;
use crate::offsets::TopicPartition;
use crate::report::{Report, Table};

#[derive(Debug, Args)]
pub struct Delete {
    /// Which groups.
    #[arg(value_name = "GROUP", required = true)]
    groups: Vec<String>,
    /// A group that isn't there is no failure.
    #[arg(long)]
    if_exists: bool,
}

impl Delete {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let names: BTreeSet<String> = self.groups.iter().cloned().collect();
        let outcomes = client.settle(names, Patience::All, |client, open| {
            by_coordinator(client, open, |client, broker, groups| {
                let request = DeleteGroupsRequest {
                    groups_names: groups.iter().map(|group| Str::from(group.as_str())).collect(),
                };
                let response = client.ask(broker, ANY_VERSION, &request)?;
                let outcome = |group: DeletableGroupResult| {
                    let done = match group.error_code {
                        ErrorCode::GroupIdNotFound if self.if_exists => Ok("isn't there"),
                        error => Error::check(error, None).map(|()| "deleted"),
                    };
                    (group.group_id.to_string(), done)
                };
                Ok(response.results.into_iter().map(outcome).collect())
            })
        })?;
        Ok(Report::of_changes("group", &outcomes))
    }
}

#[derive(Debug, Args)]
pub struct DeleteOffsets {
    /// The group.
    group: String,
    /// Offsets of which topic, or of which of its partitions. May be repeated.
    #[arg(long, value_name = "TOPIC[:PARTITION,…]", required = true)]
    topic: Vec<TopicPartitions>,
}

#[derive(Debug, Serialize)]
struct Deleted {
    group_id: String,
    topic: String,
    partition: i32,
    outcome: &'static str,
}

impl DeleteOffsets {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let group = std::slice::from_ref(&self.group);
        let found = question::committed(client, group)?
            .into_iter()
            .map(|(_, committed)| committed);
        let mut committed = BTreeMap::new();
        for offsets in found {
            match offsets {
                Ok(offsets) => committed.extend(offsets),
                Err(error) => return Ok(self.failed(&error)),
            }
        }
        let mut wanted: BTreeSet<TopicPartition> = BTreeSet::new();
        for asked in &self.topic {
            match &asked.partitions[..] {
                [] => wanted.extend(committed.keys().filter(|at| at.topic == asked.topic).cloned()),
                named => wanted.extend(named.iter().map(|index| TopicPartition::new(&asked.topic, *index))),
            }
        }
        if wanted.is_empty() {
            let mut report = Report::new(&Vec::<Deleted>::new());
            report.line(format!("group {}: nothing is committed there", self.group));
            return Ok(report);
        }
        let outcomes = client.settle(wanted, Patience::All, |client, open| {
            let answered = by_coordinator(client, group, |client, broker, _| {
                let response = client.ask(broker, ANY_VERSION, &self.request(open))?;
                let done = Error::check(response.error_code, None).map(|()| response.topics);
                Ok(vec![(self.group.clone(), done)])
            })?;
            let mut outcomes = Vec::new();
            for (_, answer) in answered {
                match answer {
                    Ok(topics) => outcomes.extend(topics.into_iter().flat_map(|topic| {
                        let one = move |partition: OffsetDeleteResponsePartition| {
                            let at = TopicPartition::new(&topic.name, partition.partition_index);
                            (at, Error::check(partition.error_code, None))
                        };
                        topic.partitions.into_iter().map(one).collect::<Vec<_>>()
                    })),
                    Err(error) => outcomes.extend(open.iter().map(|at| (at.clone(), Err(error.clone())))),
                }
            }
            Ok(outcomes)
        })?;
        let mut failures = Vec::new();
        let mut deleted = Vec::new();
        for (at, outcome) in outcomes {
            match outcome {
                Ok(()) => deleted.push(Deleted {
                    group_id: self.group.clone(),
                    topic: at.topic,
                    partition: at.partition,
                    outcome: "deleted",
                }),
                Err(error) => failures.push((format!("group {}, topic {at}", self.group), error)),
            }
        }
        let mut report = Report::new(&deleted);
        let mut table = Table::new(&["TOPIC", "PARTITION", "OUTCOME"]);
        for row in deleted {
            table.row(vec![row.topic, row.partition.to_string(), row.outcome.to_owned()]);
        }
        report.table(table);
        report.failures(&failures);
        Ok(report)
    }

    fn failed(&self, error: &Error) -> Report {
        let mut report = Report::new(&Vec::<Deleted>::new());
        report.failure(format!("group {}", self.group), error);
        report
    }

    fn request(&self, partitions: &[TopicPartition]) -> OffsetDeleteRequest {
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for at in partitions {
            let partition_index = at.partition;
            topics
                .entry(&at.topic)
                .or_default()
                .push(OffsetDeleteRequestPartition { partition_index });
        }
        let topic = |(name, partitions): (&str, _)| OffsetDeleteRequestTopic {
            name: Str::from(name),
            partitions,
        };
        OffsetDeleteRequest {
            group_id: Str::from(self.group.as_str()),
            topics: topics.into_iter().map(topic).collect(),
        }
    }
}
