//! What nobody needs any more: offsets past their retention, offsets of topics that are gone, groups without either.
//!
//! Owns: from when retention counts, as Apache Kafka 4.3 has it for classic groups (KIP-211), but that an offset committed to a
//! group that was empty already has its whole retention, where Kafka forgets it at the next look if the group is empty for
//! longer than that; and what one look at a group forgets. Does not own: when groups are looked at (`shard.rs`). A group with writes on their way is passed over: they say
//! that somebody needs it.

use std::collections::{BTreeMap, BTreeSet};

use super::consumer::topics::Topics;
use super::delete::CONSUMER;
use super::effects::{CommittedOffset, Record, Step, Then, TopicPartition};
use super::state::{Group, Phase};

/// Tombstones of one write, which must fit into a batch of the log.
const TOMBSTONES_OF_A_WRITE: usize = 500;

/// From when an offset's retention counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CountsFrom {
    Commit,
    /// When the last member left, or the commit if that came later.
    Empty(i64),
}

impl Group {
    /// Forgets what isn't needed any more: offsets, and with the last of them the group. It must not stay behind them: it
    /// would be as old as before, and whatever is committed to it later would be forgotten at the next look.
    pub(super) fn expire(&mut self, step: &mut Step<'_>) {
        if !self.in_flight.is_empty() {
            return;
        }
        let gone = self.offsets_of_gone_topics(step.topics);
        let mut forgotten = self.expired_offsets(step);
        // A topic that isn't known here may be one that isn't known here yet, so it is looked for twice.
        forgotten.extend(gone.intersection(&self.of_gone_topics).cloned());
        // Somebody is about to commit anew, maybe of the topic's successor.
        forgotten.retain(|at| !self.pending.has(at));
        self.of_gone_topics = gone;
        let is_left = self.offsets.values().map(BTreeMap::len).sum::<usize>() > forgotten.len();
        if !forgotten.is_empty() {
            tracing::info!(group = %self.id, offsets = forgotten.len(), "offsets are forgotten");
            let forgotten: Vec<TopicPartition> = forgotten.into_iter().collect();
            for offsets in forgotten.chunks(TOMBSTONES_OF_A_WRITE) {
                let records = offsets.iter().map(|at| self.tombstone(at.clone())).collect();
                self.write(records, Vec::new(), Then::DropOffsets(offsets.to_vec()), step);
            }
        }
        if self.phase == Phase::Empty
            && !is_left
            && self.pending.is_empty()
            && self.pending_join.is_empty()
            && self.is_consumer_empty()
            && (self.is_stored || self.consumer.is_some())
        {
            tracing::info!(group = %self.id, "empty group is forgotten");
            let was_stored = std::mem::take(&mut self.is_stored);
            let (mut records, consumer) = self.take_consumer();
            if was_stored {
                records.push(Record::Group {
                    group: self.id.clone(),
                    value: None,
                });
            }
            let then = Then::Delete {
                offsets: Vec::new(),
                was_stored,
                consumer,
            };
            self.write(records, Vec::new(), then, step);
        }
    }

    fn expired_offsets(&self, step: &Step<'_>) -> BTreeSet<TopicPartition> {
        let Some(from) = self.retention_counts_from() else {
            return BTreeSet::new();
        };
        let retention_ms = i64::try_from(step.limits.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let is_past = |since_ms: i64| step.now.wall_ms.saturating_sub(since_ms) >= retention_ms;
        let is_expired = |offset: &CommittedOffset| match (offset.expire_timestamp_ms, from) {
            (-1, CountsFrom::Commit) => is_past(offset.commit_timestamp_ms),
            (-1, CountsFrom::Empty(since_ms)) => is_past(since_ms.max(offset.commit_timestamp_ms)),
            (expire_ms, _) => step.now.wall_ms >= expire_ms,
        };
        let subscribed = self.subscribed();
        let unread = self.offsets.iter().filter(|(topic, _)| !subscribed.has(topic));
        let found = unread.flat_map(|(topic, partitions)| {
            let expired = partitions.iter().filter(|(_, offset)| is_expired(offset));
            expired.map(|(partition, _)| TopicPartition {
                topic: topic.clone(),
                partition: *partition,
            })
        });
        found.collect()
    }

    /// `None`: nothing expires now, whatever it says itself.
    fn retention_counts_from(&self) -> Option<CountsFrom> {
        if self.consumer.is_some() {
            return Some(CountsFrom::Commit);
        }
        match (self.protocol_type.as_deref(), self.phase) {
            // Nobody was ever a member: who commits assigns its partitions by itself.
            (None, _) => Some(CountsFrom::Commit),
            (Some(_), Phase::Empty) if self.since_ms < 0 => Some(CountsFrom::Commit),
            (Some(_), Phase::Empty) => Some(CountsFrom::Empty(self.since_ms)),
            // What no member reads any more.
            (Some(CONSUMER), Phase::Stable) => Some(CountsFrom::Commit),
            (Some(_), _) => None,
        }
    }

    /// Offsets whose topic isn't there, or is another one of the same name.
    fn offsets_of_gone_topics(&self, topics: &dyn Topics) -> BTreeSet<TopicPartition> {
        let found = self.offsets.iter().flat_map(|(topic, partitions)| {
            let current = topics.find(topic).map(|topic| topic.id);
            let is_gone = move |offset: &CommittedOffset| match (offset.topic_id, current) {
                (Some(committed), Some(current)) => committed != current,
                (None, Some(_)) => false,
                (_, None) => true,
            };
            let gone = partitions.iter().filter(move |(_, offset)| is_gone(offset));
            gone.map(|(partition, _)| TopicPartition {
                topic: topic.clone(),
                partition: *partition,
            })
        });
        found.collect()
    }
}
