//! A controller in memory: metadata that a test changes, and whatever follows for a frontend.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tailwater_rpc::controller::{
    AlterConfigs, Caller, Catalog, CommitObjects, ConfigInfo, ConfigResource, CreatePartitions, CreatedTopic,
    DeleteRecords, Heartbeat, HeartbeatAnswer, JournalGrant, JournalInfo, Journals, Lease, LeaseRef, MetadataChange,
    MetadataUpdate, NewTopic, NodeInfo, NodeState, Nodes, ObjectSlice, Objects, OpenStream, OpenedStream,
    PartitionInfo, PrepareObjects, PreparedObject, ProducerIds, RegisterNode, Registration, SnapshotAt, StreamObjects,
    StreamProgress, StreamTail, StreamUpload, TaskKind, Tasks, Tier, TopicInfo, Work,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, DeviceId, JournalId, LeaderEpoch, Lsn, LsnRange, MetadataVersion,
    NodeEpoch, NodeId, ObjectId, Offset, StreamId, TopicId,
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
    /// With the ends of those that are sealed.
    journals: BTreeMap<JournalId, Option<Lsn>>,
    /// Below it a journal is in objects.
    trims: BTreeMap<JournalId, Lsn>,
    node_epoch: NodeEpoch,
    /// Whether nodes are told that they are fenced.
    fences: bool,
    next_id: u64,
}

struct FakeStream {
    partition: PartitionInfo,
    progress: StreamProgress,
    snapshot: Option<SnapshotAt>,
    objects: Vec<ObjectSlice>,
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
        let partition = &mut inner.streams.get_mut(&stream).expect("it exists").partition;
        partition.leader = Some(NodeId(leader));
        partition.leader_epoch = partition.leader_epoch.next();
        let changes = vec![MetadataChange::Partition(partition.clone())];
        self.publish(&mut inner, changes);
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

    pub fn set_sealed(&self, journal: JournalId, end: Lsn) {
        self.inner.lock().journals.insert(journal, Some(end));
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
        if caller.node_epoch != inner.node_epoch {
            return Err(Error::NodeEpochStale {
                node: caller.node,
                carried: caller.node_epoch,
                registered: inner.node_epoch,
            });
        }
        Ok(())
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
            snapshot: None,
            objects: Vec::new(),
        };
        self.streams.insert(stream, stream_state);
        changes
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
        inner.node_epoch = inner.node_epoch.next();
        // What an older epoch left open is sealed.
        let open: Vec<JournalId> = inner
            .journals
            .iter()
            .filter(|(_, end)| end.is_none())
            .map(|(id, _)| *id)
            .collect();
        for journal in open {
            let end = self.wal.seal_now(journal);
            inner.journals.insert(journal, Some(end));
        }
        let info = NodeInfo {
            node: request.node,
            tier: Tier::Frontend,
            epoch: inner.node_epoch,
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
            node_epoch: inner.node_epoch,
            device_epoch: None,
        })
    }

    async fn confirm_device(&self, _: Caller, _: DeviceId, _: DeviceEpoch) -> Result<()> {
        unused()
    }

    async fn heartbeat(&self, caller: Caller, _: Heartbeat) -> Result<HeartbeatAnswer> {
        self.check(caller)?;
        Ok(HeartbeatAnswer {
            controller_epoch: ControllerEpoch(1),
            state: NodeState::Active,
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
        inner.journals.insert(journal, None);
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
        let tails: Vec<StreamTail> = inner
            .journals
            .iter()
            .filter_map(|(journal, end)| {
                let trim = inner.trims.get(journal).copied().unwrap_or_default();
                Some(StreamTail {
                    journal: *journal,
                    ensemble: vec![self.wal.device],
                    range: LsnRange::new(trim, (*end)?),
                })
            })
            .collect();
        let answer = |open: OpenStream| {
            let stream = inner.streams.get(&open.stream);
            let stream = stream.ok_or_else(|| Error::NotFound("stream".to_owned()))?;
            if stream.partition.leader_epoch != open.leader_epoch {
                return Err(Error::StreamFenced { stream: open.stream });
            }
            Ok(OpenedStream {
                stream: open.stream,
                start: stream.progress.start,
                uploaded: stream.progress.uploaded,
                snapshot: stream.snapshot.clone(),
                tails: tails.clone(),
            })
        };
        Ok(streams.into_iter().map(answer).collect())
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

    async fn stream_uploads(&self, _: Vec<StreamId>) -> Result<Vec<StreamUpload>> {
        unused()
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
