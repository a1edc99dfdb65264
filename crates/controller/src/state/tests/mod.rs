//! The state machine: each transition and refusal by tables, its invariants by random histories.

mod balance;
mod cleanings;
mod commits;
mod history;
mod leases;
mod moves;
mod registration;
mod settings;
mod topics;

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_format::metadata::{Key, Record};
use tailwater_rpc::controller::*;
use tailwater_rpc::{Error, Result};
use tailwater_runtime::Clock;
use tailwater_runtime::clock::Instant;
use tailwater_types::*;

use super::*;

pub const SECOND: Duration = Duration::from_secs(1);
pub const LEASE: Duration = Duration::from_secs(10);
/// The time that records carry.
pub const WALL_MS: i64 = 1_000_000;
pub const DEVICE: DeviceId = DeviceId(uuid_of(9));

const fn uuid_of(byte: u8) -> uuid::Uuid {
    uuid::Uuid::from_bytes([byte; 16])
}

/// A state machine with a clock of its own, which checks after each step what must hold after all of them.
pub struct Machine {
    pub state: State,
    pub timers: Timers,
    pub limits: Limits,
    pub now: Instant,
    /// Of all steps so far.
    pub effects: Vec<Effect>,
}

impl Machine {
    pub fn new() -> Self {
        let now = Clock::system().now();
        let cluster = tailwater_format::metadata::ClusterRecord {
            cluster: ClusterId::from_bytes([1; 16]),
            term: ControllerEpoch(5),
        };
        Self {
            state: State::of([(Key::Cluster, Record::Cluster(std::sync::Arc::new(cluster)))]),
            timers: Timers::new(now),
            limits: Limits {
                node_lease: Some(LEASE),
                balance_after: Some(SECOND * 5),
                task_lease: LEASE * 3,
                object_deadline: LEASE * 9,
                delete_delay: LEASE * 6,
                clean_backoff: LEASE,
                clean_interval: Duration::ZERO,
            },
            now,
            effects: Vec::new(),
        }
    }

    /// Runs a command as the driver does.
    pub fn run<T>(&mut self, command: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        let mut tx = Tx::new(&self.state, &self.timers, &self.limits, self.now);
        let answer = command(&mut tx)?;
        let step = tx.finish();
        let bytes: usize = step
            .changes
            .iter()
            .map(|(key, record)| 17 + record.as_ref().map_or(0, |record| record.encode(*key).len()))
            .sum();
        assert!(
            step.changes.len() <= MAX_KEYS && bytes <= MAX_BYTES,
            "{} keys, {bytes} bytes",
            step.changes.len()
        );
        let before = self.state.version();
        for touch in step.touches {
            self.timers.touch(touch, self.now);
        }
        self.state.put_all(&step.changes);
        let changed = u64::from(!step.changes.is_empty());
        assert_eq!(
            self.state.version(),
            MetadataVersion(before.0 + changed),
            "one version a step"
        );
        self.effects.extend(step.effects);
        Ok(answer)
    }

    /// Runs a chore until it is through.
    pub fn chore(&mut self, chore: fn(&mut Tx<'_>) -> bool) -> usize {
        let mut steps = 1;
        while self.run(|tx| Ok(chore(tx))).unwrap() {
            steps += 1;
        }
        steps
    }

    pub fn chores(&mut self) {
        for chore in [nodes::expire, streams::place, objects::sweep, cleaning::sweep] {
            self.chore(chore);
        }
        self.run(|tx| {
            super::balance::ask(tx);
            Ok(())
        })
        .unwrap();
        self.timers.prune(&self.state);
    }

    /// Time goes by.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The state as a controller that starts now would read it, through the stored bytes.
    pub fn rebuilt(&self) -> State {
        State::of(self.state.records.iter().map(|(key, record)| {
            let stored = Key::from_bytes(&key.to_bytes()).unwrap();
            (stored, Record::decode(stored, &record.encode(*key)).unwrap())
        }))
    }

    pub fn register(&mut self, node: u32, tier: Tier, incarnation: u128) -> Caller {
        self.try_register(&request(node, tier, incarnation)).unwrap()
    }

    pub fn try_register(&mut self, request: &RegisterNode) -> Result<Caller> {
        let registration = self.run(|tx| nodes::register(tx, request))?;
        Ok(Caller {
            node: request.node,
            node_epoch: registration.node_epoch,
            controller_epoch: registration.controller_epoch,
        })
    }

    /// A WAL node that serves.
    pub fn wal(&mut self) -> Caller {
        let mut request = request(101, Tier::Wal, 1);
        request.device = Some(report(DEVICE, 0));
        let registration = self.run(|tx| nodes::register(tx, &request)).unwrap();
        let caller = Caller {
            node: NodeId(101),
            node_epoch: registration.node_epoch,
            controller_epoch: registration.controller_epoch,
        };
        let granted = registration.device_epoch.unwrap();
        self.run(|tx| nodes::confirm_device(tx, caller, DEVICE, granted))
            .unwrap();
        caller
    }

    pub fn topic(&mut self, caller: Caller, name: &str, partitions: i32) -> TopicId {
        let id = TopicId::from_random(u128::from(self.state.version().0));
        self.run(|tx| catalog::create_topic(tx, caller, id, &topic(name, partitions)))
            .unwrap()
            .id
    }

    pub fn journal(&mut self, caller: Caller) -> JournalId {
        let journal = self.unopened_journal(caller);
        self.run(|tx| journals::confirm_journal(tx, caller, journal)).unwrap();
        journal
    }

    /// One that its owner hasn't confirmed.
    pub fn unopened_journal(&mut self, caller: Caller) -> JournalId {
        self.run(|tx| journals::create_journal(tx, caller, true))
            .unwrap()
            .journal
    }

    pub fn lease(&mut self, caller: Caller, kind: TaskKind) -> Option<Lease> {
        self.run(|tx| tasks::lease(tx, caller, &[kind], WALL_MS)).unwrap()
    }

    pub fn prepare(&mut self, caller: Caller, lease: LeaseRef, count: u32) -> Vec<ObjectId> {
        let prepared = self.run(|tx| objects::prepare(tx, caller, &PrepareObjects { lease, count }));
        prepared.unwrap().iter().map(|object| object.object).collect()
    }

    pub fn node_state(&self, node: u32) -> tailwater_format::metadata::NodeState {
        self.state.node(NodeId(node)).unwrap().state
    }

    pub fn object_life(&self, object: ObjectId) -> Option<tailwater_format::metadata::ObjectLife> {
        self.state.object(object).map(|record| record.life)
    }
}

pub fn request(node: u32, tier: Tier, incarnation: u128) -> RegisterNode {
    RegisterNode {
        node: NodeId(node),
        tier,
        cluster: None,
        incarnation,
        endpoints: Vec::new(),
        address: None,
        device: None,
    }
}

pub fn report(device: DeviceId, epoch: u64) -> DeviceReport {
    DeviceReport {
        device,
        epoch: DeviceEpoch(epoch),
        capacity_bytes: 1 << 30,
    }
}

pub fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions,
        configs: BTreeMap::new(),
        internal: false,
        validate_only: false,
    }
}

/// Settings under which anything dirty is cleaned at once.
pub fn compacted() -> BTreeMap<String, String> {
    let settings = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// An object with these slices, each with a snapshot exact at its end.
pub fn object(id: ObjectId, slices: &[(u64, i64, i64)]) -> CommittedObject {
    let part = |&(stream, start, end): &(u64, i64, i64)| CommittedStream {
        stream: StreamId(stream),
        range: OffsetRange::new(Offset(start), Offset(end)),
        stable_end: Offset(end),
        max_timestamp_ms: end,
        bytes: 100,
        snapshot: Some(SnapshotAt {
            object: id,
            key: String::new(),
            position: 10,
            length: 5,
            crc: u32::try_from(end).unwrap(),
        }),
    };
    CommittedObject {
        object: id,
        size_bytes: 1000,
        streams: slices.iter().map(part).collect(),
    }
}

pub fn commit(lease: LeaseRef, journal: JournalId, lsns: (u64, u64), objects: Vec<CommittedObject>) -> CommitObjects {
    CommitObjects {
        lease,
        source: CommitSource::Journals(vec![(journal, LsnRange::new(Lsn(lsns.0), Lsn(lsns.1)))]),
        objects,
        abandoned: Vec::new(),
    }
}
