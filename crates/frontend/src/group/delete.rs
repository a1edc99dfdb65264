//! Forgetting a group, or some of what it has committed.
//!
//! Owns: what may be forgotten when, as Apache Kafka 4.3 checks it (KIP-229, KIP-496). A deletion is
//! decided at once, and takes what is on its way too: its tombstones stand behind that in the log.

use std::collections::BTreeSet;

use tailwater_kafka::ErrorCode;

use super::effects::{Record, Reply, Step, Then, TopicPartition, Waiter};
use super::state::{Group, Phase};
use super::subscription;

/// The protocol type of consumers: what their members say can be read here.
pub(super) const CONSUMER: &str = "consumer";

/// What the members of a group may be reading.
pub(super) enum Subscribed {
    /// A subscription can't be read.
    Any,
    These(BTreeSet<String>),
}

impl Subscribed {
    pub fn has(&self, topic: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(topics) => topics.contains(topic),
        }
    }
}

impl Group {
    pub(super) fn delete(&mut self, waiter: Waiter, step: &mut Step<'_>) {
        if self.phase != Phase::Empty || !self.is_consumer_empty() {
            return step.reply(waiter, Reply::Delete(ErrorCode::NonEmptyGroup));
        }
        let offsets: Vec<TopicPartition> = self.offset_partitions().into_iter().collect();
        let mut records: Vec<Record> = offsets.iter().map(|at| self.tombstone(at.clone())).collect();
        if self.is_stored {
            records.push(Record::Group {
                group: self.id.clone(),
                value: None,
            });
        }
        let (tombstones, consumer) = self.take_consumer();
        records.extend(tombstones);
        let was_stored = std::mem::take(&mut self.is_stored);
        tracing::info!(group = %self.id, "group is deleted");
        self.write_deletion(
            records,
            (waiter, Reply::Delete(ErrorCode::None)),
            Then::Delete {
                offsets,
                was_stored,
                consumer,
            },
            step,
        );
    }

    pub(super) fn delete_offsets(&mut self, asked: &[TopicPartition], waiter: Waiter, step: &mut Step<'_>) {
        let is_consumer = self.protocol_type.as_deref() == Some(CONSUMER);
        if self.phase != Phase::Empty && !is_consumer {
            return step.reply(waiter, Reply::DeleteOffsets(Err(ErrorCode::NonEmptyGroup)));
        }
        let subscribed = self.subscribed();
        let error = |at: &TopicPartition| match subscribed.has(&at.topic) {
            true => ErrorCode::GroupSubscribedToTopic,
            false => ErrorCode::None,
        };
        let errors: Vec<ErrorCode> = asked.iter().map(error).collect();
        let committed = self.offset_partitions();
        let deleted = asked.iter().zip(&errors).filter(|(_, error)| !error.is_error());
        let deleted: Vec<TopicPartition> = deleted
            .map(|(at, _)| at.clone())
            .filter(|at| committed.contains(at))
            .collect();
        let records = deleted.iter().map(|at| self.tombstone(at.clone())).collect();
        let answer = (waiter, Reply::DeleteOffsets(Ok(errors)));
        self.write_deletion(records, answer, Then::DropOffsets(deleted), step);
    }

    /// The topics that members may be reading. Costs as much as all their subscriptions.
    pub(super) fn subscribed(&self) -> Subscribed {
        let mut all = self.consumer_subscribed();
        let protocol = self.protocol_name.as_deref();
        for member in self.members.values() {
            let metadata = member.metadata(protocol);
            let Some(topics) = subscription::topics(&metadata) else {
                return Subscribed::Any;
            };
            all.extend(topics.into_iter().map(str::to_owned));
        }
        Subscribed::These(all)
    }

    /// The partitions that have an offset, or may have one when what is on its way, or in a transaction, is committed.
    fn offset_partitions(&self) -> BTreeSet<TopicPartition> {
        let committed = self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions.keys().map(|partition| TopicPartition {
                topic: topic.clone(),
                partition: *partition,
            })
        });
        let on_their_way = self.in_flight.values().flatten().chain(self.pending.partitions());
        committed.chain(on_their_way.cloned()).collect()
    }

    pub(super) fn tombstone(&self, partition: TopicPartition) -> Record {
        Record::Offset {
            group: self.id.clone(),
            partition,
            value: None,
        }
    }

    fn write_deletion(&mut self, records: Vec<Record>, answer: (Waiter, Reply), then: Then, step: &mut Step<'_>) {
        if records.is_empty() {
            return step.reply(answer.0, answer.1);
        }
        self.write(records, vec![answer], then, step);
    }
}
