//! A controller in memory: metadata that a test changes, and whatever follows for a frontend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tailwater_rpc::controller::{
    AlterConfigs, Caller, Catalog, CloseStream, ClosedAt, CommitObjects, ConfigInfo, ConfigResource, CreatePartitions,
    CreatedTopic, DeleteRecords, Endpoint, Heartbeat, HeartbeatAnswer, JournalGrant, JournalInfo, Journals, Lease,
    LeaseRef, MetadataChange, MetadataUpdate, NewTopic, NodeInfo, NodeState, Nodes, ObjectSlice, Objects, OpenStream,
    OpenedStream, PartitionInfo, PrepareObjects, PreparedObject, ProducerIds, RegisterNode, Registration, SnapshotAt,
    StreamObjects, StreamProgress, StreamTail, StreamUpload, TaskKind, Tasks, Tier, TopicInfo, Work,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, DeviceId, JournalId, LeaderEpoch, Lsn, LsnRange, MetadataVersion,
    NodeEpoch, NodeId, ObjectId, Offset, Outcome, StreamId, TopicId,
};
use tokio::sync::broadcast;

use super::wal::{FakeWal, unused};

#[derive(Clone)]
pub(crate) struct FakeController {
    wal: FakeWal,
    inner: Arc<Mutex<Inner>>,
    updates: broadcast::Sender<Arc<MetadataUpdate>>,
}

#[derive(Default)]
struct Inner {
    version: MetadataVersion,
    nodes: BTreeMap<NodeId, NodeInfo>,
    topics: BTreeMap<TopicId, TopicInfo>,
    streams: BTreeMap<StreamId, FakeStream>,
    configs: BTreeMap<ConfigResource, BTreeMap<String, String>>,
    journals: BTreeMap<JournalId, FakeJournal>,
    /// Below it a journal is in objects.
    trims: BTreeMap<JournalId, Lsn>,
    node_epochs: BTreeMap<NodeId, NodeEpoch>,
    /// Whether nodes are told that they are fenced.
    fences: bool,
    /// Whether what is said of streams' ends is carried out without an answer that tells so.
    loses_answers: bool,
    /// Whether it is refused for now.
    closes_nothing: bool,
    closes: usize,
    /// Whether nobody is told how far streams are uploaded.
    hides_uploads: bool,
    next_id: u64,
}

struct FakeJournal {
    owner: NodeId,
    /// Set once it is sealed.
    end: Option<Lsn>,
}

struct FakeStream {
    partition: PartitionInfo,
    progress: StreamProgress,
    /// Of its batches in objects.
    bytes: u64,
    snapshot: Option<SnapshotAt>,
    objects: Vec<ObjectSlice>,
    owners: BTreeSet<NodeId>,
    closed: BTreeMap<NodeId, (JournalId, Lsn)>,
    ended: Option<ClosedAt>,
}

impl FakeController {
    pub fn new(wal: FakeWal) -> Self {
        Self {
            wal,
            inner: Arc::default(),
            updates: broadcast::channel(1024).0,
        }
    }

    /// A topic whose partitions node 1 leads; answers its id.
    pub fn add_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicId {
        let mut inner = self.inner.lock();
        inner.next_id += 1;
        let id = TopicId::from_random(u128::from(inner.next_id));
        let info = TopicInfo {
            id,
            name: name.to_owned(),
            configs: configs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            internal: name.starts_with("__"),
        };
        inner.topics.insert(id, info.clone());
        let mut changes = vec![MetadataChange::Topic(info)];
        for index in 0..partitions {
            changes.extend(inner.add_partition(id, index));
        }
        self.publish(&mut inner, changes);
        id
    }

    pub fn delete_topic_now(&self, topic: TopicId) {
        let mut inner = self.inner.lock();
        inner.topics.remove(&topic);
        inner.streams.retain(|_, stream| stream.partition.topic != topic);
        self.publish(&mut inner, vec![MetadataChange::TopicDeleted(topic)]);
    }

    /// Gives a partition to another leader, or a new epoch to the same.
    pub fn move_to(&self, stream: StreamId, leader: u32) {
        let mut inner = self.inner.lock();
        let stream = inner.streams.get_mut(&stream).expect("it exists");
        stream.lead(Some(NodeId(leader)));
        let changes = vec![MetadataChange::Partition(stream.partition.clone())];
        self.publish(&mut inner, changes);
    }

    /// What is said of streams' ends is carried out from now on, but the answers are lost; or no longer.
    pub fn lose_answers(&self, loses: bool) {
        self.inner.lock().loses_answers = loses;
    }

    /// No stream's end is taken from now on, or again.
    pub fn close_nothing(&self, nothing: bool) {
        self.inner.lock().closes_nothing = nothing;
    }

    /// How often streams' ends were said.
    pub fn closes(&self) -> usize {
        self.inner.lock().closes
    }

    pub fn leader(&self, stream: StreamId) -> Option<NodeId> {
        self.inner.lock().streams[&stream].partition.leader
    }

    /// Claims of a stream that a leadership of it ended elsewhere than it did.
    pub fn set_ended(&self, stream: StreamId, ended: ClosedAt) {
        let mut inner = self.inner.lock();
        inner.streams.get_mut(&stream).expect("it exists").ended = Some(ended);
    }

    /// Where a stream's newest closed leadership ended.
    pub fn ended(&self, stream: StreamId) -> Option<ClosedAt> {
        self.inner.lock().streams[&stream].ended
    }

    pub fn stream(&self, topic: TopicId, index: i32) -> StreamId {
        let inner = self.inner.lock();
        let is_it = |stream: &&FakeStream| stream.partition.topic == topic && stream.partition.index == index;
        let found = inner.streams.values().find(is_it);
        found.expect("it exists").partition.stream
    }

    /// Makes an object visible that has `slices` of streams, each with its snapshot, from a journal up to `trim`.
    pub fn commit(
        &self,
        journal: JournalId,
        trim: Lsn,
        slices: Vec<(StreamId, ObjectSlice, SnapshotAt)>,
    ) -> MetadataVersion {
        let mut inner = self.inner.lock();
        inner.trims.insert(journal, trim);
        let mut changes = Vec::new();
        for (stream, slice, snapshot) in slices {
            let stream = inner.streams.get_mut(&stream).expect("it exists");
            assert_eq!(stream.progress.uploaded, slice.range.start, "uploads are contiguous");
            stream.progress.uploaded = slice.range.end;
            stream.snapshot = Some(snapshot);
            stream.objects.push(slice);
            changes.push(MetadataChange::Stream(stream.progress));
        }
        self.publish(&mut inner, changes)
    }

    pub fn hide_uploads(&self) {
        self.inner.lock().hides_uploads = true;
    }

    /// How much of a stream is in objects.
    pub fn set_bytes(&self, stream: StreamId, bytes: u64) {
        let mut inner = self.inner.lock();
        inner.streams.get_mut(&stream).expect("it exists").bytes = bytes;
    }

    pub fn set_sealed(&self, journal: JournalId, end: Lsn) {
        let mut inner = self.inner.lock();
        inner.journals.get_mut(&journal).expect("it was created").end = Some(end);
    }

    /// Another frontend, reached at `host`.
    pub fn add_frontend(&self, node: u32, state: NodeState, host: &str) {
        let mut inner = self.inner.lock();
        let info = NodeInfo {
            node: NodeId(node),
            tier: Tier::Frontend,
            epoch: NodeEpoch(1),
            state,
            endpoints: vec![Endpoint {
                listener: "PLAINTEXT".to_owned(),
                host: host.to_owned(),
                port: 9093,
            }],
            address: None,
            device: None,
        };
        inner.nodes.insert(info.node, info.clone());
        self.publish(&mut inner, vec![MetadataChange::Node(info)]);
    }

    pub fn fence(&self) {
        self.inner.lock().fences = true;
    }

    fn publish(&self, inner: &mut Inner, changes: Vec<MetadataChange>) -> MetadataVersion {
        let previous = inner.version;
        inner.version = MetadataVersion(previous.0 + 1);
        let update = MetadataUpdate {
            version: inner.version,
            previous: Some(previous),
            changes,
        };
        // An error: nobody watches yet.
        let _ = self.updates.send(Arc::new(update));
        inner.version
    }

    fn check(&self, caller: Caller) -> Result<()> {
        let inner = self.inner.lock();
        if inner.fences {
            return Err(Error::NodeFenced { node: caller.node });
        }
        let registered = inner.node_epochs.get(&caller.node).copied().unwrap_or_default();
        if caller.node_epoch != registered {
            return Err(Error::NodeEpochStale {
                node: caller.node,
                carried: caller.node_epoch,
                registered,
            });
        }
        Ok(())
    }
}

impl FakeStream {
    fn lead(&mut self, leader: Option<NodeId>) {
        self.partition.leader = leader;
        self.partition.leader_epoch = self.partition.leader_epoch.next();
        self.owners.extend(leader);
    }

    fn close(&mut self, caller: Caller, request: CloseStream, next: Option<NodeId>) -> Result<()> {
        let ended = Some(ClosedAt {
            leader_epoch: request.leader_epoch,
            end: request.end,
        });
        if self.ended == ended {
            return Ok(());
        }
        let led = (self.partition.leader, self.partition.leader_epoch);
        if led != (Some(caller.node), request.leader_epoch) {
            return Err(Error::StreamFenced { stream: request.stream });
        }
        self.ended = ended;
        self.closed.insert(caller.node, (request.journal, request.journal_end));
        self.lead(next);
        Ok(())
    }

    /// Of journal `id`, the end of what may be the stream's.
    fn tail(&self, caller: NodeId, id: JournalId, journal: &FakeJournal) -> Result<Lsn> {
        let stream = self.partition.stream;
        match (journal.end, self.closed.get(&journal.owner)) {
            _ if !self.owners.contains(&journal.owner) => Ok(Lsn::ZERO),
            (Some(end), _) => Ok(end),
            (None, Some((closed, end))) if *closed == id => Ok(*end),
            (None, Some((closed, _))) if *closed < id => Ok(Lsn::ZERO),
            (None, None) if journal.owner == caller => Ok(Lsn::ZERO),
            _ => Err(Error::StreamNotClosed { stream }),
        }
    }
}

impl Inner {
    fn add_partition(&mut self, topic: TopicId, index: i32) -> [MetadataChange; 2] {
        self.next_id += 1;
        let stream = StreamId(self.next_id);
        let partition = PartitionInfo {
            topic,
            index,
            stream,
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(0),
        };
        let progress = StreamProgress {
            stream,
            start: Offset::ZERO,
            uploaded: Offset::ZERO,
        };
        let changes = [
            MetadataChange::Partition(partition.clone()),
            MetadataChange::Stream(progress),
        ];
        let stream_state = FakeStream {
            partition,
            progress,
            bytes: 0,
            snapshot: None,
            objects: Vec::new(),
            owners: BTreeSet::from([NodeId(1)]),
            closed: BTreeMap::new(),
            ended: None,
        };
        self.streams.insert(stream, stream_state);
        changes
    }

    /// Seals whatever a node has open.
    fn seal_all_of(&mut self, node: NodeId, wal: &FakeWal) {
        let open = |(_, journal): &(&JournalId, &mut FakeJournal)| journal.owner == node && journal.end.is_none();
        for (id, journal) in self.journals.iter_mut().filter(open) {
            journal.end = Some(wal.seal_now(*id));
        }
    }

    fn others(&self, node: NodeId) -> Option<NodeId> {
        let mut active = self.nodes.values().filter(|info| info.state == NodeState::Active);
        active.find(|info| info.node != node).map(|info| info.node)
    }

    fn snapshot(&self) -> MetadataUpdate {
        let mut changes: Vec<_> = self.nodes.values().cloned().map(MetadataChange::Node).collect();
        changes.extend(self.topics.values().cloned().map(MetadataChange::Topic));
        changes.extend(self.configs.iter().map(|(resource, configs)| {
            MetadataChange::Config(ConfigInfo {
                resource: resource.clone(),
                configs: configs.clone(),
            })
        }));
        for stream in self.streams.values() {
            changes.push(MetadataChange::Partition(stream.partition.clone()));
            changes.push(MetadataChange::Stream(stream.progress));
        }
        MetadataUpdate {
            version: self.version,
            previous: None,
            changes,
        }
    }
}

#[async_trait]
impl Nodes for FakeController {
    async fn register(&self, request: RegisterNode) -> Result<Registration> {
        let mut inner = self.inner.lock();
        let epoch = inner.node_epochs.entry(request.node).or_default();
        *epoch = epoch.next();
        let epoch = *epoch;
        // What an older epoch left open is sealed.
        inner.seal_all_of(request.node, &self.wal);
        let info = NodeInfo {
            node: request.node,
            tier: Tier::Frontend,
            epoch,
            state: NodeState::Active,
            endpoints: request.endpoints,
            address: None,
            device: None,
        };
        inner.nodes.insert(request.node, info.clone());
        self.publish(&mut inner, vec![MetadataChange::Node(info)]);
        Ok(Registration {
            cluster: ClusterId::from_random(9),
            controller_epoch: ControllerEpoch(1),
            node_epoch: epoch,
            device_epoch: None,
        })
    }

    async fn confirm_device(&self, _: Caller, _: DeviceId, _: DeviceEpoch) -> Result<()> {
        unused()
    }

    async fn heartbeat(&self, caller: Caller, request: Heartbeat) -> Result<HeartbeatAnswer> {
        self.check(caller)?;
        let mut inner = self.inner.lock();
        let mut led = inner.streams.values().map(|stream| stream.partition.leader);
        let leads = led.any(|leader| leader == Some(caller.node));
        let state = match request.controlled_shutdown {
            false => NodeState::Active,
            true if leads && inner.others(caller.node).is_some() => NodeState::ControlledShutdown,
            true => NodeState::ShuttingDown,
        };
        let info = inner.nodes.get_mut(&caller.node).expect("it is registered");
        if info.state != state {
            info.state = state;
            let changes = vec![MetadataChange::Node(info.clone())];
            self.publish(&mut inner, changes);
        }
        if state == NodeState::ShuttingDown && !leads {
            inner.seal_all_of(caller.node, &self.wal);
        }
        Ok(HeartbeatAnswer {
            controller_epoch: ControllerEpoch(1),
            state,
        })
    }

    async fn watch_nodes(&self) -> Result<Stream<Vec<NodeInfo>>> {
        Err(Error::Internal("not needed".to_owned()))
    }

    async fn watch(&self, caller: Caller) -> Result<Stream<Arc<MetadataUpdate>>> {
        self.check(caller)?;
        let inner = self.inner.lock();
        let first = Arc::new(inner.snapshot());
        let updates = self.updates.subscribe();
        let later = futures::stream::unfold(updates, |mut updates| async move {
            let update = updates.recv().await.ok()?;
            Some((Ok(update), updates))
        });
        Ok(futures::stream::iter([Ok(first)]).chain(later).boxed())
    }
}

#[async_trait]
impl Catalog for FakeController {
    async fn create_topic(&self, _: Caller, topic: NewTopic) -> Result<CreatedTopic> {
        let configs: Vec<_> = topic.configs.iter().map(|(key, value)| (&**key, &**value)).collect();
        let id = self.add_topic(&topic.name, topic.partitions, &configs);
        let version = self.inner.lock().version;
        Ok(CreatedTopic { id, version })
    }

    async fn delete_topic(&self, _: Caller, topic: TopicId) -> Result<MetadataVersion> {
        self.delete_topic_now(topic);
        Ok(self.inner.lock().version)
    }

    async fn alter_configs(&self, _: Caller, request: AlterConfigs) -> Result<MetadataVersion> {
        let mut inner = self.inner.lock();
        let resource = request.resource;
        let change = match &resource {
            ConfigResource::Topic(id) => {
                let mut info = inner.topics.get(id).expect("it exists").clone();
                info.configs = request.changes.applied_to(&info.configs);
                MetadataChange::Topic(info)
            }
            other => {
                let before = inner.configs.get(other).cloned().unwrap_or_default();
                let configs = request.changes.applied_to(&before);
                MetadataChange::Config(ConfigInfo { resource, configs })
            }
        };
        if request.validate_only {
            return Ok(inner.version);
        }
        match &change {
            MetadataChange::Config(info) => drop(inner.configs.insert(info.resource.clone(), info.configs.clone())),
            MetadataChange::Topic(info) => drop(inner.topics.insert(info.id, info.clone())),
            _ => {}
        }
        Ok(self.publish(&mut inner, vec![change]))
    }

    async fn create_partitions(&self, _: Caller, request: CreatePartitions) -> Result<MetadataVersion> {
        let mut inner = self.inner.lock();
        let of_topic = |stream: &&FakeStream| stream.partition.topic == request.topic;
        let present = inner.streams.values().filter(of_topic).count() as i32;
        if request.validate_only {
            return Ok(inner.version);
        }
        let mut changes = Vec::new();
        for index in present..request.total {
            changes.extend(inner.add_partition(request.topic, index));
        }
        Ok(self.publish(&mut inner, changes))
    }

    async fn delete_records(&self, _: Caller, request: DeleteRecords) -> Result<MetadataVersion> {
        let mut inner = self.inner.lock();
        let progress = &mut inner.streams.get_mut(&request.stream).expect("it exists").progress;
        progress.start = progress.start.max(request.start);
        let changes = vec![MetadataChange::Stream(*progress)];
        Ok(self.publish(&mut inner, changes))
    }

    async fn allocate_producer_ids(&self, _: Caller) -> Result<ProducerIds> {
        let mut inner = self.inner.lock();
        inner.next_id += 1;
        Ok(ProducerIds {
            first: inner.next_id as i64 * 1000,
            count: 1000,
        })
    }
}

#[async_trait]
impl Journals for FakeController {
    async fn create_journal(&self, caller: Caller) -> Result<JournalGrant> {
        self.check(caller)?;
        let mut inner = self.inner.lock();
        let journal = JournalId(inner.journals.len() as u64 + 1);
        inner.seal_all_of(caller.node, &self.wal);
        let opened = FakeJournal {
            owner: caller.node,
            end: None,
        };
        inner.journals.insert(journal, opened);
        Ok(JournalGrant {
            journal,
            ensemble: vec![self.wal.device],
            ack_quorum: 1,
            min_leader_epochs: Vec::new(),
        })
    }

    async fn open_streams(&self, caller: Caller, streams: Vec<OpenStream>) -> Result<Vec<Result<OpenedStream>>> {
        self.check(caller)?;
        let inner = self.inner.lock();
        let answer = |open: OpenStream| {
            let stream = inner.streams.get(&open.stream);
            let stream = stream.ok_or_else(|| Error::NotFound("stream".to_owned()))?;
            let led = (stream.partition.leader, stream.partition.leader_epoch);
            if led != (Some(caller.node), open.leader_epoch) {
                return Err(Error::StreamFenced { stream: open.stream });
            }
            let mut tails = Vec::new();
            for (id, journal) in &inner.journals {
                let trim = inner.trims.get(id).copied().unwrap_or_default();
                let end = stream.tail(caller.node, *id, journal)?;
                if end > trim {
                    tails.push(StreamTail {
                        journal: *id,
                        ensemble: vec![self.wal.device],
                        range: LsnRange::new(trim, end),
                    });
                }
            }
            Ok(OpenedStream {
                stream: open.stream,
                start: stream.progress.start,
                uploaded: stream.progress.uploaded,
                snapshot: stream.snapshot.clone(),
                tails,
                closed: stream.ended,
            })
        };
        Ok(streams.into_iter().map(answer).collect())
    }

    async fn close_streams(&self, caller: Caller, streams: Vec<CloseStream>) -> Result<Vec<Result<()>>> {
        self.check(caller)?;
        let mut inner = self.inner.lock();
        inner.closes += 1;
        if inner.closes_nothing {
            return Err(Error::Throttled("not now".to_owned()));
        }
        let next = inner.others(caller.node);
        let (mut answers, mut changes) = (Vec::new(), Vec::new());
        for request in streams {
            let stream = inner.streams.get_mut(&request.stream).expect("it exists");
            answers.push(stream.close(caller, request, next));
            changes.push(MetadataChange::Partition(stream.partition.clone()));
        }
        self.publish(&mut inner, changes);
        if inner.loses_answers {
            return Err(Error::Unavailable {
                detail: "the answer is lost".to_owned(),
                outcome: Outcome::Unknown,
            });
        }
        Ok(answers)
    }

    async fn list_journals(&self) -> Result<Vec<JournalInfo>> {
        unused()
    }
}

#[async_trait]
impl Objects for FakeController {
    async fn prepare_objects(&self, _: Caller, _: PrepareObjects) -> Result<Vec<PreparedObject>> {
        unused()
    }

    async fn commit_objects(&self, _: Caller, _: CommitObjects) -> Result<MetadataVersion> {
        unused()
    }

    async fn find_objects(&self, stream: StreamId, from: Offset, limit: usize) -> Result<StreamObjects> {
        let inner = self.inner.lock();
        let found = inner
            .streams
            .get(&stream)
            .ok_or_else(|| Error::NotFound("stream".to_owned()))?;
        let behind = found.objects.iter().filter(|object| object.range.end > from);
        Ok(StreamObjects {
            version: inner.version,
            start: found.progress.start,
            uploaded: found.progress.uploaded,
            objects: behind.take(limit).cloned().collect(),
        })
    }

    async fn stream_uploads(&self, streams: Vec<StreamId>) -> Result<Vec<StreamUpload>> {
        let inner = self.inner.lock();
        if inner.hides_uploads {
            return unused();
        }
        let upload = |stream: &StreamId| {
            let found = inner.streams.get(stream)?;
            Some(StreamUpload {
                stream: *stream,
                uploaded: found.progress.uploaded,
                snapshot: found.snapshot.clone(),
                bytes: found.bytes,
            })
        };
        Ok(streams.iter().filter_map(upload).collect())
    }
}

#[async_trait]
impl Tasks for FakeController {
    async fn lease(&self, _: Caller, _: Vec<TaskKind>, _: Duration) -> Result<Option<Lease>> {
        unused()
    }

    async fn renew(&self, _: Caller, _: LeaseRef) -> Result<Work> {
        unused()
    }

    async fn release(&self, _: Caller, _: LeaseRef, _: bool) -> Result<()> {
        unused()
    }
}

/// An object's id that nothing else has.
pub(super) fn object_id(number: u64) -> ObjectId {
    ObjectId(number)
}
