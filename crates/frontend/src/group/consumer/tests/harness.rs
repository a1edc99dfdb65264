//! A group, its log, topics, and heartbeats in one line.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_runtime::clock::Instant;
use tailwater_types::TopicId;

use crate::config::MigrationPolicy;
use crate::coordinator::{Now, Waiter};
use crate::group::assignor::Assignor;
use crate::group::consumer::group::{ConsumerGroup, Outcome, Writing};
use crate::group::consumer::heartbeat::{Around, Heartbeat, HeartbeatReply, Settings};
use crate::group::consumer::record::{self, ConsumerRecord};
use crate::group::consumer::state::Partitions;
use crate::group::consumer::topics::{TopicShape, Topics};
use crate::group::effects::{Membership, Reply};

pub const SESSION: Duration = Duration::from_secs(45);

#[derive(Clone, Default)]
pub struct Cluster {
    pub version: i64,
    pub topics: BTreeMap<String, TopicShape>,
}

impl Topics for Cluster {
    fn version(&self) -> i64 {
        self.version
    }

    fn find(&self, name: &str) -> Option<TopicShape> {
        self.topics.get(name).copied()
    }

    fn names(&self) -> Vec<&str> {
        self.topics.keys().map(String::as_str).collect()
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        let mut topics = self.topics.iter();
        topics.find(|(_, shape)| shape.id == id).map(|(name, _)| name.as_str())
    }
}

pub fn id_of(name: &str) -> TopicId {
    TopicId(Uuid::from_u128(
        name.bytes().fold(0, |id, byte| id << 8 | u128::from(byte)),
    ))
}

pub struct Harness {
    pub group: ConsumerGroup,
    pub cluster: Cluster,
    pub settings: Settings,
    pub now: Now,
    next_waiter: u64,
    replies: BTreeMap<Waiter, Reply>,
    pub in_flight: Option<Writing>,
    pub log: Vec<ConsumerRecord>,
    pub commits_at_once: bool,
}

impl Harness {
    pub fn new(topics: &[(&str, i32)]) -> Self {
        let mut harness = Self {
            group: ConsumerGroup::default(),
            cluster: Cluster::default(),
            settings: Settings {
                session_timeout: SESSION,
                heartbeat_interval: Duration::from_secs(5),
                assignment_interval: Duration::ZERO,
                max_size: 4,
                assignor: Assignor::Uniform,
                migration: MigrationPolicy::Bidirectional,
                classic_max_size: 4,
            },
            now: Now {
                at: Instant::now(),
                wall_ms: 1_000_000,
            },
            next_waiter: 0,
            replies: BTreeMap::new(),
            in_flight: None,
            log: Vec::new(),
            commits_at_once: true,
        };
        topics
            .iter()
            .for_each(|(name, partitions)| harness.set_topic(name, *partitions));
        harness
    }

    pub fn set_topic(&mut self, name: &str, partitions: i32) {
        let shape = TopicShape {
            id: id_of(name),
            partitions,
        };
        self.cluster.topics.insert(name.to_owned(), shape);
        self.cluster.version += 1;
    }

    pub fn delete_topic(&mut self, name: &str) {
        self.cluster.topics.remove(name);
        self.cluster.version += 1;
    }

    /// A group that has read what another one has committed, record by record as they stand in the log.
    pub fn restart(self) -> Self {
        let mut group = ConsumerGroup::default();
        for record in &self.log {
            let (key, value) = record::encode("g", record).unwrap();
            let (name, read) = record::decode(&key, value.as_deref()).unwrap().unwrap();
            assert_eq!((name.as_str(), &read), ("g", record));
            group.replay(&read);
        }
        group.loaded(self.now, SESSION);
        Self {
            group,
            in_flight: None,
            replies: BTreeMap::new(),
            ..self
        }
    }

    /// Compacts the first `count` records of the log: each key's last one stays, where it is, and no tombstone.
    pub fn compact(&mut self, count: usize) {
        let cleaned: Vec<_> = self.log.drain(..count).collect();
        let key = |record: &ConsumerRecord| record::encode("g", record).unwrap();
        let newest: BTreeMap<_, usize> = cleaned.iter().map(|record| key(record).0).zip(0..).collect();
        let mut kept = cleaned;
        let mut at = 0..;
        kept.retain(|record| {
            let (key, value) = key(record);
            newest[&key] == at.next().unwrap() && value.is_some()
        });
        self.log.splice(..0, kept);
    }

    fn step(&mut self, step: impl FnOnce(&mut ConsumerGroup, &Around<'_>) -> Outcome) {
        let around = Around {
            group: "g",
            now: self.now,
            settings: self.settings,
            topics: &self.cluster,
        };
        let outcome = step(&mut self.group, &around);
        for (waiter, reply) in outcome.replies {
            assert!(self.replies.insert(waiter, reply).is_none(), "answered twice");
        }
        if let Some(write) = outcome.write {
            assert!(self.in_flight.replace(write).is_none(), "two writes on their way");
        }
        if self.commits_at_once && self.in_flight.is_some() {
            self.commit(Ok(()));
        }
    }

    /// The outcome of the write on its way.
    pub fn commit(&mut self, result: Result<(), ErrorCode>) {
        let Some(Writing { records, answers, .. }) = self.in_flight.take() else {
            return;
        };
        match result {
            Ok(()) => {
                self.log.extend(records);
                self.replies.extend(answers);
            }
            Err(error) => {
                let refused = answers
                    .into_iter()
                    .map(|(waiter, reply)| (waiter, reply.into_refusal(error)));
                self.replies.extend(refused);
            }
        }
        self.step(|group, around| group.written(result, around));
    }

    pub fn ask(&mut self, request: Heartbeat) -> Waiter {
        self.ask_any(Membership::ConsumerHeartbeat(Box::new(request)))
    }

    pub fn ask_any(&mut self, request: Membership) -> Waiter {
        let waiter = Waiter(self.next_waiter);
        self.next_waiter += 1;
        self.step(|group, around| group.ask(request, waiter, around));
        waiter
    }

    pub fn reply(&mut self, waiter: Waiter) -> Option<HeartbeatReply> {
        match self.reply_of_any(waiter)? {
            Reply::ConsumerHeartbeat(reply) => Some(*reply),
            other => panic!("not a ConsumerGroupHeartbeat reply: {other:?}"),
        }
    }

    pub fn reply_of_any(&mut self, waiter: Waiter) -> Option<Reply> {
        self.replies.remove(&waiter)
    }

    /// What is asked and answered at once.
    pub fn call(&mut self, request: Membership) -> Reply {
        let waiter = self.ask_any(request);
        self.reply_of_any(waiter).expect("answered at once")
    }

    pub fn heartbeat(&mut self, request: Heartbeat) -> HeartbeatReply {
        let waiter = self.ask(request);
        self.reply(waiter).expect("answered at once")
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        while let Some(at) = self.group.next_deadline().filter(|at| *at <= end) {
            self.move_to(at.max(self.now.at));
            self.step(|group, around| group.tick(around));
        }
        self.move_to(end);
    }

    fn move_to(&mut self, at: Instant) {
        let passed = at.saturating_duration_since(self.now.at);
        self.now.wall_ms += i64::try_from(passed.as_millis()).unwrap();
        self.now.at = at;
    }

    /// Heartbeats of all until nothing changes any more, each giving back at once what it shall.
    pub fn settle(&mut self, clients: &mut [Client]) {
        for _ in 0..20 {
            for client in clients.iter_mut() {
                client.beat(self);
            }
        }
    }
}

/// A member as its client sees it.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub id: String,
    pub host: String,
    pub epoch: i32,
    pub has: Partitions,
    pub errors: VecDeque<ErrorCode>,
}

impl Client {
    pub fn join(h: &mut Harness, id: &str, topics: &[&str]) -> Self {
        let reply = h.heartbeat(join(id, topics));
        assert_eq!(reply.error, ErrorCode::None, "{:?}", reply.message);
        let mut client = Self {
            id: id.to_owned(),
            ..Self::default()
        };
        client.take(reply);
        client
    }

    pub fn take(&mut self, reply: HeartbeatReply) {
        if reply.error.is_error() {
            return self.errors.push_back(reply.error);
        }
        self.epoch = reply.member_epoch;
        if let Some(assignment) = reply.assignment {
            self.has = assignment;
        }
    }

    pub fn request(&self) -> Heartbeat {
        Heartbeat {
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            client_host: self.host.clone(),
            owned: Some(self.has.clone()),
            ..Heartbeat::default()
        }
    }

    pub fn beat(&mut self, h: &mut Harness) {
        let reply = h.heartbeat(self.request());
        self.take(reply);
    }

    pub fn load(&self) -> usize {
        self.has.values().map(std::collections::BTreeSet::len).sum()
    }
}

pub fn join(id: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat {
        member_id: id.to_owned(),
        rebalance_timeout_ms: Some(60_000),
        topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
        owned: Some(Partitions::new()),
        ..Heartbeat::default()
    }
}

pub fn static_join(instance: &str, id: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat {
        instance_id: Some(instance.to_owned()),
        ..join(id, topics)
    }
}
