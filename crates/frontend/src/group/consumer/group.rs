//! A group whose coordinator assigns (KIP-848), between its requests, its timers and its log.
//!
//! Owns: that one write is on its way at a time and decisions wait for it (docs/design.md, invariant 10), and when members'
//! time is up: a session without a heartbeat, a partition that isn't given back. Requests that wait are decided together,
//! and their records leave together. Does not own: what is decided (`heartbeat.rs`, `leave.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_runtime::clock::Instant;

use super::heartbeat::{Around, Heartbeat, HeartbeatReply, heartbeat};
use super::leave;
use super::record::ConsumerRecord;
use super::state::{Draft, JOINING, Progress, State};
use crate::coordinator::{Now, Waiter};

/// After so many records a write leaves, and what else waits is decided when it is stored.
const RECORDS_OF_A_WRITE: usize = 400;
/// Members that are put out with one write.
const PUT_OUT_AT_ONCE: usize = 100;
/// When it is tried again to put a member out.
const PUT_OUT_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct ConsumerGroup {
    /// As its committed records make it.
    state: Arc<State>,
    /// What it is when the write on its way is committed.
    next: Option<Arc<State>>,
    waiting: VecDeque<(Heartbeat, Waiter)>,
    /// By member id; may hold such as are none any more.
    sessions: BTreeMap<String, Instant>,
    /// Until when members have to give back what they were told to; may hold such as have.
    revoke_by: BTreeMap<String, Instant>,
}

/// What comes of a step.
#[derive(Debug, Default)]
pub struct Outcome {
    pub replies: Vec<(Waiter, HeartbeatReply)>,
    /// To be told of with [`ConsumerGroup::written`].
    pub write: Option<Writing>,
}

#[derive(Debug)]
pub struct Writing {
    pub records: Vec<ConsumerRecord>,
    pub answers: Vec<(Waiter, HeartbeatReply)>,
}

impl ConsumerGroup {
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes over a record of the log.
    pub fn replay(&mut self, record: &ConsumerRecord) {
        Arc::make_mut(&mut self.state).apply(record);
    }

    /// The log has been read to its end: members' sessions begin.
    pub fn loaded(&mut self, now: Now, session_timeout: Duration) {
        let state = self.state.clone();
        for id in state.members.keys() {
            self.sessions.insert(id.clone(), now.at + session_timeout);
            self.watch_revocation(id, &state, now);
        }
    }

    pub fn heartbeat(&mut self, request: Heartbeat, waiter: Waiter, around: &Around<'_>) -> Outcome {
        // It counts from when it is here, however long it has to wait.
        if let Some(expires_at) = self.sessions.get_mut(&request.member_id) {
            *expires_at = around.now.at + around.settings.session_timeout;
        }
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

    /// Puts out whose time is up.
    pub fn tick(&mut self, around: &Around<'_>) -> Outcome {
        self.decide(around)
    }

    /// When to tick; `None`: not before the write on its way is committed.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.sessions.values().chain(self.revoke_by.values());
        deadlines.min().copied().filter(|_| self.next.is_none())
    }

    /// Whether something is on its way or waits for that.
    pub fn is_busy(&self) -> bool {
        self.next.is_some() || !self.waiting.is_empty()
    }

    fn decide(&mut self, around: &Around<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        if self.next.is_some() {
            return outcome;
        }
        let mut draft = Draft::new(self.state.clone());
        self.put_out(&mut draft, around);
        let mut answers = Vec::new();
        while draft.records.len() < RECORDS_OF_A_WRITE
            && let Some((request, waiter)) = self.waiting.pop_front()
        {
            let reply = self.answer(&mut draft, &request, around);
            // What was decided before it in this write is what it rests on.
            let side = if draft.records.is_empty() {
                &mut outcome.replies
            } else {
                &mut answers
            };
            side.push((waiter, reply));
        }
        let records = std::mem::take(&mut draft.records);
        if records.is_empty() {
            self.state = draft.into_state();
        } else {
            self.next = Some(draft.into_state());
            outcome.write = Some(Writing { records, answers });
        }
        outcome
    }

    fn answer(&mut self, draft: &mut Draft, request: &Heartbeat, around: &Around<'_>) -> HeartbeatReply {
        match heartbeat(draft, request, around) {
            Ok(reply) => {
                if let Some(id) = reply.member_id.as_ref().filter(|_| request.member_epoch >= JOINING) {
                    let expires_at = around.now.at + around.settings.session_timeout;
                    self.sessions.insert(id.clone(), expires_at);
                    self.watch_revocation(id, draft, around.now);
                }
                reply
            }
            Err(refusal) => HeartbeatReply::refused(refusal),
        }
    }

    /// Lets a member that has to give something back have its rebalance timeout for it, from when it was told.
    fn watch_revocation(&mut self, id: &str, state: &State, now: Now) {
        match state.members.get(id) {
            Some(member) if member.current.progress == Progress::Unrevoked => {
                let timeout_ms = u64::try_from(member.subscription.rebalance_timeout_ms).unwrap_or(0);
                let by = now.at + Duration::from_millis(timeout_ms);
                self.revoke_by.entry(id.to_owned()).or_insert(by);
            }
            _ => {
                self.revoke_by.remove(id);
            }
        }
    }

    fn put_out(&mut self, draft: &mut Draft, around: &Around<'_>) {
        let now = around.now.at;
        self.revoke_by.retain(|id, _| {
            let member = draft.members.get(id);
            member.is_some_and(|member| member.current.progress == Progress::Unrevoked)
        });
        let due = |deadlines: &BTreeMap<String, Instant>| -> Vec<String> {
            let due = deadlines.iter().filter(|(_, at)| **at <= now);
            due.map(|(id, _)| id.clone()).collect()
        };
        let due: BTreeSet<String> = [due(&self.sessions), due(&self.revoke_by)]
            .into_iter()
            .flatten()
            .collect();
        for id in due.into_iter().take(PUT_OUT_AT_ONCE) {
            if !draft.members.contains_key(&id) {
                self.sessions.remove(&id);
                continue;
            }
            tracing::info!(member = %id, "member is put out of its group: its time is up");
            leave::remove(draft, &id, around);
            self.revoke_by.remove(&id);
            // If that can't be stored.
            self.sessions.insert(id, now + PUT_OUT_AGAIN);
        }
    }
}
