//! A controller that does as a test says, a server of it that can be stopped, and a wire that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use tailwater_rpc::controller::*;
use tailwater_rpc::grpc::{ControllerClient, controller_routes, serve};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_runtime::{CancellationToken, Clock, Metrics, Policy, Random, Runtime, TaskHandle, Tasks as TaskGroup};
use tailwater_types::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub const CALLER: Caller = Caller {
    node: NodeId(1),
    node_epoch: NodeEpoch(2),
    controller_epoch: ControllerEpoch(3),
};

/// Answers what a test gave it; everything else is [`Error::NotHere`].
pub struct Fake {
    pub updates: Vec<Arc<MetadataUpdate>>,
    pub nodes: watch::Sender<Vec<NodeInfo>>,
    /// Calls and streams that are being served now.
    pub open: Arc<AtomicUsize>,
    /// Calls so far.
    pub calls: AtomicUsize,
}

impl Fake {
    pub fn new(updates: Vec<MetadataUpdate>) -> Arc<Self> {
        Arc::new(Self {
            updates: updates.into_iter().map(Arc::new).collect(),
            nodes: watch::Sender::new(Vec::new()),
            open: Arc::default(),
            calls: AtomicUsize::new(0),
        })
    }

    fn enter(&self) -> Open {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.open.clone())
    }

    pub async fn until_open(&self, wanted: usize) {
        until(async || (self.open.load(Ordering::Relaxed) == wanted).then_some(())).await;
    }
}

/// Something that is served for as long as this lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Nodes for Fake {
    async fn register(&self, _: RegisterNode) -> Result<Registration> {
        Err(Error::NotHere)
    }

    async fn confirm_device(&self, _: Caller, _: DeviceId, _: DeviceEpoch) -> Result<()> {
        Err(Error::NotHere)
    }

    async fn heartbeat(&self, caller: Caller, _: Heartbeat) -> Result<HeartbeatAnswer> {
        let _open = self.enter();
        Ok(HeartbeatAnswer {
            controller_epoch: caller.controller_epoch.next(),
            state: NodeState::Active,
            asked: Vec::new(),
            lease: None,
        })
    }

    async fn watch(&self, _: Caller) -> Result<Stream<Arc<MetadataUpdate>>> {
        let open = self.enter();
        let updates: Vec<_> = self.updates.iter().cloned().map(Ok).collect();
        let rest = stream::pending().inspect(move |_: &Result<_>| {
            let _kept = &open;
        });
        Ok(stream::iter(updates).chain(rest).boxed())
    }

    async fn watch_nodes(&self) -> Result<Stream<Vec<NodeInfo>>> {
        let (open, mut nodes) = (self.enter(), self.nodes.subscribe());
        nodes.mark_changed();
        let lists = stream::unfold((open, nodes), |(open, mut nodes)| async move {
            nodes.changed().await.ok()?;
            let list = nodes.borrow_and_update().clone();
            Some((Ok(list), (open, nodes)))
        });
        Ok(lists.boxed())
    }
}

#[async_trait]
impl Catalog for Fake {
    async fn create_topic(&self, _: Caller, _: NewTopic) -> Result<CreatedTopic> {
        Err(Error::NotHere)
    }

    async fn delete_topic(&self, _: Caller, _: TopicId) -> Result<MetadataVersion> {
        Err(Error::NotHere)
    }

    async fn alter_configs(&self, _: Caller, _: AlterConfigs) -> Result<MetadataVersion> {
        Err(Error::NotHere)
    }

    async fn create_partitions(&self, _: Caller, _: CreatePartitions) -> Result<MetadataVersion> {
        Err(Error::NotHere)
    }

    async fn delete_records(&self, _: Caller, _: DeleteRecords) -> Result<MetadataVersion> {
        Err(Error::NotHere)
    }

    async fn allocate_producer_ids(&self, _: Caller) -> Result<ProducerIds> {
        Err(Error::NotHere)
    }
}

#[async_trait]
impl Journals for Fake {
    async fn create_journal(&self, _: Caller, _: bool) -> Result<JournalGrant> {
        Err(Error::NotHere)
    }

    async fn confirm_journal(&self, _: Caller, _: JournalId) -> Result<()> {
        Err(Error::NotHere)
    }

    async fn open_streams(&self, _: Caller, _: Vec<OpenStream>) -> Result<Vec<Result<OpenedStream>>> {
        // Not what was asked for: what a client does with a server that is wrong.
        Ok(Vec::new())
    }

    async fn close_streams(&self, _: Caller, _: Vec<CloseStream>) -> Result<Vec<Result<()>>> {
        Err(Error::NotHere)
    }

    async fn list_journals(&self) -> Result<Vec<JournalInfo>> {
        let _open = self.enter();
        Ok(Vec::new())
    }
}

#[async_trait]
impl Objects for Fake {
    async fn prepare_objects(&self, _: Caller, _: PrepareObjects) -> Result<Vec<PreparedObject>> {
        Err(Error::NotHere)
    }

    async fn commit_objects(&self, _: Caller, _: CommitObjects) -> Result<MetadataVersion> {
        Err(Error::NotHere)
    }

    async fn find_objects(&self, _: StreamId, _: Offset, _: usize) -> Result<StreamObjects> {
        Err(Error::NotHere)
    }

    async fn stream_uploads(&self, _: Vec<StreamId>) -> Result<Vec<StreamUpload>> {
        Err(Error::NotHere)
    }
}

#[async_trait]
impl Tasks for Fake {
    async fn lease(&self, _: Caller, _: Vec<TaskKind>, _: Duration) -> Result<Option<Lease>> {
        let _open = self.enter();
        futures::future::pending().await
    }

    async fn renew(&self, _: Caller, _: LeaseRef) -> Result<Work> {
        Err(Error::NotHere)
    }

    async fn release(&self, _: Caller, _: LeaseRef, _: bool) -> Result<()> {
        Err(Error::NotHere)
    }
}

/// A served controller.
pub struct Served {
    pub address: SocketAddr,
    stop: CancellationToken,
    task: TaskHandle,
}

impl Served {
    pub async fn start(fake: &Arc<Fake>, runtime: &Runtime) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), fake, runtime).await
    }

    pub async fn start_at(address: SocketAddr, fake: &Arc<Fake>, runtime: &Runtime) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let routes = controller_routes(&Controller::of(fake.clone()));
        let serving = serve(listener, routes, stop.clone(), runtime.clock.clone());
        let serving = serving.map(|ended| ended.unwrap());
        let task = runtime.tasks.spawn("grpc", Policy::FATAL_ABORT, serving);
        Self { address, stop, task }
    }

    /// Waits until it has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        until(async || self.task.is_finished().then_some(())).await;
    }

    pub fn client(&self, runtime: &Runtime) -> Arc<ControllerClient> {
        client(&self.address.to_string(), runtime)
    }
}

pub fn client(address: &str, runtime: &Runtime) -> Arc<ControllerClient> {
    Arc::new(ControllerClient::new(address, runtime.clone()).unwrap())
}

/// A wire to `to` that carries nothing any more once it is cut, though both ends still stand.
pub async fn wire(to: SocketAddr, cut: CancellationToken, runtime: &Runtime) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    runtime.tasks.spawn("wire", Policy::LOGGED_ABORT, async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        let copied = tokio::io::copy_bidirectional(&mut near, &mut far);
        tokio::select! {
            biased;
            () = cut.cancelled() => futures::future::pending::<()>().await,
            _ = copied => {}
        }
    });
    address
}

pub fn runtime() -> Runtime {
    Runtime {
        clock: Clock::system(),
        random: Random::system(),
        tasks: TaskGroup::new("test"),
        metrics: Metrics::new(),
    }
}

/// Waits until `look` finds something, for at most 60 seconds.
pub async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for 60 seconds");
}

/// An update of partitions and streams by turns.
pub fn update(version: u64, previous: Option<u64>, changes: u64) -> MetadataUpdate {
    let change = |number: u64| match number % 2 {
        0 => MetadataChange::Partition(PartitionInfo {
            topic: TopicId::from_random(number.into()),
            index: 7,
            stream: StreamId(number),
            leader: number.is_multiple_of(4).then_some(NodeId(1)),
            leader_epoch: LeaderEpoch(3),
        }),
        _ => MetadataChange::Stream(StreamProgress {
            stream: StreamId(number),
            start: Offset(1),
            uploaded: Offset(number as i64),
            cleaned: Offset(0),
        }),
    };
    MetadataUpdate {
        version: MetadataVersion(version),
        previous: previous.map(MetadataVersion),
        changes: (0..changes).map(change).collect(),
    }
}
