//! A shard, a clock that only tests move, and requests in one line.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_runtime::clock::Instant;
use tailwater_types::TopicId;

use crate::group::effects::*;
use crate::group::shard::Shard;

pub const GROUP: &str = "g";

pub struct Harness {
    pub shard: Shard,
    pub now: Now,
    next_waiter: u64,
    replies: BTreeMap<Waiter, Reply>,
    /// Written and not yet committed, in order.
    pub in_flight: Vec<Write>,
    /// Everything that was committed.
    pub log: Vec<Record>,
    /// Whether writes are committed as soon as they are made.
    pub commits_at_once: bool,
    pub rebalances: u64,
    /// Which topic is there under every name.
    pub topic: Option<TopicId>,
}

pub fn limits() -> Limits {
    Limits {
        initial_rebalance_delay: Duration::from_secs(3),
        max_size: 4,
        offsets_retention: Duration::from_secs(7 * 86_400),
        expiry_interval: Duration::from_secs(600),
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
            commits_at_once: true,
            rebalances: 0,
            topic: Some(TopicId(Uuid::from_u128(1))),
        }
    }

    /// A shard that has read what another one has committed.
    pub fn restart(self) -> Self {
        let mut next = Self {
            now: self.now,
            next_waiter: self.next_waiter,
            ..Self::new()
        };
        self.log
            .iter()
            .for_each(|record| next.shard.replay(record.clone(), next.now));
        next.shard.loaded(next.now);
        next.log = self.log;
        next
    }

    pub fn ask(&mut self, request: Request) -> Waiter {
        let waiter = Waiter(self.next_waiter);
        self.next_waiter += 1;
        let effects = self.shard.step(GROUP, request, waiter, self.now);
        self.take(effects);
        waiter
    }

    fn take(&mut self, effects: Effects) {
        self.rebalances += effects.rebalances;
        for (waiter, reply) in effects.replies {
            assert!(self.replies.insert(waiter, reply).is_none(), "answered twice");
        }
        self.in_flight.extend(effects.writes);
        while self.commits_at_once && !self.in_flight.is_empty() {
            self.commit_next(Ok(()));
        }
    }

    /// The outcome of the oldest write.
    pub fn commit_next(&mut self, result: Result<(), ErrorCode>) {
        let write = self.in_flight.remove(0);
        if result.is_ok() {
            self.log.extend(write.records.iter().cloned());
        }
        let effects = self.shard.written(write, result, self.now);
        self.take(effects);
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        while let Some(at) = self.shard.next_wake().filter(|at| *at <= end) {
            let step = at.saturating_duration_since(self.now.at);
            self.now.wall_ms += i64::try_from(step.as_millis()).unwrap();
            self.now.at = self.now.at.max(at);
            while let Some(effects) = self.shard.tick(self.now, &|_| self.topic) {
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
        }))
    }

    pub fn committed(&mut self) -> Option<i64> {
        let topics = Some(vec![("t".to_owned(), vec![0])]);
        let waiter = self.ask(Request::FetchOffsets(FetchOffsets {
            require_stable: false,
            topics,
        }));
        match self.reply(waiter) {
            Some(Reply::FetchOffsets(Ok(topics))) => topics[0].1[0].1.as_ref().map(|offset| offset.offset),
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
