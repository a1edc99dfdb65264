//! Any sequence of heartbeats, outcomes, lost answers, passing time and restarts keeps what a group promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tailwater_kafka::ErrorCode;
use tailwater_runtime::clock::Instant;
use tailwater_types::TopicId;

use super::harness::*;
use crate::coordinator::Waiter;
use crate::group::consumer::heartbeat::Heartbeat;
use crate::group::consumer::state::Partitions;

/// After a write that failed a removal is tried again.
const SLACK: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Action {
    /// A heartbeat; a client that isn't in the group joins.
    Beat {
        client: usize,
        learns: bool,
    },
    Leave {
        client: usize,
    },
    /// The client is gone, and another one has its place.
    Vanish {
        client: usize,
    },
    Outcome {
        stored: bool,
    },
    Grow,
    Pass {
        seconds: u64,
    },
    /// Its connection comes from elsewhere, as behind a load balancer.
    Move {
        client: usize,
    },
    /// Another coordinator reads the log, of which so much (in percent) was compacted. What was on its way is in it or isn't, and
    /// nobody is answered.
    Restart {
        compacted: usize,
        stored: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let client = 0..4usize;
    prop_oneof![
        12 => (client.clone(), (0..8u8)).prop_map(|(client, n)| Action::Beat { client, learns: n > 0 }),
        1 => client.clone().prop_map(|client| Action::Leave { client }),
        1 => client.clone().prop_map(|client| Action::Vanish { client }),
        1 => client.prop_map(|client| Action::Move { client }),
        8 => (0..10u8).prop_map(|n| Action::Outcome { stored: n > 0 }),
        1 => Just(Action::Grow),
        2 => prop_oneof![Just(1u64), Just(20), Just(50)].prop_map(|seconds| Action::Pass { seconds }),
        1 => (0..=100usize, any::<bool>()).prop_map(|(compacted, stored)| Action::Restart { compacted, stored }),
    ]
}

struct World {
    h: Harness,
    clients: Vec<Client>,
    asked: BTreeMap<Waiter, (usize, bool)>,
    /// Those that have missed an answer.
    unsure: BTreeSet<usize>,
    /// When each member has sent the last heartbeat to which it was told that all is well.
    well: BTreeMap<String, Instant>,
    /// When the coordinator heard last of each, and when it last was another one or missed the log.
    heard: BTreeMap<String, Instant>,
    disturbed: Option<Instant>,
    born: usize,
    partitions: i32,
}

impl World {
    fn new() -> Self {
        let mut h = Harness::new(&[("t", 5)]);
        h.commits_at_once = false;
        Self {
            h,
            clients: (0..4).map(named).collect(),
            asked: BTreeMap::new(),
            unsure: BTreeSet::new(),
            well: BTreeMap::new(),
            heard: BTreeMap::new(),
            disturbed: None,
            born: 4,
            partitions: 5,
        }
    }

    fn beat(&mut self, client: usize, learns: bool) {
        // One request at a time, as clients do.
        if self.asked.values().any(|(asker, _)| *asker == client) {
            return;
        }
        let who = &self.clients[client];
        // Who gives nothing back has long for it: only sessions end here.
        let rebalance_timeout_ms = Some(3_600_000);
        let request = match who.epoch {
            0 => Heartbeat {
                rebalance_timeout_ms,
                client_host: who.host.clone(),
                ..join(&who.id, &["t"])
            },
            // After an answer that didn't come clients say, and are told, everything.
            _ if self.unsure.contains(&client) => Heartbeat {
                rebalance_timeout_ms,
                member_epoch: who.epoch,
                client_host: who.host.clone(),
                owned: Some(who.has.clone()),
                ..join(&who.id, &["t"])
            },
            _ => who.request(),
        };
        self.heard.insert(who.id.clone(), self.h.now.at);
        let waiter = self.h.ask(request);
        self.asked.insert(waiter, (client, learns));
    }

    fn learn(&mut self) {
        let waiters: Vec<Waiter> = self.asked.keys().copied().collect();
        for waiter in waiters {
            let Some(reply) = self.h.reply(waiter) else { continue };
            let (client, learns) = self.asked.remove(&waiter).unwrap();
            let who = &mut self.clients[client];
            match reply.error {
                ErrorCode::None if learns => {
                    assert!(reply.member_epoch >= who.epoch, "epochs went back");
                    who.take(reply);
                    self.unsure.remove(&client);
                    self.well.insert(who.id.clone(), self.heard[&who.id]);
                }
                // Its answer was lost.
                ErrorCode::None | ErrorCode::CoordinatorNotAvailable => {
                    self.unsure.insert(client);
                }
                ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                    let passed = self
                        .well
                        .remove(&who.id)
                        .map(|at| self.h.now.at.saturating_duration_since(at));
                    let is_early = passed.is_some_and(|passed| passed < SESSION) && !self.unsure.contains(&client);
                    assert!(!is_early, "{} was put out after {passed:?}", who.id);
                    (who.epoch, who.has) = (0, Partitions::new());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the coordinator says that members have is with one of them each, and clients believe to have nothing else,
    /// whatever they were told last. Members that nobody hears of are none for longer than their session.
    fn check(&self) {
        let members = &self.h.group.state().members;
        for client in self.clients.iter().filter(|client| client.epoch > 0) {
            let Some(member) = members.get(&client.id) else {
                continue;
            };
            let (assigned, revoking) = (&member.current.assigned, &member.current.revoking);
            let is_in = |book: &BTreeMap<TopicId, BTreeMap<i32, i32>>, topic: &TopicId, partition: &i32| {
                book.get(topic)
                    .is_some_and(|partitions| partitions.contains_key(partition))
            };
            for (topic, partitions) in &client.has {
                for partition in partitions {
                    let is_booked = is_in(assigned, topic, partition) || is_in(revoking, topic, partition);
                    assert!(is_booked, "{} goes on with partition {partition}", client.id);
                }
            }
        }
        if self.h.in_flight.is_none() {
            for id in members.keys() {
                let last = self.heard.get(id).copied().max(self.disturbed);
                let passed = last.map(|at| self.h.now.at.saturating_duration_since(at));
                let is_late = passed.is_some_and(|passed| passed > SESSION + SLACK);
                assert!(!is_late, "{id} is a member {passed:?} after it was heard of");
            }
        }
        let mut seen = BTreeSet::new();
        for member in self.h.group.state().members.values() {
            for (topic, partitions) in member.current.assigned.iter().chain(&member.current.revoking) {
                for partition in partitions.keys() {
                    assert!(
                        seen.insert((*topic, *partition)),
                        "partition {partition} is with two members"
                    );
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Beat { client, learns } => self.beat(client, learns),
            Action::Leave { client } => {
                let request = Heartbeat {
                    member_epoch: -1,
                    ..self.clients[client].request()
                };
                self.h.ask(request);
                self.replace(client);
            }
            Action::Vanish { client } => self.replace(client),
            Action::Outcome { stored } => {
                let result = match stored {
                    true => Ok(()),
                    false => Err(ErrorCode::CoordinatorNotAvailable),
                };
                if self.h.in_flight.is_some() {
                    self.disturbed = Some(self.h.now.at);
                }
                self.h.commit(result);
            }
            Action::Grow => {
                self.partitions += 1;
                self.h.set_topic("t", self.partitions);
            }
            Action::Pass { seconds } => self.h.pass(Duration::from_secs(seconds)),
            Action::Move { client } => self.clients[client].host.push('x'),
            Action::Restart { compacted, stored } => {
                let mut h = std::mem::replace(&mut self.h, Harness::new(&[]));
                if let Some(write) = h.in_flight.take().filter(|_| stored) {
                    h.log.extend(write.records);
                }
                self.disturbed = Some(h.now.at);
                h.compact(h.log.len() * compacted / 100);
                self.h = h.restart();
                self.hang_up();
            }
        }
        self.learn();
        self.check();
    }

    /// Whoever waits gets no answer any more.
    fn hang_up(&mut self) {
        let waiting = std::mem::take(&mut self.asked);
        self.unsure.extend(waiting.into_values().map(|(client, _)| client));
    }

    fn replace(&mut self, client: usize) {
        self.unsure.remove(&client);
        self.asked.retain(|_, (asker, _)| *asker != client);
        self.clients[client] = named(self.born);
        self.born += 1;
    }
}

fn named(number: usize) -> Client {
    Client {
        id: format!("m{number}"),
        ..Client::default()
    }
}

proptest! {
    /// No partition is ever with two members, nor believed to be; members are put out when their session is over; left alone,
    /// the group becomes stable with every partition at a member; and the log alone says the same as the group that wrote it.
    #[test]
    fn a_group_settles_whatever_happened(actions in proptest::collection::vec(action(), 0..80)) {
        let mut world = World::new();
        world.h.settings.max_size = 1000;
        for action in actions {
            world.act(action);
        }
        world.act(Action::Outcome { stored: true });
        world.hang_up();
        world.h.commits_at_once = true;
        for _ in 0..12 {
            world.h.pass(Duration::from_secs(10));
            for client in 0..4 {
                world.beat(client, true);
                world.learn();
                world.check();
            }
        }
        prop_assert!(!world.h.group.is_busy());
        prop_assert_eq!(world.h.group.state().name(), "Stable");
        let loads: Vec<usize> = world.clients.iter().map(Client::load).collect();
        prop_assert_eq!(loads.iter().sum::<usize>(), usize::try_from(world.partitions).unwrap());
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
        let before = world.h.group.state().clone();
        world.h.compact(world.h.log.len());
        let restarted = world.h.restart();
        let after = restarted.group.state();
        prop_assert_eq!(&before.members, &after.members);
        prop_assert_eq!(&before.target, &after.target);
        prop_assert_eq!((before.epoch, before.target_epoch), (after.epoch, after.target_epoch));
    }
}
