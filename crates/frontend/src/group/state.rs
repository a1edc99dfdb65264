//! One consumer group's state: who is in it, under which generation, and what it has committed.
//!
//! Owns: the data, and the small changes that keep its counts right. Does not own: what happens when (`membership.rs`,
//! `rebalance.rs`, `offsets.rs`, after Apache Kafka 4.3's classic groups), I/O, time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::ErrorCode;
use tailwater_runtime::clock::Instant;

use super::consumer::group::ConsumerGroup;
use super::effects::{
    CommittedOffset, FetchOffsets, GroupMetadata, JoinReply, JoinedMember, MemberMetadata, Protocol, Record, Reply,
    Step, SyncReply, Then, TopicPartition, Waiter, Write,
};
use super::pending::PendingOffsets;

/// Committed offsets by topic and partition.
pub type Offsets = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

/// A group that is not in its shard's map is what Kafka calls dead.
#[derive(Debug)]
pub struct Group {
    pub(super) id: String,
    pub(super) phase: Phase,
    /// When it came into this phase.
    pub(super) since_ms: i64,
    pub(super) generation: i32,
    /// Of the members; stays when the last one leaves. `None`: nobody was ever a member, offsets are all there is.
    pub(super) protocol_type: Option<String>,
    /// Chosen for the generation; `None` without members.
    pub(super) protocol_name: Option<String>,
    pub(super) leader: Option<String>,
    /// By member id.
    pub(super) members: BTreeMap<String, Member>,
    /// Instance id → member id, of members that have one (KIP-345).
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids given out to members that haven't come back with them yet, and when they are forgotten.
    pub(super) pending_join: BTreeMap<String, Instant>,
    /// Members that haven't asked for their assignment in this generation, and how long they may take.
    pub(super) pending_sync: BTreeSet<String>,
    pub(super) sync_by: Option<Instant>,
    /// How many members support each protocol.
    supported: BTreeMap<String, usize>,
    /// How many members have a JoinGroup waiting.
    awaiting_join: usize,
    /// Where the coordinator assigns: then `members` are none, and the phase is empty.
    pub(super) consumer: Option<Box<ConsumerGroup>>,
    pub(super) offsets: Offsets,
    /// What open transactions would commit.
    pub(super) pending: PendingOffsets,
    /// Writes whose outcome isn't known yet, by number, with the partitions whose offsets they store.
    pub(super) in_flight: BTreeMap<u64, Vec<TopicPartition>>,
    /// The number of the next write.
    pub(super) next_write: u64,
    /// Questions for offsets that wait for the outcome of all writes below a number.
    pub(super) stable_fetches: VecDeque<(u64, FetchOffsets, Waiter)>,
    /// Offsets whose topic wasn't there when the group was last looked at for what has expired.
    pub(super) of_gone_topics: BTreeSet<TopicPartition>,
    /// Whether the log has a metadata record of this group.
    pub(super) is_stored: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Empty,
    /// Members are asked to join again; until `join_by`, or until all have.
    PreparingRebalance {
        join_by: Instant,
        initial: Option<InitialDelay>,
    },
    /// The generation stands; its leader is asked for the assignment.
    CompletingRebalance,
    Stable,
}

/// A group that was empty waits for more members to come (`group.initial.rebalance.delay.ms`): the delay begins again
/// with each that does, until the rebalance timeout is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialDelay {
    pub delay: Duration,
    pub remaining: Duration,
    pub member_added: bool,
}

#[derive(Debug)]
pub struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// Has never been in a generation, so it has no session to keep: a JoinGroup that waits doesn't either.
    pub(super) is_new: bool,
    join_waiter: Option<Waiter>,
    pub(super) sync_waiter: Option<Waiter>,
    /// When its session ends; `None` once that has been passed over because it waited for an answer.
    pub(super) expires_at: Option<Instant>,
}

impl Member {
    pub(super) fn new(
        instance_id: Option<String>,
        client_id: String,
        client_host: String,
        session_timeout: Duration,
        rebalance_timeout: Duration,
        protocols: Vec<Protocol>,
    ) -> Self {
        Self {
            instance_id,
            client_id,
            client_host,
            session_timeout,
            rebalance_timeout,
            protocols,
            assignment: Bytes::new(),
            is_new: false,
            join_waiter: None,
            sync_waiter: None,
            expires_at: None,
        }
    }

    pub(super) fn is_awaiting_join(&self) -> bool {
        self.join_waiter.is_some()
    }

    pub(super) fn join_waiter(&self) -> Option<Waiter> {
        self.join_waiter
    }

    /// A member that waits for an answer from here can't send heartbeats.
    pub(super) fn keeps_its_session_by_waiting(&self) -> bool {
        !self.is_new && (self.join_waiter.is_some() || self.sync_waiter.is_some())
    }

    pub(super) fn touch(&mut self, step: &mut Step<'_>) {
        self.expires_at = Some(step.deadline(self.session_timeout));
    }

    /// What it says of itself under `protocol`, or under any if it hasn't got that one any more.
    pub(super) fn subscription(&self, protocol: Option<&str>) -> Bytes {
        let named = self.protocols.iter().find(|p| Some(p.name.as_str()) == protocol);
        let any = named.or(self.protocols.first());
        any.map(|p| p.metadata.clone()).unwrap_or_default()
    }

    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let named = self.protocols.iter().find(|p| Some(p.name.as_str()) == protocol);
        named.map(|p| p.metadata.clone()).unwrap_or_default()
    }
}

impl Group {
    pub(super) fn new(id: &str, since_ms: i64) -> Self {
        Self {
            id: id.to_owned(),
            phase: Phase::Empty,
            since_ms,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            sync_by: None,
            supported: BTreeMap::new(),
            awaiting_join: 0,
            consumer: None,
            offsets: BTreeMap::new(),
            pending: PendingOffsets::default(),
            in_flight: BTreeMap::new(),
            next_write: 0,
            stable_fetches: VecDeque::new(),
            of_gone_topics: BTreeSet::new(),
            is_stored: false,
        }
    }

    /// Becomes what the log says; offsets stay, and of a member that is named twice the first entry counts. Sessions begin
    /// with [`Group::loaded`].
    pub(super) fn restore(&mut self, stored: GroupMetadata) {
        self.restore_nothing(stored.since_ms);
        self.consumer = None;
        self.is_stored = true;
        self.generation = stored.generation;
        self.phase = match stored.members.is_empty() {
            true => Phase::Empty,
            false => Phase::Stable,
        };
        self.protocol_type = (!stored.protocol_type.is_empty()).then_some(stored.protocol_type);
        for member in stored.members {
            if self.members.contains_key(&member.member_id) {
                continue;
            }
            let name = stored.protocol_name.clone().unwrap_or_default();
            let protocol = Protocol {
                name,
                metadata: member.subscription,
            };
            let mut restored = Member::new(
                member.instance_id,
                member.client_id,
                member.client_host,
                member.session_timeout,
                member.rebalance_timeout,
                vec![protocol],
            );
            restored.assignment = member.assignment;
            self.insert(member.member_id, restored);
        }
        self.protocol_name = stored.protocol_name;
        // Otherwise the first one leads: without a leader no generation would ever come to be.
        if let Some(leader) = stored.leader.filter(|leader| self.members.contains_key(leader)) {
            self.leader = Some(leader);
        }
    }

    /// Becomes a group without members, of which the log says nothing but its offsets.
    pub(super) fn restore_nothing(&mut self, since_ms: i64) {
        let (offsets, pending) = (std::mem::take(&mut self.offsets), std::mem::take(&mut self.pending));
        let consumer = self.consumer.take();
        *self = Self::new(&self.id, since_ms);
        (self.offsets, self.pending, self.consumer) = (offsets, pending, consumer);
    }

    /// Begins the sessions of a group that was read from the log. One that has more members than it may rebalances: who
    /// comes last is refused then, and before that everybody can commit.
    pub(super) fn loaded(&mut self, step: &mut Step<'_>) {
        self.consumer_loaded(step);
        for member in self.members.values_mut() {
            member.touch(step);
        }
        if self.members.len() > step.limits.max_size {
            tracing::info!(group = %self.id, members = self.members.len(), "group is larger than group.max.size");
            self.prepare_rebalance(step);
        }
    }

    /// The record that says what this group is now, with these assignments.
    pub(super) fn to_record(&self, assignments: &BTreeMap<String, Bytes>) -> Record {
        let value = GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: self.member_metadata(self.protocol_name.as_deref(), assignments),
        };
        Record::Group {
            group: self.id.clone(),
            value: Some(value),
        }
    }

    /// The members with what they say under `protocol` and with these assignments.
    pub(super) fn member_metadata(
        &self,
        protocol: Option<&str>,
        assignments: &BTreeMap<String, Bytes>,
    ) -> Vec<MemberMetadata> {
        let shown = |(id, member): (&String, &Member)| MemberMetadata {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout,
            session_timeout: member.session_timeout,
            subscription: member.metadata(protocol),
            assignment: assignments.get(id).cloned().unwrap_or_default(),
        };
        self.members.iter().map(shown).collect()
    }

    /// The log says nothing of it any more. What is committed to it from now on, or is on its way, is a new group's: nobody
    /// was ever a member of it, unless somebody joined meanwhile.
    pub(super) fn forgotten(&mut self, now_ms: i64) {
        if self.phase != Phase::Empty || !self.members.is_empty() || self.is_stored || self.consumer.is_some() {
            return;
        }
        (self.protocol_type, self.protocol_name, self.leader) = (None, None, None);
        (self.generation, self.since_ms) = (0, now_ms);
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_forgettable(&self) -> bool {
        self.phase == Phase::Empty
            && self.members.is_empty()
            && self.pending_join.is_empty()
            && self.offsets.is_empty()
            && self.pending.is_empty()
            && self.in_flight.is_empty()
            && self.consumer.is_none()
            && !self.is_stored
    }

    pub(super) fn enter(&mut self, phase: Phase, now_ms: i64) {
        self.phase = phase;
        self.since_ms = now_ms;
    }

    /// Sends records on their way, and `then` behind them.
    pub(super) fn write(
        &mut self,
        records: Vec<Record>,
        answers: Vec<(Waiter, Reply)>,
        then: Then,
        step: &mut Step<'_>,
    ) {
        let number = self.next_write;
        self.next_write += 1;
        let stored = match &then {
            Then::StoreOffsets(offsets) | Then::KeepPending(_, offsets) => {
                offsets.iter().map(|(at, _)| at.clone()).collect()
            }
            _ => Vec::new(),
        };
        self.in_flight.insert(number, stored);
        step.effects.writes.push(Write {
            group: self.id.clone(),
            number,
            records,
            answers,
            then,
        });
    }

    /// Adds a member; the first one leads.
    pub(super) fn insert(&mut self, id: String, member: Member) {
        self.pending_join.remove(&id);
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.count_protocols(&member.protocols, 1);
        self.awaiting_join += usize::from(member.is_awaiting_join());
        self.leader.get_or_insert_with(|| id.clone());
        let previous = self.members.insert(id, member);
        assert!(previous.is_none(), "a member is added once");
    }

    /// Takes a member out, answering what it waits for with `error`. Where it led, another member does.
    pub(super) fn remove(&mut self, id: &str, error: ErrorCode, step: &mut Step<'_>) {
        self.pending_join.remove(id);
        self.pending_sync.remove(id);
        if let Some(member) = self.detach(id) {
            if let Some(waiter) = member.join_waiter {
                step.reply(waiter, Reply::Join(JoinReply::refused("", error)));
            }
            if let Some(waiter) = member.sync_waiter {
                step.reply(waiter, Reply::Sync(SyncReply::refused(error)));
            }
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Gives a member another id; the leader goes on leading.
    pub(super) fn rename(&mut self, old_id: &str, new_id: &str) {
        let was_leader = self.leader.as_deref() == Some(old_id);
        if let Some(member) = self.detach(old_id) {
            self.insert(new_id.to_owned(), member);
        }
        self.pending_sync.remove(old_id);
        if was_leader {
            self.leader = Some(new_id.to_owned());
        }
    }

    fn detach(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.count_protocols(&member.protocols, -1);
        self.awaiting_join -= usize::from(member.is_awaiting_join());
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        Some(member)
    }

    /// Lets a member wait for the end of the rebalance. An older request of it is told to come again: nobody reads that.
    pub(super) fn await_join(&mut self, id: &str, waiter: Waiter, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match member.join_waiter.replace(waiter) {
            None => self.awaiting_join += 1,
            Some(older) => {
                let again = JoinReply::refused(id, ErrorCode::RebalanceInProgress);
                step.reply(older, Reply::Join(again));
            }
        }
    }

    /// Answers a member's JoinGroup, if one waits.
    pub(super) fn answer_join(&mut self, id: &str, reply: JoinReply, step: &mut Step<'_>) {
        let waiter = self.members.get_mut(id).and_then(|member| member.join_waiter.take());
        if let Some(waiter) = waiter {
            self.awaiting_join -= 1;
            step.reply(waiter, Reply::Join(reply));
        }
    }

    pub(super) fn set_protocols(&mut self, id: &str, protocols: Vec<Protocol>) -> Vec<Protocol> {
        self.count_protocols(&protocols, 1);
        let member = self.members.get_mut(id).expect("only called for a member of the group");
        let old = std::mem::replace(&mut member.protocols, protocols);
        self.count_protocols(&old, -1);
        old
    }

    fn count_protocols(&mut self, protocols: &[Protocol], change: isize) {
        for protocol in protocols {
            let count = self.supported.entry(protocol.name.clone()).or_default();
            *count = count.strict_add_signed(change);
            if *count == 0 {
                self.supported.remove(&protocol.name);
            }
        }
    }

    fn is_supported_by_all(&self, name: &str) -> bool {
        self.supported.get(name).copied().unwrap_or(0) == self.members.len()
    }

    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.is_supported_by_all(&p.name))
    }

    /// The protocol that most members prefer among those that all support; the first by name of several.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|p| self.is_supported_by_all(&p.name));
            if let Some(protocol) = vote {
                *votes.entry(&protocol.name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let mut winners = votes.into_iter().filter(|(_, count)| *count == most);
        winners.next().map(|(name, _)| name.to_owned())
    }

    pub(super) fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    pub(super) fn have_all_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_join.is_empty()
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// The longest that any member wants to be waited for.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.rebalance_timeout);
        timeouts.max().unwrap_or(Duration::ZERO)
    }

    /// What tells a member its place in the generation as it stands; the leader also learns who else is there.
    pub(super) fn joined(&self, id: &str) -> JoinReply {
        JoinReply {
            error: ErrorCode::None,
            member_id: id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: match self.is_leader(id) {
                true => self.joined_members(),
                false => Vec::new(),
            },
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref();
        let joined = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.iter().map(joined).collect()
    }

    /// Whether the member is who it says.
    pub(super) fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// The earliest thing that can run out.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter_map(|member| member.expires_at);
        let pending = self.pending_join.values().copied();
        let join_by = match self.phase {
            Phase::PreparingRebalance { join_by, .. } => Some(join_by),
            _ => None,
        };
        sessions.chain(pending).chain(join_by).chain(self.sync_by).min()
    }
}
