//! Forgetting a group, or some of what it has committed.
//!
//! Owns: what may be forgotten when, as Apache Kafka 4.3 checks it for classic groups (KIP-229, KIP-496). A deletion is
//! decided when no write of its group is on its way any more: a commit that it doesn't know of yet would come back with
//! the next replay.

use tailwater_kafka::ErrorCode;

use super::effects::{Record, Reply, Request, Step, Then, TopicPartition, Waiter, Write};
use super::state::{Group, Phase};
use super::subscription;

/// The protocol type of consumers: what their members say can be read here.
const CONSUMER: &str = "consumer";

impl Group {
    /// Carries `request` out, a deletion, once everything that was written before it has its outcome.
    pub(super) fn delete_in_turn(&mut self, request: Request, waiter: Waiter, step: &mut Step<'_>) {
        // At once: a group whose members keep commits on their way would let it wait for ever.
        if matches!(request, Request::Delete) && self.phase != Phase::Empty {
            return step.reply(waiter, Reply::Delete(ErrorCode::NonEmptyGroup));
        }
        if self.writes_in_flight > 0 {
            self.deletions.push_back((request, waiter));
        } else {
            self.delete_now(request, waiter, step);
        }
    }

    /// Carries out what has waited, up to the first that writes again.
    pub(super) fn delete_waiting(&mut self, step: &mut Step<'_>) {
        while self.writes_in_flight == 0
            && let Some((request, waiter)) = self.deletions.pop_front()
        {
            self.delete_now(request, waiter, step);
        }
    }

    fn delete_now(&mut self, request: Request, waiter: Waiter, step: &mut Step<'_>) {
        match request {
            Request::DeleteOffsets(offsets) => self.delete_offsets(&offsets, waiter, step),
            _ => self.delete(waiter, step),
        }
    }

    fn delete(&mut self, waiter: Waiter, step: &mut Step<'_>) {
        if self.phase != Phase::Empty {
            return step.reply(waiter, Reply::Delete(ErrorCode::NonEmptyGroup));
        }
        let offsets = self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions.keys().map(|partition| TopicPartition {
                topic: topic.clone(),
                partition: *partition,
            })
        });
        let mut records: Vec<Record> = offsets.map(|at| self.tombstone(at)).collect();
        if self.is_stored {
            records.push(Record::Group {
                group: self.id.clone(),
                value: None,
            });
        }
        let was_stored = std::mem::take(&mut self.is_stored);
        tracing::info!(group = %self.id, "group is deleted");
        self.write_deletion(
            records,
            (waiter, Reply::Delete(ErrorCode::None)),
            Then::Delete { was_stored },
            step,
        );
    }

    fn delete_offsets(&mut self, asked: &[TopicPartition], waiter: Waiter, step: &mut Step<'_>) {
        let is_consumer = self.protocol_type.as_deref() == Some(CONSUMER);
        if self.phase != Phase::Empty && !is_consumer {
            return step.reply(waiter, Reply::DeleteOffsets(Err(ErrorCode::NonEmptyGroup)));
        }
        let error = |at: &TopicPartition| match self.is_subscribed(&at.topic) {
            true => ErrorCode::GroupSubscribedToTopic,
            false => ErrorCode::None,
        };
        let errors: Vec<ErrorCode> = asked.iter().map(error).collect();
        let is_committed = |at: &TopicPartition| {
            let topic = self.offsets.get(&at.topic);
            topic.is_some_and(|partitions| partitions.contains_key(&at.partition))
        };
        let deleted = asked.iter().zip(&errors).filter(|(_, error)| !error.is_error());
        let deleted: Vec<TopicPartition> = deleted
            .map(|(at, _)| at.clone())
            .filter(|at| is_committed(at))
            .collect();
        let records = deleted.iter().map(|at| self.tombstone(at.clone())).collect();
        let answer = (waiter, Reply::DeleteOffsets(Ok(errors)));
        self.write_deletion(records, answer, Then::DropOffsets(deleted), step);
    }

    /// Whether a member may be reading the topic. One whose subscription can't be read may be reading any.
    fn is_subscribed(&self, topic: &str) -> bool {
        let protocol = self.protocol_name.as_deref();
        let mut subscriptions = self.members.values().map(|member| member.metadata(protocol));
        subscriptions.any(|metadata| subscription::topics(&metadata).is_none_or(|topics| topics.contains(&topic)))
    }

    fn tombstone(&self, partition: TopicPartition) -> Record {
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
        self.writes_in_flight += 1;
        step.effects.writes.push(Write {
            group: self.id.clone(),
            records,
            answers: vec![answer],
            then,
        });
    }
}
