//! A shard, a clock that only tests move, and requests in one line.

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_runtime::clock::Instant;

use crate::txn::effects::*;
use crate::txn::record;
use crate::txn::shard::Shard;
use crate::txn::state::*;

pub const ID: &str = "tx";
pub const TIMEOUT_MS: i32 = 60_000;

pub struct Harness {
    pub shard: Shard,
    pub now: Now,
    next_waiter: u64,
    next_id: i64,
    replies: BTreeMap<Waiter, Reply>,
    /// Written and not yet committed, in order.
    pub in_flight: Vec<Write>,
    /// Everything that was committed, as bytes.
    pub log: Vec<(String, Option<Transaction>)>,
    /// Whether writes are committed as soon as they are made.
    pub commits_at_once: bool,
    /// Sent and not yet acknowledged.
    pub markers: Vec<Markers>,
    /// Whether markers are acknowledged as soon as they are sent.
    pub marks_at_once: bool,
    /// Every marker that was sent.
    pub sent: Vec<Markers>,
}

pub fn limits() -> Limits {
    Limits {
        id_expiration: Duration::from_secs(7 * 24 * 3600),
        patience: Duration::from_secs(1),
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
            next_id: 100,
            replies: BTreeMap::new(),
            in_flight: Vec::new(),
            log: Vec::new(),
            commits_at_once: true,
            markers: Vec::new(),
            marks_at_once: true,
            sent: Vec::new(),
        }
    }

    /// A shard that has read what another one has committed, and nothing else.
    pub fn restart(self) -> Self {
        let mut next = Self {
            now: self.now,
            next_waiter: self.next_waiter,
            next_id: self.next_id,
            commits_at_once: self.commits_at_once,
            marks_at_once: self.marks_at_once,
            sent: self.sent,
            ..Self::new()
        };
        for (id, value) in &self.log {
            let (key, bytes) = record::encode(id, value.as_ref()).unwrap();
            let (id, value) = record::decode(&key, bytes.as_deref()).unwrap().unwrap();
            next.shard.replay(id, value);
        }
        next.log = self.log;
        let effects = next.shard.loaded(next.now);
        next.take(effects);
        next
    }

    pub fn ask(&mut self, request: Request) -> Waiter {
        let waiter = Waiter(self.next_waiter);
        self.next_waiter += 1;
        let effects = self.shard.step(ID, request, waiter, self.now);
        self.take(effects);
        waiter
    }

    fn take(&mut self, effects: Effects) {
        for (waiter, reply) in effects.replies {
            assert!(self.replies.insert(waiter, reply).is_none(), "answered twice");
        }
        self.in_flight.extend(effects.writes);
        self.sent.extend(effects.markers.iter().cloned());
        self.markers.extend(effects.markers);
        while self.commits_at_once && !self.in_flight.is_empty() {
            self.commit_next(Ok(()));
        }
        while self.marks_at_once && !self.markers.is_empty() {
            self.mark_next(true);
        }
    }

    /// The outcome of the oldest write.
    pub fn commit_next(&mut self, result: Result<(), ErrorCode>) {
        let write = self.in_flight.remove(0);
        if result.is_ok() {
            self.log.push((write.id.clone(), write.value.as_deref().cloned()));
        }
        let effects = self.shard.written(write, result, self.now);
        self.take(effects);
    }

    /// The outcome of the oldest markers: all of them are written, or none.
    pub fn mark_next(&mut self, is_written: bool) {
        self.mark(0, |_| is_written);
    }

    /// The outcome of some markers: which partitions have them.
    pub fn mark(&mut self, number: usize, is_written: impl Fn(&TopicPartition) -> bool) {
        let markers = self.markers.remove(number);
        let marked = Marked {
            id: markers.id,
            producer: markers.producer,
            partitions: markers.partitions.into_iter().filter(is_written).collect(),
            attempt: markers.attempt,
        };
        let effects = self.shard.marked(marked, self.now);
        self.take(effects);
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        while let Some(at) = self.shard.next_wake().filter(|at| *at <= end) {
            let step = at.saturating_duration_since(self.now.at);
            self.now.wall_ms += i64::try_from(step.as_millis()).unwrap();
            self.now.at = self.now.at.max(at);
            while let Some(effects) = self.shard.tick(self.now) {
                self.take(effects);
            }
        }
        self.now.wall_ms += i64::try_from((end - self.now.at).as_millis()).unwrap();
        self.now.at = end;
    }

    pub fn peek(&self, waiter: Waiter) -> Option<&Reply> {
        self.replies.get(&waiter)
    }

    pub fn reply(&mut self, waiter: Waiter) -> Option<Reply> {
        self.replies.remove(&waiter)
    }

    /// InitProducerId as the wire asks: with a new id where one is needed.
    pub fn init(&mut self, expected: Option<ProducerRef>) -> Result<ProducerRef, ErrorCode> {
        let request = |new_id| Request::Init {
            timeout_ms: TIMEOUT_MS,
            expected,
            new_id,
        };
        self.with_id(request)
    }

    pub fn end(&mut self, producer: ProducerRef, is_commit: bool, version: i16) -> Result<ProducerRef, ErrorCode> {
        let request = |new_id| Request::End {
            producer,
            is_commit,
            with_new_epoch: version >= 2,
            new_id,
        };
        self.with_id(request)
    }

    fn with_id(&mut self, request: impl Fn(Option<i64>) -> Request) -> Result<ProducerRef, ErrorCode> {
        let waiter = self.ask(request(None));
        let reply = match self.reply(waiter) {
            Some(Reply::NeedsProducerId) => {
                self.next_id += 1;
                let waiter = self.ask(request(Some(self.next_id)));
                self.reply(waiter)
            }
            reply => reply,
        };
        match reply {
            Some(Reply::Producer(result)) => result,
            other => panic!("not answered with a producer: {other:?}"),
        }
    }

    pub fn begin_add(&mut self, producer: ProducerRef, partition: i32) -> Waiter {
        self.ask(Request::Add {
            producer,
            partitions: [at(partition)].into(),
            client_version: 2,
        })
    }

    pub fn add(&mut self, producer: ProducerRef, partition: i32) -> ErrorCode {
        let waiter = self.begin_add(producer, partition);
        match self.reply(waiter) {
            Some(Reply::Added(error)) => error,
            other => panic!("not added: {other:?}"),
        }
    }

    pub fn begin_verify(&mut self, producer: ProducerRef, partition: i32) -> Waiter {
        let partitions = vec![at(partition)];
        self.ask(Request::Verify { producer, partitions })
    }

    pub fn verify(&mut self, producer: ProducerRef, partition: i32) -> ErrorCode {
        let waiter = self.begin_verify(producer, partition);
        match self.reply(waiter) {
            Some(Reply::Verified(Ok(errors))) => errors[0],
            Some(Reply::Verified(Err(error))) => error,
            other => panic!("not verified: {other:?}"),
        }
    }

    pub fn describe(&mut self) -> Result<Transaction, ErrorCode> {
        let waiter = self.ask(Request::Describe);
        match self.reply(waiter) {
            Some(Reply::Described(found)) => found.map(|state| *state),
            other => panic!("not described: {other:?}"),
        }
    }

    pub fn phase(&mut self) -> Phase {
        self.describe().unwrap().phase
    }
}

pub fn at(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: "t".to_owned(),
        partition,
    }
}

pub fn producer(id: i64, epoch: i16) -> ProducerRef {
    ProducerRef { id, epoch }
}
