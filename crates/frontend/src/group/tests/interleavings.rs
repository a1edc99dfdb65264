//! Any sequence of requests, outcomes and passing time keeps what a group promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::TransactionEnd;
use tailwater_runtime::clock::Instant;

use super::harness::*;
use crate::coordinator::{Form, Machine as _};
use crate::group::effects::*;
use crate::group::machine::GroupMachine;

#[derive(Clone, Debug)]
enum Action {
    JoinNew {
        member: usize,
    },
    JoinStatic {
        instance: usize,
    },
    Rejoin {
        member: usize,
        other_metadata: bool,
    },
    Sync {
        member: usize,
    },
    Heartbeat {
        member: usize,
    },
    Leave {
        member: usize,
    },
    Commit {
        member: usize,
    },
    Delete,
    DeleteOffset,
    CommitInTransaction {
        member: usize,
        producer_id: i64,
    },
    EndTransaction {
        producer_id: i64,
        is_commit: bool,
    },
    Outcome {
        stored: bool,
    },
    Pass {
        seconds: u64,
    },
    /// The coordinator moves; of what was on its way so much is in the log, and nobody is answered.
    Restart {
        stored: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let member = 0..6usize;
    prop_oneof![
        3 => member.clone().prop_map(|member| Action::JoinNew { member }),
        2 => (0..2usize).prop_map(|instance| Action::JoinStatic { instance }),
        4 => (member.clone(), any::<bool>()).prop_map(|(member, other_metadata)| Action::Rejoin { member, other_metadata }),
        6 => (0..8usize).prop_map(|member| Action::Sync { member }),
        3 => member.clone().prop_map(|member| Action::Heartbeat { member }),
        1 => member.clone().prop_map(|member| Action::Leave { member }),
        2 => member.clone().prop_map(|member| Action::Commit { member }),
        1 => Just(Action::Delete),
        1 => Just(Action::DeleteOffset),
        2 => (member.clone(), 0..3i64)
            .prop_map(|(member, producer_id)| Action::CommitInTransaction { member, producer_id }),
        2 => (0..3i64, any::<bool>())
            .prop_map(|(producer_id, is_commit)| Action::EndTransaction { producer_id, is_commit }),
        5 => (0..10u8).prop_map(|n| Action::Outcome { stored: n > 0 }),
        4 => prop_oneof![Just(1u64), Just(4), Just(35), Just(70), Just(400)].prop_map(|seconds| Action::Pass { seconds }),
        1 => (0..3usize).prop_map(|stored| Action::Restart { stored }),
    ]
}

/// That of every member, as `join` asks for it.
const SESSION: Duration = Duration::from_secs(30);
/// Slots from here on are of static members.
const STATIC: usize = 6;

/// What clients have been told.
#[derive(Default)]
struct Seen {
    /// Member slot → its id and generation.
    members: BTreeMap<usize, (String, i32)>,
    /// Who asked, under which id, and in which generation it believed to be.
    pending: BTreeMap<Waiter, (usize, String, i32)>,
    /// Which slot was ever told to be this member.
    slots: BTreeMap<String, usize>,
    /// When a member heard last that all is well.
    well: BTreeMap<String, Instant>,
    /// Generation → who leads it, as its members were told.
    leaders: BTreeMap<i32, String>,
    newest: i32,
    offset: Model,
}

/// What the log says of the one offset: values with their place in it.
#[derive(Clone, Default)]
struct Model {
    stored: Option<(i64, usize)>,
    pending: BTreeMap<i64, (i64, usize)>,
    writes: usize,
}

impl Model {
    fn apply(&mut self, form: Form, write: Option<Option<i64>>) {
        self.writes += 1;
        match (form, write) {
            (Form::Plain, Some(Some(value))) => self.stored = Some((value, self.writes)),
            (Form::Plain, Some(None)) => {
                self.stored = None;
                self.pending.clear();
            }
            (Form::Transactional(producer), Some(Some(value))) => {
                self.pending.insert(producer.producer_id, (value, self.writes));
            }
            (Form::Marker(marker), _) => {
                let ended = self.pending.remove(&marker.producer_id);
                if marker.marker.end == TransactionEnd::Commit {
                    self.stored = self.stored.into_iter().chain(ended).max_by_key(|(_, place)| *place);
                }
            }
            _ => {}
        }
    }
}

fn learn(h: &mut Harness, seen: &mut Seen) {
    let waiters: Vec<Waiter> = seen.pending.keys().copied().collect();
    for waiter in waiters {
        let Some(reply) = h.reply(waiter) else { continue };
        let (slot, asked_as, asked_in) = seen.pending.remove(&waiter).unwrap();
        match reply {
            Reply::Join(reply) if reply.error == ErrorCode::None => {
                assert!(reply.generation >= seen.newest, "generations went back");
                if reply.generation > seen.newest {
                    seen.leaders.clear();
                    seen.newest = reply.generation;
                }
                if !reply.skip_assignment && !reply.members.is_empty() {
                    let leader = seen
                        .leaders
                        .entry(reply.generation)
                        .or_insert_with(|| reply.leader.clone());
                    assert_eq!(
                        *leader, reply.member_id,
                        "two members were told to assign for one generation"
                    );
                    assert!(reply.members.iter().any(|member| member.member_id == reply.member_id));
                }
                seen.slots.insert(reply.member_id.clone(), slot);
                seen.members.insert(slot, (reply.member_id, reply.generation));
            }
            Reply::Join(reply) if reply.error == ErrorCode::MemberIdRequired => {
                seen.members.insert(slot, (reply.member_id, -1));
            }
            Reply::Sync(reply) if reply.error == ErrorCode::None && !reply.assignment.is_empty() => {
                let text = String::from_utf8(reply.assignment.to_vec()).unwrap();
                let (for_whom, generation) = text.split_once('@').unwrap();
                assert_eq!(generation, asked_in.to_string(), "{text} in {asked_in}");
                // A static member goes on with what it had under its last id.
                let is_own = for_whom == asked_as || slot >= STATIC && seen.slots.get(for_whom) == Some(&slot);
                assert!(is_own, "{asked_as} was given {text}");
            }
            _ => {}
        }
    }
}

/// Who is in the group as it was stored last.
fn stored_members(h: &Harness) -> BTreeSet<String> {
    let last = h.log.iter().rev().find_map(|record| match record {
        Record::Group { value, .. } => Some(value.as_ref()),
        Record::Offset { .. } | Record::Consumer { .. } => None,
    });
    let members = last.flatten().into_iter().flat_map(|group| &group.members);
    members.map(|member| member.member_id.clone()).collect()
}

/// In which form a write is, and what it says of the one offset.
fn what_it_says(write: &Write) -> (Form, Option<Option<i64>>) {
    let offset = write.records.iter().find_map(|record| match record {
        Record::Offset { value, .. } => Some(value.as_ref().map(|value| value.offset)),
        Record::Group { .. } | Record::Consumer { .. } => None,
    });
    (GroupMachine::form(write), offset)
}

fn act(h: &mut Harness, seen: &mut Seen, action: Action, number: usize) {
    let id_of = |seen: &Seen, member: usize| seen.members.get(&member).cloned().unwrap_or_default();
    match action {
        Action::JoinNew { member } => {
            let ask = Join {
                requires_known_member_id: number.is_multiple_of(2),
                ..join("", &format!("m{number}"))
            };
            let waiter = h.ask(Request::Join(ask));
            seen.pending.insert(waiter, (member, String::new(), -1));
        }
        Action::JoinStatic { instance } => {
            let waiter = h.ask(static_join(&format!("i{instance}"), "", &format!("static{number}")));
            seen.pending.insert(waiter, (STATIC + instance, String::new(), -1));
        }
        Action::Rejoin { member, other_metadata } => {
            let (id, _) = id_of(seen, member);
            let names: &[&str] = if other_metadata {
                &["range", "sticky"]
            } else {
                &["range"]
            };
            if !id.is_empty() {
                let waiter = h.ask(Request::Join(Join {
                    protocols: protocols(names),
                    ..join(&id, "")
                }));
                seen.pending.insert(waiter, (member, String::new(), -1));
            }
        }
        Action::Sync { member } => {
            let (id, generation) = id_of(seen, member);
            let ids: Vec<String> = seen.members.values().map(|(id, _)| id.clone()).collect();
            let parts: Vec<(String, String)> = ids
                .iter()
                .map(|id| (id.clone(), format!("{id}@{generation}")))
                .collect();
            let parts: Vec<(&str, &str)> = parts.iter().map(|(id, part)| (id.as_str(), part.as_str())).collect();
            let waiter = h.ask(sync(&id, generation, &parts));
            seen.pending.insert(waiter, (member, id, generation));
        }
        Action::Heartbeat { member } => {
            let (id, generation) = id_of(seen, member);
            match h.heartbeat(&id, generation) {
                ErrorCode::None => _ = seen.well.insert(id, h.now.at),
                ErrorCode::UnknownMemberId => {
                    let passed = seen.well.get(&id).map(|at| h.now.at.saturating_duration_since(*at));
                    assert!(
                        passed.is_none_or(|passed| passed >= SESSION),
                        "{id} was put out after {passed:?}"
                    );
                }
                _ => {}
            }
        }
        Action::Leave { member } => {
            let (id, _) = seen.members.remove(&member).unwrap_or_default();
            seen.well.remove(&id);
            let waiter = h.ask(leave(&[&id]));
            seen.pending.insert(waiter, (member, String::new(), -1));
        }
        Action::Commit { member } => {
            let (id, generation) = id_of(seen, member);
            h.commit(super::harness::member(&id, generation), i64::try_from(number).unwrap());
        }
        Action::Delete => {
            let waiter = h.ask(Request::Delete);
            seen.pending.insert(waiter, (0, String::new(), -1));
        }
        Action::DeleteOffset => {
            let waiter = h.ask(Request::DeleteOffsets(vec![at(0)]));
            seen.pending.insert(waiter, (0, String::new(), -1));
        }
        Action::CommitInTransaction { member, producer_id } => {
            let (id, generation) = id_of(seen, member);
            let who = super::harness::member(&id, generation);
            h.commit_in_transaction(who, producer_id, i64::try_from(number).unwrap());
        }
        Action::EndTransaction { producer_id, is_commit } => {
            let end = match is_commit {
                true => TransactionEnd::Commit,
                false => TransactionEnd::Abort,
            };
            h.end_transaction(producer_id, end);
        }
        Action::Outcome { stored } if !h.in_flight.is_empty() => {
            let (form, offset) = what_it_says(&h.in_flight[0]);
            let records = &h.in_flight[0].records;
            // A group that is made anew counts its generations anew.
            let forgotten = records
                .iter()
                .any(|record| matches!(record, Record::Group { value: None, .. }));
            if forgotten && stored {
                seen.newest = 0;
                seen.leaders.clear();
            }
            let result = if stored {
                Ok(())
            } else {
                Err(ErrorCode::CoordinatorNotAvailable)
            };
            h.commit_next(result);
            if stored {
                seen.offset.apply(form, offset);
            }
        }
        Action::Outcome { .. } => {}
        Action::Pass { seconds } => h.pass(Duration::from_secs(seconds)),
        Action::Restart { stored } => {
            let mut old = std::mem::replace(h, Harness::new());
            for _ in 0..stored.min(old.in_flight.len()) {
                let (form, offset) = what_it_says(&old.in_flight[0]);
                old.store_next();
                seen.offset.apply(form, offset);
            }
            *h = old.restart();
            h.commits_at_once = false;
            // Nobody will be answered any more; what was told of generations may be told again after this. Who was in no
            // generation that was stored is known to nobody.
            let stored = stored_members(h);
            seen.well.retain(|id, _| stored.contains(id));
            *seen = Seen {
                offset: seen.offset.clone(),
                members: std::mem::take(&mut seen.members),
                slots: std::mem::take(&mut seen.slots),
                well: std::mem::take(&mut seen.well),
                ..Seen::default()
            };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// One leader a generation, generations only grow, nobody gets an assignment of another generation or member, nobody who
    /// was heard of within its session is put out, offsets are what stands last in the log outside of open and aborted
    /// transactions, and in the end everybody is answered and an abandoned group is forgotten.
    #[test]
    fn any_interleaving_keeps_the_groups_promises(actions in prop::collection::vec(action(), 1..120)) {
        let mut h = Harness::new();
        h.commits_at_once = false;
        let mut seen = Seen::default();
        for (number, action) in actions.into_iter().enumerate() {
            act(&mut h, &mut seen, action, number);
            learn(&mut h, &mut seen);
            prop_assert_eq!(h.committed(), seen.offset.stored.map(|(value, _)| value));
            if h.in_flight.is_empty() {
                prop_assert_eq!(h.fetched(true) == Fetched::Unstable, !seen.offset.pending.is_empty());
            }
        }
        while !h.in_flight.is_empty() {
            h.commit_next(Ok(()));
        }
        h.commits_at_once = true;
        for producer_id in 0..3 {
            h.end_transaction(producer_id, TransactionEnd::Abort);
        }
        h.pass(Duration::from_secs(9 * 86_400));
        learn(&mut h, &mut seen);
        prop_assert!(seen.pending.is_empty(), "never answered: {:?}", seen.pending);
        prop_assert_eq!(h.shard.len(), 0, "an abandoned group is never forgotten");
        prop_assert_eq!(h.shard.next_wake(), None, "an abandoned group still sets timers");
        for (id, _) in seen.members.values() {
            prop_assert_eq!(h.heartbeat(id, seen.newest), ErrorCode::UnknownMemberId);
        }
    }
}
