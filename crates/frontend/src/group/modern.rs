//! A group whose coordinator assigns (`consumer`), among the other groups of its log.
//!
//! Owns: how a group is of one kind or the other, and what of a step goes to the log. While the coordinator assigns, the
//! classic half of the group has no members; what is committed belongs to both. Does not own: any decision about members.

use std::collections::BTreeSet;

use tailwater_kafka::ErrorCode;

use super::consumer::group::{ConsumerGroup, Outcome};
use super::consumer::heartbeat::{Around, Heartbeat, HeartbeatReply, held};
use super::consumer::offsets::Claim;
use super::consumer::record::ConsumerRecord;
use super::consumer::state::JOINING;
use super::consumer::{target, topics};
use super::delete::CONSUMER;
use super::effects::{
    CommittedOffset, ConsumerDescription, ConsumerMember, DescribeError, FetchOffsets, MemberRef, Membership, Record,
    Reply, Step, Then, TopicPartition, Waiter,
};
use super::state::{Group, Phase};

pub(super) fn around<'a>(step: &Step<'a>, group: &'a str) -> Around<'a> {
    Around {
        group,
        now: step.now,
        settings: step.topics.settings_of(group, step.limits.consumer),
        topics: step.topics,
    }
}

impl Group {
    fn consumer_heartbeat(&mut self, request: Box<Heartbeat>, waiter: Waiter, step: &mut Step<'_>) {
        if self.consumer.is_some() {
            self.ask_consumer(Membership::ConsumerHeartbeat(request), waiter, step);
        } else if request.member_epoch == JOINING {
            self.upgrade(request, waiter, step);
        } else {
            let what = format!("Group {} is not a consumer group.", self.id);
            let refused = HeartbeatReply::refused((ErrorCode::GroupIdNotFound, Some(what)));
            step.reply(waiter, Reply::ConsumerHeartbeat(Box::new(refused)));
        }
    }

    /// A request about who is a member of the group.
    pub(super) fn membership(&mut self, request: Membership, waiter: Waiter, step: &mut Step<'_>) {
        let is_consumer = self.consumer.is_some();
        match request {
            Membership::ConsumerHeartbeat(request) => self.consumer_heartbeat(request, waiter, step),
            // It founds a classic group where nobody is a member.
            Membership::Join(join) => match self.becomes_classic(step) {
                true => self.join(join, waiter, step),
                false => self.ask_consumer(Membership::Join(join), waiter, step),
            },
            other @ (Membership::Sync(_) | Membership::Heartbeat(_) | Membership::Leave(_)) if is_consumer => {
                self.ask_consumer(other, waiter, step);
            }
            Membership::Sync(sync) => self.sync(sync, waiter, step),
            Membership::Heartbeat(member) => {
                let error = self.heartbeat(&member, step);
                step.reply(waiter, Reply::Heartbeat(error));
            }
            Membership::Leave(leaving) => self.leave(&leaving, waiter, step),
        }
    }

    fn ask_consumer(&mut self, request: Membership, waiter: Waiter, step: &mut Step<'_>) {
        if let Some(consumer) = &mut self.consumer {
            let outcome = consumer.ask(request, waiter, &around(step, &self.id));
            self.carry_out(outcome, step);
        }
    }

    /// The write of the group's other half has its outcome.
    pub(super) fn consumer_written(&mut self, result: Result<(), ErrorCode>, step: &mut Step<'_>) {
        if let Some(consumer) = &mut self.consumer {
            let outcome = consumer.written(result, &around(step, &self.id));
            self.carry_out(outcome, step);
        }
    }

    pub(super) fn consumer_tick(&mut self, step: &mut Step<'_>) {
        if let Some(consumer) = &mut self.consumer {
            let outcome = consumer.tick(&around(step, &self.id));
            self.carry_out(outcome, step);
        }
    }

    pub(super) fn consumer_loaded(&mut self, step: &mut Step<'_>) {
        if self
            .consumer
            .as_ref()
            .is_some_and(|consumer| consumer.state().is_blank())
        {
            self.consumer = None;
        }
        if let Some(consumer) = &mut self.consumer {
            let settings = around(step, &self.id).settings;
            consumer.loaded(step.now, settings.session_timeout);
            if let Some(at) = consumer.next_deadline() {
                step.wake(at);
            }
        }
    }

    pub(super) fn replay_consumer(&mut self, record: &ConsumerRecord) {
        // Blank for now or for good: that shows at the end of the log, whose records compaction has put in another order.
        self.consumer.get_or_insert_default().replay(record);
    }

    fn carry_out(&mut self, outcome: Outcome, step: &mut Step<'_>) {
        step.effects.replies.extend(outcome.replies);
        if let Some(write) = outcome.write {
            let assigns = |record: &ConsumerRecord| matches!(record, ConsumerRecord::TargetEpoch(Some(_)));
            step.effects.rebalances += u64::from(write.records.iter().any(assigns));
            let mut records = self.consumer_records(write.records);
            let then = match &write.dissolved {
                None => Then::Consumer,
                Some(dissolved) => {
                    let (record, then) = self.downgrade(dissolved, step);
                    records.push(record);
                    then
                }
            };
            self.write(records, write.answers, then, step);
        }
        for (request, waiter) in outcome.given_back {
            self.membership(request, waiter, step);
        }
        let Some(consumer) = &self.consumer else { return };
        if let Some(at) = consumer.next_deadline() {
            step.wake(at);
        }
        if consumer.state().is_blank() && !consumer.is_busy() {
            self.consumer = None;
        }
    }

    pub(super) fn consumer_records(&self, records: Vec<ConsumerRecord>) -> Vec<Record> {
        let of_group = |record| Record::Consumer {
            group: self.id.clone(),
            record,
        };
        records.into_iter().map(of_group).collect()
    }

    /// Makes way for a classic group, where there are no members; says whether it has.
    fn becomes_classic(&mut self, step: &mut Step<'_>) -> bool {
        if !self.is_consumer_empty() {
            return false;
        }
        if let Some(consumer) = self.consumer.take() {
            let records = self.consumer_records(consumer.state().tombstones());
            self.write(records, Vec::new(), Then::Nothing, step);
            self.since_ms = step.now.wall_ms;
        }
        true
    }

    /// Whether no member is, or is about to be, in a group whose coordinator assigns.
    pub(super) fn is_consumer_empty(&self) -> bool {
        self.consumer
            .as_ref()
            .is_none_or(|consumer| consumer.state().members.is_empty() && !consumer.is_busy())
    }

    /// That half couldn't be deleted, and is there still; but not beside members of the classic protocol that have come
    /// meanwhile: then the log is to forget it once more.
    pub(super) fn keep_consumer(&mut self, consumer: Option<Box<ConsumerGroup>>, step: &mut Step<'_>) {
        let Some(consumer) = consumer.filter(|_| self.consumer.is_none()) else {
            return;
        };
        if self.phase == Phase::Empty && self.members.is_empty() {
            self.consumer = Some(consumer);
        } else {
            let records = self.consumer_records(consumer.state().tombstones());
            self.write(records, Vec::new(), Then::Nothing, step);
        }
    }

    /// What makes the log forget the group's other half, and that half.
    pub(super) fn take_consumer(&mut self) -> (Vec<Record>, Option<Box<ConsumerGroup>>) {
        let consumer = self.consumer.take();
        let records = consumer
            .as_ref()
            .map_or_else(Vec::new, |consumer| consumer.state().tombstones());
        (self.consumer_records(records), consumer)
    }

    /// `None`: the group is a classic one, and judges by itself.
    pub(super) fn check_consumer_commit(
        &self,
        member: &MemberRef,
        knows_epochs: bool,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Option<Result<(), ErrorCode>> {
        let consumer = self.consumer.as_ref()?;
        let claim = Claim {
            member_id: &member.member_id,
            epoch: member.generation,
            knows_epochs,
        };
        let partitions = offsets.iter().map(|(at, value)| (value.topic_id, at.partition));
        Some(consumer.state().check_commit(claim, partitions))
    }

    /// # Errors
    /// Who asks isn't a member, or not in this epoch any more.
    pub(super) fn check_consumer_fetch(&self, asked: &FetchOffsets) -> Result<(), ErrorCode> {
        let Some(consumer) = &self.consumer else { return Ok(()) };
        consumer
            .state()
            .check_fetch(asked.member_id.as_deref(), asked.member_epoch)
    }

    /// The topics that members want whose assignor is here.
    pub(super) fn consumer_subscribed(&self) -> BTreeSet<String> {
        let consumer = self.consumer.iter();
        let topics = consumer.flat_map(|consumer| topics::subscribed(consumer.state()));
        topics.map(str::to_owned).collect()
    }

    /// # Errors
    /// It is a classic group.
    pub(super) fn describe_consumer(&self, step: &Step<'_>) -> Result<ConsumerDescription, DescribeError> {
        let consumer = self.consumer.as_ref().ok_or(DescribeError::OtherType)?;
        let state = consumer.state();
        let member = |(id, member): (&String, &std::sync::Arc<super::consumer::state::Member>)| ConsumerMember {
            member_id: id.clone(),
            epoch: member.current.epoch,
            subscription: member.subscription.clone(),
            // Who is giving a partition back answers for it until it has.
            assigned: held(&member.current),
            target: (*state.target_of(id)).clone(),
        };
        Ok(ConsumerDescription {
            state: state.name(),
            epoch: state.epoch,
            assignment_epoch: state.target_epoch,
            assignor: target::preferred(state).unwrap_or(step.limits.consumer.assignor).name(),
            members: state.members.iter().map(member).collect(),
        })
    }

    /// What a list of groups says of it: its state, and the type of its protocol.
    pub(super) fn consumer_summary(&self) -> Option<(&'static str, String)> {
        let consumer = self.consumer.as_ref()?;
        Some((consumer.state().name(), CONSUMER.to_owned()))
    }
}
