//! What a group has committed.
//!
//! Owns: who may commit, as Apache Kafka 4.3 checks it, and what is read back. Does not own: whether topics exist
//! (`wire_offsets.rs`), how long offsets are kept (`expire.rs`), when those of a transaction count (`pending.rs`).

use tailwater_kafka::ErrorCode;

use super::effects::{
    Commit, CommittedOffset, FetchOffsets, Fetched, FetchedTopic, MemberRef, Record, Reply, Step, Then, TopicPartition,
    TransactionalCommit, Waiter,
};
use super::state::{Group, Phase};

impl Group {
    pub(super) fn commit(&mut self, commit: Commit, waiter: Waiter, step: &mut Step<'_>) {
        let of_consumer = self.check_consumer_commit(&commit.member, commit.knows_epochs, &commit.offsets);
        if let Err(error) = of_consumer.unwrap_or_else(|| self.check_commit(&commit.member)) {
            return step.reply(waiter, Reply::Commit(error));
        }
        // A commit shows that the member lives, as a heartbeat does.
        if let Some(member) = self.members.get_mut(&commit.member.member_id) {
            member.touch(step);
        }
        if commit.offsets.is_empty() {
            return step.reply(waiter, Reply::Commit(ErrorCode::None));
        }
        let records = self.offset_records(&commit.offsets);
        let answers = vec![(waiter, Reply::Commit(ErrorCode::None))];
        self.write(records, answers, Then::StoreOffsets(commit.offsets), step);
    }

    /// A commit that counts when its transaction is committed. It is no sign of life, and may come amid a rebalance.
    pub(super) fn commit_in_transaction(&mut self, commit: TransactionalCommit, waiter: Waiter, step: &mut Step<'_>) {
        if let Err(error) = self.check_transactional_commit(&commit) {
            return step.reply(waiter, Reply::Commit(error));
        }
        if commit.offsets.is_empty() {
            return step.reply(waiter, Reply::Commit(ErrorCode::None));
        }
        let records = self.offset_records(&commit.offsets);
        let answers = vec![(waiter, Reply::Commit(ErrorCode::None))];
        let then = Then::KeepPending(commit.producer, commit.offsets);
        self.write(records, answers, then, step);
    }

    fn offset_records(&self, offsets: &[(TopicPartition, CommittedOffset)]) -> Vec<Record> {
        let record = |(partition, value): &(TopicPartition, CommittedOffset)| Record::Offset {
            group: self.id.clone(),
            partition: partition.clone(),
            value: Some(value.clone()),
        };
        offsets.iter().map(record).collect()
    }

    /// Answers what is committed; where what is on its way is to count too, when its outcome is known.
    pub(super) fn fetch_offsets(&mut self, asked: FetchOffsets, waiter: Waiter, step: &mut Step<'_>) {
        if let Err(error) = self.check_consumer_fetch(&asked) {
            return step.reply(waiter, Reply::FetchOffsets(Err(error)));
        }
        if asked.require_stable && !self.in_flight.is_empty() {
            self.stable_fetches.push_back((self.next_write, asked, waiter));
        } else {
            let found = self.fetch(asked);
            step.reply(waiter, Reply::FetchOffsets(Ok(found)));
        }
    }

    /// Answers those that have waited for what has its outcome now.
    pub(super) fn answer_stable_fetches(&mut self, step: &mut Step<'_>) {
        let first_unknown = self.in_flight.keys().next().copied().unwrap_or(self.next_write);
        while let Some((_, asked, waiter)) = self
            .stable_fetches
            .pop_front_if(|(before, ..)| *before <= first_unknown)
        {
            let found = self.fetch(asked);
            step.reply(waiter, Reply::FetchOffsets(Ok(found)));
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

    /// Producers before TxnOffsetCommit 3 don't say who consumes for them, and are believed.
    fn check_transactional_commit(&self, commit: &TransactionalCommit) -> Result<(), ErrorCode> {
        let member = &commit.member;
        let is_named = member.generation >= 0 || !member.member_id.is_empty() || member.instance_id.is_some();
        if !is_named {
            return Ok(());
        }
        match self.check_consumer_commit(member, true, &commit.offsets) {
            // Kafka has one word for both kinds of groups here: producers take the other one for final.
            Some(Err(ErrorCode::StaleMemberEpoch)) => return Err(ErrorCode::IllegalGeneration),
            Some(other) => return other,
            None => {}
        }
        if member.generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        self.check_member(&member.member_id, member.instance_id.as_deref())?;
        match member.generation == self.generation {
            true => Ok(()),
            false => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// A record outside of transactions is committed.
    pub(super) fn set_offset(&mut self, at: TopicPartition, value: Option<CommittedOffset>) {
        match value {
            Some(value) => {
                self.pending.outdate(&at);
                self.store_offset(at, value);
            }
            None => {
                self.pending.forget(&at);
                if let Some(partitions) = self.offsets.get_mut(&at.topic) {
                    partitions.remove(&at.partition);
                    if partitions.is_empty() {
                        self.offsets.remove(&at.topic);
                    }
                }
            }
        }
    }

    fn store_offset(&mut self, at: TopicPartition, value: CommittedOffset) {
        self.offsets.entry(at.topic).or_default().insert(at.partition, value);
    }

    /// A producer's transaction has ended: what it has committed counts now, or never.
    pub(super) fn end_transaction(&mut self, producer_id: i64, is_commit: bool) {
        for (at, value) in self.pending.end(producer_id, is_commit) {
            self.store_offset(at, value);
        }
    }

    /// What is committed of what is asked for.
    fn fetch(&self, asked: FetchOffsets) -> Vec<FetchedTopic> {
        let topics = asked.topics.unwrap_or_else(|| {
            let all = self.offsets.iter();
            all.map(|(topic, partitions)| (topic.clone(), partitions.keys().copied().collect()))
                .collect()
        });
        let answer = |(topic, indexes): (String, Vec<i32>)| {
            let partitions = self.offsets.get(&topic);
            let mut at = TopicPartition { topic, partition: 0 };
            let mut find = |index: i32| {
                at.partition = index;
                if asked.require_stable && self.pending.has(&at) {
                    return (index, Fetched::Unstable);
                }
                let found = partitions.and_then(|partitions| partitions.get(&index)).cloned();
                (index, found.map_or(Fetched::Nothing, Fetched::Offset))
            };
            let found = indexes.into_iter().map(&mut find).collect();
            (at.topic, found)
        };
        topics.into_iter().map(answer).collect()
    }
}

/// What a group that isn't there has committed of what is asked for.
pub(super) fn nothing(asked: FetchOffsets) -> Vec<FetchedTopic> {
    let answer = |(topic, indexes): (String, Vec<i32>)| {
        let partitions = indexes.into_iter().map(|index| (index, Fetched::Nothing));
        (topic, partitions.collect())
    };
    asked.topics.unwrap_or_default().into_iter().map(answer).collect()
}
