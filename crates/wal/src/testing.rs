//! What the tests of this crate build: entries with real batches, requests, a controller that knows one device.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tailwater_format::entry::{Entry, Slice, SliceHeader, SliceKind};
use tailwater_kafka::batch::{BatchBuilder, assign};
use tailwater_rpc::controller::{
    Caller, Heartbeat, HeartbeatAnswer, MetadataUpdate, NodeInfo, NodeState, Nodes, RegisterNode, Registration,
};
use tailwater_rpc::wal::{OpenJournal, SealJournal, TrimJournal};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_runtime::config::ByteSize;
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, DeviceId, JournalId, LeaderEpoch, Lsn, MetadataVersion, NodeEpoch, NodeId,
    Offset, SealingEpoch, StreamId,
};

use crate::Config;

pub(crate) const NODE: NodeId = NodeId(101);

/// One batch of one record at `base`, whose value is `bytes` long and follows from the offset.
pub(crate) fn batch(base: i64, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    // Differs from one offset to the next, and everywhere within one.
    let pattern: Vec<u8> = (0..251).map(|at| (base as u8).wrapping_mul(31) ^ at).collect();
    let value: Vec<u8> = pattern.iter().copied().cycle().take(bytes).collect();
    builder.push(base, None, Some(&value), &[]);
    let mut batch = builder.build();
    assign(&mut batch, Offset(base), LeaderEpoch(0));
    batch.freeze()
}

/// A slice of batches with one record each, from `base` on.
pub(crate) fn slice(stream: u64, base: i64, batches: &[usize]) -> Slice {
    let run: Vec<u8> = batches
        .iter()
        .zip(base..)
        .flat_map(|(&bytes, base)| batch(base, bytes))
        .collect();
    let header = SliceHeader {
        kind: SliceKind::Records,
        stream: StreamId(stream),
        leader_epoch: LeaderEpoch(0),
        base: Offset(base),
        end: Offset(base + batches.len() as i64),
        max_timestamp_ms: base,
        length: run.len() as u32,
        crc: crc32c::crc32c(&run),
    };
    Slice {
        header,
        bytes: run.into(),
    }
}

/// An entry whose one slice has one batch: the stream is the journal's number, the offset the LSN.
pub(crate) fn entry(journal: u64, lsn: u64, bytes: usize) -> Entry {
    Entry::encode(JournalId(journal), Lsn(lsn), vec![slice(journal, lsn as i64, &[bytes])])
}

pub(crate) fn open(journal: u64, device: DeviceId) -> OpenJournal {
    OpenJournal {
        journal: JournalId(journal),
        device,
        node: NodeId(1),
        node_epoch: NodeEpoch(5),
        ensemble: vec![device],
        ack_quorum: 1,
        min_leader_epochs: vec![(StreamId(900), LeaderEpoch(3))],
    }
}

pub(crate) fn seal(journal: u64, device: DeviceId, attempt: u64) -> SealJournal {
    let epoch = SealingEpoch {
        controller: ControllerEpoch(2),
        attempt,
    };
    SealJournal {
        journal: JournalId(journal),
        device,
        epoch,
    }
}

pub(crate) fn trim(journal: u64, device: DeviceId, to: u64, gone: bool) -> TrimJournal {
    let version = MetadataVersion(1000 + to);
    TrimJournal {
        journal: JournalId(journal),
        device,
        to: Lsn(to),
        version,
        gone,
    }
}

/// Settings for a device of `capacity` bytes, too small for [`Config::validate`].
pub(crate) fn small_config(capacity: u64) -> Config {
    Config {
        capacity: ByteSize(capacity),
        memory: ByteSize(64 << 10),
        flush_window: ByteSize(128 << 10),
        credit_window: ByteSize(64 << 10),
        max_entry: ByteSize(1 << 20),
        ..Config::default()
    }
}

/// Gives out device epochs as the controller does, and refuses what it refuses.
pub(crate) struct FakeNodes {
    state: Mutex<FakeState>,
}

struct FakeState {
    cluster: ClusterId,
    granted: DeviceEpoch,
    confirmed: DeviceEpoch,
    node: NodeState,
    heartbeats: usize,
}

impl FakeNodes {
    pub(crate) fn new(cluster: u8) -> Arc<Self> {
        let state = FakeState {
            cluster: ClusterId::from_bytes([cluster; 16]),
            granted: DeviceEpoch(0),
            confirmed: DeviceEpoch(0),
            node: NodeState::Active,
            heartbeats: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    pub(crate) fn set_state(&self, node: NodeState) {
        self.state.lock().node = node;
    }

    /// How often nodes were heard, and whether the newest grant is confirmed.
    pub(crate) fn seen(&self) -> (usize, bool) {
        let state = self.state.lock();
        (state.heartbeats, state.confirmed == state.granted)
    }

    /// As if another start had been granted and confirmed.
    pub(crate) fn skip_epoch(&self) {
        let mut state = self.state.lock();
        state.granted = DeviceEpoch(state.granted.0 + 2);
        state.confirmed = state.granted;
    }
}

#[async_trait]
impl Nodes for FakeNodes {
    async fn register(&self, request: RegisterNode) -> Result<Registration> {
        let mut state = self.state.lock();
        let found = request.device.expect("a WAL node has a device").epoch;
        if request.cluster.is_some_and(|cluster| cluster != state.cluster) {
            return Err(Error::Invalid("another cluster's".to_owned()));
        }
        if found != state.granted && found != state.confirmed {
            return Err(Error::Invalid(format!(
                "device epoch {found} found, {} expected",
                state.granted
            )));
        }
        state.granted = state.granted.next();
        Ok(Registration {
            cluster: state.cluster,
            controller_epoch: ControllerEpoch(1),
            node_epoch: NodeEpoch(1),
            device_epoch: Some(state.granted),
            lease: None,
        })
    }

    async fn confirm_device(&self, _: Caller, _: DeviceId, epoch: DeviceEpoch) -> Result<()> {
        self.state.lock().confirmed = epoch;
        Ok(())
    }

    async fn heartbeat(&self, _: Caller, _: Heartbeat) -> Result<HeartbeatAnswer> {
        let mut state = self.state.lock();
        state.heartbeats += 1;
        Ok(HeartbeatAnswer {
            controller_epoch: ControllerEpoch(1),
            state: state.node,
            asked: Vec::new(),
            lease: None,
        })
    }

    async fn watch(&self, _: Caller) -> Result<Stream<Arc<MetadataUpdate>>> {
        Err(Error::Internal("not needed".to_owned()))
    }

    async fn watch_nodes(&self) -> Result<Stream<Vec<NodeInfo>>> {
        Err(Error::Internal("not needed".to_owned()))
    }
}
