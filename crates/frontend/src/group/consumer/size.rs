//! Whether what makes a group a classic one again fits into one batch.
//!
//! Owns: an upper bound of it. Everything must be stored at once, since half of it would be read as two groups, and the members
//! of a classic group are one record. A group that is too large for that stays as it is, which serves its members as well; a write that
//! is refused would keep the member from leaving whose leaving makes it (Apache Kafka refuses that member).

use tailwater_kafka::batch;

use super::classic;
use super::heartbeat::{Around, held};
use super::record::{self, ConsumerRecord};
use super::state::{Draft, Member};
use crate::coordinator::record_bytes;

/// Of a field of variable length: how long it is, at most.
const LENGTH: usize = 4;
/// Numbers in the value of a group's record: version, protocol type, generation, time, number of members.
const OF_A_GROUP: usize = 64;
/// Both timeouts of a member.
const TIMEOUTS: usize = 8;

/// Whether these records, those that make the log forget the group's present kind, and its classic kind's fit into one batch.
pub fn fits_when_dissolved(draft: &Draft, around: &Around<'_>) -> bool {
    let tombstones = draft.tombstones();
    let of_consumer = draft.records.iter().chain(&tombstones);
    // What can't be encoded is refused where it is written.
    let bytes: usize = of_consumer.map(|record| bytes_of(around.group, record)).sum();
    bytes + classic_record_bytes(draft, around) + batch::HEADER_BYTES <= around.topics.batch_bytes()
}

fn bytes_of(group: &str, record: &ConsumerRecord) -> usize {
    let encoded = record::encode(group, record);
    encoded.map_or(0, |(key, value)| {
        record_bytes(key.len(), value.map_or(0, |value| value.len()))
    })
}

/// At least what the record of the classic group takes that these members would be.
fn classic_record_bytes(draft: &Draft, around: &Around<'_>) -> usize {
    let of_members: usize = draft
        .members
        .iter()
        .map(|(id, member)| member_bytes(id, member, around))
        .sum();
    let names = draft.members.iter().map(|(id, member)| {
        let protocols = member
            .subscription
            .classic
            .iter()
            .flat_map(|classic| &classic.protocols);
        let name = protocols.map(|protocol| protocol.name.len()).max().unwrap_or(0);
        // The leader's id, and the protocol's name.
        id.len() + name
    });
    let names = names.max().unwrap_or(0);
    record_bytes(LENGTH + around.group.len(), OF_A_GROUP + names + of_members)
}

fn member_bytes(id: &str, member: &Member, around: &Around<'_>) -> usize {
    let wants = &member.subscription;
    let protocols = wants.classic.iter().flat_map(|classic| &classic.protocols);
    let metadata = protocols.map(|protocol| protocol.metadata.len()).max().unwrap_or(0);
    let texts = [
        id,
        &wants.client_id,
        &wants.client_host,
        wants.instance_id.as_deref().unwrap_or_default(),
    ];
    let has = held(&member.current);
    let assignment = classic::assignment(&has, 0, around.topics).len();
    let texts: usize = texts.iter().map(|text| LENGTH + text.len()).sum();
    texts + TIMEOUTS + 2 * LENGTH + metadata + assignment
}
