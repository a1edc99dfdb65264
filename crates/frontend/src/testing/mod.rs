//! A frontend's data path over a WAL, a controller and a store in memory, for tests.

mod controller;
mod wal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tailwater_format::entry::SliceKind;
use tailwater_format::object::{ObjectWriter, RecordsPiece};
use tailwater_kafka::batch::{self, BatchBuilder, BatchHeader, Batches, Marker, TransactionEnd};
use tailwater_log::{PartitionState, StoredBatch, TransactionMarker, Verification};
use tailwater_rpc::controller::{Controller, Endpoint, ObjectSlice, SnapshotAt};
use tailwater_runtime::{Clock, Metrics, Random, Runtime, Tasks};
use tailwater_store::ObjectStorage;
use tailwater_types::{JournalId, Lsn, NodeId, Offset, OffsetRange, StreamId, TopicId};

pub(crate) use controller::FakeController;
pub(crate) use wal::FakeWal;

use crate::config::Config;
use crate::data::Data;
use crate::listeners::ListenerName;
use crate::partition::{Append, AppendError, Appended, Partition};
use crate::session::Identity;

/// When tests begin, on the wall clock.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// A cluster of one frontend.
pub(crate) struct Fixture {
    pub wal: FakeWal,
    pub controller: FakeController,
    pub storage: Arc<dyn ObjectStorage>,
    pub data: Data,
    pub runtime: Runtime,
    uploaded: BTreeMap<JournalId, Lsn>,
    states: BTreeMap<StreamId, PartitionState>,
    objects: u64,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let wal = FakeWal::new();
        let controller = FakeController::new(wal.clone());
        let runtime = runtime();
        let storage = memory(&runtime);
        let data = start_data(config, 1, &controller, &wal, &storage, &runtime).await;
        Self {
            wal,
            controller,
            storage,
            data,
            runtime,
            uploaded: BTreeMap::new(),
            states: BTreeMap::new(),
            objects: 0,
        }
    }

    /// The process dies, and another registers in its place.
    pub async fn restart(&mut self) {
        let stopped = self.runtime.tasks.shutdown(Duration::from_secs(20)).await;
        stopped.expect("tasks end");
        self.runtime = runtime();
        let config = self.data.config.clone();
        self.data = start_data(config, 1, &self.controller, &self.wal, &self.storage, &self.runtime).await;
    }

    /// Another frontend of the cluster, with a journal that is open.
    pub async fn another(&self, node: u32) -> Data {
        let config = self.data.config.clone();
        let data = start_data(config, node, &self.controller, &self.wal, &self.storage, &runtime()).await;
        let settled = tokio::time::timeout(Duration::from_secs(60), data.partitions.settled());
        settled.await.expect("its journal opens");
        data
    }

    /// A topic of one partition, open.
    pub async fn topic(&self, name: &str) -> Arc<Partition> {
        let id = self.controller.add_topic(name, 1, &[]);
        self.opened(id, 0).await
    }

    pub async fn opened(&self, topic: TopicId, index: i32) -> Arc<Partition> {
        opened_at(&self.data, topic, index).await
    }

    /// Uploads everything durable of a journal below `to` as one object, and trims the journal.
    pub async fn upload(&mut self, journal: JournalId, to: Lsn, trims: bool) {
        let from = self.uploaded.insert(journal, to).unwrap_or_default();
        let entries = self.wal.entries(journal);
        let mut pieces: BTreeMap<StreamId, Vec<(BatchHeader, Bytes)>> = BTreeMap::new();
        for entry in &entries[from.0 as usize..to.0 as usize] {
            let slices = entry.slices();
            for (header, run) in slices.filter(|(header, _)| header.kind == SliceKind::Records) {
                let batches = Batches::new(run.clone()).map(|batch| batch.expect("whole"));
                pieces.entry(header.stream).or_default().extend(batches);
            }
        }
        let mut writer = ObjectWriter::new();
        let mut ranges = Vec::new();
        for (stream, batches) in &pieces {
            let state = self.states.entry(*stream).or_default();
            let start = state.end();
            let mut max_timestamp_ms = -1;
            for (header, bytes) in batches {
                let stored = StoredBatch::read(bytes).expect("whole");
                state.replay(&stored, START_MS).expect("contiguous");
                max_timestamp_ms = header.max_timestamp_ms.max(max_timestamp_ms);
                writer.push(RecordsPiece {
                    stream: *stream,
                    range: OffsetRange::new(header.base_offset, header.end_offset()),
                    max_timestamp_ms: header.max_timestamp_ms,
                    batches: 1,
                    bytes: bytes.clone(),
                    crc: crc32c::crc32c(bytes),
                });
            }
            ranges.push((*stream, OffsetRange::new(start, state.end()), max_timestamp_ms));
        }
        for (stream, range, _) in &ranges {
            let snapshot = self.states[stream].encode_snapshot();
            writer.push_snapshot(*stream, range.end, &snapshot);
        }
        let encoded = writer.finish();
        self.objects += 1;
        let object = controller::object_id(self.objects);
        let key = format!("ab/{object}");
        self.storage.put(&key, encoded.chunks.clone()).await.expect("memory");
        let places = ranges.into_iter().map(|(stream, range, max_timestamp_ms)| {
            let place = encoded.snapshots.iter().find(|place| place.stream == stream);
            let place = place.expect("each stream has one");
            let slice = ObjectSlice {
                object,
                key: key.clone(),
                size_bytes: encoded.size_bytes,
                range,
                max_timestamp_ms,
            };
            let snapshot = SnapshotAt {
                object,
                key: key.clone(),
                position: place.position,
                length: place.length,
                crc: place.crc,
            };
            (stream, slice, snapshot)
        });
        let version = self.controller.commit(journal, to, places.collect());
        if trims {
            self.wal.trim_now(journal, to, version);
        }
    }

    /// Puts one object with these batches in the place of all that a stream has in objects, and waits until that is known.
    pub async fn clean(&mut self, stream: StreamId, batches: &[BytesMut]) {
        let mut writer = ObjectWriter::new();
        let mut range: Option<OffsetRange> = None;
        let mut largest_ms = -1;
        for bytes in batches {
            let bytes = bytes.clone().freeze();
            let header = BatchHeader::read(&bytes).expect("whole");
            let batch = OffsetRange::new(header.base_offset, header.end_offset());
            largest_ms = header.max_timestamp_ms.max(largest_ms);
            range = Some(OffsetRange::new(
                range.map_or(Offset::ZERO, |range| range.start),
                batch.end,
            ));
            writer.push(RecordsPiece {
                stream,
                range: batch,
                max_timestamp_ms: header.max_timestamp_ms,
                batches: 1,
                crc: crc32c::crc32c(&bytes),
                bytes,
            });
        }
        let encoded = writer.finish();
        self.objects += 1;
        let object = controller::object_id(self.objects);
        let key = format!("ab/{object}");
        self.storage.put(&key, encoded.chunks.clone()).await.expect("memory");
        let slice = ObjectSlice {
            object,
            key,
            size_bytes: encoded.size_bytes,
            range: range.expect("something is left"),
            max_timestamp_ms: largest_ms,
        };
        let version = self.controller.commit_cleaned(stream, slice);
        self.data.view.wait_for(version).await;
    }

    /// The journal that is open now.
    pub fn journal(&self) -> JournalId {
        *self.wal.journals().last().expect("one was opened")
    }
}

/// The listener that clients of tests come through.
pub(crate) fn listener() -> ListenerName {
    ListenerName::new("PLAINTEXT")
}

/// The partition, as soon as it is open there.
pub(crate) async fn opened_at(data: &Data, topic: TopicId, index: i32) -> Arc<Partition> {
    let wait = async {
        let mut changes = data.partitions.changes();
        loop {
            changes.borrow_and_update();
            if let Ok(partition) = data.partitions.get(topic, index) {
                return partition;
            }
            changes.changed().await.expect("the registry lives");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("it opens")
}

async fn start_data(
    config: Config,
    node: u32,
    controller: &FakeController,
    wal: &FakeWal,
    storage: &Arc<dyn ObjectStorage>,
    runtime: &Runtime,
) -> Data {
    let listeners = config.all_listeners().expect("good ones");
    let endpoints = (9092..).zip(listeners).map(|(port, each)| Endpoint {
        listener: each.name.to_owned(),
        host: "localhost".to_owned(),
        port,
    });
    let endpoints = endpoints.collect();
    let identity = Identity {
        node: NodeId(node),
        endpoints,
        address: None,
    };
    let controller = Controller::of(Arc::new(controller.clone()));
    let (wals, storage) = (Arc::new(wal.clone()), storage.clone());
    let data = Data::start(config, identity, controller, wals, storage, runtime.clone()).await;
    data.expect("registered")
}

fn runtime() -> Runtime {
    Runtime {
        clock: Clock::manual(START_MS),
        random: Random::seeded(7),
        tasks: Tasks::new("test"),
        metrics: Metrics::new(),
    }
}

fn memory(runtime: &Runtime) -> Arc<dyn ObjectStorage> {
    let services = tailwater_store::Services {
        clock: runtime.clock.clone(),
        random: runtime.random.clone(),
        tasks: runtime.tasks.clone(),
        metrics: runtime.metrics.clone(),
    };
    let location = "memory:///".parse().expect("a location");
    tailwater_store::open(&location, &tailwater_store::StorageOptions::default(), &services).expect("memory")
}

/// A batch of records with these values, a millisecond apart.
pub(crate) fn batch(values: &[&[u8]]) -> BytesMut {
    let mut builder = BatchBuilder::new();
    for (at, value) in (0..).zip(values) {
        builder.push(START_MS + at, None, Some(value), &[]);
    }
    builder.build()
}

/// A batch of `count` records of producer 7.
pub(crate) fn idempotent(sequence: i32, count: i32) -> BytesMut {
    let mut builder = BatchBuilder::new().producer(7, 0, sequence);
    for _ in 0..count {
        builder.push(START_MS, None, Some(b"idempotent"), &[]);
    }
    builder.build()
}

/// Appends a batch and doesn't wait for its commit.
pub(crate) async fn append(partition: &Arc<Partition>, batch: BytesMut) -> Result<Appended, AppendError> {
    partition.append(to_append(batch)).await
}

/// An append of a batch that waits for a second.
pub(crate) fn to_append(batch: BytesMut) -> Append {
    let header = batch::validate(&batch).expect("a good batch");
    let bytes = batch.len();
    Append {
        header,
        batch,
        backing_bytes: bytes,
        shared_bytes: bytes,
        log_append_time: false,
        guard: None,
        deadline: tokio::time::Instant::now() + Duration::from_secs(1),
    }
}

/// A batch of one producer's transaction.
pub(crate) fn transactional(producer_id: i64, epoch: i16, sequence: i32, values: &[&[u8]]) -> BytesMut {
    let mut builder = BatchBuilder::new()
        .producer(producer_id, epoch, sequence)
        .transactional();
    for value in values {
        builder.push(START_MS, None, Some(value), &[]);
    }
    builder.build()
}

/// Appends a batch of a transaction, which the coordinator is taken to know of, and waits for its commit.
pub(crate) async fn commit_verified(partition: &Arc<Partition>, batch: BytesMut) -> Offset {
    let appended = partition.append(verified(partition, batch)).await.expect("appended");
    appended.committed().await.expect("committed").base_offset
}

/// An append of a batch of a transaction, with its guard.
pub(crate) fn verified(partition: &Partition, batch: BytesMut) -> Append {
    let append = to_append(batch);
    let guard = match partition.begin_verification(&append.header, false) {
        Verification::Needed(guard) => Some(guard),
        Verification::Ongoing => None,
    };
    Append { guard, ..append }
}

/// A marker of the coordinator of epoch 1.
pub(crate) fn marker(producer_id: i64, producer_epoch: i16, end: TransactionEnd) -> TransactionMarker {
    TransactionMarker {
        producer_id,
        producer_epoch,
        marker: Marker {
            end,
            coordinator_epoch: 1,
        },
        transaction_version: 1,
    }
}

/// Sends a marker on its way.
pub(crate) async fn send_marker(partition: &Arc<Partition>, sent: TransactionMarker) -> Result<Appended, AppendError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    partition.write_marker(sent, deadline).await
}

/// Ends a transaction, and waits until that is committed.
pub(crate) async fn end(partition: &Arc<Partition>, producer_id: i64, epoch: i16, end: TransactionEnd) -> Offset {
    let appended = send_marker(partition, marker(producer_id, epoch, end))
        .await
        .expect("appended");
    appended.committed().await.expect("committed").base_offset
}

/// Appends a batch, waits for its commit, and answers its base offset.
pub(crate) async fn commit(partition: &Arc<Partition>, batch: BytesMut) -> Offset {
    let appended = append(partition, batch).await.expect("appended");
    appended.committed().await.expect("committed").base_offset
}

/// The values of all records from the batch that holds `offset` on, with their offsets.
pub(crate) async fn values_from(partition: &Partition, offset: i64) -> Vec<(i64, Vec<u8>)> {
    let mut values = Vec::new();
    let mut next = Offset(offset);
    while next < partition.high_watermark() {
        let runs = partition.read(next, partition.high_watermark(), 1000, true).await;
        let runs = runs.expect("readable");
        assert!(!runs.is_empty(), "nothing at {next}");
        for run in runs {
            for one in Batches::new(run) {
                let (header, bytes) = one.expect("whole batches");
                assert!(
                    header.base_offset <= next && next < header.end_offset(),
                    "no gap at {next}"
                );
                next = header.end_offset();
                for record in tailwater_kafka::record::records(&bytes[batch::HEADER_BYTES..]) {
                    let record = record.expect("a record");
                    let at = header.base_offset.0 + i64::from(record.offset_delta);
                    values.push((at, record.value.unwrap_or_default().to_vec()));
                }
            }
        }
    }
    values
}
