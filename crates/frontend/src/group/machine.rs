//! Groups as their owner drives them.
//!
//! Owns: records as bytes on both sides of the shard, and its figures. Does not own: any decision (`shard.rs`).

use std::time::Duration;

use tailwater_kafka::{CodecError, ErrorCode};
use tailwater_rpc::controller::ConfigResource;
use tailwater_runtime::clock::Instant;
use tailwater_types::TopicId;

use super::consumer::heartbeat::Settings;
use super::consumer::topics::{TopicShape, Topics};
use super::effects::{Effects, Reply, Request, Then, Write};
use super::metrics::GroupMetrics;
use super::record;
use super::shard::Shard;
use crate::coordinator::{Form, KeyValue, Machine, Now, Turn, Waiter};
use crate::metadata::names;
use crate::view::{Snapshot, View};

pub(crate) struct GroupMachine {
    shard: Shard,
    /// Says which topics there are.
    view: View,
    metrics: GroupMetrics,
    counted_groups: i64,
}

impl GroupMachine {
    pub fn new(shard: Shard, view: View, metrics: GroupMetrics) -> Self {
        Self {
            shard,
            view,
            metrics,
            counted_groups: 0,
        }
    }

    fn turn(&mut self, effects: Effects) -> Turn<Self> {
        self.metrics.rebalances.inc_by(effects.rebalances);
        let groups = i64::try_from(self.shard.len()).unwrap_or(i64::MAX);
        self.metrics.groups.add(groups - self.counted_groups);
        self.counted_groups = groups;
        Turn {
            replies: effects.replies,
            writes: effects.writes,
            jobs: Vec::new(),
        }
    }
}

impl Machine for GroupMachine {
    type Request = Request;
    type Reply = Reply;
    type Write = Write;
    /// Groups have no jobs.
    type Event = std::convert::Infallible;

    fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        producer_id: Option<i64>,
        now: Now,
    ) -> Result<(), CodecError> {
        if let Some(record) = record::decode(key, value)? {
            self.shard.replay(record, producer_id, now);
        }
        Ok(())
    }

    fn replay_end(&mut self, producer_id: i64, is_commit: bool) {
        self.shard.end_transaction(producer_id, is_commit);
    }

    fn loaded(&mut self, now: Now) -> Turn<Self> {
        self.shard.loaded(now, &Known(&self.view.snapshot()));
        self.turn(Effects::default())
    }

    fn step(&mut self, group: &str, request: Request, waiter: Waiter, now: Now) -> Turn<Self> {
        let effects = self
            .shard
            .step(group, request, waiter, now, &Known(&self.view.snapshot()));
        self.turn(effects)
    }

    fn written(&mut self, write: Write, result: Result<(), ErrorCode>, now: Now) -> Turn<Self> {
        let effects = self.shard.written(write, result, now, &Known(&self.view.snapshot()));
        self.turn(effects)
    }

    fn happened(&mut self, event: Self::Event, _now: Now) -> Turn<Self> {
        match event {}
    }

    fn next_wake(&self) -> Option<Instant> {
        self.shard.next_wake()
    }

    fn tick(&mut self, now: Now) -> Option<Turn<Self>> {
        if self.shard.next_wake()? > now.at {
            return None;
        }
        let effects = self.shard.tick(now, &Known(&self.view.snapshot()))?;
        Some(self.turn(effects))
    }

    fn encode(write: &Write) -> Result<Vec<KeyValue>, CodecError> {
        write.records.iter().map(record::encode).collect()
    }

    fn form(write: &Write) -> Form {
        match &write.then {
            Then::KeepPending(producer, _) => Form::Transactional(*producer),
            Then::EndTransaction(marker) => Form::Marker(*marker),
            _ => Form::Plain,
        }
    }

    fn refused(request: &Request, error: ErrorCode) -> Reply {
        request.refused(error)
    }
}

/// The topics, and settings of groups, that this node knows.
struct Known<'a>(&'a Snapshot);

impl Topics for Known<'_> {
    fn version(&self) -> i64 {
        i64::try_from(self.0.topics_version().0).unwrap_or(i64::MAX)
    }

    fn find(&self, name: &str) -> Option<TopicShape> {
        let topic = self.0.topic_named(name)?;
        Some(TopicShape {
            id: topic.info.id,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        })
    }

    fn names(&self) -> Vec<&str> {
        self.0.topics().map(|topic| &*topic.name).collect()
    }

    fn name_of(&self, id: TopicId) -> Option<&str> {
        self.0.topic(id).map(|topic| &*topic.name)
    }

    fn batch_bytes(&self) -> usize {
        let log = self.0.topic_named(names::CONSUMER_OFFSETS);
        log.map_or(usize::MAX, |log| log.settings.max_message_bytes)
    }

    fn settings_of(&self, group: &str, of_all: Settings) -> Settings {
        let Some(set) = self.0.configs(&ConfigResource::Group(group.to_owned())) else {
            return of_all;
        };
        let or = |name: &str, of_all: Duration| {
            let ms = set.get(name).and_then(|value| value.parse().ok());
            ms.map_or(of_all, Duration::from_millis)
        };
        Settings {
            session_timeout: or("consumer.session.timeout.ms", of_all.session_timeout),
            heartbeat_interval: or("consumer.heartbeat.interval.ms", of_all.heartbeat_interval),
            assignment_interval: or("consumer.assignment.interval.ms", of_all.assignment_interval),
            ..of_all
        }
    }
}

impl Drop for GroupMachine {
    fn drop(&mut self) {
        self.metrics.groups.sub(self.counted_groups);
    }
}
