//! TxnOffsetCommit of the wire, as a question to a group's owner, and back.
//!
//! Owns: which field means what, what isn't asked at all. Does not own: whether the transaction has the group's partition
//! (`txn`), who may commit (`offsets.rs`).

use std::future::Future;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_log::Guard;

use super::coordinator::Groups;
use super::effects::{InTransaction, MemberRef, Request, TransactionalCommit};
use super::wire_offsets::{Sorted, refuse, sort};
use crate::view::Snapshot;

/// Offsets are kept as long as the broker says.
const NO_EXPIRY_OF_ITS_OWN: i64 = -1;

/// `verified`: what the log of the group's owner gave for the transaction's coordinator's yes; only asked where there is
/// anything to commit.
pub(crate) async fn txn_offset_commit(
    groups: &Groups,
    view: &Snapshot,
    request: TxnOffsetCommitRequest,
    verified: impl Future<Output = Result<Option<Guard>, ErrorCode>>,
) -> TxnOffsetCommitResponse {
    let asked = request.topics.into_iter().map(to_plain).collect();
    let at_ms = (groups.clock().wall_ms(), NO_EXPIRY_OF_ITS_OWN);
    let Sorted {
        offsets,
        mut topics,
        is_group_asked,
    } = sort(groups, view, asked, false, at_ms);
    if is_group_asked {
        let error = match verified.await {
            Err(error) => error,
            Ok(guard) => {
                let commit = Request::CommitInTransaction(TransactionalCommit {
                    member: MemberRef {
                        member_id: request.member_id.into(),
                        instance_id: request.group_instance_id.map(String::from),
                        generation: request.generation_id,
                    },
                    producer: InTransaction {
                        producer_id: request.producer_id,
                        producer_epoch: request.producer_epoch,
                        guard,
                    },
                    offsets,
                });
                match groups.commit(request.group_id.into(), commit).await {
                    // A marker has taken the guard: a sound commit finds a new one when it is repeated.
                    ErrorCode::InvalidTxnState if guard.is_some() => ErrorCode::CoordinatorNotAvailable,
                    error => error,
                }
            }
        };
        refuse(&mut topics, error);
    }
    TxnOffsetCommitResponse {
        topics: topics.into_iter().map(from_plain).collect(),
        ..Default::default()
    }
}

fn to_plain(topic: TxnOffsetCommitRequestTopic) -> OffsetCommitRequestTopic {
    let partition = |partition: TxnOffsetCommitRequestPartition| OffsetCommitRequestPartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        committed_metadata: partition.committed_metadata,
    };
    OffsetCommitRequestTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
        ..Default::default()
    }
}

fn from_plain(topic: OffsetCommitResponseTopic) -> TxnOffsetCommitResponseTopic {
    let partition = |partition: OffsetCommitResponsePartition| TxnOffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: partition.error_code,
    };
    TxnOffsetCommitResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    }
}
