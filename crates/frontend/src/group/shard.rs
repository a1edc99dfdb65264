//! The groups of one partition of `__consumer_offsets`, as one pure state machine.
//!
//! Owns: which groups there are, what an unknown one answers, when which of them must be looked at, and the replay of
//! the log. Does not own: the log, clocks, requests' ways here (`crate::coordinator`). Keeps invariant 10: a decision that is
//! recorded takes effect in [`Shard::written`], once its record is committed.
//!
//! An idle group costs one entry in a heap. Heartbeats only ever move deadlines back, so a group is looked at when the
//! earliest deadline it once set has come, and then says anew when it wants to be looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::TransactionEnd;
use tailwater_runtime::clock::Instant;

use super::consumer::state::JOINING;
use super::consumer::topics::Topics;
use super::effects::{
    Commit, Effects, JoinReply, LeaveReply, Limits, Membership, Now, Record, Reply, Request, Step, SyncReply, Then,
    Waiter, Write,
};
use super::offsets;
use super::state::Group;

/// Outdated entries among the times at which groups are looked at, besides as many as there are groups.
const SPARE_WAKES: usize = 64;

#[derive(Debug)]
pub struct Shard {
    limits: Limits,
    groups: BTreeMap<String, Slot>,
    /// Which groups an open transaction has offsets of, by producer.
    transactions: BTreeMap<i64, BTreeSet<String>>,
    /// When to look at which group. Holds outdated entries: only a slot's own `wake_at` counts.
    wakes: BinaryHeap<Reverse<(Instant, String)>>,
    /// When all groups are looked at for what has expired; `None`: there are none.
    expire_at: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    group: Group,
    wake_at: Option<Instant>,
}

impl Shard {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            groups: BTreeMap::new(),
            transactions: BTreeMap::new(),
            wakes: BinaryHeap::new(),
            expire_at: None,
        }
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Takes over one record of the log, which is read from the start. The last one of a key counts; offsets of a
    /// transaction when its marker comes.
    pub fn replay(&mut self, record: Record, producer_id: Option<i64>, now: Now) {
        let id = record.group().to_owned();
        let slot = slot(&mut self.groups, &id, now);
        match record {
            Record::Consumer { record, .. } => slot.group.replay_consumer(&record),
            Record::Group { value: Some(value), .. } => slot.group.restore(value),
            Record::Group { value: None, .. } => slot.group.restore_nothing(now.wall_ms),
            Record::Offset { partition, value, .. } => match (producer_id, value) {
                (Some(producer_id), Some(value)) => {
                    slot.group.pending.insert(producer_id, partition, value);
                    self.transactions.entry(producer_id).or_default().insert(id.clone());
                }
                (_, value) => slot.group.set_offset(partition, value),
            },
        }
        if slot.group.is_forgettable() {
            self.groups.remove(&id);
        }
    }

    /// A producer's marker: what its transaction has committed of any group counts now, or never.
    pub fn end_transaction(&mut self, producer_id: i64, is_commit: bool) {
        for id in self.transactions.remove(&producer_id).unwrap_or_default() {
            let Some(slot) = self.groups.get_mut(&id) else { continue };
            slot.group.end_transaction(producer_id, is_commit);
            if slot.group.is_forgettable() {
                self.groups.remove(&id);
            }
        }
    }

    /// The log has been read to its end: members' sessions begin.
    pub fn loaded(&mut self, now: Now, topics: &dyn Topics) {
        for (id, slot) in &mut self.groups {
            let mut effects = Effects::default();
            slot.group.loaded(&mut Step {
                now,
                limits: &self.limits,
                topics,
                effects: &mut effects,
            });
            schedule(&mut self.wakes, id, slot, effects.wake_at);
        }
        self.groups.retain(|_, slot| !slot.group.is_forgettable());
        if !self.groups.is_empty() {
            self.expire_at = Some(now.at + self.limits.expiry_interval);
        }
    }

    pub fn step(&mut self, id: &str, request: Request, waiter: Waiter, now: Now, topics: &dyn Topics) -> Effects {
        let mut effects = Effects::default();
        match request {
            Request::List => {
                let all = self.groups.values().map(|slot| slot.group.summary()).collect();
                effects.replies.push((waiter, Reply::List(Ok(all))));
                return effects;
            }
            Request::EndTransaction(marker) => {
                effects.writes.push(Write::of_marker(marker, waiter));
                return effects;
            }
            _ => {}
        }
        if !self.groups.contains_key(id) && !creates_group(&request) {
            effects.replies.push((waiter, unknown_group(request)));
            return effects;
        }
        let slot = slot(&mut self.groups, id, now);
        self.expire_at.get_or_insert(now.at + self.limits.expiry_interval);
        let mut step = Step {
            now,
            limits: &self.limits,
            topics,
            effects: &mut effects,
        };
        match request {
            Request::Join(join) => slot.group.membership(Membership::Join(join), waiter, &mut step),
            Request::Sync(sync) => slot.group.membership(Membership::Sync(sync), waiter, &mut step),
            Request::Heartbeat(member) => slot.group.membership(Membership::Heartbeat(member), waiter, &mut step),
            Request::ConsumerHeartbeat(request) => {
                slot.group
                    .membership(Membership::ConsumerHeartbeat(request), waiter, &mut step);
            }
            Request::Leave(leaving) => slot.group.membership(Membership::Leave(leaving), waiter, &mut step),
            Request::Commit(commit) => slot.group.commit(commit, waiter, &mut step),
            Request::CommitInTransaction(commit) => slot.group.commit_in_transaction(commit, waiter, &mut step),
            Request::FetchOffsets(asked) => slot.group.fetch_offsets(asked, waiter, &mut step),
            // The last two are none of a group's.
            Request::Describe | Request::List | Request::EndTransaction(_) => {
                let described = slot.group.describe();
                step.reply(waiter, Reply::Describe(described));
            }
            Request::DescribeConsumer => {
                let described = slot.group.describe_consumer(&step);
                step.reply(waiter, Reply::DescribeConsumer(described));
            }
            Request::Delete => slot.group.delete(waiter, &mut step),
            Request::DeleteOffsets(asked) => slot.group.delete_offsets(&asked, waiter, &mut step),
        }
        self.settle(id, &effects);
        effects
    }

    /// The records of `write` are committed, or never will be: in the order of the writes.
    pub fn written(&mut self, write: Write, result: Result<(), ErrorCode>, now: Now, topics: &dyn Topics) -> Effects {
        let mut effects = Effects::default();
        let answers = write.answers.into_iter();
        match result {
            Ok(()) => effects.replies.extend(answers),
            Err(error) => effects
                .replies
                .extend(answers.map(|(waiter, reply)| (waiter, reply.into_refusal(error)))),
        }
        if let Then::EndTransaction(marker) = write.then {
            if result.is_ok() {
                self.end_transaction(marker.producer_id, marker.marker.end == TransactionEnd::Commit);
            }
            return effects;
        }
        let Some(slot) = self.groups.get_mut(&write.group) else {
            return effects;
        };
        let group = &mut slot.group;
        group.in_flight.remove(&write.number);
        let mut step = Step {
            now,
            limits: &self.limits,
            topics,
            effects: &mut effects,
        };
        match (write.then, result) {
            (
                Then::Assign {
                    generation,
                    assignments,
                },
                result,
            ) => {
                group.assigned(generation, &assignments, result, &mut step);
            }
            (Then::Replace(replaced), Ok(())) => group.replaced(*replaced, &mut step),
            (Then::Replace(replaced), Err(error)) => group.replace_failed(*replaced, error, &mut step),
            (Then::StoreOffsets(offsets), Ok(())) => {
                offsets
                    .into_iter()
                    .for_each(|(at, value)| group.set_offset(at, Some(value)));
            }
            (Then::KeepPending(producer, offsets), Ok(())) => {
                let groups = self.transactions.entry(producer.producer_id).or_default();
                groups.insert(write.group.clone());
                offsets
                    .into_iter()
                    .for_each(|(at, value)| group.pending.insert(producer.producer_id, at, value));
            }
            (Then::DropOffsets(offsets), Ok(())) => offsets.into_iter().for_each(|at| group.set_offset(at, None)),
            (Then::Delete { offsets, .. }, Ok(())) => {
                offsets.into_iter().for_each(|at| group.set_offset(at, None));
                group.forgotten(now.wall_ms);
            }
            (
                Then::Delete {
                    was_stored, consumer, ..
                },
                Err(_),
            ) => {
                group.is_stored |= was_stored;
                group.keep_consumer(consumer, &mut step);
            }
            (Then::Upgrade(classic), Err(_)) => group.upgrade_failed(*classic, &mut step),
            (Then::Downgrade { classic, rebalances }, Ok(())) => group.downgraded(*classic, rebalances, &mut step),
            (Then::Consumer | Then::Upgrade(_) | Then::Downgrade { .. }, result) => {
                group.consumer_written(result, &mut step);
            }
            (Then::StoreOffsets(_) | Then::KeepPending(..) | Then::DropOffsets(_), Err(_))
            | (Then::Nothing | Then::EndTransaction(_), _) => {}
        }
        group.answer_stable_fetches(&mut step);
        self.settle(&write.group, &effects);
        effects
    }

    /// When [`Shard::tick`] has something to do at the earliest.
    pub fn next_wake(&self) -> Option<Instant> {
        self.next_group_wake().into_iter().chain(self.expire_at).min()
    }

    fn next_group_wake(&self) -> Option<Instant> {
        self.wakes.peek().map(|Reverse((at, _))| *at)
    }

    /// Looks at one group whose time has come, or at all for what has expired; `None`: there is nothing to look at any more.
    pub fn tick(&mut self, now: Now, topics: &dyn Topics) -> Option<Effects> {
        if self.expire_at.is_some_and(|at| at <= now.at) {
            return Some(self.expire(now, topics));
        }
        if self.next_group_wake()? > now.at {
            return None;
        }
        let Reverse((at, id)) = self.wakes.pop()?;
        let mut effects = Effects::default();
        if let Some(slot) = self.groups.get_mut(&id).filter(|slot| slot.wake_at == Some(at)) {
            slot.wake_at = None;
            slot.group.tick(&mut Step {
                now,
                limits: &self.limits,
                topics,
                effects: &mut effects,
            });
            self.settle(&id, &effects);
        }
        Some(effects)
    }

    fn expire(&mut self, now: Now, topics: &dyn Topics) -> Effects {
        let mut effects = Effects::default();
        let mut step = Step {
            now,
            limits: &self.limits,
            topics,
            effects: &mut effects,
        };
        for slot in self.groups.values_mut() {
            slot.group.expire(&mut step);
        }
        self.expire_at = (!self.groups.is_empty()).then(|| now.at + self.limits.expiry_interval);
        effects
    }

    /// Keeps a group's next look, or forgets the group where nothing would be lost.
    fn settle(&mut self, id: &str, effects: &Effects) {
        let Some(slot) = self.groups.get_mut(id) else { return };
        if slot.group.is_forgettable() {
            self.groups.remove(id);
        } else {
            schedule(&mut self.wakes, id, slot, effects.wake_at);
            self.drop_outdated();
        }
    }

    /// A group that is looked at soon again and again leaves an entry for its next session's end each time, and so does one that is
    /// forgotten and comes back.
    fn drop_outdated(&mut self) {
        if self.wakes.len() <= 2 * self.groups.len() + SPARE_WAKES {
            return;
        }
        let is_current =
            |(at, id): &(Instant, String)| self.groups.get(id).is_some_and(|slot| slot.wake_at == Some(*at));
        let mut kept = std::mem::take(&mut self.wakes).into_vec();
        kept.retain(|Reverse(wake)| is_current(wake));
        // A group that wants to be looked at when it did before has two that are alike.
        kept.sort_unstable();
        kept.dedup();
        self.wakes = kept.into();
    }

    #[cfg(test)]
    pub fn kept_wakes(&self) -> usize {
        self.wakes.len()
    }
}

fn slot<'a>(groups: &'a mut BTreeMap<String, Slot>, id: &str, now: Now) -> &'a mut Slot {
    let new = || Slot {
        group: Group::new(id, now.wall_ms),
        wake_at: None,
    };
    groups.entry(id.to_owned()).or_insert_with(new)
}

fn schedule(wakes: &mut BinaryHeap<Reverse<(Instant, String)>>, id: &str, slot: &mut Slot, at: Option<Instant>) {
    let Some(at) = at else { return };
    if slot.wake_at.is_none_or(|earlier| at < earlier) {
        slot.wake_at = Some(at);
        wakes.push(Reverse((at, id.to_owned())));
    }
}

/// A member that has no id yet founds a group, and so does a commit from outside of any.
fn creates_group(request: &Request) -> bool {
    match request {
        Request::Join(join) => join.member_id.is_empty(),
        Request::ConsumerHeartbeat(request) => request.member_epoch == JOINING,
        Request::Commit(commit) => commit.member.generation < 0,
        Request::CommitInTransaction(commit) => commit.member.generation < 0,
        _ => false,
    }
}

fn unknown_group(request: Request) -> Reply {
    let error = ErrorCode::UnknownMemberId;
    match request {
        Request::Join(join) => Reply::Join(JoinReply::refused(&join.member_id, error)),
        Request::Sync(_) => Reply::Sync(SyncReply::refused(error)),
        Request::Heartbeat(_) => Reply::Heartbeat(error),
        Request::ConsumerHeartbeat(_) => request.refused(ErrorCode::GroupIdNotFound),
        Request::Leave(leaving) => Reply::Leave(LeaveReply {
            error: ErrorCode::None,
            members: vec![error; leaving.len()],
        }),
        Request::Commit(Commit { unknown_group, .. }) => Reply::Commit(unknown_group),
        // It has committed nothing, which is no error.
        Request::FetchOffsets(asked) => Reply::FetchOffsets(Ok(offsets::nothing(asked))),
        Request::CommitInTransaction(_) => Reply::Commit(ErrorCode::IllegalGeneration),
        Request::Describe
        | Request::List
        | Request::EndTransaction(_)
        | Request::DescribeConsumer
        | Request::Delete
        | Request::DeleteOffsets(_) => request.refused(ErrorCode::GroupIdNotFound),
    }
}
