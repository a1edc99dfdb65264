//! A group that has members changes between the two protocols (KIP-848, `group.consumer.migration.policy`).
//!
//! Owns: what of one half of a group becomes which part of the other, as Apache Kafka 4.3 has it: all of it in one write, and
//! what is committed stays. Up: at once, and back if the write fails; who waits for a rebalance is told to join again. Down:
//! when the write is committed. What is asked meanwhile waits. Does not own: what either half does with its members.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::{ConsumerAssignment, ConsumerSubscription};
use tailwater_types::TopicId;

use super::consumer::classic;
use super::consumer::group::ConsumerGroup;
use super::consumer::heartbeat::{Around, Heartbeat, HeartbeatReply, Refusal, held};
use super::consumer::record::{
    ClassicMember, ConsumerRecord, CurrentAssignment, GroupEpoch, Subscription, TargetEpoch,
};
use super::consumer::state::{Dissolved, Draft, Partitions, State};
use super::consumer::topics;
use super::delete::CONSUMER;
use super::effects::{JoinReply, Membership, Record, Reply, Step, Then, Waiter};
use super::modern::around;
use super::record::from_ms;
use super::state::{Group, Member, Phase};

/// Assignors of which a member learns its partitions and nothing else. Kafka refuses to upgrade a group if there is anything else in
/// an assignment; but librdkafka's leader hands each member back what that has said of itself.
const HAND_ON_PARTITIONS_ONLY: [&str; 4] = ["cooperative-sticky", "range", "roundrobin", "sticky"];

/// Who replays a downgrade knows nothing of the rebalance that was to follow. In a generation that nobody is in, nor will have
/// been told of, everybody has to join again, and the leader's JoinGroup makes it.
const PAST_THE_NEXT: i32 = 2;

impl Group {
    /// A member of the new protocol joins a classic group: its coordinator assigns from now on.
    pub(super) fn upgrade(&mut self, request: Box<Heartbeat>, waiter: Waiter, step: &mut Step<'_>) {
        let around = around(step, &self.id);
        let instance = request.instance_id.as_ref();
        let takes_a_place = instance.is_some_and(|instance| self.static_members.contains_key(instance))
            || self.members.contains_key(&request.member_id);
        let (converted, mut records) = match self.to_consumer(&around, !takes_a_place) {
            Ok(converted) => converted,
            Err(refusal) => {
                let why = refusal.1.as_deref().unwrap_or_default();
                tracing::info!(group = %self.id, why, "a member of the new protocol is refused");
                let refused = HeartbeatReply::refused(refusal);
                return step.reply(waiter, Reply::ConsumerHeartbeat(Box::new(refused)));
            }
        };
        let mut consumer = ConsumerGroup::converted(converted, &around);
        let outcome = consumer.ask(Membership::ConsumerHeartbeat(request), waiter, &around);
        step.effects.replies.extend(outcome.replies);
        // It is refused, and so the group stays as it is.
        let Some(write) = outcome.write else { return };
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            let again = JoinReply::refused(id, ErrorCode::RebalanceInProgress);
            self.answer_join(id, again, step);
            self.answer_sync(id, ErrorCode::RebalanceInProgress, step);
        }
        if !ids.is_empty() {
            tracing::info!(group = %self.id, members = ids.len(), "classic group becomes one whose coordinator assigns");
        }
        let classic = self.exchange(Self::new(&self.id, step.now.wall_ms));
        self.consumer = Some(Box::new(consumer));
        records.extend(write.records);
        step.effects.rebalances += u64::from(records.iter().any(is_assignment));
        let mut all = self.tombstone_of(&classic);
        all.extend(self.consumer_records(records));
        self.write(all, write.answers, Then::Upgrade(Box::new(classic)), step);
    }

    /// The group's new kind couldn't be stored: it is what it was, with sessions that begin anew.
    pub(super) fn upgrade_failed(&mut self, classic: Self, step: &mut Step<'_>) {
        self.go_on_as(classic, false, step);
    }

    /// The members of the classic protocol are left: what is stored, and becomes of the group then.
    pub(super) fn downgrade(&mut self, dissolved: &Dissolved, step: &Step<'_>) -> (Record, Then) {
        let mut classic = self.to_classic(&dissolved.state, step);
        let known = classic.generation;
        if dissolved.rebalances {
            classic.generation += PAST_THE_NEXT;
        }
        let record = classic.to_record(&classic.assignments());
        classic.generation = known;
        let then = Then::Downgrade {
            classic: Box::new(classic),
            rebalances: dissolved.rebalances,
        };
        (record, then)
    }

    pub(super) fn downgraded(&mut self, classic: Self, rebalances: bool, step: &mut Step<'_>) {
        tracing::info!(group = %self.id, members = classic.members.len(), "group becomes a classic one");
        self.go_on_as(classic, rebalances, step);
    }

    fn go_on_as(&mut self, classic: Self, rebalances: bool, step: &mut Step<'_>) {
        let consumer = self.consumer.take();
        self.exchange(classic);
        self.members.values_mut().for_each(|member| member.touch(step));
        if rebalances {
            self.prepare_rebalance(step);
        }
        if let Some(at) = self.next_deadline() {
            step.wake(at);
        }
        for (request, waiter) in consumer.map(|consumer| consumer.into_waiting()).unwrap_or_default() {
            self.membership(request, waiter, step);
        }
    }

    /// Makes the group's members and their state those of another one, and gives what they were. What is committed, and what is
    /// on its way, stays.
    fn exchange(&mut self, mut other: Self) -> Self {
        std::mem::swap(&mut self.offsets, &mut other.offsets);
        std::mem::swap(&mut self.pending, &mut other.pending);
        std::mem::swap(&mut self.in_flight, &mut other.in_flight);
        std::mem::swap(&mut self.next_write, &mut other.next_write);
        std::mem::swap(&mut self.stable_fetches, &mut other.stable_fetches);
        std::mem::swap(&mut self.of_gone_topics, &mut other.of_gone_topics);
        std::mem::replace(self, other)
    }

    fn tombstone_of(&self, classic: &Self) -> Vec<Record> {
        let tombstone = Record::Group {
            group: self.id.clone(),
            value: None,
        };
        Vec::from_iter(classic.is_stored.then_some(tombstone))
    }

    /// This group as one whose coordinator assigns, and the records that make it; of an empty one nothing is left. `brings_a_member`:
    /// whether the member that joins is a new one, and takes no other's place.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND, in words that say why.
    fn to_consumer(
        &self,
        around: &Around<'_>,
        brings_a_member: bool,
    ) -> Result<(Arc<State>, Vec<ConsumerRecord>), Refusal> {
        let mut draft = Draft::new(Arc::default());
        if self.phase == Phase::Empty {
            return Ok((draft.into_state(), Vec::new()));
        }
        let refuse = |why: &str| {
            let what = format!("Group {} is a classic group that can't be upgraded: {why}.", self.id);
            (ErrorCode::GroupIdNotFound, Some(what))
        };
        if !around.settings.migration.upgrades() {
            return Err(refuse("that is disabled"));
        }
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return Err(refuse("its members are no consumers"));
        }
        if self.members.len() > around.settings.max_size {
            return Err(refuse("it has too many members"));
        }
        let malformed = |_unreadable| refuse("what a member says can't be read");
        let protocol = self.protocol_name.clone().or_else(|| self.select_protocol());
        let mut assigned = Vec::with_capacity(self.members.len());
        let mut owned = Vec::with_capacity(self.members.len());
        for (id, member) in &self.members {
            let said =
                ConsumerSubscription::decode_any(&member.subscription(protocol.as_deref())).map_err(malformed)?;
            let assignment = match member.assignment.is_empty() {
                true => ConsumerAssignment::default(),
                false => ConsumerAssignment::decode_any(&member.assignment).map_err(malformed)?,
            };
            if assignment.user_data.is_some_and(|data| !data.is_empty())
                && !hands_on_partitions_only(protocol.as_deref())
            {
                return Err(refuse("its assignor hands on more than partitions"));
            }
            assigned.push(classic::to_partitions(&assignment.assigned_partitions, around.topics));
            owned.push(classic::to_partitions(&said.owned_partitions, around.topics));
            let wants = subscription_of(member, said);
            draft.put(ConsumerRecord::Member(id.clone(), Some(wants)));
        }
        let hash = topics::refresh(&mut draft, around.topics, around.now);
        let epoch = self.generation;
        draft.put(ConsumerRecord::Epoch(Some(GroupEpoch {
            // Not everybody has a part if there was, or was to be, a rebalance: another assignment is due. A new member makes it so.
            epoch: epoch + i32::from(!brings_a_member),
            metadata_hash: hash.unwrap_or_default(),
        })));
        for (id, assigned) in self.members.keys().zip(&assigned) {
            draft.put(ConsumerRecord::TargetMember(id.clone(), Some(assigned.clone())));
        }
        // No time: the next assignment is due.
        draft.put(ConsumerRecord::TargetEpoch(Some(TargetEpoch { epoch, at_ms: 0 })));
        let has = not_given_back(assigned, owned);
        for (id, has) in self.members.keys().zip(has) {
            let current = CurrentAssignment {
                epoch,
                previous_epoch: epoch,
                assigned: has
                    .into_iter()
                    .map(|(topic, partitions)| (topic, partitions.into_iter().map(|at| (at, epoch)).collect()))
                    .collect(),
                ..CurrentAssignment::default()
            };
            draft.put(ConsumerRecord::Current(id.clone(), Some(current)));
        }
        let records = std::mem::take(&mut draft.records);
        Ok((draft.into_state(), records))
    }

    /// These members, all of the classic protocol, as a stable classic group: assigned is what they have. With Kafka it is what
    /// they shall have, which others may have still; the two differ only where a rebalance follows.
    fn to_classic(&self, state: &State, step: &Step<'_>) -> Self {
        let mut group = Self::new(&self.id, step.now.wall_ms);
        group.generation = state.epoch;
        group.protocol_type = Some(CONSUMER.to_owned());
        group.phase = Phase::Stable;
        group.is_stored = true;
        for (id, member) in &state.members {
            let wants = &member.subscription;
            let Some(of_classic) = &wants.classic else { continue };
            let classic = Member::new(
                wants.instance_id.clone(),
                wants.client_id.clone(),
                wants.client_host.clone(),
                from_ms(of_classic.session_timeout_ms),
                from_ms(wants.rebalance_timeout_ms),
                of_classic.protocols.clone(),
            );
            group.insert(id.clone(), classic);
        }
        group.protocol_name = group.select_protocol();
        let protocol = group.protocol_name.clone();
        for (id, member) in &mut group.members {
            let version = ConsumerSubscription::version_of(&member.metadata(protocol.as_deref()));
            let has = state
                .members
                .get(id)
                .map(|member| held(&member.current))
                .unwrap_or_default();
            member.assignment = classic::assignment(&has, version, step.topics);
        }
        group
    }
}

fn hands_on_partitions_only(assignor: Option<&str>) -> bool {
    assignor.is_some_and(|name| HAND_ON_PARTITIONS_ONLY.contains(&name))
}

fn is_assignment(record: &ConsumerRecord) -> bool {
    matches!(record, ConsumerRecord::TargetEpoch(Some(_)))
}

fn subscription_of(member: &Member, said: ConsumerSubscription) -> Subscription {
    let ms = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    Subscription {
        instance_id: member.instance_id.clone(),
        rack_id: said.rack_id.map(String::from),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: said.topics.into_iter().map(String::from).collect(),
        regex: None,
        rebalance_timeout_ms: ms(member.rebalance_timeout),
        assignor: None,
        classic: Some(ClassicMember {
            session_timeout_ms: ms(member.session_timeout),
            protocols: member.protocols.clone(),
        }),
    }
}

/// What each member has: what it was assigned, and, beyond what Kafka counts, what it said that it had when it joined and nobody
/// was assigned since. A cooperative member gives that back only when it has seen its assignment; an eager one says that it
/// has nothing.
fn not_given_back(mut assigned: Vec<Partitions>, owned: Vec<Partitions>) -> Vec<Partitions> {
    let mut taken: BTreeSet<(TopicId, i32)> = assigned.iter().flat_map(each).collect();
    for (has, owned) in assigned.iter_mut().zip(&owned) {
        for (topic, partition) in each(owned) {
            if taken.insert((topic, partition)) {
                has.entry(topic).or_default().insert(partition);
            }
        }
    }
    assigned
}

fn each(partitions: &Partitions) -> impl Iterator<Item = (TopicId, i32)> {
    let topics = partitions.iter();
    topics.flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
}
