//! A running node in memory, and the two ways to its port: in this process, and over gRPC on loopback.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tailwater_format::entry::{Entry, Slice, SliceHeader, SliceKind};
use tailwater_rpc::Error;
use tailwater_rpc::grpc::{Routes, WalClient, WalRoutes, serve};
use tailwater_rpc::wal::{AppendState, AppendStream, ReadJournal, ReadStream, Wal};
use tailwater_runtime::config::{ByteSize, Millis};
use tailwater_runtime::device::MemoryDevice;
use tailwater_runtime::{Device, Policy, Runtime};
use tailwater_types::{DeviceId, JournalId, Lsn, LsnRange, Offset, StreamId};
use tokio::net::TcpListener;

use super::super::{WalService, start_on};
use super::refusals::runtime;
use crate::Config;
use crate::testing::{FakeNodes, NODE, batch, open, slice, small_config};

pub(super) const CAPACITY: usize = 8 << 20;

/// How a test reaches the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Process,
    Grpc,
}

pub(super) struct Node {
    pub nodes: Arc<FakeNodes>,
    pub runtime: Runtime,
    pub wal: Arc<WalService>,
    pub port: Arc<dyn Wal>,
    via: Via,
}

impl Node {
    pub async fn on(device: Arc<dyn Device>, nodes: Arc<FakeNodes>, via: Via) -> Self {
        Self::with(small_config(CAPACITY as u64), device, nodes, via).await
    }

    pub async fn new(via: Via) -> (Self, MemoryDevice) {
        let device = MemoryDevice::new(CAPACITY);
        let node = Self::on(Arc::new(device.clone()), FakeNodes::new(7), via).await;
        (node, device)
    }

    /// A device that has room for entries of this size.
    pub async fn large(max_entry: usize, via: Via) -> Self {
        let capacity = 3 * max_entry;
        let config = Config {
            max_entry: ByteSize(max_entry as u64),
            ..small_config(capacity as u64)
        };
        Self::with(config, Arc::new(MemoryDevice::new(capacity)), FakeNodes::new(7), via).await
    }

    async fn with(config: Config, device: Arc<dyn Device>, nodes: Arc<FakeNodes>, via: Via) -> Self {
        let runtime = runtime();
        let config = Config {
            heartbeat_interval: Millis(5),
            ..config
        };
        let name = "memory".to_owned();
        let started = start_on(device, name, config, NODE, None, nodes.clone(), runtime.clone());
        let wal = started.await.unwrap();
        let port: Arc<dyn Wal> = match via {
            Via::Process => wal.clone(),
            Via::Grpc => Arc::new(client(serve_on(wal.clone(), &runtime, None).await, &runtime)),
        };
        Self {
            nodes,
            runtime,
            wal,
            port,
            via,
        }
    }

    /// Stops in order and starts again on the same device.
    pub async fn restart(self, device: &MemoryDevice) -> Self {
        self.wal.shutdown().await;
        Self::on(Arc::new(device.clone()), self.nodes, self.via).await
    }

    pub fn id(&self) -> DeviceId {
        self.wal.device()
    }

    pub async fn open(&self, journal: u64) -> AppendStream {
        self.port.open_journal(open(journal, self.id())).await.unwrap()
    }

    pub fn range(&self, journal: u64, range: Range<u64>) -> ReadJournal {
        let range = LsnRange::new(Lsn(range.start), Lsn(range.end));
        ReadJournal {
            journal: JournalId(journal),
            device: self.id(),
            range,
        }
    }

    pub async fn read(&self, journal: u64, range: Range<u64>) -> Result<Vec<Entry>, Error> {
        let read = self.port.read_journal(self.range(journal, range)).await?;
        read.try_collect().await
    }

    pub fn read_stream(&self, stream: u64, offsets: Range<i64>, max_bytes: usize) -> ReadStream {
        ReadStream {
            journal: JournalId(1),
            device: self.id(),
            stream: StreamId(stream),
            offset: Offset(offsets.start),
            end: Offset(offsets.end),
            max_bytes,
        }
    }

    pub async fn batches(&self, stream: u64, offsets: Range<i64>, max_bytes: usize) -> Result<Vec<i64>, Error> {
        let request = self.read_stream(stream, offsets, max_bytes);
        let batches = self.port.read_stream(request).await?;
        let base = |batch: &bytes::Bytes| i64::from_be_bytes(batch[..8].try_into().unwrap());
        for found in &batches {
            assert_eq!(*found, batch(base(found), 100), "whole, as it was sent");
        }
        Ok(batches.iter().map(base).collect())
    }
}

/// Serves `wal` on loopback, at `address` or a free one, and answers where.
pub(super) async fn serve_on(wal: Arc<dyn Wal>, runtime: &Runtime, address: Option<SocketAddr>) -> SocketAddr {
    let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = runtime.tasks.token();
    let server = serve(listener, Routes::new(WalRoutes::new(wal)), token, runtime.clock.clone());
    runtime.tasks.spawn("server", Policy::LOGGED_ABORT, async move {
        server.await.unwrap();
    });
    address
}

/// A client of the node at `address`.
pub(super) fn client(address: SocketAddr, runtime: &Runtime) -> WalClient {
    WalClient::new(&address.to_string(), runtime.clone()).unwrap()
}

/// Waits until everything below `lsn` is durable.
pub(super) async fn durable(stream: &mut AppendStream, lsn: u64) {
    let state = seen(stream, |state| state.durable >= Lsn(lsn)).await;
    assert_eq!(state.check(), Ok(()));
}

/// Waits for a state like that, or the stream's end.
pub(super) async fn seen(stream: &mut AppendStream, wanted: impl Fn(&AppendState) -> bool) -> AppendState {
    let state = stream.state.wait_for(|state| wanted(state) || state.failed.is_some());
    let state = tokio::time::timeout(Duration::from_secs(30), state).await;
    state.expect("in time").unwrap().clone()
}

/// Why an entry is refused: at once, or, where it went over a connection, as what ends the stream.
pub(super) async fn refusal(stream: &mut AppendStream, entry: Entry) -> Error {
    match stream.sender.send(entry, Lsn(0)) {
        Err(error) => error,
        Ok(()) => seen(stream, |_| false).await.failed.expect("it has ended"),
    }
}

/// Stream 20 with offsets [lsn * 3, lsn * 3 + 3) in three batches, and a snapshot of stream 21.
pub(super) fn mixed(lsn: u64) -> Entry {
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
