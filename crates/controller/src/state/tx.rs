//! A step in the making: reads the state as it will be, collects changes, effects and clock readings.

use std::sync::Arc;
use std::time::Duration;

use tailwater_format::metadata::{
    CleaningRecord, ConfigRecord, Counters, DeletionRecord, DeviceRecord, JournalRecord, Key, NodeRecord, ObjectRecord,
    Record, StreamBlock, StreamRow, TopicRecord,
};
use tailwater_runtime::clock::Instant;
use tailwater_types::{DeviceId, JournalId, MetadataVersion, NodeEpoch, NodeId, ObjectId, StreamId, TaskId, TopicId};

use super::{Changes, State, Timers, Touch, View};

/// The most keys that one atomic change writes (docs/design.md section 6). One of them is the counters'.
pub const MAX_KEYS: usize = 100;

/// The most bytes of keys and values that one atomic change writes.
pub const MAX_BYTES: usize = 1 << 20;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A node that is silent for longer is fenced; `None`: never.
    pub node_lease: Option<Duration>,
    /// How long a frontend is registered before it gets, or gives, a share of what others lead; `None`: never.
    pub balance_after: Option<Duration>,
    pub task_lease: Duration,
    /// A writer's time for a prepared object.
    pub object_deadline: Duration,
    /// Between an object's last use and its deletion, and between two deletions of an expired one.
    pub delete_delay: Duration,
    /// How long a stream is left alone whose cleaning failed for the first time; twice as long each time after.
    pub clean_backoff: Duration,
    /// How long a stream is left alone that was cleaned.
    pub clean_interval: Duration,
}

/// What is to be done outside once a step is durable. Each is repeated until the state says that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Seal, trim or forget this journal at its members, whatever its record says.
    Settle(JournalId),
    /// This device serves again: what waits for it need not wait any longer.
    DeviceServes(DeviceId),
}

/// The outcome of a command that was accepted.
#[derive(Clone, Debug, Default)]
pub struct Step {
    pub changes: Changes,
    pub effects: Vec<Effect>,
    pub touches: Vec<Touch>,
}

pub struct Tx<'a> {
    pub state: &'a State,
    pub timers: &'a Timers,
    pub limits: &'a Limits,
    pub now: Instant,
    step: Step,
}

impl<'a> Tx<'a> {
    pub fn new(state: &'a State, timers: &'a Timers, limits: &'a Limits, now: Instant) -> Self {
        Self {
            state,
            timers,
            limits,
            now,
            step: Step::default(),
        }
    }

    /// The step, under the next version of the metadata if it changes any.
    pub fn finish(mut self) -> Step {
        if !self.step.changes.is_empty() {
            let version = self.version();
            let counters = Counters {
                version,
                ..self.counters()
            };
            self.put_counters(counters);
        }
        self.step
    }

    /// The version that will show this step.
    pub fn version(&self) -> MetadataVersion {
        MetadataVersion(self.state.version().0 + 1)
    }

    /// How many records the step changes so far.
    pub fn keys(&self) -> usize {
        self.step.changes.len()
    }

    pub fn effect(&mut self, effect: Effect) {
        self.step.effects.push(effect);
    }

    pub fn touch(&mut self, touch: Touch) {
        self.step.touches.push(touch);
    }

    pub fn remove(&mut self, key: Key) {
        self.step.changes.insert(key, None);
    }

    pub fn put_node(&mut self, id: NodeId, record: NodeRecord) {
        self.put(Key::Node(id), Record::Node(Arc::new(record)));
    }

    pub fn put_device(&mut self, id: DeviceId, record: DeviceRecord) {
        self.put(Key::Device(id), Record::Device(Arc::new(record)));
    }

    pub fn put_topic(&mut self, id: TopicId, record: TopicRecord) {
        self.put(Key::Topic(id), Record::Topic(Arc::new(record)));
    }

    pub fn put_journal(&mut self, id: JournalId, record: JournalRecord) {
        self.put(Key::Journal(id), Record::Journal(Arc::new(record)));
    }

    pub fn put_object(&mut self, id: ObjectId, record: ObjectRecord) {
        self.put(Key::Object(id), Record::Object(Arc::new(record)));
    }

    pub fn put_deletion(&mut self, id: TaskId, record: DeletionRecord) {
        self.put(Key::Deletion(id), Record::Deletion(Arc::new(record)));
    }

    pub fn put_cleaning(&mut self, id: TaskId, record: CleaningRecord) {
        self.put(Key::Cleaning(id), Record::Cleaning(Arc::new(record)));
    }

    pub fn put_config(&mut self, number: u64, record: ConfigRecord) {
        self.put(Key::Config(number), Record::Config(Arc::new(record)));
    }

    /// A block of streams; an empty one is removed.
    pub fn put_block(&mut self, number: u64, block: StreamBlock) {
        if block.rows.is_empty() {
            self.remove(Key::Streams(number));
        } else {
            self.put(Key::Streams(number), Record::Streams(Arc::new(block)));
        }
    }

    /// Changes the rows of consecutive streams; `row` answers `None` to remove one.
    pub fn put_rows(&mut self, first: StreamId, count: u32, mut row: impl FnMut(u32) -> Option<StreamRow>) {
        let mut at = 0;
        while at < count {
            let number = Key::block_of(StreamId(first.0 + u64::from(at)));
            let mut block = self
                .block(number)
                .map_or_else(StreamBlock::default, |block| (**block).clone());
            while at < count && Key::block_of(StreamId(first.0 + u64::from(at))) == number {
                let stream = StreamId(first.0 + u64::from(at));
                match row(at) {
                    Some(row) => block.rows.insert(stream, row),
                    None => block.rows.remove(&stream),
                };
                at += 1;
            }
            self.put_block(number, block);
        }
    }

    /// The first of `count` new streams.
    pub fn new_streams(&mut self, count: u32) -> StreamId {
        StreamId(self.count(|counters| &mut counters.next_stream, u64::from(count)))
    }

    pub fn new_journal(&mut self) -> JournalId {
        JournalId(self.count(|counters| &mut counters.next_journal, 1))
    }

    pub fn new_object(&mut self) -> ObjectId {
        ObjectId(self.count(|counters| &mut counters.next_object, 1))
    }

    pub fn new_task(&mut self) -> TaskId {
        TaskId(self.count(|counters| &mut counters.next_task, 1))
    }

    /// The number of something else than a topic that has settings for the first time.
    pub fn new_config(&mut self) -> u64 {
        self.count(|counters| &mut counters.next_config, 1)
    }

    /// The first of `count` new producer ids.
    pub fn new_producer_ids(&mut self, count: i64) -> i64 {
        let mut counters = self.counters();
        let first = counters.next_producer_id;
        counters.next_producer_id += count;
        self.put_counters(counters);
        first
    }

    /// A node's record is deleted: whoever comes under its number gets a higher epoch.
    pub fn forget_node(&mut self, id: NodeId, epoch: NodeEpoch) {
        let mut counters = self.counters();
        counters.forgotten_epoch = counters.forgotten_epoch.max(epoch);
        self.put_counters(counters);
        self.remove(Key::Node(id));
    }

    fn count(&mut self, which: impl Fn(&mut Counters) -> &mut u64, by: u64) -> u64 {
        let mut counters = self.counters();
        let next = which(&mut counters);
        let first = *next;
        *next += by;
        self.put_counters(counters);
        first
    }

    fn put_counters(&mut self, counters: Counters) {
        self.put(Key::Counters, Record::Counters(Arc::new(counters)));
    }

    fn put(&mut self, key: Key, record: Record) {
        self.step.changes.insert(key, Some(record));
    }
}

impl View for Tx<'_> {
    fn record(&self, key: Key) -> Option<&Record> {
        match self.step.changes.get(&key) {
            Some(changed) => changed.as_ref(),
            None => self.state.record(key),
        }
    }
}
