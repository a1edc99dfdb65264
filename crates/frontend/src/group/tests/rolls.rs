//! Any sequence of clients of both protocols that come, go and change, of outcomes, passing time and restarts keeps what a group
//! promises while it changes its protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tailwater_kafka::messages::{AssignedPartitions, ConsumerAssignment, ConsumerSubscription};
use tailwater_kafka::{ErrorCode, Message as _, Uuid};
use tailwater_types::TopicId;

use super::harness::*;
use crate::group::consumer::heartbeat::{Heartbeat, HeartbeatReply};
use crate::group::consumer::state::Partitions;
use crate::group::effects::*;

const PARTITIONS: i32 = 3;

fn topic() -> TopicId {
    TopicId(Uuid::from_u128(1))
}

#[derive(Clone, Debug)]
enum Action {
    /// The client does what it would do next, if it waits for no answer.
    Act {
        client: usize,
    },
    Commit {
        client: usize,
    },
    /// The client leaves, and one of the other protocol, or of the same, has its place.
    Roll {
        client: usize,
        is_classic: bool,
    },
    /// The same without a word.
    Vanish {
        client: usize,
        is_classic: bool,
    },
    Outcome {
        stored: bool,
    },
    Pass {
        seconds: u64,
    },
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let client = 0..3usize;
    prop_oneof![
        14 => client.clone().prop_map(|client| Action::Act { client }),
        1 => client.clone().prop_map(|client| Action::Commit { client }),
        2 => (client.clone(), any::<bool>()).prop_map(|(client, is_classic)| Action::Roll { client, is_classic }),
        1 => (client, any::<bool>()).prop_map(|(client, is_classic)| Action::Vanish { client, is_classic }),
        9 => (0..12u8).prop_map(|n| Action::Outcome { stored: n > 0 }),
        3 => prop_oneof![Just(1u64), Just(4), Just(35), Just(70)].prop_map(|seconds| Action::Pass { seconds }),
        1 => Just(Action::Restart),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Join,
    /// With the assignments, where it leads.
    Sync(BTreeMap<String, Bytes>),
    Beat,
}

/// A consumer as its user sees it.
#[derive(Clone, Debug)]
struct Client {
    is_classic: bool,
    /// Of a classic one: whether it keeps what it has while it joins.
    is_cooperative: bool,
    /// Of a static member.
    instance: Option<String>,
    id: String,
    /// Its generation, or its epoch.
    epoch: i32,
    has: BTreeSet<i32>,
    next: Next,
    /// Has missed an answer.
    is_unsure: bool,
}

impl Client {
    fn new(number: usize, is_classic: bool, is_cooperative: bool, instance: Option<String>) -> Self {
        Self {
            is_classic,
            is_cooperative,
            instance,
            id: if is_classic {
                String::new()
            } else {
                format!("m{number}")
            },
            epoch: 0,
            has: BTreeSet::new(),
            next: Next::Join,
            is_unsure: false,
        }
    }

    fn metadata(&self) -> Bytes {
        let owned = AssignedPartitions {
            topic: "t".into(),
            partitions: self.has.iter().copied().collect(),
        };
        let subscription = ConsumerSubscription {
            topics: vec!["t".into()],
            owned_partitions: vec![owned],
            ..ConsumerSubscription::default()
        };
        Bytes::from([b"\0\x01", &subscription.encode(1).unwrap()[..]].concat())
    }

    fn request(&self, number: usize) -> Request {
        match &self.next {
            _ if !self.is_classic => {
                let says_all = self.is_unsure || self.epoch == 0;
                let partitions = Partitions::from([(topic(), self.has.clone())]);
                Request::ConsumerHeartbeat(Box::new(Heartbeat {
                    member_id: self.id.clone(),
                    member_epoch: self.epoch,
                    instance_id: self.instance.clone(),
                    rebalance_timeout_ms: says_all.then_some(60_000),
                    topics: says_all.then(|| ["t".to_owned()].into()),
                    owned: Some(if self.has.is_empty() {
                        Partitions::new()
                    } else {
                        partitions
                    }),
                    ..Heartbeat::default()
                }))
            }
            Next::Join => Request::Join(Join {
                protocols: vec![Protocol {
                    name: "any".to_owned(),
                    metadata: self.metadata(),
                }],
                instance_id: self.instance.clone(),
                requires_known_member_id: number.is_multiple_of(2),
                ..join(&self.id, &format!("m{number}"))
            }),
            Next::Sync(assignments) => Request::Sync(Sync {
                member: self.member(),
                protocol_type: Some("consumer".to_owned()),
                protocol_name: Some("any".to_owned()),
                assignments: assignments.clone(),
            }),
            Next::Beat => Request::Heartbeat(self.member()),
        }
    }

    fn member(&self) -> MemberRef {
        MemberRef {
            instance_id: self.instance.clone(),
            ..member(&self.id, self.epoch)
        }
    }

    /// What it says when it goes; a static one of the new protocol that it comes back, or doesn't.
    fn leaving(&self, number: usize) -> Request {
        match self.is_classic {
            true => Request::Leave(vec![Leaving {
                member_id: self.id.clone(),
                instance_id: self.instance.clone(),
            }]),
            false => Request::ConsumerHeartbeat(Box::new(Heartbeat {
                member_id: self.id.clone(),
                member_epoch: match self.instance.is_some() && number.is_multiple_of(2) {
                    true => -2,
                    false => -1,
                },
                instance_id: self.instance.clone(),
                ..Heartbeat::default()
            })),
        }
    }

    /// It gives everything back before it joins again, if it is an eager one.
    fn joins_again(&mut self) {
        if !self.is_cooperative {
            self.has.clear();
        }
        self.next = Next::Join;
    }

    fn is_lost(&mut self) {
        self.has.clear();
        (self.epoch, self.next, self.is_unsure) = (0, Next::Join, false);
    }

    fn learn(&mut self, reply: Reply) {
        let error = match &reply {
            Reply::ConsumerHeartbeat(reply) => reply.error,
            Reply::Join(reply) => reply.error,
            Reply::Sync(reply) => reply.error,
            Reply::Heartbeat(error) => *error,
            other => panic!("nobody asked for {other:?}"),
        };
        match (error, reply) {
            (ErrorCode::None, Reply::ConsumerHeartbeat(reply)) => self.take(*reply),
            (ErrorCode::None, Reply::Join(reply)) => {
                (self.id, self.epoch) = (reply.member_id.clone(), reply.generation);
                self.next = Next::Sync(assign(&reply));
            }
            (ErrorCode::None, Reply::Sync(reply)) => {
                let assigned = match reply.assignment.is_empty() {
                    true => ConsumerAssignment::default(),
                    false => ConsumerAssignment::decode_any(&reply.assignment).unwrap(),
                };
                let topics = assigned.assigned_partitions.into_iter();
                let assigned: BTreeSet<i32> = topics.flat_map(|topic| topic.partitions).collect();
                let gives_back = !self.has.is_subset(&assigned);
                self.has = assigned;
                self.next = if gives_back { Next::Join } else { Next::Beat };
            }
            (ErrorCode::None, Reply::Heartbeat(_)) => {}
            (ErrorCode::MemberIdRequired, Reply::Join(reply)) => self.id = reply.member_id,
            (ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId, _) if self.is_classic => {
                self.id.clear();
                self.is_lost();
            }
            (ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch | ErrorCode::IllegalGeneration, _) => {
                self.is_lost();
            }
            (ErrorCode::GroupIdNotFound, _) => self.is_lost(),
            (ErrorCode::RebalanceInProgress, _) => self.joins_again(),
            (ErrorCode::CoordinatorNotAvailable, _) => self.misses_an_answer(),
            // The one before it is there until it says that it goes, or its session ends.
            (ErrorCode::GroupMaxSizeReached | ErrorCode::UnreleasedInstanceId, _) => {}
            (_, reply) => panic!("{reply:?}"),
        }
    }

    fn misses_an_answer(&mut self) {
        self.is_unsure = true;
        if matches!(self.next, Next::Sync(_)) {
            self.joins_again();
        }
    }

    fn take(&mut self, reply: HeartbeatReply) {
        self.epoch = reply.member_epoch;
        self.is_unsure = false;
        if let Some(assignment) = reply.assignment {
            self.has = assignment.into_values().flatten().collect();
        }
    }
}

/// What a leader makes of those that it sees: everybody their share, the nearer to what they have the better, and nothing that
/// another one has still.
fn assign(reply: &JoinReply) -> BTreeMap<String, Bytes> {
    if reply.members.is_empty() {
        return BTreeMap::new();
    }
    let owners: BTreeMap<i32, &str> = reply
        .members
        .iter()
        .flat_map(|member| {
            let said = ConsumerSubscription::decode_any(&member.metadata).unwrap();
            let owned = said.owned_partitions.into_iter().flat_map(|topic| topic.partitions);
            owned.map(|partition| (partition, member.member_id.as_str()))
        })
        .collect();
    let most = usize::try_from(PARTITIONS).unwrap().div_ceil(reply.members.len());
    let mut shares: BTreeMap<&str, BTreeSet<i32>> = reply
        .members
        .iter()
        .map(|member| (member.member_id.as_str(), BTreeSet::new()))
        .collect();
    for partition in 0..PARTITIONS {
        let owner = owners.get(&partition).copied();
        let least = shares
            .iter()
            .min_by_key(|(_, share)| share.len())
            .map(|(id, _)| *id)
            .unwrap();
        let stays = owner.filter(|owner| shares[owner].len() < most);
        let to = stays.unwrap_or(least);
        // Who has it gives it back first, and then there is another rebalance.
        if owner.is_none_or(|owner| owner == to) {
            shares.get_mut(to).unwrap().insert(partition);
        }
    }
    let encoded = |share: BTreeSet<i32>| {
        let assignment = ConsumerAssignment {
            assigned_partitions: vec![AssignedPartitions {
                topic: "t".into(),
                partitions: share.into_iter().collect(),
            }],
            user_data: None,
        };
        assignment.encode_with_version(1).unwrap()
    };
    shares
        .into_iter()
        .map(|(id, share)| (id.to_owned(), encoded(share)))
        .collect()
}

struct World {
    h: Harness,
    is_cooperative: bool,
    clients: Vec<Client>,
    asked: BTreeMap<Waiter, usize>,
    born: usize,
    /// What the log says of the one offset.
    offset: Option<i64>,
}

impl World {
    fn new(is_cooperative: bool, are_static: [bool; 3]) -> Self {
        let mut h = Harness::new();
        h.commits_at_once = false;
        Self {
            h,
            is_cooperative,
            clients: are_static
                .iter()
                .enumerate()
                .map(|(number, is_static)| {
                    let instance = is_static.then(|| format!("i{number}"));
                    Client::new(number, true, is_cooperative, instance)
                })
                .collect(),
            asked: BTreeMap::new(),
            born: 3,
            offset: None,
        }
    }

    fn act(&mut self, action: Action) {
        self.born += 1;
        let number = self.born;
        match action {
            Action::Act { client } if self.asked.values().any(|asker| *asker == client) => {}
            Action::Act { client } => {
                let request = self.clients[client].request(number);
                let waiter = self.h.ask(request);
                self.asked.insert(waiter, client);
            }
            Action::Commit { client } => {
                let who = &self.clients[client];
                let who = member(&who.id, who.epoch);
                self.h.commit(who, i64::try_from(number).unwrap());
            }
            Action::Roll { client, is_classic } => {
                let request = self.clients[client].leaving(number);
                self.h.ask(request);
                self.replace(client, is_classic);
            }
            Action::Vanish { client, is_classic } => self.replace(client, is_classic),
            Action::Outcome { stored } => self.outcome(stored),
            Action::Pass { seconds } => self.h.pass(Duration::from_secs(seconds)),
            // A known weakness: docs/status.md, "Groups of both protocols".
            Action::Restart if self.clients.iter().any(|client| client.instance.is_some()) => {}
            Action::Restart => {
                let h = std::mem::replace(&mut self.h, Harness::new());
                self.h = h.restart();
                self.h.commits_at_once = false;
                for (_, client) in std::mem::take(&mut self.asked) {
                    self.clients[client].misses_an_answer();
                }
            }
        }
        self.learn();
        self.check();
    }

    fn outcome(&mut self, stored: bool) {
        let Some(write) = self.h.in_flight.first() else { return };
        let offset = write.records.iter().find_map(|record| match record {
            Record::Offset { value, .. } => Some(value.as_ref().map(|value| value.offset)),
            _ => None,
        });
        match stored {
            true => self.offset = offset.unwrap_or(self.offset),
            false => return self.h.commit_next(Err(ErrorCode::CoordinatorNotAvailable)),
        }
        self.h.commit_next(Ok(()));
    }

    fn replace(&mut self, client: usize, is_classic: bool) {
        self.asked.retain(|_, asker| *asker != client);
        let instance = self.clients[client].instance.clone();
        self.clients[client] = Client::new(self.born, is_classic, self.is_cooperative, instance);
    }

    fn learn(&mut self) {
        let waiters: Vec<Waiter> = self.asked.keys().copied().collect();
        for waiter in waiters {
            let Some(reply) = self.h.reply(waiter) else { continue };
            let client = self.asked.remove(&waiter).unwrap();
            self.clients[client].learn(reply);
        }
    }

    /// Of those that the coordinator has for members no two have the same; whoever it has put out learns of that. What is
    /// committed is what is stored.
    fn check(&mut self) {
        let members = self.members().1;
        let mut seen = BTreeMap::new();
        for client in self.clients.iter().filter(|client| members.contains(&client.id)) {
            for partition in &client.has {
                let other = seen.insert(*partition, &client.id);
                assert_eq!(other, None, "{partition} is also with {} of {members:?}", client.id);
            }
        }
        assert_eq!(self.h.committed(), self.offset);
    }

    /// Kafka's name for the group's type, and its members.
    fn members(&mut self) -> (&'static str, BTreeSet<String>) {
        let waiter = self.h.ask(Request::DescribeConsumer);
        if let Some(Reply::DescribeConsumer(Ok(group))) = self.h.reply(waiter) {
            return (
                "consumer",
                group.members.into_iter().map(|member| member.member_id).collect(),
            );
        }
        let waiter = self.h.ask(Request::Describe);
        match self.h.reply(waiter) {
            Some(Reply::Describe(Ok(group))) => (
                "classic",
                group.members.into_iter().map(|member| member.member_id).collect(),
            ),
            _ => ("", BTreeSet::new()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No partition is ever with two members, whichever way they give back; no committed offset is lost; left alone, the group
    /// settles, every partition with one of them, as a classic group if all of them are classic, and otherwise not.
    #[test]
    fn a_group_that_changes_its_protocol_keeps_its_promises(
        is_cooperative in any::<bool>(),
        are_static in any::<[bool; 3]>(),
        actions in prop::collection::vec(action(), 1..120),
    ) {
        let mut world = World::new(is_cooperative, are_static);
        for action in actions {
            world.act(action);
        }
        // Everybody acts, and all that is written is stored, until those who vanished are out and the others have their parts.
        for _ in 0..150 {
            for client in 0..3 {
                world.act(Action::Act { client });
                while !world.h.in_flight.is_empty() {
                    world.act(Action::Outcome { stored: true });
                }
            }
            world.act(Action::Pass { seconds: 3 });
            while !world.h.in_flight.is_empty() {
                world.act(Action::Outcome { stored: true });
            }
        }
        let (group_type, members) = world.members();
        let all: BTreeSet<String> = world.clients.iter().map(|client| client.id.clone()).collect();
        prop_assert_eq!(&members, &all);
        let are_classic = world.clients.iter().all(|client| client.is_classic);
        prop_assert_eq!(group_type, if are_classic { "classic" } else { "consumer" });
        for client in &world.clients {
            prop_assert_eq!(client.has.len(), 1, "{:?}", world.clients);
            prop_assert!(!client.is_classic || client.next == Next::Beat, "{:?}", world.clients);
        }
    }
}
