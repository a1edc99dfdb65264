//! What it costs to carry entries over loopback: CPU-seconds a GB at the sender and at the receiver, each a thread of its
//! own. It judges nothing; docs/design.md section 10 has figures to compare with.
//!
//! `cargo test --release -p tailwater-rpc --test wal_cost -- --ignored --nocapture`

#![allow(clippy::unwrap_used, reason = "a measurement that ends where it can't go on")]

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use async_trait::async_trait;
use bytes::Bytes;
use tailwater_format::entry::{Entry, Slice, SliceHeader, SliceKind};
use tailwater_rpc::grpc::{Routes, WalClient, WalRoutes, serve};
use tailwater_rpc::wal::{
    AppendSender, AppendState, AppendStream, OpenJournal, ReadJournal, ReadStream, ScannedEntry, SealJournal,
    SealedJournal, TrimJournal, Wal, WalStatus, entry_cost,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_runtime::{CancellationToken, Clock, Metrics, Random, Runtime, Tasks};
use tailwater_types::{DeviceId, JournalId, LeaderEpoch, Lsn, NodeEpoch, NodeId, Offset, StreamId};
use tokio::net::TcpListener;
use tokio::sync::watch;

const ENTRY_BYTES: usize = 1 << 20;
const ENTRIES: u64 = 4096;
const CREDIT_BYTES: u64 = 64 << 20;

/// Takes every entry, keeps none, and says at once that it is durable.
struct Sink;

struct SinkSender(watch::Sender<AppendState>);

impl AppendSender for SinkSender {
    fn send(&self, entry: Entry, _commit: Lsn) -> Result<()> {
        self.0.send_modify(|state| {
            state.durable = entry.lsn().next();
            state.credit_limit += entry_cost(entry.encoded_bytes());
        });
        Ok(())
    }
}

fn unused<T>() -> Result<T> {
    Err(Error::Internal("only appends are measured".to_owned()))
}

#[async_trait]
impl Wal for Sink {
    async fn open_journal(&self, _: OpenJournal) -> Result<AppendStream> {
        let (sender, state) = watch::channel(AppendState {
            durable: Lsn(0),
            credit_limit: CREDIT_BYTES,
            failed: None,
        });
        let sender = Box::new(SinkSender(sender));
        let next = Lsn(0);
        Ok(AppendStream { next, sender, state })
    }
    async fn read_journal(&self, _: ReadJournal) -> Result<Stream<Entry>> {
        unused()
    }
    async fn scan_journal(&self, _: ReadJournal) -> Result<Stream<ScannedEntry>> {
        unused()
    }
    async fn read_stream(&self, _: ReadStream) -> Result<Vec<Bytes>> {
        unused()
    }
    async fn seal(&self, _: SealJournal) -> Result<SealedJournal> {
        unused()
    }
    async fn trim(&self, _: TrimJournal) -> Result<()> {
        unused()
    }
    async fn status(&self) -> Result<WalStatus> {
        unused()
    }
}

fn slice() -> Slice {
    let bytes = Bytes::from(vec![0x5a; ENTRY_BYTES]);
    let header = SliceHeader {
        kind: SliceKind::Records,
        stream: StreamId(1),
        leader_epoch: LeaderEpoch(0),
        base: Offset(0),
        end: Offset(1),
        max_timestamp_ms: 0,
        length: bytes.len() as u32,
        crc: crc32c::crc32c(&bytes),
    };
    Slice { header, bytes }
}

/// CPU-seconds of the calling thread.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that the call fills.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn executor() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn append_all(address: std::net::SocketAddr) {
    let runtime = Runtime {
        clock: Clock::system(),
        random: Random::system(),
        tasks: Tasks::new("sender"),
        metrics: Metrics::new(),
    };
    let wal = WalClient::new(&address.to_string(), runtime).unwrap();
    let device = DeviceId::from_bytes([1; 16]);
    let open = OpenJournal {
        journal: JournalId(1),
        device,
        node: NodeId(1),
        node_epoch: NodeEpoch(1),
        ensemble: vec![device],
        ack_quorum: 1,
        min_leader_epochs: Vec::new(),
    };
    let mut stream = wal.open_journal(open).await.unwrap();
    let slice = slice();
    let mut sent = 0;
    for lsn in 0..ENTRIES {
        let entry = Entry::encode(JournalId(1), Lsn(lsn), vec![slice.clone()]);
        sent += entry_cost(entry.encoded_bytes());
        stream.state.wait_for(|state| state.credit_limit >= sent).await.unwrap();
        stream.sender.send(entry, Lsn(lsn)).unwrap();
    }
    let all = |state: &AppendState| state.durable == Lsn(ENTRIES) || state.failed.is_some();
    let end = stream.state.wait_for(all).await.unwrap().clone();
    assert_eq!(end.check(), Ok(()));
}

#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, reason = "two threads that are measured")]
fn entries_over_loopback() {
    let (told, address) = sync_channel(1);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let receiver = std::thread::spawn(move || {
        let executor = executor();
        executor.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let routes = Routes::new(WalRoutes::new(Arc::new(Sink)));
            serve(listener, routes, stopped, Clock::system()).await.unwrap();
        });
        cpu_seconds()
    });
    let address = address.recv().unwrap();
    let begun = cpu_seconds();
    executor().block_on(append_all(address));
    let sender = cpu_seconds() - begun;
    stop.cancel();
    let receiver = receiver.join().unwrap();
    let gigabytes = (ENTRIES * ENTRY_BYTES as u64) as f64 / 1e9;
    println!(
        "sender {:.3} CPU-s/GB, receiver {:.3} CPU-s/GB",
        sender / gigabytes,
        receiver / gigabytes
    );
}
