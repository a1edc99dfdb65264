//! What is asked of a group's coordinator by several commands.

use std::collections::BTreeMap;

use tailwater_kafka::messages::*;
use tailwater_kafka::{Str, Versions};

use crate::client::{ANY_VERSION, Broker, Client, Outcomes, Patience, by_coordinator};
use crate::error::Error;
use crate::offsets::TopicPartition;

/// From 8 on about several groups (KIP-709), up to 9 with topics' names.
const OFFSET_FETCH: Versions = Versions { min: 8, max: 9 };

/// The groups that one broker coordinates.
///
/// # Errors
/// A broker's refusal, or that it can't be reached.
pub fn listed_at(client: &mut Client, broker: Broker) -> Result<Vec<ListedGroup>, Error> {
    let response = client.ask(broker, ANY_VERSION, &ListGroupsRequest::default())?;
    Error::check(response.error_code, None)?;
    Ok(response.groups)
}

/// Each group as its coordinator has it.
///
/// # Errors
/// If no broker can be reached.
pub fn described(client: &mut Client, groups: &[String]) -> Result<Outcomes<String, DescribedGroup>, Error> {
    client.settle(groups.iter().cloned(), Patience::All, |client, open| {
        by_coordinator(client, open, |client, broker, groups| {
            let request = DescribeGroupsRequest {
                groups: groups.iter().map(|group| Str::from(group.as_str())).collect(),
                ..Default::default()
            };
            let response = client.ask(broker, ANY_VERSION, &request)?;
            let outcome = |group: DescribedGroup| {
                let checked = Error::check(group.error_code, group.error_message.as_deref());
                (group.group_id.to_string(), checked.map(|()| group))
            };
            Ok(response.groups.into_iter().map(outcome).collect())
        })
    })
}

/// One group whose coordinator assigns (KIP-848), as that coordinator has it.
///
/// # Errors
/// The broker's refusal, or that it can't be reached.
pub fn described_consumer(client: &mut Client, broker: Broker, group: &str) -> Result<DescribedConsumerGroup, Error> {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![Str::from(group)],
        ..Default::default()
    };
    let response = client.ask(broker, ANY_VERSION, &request)?;
    let missing = || Error::Absent("the broker's answer doesn't mention it".to_owned());
    let found = response.groups.into_iter().next().ok_or_else(missing)?;
    Error::check(found.error_code, found.error_message.as_deref())?;
    Ok(found)
}

/// What each group has committed, of all topics.
///
/// # Errors
/// If no broker can be reached.
pub fn committed(
    client: &mut Client,
    groups: &[String],
) -> Result<Outcomes<String, BTreeMap<TopicPartition, i64>>, Error> {
    client.settle(groups.iter().cloned(), Patience::All, |client, open| {
        by_coordinator(client, open, |client, broker, groups| {
            let all_topics = |group: &String| OffsetFetchRequestGroup {
                group_id: Str::from(group.as_str()),
                ..Default::default()
            };
            let request = OffsetFetchRequest {
                groups: groups.iter().map(all_topics).collect(),
                ..Default::default()
            };
            let response = client.ask(broker, OFFSET_FETCH, &request)?;
            let outcome = |group: OffsetFetchResponseGroup| {
                let checked = Error::check(group.error_code, None);
                (group.group_id.to_string(), checked.map(|()| offsets(&group)))
            };
            Ok(response.groups.into_iter().map(outcome).collect())
        })
    })
}

fn offsets(group: &OffsetFetchResponseGroup) -> BTreeMap<TopicPartition, i64> {
    let mut offsets = BTreeMap::new();
    for topic in &group.topics {
        for partition in &topic.partitions {
            if !partition.error_code.is_error() && partition.committed_offset >= 0 {
                let at = TopicPartition::new(&topic.name, partition.partition_index);
                offsets.insert(at, partition.committed_offset);
            }
        }
    }
    offsets
}
