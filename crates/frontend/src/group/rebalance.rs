//! How a generation ends and the next one comes to be.
//!
//! Owns: preparing, completing, SyncGroup, Heartbeat, and what runs out meanwhile, as Apache Kafka 4.3's classic groups
//! have them. Does not own: who is a member (`membership.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::ErrorCode;

use super::effects::{MemberRef, Reply, Step, Sync, SyncReply, Then, Waiter};
use super::state::{Group, InitialDelay, Phase};

impl Group {
    pub(super) fn rebalance_or_complete(&mut self, step: &mut Step<'_>) {
        match self.phase {
            Phase::PreparingRebalance { .. } => self.complete_if_all_joined(step),
            _ => self.prepare_rebalance(step),
        }
    }

    /// Asks everybody to join again. A group that was empty waits for more members to come first.
    pub(super) fn prepare_rebalance(&mut self, step: &mut Step<'_>) {
        if self.phase == Phase::CompletingRebalance {
            self.assign(&BTreeMap::new(), ErrorCode::RebalanceInProgress, step);
        }
        self.pending_sync.clear();
        self.sync_by = None;
        let initial = (self.phase == Phase::Empty).then(|| {
            let delay = step.limits.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            InitialDelay {
                delay,
                remaining,
                member_added: false,
            }
        });
        let wait = initial.map_or_else(|| self.rebalance_timeout(), |initial| initial.delay);
        let join_by = step.deadline(wait);
        self.enter(Phase::PreparingRebalance { join_by, initial }, step.now.wall_ms);
        tracing::debug!(group = %self.id, generation = self.generation, "preparing to rebalance");
        if initial.is_none() && self.have_all_joined() {
            self.complete_join(step);
        }
    }

    /// A group that was empty goes on only when its delay has passed.
    pub(super) fn complete_if_all_joined(&mut self, step: &mut Step<'_>) {
        if matches!(self.phase, Phase::PreparingRebalance { initial: None, .. }) && self.have_all_joined() {
            self.complete_join(step);
        }
    }

    /// Ends the wait: who hasn't joined is out, except static members. The next generation begins, or nobody is left.
    pub(super) fn complete_join(&mut self, step: &mut Step<'_>) {
        let is_late = |member: &super::state::Member| member.instance_id.is_none() && !member.is_awaiting_join();
        let late = self.members.iter().filter(|(_, member)| is_late(member));
        let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
        for id in late {
            tracing::info!(group = %self.id, member = %id, "member lost: it didn't join the rebalance in time");
            self.remove(&id, ErrorCode::UnknownMemberId, step);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members, none of which has come back: their sessions decide.
            let wait = self.rebalance_timeout();
            if let Phase::PreparingRebalance { join_by, .. } = &mut self.phase {
                *join_by = step.deadline(wait);
            }
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.enter(Phase::Empty, step.now.wall_ms);
            tracing::info!(group = %self.id, generation = self.generation, "group is empty");
            self.store(&BTreeMap::new(), Then::Nothing, step);
        } else {
            self.protocol_name = self.select_protocol();
            self.enter(Phase::CompletingRebalance, step.now.wall_ms);
            self.announce_generation(step);
        }
    }

    fn announce_generation(&mut self, step: &mut Step<'_>) {
        tracing::info!(
            group = %self.id, generation = self.generation, members = self.members.len(),
            "new generation"
        );
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            let reply = self.joined(id);
            self.answer_join(id, reply, step);
            if let Some(member) = self.members.get_mut(id) {
                member.touch(step);
                member.is_new = false;
            }
        }
        self.pending_sync = ids.into_iter().collect();
        self.sync_by = Some(step.deadline(self.rebalance_timeout()));
    }

    /// Whether a member that has joined leads; where the old leader hasn't come back, the first one that has.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &String| self.members.get(id).is_some_and(|member| member.is_awaiting_join());
        match &self.leader {
            None => false,
            Some(leader) if has_joined(leader) => true,
            Some(_) => {
                let joined = self.members.keys().find(|id| has_joined(id)).cloned();
                let found = joined.is_some();
                self.leader = joined.or_else(|| self.leader.take());
                found
            }
        }
    }

    pub(super) fn sync(&mut self, sync: Sync, waiter: Waiter, step: &mut Step<'_>) {
        if let Err(error) = self.check_sync(&sync) {
            return step.reply(waiter, Reply::Sync(SyncReply::refused(error)));
        }
        let id = &sync.member.member_id;
        match self.phase {
            Phase::PreparingRebalance { .. } => {
                step.reply(waiter, Reply::Sync(SyncReply::refused(ErrorCode::RebalanceInProgress)));
            }
            Phase::CompletingRebalance => {
                self.await_sync(id, waiter, step);
                if self.is_leader(id) {
                    self.store_assignment(sync.assignments, step);
                }
            }
            Phase::Stable => {
                self.synced(id);
                step.reply(waiter, Reply::Sync(self.assignment_of(id)));
            }
            Phase::Empty => {
                step.reply(waiter, Reply::Sync(SyncReply::refused(ErrorCode::UnknownMemberId)));
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.check_member(&sync.member.member_id, sync.member.instance_id.as_deref())?;
        if sync.member.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        // Who has to join again needn't know which protocol it was; a client would end of hearing that it is another.
        if matches!(self.phase, Phase::PreparingRebalance { .. }) {
            return Ok(());
        }
        let differ = |said: &Option<String>, is: &Option<String>| said.is_some() && is.is_some() && said != is;
        if differ(&sync.protocol_type, &self.protocol_type) || differ(&sync.protocol_name, &self.protocol_name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn await_sync(&mut self, id: &str, waiter: Waiter, step: &mut Step<'_>) {
        self.synced(id);
        let member = self.members.get_mut(id).expect("checked to be a member");
        if let Some(older) = member.sync_waiter.replace(waiter) {
            step.reply(older, Reply::Sync(SyncReply::refused(ErrorCode::RebalanceInProgress)));
        }
    }

    fn synced(&mut self, id: &str) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_by = None;
        }
    }

    fn store_assignment(&mut self, mut assignments: BTreeMap<String, Bytes>, step: &mut Step<'_>) {
        assignments.retain(|id, _| self.members.contains_key(id));
        let then = Then::Assign {
            generation: self.generation,
            assignments: assignments.clone(),
        };
        self.store(&assignments, then, step);
    }

    /// The leader's assignment is stored, or can't be. If another rebalance has begun since then, it means nothing.
    pub(super) fn assigned(
        &mut self,
        generation: i32,
        assignments: &BTreeMap<String, Bytes>,
        result: Result<(), ErrorCode>,
        step: &mut Step<'_>,
    ) {
        if self.phase != Phase::CompletingRebalance || self.generation != generation {
            return;
        }
        match result {
            Ok(()) => {
                self.enter(Phase::Stable, step.now.wall_ms);
                self.assign(assignments, ErrorCode::None, step);
                step.effects.rebalances += 1;
            }
            Err(error) => {
                self.assign(&BTreeMap::new(), error, step);
                self.prepare_rebalance(step);
            }
        }
    }

    /// Gives everybody their part, and tells those who wait for it.
    fn assign(&mut self, assignments: &BTreeMap<String, Bytes>, error: ErrorCode, step: &mut Step<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            if let Some(member) = self.members.get_mut(id) {
                member.assignment = assignments.get(id).cloned().unwrap_or_default();
            }
            self.answer_sync(id, error, step);
        }
    }

    /// Answers a member's SyncGroup, if one waits, with its assignment or an error. Its session begins again: while it
    /// waited it couldn't keep it.
    pub(super) fn answer_sync(&mut self, id: &str, error: ErrorCode, step: &mut Step<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let Some(waiter) = member.sync_waiter.take() else {
            return;
        };
        member.touch(step);
        let reply = match error {
            ErrorCode::None => self.assignment_of(id),
            error => SyncReply::refused(error),
        };
        step.reply(waiter, Reply::Sync(reply));
    }

    fn assignment_of(&self, id: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    pub(super) fn heartbeat(&mut self, member: &MemberRef, step: &mut Step<'_>) -> ErrorCode {
        if let Err(error) = self.check_member(&member.member_id, member.instance_id.as_deref()) {
            return error;
        }
        if member.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        if let Some(member) = self.members.get_mut(&member.member_id) {
            member.touch(step);
        }
        match self.phase {
            Phase::PreparingRebalance { .. } => ErrorCode::RebalanceInProgress,
            Phase::CompletingRebalance | Phase::Stable => ErrorCode::None,
            Phase::Empty => ErrorCode::UnknownMemberId,
        }
    }

    /// Carries out what has run out by now, and asks to be woken for the next.
    pub(super) fn tick(&mut self, step: &mut Step<'_>) {
        self.consumer_tick(step);
        self.expire_members(step);
        self.expire_join(step);
        self.expire_sync(step);
        if let Some(at) = self.next_deadline() {
            step.wake(at);
        }
    }

    fn expire_join(&mut self, step: &mut Step<'_>) {
        let Phase::PreparingRebalance { join_by, initial } = &mut self.phase else {
            return;
        };
        if *join_by > step.now.at {
            return;
        }
        match initial {
            Some(InitialDelay {
                delay,
                remaining,
                member_added,
            }) if *member_added && *remaining > Duration::ZERO => {
                *member_added = false;
                let next = step.limits.initial_rebalance_delay.min(*remaining);
                *remaining = remaining.saturating_sub(*delay);
                *delay = next;
                *join_by = step.deadline(next);
            }
            _ => self.complete_join(step),
        }
    }

    /// Members that didn't come for their assignment are out.
    fn expire_sync(&mut self, step: &mut Step<'_>) {
        if self.sync_by.is_none_or(|at| at > step.now.at) {
            return;
        }
        self.sync_by = None;
        // Who was waited for may have got a new id since then.
        if self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            tracing::info!(group = %self.id, member = %id, "member lost: it didn't ask for its assignment in time");
            self.remove(&id, ErrorCode::UnknownMemberId, step);
        }
        self.prepare_rebalance(step);
    }
}
