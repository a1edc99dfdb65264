//! `groups reset-offsets`: moves what a group without members has committed. It only says what it would do unless it is
//! told to.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Versions};

use super::question;
use crate::arguments::{Time, TopicPartitions};
use crate::client::{Client, Outcomes, Patience, by_coordinator};
use crate::error::Error;
use crate::offsets::{self, EARLIEST, LATEST, TopicPartition};
use crate::report::{Failures, Report, Table, cell};

/// Up to here topics go by their names.
const OFFSET_COMMIT: Versions = Versions { min: 2, max: 9 };
/// The states of a group in which nobody but this command moves its offsets.
const WITHOUT_MEMBERS: [&str; 2] = ["Empty", "Dead"];

#[derive(Debug, Args)]
pub struct ResetOffsets {
    /// The group. It need not exist yet.
    group: String,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    to: To,
    /// Does it; without, it only says what it would do.
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Of {
    /// Offsets of which topic, or of which of its partitions. May be repeated.
    #[arg(long, value_name = "TOPIC[:PARTITION,…]")]
    topic: Vec<TopicPartitions>,
    /// Every partition that the group has committed an offset of.
    #[arg(long)]
    all_topics: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To where each partition begins.
    #[arg(long)]
    to_earliest: bool,
    /// To where each partition ends now.
    #[arg(long)]
    to_latest: bool,
    /// To the first record at or after a time; to the end where there is none.
    #[arg(long, value_name = "TIME")]
    to_datetime: Option<Time>,
    /// To this offset, or the nearest that the partition has.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// By so many from what is committed, back if negative; to the nearest offset that the partition has.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    shift_by: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Reset {
    group_id: String,
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    new_offset: i64,
    outcome: &'static str,
}

impl ResetOffsets {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let group = std::slice::from_ref(&self.group);
        let mut committed = BTreeMap::new();
        if let Err(error) = self.check_that_nobody_is_there(client) {
            return self.failed(error);
        }
        for (_, offsets) in question::committed(client, group)? {
            match offsets {
                Ok(offsets) => committed.extend(offsets),
                // It need not exist.
                Err(Error::Refused {
                    error: ErrorCode::GroupIdNotFound,
                    ..
                }) => {}
                Err(error) => return self.failed(error),
            }
        }
        let (partitions, mut failures) = self.partitions(client, &committed)?;
        let mut targets = BTreeMap::new();
        for (at, target) in self.targets(client, &partitions, &committed)? {
            match target {
                Ok(target) => drop(targets.insert(at, target)),
                Err(error) => failures.push((format!("topic {at}"), error)),
            }
        }
        let outcomes = match self.execute {
            true => self.commit(client, &targets)?,
            false => targets.keys().map(|at| (at.clone(), Ok(()))).collect(),
        };
        let outcome = if self.execute { "reset" } else { "would be reset" };
        let mut reset = Vec::new();
        for (at, done) in outcomes {
            match done {
                Ok(()) => reset.push(Reset {
                    group_id: self.group.clone(),
                    committed_offset: committed.get(&at).copied(),
                    new_offset: targets.get(&at).copied().unwrap_or_default(),
                    topic: at.topic,
                    partition: at.partition,
                    outcome,
                }),
                Err(error) => failures.push((format!("group {}, topic {at}", self.group), error)),
            }
        }
        let mut report = Report::new(&reset);
        let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "NEW", "OUTCOME"]);
        for row in reset {
            let (partition, new) = (row.partition.to_string(), row.new_offset.to_string());
            table.row(vec![
                row.topic,
                partition,
                cell(row.committed_offset),
                new,
                row.outcome.to_owned(),
            ]);
        }
        report.table(table);
        if !self.execute {
            report.note("nothing was changed: that needs --execute");
        }
        report.failures(&failures);
        Ok(report)
    }

    fn failed(&self, error: Error) -> Result<Report, Error> {
        match error {
            Error::Refused { .. } => {
                let mut report = Report::new(&Vec::<Reset>::new());
                report.failure(format!("group {}", self.group), &error);
                Ok(report)
            }
            other => Err(other),
        }
    }

    /// The broker refuses to move what members move; this says so before anything is worked out.
    fn check_that_nobody_is_there(&self, client: &mut Client) -> Result<(), Error> {
        for (_, group) in question::described(client, std::slice::from_ref(&self.group))? {
            match group {
                Ok(group) if WITHOUT_MEMBERS.contains(&&*group.group_state) => {}
                Ok(group) => {
                    let why = format!("the group is {}: stop its members first", group.group_state);
                    return Err(Error::refused(ErrorCode::NonEmptyGroup, Some(&why)));
                }
                // It need not exist.
                Err(Error::Refused {
                    error: ErrorCode::GroupIdNotFound,
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn partitions(
        &self,
        client: &mut Client,
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<(Vec<TopicPartition>, Failures), Error> {
        if self.of.all_topics {
            return Ok((committed.keys().cloned().collect(), Vec::new()));
        }
        let names: BTreeSet<String> = self.of.topic.iter().map(|asked| asked.topic.clone()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let (topics, failures) = Report::sift("topic", client.topics(Some(&names))?);
        let mut wanted = BTreeSet::new();
        for asked in &self.of.topic {
            for topic in topics.iter().filter(|topic| topic.name == asked.topic) {
                let all = topic.partitions.iter().map(|partition| partition.index);
                let indexes: Vec<i32> = match asked.partitions.is_empty() {
                    true => all.collect(),
                    false => asked.partitions.clone(),
                };
                wanted.extend(
                    indexes
                        .into_iter()
                        .map(|index| TopicPartition::new(&asked.topic, index)),
                );
            }
        }
        Ok((wanted.into_iter().collect(), failures))
    }

    fn targets(
        &self,
        client: &mut Client,
        partitions: &[TopicPartition],
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Outcomes<TopicPartition, i64>, Error> {
        let starts = offsets::at(client, partitions, EARLIEST, Patience::All)?;
        let ends: BTreeMap<_, _> = offsets::at(client, partitions, LATEST, Patience::All)?
            .into_iter()
            .collect();
        let at_time: BTreeMap<_, _> = match self.to.to_datetime {
            Some(Time(ms)) => offsets::at(client, partitions, ms, Patience::All)?
                .into_iter()
                .collect(),
            None => BTreeMap::new(),
        };
        let absent = || Err(Error::Absent("its leader's answer doesn't mention it".to_owned()));
        let target = |(at, start): (TopicPartition, Result<offsets::Found, Error>)| {
            let target = start.and_then(|start| {
                let end = ends.get(&at).cloned().unwrap_or_else(absent)?;
                let found = match self.to.to_datetime {
                    Some(_) => Some(at_time.get(&at).cloned().unwrap_or_else(absent)?.offset),
                    None => None,
                };
                self.to
                    .target(start.offset, end.offset, found, committed.get(&at).copied())
            });
            (at, target)
        };
        Ok(starts.into_iter().map(target).collect())
    }

    fn commit(
        &self,
        client: &mut Client,
        targets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Outcomes<TopicPartition, ()>, Error> {
        let group = std::slice::from_ref(&self.group);
        client.settle(targets.keys().cloned(), Patience::All, |client, open| {
            let answered = by_coordinator(client, group, |client, broker, _| {
                let response = client.ask(broker, OFFSET_COMMIT, &self.request(open, targets))?;
                Ok(vec![(self.group.clone(), Ok(response.topics))])
            })?;
            let mut outcomes = Vec::new();
            for (_, answer) in answered {
                match answer {
                    Ok(topics) => outcomes.extend(topics.iter().flat_map(|topic| {
                        topic.partitions.iter().map(|partition| {
                            let at = TopicPartition::new(&topic.name, partition.partition_index);
                            (at, Error::check(partition.error_code, None))
                        })
                    })),
                    Err(error) => outcomes.extend(open.iter().map(|at| (at.clone(), Err(error.clone())))),
                }
            }
            Ok(outcomes)
        })
    }

    /// From outside of the group's membership.
    fn request(&self, partitions: &[TopicPartition], targets: &BTreeMap<TopicPartition, i64>) -> OffsetCommitRequest {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for at in partitions {
            topics.entry(&at.topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: at.partition,
                committed_offset: targets.get(at).copied().unwrap_or_default(),
                committed_metadata: Some(Str::default()),
                ..Default::default()
            });
        }
        let topic = |(name, partitions): (&str, _)| OffsetCommitRequestTopic {
            name: Str::from(name),
            partitions,
            ..Default::default()
        };
        OffsetCommitRequest {
            group_id: Str::from(self.group.as_str()),
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        }
    }
}

impl To {
    /// The new offset of a partition `[start, end)`, where `found` lies at the time that was asked for, -1 for nothing.
    fn target(&self, start: i64, end: i64, found: Option<i64>, committed: Option<i64>) -> Result<i64, Error> {
        if self.to_earliest {
            return Ok(start);
        }
        if let Some(found) = found {
            return Ok(if found >= 0 { found } else { end });
        }
        if let Some(offset) = self.to_offset {
            return Ok(offset.clamp(start, end));
        }
        match (self.shift_by, committed) {
            (Some(by), Some(committed)) => Ok(committed.saturating_add(by).clamp(start, end)),
            (Some(_), None) => Err(Error::Absent("nothing is committed that could be shifted".to_owned())),
            (None, _) => Ok(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each way of saying where to leads to an offset that the partition has.
    #[test]
    fn a_new_offset_lies_within_the_partition() {
        let nowhere = || To {
            to_earliest: false,
            to_latest: false,
            to_datetime: None,
            to_offset: None,
            shift_by: None,
        };
        let target = |to: To, found, committed| to.target(10, 20, found, committed).ok();
        assert_eq!(
            target(
                To {
                    to_earliest: true,
                    ..nowhere()
                },
                None,
                Some(15)
            ),
            Some(10)
        );
        assert_eq!(
            target(
                To {
                    to_latest: true,
                    ..nowhere()
                },
                None,
                None
            ),
            Some(20)
        );
        for (offset, expected) in [(0, 10), (12, 12), (20, 20), (21, 20)] {
            assert_eq!(
                target(
                    To {
                        to_offset: Some(offset),
                        ..nowhere()
                    },
                    None,
                    None
                ),
                Some(expected)
            );
        }
        for (by, expected) in [(-3, 12), (-100, 10), (4, 19), (i64::MAX, 20)] {
            assert_eq!(
                target(
                    To {
                        shift_by: Some(by),
                        ..nowhere()
                    },
                    None,
                    Some(15)
                ),
                Some(expected)
            );
        }
        assert_eq!(
            target(
                To {
                    shift_by: Some(1),
                    ..nowhere()
                },
                None,
                None
            ),
            None
        );
        let at_time = || To {
            to_datetime: Some(Time(0)),
            ..nowhere()
        };
        assert_eq!(target(at_time(), Some(17), None), Some(17));
        assert_eq!(target(at_time(), Some(-1), None), Some(20));
    }
}
