//! OffsetForLeaderEpoch: where what was written under a leader epoch ends, so that a consumer sees whether the log it has
//! read was cut off (KIP-320; docs/kafka.md rule 10).

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;

use crate::error_codes;
use crate::partition::Missing;
use crate::server::Handlers;

pub(crate) fn offset_for_leader_epoch(
    handlers: &Handlers,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let answer = |asked: OffsetForLeaderPartition| {
            let found = find(handlers, &topic.topic, &asked);
            found.unwrap_or_else(|error_code| LeaderEpochEndOffset {
                partition: asked.partition,
                error_code,
                ..Default::default()
            })
        };
        OffsetForLeaderTopicResult {
            partitions: topic.partitions.into_iter().map(answer).collect(),
            topic: topic.topic,
        }
    });
    OffsetForLeaderEpochResponse {
        throttle_time_ms: 0,
        topics: topics.collect(),
    }
}

fn find(handlers: &Handlers, topic: &str, asked: &OffsetForLeaderPartition) -> Result<LeaderEpochEndOffset, ErrorCode> {
    let view = handlers.view().snapshot();
    let partition = match view.topic_named(topic) {
        Some(topic) => handlers.partitions().get(topic.info.id, asked.partition),
        None => Err(Missing::UnknownTopic),
    };
    let partition = partition.map_err(|missing| error_codes::of_missing(&missing, false))?;
    partition
        .check_epoch(asked.current_leader_epoch)
        .map_err(error_codes::of_epoch)?;
    let nothing = LeaderEpochEndOffset {
        partition: asked.partition,
        ..Default::default()
    };
    Ok(match partition.epoch_end(asked.leader_epoch) {
        Some((epoch, end)) => LeaderEpochEndOffset {
            leader_epoch: epoch.0,
            end_offset: end.0,
            ..nothing
        },
        None => nothing,
    })
}
