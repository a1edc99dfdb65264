//! What a fetch asks for, and which of it is here.

use std::sync::Arc;

use tailwater_kafka::messages::{FetchPartition, FetchRequest};
use tailwater_types::{LeaderEpoch, NodeId, Offset, TopicId};

use crate::error_codes;
use crate::partition::{EpochMismatch, Missing, Partition, Partitions};
use crate::view::View;
use tailwater_kafka::ErrorCode;

/// The isolation level of who reads no data of open or aborted transactions; 0 reads everything.
pub(super) const READ_COMMITTED: i8 = 1;

/// One partition of a request.
pub(super) struct Target {
    /// Places in the request: its topic, and its partition there.
    pub topic: usize,
    pub at: usize,
    pub offset: Offset,
    pub max_bytes: usize,
    /// Whether it reads what is decided only, and is told what was aborted (KIP-98).
    pub read_committed: bool,
    pub partition: Result<Arc<Partition>, Refused>,
}

/// Why a partition isn't read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub code: ErrorCode,
    /// Who leads it instead, if that is known (KIP-951).
    pub leader: Option<(NodeId, LeaderEpoch)>,
}

/// The request's partitions, in its order.
pub(super) fn resolve(request: &FetchRequest, by_id: bool, view: &View, partitions: &Partitions) -> Vec<Target> {
    let count = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut targets = Vec::with_capacity(count);
    let snapshot = view.snapshot();
    for (topic_at, topic) in request.topics.iter().enumerate() {
        let id = if by_id {
            Some(TopicId(topic.topic_id))
        } else {
            snapshot.topic_named(&topic.topic).map(|topic| topic.info.id)
        };
        for (at, wanted) in topic.partitions.iter().enumerate() {
            let found = match id {
                Some(id) => partitions.get(id, wanted.partition),
                None => Err(Missing::UnknownTopic),
            };
            let partition = found.map_err(|missing| refused(&missing, by_id));
            targets.push(Target {
                topic: topic_at,
                at,
                offset: Offset(wanted.fetch_offset),
                max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
                read_committed: request.isolation_level == READ_COMMITTED,
                partition: partition.and_then(|partition| check_epoch(partition, wanted, partitions.node())),
            });
        }
    }
    targets
}

fn check_epoch(partition: Arc<Partition>, wanted: &FetchPartition, here: NodeId) -> Result<Arc<Partition>, Refused> {
    match partition.check_epoch(wanted.current_leader_epoch) {
        Ok(()) => Ok(partition),
        Err(mismatch) => Err(Refused {
            code: error_codes::of_epoch(mismatch),
            // Who is behind is told what is now, as Kafka does; who is ahead knows more than this node.
            leader: (mismatch == EpochMismatch::Fenced).then(|| (here, partition.leader_epoch())),
        }),
    }
}

fn refused(missing: &Missing, by_id: bool) -> Refused {
    let leader = match *missing {
        Missing::NotLeader { leader, leader_epoch } => leader.map(|leader| (leader, leader_epoch)),
        _ => None,
    };
    Refused {
        code: error_codes::of_missing(missing, by_id),
        leader,
    }
}
