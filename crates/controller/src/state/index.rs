//! What follows from the records and is looked up often. Never stored; independent of the order in which records came.

use std::collections::{BTreeMap, BTreeSet};

use tailwater_format::metadata::{
    ConfigOwner, JournalState, Key, ObjectLife, ObjectRecord, ObjectSlice, ObjectSnapshot, Record, StreamRow,
};
use tailwater_types::{JournalId, NodeEpoch, NodeId, ObjectId, Offset, OffsetRange, StreamId, TaskId, TopicId};

use super::runs::Runs;

/// A leadership's holder: a node under one registration, or nobody.
pub type Leader = Option<(NodeId, NodeEpoch)>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// By the name in which `.` is written as `_`: Kafka's metrics can't tell the two apart, so names may not either.
    topics: BTreeMap<String, TopicId>,
    /// How many streams each leader leads.
    led: BTreeMap<Leader, u32>,
    /// Of every stream that a committed object names, living or not.
    streams: BTreeMap<StreamId, StreamSlices>,
    /// How many living streams each committed object has something of.
    named: BTreeMap<ObjectId, u32>,
    /// Committed objects that no living stream needs.
    unnamed: BTreeSet<ObjectId>,
    prepared: BTreeSet<ObjectId>,
    /// Marked and expired objects.
    condemned: BTreeSet<ObjectId>,
    /// Those of them that a task deletes.
    deleting: BTreeSet<ObjectId>,
    /// Of journals that are not gone.
    uploads: BTreeMap<TaskId, JournalId>,
    deletions: BTreeSet<TaskId>,
    cleanings: BTreeMap<TaskId, StreamId>,
    /// The numbers of settings' records.
    configs: BTreeMap<ConfigOwner, u64>,
}

/// What committed objects have of one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamSlices {
    /// By start; they never overlap, but for a moment while one is replaced by another.
    slices: BTreeMap<(Offset, ObjectId), SliceAt>,
    /// Those that no cleaning has brought.
    dirty: BTreeSet<(Offset, ObjectId)>,
    /// Of all slices.
    bytes: u64,
    runs: Runs,
    /// The offset at which each snapshot is exact, and where it lies.
    snapshots: BTreeSet<(Offset, ObjectId)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SliceAt {
    pub range: OffsetRange,
    pub object: ObjectId,
    pub stable_end: Offset,
    pub max_timestamp_ms: i64,
    /// Bytes of its batches.
    pub bytes: u64,
    pub is_cleaned: bool,
}

impl StreamSlices {
    /// Bytes of the batches of the slices below the end of the contiguous prefix: there are few behind it.
    pub fn bytes_below(&self, uploaded: Offset) -> u64 {
        let behind: u64 = self.from(uploaded).map(|slice| slice.bytes).sum();
        self.bytes - behind
    }

    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Slices in offset order, from the one that holds `from`, or else the first behind it.
    pub fn from(&self, from: Offset) -> impl Iterator<Item = &SliceAt> {
        let first = self.slices.range(..=(from, ObjectId(u64::MAX))).next_back();
        let holds = first.filter(|(_, slice)| slice.range.contains(from));
        let start = holds.map_or((from, ObjectId(0)), |(start, _)| *start);
        self.slices.range(start..).map(|(_, slice)| slice)
    }

    /// Where the clean part ends that begins with the slice that holds `start`, or is the first behind it; `None` if that
    /// one is dirty, or there is none. However many slices there are, this is cheap.
    pub fn cleaned_from(&self, start: Offset) -> Option<Offset> {
        let first = self.from(start).next()?;
        let first = (first.range.start, first.object);
        let last = match self.dirty.range(first..).next() {
            Some(dirty) if *dirty == first => None,
            Some(dirty) => self.slices.range(..dirty).next_back(),
            None => self.slices.last_key_value(),
        };
        last.map(|(_, slice)| slice.range.end)
    }

    /// The newest snapshot that is exact at `end` or below, and its offset.
    pub fn snapshot_below(&self, end: Offset) -> Option<(Offset, ObjectId)> {
        let last = (end, ObjectId(u64::MAX));
        self.snapshots.range(..=last).next_back().copied()
    }

    fn objects(&self) -> BTreeSet<ObjectId> {
        let slices = self.slices.values().map(|slice| slice.object);
        slices.chain(self.snapshots.iter().map(|(_, object)| *object)).collect()
    }

    fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.snapshots.is_empty()
    }
}

impl Index {
    /// The topic under this name, or under one that differs only in `.` and `_`.
    pub fn topic(&self, name: &str) -> Option<TopicId> {
        self.topics.get(&canonical(name)).copied()
    }

    pub fn led(&self, leader: Leader) -> u32 {
        self.led.get(&leader).copied().unwrap_or(0)
    }

    /// Everybody who leads a stream, `None` where streams have no leader.
    pub fn leaders(&self) -> impl Iterator<Item = Leader> {
        self.led.keys().copied()
    }

    pub fn stream(&self, stream: StreamId) -> Option<&StreamSlices> {
        self.streams.get(&stream)
    }

    pub fn unnamed(&self) -> &BTreeSet<ObjectId> {
        &self.unnamed
    }

    pub fn prepared(&self) -> &BTreeSet<ObjectId> {
        &self.prepared
    }

    pub fn condemned(&self) -> &BTreeSet<ObjectId> {
        &self.condemned
    }

    pub fn is_deleting(&self, object: ObjectId) -> bool {
        self.deleting.contains(&object)
    }

    pub fn deletions(&self) -> &BTreeSet<TaskId> {
        &self.deletions
    }

    /// The journal that a task uploads.
    pub fn upload(&self, task: TaskId) -> Option<JournalId> {
        self.uploads.get(&task).copied()
    }

    /// The streams that are being cleaned, each by its task.
    pub fn cleanings(&self) -> impl Iterator<Item = (TaskId, StreamId)> {
        self.cleanings.iter().map(|(task, stream)| (*task, *stream))
    }

    pub fn is_task(&self, task: TaskId) -> bool {
        self.uploads.contains_key(&task) || self.deletions.contains(&task) || self.cleanings.contains_key(&task)
    }

    /// The record with the settings of that owner, if any are set.
    pub fn config(&self, owner: &ConfigOwner) -> Option<u64> {
        self.configs.get(owner).copied()
    }

    /// Whether the object is neither committed nor gone.
    pub fn is_unsettled(&self, object: ObjectId) -> bool {
        self.prepared.contains(&object) || self.condemned.contains(&object)
    }

    pub fn committed_objects(&self) -> usize {
        self.named.len()
    }

    /// Takes in that a record has changed; `records` has the change already.
    pub(super) fn follow(
        &mut self,
        records: &BTreeMap<Key, Record>,
        key: Key,
        before: Option<&Record>,
        after: Option<&Record>,
    ) {
        match key {
            Key::Topic(id) => {
                if let Some(Record::Topic(topic)) = before {
                    self.topics.remove(&canonical(&topic.name));
                }
                if let Some(Record::Topic(topic)) = after {
                    self.topics.insert(canonical(&topic.name), id);
                }
            }
            Key::Streams(_) => self.follow_rows(rows(before), rows(after)),
            Key::Journal(id) => {
                if let Some(Record::Journal(journal)) = before {
                    self.uploads.remove(&journal.task);
                }
                if let Some(Record::Journal(journal)) = after
                    && !matches!(journal.state, JournalState::Gone { .. })
                {
                    self.uploads.insert(journal.task, id);
                }
            }
            Key::Object(id) => self.follow_object(records, id, object(before), object(after)),
            Key::Deletion(id) => {
                if let Some(Record::Deletion(deletion)) = before {
                    self.deletions.remove(&id);
                    for object in &deletion.objects {
                        self.deleting.remove(object);
                    }
                }
                if let Some(Record::Deletion(deletion)) = after {
                    self.deletions.insert(id);
                    self.deleting.extend(&deletion.objects);
                }
            }
            Key::Cleaning(id) => {
                if let Some(Record::Cleaning(cleaning)) = after {
                    self.cleanings.insert(id, cleaning.stream);
                } else {
                    self.cleanings.remove(&id);
                }
            }
            Key::Config(number) => {
                if let Some(Record::Config(config)) = before {
                    self.configs.remove(&config.owner);
                }
                if let Some(Record::Config(config)) = after {
                    self.configs.insert(config.owner.clone(), number);
                }
            }
            Key::Cluster | Key::Counters | Key::Node(_) | Key::Device(_) => {}
        }
    }

    fn follow_rows(&mut self, before: Option<&Rows>, after: Option<&Rows>) {
        for (stream, row) in before.into_iter().flatten() {
            self.count_leader(row.leader, false);
            if after.is_none_or(|rows| !rows.contains_key(stream)) {
                self.count_stream(*stream, false);
            }
        }
        for (stream, row) in after.into_iter().flatten() {
            self.count_leader(row.leader, true);
            if before.is_none_or(|rows| !rows.contains_key(stream)) {
                self.count_stream(*stream, true);
            }
        }
    }

    fn count_leader(&mut self, leader: Leader, up: bool) {
        let count = self.led.entry(leader).or_default();
        *count = if up { *count + 1 } else { *count - 1 };
        if *count == 0 {
            self.led.remove(&leader);
        }
    }

    /// A stream has come to life, or has ended: its objects have one more, or one less, to be kept for.
    fn count_stream(&mut self, stream: StreamId, up: bool) {
        let objects = self
            .streams
            .get(&stream)
            .map_or_else(BTreeSet::new, StreamSlices::objects);
        for object in objects {
            let count = self.named.get(&object).copied().unwrap_or(0);
            self.set_named(object, if up { count + 1 } else { count - 1 });
        }
    }

    fn set_named(&mut self, object: ObjectId, streams: u32) {
        self.named.insert(object, streams);
        if streams == 0 {
            self.unnamed.insert(object);
        } else {
            self.unnamed.remove(&object);
        }
    }

    fn follow_object(
        &mut self,
        records: &BTreeMap<Key, Record>,
        id: ObjectId,
        before: Option<&ObjectRecord>,
        after: Option<&ObjectRecord>,
    ) {
        if before.is_some() {
            self.prepared.remove(&id);
            self.condemned.remove(&id);
            self.named.remove(&id);
            self.unnamed.remove(&id);
        }
        self.follow_parts(id, &parts(before), &parts(after));
        let Some(after) = after else { return };
        match after.life {
            ObjectLife::Prepared => {
                self.prepared.insert(id);
            }
            ObjectLife::Marked | ObjectLife::Expired => {
                self.condemned.insert(id);
            }
            ObjectLife::Committed => {
                let lives = |stream: &StreamId| match records.get(&Key::Streams(Key::block_of(*stream))) {
                    Some(Record::Streams(block)) => block.rows.contains_key(stream),
                    _ => false,
                };
                let living = streams_of(after).iter().filter(|stream| lives(stream)).count();
                self.set_named(id, u32::try_from(living).expect("a record has fewer streams"));
            }
        }
    }

    /// Of the many streams of an object a cleaning changes one: the others cost nothing, however many slices they have.
    fn follow_parts(
        &mut self,
        id: ObjectId,
        before: &BTreeMap<StreamId, Parts<'_>>,
        after: &BTreeMap<StreamId, Parts<'_>>,
    ) {
        for (stream, parts) in before {
            if after.get(stream) != Some(parts) {
                self.remove_parts(id, *stream, parts);
            }
        }
        for (stream, parts) in after {
            if before.get(stream) != Some(parts) {
                self.add_parts(id, *stream, parts);
            }
        }
    }

    fn add_parts(&mut self, id: ObjectId, stream: StreamId, parts: &Parts<'_>) {
        let stream = self.streams.entry(stream).or_default();
        for slice in &parts.slices {
            let at = SliceAt {
                range: slice.range,
                object: id,
                stable_end: slice.stable_end,
                max_timestamp_ms: slice.max_timestamp_ms,
                bytes: slice.bytes,
                is_cleaned: slice.is_cleaned,
            };
            stream.runs.insert(slice.range);
            stream.slices.insert((slice.range.start, id), at);
            if !slice.is_cleaned {
                stream.dirty.insert((slice.range.start, id));
            }
            stream.bytes += slice.bytes;
        }
        let snapshots = parts.snapshots.iter().map(|snapshot| (snapshot.at, id));
        stream.snapshots.extend(snapshots);
    }

    fn remove_parts(&mut self, id: ObjectId, stream_id: StreamId, parts: &Parts<'_>) {
        let stream = self.streams.entry(stream_id).or_default();
        for slice in &parts.slices {
            let removed = stream.slices.remove(&(slice.range.start, id));
            stream.dirty.remove(&(slice.range.start, id));
            stream.bytes -= removed.map_or(0, |removed| removed.bytes);
        }
        for snapshot in &parts.snapshots {
            stream.snapshots.remove(&(snapshot.at, id));
        }
        if stream.is_empty() {
            self.streams.remove(&stream_id);
        } else if !parts.slices.is_empty() {
            stream.runs = Runs::default();
            for slice in stream.slices.values() {
                stream.runs.insert(slice.range);
            }
        }
    }
}

/// What a committed object has of one stream.
#[derive(Default, PartialEq)]
struct Parts<'a> {
    slices: Vec<&'a ObjectSlice>,
    snapshots: Vec<&'a ObjectSnapshot>,
}

/// Of an object that isn't committed readers find nothing.
fn parts(object: Option<&ObjectRecord>) -> BTreeMap<StreamId, Parts<'_>> {
    let mut parts = BTreeMap::<StreamId, Parts<'_>>::new();
    for object in object.into_iter().filter(|object| object.life == ObjectLife::Committed) {
        for slice in &object.slices {
            parts.entry(slice.stream).or_default().slices.push(slice);
        }
        for snapshot in &object.snapshots {
            parts.entry(snapshot.stream).or_default().snapshots.push(snapshot);
        }
    }
    parts
}

type Rows = BTreeMap<StreamId, StreamRow>;

fn rows(record: Option<&Record>) -> Option<&Rows> {
    match record {
        Some(Record::Streams(block)) => Some(&block.rows),
        _ => None,
    }
}

fn object(record: Option<&Record>) -> Option<&ObjectRecord> {
    match record {
        Some(Record::Object(object)) => Some(object),
        _ => None,
    }
}

/// The streams that an object has something of.
fn streams_of(object: &ObjectRecord) -> BTreeSet<StreamId> {
    let slices = object.slices.iter().map(|slice| slice.stream);
    slices
        .chain(object.snapshots.iter().map(|snapshot| snapshot.stream))
        .collect()
}

fn canonical(name: &str) -> String {
    name.replace('.', "_")
}
