//! ElectLeaders: nothing to elect. A partition has one replica, its leader, which is the preferred one by that; who leads
//! is the controller's to decide, and it has decided wherever anybody can.

use std::collections::BTreeMap;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use crate::server::Handlers;
use crate::view::Snapshot;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

pub(crate) fn elect_leaders(handlers: &Handlers, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let election = request.election_type;
    if !matches!(election, PREFERRED | UNCLEAN) {
        return ElectLeadersResponse {
            error_code: ErrorCode::InvalidRequest,
            ..Default::default()
        };
    }
    let view = handlers.view().snapshot();
    let results = match request.topic_partitions {
        Some(topics) => {
            // Kafka answers for each topic once, however often it is named.
            let mut asked: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
            for topic in topics {
                asked.entry(topic.topic).or_default().extend(topic.partitions);
            }
            let topic = |(topic, partitions): (Str, Vec<i32>)| ReplicaElectionResult {
                partition_result: partitions
                    .into_iter()
                    .map(|index| elect(&view, &topic, index, election))
                    .collect(),
                topic,
            };
            asked.into_iter().map(topic).collect()
        }
        // Where all are meant, those that need none are left out.
        None => {
            let topics = view.topics().map(|topic| {
                let results = topic.partitions.keys();
                let results = results.map(|index| elect(&view, &topic.name, *index, election));
                ReplicaElectionResult {
                    topic: (&*topic.name).into(),
                    partition_result: results
                        .filter(|result| result.error_code != ErrorCode::ElectionNotNeeded)
                        .collect(),
                }
            });
            topics.collect()
        }
    };
    ElectLeadersResponse {
        replica_election_results: results,
        ..Default::default()
    }
}

fn elect(view: &Snapshot, topic: &str, partition_id: i32, election: i8) -> ElectionPartitionResult {
    let (error_code, message) = match view.topic_named(topic) {
        None => (ErrorCode::UnknownTopicOrPartition, format!("No such topic as {topic}")),
        Some(found) => match found.partitions.get(&partition_id) {
            None => (
                ErrorCode::UnknownTopicOrPartition,
                format!("No such partition as {topic}-{partition_id}"),
            ),
            Some(partition) if partition.leader.is_some() => (
                ErrorCode::ElectionNotNeeded,
                "Leader election not needed for topic partition.".to_owned(),
            ),
            Some(_) => {
                let error = match election {
                    PREFERRED => ErrorCode::PreferredLeaderNotAvailable,
                    _ => ErrorCode::EligibleLeadersNotAvailable,
                };
                (error, "No broker is there to lead the partition.".to_owned())
            }
        },
    };
    ElectionPartitionResult {
        partition_id,
        error_code,
        error_message: Some(message.into()),
    }
}
