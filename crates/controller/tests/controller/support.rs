//! A controller with nodes around it: WAL nodes that note what they are told, calls in short.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tailwater_controller::store::{Faults, FaultyStore, MemoryStore, MetadataStore};
use tailwater_controller::{Config, ControllerService, start_with};
use tailwater_format::entry::Entry;
use tailwater_rpc::controller::*;
use tailwater_rpc::wal::*;
use tailwater_rpc::{Error, Result, Stream};
use tailwater_runtime::{Clock, Metrics, Random, Runtime, Tasks as TaskGroup};
use tailwater_types::*;

pub const FRONTEND: NodeId = NodeId(1);
pub const WAL: NodeId = NodeId(101);
pub const COMPACTOR: NodeId = NodeId(201);

/// What a WAL node was told, and what it answers. As the real one it forgets no journal that it has open.
#[derive(Default)]
pub struct FakeWal {
    pub ends: Mutex<BTreeMap<JournalId, Lsn>>,
    pub seals: Mutex<Vec<SealJournal>>,
    pub trims: Mutex<Vec<TrimJournal>>,
    /// Orders fail while this is set.
    pub down: Mutex<bool>,
}

impl FakeWal {
    fn check(&self) -> Result<()> {
        if *self.down.lock() {
            return Err(Error::Throttled("down".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Wal for FakeWal {
    async fn open_journal(&self, _: OpenJournal) -> Result<AppendStream> {
        Err(Error::NotHere)
    }

    async fn read_journal(&self, _: ReadJournal) -> Result<Stream<Entry>> {
        Err(Error::NotHere)
    }

    async fn scan_journal(&self, _: ReadJournal) -> Result<Stream<ScannedEntry>> {
        Err(Error::NotHere)
    }

    async fn read_stream(&self, _: ReadStream) -> Result<Vec<bytes::Bytes>> {
        Err(Error::NotHere)
    }

    async fn seal(&self, request: SealJournal) -> Result<SealedJournal> {
        self.check()?;
        let end = self.ends.lock().get(&request.journal).copied();
        self.seals.lock().push(request);
        let end = end.unwrap_or(Lsn::ZERO);
        Ok(SealedJournal { end, commit: end })
    }

    async fn trim(&self, request: TrimJournal) -> Result<()> {
        self.check()?;
        let is_sealed = self.seals.lock().iter().any(|seal| seal.journal == request.journal);
        if request.gone && !is_sealed {
            let id = request.journal;
            return Err(Error::Invalid(format!("journal {id} can't be gone: it isn't sealed")));
        }
        self.trims.lock().push(request);
        Ok(())
    }

    async fn status(&self) -> Result<WalStatus> {
        Err(Error::NotHere)
    }
}

pub struct Directory(pub DeviceId, pub Arc<FakeWal>);

impl WalDirectory for Directory {
    fn wal(&self, device: DeviceId) -> Option<Arc<dyn Wal>> {
        (device == self.0).then(|| self.1.clone() as Arc<dyn Wal>)
    }
}

/// A controller over a store in memory, and one WAL node.
pub struct Cluster {
    pub controller: Arc<ControllerService>,
    pub wal: Arc<FakeWal>,
    pub device: DeviceId,
    pub memory: MemoryStore,
    pub faults: Faults,
    pub config: Config,
    pub metrics: Metrics,
    /// Of the process that runs now.
    pub tasks: TaskGroup,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub async fn start_with(config: Config) -> Self {
        let (memory, faults, wal) = (MemoryStore::default(), Faults::default(), Arc::default());
        let device = DeviceId::from_bytes([9; 16]);
        let runtime = runtime();
        let (tasks, metrics) = (runtime.tasks.clone(), runtime.metrics.clone());
        let controller = launch(&config, &memory, &faults, device, &wal, runtime).await;
        Self {
            controller,
            wal,
            device,
            memory,
            faults,
            config,
            metrics,
            tasks,
        }
    }

    /// Another process over the same store; the one before is gone as after a kill.
    pub async fn restart(&mut self) {
        self.controller.shutdown().await;
        let runtime = runtime();
        (self.tasks, self.metrics) = (runtime.tasks.clone(), runtime.metrics.clone());
        let (config, memory, faults) = (&self.config, &self.memory, &self.faults);
        self.controller = launch(config, memory, faults, self.device, &self.wal, runtime).await;
    }

    pub async fn register(&self, node: NodeId, tier: Tier, incarnation: u128) -> Caller {
        let registration = self
            .controller
            .register(request(node, tier, incarnation))
            .await
            .unwrap();
        caller(node, &registration)
    }

    pub async fn frontend(&self, incarnation: u128) -> Caller {
        self.register(FRONTEND, Tier::Frontend, incarnation).await
    }

    pub async fn compactor(&self, incarnation: u128) -> Caller {
        self.register(COMPACTOR, Tier::Compactor, incarnation).await
    }

    /// Registers and confirms the WAL node; `epoch` is what its superblock has.
    pub async fn wal(&self, incarnation: u128, epoch: DeviceEpoch) -> Caller {
        let mut request = request(WAL, Tier::Wal, incarnation);
        request.device = Some(DeviceReport {
            device: self.device,
            epoch,
            capacity_bytes: 1 << 30,
        });
        let registration = self.controller.register(request).await.unwrap();
        let caller = caller(WAL, &registration);
        let granted = registration.device_epoch.unwrap();
        self.controller
            .confirm_device(caller, self.device, granted)
            .await
            .unwrap();
        caller
    }

    pub async fn topic(&self, caller: Caller, name: &str, partitions: i32) -> CreatedTopic {
        self.controller
            .create_topic(caller, topic(name, partitions))
            .await
            .unwrap()
    }

    /// The metadata as somebody who begins to watch now gets it.
    pub async fn snapshot(&self, caller: Caller) -> MetadataUpdate {
        let mut watch = self.controller.watch(caller).await.unwrap();
        let first = futures::StreamExt::next(&mut watch).await.unwrap().unwrap();
        (*first).clone()
    }

    pub async fn partitions(&self, caller: Caller) -> Vec<PartitionInfo> {
        let partition = |change| match change {
            MetadataChange::Partition(partition) => Some(partition),
            _ => None,
        };
        let changes = self.snapshot(caller).await.changes;
        changes.into_iter().filter_map(partition).collect()
    }

    pub async fn journals(&self) -> Vec<JournalInfo> {
        self.controller.list_journals().await.unwrap()
    }

    pub async fn lease(&self, caller: Caller, kind: TaskKind) -> Option<Lease> {
        let wait = Duration::from_secs(5);
        self.controller.lease(caller, vec![kind], wait).await.unwrap()
    }
}

async fn launch(
    config: &Config,
    memory: &MemoryStore,
    faults: &Faults,
    device: DeviceId,
    wal: &Arc<FakeWal>,
    runtime: Runtime,
) -> Arc<ControllerService> {
    let store: Box<dyn MetadataStore> = Box::new(FaultyStore::new(memory.clone(), faults.clone()));
    let wals = Arc::new(Directory(device, wal.clone()));
    start_with(config.clone(), store, wals, runtime).await.unwrap()
}

pub fn runtime() -> Runtime {
    Runtime {
        clock: Clock::system(),
        random: Random::system(),
        tasks: TaskGroup::new("test"),
        metrics: Metrics::new(),
    }
}

pub fn request(node: NodeId, tier: Tier, incarnation: u128) -> RegisterNode {
    RegisterNode {
        node,
        tier,
        cluster: None,
        incarnation,
        endpoints: Vec::new(),
        address: None,
        device: None,
    }
}

pub fn caller(node: NodeId, registration: &Registration) -> Caller {
    Caller {
        node,
        node_epoch: registration.node_epoch,
        controller_epoch: registration.controller_epoch,
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

/// Waits until `look` finds something, for at most 10 seconds.
pub async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for 10 seconds");
}
