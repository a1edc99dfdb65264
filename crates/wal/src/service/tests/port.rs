//! The port, over a running node: what each call answers, and what a restart leaves of it.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tailwater_format::entry::{Entry, Slice, SliceHeader, SliceKind};
use tailwater_kafka::batch::HEADER_BYTES;
use tailwater_rpc::Error;
use tailwater_rpc::controller::NodeState;
use tailwater_rpc::wal::{AppendStream, ReadJournal, ReadStream, Wal};
use tailwater_runtime::config::{ByteSize, Millis};
use tailwater_runtime::device::{Fault, FaultyDevice, MemoryDevice, Operation};
use tailwater_runtime::{Device, Runtime};
use tailwater_types::{DeviceId, JournalId, Lsn, LsnRange, MetadataVersion, Offset, StreamId};

use super::super::{WalService, start, start_on};
use super::refusals::runtime;
use crate::Config;
use crate::testing::{FakeNodes, NODE, batch, entry, open, seal, slice, small_config, trim};

const CAPACITY: usize = 8 << 20;

struct Node {
    nodes: Arc<FakeNodes>,
    runtime: Runtime,
    wal: Arc<WalService>,
}

impl Node {
    async fn on(device: Arc<dyn Device>, nodes: Arc<FakeNodes>) -> Self {
        let runtime = runtime();
        let config = Config {
            heartbeat_interval: Millis(5),
            ..small_config(CAPACITY as u64)
        };
        let wal = start_on(
            device,
            "memory".to_owned(),
            config,
            NODE,
            None,
            nodes.clone(),
            runtime.clone(),
        )
        .await
        .unwrap();
        Self { nodes, runtime, wal }
    }

    async fn new() -> (Self, MemoryDevice) {
        let device = MemoryDevice::new(CAPACITY);
        (Self::on(Arc::new(device.clone()), FakeNodes::new(7)).await, device)
    }

    /// Stops in order and starts again on the same device.
    async fn restart(self, device: &MemoryDevice) -> Self {
        self.wal.shutdown().await;
        Self::on(Arc::new(device.clone()), self.nodes).await
    }

    fn id(&self) -> DeviceId {
        self.wal.device()
    }

    async fn open(&self, journal: u64) -> AppendStream {
        self.wal.open_journal(open(journal, self.id())).await.unwrap()
    }

    fn range(&self, journal: u64, range: std::ops::Range<u64>) -> ReadJournal {
        let range = LsnRange::new(Lsn(range.start), Lsn(range.end));
        ReadJournal {
            journal: JournalId(journal),
            device: self.id(),
            range,
        }
    }

    async fn read(&self, journal: u64, range: std::ops::Range<u64>) -> Result<Vec<Entry>, Error> {
        self.wal
            .read_journal(self.range(journal, range))
            .await?
            .try_collect()
            .await
    }

    async fn batches(&self, stream: u64, offsets: std::ops::Range<i64>, max_bytes: usize) -> Result<Vec<i64>, Error> {
        let request = ReadStream {
            journal: JournalId(1),
            device: self.id(),
            stream: StreamId(stream),
            offset: Offset(offsets.start),
            end: Offset(offsets.end),
            max_bytes,
        };
        let batches = self.wal.read_stream(request).await?;
        let base = |batch: &bytes::Bytes| i64::from_be_bytes(batch[..8].try_into().unwrap());
        for found in &batches {
            assert_eq!(*found, batch(base(found), 100), "whole, as it was sent");
        }
        Ok(batches.iter().map(base).collect())
    }
}

async fn durable(stream: &mut AppendStream, lsn: u64) {
    let state = stream
        .state
        .wait_for(|state| state.durable >= Lsn(lsn) || state.failed.is_some());
    let state = tokio::time::timeout(Duration::from_secs(10), state)
        .await
        .expect("in time")
        .unwrap()
        .clone();
    assert_eq!(state.check(), Ok(()));
}

/// Stream 20 with offsets [lsn * 3, lsn * 3 + 3) in three batches, and a snapshot of stream 21.
fn mixed(lsn: u64) -> Entry {
    let base = lsn as i64 * 3;
    let records = slice(20, base, &[100, 100, 100]);
    let snapshot = SliceHeader {
        kind: SliceKind::Snapshot,
        stream: StreamId(21),
        end: Offset(base),
        length: 8,
        crc: crc32c::crc32c(b"snapshot"),
        ..records.header
    };
    let snapshot = Slice {
        header: snapshot,
        bytes: b"snapshot"[..].into(),
    };
    Entry::encode(JournalId(1), Lsn(lsn), vec![snapshot, records])
}

/// Entries are acked in order and read back with their bytes: from memory, and after a restart from the device.
#[tokio::test]
async fn entries_survive_a_restart() {
    let (mut node, device) = Node::new().await;
    let mut stream = node.open(1).await;
    let sizes = [10, 5000, 700_000, 1, 900_000];
    for (lsn, &bytes) in sizes.iter().enumerate() {
        let cost = tailwater_rpc::wal::entry_cost(bytes + 1000);
        stream.state.wait_for(|state| state.credit_limit >= cost).await.unwrap();
        stream.sender.send(entry(1, lsn as u64, bytes), Lsn(0)).unwrap();
        durable(&mut stream, lsn as u64 + 1).await;
    }
    for _ in 0..2 {
        let found = node.read(1, 0..99).await.unwrap();
        assert_eq!(found.len(), sizes.len(), "ends at the durable end");
        for (lsn, (found, &bytes)) in found.iter().zip(&sizes).enumerate() {
            assert_eq!(found.chunks().concat(), entry(1, lsn as u64, bytes).chunks().concat());
        }
        assert_eq!(node.read(1, 1..3).await.unwrap().len(), 2);
        assert_eq!(node.read(1, 5..5).await.unwrap().len(), 0);
        assert_eq!(node.read(2, 0..1).await.unwrap_err(), Error::NotHere);
        node = node.restart(&device).await;
        let stream = node.open(1).await;
        assert_eq!((stream.next, stream.state.borrow().durable), (Lsn(5), Lsn(5)));
    }
}

/// A stream's batches are found by offset, whole, within bounds; in memory and on the device.
#[tokio::test]
async fn streams_are_read_by_offset() {
    let (mut node, device) = Node::new().await;
    let mut stream = node.open(1).await;
    for lsn in 0..4 {
        stream.sender.send(mixed(lsn), Lsn(0)).unwrap();
    }
    durable(&mut stream, 4).await;
    for _ in 0..2 {
        assert_eq!(node.batches(20, 0..100, 1 << 20).await, Ok((0..12).collect()));
        assert_eq!(node.batches(20, 4..9, 1 << 20).await, Ok((4..9).collect()));
        assert_eq!(node.batches(20, 5..100, 1).await, Ok(vec![5]), "one at least");
        assert_eq!(node.batches(20, 4..100, 2 * batch(0, 100).len()).await, Ok(vec![4, 5]));
        assert_eq!(node.batches(20, 12..100, 1).await, Err(Error::NotHere));
        assert_eq!(
            node.batches(21, 0..100, 1).await,
            Err(Error::NotHere),
            "a snapshot is no record"
        );
        node = node.restart(&device).await;
    }
    node.wal.trim(trim(1, node.id(), 2, false)).await.unwrap();
    let trimmed = Error::Trimmed {
        version: MetadataVersion(1002),
    };
    assert_eq!(node.batches(20, 5..100, 1).await, Err(trimmed.clone()));
    assert_eq!(node.batches(20, 6..100, 1).await, Ok(vec![6]));
    assert_eq!(node.read(1, 1..4).await.unwrap_err(), trimmed);
    node = node.restart(&device).await;
    assert_eq!(node.batches(20, 5..100, 1).await, Err(trimmed));
}

/// A scan has slice headers, snapshots and batch headers, and no records.
#[tokio::test]
async fn a_scan_has_headers_only() {
    let (node, _) = Node::new().await;
    let mut stream = node.open(1).await;
    stream.sender.send(mixed(0), Lsn(0)).unwrap();
    durable(&mut stream, 1).await;
    let scanned: Vec<_> = node
        .wal
        .scan_journal(node.range(1, 0..1))
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let slices = &scanned[0].slices;
    assert_eq!(slices[0].parts, vec![&b"snapshot"[..]]);
    assert_eq!(slices[1].header, mixed(0).header().slices[1]);
    let headers: Vec<_> = (0..3).map(|base| batch(base, 100).slice(..HEADER_BYTES)).collect();
    assert_eq!(slices[1].parts, headers);
}

/// Another device's requests are refused by every call that names one.
#[tokio::test]
async fn another_device_is_refused() {
    let (node, _) = Node::new().await;
    let expected = DeviceId::from_bytes([3; 16]);
    let refused = Err(Error::DeviceChanged {
        expected,
        found: node.id(),
    });
    assert_eq!(node.wal.open_journal(open(1, expected)).await.map(|_| ()), refused);
    assert_eq!(node.wal.seal(seal(1, expected, 1)).await.map(|_| ()), refused);
    assert_eq!(node.wal.trim(trim(1, expected, 0, false)).await, refused);
    let read = ReadJournal {
        device: expected,
        ..node.range(1, 0..1)
    };
    assert_eq!(node.wal.read_journal(read.clone()).await.map(|_| ()), refused);
    assert_eq!(node.wal.scan_journal(read).await.map(|_| ()), refused);
}

/// Seals, trims and what is gone survive a restart; a sealed journal keeps its end and takes nothing.
#[tokio::test]
async fn seals_and_trims_survive_a_restart() {
    let (mut node, device) = Node::new().await;
    for journal in [1, 2] {
        let mut stream = node.open(journal).await;
        for lsn in 0..3 {
            stream.sender.send(entry(journal, lsn, 100), Lsn(0)).unwrap();
        }
        let sealed = node.wal.seal(seal(journal, node.id(), 4)).await.unwrap();
        assert_eq!((sealed.end, sealed.commit), (Lsn(3), Lsn(3)));
        let failed = stream
            .state
            .wait_for(|state| state.failed.is_some())
            .await
            .unwrap()
            .clone();
        assert_eq!(
            (failed.durable, failed.failed),
            (
                Lsn(3),
                Some(Error::JournalFenced {
                    journal: JournalId(journal)
                })
            )
        );
        assert!(stream.sender.send(entry(journal, 3, 1), Lsn(0)).is_err());
    }
    node.wal.trim(trim(1, node.id(), 2, false)).await.unwrap();
    node.wal.trim(trim(2, node.id(), 3, true)).await.unwrap();
    node = node.restart(&device).await;
    let status = node.wal.status().await.unwrap();
    assert_eq!(status.journals.len(), 1);
    let journal = &status.journals[0];
    assert_eq!(
        (journal.journal, journal.trim, journal.durable, journal.sealed),
        (JournalId(1), Lsn(2), Lsn(3), true)
    );
    assert!(journal.bytes > 100 && journal.bytes < 400 && journal.oldest_age.is_some());
    assert!(node.wal.open_journal(open(1, node.id())).await.is_err());
    assert_eq!(node.wal.seal(seal(1, node.id(), 4)).await.unwrap().end, Lsn(3));
    let older = node.wal.seal(seal(1, node.id(), 3)).await.unwrap_err();
    assert_eq!(older, Error::ControllerFenced { journal: JournalId(1) });
    assert_eq!(
        node.wal.trim(trim(2, node.id(), 3, true)).await,
        Ok(()),
        "gone twice is gone"
    );
}

/// After a failed flush nobody is told that anything is durable, and the process is asked to stop.
#[tokio::test]
async fn a_failed_flush_is_the_end() {
    let device = Arc::new(FaultyDevice::new(MemoryDevice::new(CAPACITY)));
    let node = Node::on(device.clone(), FakeNodes::new(7)).await;
    let mut stream = node.open(1).await;
    stream.sender.send(entry(1, 0, 100), Lsn(0)).unwrap();
    durable(&mut stream, 1).await;
    device.inject(Operation::Flush, 0, Fault::Before(libc_eio()));
    stream.sender.send(entry(1, 1, 100), Lsn(0)).unwrap();
    let failed = stream
        .state
        .wait_for(|state| state.failed.is_some())
        .await
        .unwrap()
        .clone();
    assert_eq!(failed.durable, Lsn(1));
    assert!(failed.check().unwrap_err().to_string().contains("flush"));
    assert!(node.runtime.tasks.fatal().await.reason.contains("flush"));
    assert!(stream.sender.send(entry(1, 2, 100), Lsn(0)).is_err());
    assert!(node.wal.seal(seal(1, node.id(), 1)).await.is_err());
    assert!(node.wal.open_journal(open(2, node.id())).await.is_err());
}

fn libc_eio() -> i32 {
    5
}

/// A stop writes what was taken, tells the writers, and refuses the rest; the superblock says that it was clean.
#[tokio::test]
async fn a_stop_answers_everybody() {
    let (node, device) = Node::new().await;
    let mut stream = node.open(1).await;
    for lsn in 0..50 {
        stream.sender.send(entry(1, lsn, 100), Lsn(0)).unwrap();
    }
    node.wal.shutdown().await;
    let state = stream.state.borrow_and_update().clone();
    assert_eq!((state.durable, state.failed), (Lsn(50), Some(Error::Shutdown)));
    assert_eq!(stream.sender.send(entry(1, 50, 1), Lsn(0)), Err(Error::Shutdown));
    assert_eq!(device.unflushed_writes(), 0);
}

/// Appends of many writers share flushes, and each sees only its own acks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_share_flushes() {
    let device = Arc::new(FaultyDevice::new(MemoryDevice::new(CAPACITY)));
    let node = Node::on(device.clone(), FakeNodes::new(7)).await;
    let mut streams = Vec::new();
    for journal in 0..8 {
        streams.push(node.open(journal).await);
    }
    let before = device.begun(Operation::Flush);
    for lsn in 0..40 {
        for (journal, stream) in streams.iter().enumerate() {
            stream.sender.send(entry(journal as u64, lsn, 50), Lsn(0)).unwrap();
        }
    }
    for stream in &mut streams {
        durable(stream, 40).await;
    }
    let flushes = device.begun(Operation::Flush) - before;
    assert!(flushes < 200, "{flushes} flushes for 320 entries");
}

/// A node that the controller has fenced asks for the process to stop with exit code 70.
#[tokio::test]
async fn a_fenced_node_stops() {
    let (node, _) = Node::new().await;
    node.nodes.set_state(NodeState::Fenced);
    assert_eq!(node.runtime.tasks.fatal().await.exit_code, 70);
}

/// A real file, with O_DIRECT where the file system has it: several laps, a restart in between, everything read back.
#[tokio::test]
async fn a_real_file_goes_round() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = FakeNodes::new(7);
    let config = Config {
        path: folder.path().join("wal"),
        capacity: ByteSize(16 << 20),
        flush_window: ByteSize(4 << 20),
        memory: ByteSize(0),
        ..Config::default()
    };
    let (mut lsn, mut head) = (0, 0);
    for _ in 0..3 {
        let runtime = runtime();
        let wal = start(config.clone(), NODE, None, nodes.clone(), runtime.clone())
            .await
            .unwrap();
        let mut stream = wal.open_journal(open(1, wal.device())).await.unwrap();
        assert_eq!(stream.next, Lsn(lsn));
        for _ in 0..30 {
            stream
                .state
                .wait_for(|state| state.credit_limit >= 2 << 20)
                .await
                .unwrap();
            stream.sender.send(entry(1, lsn, 700_000), Lsn(0)).unwrap();
            lsn += 1;
            durable(&mut stream, lsn).await;
            let range = LsnRange::new(Lsn(lsn - 1), Lsn(lsn));
            let read = ReadJournal {
                journal: JournalId(1),
                device: wal.device(),
                range,
            };
            let found: Vec<_> = wal.read_journal(read).await.unwrap().try_collect().await.unwrap();
            assert_eq!(found[0].chunks().concat(), entry(1, lsn - 1, 700_000).chunks().concat());
            wal.trim(trim(1, wal.device(), lsn - 1, false)).await.unwrap();
        }
        let metrics = runtime.metrics.text();
        let gauge = metrics
            .lines()
            .find(|line| line.starts_with("tailwater_wal_head_position_bytes "))
            .unwrap();
        let now: u64 = gauge.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(now > head + (20 << 20), "{now} after {head}");
        head = now;
        wal.shutdown().await;
    }
}
