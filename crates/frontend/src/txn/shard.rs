//! The transactional ids of one partition of `__transaction_state`, as one pure state machine.
//!
//! Owns: which ids there are, that each has one change on its way at most, who waits for a change, when an id must be looked at,
//! and the replay of the log. Does not own: what a request makes of an id (`state.rs`), the log, clocks, markers' ways. Keeps
//! invariant 10: a change takes effect, is answered, and has its markers sent in [`Shard::written`], once it is committed.
//!
//! A request that comes while the last transaction is ending waits for that, for a while: most ends take less time than a
//! client's way back (Kafka answers CONCURRENT_TRANSACTIONS at once, and its clients come again after 20 ms or more).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_runtime::clock::Instant;

use super::effects::{Effects, Limits, Marked, Markers, Now, Reply, Request, Summary, Waiter, Write};
use super::running::{Running, RunningNow, Stage};
use super::state::{Decision, Phase, Transaction};

/// After a change that couldn't be written, the timers try again.
const RETRY: Duration = Duration::from_secs(1);

/// Transactions of one log that are decided and not told to all of their partitions, while leaders are away: each has a round of
/// markers on its way. No further one begins then, so that there are no more than these and those that are open.
pub(super) const MOST_ENDING: usize = 10_000;

/// Outdated entries among the times at which ids are looked at, besides as many as there are ids.
const SPARE_WAKES: usize = 64;

#[derive(Debug)]
pub struct Shard {
    limits: Limits,
    ids: BTreeMap<String, Slot>,
    /// When to look at which id. Holds outdated entries: only a slot's own `wake_at` counts.
    wakes: BinaryHeap<Reverse<(Instant, String)>>,
    running: Running,
}

#[derive(Debug, Default)]
struct Slot {
    /// What is committed; `None` before the first record is.
    state: Option<Transaction>,
    /// Whether a record is on its way.
    is_changing: bool,
    /// When the ongoing transaction has run too long, or the idle id is to be forgotten.
    due: Option<Instant>,
    /// Requests that wait for the end of a change, and until when.
    waiting: VecDeque<(Instant, Waiter, Request)>,
    wake_at: Option<Instant>,
}

impl Shard {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ids: BTreeMap::new(),
            wakes: BinaryHeap::new(),
            running: Running::default(),
        }
    }

    /// What is open and what is ending.
    pub fn running(&self) -> RunningNow {
        self.running.now()
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Takes over one record of the log, which is read from the start. The last one of an id counts.
    pub fn replay(&mut self, id: String, value: Option<Transaction>) {
        let was = Stage::of(self.ids.get(&id).and_then(|slot| slot.state.as_ref()));
        self.running.change(&id, was, Stage::of(value.as_ref()));
        match value {
            Some(value) => self.ids.entry(id).or_default().state = Some(value),
            None => _ = self.ids.remove(&id),
        }
    }

    /// The log has been read to its end: what was decided before is carried out, and time runs.
    pub fn loaded(&mut self, now: Now) -> Effects {
        let mut effects = Effects::default();
        let ids: Vec<String> = self.ids.keys().cloned().collect();
        for id in ids {
            let Some(slot) = self.ids.get_mut(&id) else { continue };
            carry_out(&id, slot, &mut effects, now);
            slot.due = due(slot, &self.limits, now);
            self.schedule(&id);
        }
        effects
    }

    pub fn step(&mut self, id: &str, request: Request, waiter: Waiter, now: Now) -> Effects {
        let mut effects = Effects::default();
        if let Request::List = request {
            let all = self.ids.iter().filter_map(|(id, slot)| summary(id, slot)).collect();
            effects.replies.push((waiter, Reply::Listed(Ok(all))));
            return effects;
        }
        self.decide(id, request, waiter, now.at + self.limits.patience, now, &mut effects);
        self.schedule(id);
        effects
    }

    fn decide(&mut self, id: &str, request: Request, waiter: Waiter, until: Instant, now: Now, effects: &mut Effects) {
        let slot = match (self.ids.get_mut(id), &request) {
            (Some(slot), _) => slot,
            (None, Request::Init { new_id: None, .. }) => {
                return effects.replies.push((waiter, Reply::NeedsProducerId));
            }
            (None, Request::Init { .. }) => self.ids.entry(id.to_owned()).or_default(),
            (None, _) => return effects.replies.push((waiter, request.refused(unknown_to(&request)))),
        };
        let is_full = self.running.ending() >= MOST_ENDING;
        let decision = match decision(slot, &request, now) {
            Answer::Write(next, _) if is_full && begins(slot, &next) => {
                Answer::Reply(request.refused(ErrorCode::ConcurrentTransactions))
            }
            decision => decision,
        };
        match decision {
            Answer::Reply(reply) => effects.replies.push((waiter, reply)),
            Answer::Wait => slot.waiting.push_back((until, waiter, request)),
            Answer::Write(value, reply) => {
                slot.is_changing = true;
                effects.writes.push(Write {
                    id: id.to_owned(),
                    value: Some(value),
                    answer: Some((waiter, reply)),
                });
            }
        }
    }

    /// The record of `write` is committed, or never will be: in the order of the writes.
    pub fn written(&mut self, write: Write, result: Result<(), ErrorCode>, now: Now) -> Effects {
        let mut effects = Effects::default();
        let Write { id, value, answer } = write;
        let answer = answer.map(|(waiter, reply)| match result {
            Ok(()) => (waiter, reply),
            Err(error) => (waiter, reply.into_refusal(error)),
        });
        effects.replies.extend(answer);
        let Some(slot) = self.ids.get_mut(&id) else {
            return effects;
        };
        slot.is_changing = false;
        let before = Stage::of(slot.state.as_ref());
        match (result, value) {
            (Ok(()), Some(value)) => {
                let was = slot.state.replace(*value).map(|state| state.phase);
                carry_out(&id, slot, &mut effects, now);
                count(was, slot, &mut effects);
                slot.due = due(slot, &self.limits, now);
            }
            (Ok(()), None) => slot.state = None,
            (Err(_), _) => {
                let again = now.at + RETRY;
                let is_ending = slot.state.as_ref().is_some_and(|state| state.phase.is_ending());
                // An end that isn't written down yet is tried again, too.
                slot.due = match due(slot, &self.limits, now) {
                    None => is_ending.then_some(again),
                    Some(due) => Some(due.max(again)),
                };
            }
        }
        self.running.change(&id, before, Stage::of(slot.state.as_ref()));
        let is_unknown = slot.state.is_none();
        let waiting = std::mem::take(&mut slot.waiting);
        if is_unknown {
            self.ids.remove(&id);
        }
        for (until, waiter, request) in waiting {
            self.decide(&id, request, waiter, until, now, &mut effects);
        }
        self.schedule(&id);
        effects
    }

    /// Some partitions have their marker.
    pub fn marked(&mut self, marked: Marked, now: Now) -> Effects {
        let mut effects = Effects::default();
        let Some(slot) = self.ids.get_mut(&marked.id) else {
            return effects;
        };
        let Some(state) = &mut slot.state else { return effects };
        if !state.phase.is_ending() || (state.producer_id, state.epoch) != (marked.producer.id, marked.producer.epoch) {
            return effects;
        }
        for partition in &marked.partitions {
            state.partitions.remove(partition);
        }
        carry_out(&marked.id, slot, &mut effects, now);
        for markers in &mut effects.markers {
            markers.attempt = marked.attempt + 1;
        }
        effects
    }

    #[cfg(test)]
    pub fn kept_wakes(&self) -> usize {
        self.wakes.len()
    }

    /// When [`Shard::tick`] has something to do at the earliest.
    pub fn next_wake(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((at, _))| *at)
    }

    /// Looks at one id whose time has come; `None`: there is none any more.
    pub fn tick(&mut self, now: Now) -> Option<Effects> {
        if self.next_wake()? > now.at {
            return None;
        }
        let Reverse((at, id)) = self.wakes.pop()?;
        let mut effects = Effects::default();
        if let Some(slot) = self.ids.get_mut(&id).filter(|slot| slot.wake_at == Some(at)) {
            slot.wake_at = None;
            while let Some((_, waiter, request)) = slot.waiting.pop_front_if(|(until, ..)| *until <= now.at) {
                let reply = request.refused(ErrorCode::ConcurrentTransactions);
                effects.replies.push((waiter, reply));
            }
            if slot.due.is_some_and(|due| due <= now.at) && !slot.is_changing {
                time_out(&id, slot, &mut effects, now);
            }
            self.schedule(&id);
        }
        Some(effects)
    }

    fn schedule(&mut self, id: &str) {
        let Some(slot) = self.ids.get_mut(id) else { return };
        let due = slot.due.filter(|_| !slot.is_changing);
        let patience = slot.waiting.front().map(|(until, ..)| *until);
        let Some(at) = due.into_iter().chain(patience).min() else {
            return;
        };
        if slot.wake_at.is_none_or(|earlier| at < earlier) {
            slot.wake_at = Some(at);
            self.wakes.push(Reverse((at, id.to_owned())));
            self.drop_outdated();
        }
    }

    /// An id that goes to and fro between idle and busy leaves an entry for the end of its idleness each time, days ahead.
    fn drop_outdated(&mut self) {
        if self.wakes.len() <= 2 * self.ids.len() + SPARE_WAKES {
            return;
        }
        let is_current = |(at, id): &(Instant, String)| self.ids.get(id).is_some_and(|slot| slot.wake_at == Some(*at));
        let mut kept = std::mem::take(&mut self.wakes).into_vec();
        kept.retain(|Reverse(wake)| is_current(wake));
        self.wakes = kept.into();
    }
}

/// What a request of an id that is here leads to.
enum Answer {
    Reply(Reply),
    Wait,
    Write(Box<Transaction>, Reply),
}

fn decision(slot: &Slot, request: &Request, now: Now) -> Answer {
    let is_changing = slot.is_changing;
    let new;
    let state = match (&slot.state, request) {
        (Some(state), _) => state,
        (None, Request::Init { new_id: Some(id), .. }) if !is_changing => {
            new = Transaction::new(*id, now.wall_ms);
            &new
        }
        (None, Request::Init { .. }) => return Answer::Reply(request.refused(ErrorCode::ConcurrentTransactions)),
        (None, _) => return Answer::Reply(request.refused(unknown_to(request))),
    };
    match request {
        // As Kafka does: whoever begins anew has time (kafka.md section 3, rule 15).
        Request::Init { .. } if is_changing => Answer::Reply(request.refused(ErrorCode::ConcurrentTransactions)),
        Request::Init {
            timeout_ms,
            expected,
            new_id,
        } => match state.init(*timeout_ms, *expected, *new_id, now.wall_ms) {
            Decision::Become(next) => {
                let reply = match next.phase {
                    // The producer is to come again when the transaction that is in its way has ended.
                    Phase::PrepareAbort => Err(ErrorCode::ConcurrentTransactions),
                    _ => Ok(next.producer()),
                };
                Answer::Write(Box::new(next), Reply::Producer(reply))
            }
            other => refuse(request, &other),
        },
        Request::Add {
            producer,
            partitions,
            client_version,
        } => match state.add(*producer, partitions, *client_version, now.wall_ms) {
            Decision::Refuse(error) => Answer::Reply(Reply::Added(error)),
            Decision::NotYet => Answer::Wait,
            _ if is_changing => Answer::Wait,
            Decision::Become(next) => Answer::Write(Box::new(next), Reply::Added(ErrorCode::None)),
            _ => Answer::Reply(Reply::Added(ErrorCode::None)),
        },
        Request::Verify { producer, partitions } => match state.verify(*producer) {
            Err(error) => Answer::Reply(Reply::Verified(Err(error))),
            Ok(None) => Answer::Wait,
            // A change on its way needn't be waited for: the partition forgets what was verified when it gets a marker.
            Ok(Some(known)) => {
                let answer = |partition| match known.contains(partition) {
                    true => ErrorCode::None,
                    false => ErrorCode::TransactionAbortable,
                };
                Answer::Reply(Reply::Verified(Ok(partitions.iter().map(answer).collect())))
            }
        },
        Request::End {
            producer,
            is_commit,
            with_new_epoch,
            new_id,
        } => {
            let decision = match with_new_epoch {
                true => state.end_with_new_epoch(*producer, *is_commit, *new_id, now.wall_ms),
                false => state.end(*producer, *is_commit, now.wall_ms),
            };
            match decision {
                Decision::Refuse(error) => Answer::Reply(Reply::Producer(Err(error))),
                _ if is_changing => Answer::Reply(request.refused(ErrorCode::ConcurrentTransactions)),
                Decision::Become(next) => {
                    let reply = Reply::Producer(Ok(next.producer()));
                    Answer::Write(Box::new(next), reply)
                }
                Decision::Already => Answer::Reply(Reply::Producer(Ok(state.producer()))),
                other => refuse(request, &other),
            }
        }
        Request::Describe | Request::List => Answer::Reply(Reply::Described(Ok(Box::new(state.clone())))),
    }
}

/// Whether a transaction is begun with this change.
fn begins(slot: &Slot, next: &Transaction) -> bool {
    let is_open = |state: &Transaction| state.phase == Phase::Ongoing;
    is_open(next) && !slot.state.as_ref().is_some_and(is_open)
}

fn refuse(request: &Request, decision: &Decision) -> Answer {
    Answer::Reply(match decision {
        Decision::NeedsProducerId => Reply::NeedsProducerId,
        Decision::Refuse(error) => request.refused(*error),
        _ => request.refused(ErrorCode::ConcurrentTransactions),
    })
}

/// What an id that isn't known is to who asks for it.
fn unknown_to(request: &Request) -> ErrorCode {
    match request {
        Request::Describe | Request::List => ErrorCode::TransactionalIdNotFound,
        _ => ErrorCode::InvalidProducerIdMapping,
    }
}

/// Tells partitions of a decision that is committed; that all of them have been told is recorded.
fn carry_out(id: &str, slot: &mut Slot, effects: &mut Effects, now: Now) {
    let Some(state) = slot.state.as_ref().filter(|state| state.phase.is_ending()) else {
        return;
    };
    if state.partitions.is_empty() {
        slot.is_changing = true;
        effects.writes.push(Write {
            id: id.to_owned(),
            value: Some(Box::new(state.complete(now.wall_ms))),
            answer: None,
        });
    } else {
        effects.markers.push(Markers {
            id: id.to_owned(),
            producer: super::state::ProducerRef {
                id: state.producer_id,
                epoch: state.epoch,
            },
            is_commit: state.phase == Phase::PrepareCommit,
            client_version: state.client_version,
            partitions: state.partitions.iter().cloned().collect(),
            attempt: 0,
        });
    }
}

/// The ongoing transaction has run too long, the idle id has been idle too long, or a write is to be tried again.
fn time_out(id: &str, slot: &mut Slot, effects: &mut Effects, now: Now) {
    slot.due = None;
    let Some(state) = &slot.state else { return };
    let value = match state.phase {
        Phase::Ongoing => {
            tracing::info!(transactional_id = id, "transaction has run too long, it is aborted");
            Some(Box::new(state.fence(now.wall_ms)))
        }
        // Only where that could not be written before: markers have ways of their own to be repeated.
        Phase::PrepareCommit | Phase::PrepareAbort => {
            if state.partitions.is_empty() {
                carry_out(id, slot, effects, now);
            }
            return;
        }
        Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => None,
    };
    slot.is_changing = true;
    effects.writes.push(Write {
        id: id.to_owned(),
        value,
        answer: None,
    });
}

fn due(slot: &Slot, limits: &Limits, now: Now) -> Option<Instant> {
    let state = slot.state.as_ref()?;
    let (since_ms, after) = match state.phase {
        Phase::Ongoing => (state.start_ms, millis(i64::from(state.timeout_ms))),
        Phase::PrepareCommit | Phase::PrepareAbort => return None,
        Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => (state.updated_ms, limits.id_expiration),
    };
    // A wall clock that was set back makes nothing last longer than it would from now on.
    let passed = millis(now.wall_ms.saturating_sub(since_ms));
    Some(now.at + after.saturating_sub(passed))
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn count(was: Option<Phase>, slot: &Slot, effects: &mut Effects) {
    let is = slot.state.as_ref().map(|state| state.phase);
    match is {
        Some(Phase::PrepareCommit) if was != is => effects.committed += 1,
        Some(Phase::PrepareAbort) if was != is => effects.aborted += 1,
        _ => {}
    }
}

fn summary(id: &str, slot: &Slot) -> Option<Summary> {
    let state = slot.state.as_ref()?;
    Some(Summary {
        id: id.to_owned(),
        producer_id: state.producer_id,
        state: state.phase.name(),
        start_ms: state.start_ms,
    })
}
