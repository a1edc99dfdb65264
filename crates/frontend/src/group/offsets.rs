//! What a group has committed.
//!
//! Owns: who may commit, as Apache Kafka 4.3 checks it, and what is read back. Does not own: whether topics exist
//! (`wire.rs`), how long offsets are kept.

use std::collections::BTreeMap;

use tailwater_kafka::ErrorCode;

use super::effects::{
    Commit, CommittedOffset, FetchOffsets, FetchedTopic, MemberRef, Record, Reply, Step, Then, TopicPartition, Waiter,
};
use super::state::{Group, Offsets, Phase};

impl Group {
    pub(super) fn commit(&mut self, commit: Commit, waiter: Waiter, step: &mut Step<'_>) {
        if let Err(error) = self.check_commit(&commit.member) {
            return step.reply(waiter, Reply::Commit(error));
        }
        // A commit shows that the member lives, as a heartbeat does.
        if let Some(member) = self.members.get_mut(&commit.member.member_id) {
            member.touch(step);
        }
        if commit.offsets.is_empty() {
            return step.reply(waiter, Reply::Commit(ErrorCode::None));
        }
        let record = |(partition, value): &(TopicPartition, CommittedOffset)| Record::Offset {
            group: self.id.clone(),
            partition: partition.clone(),
            value: Some(value.clone()),
        };
        let records = commit.offsets.iter().map(record).collect();
        let answers = vec![(waiter, Reply::Commit(ErrorCode::None))];
        self.write(records, answers, Then::StoreOffsets(commit.offsets), step);
    }

    /// Answers what is committed; where what is on its way is to count too, when its outcome is known.
    pub(super) fn fetch_offsets(&mut self, asked: FetchOffsets, waiter: Waiter, step: &mut Step<'_>) {
        if asked.require_stable && !self.in_flight.is_empty() {
            self.stable_fetches.push_back((self.next_write, asked, waiter));
        } else {
            step.reply(waiter, Reply::FetchOffsets(Ok(fetch(&self.offsets, asked))));
        }
    }

    /// Answers those that have waited for what has its outcome now.
    pub(super) fn answer_stable_fetches(&mut self, step: &mut Step<'_>) {
        let first_unknown = self.in_flight.keys().next().copied().unwrap_or(self.next_write);
        while let Some((_, asked, waiter)) = self
            .stable_fetches
            .pop_front_if(|(before, ..)| *before <= first_unknown)
        {
            step.reply(waiter, Reply::FetchOffsets(Ok(fetch(&self.offsets, asked))));
        }
    }

    /// Who isn't a member may commit only while nobody is: an administrator, or a consumer that assigns by itself.
    fn check_commit(&self, member: &MemberRef) -> Result<(), ErrorCode> {
        let is_empty = self.phase == Phase::Empty;
        if member.generation < 0 && is_empty {
            return Ok(());
        }
        if member.generation >= 0 || !member.member_id.is_empty() || member.instance_id.is_some() {
            self.check_member(&member.member_id, member.instance_id.as_deref())?;
            if member.generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !is_empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        // It has joined the generation, but others may still own what it would commit.
        match self.phase {
            Phase::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    pub(super) fn set_offset(&mut self, at: TopicPartition, value: Option<CommittedOffset>) {
        match value {
            Some(value) => {
                self.offsets.entry(at.topic).or_default().insert(at.partition, value);
            }
            None => {
                if let Some(partitions) = self.offsets.get_mut(&at.topic) {
                    partitions.remove(&at.partition);
                    if partitions.is_empty() {
                        self.offsets.remove(&at.topic);
                    }
                }
            }
        }
    }
}

/// What is committed of what is asked for.
pub(super) fn fetch(offsets: &Offsets, asked: FetchOffsets) -> Vec<FetchedTopic> {
    let Some(topics) = asked.topics else {
        let all = |partitions: &BTreeMap<i32, CommittedOffset>| {
            partitions
                .iter()
                .map(|(index, value)| (*index, Some(value.clone())))
                .collect()
        };
        return offsets
            .iter()
            .map(|(topic, partitions)| (topic.clone(), all(partitions)))
            .collect();
    };
    let answer = |(topic, indexes): (String, Vec<i32>)| {
        let partitions = offsets.get(&topic);
        let find = |index: i32| (index, partitions.and_then(|p| p.get(&index)).cloned());
        (topic, indexes.into_iter().map(find).collect())
    };
    topics.into_iter().map(answer).collect()
}
