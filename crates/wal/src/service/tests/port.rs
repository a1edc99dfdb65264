//! What only a node in this process shows: failing devices, stops, fences, shared flushes, real files.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tailwater_rpc::Error;
use tailwater_rpc::controller::NodeState;
use tailwater_rpc::wal::{ReadJournal, Wal};
use tailwater_runtime::config::ByteSize;
use tailwater_runtime::device::{Fault, FaultyDevice, Hold, MemoryDevice, Operation};
use tailwater_types::{JournalId, Lsn, LsnRange};

use super::super::start;
use super::node::{CAPACITY, Node, Via, durable};
use super::refusals::runtime;
use crate::Config;
use crate::testing::{FakeNodes, NODE, entry, open, seal, trim};

/// After a failed flush nobody is told that anything is durable, and the process is asked to stop.
#[tokio::test]
async fn a_failed_flush_is_the_end() {
    let device = Arc::new(FaultyDevice::new(MemoryDevice::new(CAPACITY)));
    let node = Node::on(device.clone(), FakeNodes::new(7), Via::Process).await;
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
    let (node, device) = Node::new(Via::Process).await;
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
    let node = Node::on(device.clone(), FakeNodes::new(7), Via::Process).await;
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
    let (node, _) = Node::new(Via::Process).await;
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

/// A node with more to recover than its lease allows was fenced for ever: it is heard for as long as that takes, and isn't
/// `Active`, so that it is given nothing, before it can serve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_recovery_keeps_the_lease_and_serves_nobody() {
    let (node, memory) = Node::new(Via::Process).await;
    let nodes = node.nodes.clone();
    node.wal.shutdown().await;
    let device = Arc::new(FaultyDevice::new(memory));
    let hold = Hold::default();
    // The first one is the superblock with the granted epoch, the second the recovery's own.
    device.inject(Operation::Write, 1, Fault::Held(hold.clone()));
    let recovers = async {
        until(|| hold.waiting() == 1).await;
        let (begun, is_confirmed) = nodes.seen();
        assert!(!is_confirmed);
        until(|| nodes.seen().0 > begun + 5).await;
        assert_eq!((hold.waiting(), nodes.seen().1), (1, false));
        hold.release();
    };
    let starting = Node::on(device, nodes.clone(), Via::Process);
    let (node, ()) = tokio::join!(starting, recovers);
    assert!(nodes.seen().1);
    node.open(1).await;
}

async fn until(mut look: impl FnMut() -> bool) {
    let wait = async {
        while !look() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("in time");
}
