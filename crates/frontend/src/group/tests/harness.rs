//! A shard, a clock that only tests move, and requests in one line.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::batch::{HEADER_BYTES, TransactionEnd};
use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_runtime::clock::Instant;
use tailwater_types::TopicId;

use crate::config::MigrationPolicy;
use crate::coordinator::{Form, Machine as _, record_bytes};
use crate::group::assignor::Assignor;
use crate::group::consumer::heartbeat::Settings;
use crate::group::consumer::topics::{TopicShape, Topics};
use crate::group::effects::*;
use crate::group::machine::GroupMachine;
use crate::group::shard::Shard;
use crate::testing::marker;

pub const GROUP: &str = "g";

pub struct Harness {
    pub shard: Shard,
    pub now: Now,
    next_waiter: u64,
    replies: BTreeMap<Waiter, Reply>,
    /// Written and not yet committed, in order.
    pub in_flight: Vec<Write>,
    /// All records that were committed.
    pub log: Vec<Record>,
    /// Those again, with their transactions and markers: what a replay reads.
    pub history: Vec<Logged>,
    /// Whether writes are committed as soon as they are made.
    pub commits_at_once: bool,
    pub rebalances: u64,
    /// Which topic is there under every name.
    pub topic: Option<TopicId>,
    /// The most that a write may have, in bytes.
    pub batch_bytes: usize,
}

#[derive(Clone, Debug)]
pub enum Logged {
    /// Of a producer's transaction, or of none.
    Record(Box<Record>, Option<i64>),
    End {
        producer_id: i64,
        is_commit: bool,
    },
}

/// What records take in a batch of their own.
pub fn bytes_of(records: &[Record]) -> usize {
    let encoded = records
        .iter()
        .map(|record| crate::group::record::encode(record).unwrap());
    let sizes = encoded.map(|(key, value)| record_bytes(key.len(), value.map_or(0, |value| value.len())));
    HEADER_BYTES + sizes.sum::<usize>()
}

/// One topic under every name, of three partitions; and what a batch of the log may have.
pub struct One(pub Option<TopicId>, pub usize);

impl Topics for One {
    fn version(&self) -> i64 {
        0
    }

    fn find(&self, _name: &str) -> Option<TopicShape> {
        self.0.map(|id| TopicShape { id, partitions: 3 })
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn batch_bytes(&self) -> usize {
        self.1
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        self.0.filter(|known| *known == id).map(|_| "t")
    }
}

pub fn limits() -> Limits {
    Limits {
        initial_rebalance_delay: Duration::from_secs(3),
        max_size: 4,
        offsets_retention: Duration::from_secs(7 * 86_400),
        expiry_interval: Duration::from_secs(600),
        consumer: Settings {
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(5),
            assignment_interval: Duration::ZERO,
            max_size: 4,
            assignor: Assignor::Uniform,
            migration: MigrationPolicy::Bidirectional,
            classic_max_size: 4,
        },
    }
}

impl Harness {
    pub fn new() -> Self {
        Self {
            shard: Shard::new(limits()),
            now: Now {
                at: Instant::now(),
                wall_ms: 1_000_000,
            },
            next_waiter: 0,
            replies: BTreeMap::new(),
            in_flight: Vec::new(),
            log: Vec::new(),
            history: Vec::new(),
            commits_at_once: true,
            rebalances: 0,
            topic: Some(TopicId(Uuid::from_u128(1))),
            batch_bytes: usize::MAX,
        }
    }

    /// A shard that has read what another one has committed.
    pub fn restart(self) -> Self {
        let mut next = Self {
            now: self.now,
            next_waiter: self.next_waiter,
            ..Self::new()
        };
        for logged in self.history.iter().cloned() {
            match logged {
                Logged::Record(record, producer_id) => next.shard.replay(*record, producer_id, next.now),
                Logged::End { producer_id, is_commit } => next.shard.end_transaction(producer_id, is_commit),
            }
        }
        next.shard.loaded(next.now, &One(next.topic, next.batch_bytes));
        (next.log, next.history) = (self.log, self.history);
        next
    }

    pub fn ask(&mut self, request: Request) -> Waiter {
        self.ask_of(GROUP, request)
    }

    pub fn ask_of(&mut self, group: &str, request: Request) -> Waiter {
        let waiter = Waiter(self.next_waiter);
        self.next_waiter += 1;
        let effects = self
            .shard
            .step(group, request, waiter, self.now, &One(self.topic, self.batch_bytes));
        self.take(effects);
        waiter
    }

    fn take(&mut self, effects: Effects) {
        self.rebalances += effects.rebalances;
        for (waiter, reply) in effects.replies {
            assert!(self.replies.insert(waiter, reply).is_none(), "answered twice");
        }
        self.in_flight.extend(effects.writes);
        for write in &self.in_flight {
            let bytes = bytes_of(&write.records);
            assert!(bytes <= self.batch_bytes, "a write of {bytes} bytes");
        }
        while self.commits_at_once && !self.in_flight.is_empty() {
            self.commit_next(Ok(()));
        }
    }

    /// The outcome of the oldest write.
    pub fn commit_next(&mut self, result: Result<(), ErrorCode>) {
        let write = self.in_flight.remove(0);
        if result.is_ok() {
            self.store(&write);
        }
        let effects = self
            .shard
            .written(write, result, self.now, &One(self.topic, self.batch_bytes));
        self.take(effects);
    }

    /// The oldest write is in the log, and nobody hears of it: its shard is gone.
    pub fn store_next(&mut self) {
        let write = self.in_flight.remove(0);
        self.store(&write);
    }

    fn store(&mut self, write: &Write) {
        self.log.extend(write.records.iter().cloned());
        let producer_id = match GroupMachine::form(write) {
            Form::Plain => None,
            Form::Transactional(producer) => Some(producer.producer_id),
            Form::Marker(marker) => {
                self.history.push(Logged::End {
                    producer_id: marker.producer_id,
                    is_commit: marker.marker.end == TransactionEnd::Commit,
                });
                None
            }
        };
        let logged = |record: &Record| Logged::Record(Box::new(record.clone()), producer_id);
        self.history.extend(write.records.iter().map(logged));
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        while let Some(at) = self.shard.next_wake().filter(|at| *at <= end) {
            let step = at.saturating_duration_since(self.now.at);
            self.now.wall_ms += i64::try_from(step.as_millis()).unwrap();
            self.now.at = self.now.at.max(at);
            while let Some(effects) = self.shard.tick(self.now, &One(self.topic, self.batch_bytes)) {
                self.take(effects);
            }
        }
        self.now.wall_ms += i64::try_from((end - self.now.at).as_millis()).unwrap();
        self.now.at = end;
    }

    pub fn reply(&mut self, waiter: Waiter) -> Option<Reply> {
        self.replies.remove(&waiter)
    }

    pub fn joined(&mut self, waiter: Waiter) -> JoinReply {
        match self.reply(waiter) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("not a JoinGroup reply: {other:?}"),
        }
    }

    pub fn synced(&mut self, waiter: Waiter) -> SyncReply {
        match self.reply(waiter) {
            Some(Reply::Sync(reply)) => reply,
            other => panic!("not a SyncGroup reply: {other:?}"),
        }
    }

    pub fn heartbeat(&mut self, id: &str, generation: i32) -> ErrorCode {
        let waiter = self.ask(Request::Heartbeat(member(id, generation)));
        match self.reply(waiter) {
            Some(Reply::Heartbeat(error)) => error,
            other => panic!("not a Heartbeat reply: {other:?}"),
        }
    }

    pub fn commit(&mut self, who: MemberRef, offset: i64) -> Waiter {
        self.ask(Request::Commit(Commit {
            member: who,
            offsets: vec![(at(0), committed(offset))],
            unknown_group: ErrorCode::IllegalGeneration,
            knows_epochs: true,
        }))
    }

    /// What DescribeGroups says.
    pub fn described(&mut self) -> Result<GroupDescription, DescribeError> {
        let waiter = self.ask(Request::Describe);
        match self.reply(waiter) {
            Some(Reply::Describe(described)) => described,
            other => panic!("not a DescribeGroups reply: {other:?}"),
        }
    }

    /// A commit in the producer's transaction.
    pub fn commit_in_transaction(&mut self, who: MemberRef, producer_id: i64, offset: i64) -> Waiter {
        self.ask(Request::CommitInTransaction(TransactionalCommit {
            member: who,
            producer: InTransaction {
                producer_id,
                producer_epoch: 0,
                guard: None,
            },
            offsets: vec![(at(0), committed(offset))],
        }))
    }

    /// The producer's marker.
    pub fn end_transaction(&mut self, producer_id: i64, end: TransactionEnd) -> Waiter {
        self.ask(Request::EndTransaction(marker(producer_id, 0, end)))
    }

    pub fn committed(&mut self) -> Option<i64> {
        match self.fetched(false) {
            Fetched::Offset(offset) => Some(offset.offset),
            Fetched::Nothing => None,
            Fetched::Unstable => panic!("unstable, and nobody asked"),
        }
    }

    /// What is found of the one partition, nothing being on its way.
    pub fn fetched(&mut self, require_stable: bool) -> Fetched {
        let waiter = self.ask(Request::FetchOffsets(FetchOffsets {
            require_stable,
            member_id: None,
            member_epoch: -1,
            topics: Some(vec![("t".to_owned(), vec![0])]),
        }));
        match self.reply(waiter) {
            Some(Reply::FetchOffsets(Ok(mut topics))) => topics.remove(0).1.remove(0).1,
            other => panic!("not an OffsetFetch reply: {other:?}"),
        }
    }

    /// Brings these members, the first leading, into a stable generation; gives that.
    pub fn stable(&mut self, ids: &[&str]) -> i32 {
        let waiters: Vec<Waiter> = ids.iter().map(|id| self.ask(new_member(id))).collect();
        self.pass(Duration::from_secs(10));
        let joined: Vec<JoinReply> = waiters.into_iter().map(|waiter| self.joined(waiter)).collect();
        let generation = joined[0].generation;
        for reply in &joined {
            assert_eq!((reply.error, reply.generation), (ErrorCode::None, generation));
        }
        let leader = joined[0].leader.clone();
        let others: Vec<Waiter> = ids
            .iter()
            .filter(|id| **id != leader)
            .map(|id| self.ask(sync(id, generation, &[])))
            .collect();
        let assignments: Vec<(&str, &str)> = ids.iter().map(|id| (*id, *id)).collect();
        let first = self.ask(sync(&leader, generation, &assignments));
        for waiter in others.into_iter().chain([first]) {
            assert_eq!(self.synced(waiter).error, ErrorCode::None);
        }
        generation
    }
}

pub fn at(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: "t".to_owned(),
        partition,
    }
}

pub fn committed(offset: i64) -> CommittedOffset {
    CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: "as sent".to_owned(),
        commit_timestamp_ms: 7,
        expire_timestamp_ms: -1,
        topic_id: None,
    }
}

pub fn protocols(names: &[&str]) -> Vec<Protocol> {
    let protocol = |name: &&str| Protocol {
        name: (*name).to_owned(),
        metadata: Bytes::from(format!("{name} metadata")),
    };
    names.iter().map(protocol).collect()
}

pub fn join(member_id: &str, new_member_id: &str) -> Join {
    Join {
        member_id: member_id.to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: Duration::from_secs(30),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".to_owned(),
        protocols: protocols(&["range"]),
        requires_known_member_id: false,
        can_skip_assignment: true,
        new_member_id: new_member_id.to_owned(),
    }
}

/// A member that gets `id` at once, as clients before JoinGroup 4 do.
pub fn new_member(id: &str) -> Request {
    Request::Join(join("", id))
}

pub fn rejoin(id: &str) -> Request {
    Request::Join(join(id, ""))
}

pub fn static_join(instance: &str, member_id: &str, new_id: &str) -> Request {
    Request::Join(Join {
        instance_id: Some(instance.to_owned()),
        ..join(member_id, new_id)
    })
}

pub fn member(id: &str, generation: i32) -> MemberRef {
    MemberRef {
        member_id: id.to_owned(),
        instance_id: None,
        generation,
    }
}

pub fn nobody() -> MemberRef {
    member("", -1)
}

pub fn sync(id: &str, generation: i32, assignments: &[(&str, &str)]) -> Request {
    let assignments = assignments
        .iter()
        .map(|(id, part)| ((*id).to_owned(), Bytes::copy_from_slice(part.as_bytes())));
    Request::Sync(Sync {
        member: member(id, generation),
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: assignments.collect(),
    })
}

pub fn leave(ids: &[&str]) -> Request {
    let leaving = |id: &&str| Leaving {
        member_id: (*id).to_owned(),
        instance_id: None,
    };
    Request::Leave(ids.iter().map(leaving).collect())
}
