//! How members come, come back, leave, and are lost.
//!
//! Owns: JoinGroup, LeaveGroup and the end of sessions, as Apache Kafka 4.3's classic groups have them (KIP-345 static
//! members, KIP-394 known member ids, KIP-814 skipped assignments). Does not own: what a rebalance does (`rebalance.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::ErrorCode;

use super::effects::{Join, JoinReply, LeaveReply, Leaving, Replaced, Reply, Step, Then, Waiter};
use super::state::{Group, Member, Phase};

/// A new member's JoinGroup waits this long at most: it has no session yet, and its client may be gone.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Ids of one group that are handed out to members which haven't come back with them yet.
pub(super) const MAX_PENDING_JOINS: usize = 10_000;

impl Group {
    pub(super) fn join(&mut self, join: Join, waiter: Waiter, step: &mut Step<'_>) {
        if !self.has_room_for(&join.member_id, step.limits.max_size) {
            self.remove(&join.member_id, ErrorCode::UnknownMemberId, step);
            return refuse(waiter, "", ErrorCode::GroupMaxSizeReached, step);
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            let error = ErrorCode::InconsistentGroupProtocol;
            return refuse(waiter, &join.member_id, error, step);
        }
        match join.member_id.is_empty() {
            true => self.join_new(join, waiter, step),
            false => self.join_known(join, waiter, step),
        }
    }

    /// During a rebalance those who wait count, so that the last to come back are the ones too many.
    fn has_room_for(&self, member_id: &str, max_size: usize) -> bool {
        let member = self.members.get(member_id);
        match self.phase {
            Phase::Empty => true,
            Phase::PreparingRebalance { .. } => {
                member.is_some_and(Member::is_awaiting_join) || self.awaiting_join() < max_size
            }
            Phase::CompletingRebalance | Phase::Stable => member.is_some() || self.members.len() < max_size,
        }
    }

    fn join_new(&mut self, mut join: Join, waiter: Waiter, step: &mut Step<'_>) {
        let id = std::mem::take(&mut join.new_member_id);
        let held_by = join
            .instance_id
            .as_ref()
            .and_then(|instance| self.static_members.get(instance));
        if let Some(old_id) = held_by.cloned() {
            self.replace_static(join, &old_id, id, waiter, step);
        } else if join.instance_id.is_none() && join.requires_known_member_id {
            self.forget_oldest_pending();
            let expires_at = step.deadline(join.session_timeout);
            refuse(waiter, &id, ErrorCode::MemberIdRequired, step);
            self.pending_join.insert(id, expires_at);
        } else {
            self.add_member(join, id, waiter, step);
        }
    }

    /// Makes room for one more id, so that clients that never come back don't keep out one that would.
    fn forget_oldest_pending(&mut self) {
        if self.pending_join.len() >= MAX_PENDING_JOINS
            && let Some((id, _)) = self.pending_join.iter().min_by_key(|(_, expires_at)| **expires_at)
        {
            let id = id.clone();
            self.pending_join.remove(&id);
        }
    }

    fn join_known(&mut self, mut join: Join, waiter: Waiter, step: &mut Step<'_>) {
        let id = std::mem::take(&mut join.member_id);
        if join.instance_id.is_none() && self.pending_join.contains_key(&id) {
            return self.add_member(join, id, waiter, step);
        }
        if let Err(error) = self.check_member(&id, join.instance_id.as_deref()) {
            return refuse(waiter, &id, error, step);
        }
        let unchanged = self.members[&id].protocols == join.protocols;
        match self.phase {
            Phase::PreparingRebalance { .. } => self.update_member(&id, join, waiter, step),
            // It may have missed the answer to its last JoinGroup, and is told the same again.
            Phase::CompletingRebalance if unchanged => {
                step.reply(waiter, Reply::Join(self.joined(&id)));
            }
            Phase::CompletingRebalance => self.update_member(&id, join, waiter, step),
            // A leader that joins again has seen something that isn't in its metadata: new partitions, say.
            Phase::Stable if !unchanged || self.is_leader(&id) => {
                self.update_member(&id, join, waiter, step);
            }
            Phase::Stable => {
                step.reply(waiter, Reply::Join(self.joined(&id)));
            }
            Phase::Empty => refuse(waiter, &id, ErrorCode::UnknownMemberId, step),
        }
    }

    fn add_member(&mut self, join: Join, id: String, waiter: Waiter, step: &mut Step<'_>) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        let mut member = Member::new(
            join.instance_id,
            join.client_id,
            join.client_host,
            join.session_timeout,
            join.rebalance_timeout,
            join.protocols,
        );
        member.is_new = true;
        member.expires_at = Some(step.deadline(NEW_MEMBER_JOIN_TIMEOUT));
        if let Phase::PreparingRebalance {
            initial: Some(initial), ..
        } = &mut self.phase
        {
            initial.member_added = true;
        }
        self.insert(id.clone(), member);
        self.await_join(&id, waiter, step);
        self.rebalance_or_complete(step);
    }

    fn update_member(&mut self, id: &str, join: Join, waiter: Waiter, step: &mut Step<'_>) {
        self.set_protocols(id, join.protocols);
        if let Some(member) = self.members.get_mut(id) {
            member.session_timeout = join.session_timeout;
            member.rebalance_timeout = join.rebalance_timeout;
        }
        self.await_join(id, waiter, step);
        self.rebalance_or_complete(step);
    }

    /// A static member that comes without its id takes its old place under a new one; whoever still uses the old id is
    /// fenced. A stable group goes on without a rebalance if the chosen protocol stays.
    fn replace_static(&mut self, join: Join, old_id: &str, new_id: String, waiter: Waiter, step: &mut Step<'_>) {
        let old_leader = self.leader.clone().unwrap_or_default();
        let fenced = JoinReply::refused(old_id, ErrorCode::FencedInstanceId);
        self.answer_join(old_id, fenced, step);
        self.answer_sync(old_id, ErrorCode::FencedInstanceId, step);
        self.rename(old_id, &new_id);
        let old_protocols = self.set_protocols(&new_id, join.protocols);
        let member = self.members.get_mut(&new_id).expect("it was renamed just now");
        // Its new self has a session of its own, which its waiting keeps, also in its first join.
        member.is_new = false;
        member.touch(step);
        let old_session_timeout = std::mem::replace(&mut member.session_timeout, join.session_timeout);
        let old_rebalance_timeout = std::mem::replace(&mut member.rebalance_timeout, join.rebalance_timeout);
        self.await_join(&new_id, waiter, step);
        match self.phase {
            Phase::Stable if self.select_protocol() == self.protocol_name => {
                let replaced = Replaced {
                    generation: self.generation,
                    waiter,
                    old_id: old_id.to_owned(),
                    new_id,
                    old_leader,
                    old_protocols,
                    old_session_timeout,
                    old_rebalance_timeout,
                    can_skip_assignment: join.can_skip_assignment,
                };
                let assignments = self.assignments();
                self.store(&assignments, Then::Replace(Box::new(replaced)), step);
            }
            // The leader may have been given the old id already: nothing would be assigned to the new one.
            Phase::Stable | Phase::CompletingRebalance => self.prepare_rebalance(step),
            Phase::PreparingRebalance { .. } | Phase::Empty => self.complete_if_all_joined(step),
        }
    }

    /// A static member's new id is stored: it goes on where it was.
    pub(super) fn replaced(&mut self, replaced: Replaced, step: &mut Step<'_>) {
        if !self.still_waits(&replaced) {
            return;
        }
        // Its session may have been passed over while it waited for this.
        if let Some(member) = self.members.get_mut(&replaced.new_id) {
            member.touch(step);
        }
        let mut reply = self.joined(&replaced.new_id);
        if replaced.can_skip_assignment {
            reply.skip_assignment = self.is_leader(&replaced.new_id);
        } else {
            // Told that it leads, an older client would assign again: the old id is named as the leader.
            reply.members = Vec::new();
            reply.leader = replaced.old_leader;
        }
        self.answer_join(&replaced.new_id, reply, step);
    }

    /// A static member's new id couldn't be stored: the old one counts again.
    pub(super) fn replace_failed(&mut self, replaced: Replaced, error: ErrorCode, step: &mut Step<'_>) {
        if !self.still_waits(&replaced) {
            return;
        }
        self.answer_join(&replaced.new_id, JoinReply::refused("", error), step);
        self.set_protocols(&replaced.new_id, replaced.old_protocols);
        self.rename(&replaced.new_id, &replaced.old_id);
        if let Some(member) = self.members.get_mut(&replaced.old_id) {
            member.session_timeout = replaced.old_session_timeout;
            member.rebalance_timeout = replaced.old_rebalance_timeout;
            member.touch(step);
        }
    }

    /// Otherwise a rebalance has begun since then, and answers it.
    fn still_waits(&self, replaced: &Replaced) -> bool {
        let member = self.members.get(&replaced.new_id);
        self.phase == Phase::Stable
            && self.generation == replaced.generation
            && member.is_some_and(|member| member.join_waiter() == Some(replaced.waiter))
    }

    pub(super) fn leave(&mut self, leaving: &[Leaving], waiter: Waiter, step: &mut Step<'_>) {
        let members: Vec<ErrorCode> = leaving.iter().map(|who| self.leave_one(who, step)).collect();
        let writes_before = step.effects.writes.len();
        if members.contains(&ErrorCode::None) {
            match self.phase {
                Phase::Stable | Phase::CompletingRebalance => self.prepare_rebalance(step),
                Phase::PreparingRebalance { .. } => self.complete_if_all_joined(step),
                Phase::Empty => {}
            }
        }
        let error = ErrorCode::None;
        let reply = Reply::Leave(LeaveReply { error, members });
        // The last one to leave is told so when it is stored that nobody is left.
        match step.effects.writes[writes_before..].last_mut() {
            Some(write) => write.answers.push((waiter, reply)),
            None => step.reply(waiter, reply),
        }
    }

    fn leave_one(&mut self, who: &Leaving, step: &mut Step<'_>) -> ErrorCode {
        let id = if who.member_id.is_empty() {
            let held_by = who
                .instance_id
                .as_ref()
                .and_then(|instance| self.static_members.get(instance));
            match held_by {
                Some(id) => id.clone(),
                None => return ErrorCode::UnknownMemberId,
            }
        } else {
            if !self.pending_join.contains_key(&who.member_id)
                && let Err(error) = self.check_member(&who.member_id, who.instance_id.as_deref())
            {
                return error;
            }
            who.member_id.clone()
        };
        self.remove(&id, ErrorCode::UnknownMemberId, step);
        ErrorCode::None
    }

    /// Ends the sessions that have run out.
    pub(super) fn expire_members(&mut self, step: &mut Step<'_>) {
        let now = step.now.at;
        let pending = self.pending_join.iter().filter(|(_, at)| **at <= now);
        let pending: Vec<String> = pending.map(|(id, _)| id.clone()).collect();
        for id in pending {
            self.remove(&id, ErrorCode::UnknownMemberId, step);
            self.complete_after_loss(step);
        }
        let is_due = |member: &Member| member.expires_at.is_some_and(|at| at <= now);
        let due = self.members.iter().filter(|(_, member)| is_due(member));
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            let Some(member) = self.members.get_mut(&id).filter(|member| is_due(member)) else {
                continue;
            };
            member.expires_at = None;
            if member.keeps_its_session_by_waiting() {
                continue;
            }
            tracing::info!(group = %self.id, member = %id, "member lost: its session has run out");
            self.remove(&id, ErrorCode::UnknownMemberId, step);
            match self.phase {
                Phase::Stable | Phase::CompletingRebalance => self.prepare_rebalance(step),
                Phase::PreparingRebalance { .. } | Phase::Empty => self.complete_after_loss(step),
            }
        }
    }

    /// Unlike a member's coming, its loss ends the wait of a group that was empty before.
    fn complete_after_loss(&mut self, step: &mut Step<'_>) {
        if matches!(self.phase, Phase::PreparingRebalance { .. }) && self.have_all_joined() {
            self.complete_join(step);
        }
    }

    pub(super) fn assignments(&self) -> BTreeMap<String, Bytes> {
        let members = self.members.iter();
        members
            .map(|(id, member)| (id.clone(), member.assignment.clone()))
            .collect()
    }

    /// Writes down what the group is, with these assignments.
    pub(super) fn store(&mut self, assignments: &BTreeMap<String, Bytes>, then: Then, step: &mut Step<'_>) {
        self.is_stored = true;
        self.write(vec![self.to_record(assignments)], Vec::new(), then, step);
    }
}

fn refuse(waiter: Waiter, member_id: &str, error: ErrorCode, step: &mut Step<'_>) {
    step.reply(waiter, Reply::Join(JoinReply::refused(member_id, error)));
}
