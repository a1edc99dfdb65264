//! `groups describe`: members, what they are assigned, and how far behind they are.
//!
//! Classic groups and those whose coordinator assigns (KIP-848) are shown with their members; of any other type, those that
//! share a topic for instance, the type, state and offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tailwater_kafka::messages::{
    ConsumerAssignment, DescribedConsumerGroupMember, DescribedGroup, DescribedGroupMember,
};
use tailwater_kafka::{ErrorCode, Str};

use super::question;
use crate::client::{Broker, Client, Patience};
use crate::error::Error;
use crate::offsets::{self, LATEST, TopicPartition};
use crate::report::{Report, Table, cell, list};

/// The protocol type whose assignments are partitions, and the type of groups whose coordinator assigns.
const CONSUMER: &str = "consumer";
/// What brokers say of a group that isn't there, up to version 5 of their API.
const DEAD: &str = "Dead";
/// A partition that changes its leader is waited for.
const PATIENCE: Patience = Patience::Some(Duration::from_secs(3));

#[derive(Debug, Args)]
pub struct Describe {
    /// Which groups.
    #[arg(value_name = "GROUP", required = true)]
    groups: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Described {
    group_id: String,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    protocol_type: String,
    /// The assignor's name for consumers; of a classic group in the state Stable only.
    protocol: String,
    coordinator: Option<i32>,
    /// `None`: they can't be asked for.
    members: Option<Vec<Member>>,
    offsets: Vec<Progress>,
    /// Of the partitions whose lag is known.
    total_lag: i64,
}

#[derive(Debug, Serialize)]
struct Member {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    assignment: Vec<Assigned>,
}

#[derive(Debug, Serialize)]
struct Assigned {
    topic: String,
    partitions: Vec<i32>,
}

#[derive(Debug, Serialize)]
struct Progress {
    topic: String,
    partition: i32,
    /// `None`: nothing is committed.
    committed_offset: Option<i64>,
    end_offset: Option<i64>,
    lag: Option<i64>,
    /// Who has the partition.
    member_id: Option<String>,
}

impl Describe {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let names: BTreeSet<&String> = self.groups.iter().collect();
        let names: Vec<String> = names.into_iter().cloned().collect();
        let mut failures = Vec::new();
        let mut groups = Vec::new();
        for (name, group) in question::described(client, &names)? {
            let found = match group {
                Ok(group) if group.group_state == DEAD => Err(Error::refused(ErrorCode::GroupIdNotFound, None)),
                Ok(group) => Ok(of_classic(&group)),
                Err(error) => of_other_type(client, &name, error),
            };
            match found {
                Ok(group) => groups.push(group),
                Err(error) => failures.push((format!("group {name}"), error)),
            }
        }
        let found: Vec<String> = groups.iter().map(|group| group.group_id.clone()).collect();
        let coordinators: BTreeMap<_, _> = client.coordinators(&found)?.into_iter().collect();
        let mut committed: BTreeMap<_, _> = question::committed(client, &found)?.into_iter().collect();
        for group in &mut groups {
            group.coordinator = coordinators
                .get(&group.group_id)
                .and_then(|id| id.as_ref().ok().copied());
            match committed.remove(&group.group_id) {
                Some(Ok(offsets)) => fill(client, group, &offsets)?,
                Some(Err(error)) => failures.push((format!("offsets of group {}", group.group_id), error)),
                None => {}
            }
        }
        let mut report = Report::new(&groups);
        for (number, group) in groups.iter().enumerate() {
            if number > 0 {
                report.line("");
            }
            show(&mut report, group);
        }
        report.failures(&failures);
        Ok(report)
    }
}

fn of_classic(group: &DescribedGroup) -> Described {
    let is_consumer = group.protocol_type == CONSUMER;
    Described {
        group_id: group.group_id.to_string(),
        kind: "classic".to_owned(),
        state: group.group_state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        protocol: group.protocol_data.to_string(),
        coordinator: None,
        members: Some(
            group
                .members
                .iter()
                .map(|member| to_member(member, is_consumer))
                .collect(),
        ),
        offsets: Vec::new(),
        total_lag: 0,
    }
}

/// A group that the API doesn't find may be of a type that it isn't about: then the list has it.
fn of_other_type(client: &mut Client, name: &str, error: Error) -> Result<Described, Error> {
    if !matches!(
        error,
        Error::Refused {
            error: ErrorCode::GroupIdNotFound,
            ..
        }
    ) {
        return Err(error);
    }
    let found = client.coordinators(&[name.to_owned()])?;
    let Some((_, Ok(coordinator))) = found.into_iter().next() else {
        return Err(error);
    };
    let listed = question::listed_at(client, Broker::Id(coordinator))?;
    let group = listed.into_iter().find(|group| group.group_id == name).ok_or(error)?;
    let mut described = Described {
        group_id: name.to_owned(),
        kind: group.group_type.to_string(),
        state: group.group_state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        protocol: String::new(),
        coordinator: None,
        members: None,
        offsets: Vec::new(),
        total_lag: 0,
    };
    if described.kind.eq_ignore_ascii_case(CONSUMER) {
        let group = question::described_consumer(client, Broker::Id(coordinator), name)?;
        described.protocol = group.assignor_name.to_string();
        described.members = Some(group.members.iter().map(of_consumer).collect());
    }
    Ok(described)
}

fn of_consumer(member: &DescribedConsumerGroupMember) -> Member {
    let topics = member.assignment.topic_partitions.iter();
    Member {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assignment: sorted(topics.map(|topic| (&topic.topic_name, topic.partitions.clone()))),
    }
}

fn sorted<'a>(topics: impl Iterator<Item = (&'a Str, Vec<i32>)>) -> Vec<Assigned> {
    let mut assigned: Vec<_> = topics
        .map(|(topic, mut partitions)| {
            partitions.sort_unstable();
            let topic = topic.to_string();
            Assigned { topic, partitions }
        })
        .collect();
    assigned.sort_by(|a, b| a.topic.cmp(&b.topic));
    assigned
}

fn to_member(member: &DescribedGroupMember, is_consumer: bool) -> Member {
    // Members may hand each other anything: what can't be read is shown as nothing.
    let assignment = ConsumerAssignment::decode_any(&member.member_assignment)
        .ok()
        .filter(|_| is_consumer);
    let topics = assignment
        .map(|assignment| assignment.assigned_partitions)
        .unwrap_or_default();
    Member {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assignment: sorted(topics.iter().map(|topic| (&topic.topic, topic.partitions.clone()))),
    }
}

/// Adds how far the group is in each partition that it has committed something of or is assigned.
fn fill(client: &mut Client, group: &mut Described, committed: &BTreeMap<TopicPartition, i64>) -> Result<(), Error> {
    let mut owners: BTreeMap<TopicPartition, String> = BTreeMap::new();
    for member in group.members.iter().flatten() {
        for assigned in &member.assignment {
            for partition in &assigned.partitions {
                owners.insert(
                    TopicPartition::new(&assigned.topic, *partition),
                    member.member_id.clone(),
                );
            }
        }
    }
    let all: BTreeSet<TopicPartition> = committed.keys().chain(owners.keys()).cloned().collect();
    let all: Vec<TopicPartition> = all.into_iter().collect();
    for (at, end) in offsets::at(client, &all, LATEST, PATIENCE)? {
        let committed_offset = committed.get(&at).copied();
        // Of a topic that has gone there is no end, and no lag.
        let end_offset = end.ok().map(|end| end.offset);
        let lag = committed_offset.zip(end_offset).map(|(committed, end)| end - committed);
        group.total_lag += lag.unwrap_or(0);
        group.offsets.push(Progress {
            member_id: owners.remove(&at),
            topic: at.topic,
            partition: at.partition,
            committed_offset,
            end_offset,
            lag,
        });
    }
    Ok(())
}

fn show(report: &mut Report, group: &Described) {
    let members = group.members.as_ref().map(Vec::len);
    report.line(format!(
        "group {}: {}, members {}, lag {}, type {}{}, coordinator {}",
        group.group_id,
        group.state,
        members.map_or_else(|| "unknown".to_owned(), |count| count.to_string()),
        group.total_lag,
        group.kind,
        if group.protocol.is_empty() {
            String::new()
        } else {
            format!(" ({})", group.protocol)
        },
        group
            .coordinator
            .map_or_else(|| "unknown".to_owned(), |id| id.to_string()),
    ));
    let mut table = Table::new(&["MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNMENT"]);
    for member in group.members.iter().flatten() {
        let assigned = |assigned: &Assigned| format!("{}:{}", assigned.topic, list(&assigned.partitions));
        let assignment: Vec<String> = member.assignment.iter().map(assigned).collect();
        table.row(vec![
            member.member_id.clone(),
            cell(member.instance_id.as_ref()),
            member.client_id.clone(),
            member.host.clone(),
            assignment.join(" "),
        ]);
    }
    if !table.is_empty() {
        report.table(table);
    }
    let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
    for at in &group.offsets {
        table.row(vec![
            at.topic.clone(),
            at.partition.to_string(),
            cell(at.committed_offset),
            cell(at.end_offset),
            cell(at.lag),
            cell(at.member_id.as_ref()),
        ]);
    }
    match table.is_empty() {
        true => report.line("nothing is committed"),
        false => report.table(table),
    }
}
