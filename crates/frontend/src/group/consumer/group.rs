//! A group whose coordinator assigns (KIP-848), between its requests, its timers and its log.
//!
//! Owns: that one write is on its way at a time and decisions wait for it (docs/design.md, invariant 10). Requests that wait are
//! decided together, and their records leave together. Does not own: what is decided (`heartbeat.rs`, `classic.rs`,
//! `leave.rs`), when members' time is up (`timers.rs`).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_runtime::clock::Instant;

use super::heartbeat::{Around, Heartbeat, HeartbeatReply, heartbeat};
use super::record::ConsumerRecord;
use super::state::{Dissolved, Draft, JOINING, State};
use super::timers::Timers;
use super::{classic, leave};
use crate::coordinator::{Now, Waiter};
use crate::group::effects::{Join, JoinReply, LeaveReply, MemberRef, Membership, Reply, Sync, SyncReply};

/// After so many records, or bytes of them, a write leaves, and what else waits is decided when it is stored.
const RECORDS_OF_A_WRITE: usize = 400;
const BYTES_OF_A_WRITE: usize = 256 << 10;
/// Requests that wait for a write, and their bytes, while the log stands still: more than all members of a large group ask at once. Who
/// comes then is told to come again.
const MOST_WAITING: usize = 4096;
const MOST_WAITING_BYTES: usize = 16 << 20;
/// Members that are put out with one write.
const PUT_OUT_AT_ONCE: usize = 100;
/// When it is tried again to put a member out. Later than a write that finds no room is given up (5 s): a log that stands still
/// isn't asked without a pause.
const PUT_OUT_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct ConsumerGroup {
    /// As its committed records make it.
    state: Arc<State>,
    /// What it is when the write on its way is committed.
    next: Option<Arc<State>>,
    waiting: VecDeque<(Membership, Waiter)>,
    /// About as many as what waits has.
    waiting_bytes: usize,
    timers: Timers,
}

/// What comes of a step.
#[derive(Debug, Default)]
pub struct Outcome {
    pub replies: Vec<(Waiter, Reply)>,
    /// To be told of with [`ConsumerGroup::written`].
    pub write: Option<Writing>,
    /// Nobody is a member, and somebody founds a classic group: these are for that.
    pub given_back: VecDeque<(Membership, Waiter)>,
}

#[derive(Debug)]
pub struct Writing {
    pub records: Vec<ConsumerRecord>,
    pub answers: Vec<(Waiter, Reply)>,
    /// The group's members go on as a classic group, if these records are stored.
    pub dissolved: Option<Dissolved>,
}

impl ConsumerGroup {
    /// What a classic group has become, when the records that made `state` are committed: members' sessions begin.
    pub fn converted(state: Arc<State>, around: &Around<'_>) -> Self {
        let mut group = Self {
            state,
            ..Self::default()
        };
        group.loaded(around.now, around.settings.session_timeout);
        group
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes over a record of the log.
    pub fn replay(&mut self, record: &ConsumerRecord) {
        Arc::make_mut(&mut self.state).apply(record);
    }

    /// The log has been read to its end: members' sessions begin.
    pub fn loaded(&mut self, now: Now, session_timeout: Duration) {
        for id in self.state.members.keys() {
            self.timers.begin_session(id, &self.state, now, session_timeout);
            self.timers.watch_revocation(id, &self.state, now);
        }
    }

    /// A request about who is a member: ConsumerGroupHeartbeat, or JoinGroup, SyncGroup, Heartbeat or LeaveGroup.
    pub fn ask(&mut self, request: Membership, waiter: Waiter, around: &Around<'_>) -> Outcome {
        // It counts from when it is here, however long it has to wait.
        let member = match &request {
            Membership::ConsumerHeartbeat(request) => Some(&request.member_id),
            Membership::Heartbeat(member) | Membership::Sync(Sync { member, .. }) => Some(&member.member_id),
            Membership::Join(_) | Membership::Leave(_) => None,
        };
        if let Some(id) = member {
            let of_group = around.settings.session_timeout;
            self.timers.touch(id, &self.state, around.now, of_group);
        }
        let bytes = request.about_bytes();
        let is_full = self.waiting.len() >= MOST_WAITING || self.waiting_bytes + bytes > MOST_WAITING_BYTES;
        // One that nothing is in front of is decided now, however large it is.
        if is_full && !self.waiting.is_empty() {
            let refused = request.refused(ErrorCode::CoordinatorNotAvailable);
            return Outcome {
                replies: vec![(waiter, refused)],
                ..Outcome::default()
            };
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back((request, waiter));
        self.decide(around)
    }

    /// The records of the write on its way are committed, or never will be.
    pub fn written(&mut self, result: Result<(), ErrorCode>, around: &Around<'_>) -> Outcome {
        if let (Some(next), Ok(())) = (self.next.take(), result) {
            self.state = next;
        }
        self.decide(around)
    }

    /// Puts out whose time is up. Only here: whatever has come is taken before, so a member whose heartbeat had to wait with all
    /// others, while the log stood still, stays.
    pub fn tick(&mut self, around: &Around<'_>) -> Outcome {
        let mut draft = Draft::new(self.state.clone());
        if self.next.is_none() {
            self.put_out(&mut draft, around);
        }
        self.decide_on(draft, around)
    }

    /// When to tick; `None`: not before the write on its way is committed.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next().filter(|_| self.next.is_none())
    }

    /// Whether something is on its way or waits for that.
    pub fn is_busy(&self) -> bool {
        self.next.is_some() || !self.waiting.is_empty()
    }

    /// What is still to be answered, of a group that is none any more.
    pub fn into_waiting(self) -> VecDeque<(Membership, Waiter)> {
        self.waiting
    }

    fn decide(&mut self, around: &Around<'_>) -> Outcome {
        self.decide_on(Draft::new(self.state.clone()), around)
    }

    fn decide_on(&mut self, mut draft: Draft, around: &Around<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        if self.next.is_some() {
            return outcome;
        }
        let mut answers = Vec::new();
        while draft.dissolved.is_none()
            && draft.records.len() < RECORDS_OF_A_WRITE
            && draft.bytes < BYTES_OF_A_WRITE
            && let Some((request, waiter)) = self.waiting.pop_front()
        {
            let bytes = request.about_bytes();
            if draft.members.is_empty() && matches!(request, Membership::Join(_)) {
                self.waiting.push_front((request, waiter));
                if draft.records.is_empty() {
                    outcome.given_back = std::mem::take(&mut self.waiting);
                    self.waiting_bytes = 0;
                }
                break;
            }
            self.waiting_bytes -= bytes;
            let reply = self.answer(&mut draft, request, around);
            // What was decided before it in this write is what it rests on.
            let side = if draft.records.is_empty() {
                &mut outcome.replies
            } else {
                &mut answers
            };
            side.push((waiter, reply));
        }
        let records = std::mem::take(&mut draft.records);
        let dissolved = draft.dissolved.take();
        if records.is_empty() {
            self.state = draft.into_state();
        } else {
            self.next = Some(draft.into_state());
            outcome.write = Some(Writing {
                records,
                answers,
                dissolved,
            });
        }
        outcome
    }

    fn answer(&mut self, draft: &mut Draft, request: Membership, around: &Around<'_>) -> Reply {
        match request {
            Membership::ConsumerHeartbeat(request) => {
                Reply::ConsumerHeartbeat(Box::new(self.answer_heartbeat(draft, &request, around)))
            }
            Membership::Join(request) => Reply::Join(self.answer_join(draft, &request, around)),
            Membership::Sync(request) => Reply::Sync(self.answer_sync(draft, &request, around)),
            Membership::Heartbeat(who) => Reply::Heartbeat(self.answer_classic_heartbeat(draft, &who, around)),
            Membership::Leave(leaving) => Reply::Leave(LeaveReply {
                error: ErrorCode::None,
                members: classic::leave(draft, &leaving, around),
            }),
        }
    }

    fn answer_heartbeat(&mut self, draft: &mut Draft, request: &Heartbeat, around: &Around<'_>) -> HeartbeatReply {
        let before = draft
            .members
            .get(&request.member_id)
            .map(|member| member.current.clone());
        match heartbeat(draft, request, around) {
            Ok(reply) => {
                if let Some(id) = reply.member_id.as_ref().filter(|_| request.member_epoch >= JOINING) {
                    let of_group = around.settings.session_timeout;
                    self.timers.begin_session(id, draft, around.now, of_group);
                    if draft.members.get(id).map(|member| &member.current) != before.as_ref() {
                        // What it is to give back now has a time of its own.
                        self.timers.revoked(id);
                    }
                    self.timers.watch_revocation(id, draft, around.now);
                }
                reply
            }
            Err(refusal) => HeartbeatReply::refused(refusal),
        }
    }

    fn answer_join(&mut self, draft: &mut Draft, request: &Join, around: &Around<'_>) -> JoinReply {
        let reply = classic::join(draft, request, around);
        if !reply.error.is_error() {
            let of_group = around.settings.session_timeout;
            self.timers.begin_session(&reply.member_id, draft, around.now, of_group);
            self.timers.joined(&reply.member_id, draft, around.now);
        }
        reply
    }

    fn answer_sync(&mut self, draft: &Draft, request: &Sync, around: &Around<'_>) -> SyncReply {
        let id = &request.member.member_id;
        let reply = classic::sync(draft, request, around.topics);
        match reply.error {
            ErrorCode::None => {
                self.timers.synced(id);
                self.timers.is_up_to_date(id);
            }
            ErrorCode::RebalanceInProgress => self.timers.await_join(id, draft, around.now),
            _ => {}
        }
        reply
    }

    fn answer_classic_heartbeat(&mut self, draft: &mut Draft, who: &MemberRef, around: &Around<'_>) -> ErrorCode {
        let error = classic::heartbeat(draft, who, around);
        match error {
            // What it was told before, if it has heard that, is over.
            ErrorCode::None => self.timers.is_up_to_date(&who.member_id),
            ErrorCode::RebalanceInProgress => self.timers.await_join(&who.member_id, draft, around.now),
            _ => {}
        }
        error
    }

    fn put_out(&mut self, draft: &mut Draft, around: &Around<'_>) {
        let (members, gone): (BTreeSet<String>, BTreeSet<String>) = {
            let due = self.timers.due(draft, around.now).into_iter();
            due.partition(|id| draft.members.contains_key(id))
        };
        gone.iter().for_each(|id| self.timers.postpone(id, None));
        let members: BTreeSet<String> = members.into_iter().take(PUT_OUT_AT_ONCE).collect();
        if members.is_empty() {
            return;
        }
        tracing::info!(?members, "members are put out of their group: their time is up");
        // All at once: a group that goes on as a classic one has the epoch that its other members know.
        leave::remove(draft, &members, around);
        for id in &members {
            // If that can't be stored.
            self.timers.postpone(id, Some(around.now.at + PUT_OUT_AGAIN));
        }
    }
}
