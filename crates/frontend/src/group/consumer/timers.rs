//! When members' time is up.
//!
//! Owns: a session without a heartbeat, a partition that isn't given back, and what a member of the classic protocol doesn't do
//! in time: join a rebalance that it was told of, ask for its assignment (Apache Kafka 4.3 has these four). Deadlines of who is
//! no member any more are left lying until they are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tailwater_runtime::clock::Instant;

use super::record::{ClassicMember, Subscription};
use super::state::{Member, Progress, State};
use crate::coordinator::Now;

/// Deadlines by member id.
#[derive(Debug, Default)]
pub struct Timers {
    sessions: BTreeMap<String, Instant>,
    revoke_by: BTreeMap<String, Instant>,
    join_by: BTreeMap<String, Instant>,
    sync_by: BTreeMap<String, Instant>,
}

fn from_ms(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A member of the classic protocol has its own session timeout, one of the new protocol that of its group.
fn session_timeout(member: &Subscription, of_group: Duration) -> Duration {
    let own = |classic: &ClassicMember| from_ms(classic.session_timeout_ms);
    member.classic.as_ref().map_or(of_group, own)
}

impl Timers {
    /// A member shows that it lives, if it is one; `of_group`: the group's session timeout.
    pub fn touch(&mut self, id: &str, state: &State, now: Now, of_group: Duration) {
        if let (Some(expires_at), Some(member)) = (self.sessions.get_mut(id), state.members.get(id)) {
            *expires_at = now.at + session_timeout(&member.subscription, of_group);
        }
    }

    /// Begins a member's session, or begins it anew.
    pub fn begin_session(&mut self, id: &str, state: &State, now: Now, of_group: Duration) {
        if let Some(member) = state.members.get(id) {
            let expires_at = now.at + session_timeout(&member.subscription, of_group);
            self.sessions.insert(id.to_owned(), expires_at);
        }
    }

    /// Lets a member that has to give something back have its rebalance timeout for it, from when it was told. One of the
    /// classic protocol has that time to join.
    pub fn watch_revocation(&mut self, id: &str, state: &State, now: Now) {
        match state.members.get(id) {
            Some(member) if must_revoke(state, id) => {
                let by = now.at + from_ms(member.subscription.rebalance_timeout_ms);
                self.revoke_by.entry(id.to_owned()).or_insert(by);
            }
            _ => {
                self.revoke_by.remove(id);
            }
        }
    }

    /// A member has given back what it was told to, or has nothing of that any more.
    pub fn revoked(&mut self, id: &str) {
        self.revoke_by.remove(id);
    }

    /// A member of the classic protocol has been told to join again, and has its rebalance timeout for it from the first time on.
    pub fn await_join(&mut self, id: &str, state: &State, now: Now) {
        if let Some(member) = state.members.get(id) {
            let by = now.at + from_ms(member.subscription.rebalance_timeout_ms);
            self.join_by.entry(id.to_owned()).or_insert(by);
        }
    }

    /// There is no rebalance that it has to join.
    pub fn is_up_to_date(&mut self, id: &str) {
        self.join_by.remove(id);
    }

    /// It has joined, and has its rebalance timeout to ask for its assignment.
    pub fn joined(&mut self, id: &str, state: &State, now: Now) {
        self.join_by.remove(id);
        if let Some(member) = state.members.get(id) {
            let by = now.at + from_ms(member.subscription.rebalance_timeout_ms);
            self.sync_by.insert(id.to_owned(), by);
        }
    }

    pub fn synced(&mut self, id: &str) {
        self.sync_by.remove(id);
    }

    /// Whose time is up; such as are members no more among them.
    pub fn due(&mut self, state: &State, now: Now) -> BTreeSet<String> {
        self.revoke_by.retain(|id, _| must_revoke(state, id));
        self.join_by.retain(|id, _| is_classic(state, id));
        self.sync_by.retain(|id, _| is_classic(state, id));
        let due = self.all().filter(|(_, at)| **at <= now.at);
        due.map(|(id, _)| id.clone()).collect()
    }

    /// Looks at a member again at `at`, and not before; `None`: never.
    pub fn postpone(&mut self, id: &str, at: Option<Instant>) {
        self.revoke_by.remove(id);
        self.join_by.remove(id);
        self.sync_by.remove(id);
        match at {
            Some(at) => self.sessions.insert(id.to_owned(), at),
            None => self.sessions.remove(id),
        };
    }

    pub fn next(&self) -> Option<Instant> {
        self.all().map(|(_, at)| *at).min()
    }

    fn all(&self) -> impl Iterator<Item = (&String, &Instant)> {
        let of_classic = self.join_by.iter().chain(&self.sync_by);
        self.sessions.iter().chain(&self.revoke_by).chain(of_classic)
    }
}

fn must_revoke(state: &State, id: &str) -> bool {
    let must_revoke = |member: &Member| {
        let current = &member.current;
        // A static one that is away has nothing to give back, whatever it was told.
        current.progress == Progress::Unrevoked && current.epoch >= 0 && member.subscription.classic.is_none()
    };
    state.members.get(id).is_some_and(|member| must_revoke(member))
}

fn is_classic(state: &State, id: &str) -> bool {
    let member = state.members.get(id);
    member.is_some_and(|member| member.subscription.classic.is_some())
}
