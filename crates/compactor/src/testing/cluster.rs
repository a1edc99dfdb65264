//! The cluster's state, what tests do to it, and what they ask of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tailwater_format::entry::{Entry, Slice, SliceHeader, SliceKind};
use tailwater_format::object::{DataBlock, Tail, decode_tail};
use tailwater_kafka::batch::assign;
use tailwater_log::{PartitionState, Replayed, StoredBatch};
use tailwater_rpc::controller::{CommittedObject, Controller, ObjectSlice, SnapshotAt, Work};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::{Clock, Metrics, Random, Runtime, Tasks};
use tailwater_store::{FaultyStorage, Location, Services, StorageOptions};
use tailwater_types::{DeviceId, JournalId, LeaderEpoch, Lsn, NodeId, ObjectId, Offset, OffsetRange, StreamId};

use crate::{Compactor, Config};

pub(crate) const DEVICE: DeviceId = DeviceId(uuid_of(1));
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(6);

const fn uuid_of(byte: u8) -> uuid::Uuid {
    uuid::Uuid::from_bytes([byte; 16])
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Lease,
    Renew,
    Release,
    Status,
    Read,
    Uploads,
    Prepare,
    Commit,
}

/// Where a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

#[derive(Default)]
pub(crate) struct Journal {
    pub entries: Vec<Entry>,
    pub trim: Lsn,
    /// Sealed at the WAL, and its end at the controller.
    pub sealed: bool,
    pub sealed_end: Option<Lsn>,
    pub lease_epoch: u64,
    pub is_leased: bool,
    pub is_gone: bool,
    /// When the first entry not trimmed was appended.
    pub since: Option<tailwater_runtime::clock::Instant>,
}

#[derive(Default)]
pub(crate) struct StreamRow {
    /// Batches in order, as they were appended.
    pub log: Vec<(OffsetRange, Bytes)>,
    pub state: PartitionState,
    pub uploaded: Offset,
    pub snapshot: Option<SnapshotAt>,
}

#[derive(Default)]
pub(crate) struct State {
    pub journals: BTreeMap<JournalId, Journal>,
    pub streams: BTreeMap<StreamId, StreamRow>,
    pub prepared: BTreeSet<ObjectId>,
    pub next_object: u64,
    pub committed: Vec<CommittedObject>,
    pub abandoned: Vec<ObjectId>,
    pub commits: usize,
    pub deletions: Vec<Vec<(ObjectId, String)>>,
    pub leased_deletion: bool,
    /// What is to be cleaned next.
    pub cleaning: Option<Work>,
    pub leased_cleaning: Option<Work>,
    /// What the last commit of a cleaning said of where its keys end.
    pub keys_end: Offset,
    /// How cleanings were given back.
    pub cleaned: Vec<bool>,
    /// Where each stream's records are found, by their ends.
    pub slices: BTreeMap<StreamId, BTreeMap<Offset, ObjectSlice>>,
    pub faults: Vec<(Call, When, Error)>,
    /// Those that strike later: behind so many calls.
    pub later_faults: Vec<(Call, usize, When, Error)>,
    pub broken_journals: BTreeSet<JournalId>,
}

#[derive(Clone)]
pub(crate) struct Cluster {
    pub state: Arc<Mutex<State>>,
    pub storage: Arc<FaultyStorage>,
    pub metrics: Metrics,
    pub clock: Clock,
}

impl Cluster {
    pub fn new() -> Self {
        let (clock, metrics) = (Clock::manual(5_000_000), Metrics::new());
        let services = Services {
            clock: clock.clone(),
            random: Random::seeded(3),
            tasks: Tasks::new("store"),
            metrics: metrics.clone(),
        };
        let memory = tailwater_store::open(&Location::Memory, &StorageOptions::default(), &services).unwrap();
        Self {
            state: Arc::default(),
            storage: Arc::new(FaultyStorage::new(memory)),
            metrics,
            clock,
        }
    }

    pub async fn start(&self, config: Config) -> Compactor {
        let tasks = Tasks::new("test");
        let runtime = Runtime {
            clock: self.clock.clone(),
            random: Random::seeded(7),
            tasks,
            metrics: self.metrics.clone(),
        };
        let controller = Controller::of(Arc::new(self.clone()));
        let (wals, storage) = (Arc::new(self.clone()), self.storage.clone());
        crate::start(config, NodeId(201), controller, wals, storage, runtime)
            .await
            .unwrap()
    }

    /// The next call of this kind fails.
    pub fn fail(&self, call: Call, when: When, error: Error) {
        self.state.lock().faults.push((call, when, error));
    }

    /// The `nth` call of this kind from now fails, 0 being the next one.
    pub fn fail_nth(&self, call: Call, nth: usize, when: When, error: Error) {
        self.state.lock().later_faults.push((call, nth, when, error));
    }

    /// Faults of one call strike in the order in which they were set.
    pub(super) fn fault(&self, call: Call, when: When) -> Result<()> {
        let state = &mut *self.state.lock();
        if when == When::Before {
            let faults = &mut state.faults;
            state.later_faults.retain_mut(|(of, left, when, error)| {
                if *of != call {
                    return true;
                }
                if *left == 0 {
                    faults.push((call, *when, error.clone()));
                    return false;
                }
                *left -= 1;
                true
            });
        }
        let next = state.faults.iter().position(|fault| fault.0 == call);
        match next.filter(|&next| state.faults[next].1 == when) {
            Some(next) => Err(state.faults.remove(next).2),
            None => Ok(()),
        }
    }

    /// Appends one entry with a batch for each (stream, records), to a journal that is opened by this.
    pub fn append(&self, journal: u64, slices: &[(u64, i32)]) {
        self.append_epoch(journal, 0, 10, slices);
    }

    pub fn append_epoch(&self, journal: u64, leader_epoch: i32, value_bytes: usize, slices: &[(u64, i32)]) {
        let batch = |&(stream, count): &(u64, i32)| {
            let state = self.state.lock();
            let base = state
                .streams
                .get(&StreamId(stream))
                .map_or(Offset::ZERO, |row| row.state.end());
            (stream, super::batch(base, 0, base.0 as i32, count, value_bytes))
        };
        self.append_batches(journal, leader_epoch, slices.iter().map(batch).collect());
    }

    /// Appends one entry with these batches, each of another stream.
    pub fn append_batches(&self, journal: u64, leader_epoch: i32, batches: Vec<(u64, BytesMut)>) {
        let mut state = self.state.lock();
        let mut encoded = Vec::new();
        for (stream, mut batch) in batches {
            let row = state.streams.entry(StreamId(stream)).or_default();
            let base = row.state.end();
            assign(&mut batch, base, LeaderEpoch(leader_epoch));
            let batch = batch.freeze();
            let stored = StoredBatch::read(&batch).unwrap();
            let header = stored.header;
            assert_eq!(row.state.replay(&stored, 0), Ok(Replayed::Applied));
            row.log.push((OffsetRange::new(base, row.state.end()), batch.clone()));
            encoded.push(Slice {
                header: SliceHeader {
                    kind: SliceKind::Records,
                    stream: StreamId(stream),
                    leader_epoch: LeaderEpoch(leader_epoch),
                    base,
                    end: row.state.end(),
                    max_timestamp_ms: header.max_timestamp_ms,
                    length: batch.len() as u32,
                    crc: crc32c::crc32c(&batch),
                },
                bytes: batch,
            });
        }
        let now = self.clock.now();
        let id = JournalId(journal);
        let journal = state.journals.entry(id).or_default();
        let lsn = Lsn(journal.entries.len() as u64);
        journal.since.get_or_insert(now);
        journal.entries.push(Entry::encode(id, lsn, encoded));
    }

    pub fn seal(&self, journal: u64) {
        let mut state = self.state.lock();
        let journal = state.journals.entry(JournalId(journal)).or_default();
        journal.sealed = true;
        journal.sealed_end = Some(Lsn(journal.entries.len() as u64));
    }

    pub fn journal<T>(&self, journal: u64, read: impl FnOnce(&Journal) -> T) -> T {
        read(&self.state.lock().journals[&JournalId(journal)])
    }

    pub fn uploaded(&self, stream: u64) -> i64 {
        self.state.lock().streams[&StreamId(stream)].uploaded.0
    }

    /// Waits until a condition holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        for _ in 0..5_000 {
            if holds(&self.state.lock()) {
                return;
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
        panic!("in vain: {what}");
    }

    pub async fn until_all_uploaded(&self) {
        self.until("all is uploaded", |state| {
            let whole = |row: &StreamRow| row.uploaded == row.state.end();
            state.streams.values().all(whole)
                && state
                    .journals
                    .values()
                    .all(|journal| journal.trim.0 == journal.entries.len() as u64)
        })
        .await;
    }

    /// Objects have each stream's batches once, in order, with their bytes; each snapshot is the state at its end.
    pub async fn check_objects(&self) {
        let (objects, streams): (Vec<_>, Vec<_>) = {
            let state = self.state.lock();
            let streams = state.streams.iter().map(|(stream, row)| {
                let log: BytesMut = row.log.iter().flat_map(|(_, batch)| batch.clone()).collect();
                (*stream, log.freeze(), row.state.clone(), row.snapshot.clone())
            });
            (state.committed.clone(), streams.collect())
        };
        let mut found: BTreeMap<StreamId, BTreeMap<Offset, DataBlock>> = BTreeMap::new();
        for object in &objects {
            for block in self.blocks(object).await {
                let stream = found.entry(block.header.stream).or_default();
                assert!(
                    stream.insert(block.header.range.start, block).is_none(),
                    "twice in objects"
                );
            }
        }
        for (stream, log, state, snapshot) in streams {
            let blocks = found.remove(&stream).unwrap_or_default();
            let mut end = Offset::ZERO;
            for block in blocks.values() {
                assert_eq!(block.header.range.start, end, "stream {stream} is dense in objects");
                end = block.header.range.end;
            }
            let bytes: BytesMut = blocks.into_values().flat_map(|block| block.body).collect();
            assert!(
                bytes.freeze() == log,
                "stream {stream} has the bytes that were appended"
            );
            let at = snapshot.expect("has one with each upload");
            let bytes = self.get(&at.key, at.position, u64::from(at.length)).await;
            assert_eq!(crc32c::crc32c(&bytes), at.crc);
            let restored = PartitionState::decode_snapshot(&bytes).unwrap();
            let producers = |state: &PartitionState| {
                let producers = state.producers();
                producers
                    .map(|producer| (producer.id, producer.epoch, producer.batches.clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(restored.end(), state.end());
            assert_eq!(restored.leader_epochs(), state.leader_epochs());
            assert_eq!(producers(&restored), producers(&state));
            assert_eq!(restored.last_stable_offset(), state.last_stable_offset());
            assert_eq!(restored.aborted(), state.aborted());
        }
    }

    async fn blocks(&self, object: &CommittedObject) -> Vec<DataBlock> {
        let key = key(object.object);
        let tail = self.get(&key, 0, object.size_bytes).await;
        let Ok(Tail::Index(index)) = decode_tail(&tail, object.size_bytes) else {
            panic!("no index")
        };
        let block = |row: &tailwater_format::object::IndexRow| {
            let start = row.position as usize;
            DataBlock::decode(&tail.slice(start..start + row.size_bytes as usize), row).unwrap()
        };
        let blocks: Vec<_> = index.rows().iter().map(block).collect();
        for part in &object.streams {
            let bytes: usize = index
                .stream(part.stream)
                .iter()
                .map(|row| row.size_bytes as usize - 64)
                .sum();
            assert_eq!(bytes as u64, part.bytes);
        }
        blocks
    }

    async fn get(&self, key: &str, position: u64, length: u64) -> Bytes {
        use tailwater_store::ObjectStorage;
        self.storage.get_range(key, position..position + length).await.unwrap()
    }

    pub fn metric(&self, line: &str) -> bool {
        self.metrics.text().lines().any(|found| found == line)
    }
}

pub(crate) fn key(object: ObjectId) -> String {
    format!("ab/test/{object}-1")
}
