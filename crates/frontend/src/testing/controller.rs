//! A controller in memory: metadata that a test changes, and whatever follows for a frontend. Its ports are in `ports`.

mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tailwater_rpc::controller::{
    Caller, CloseStream, ClosedAt, ConfigInfo, ConfigResource, Endpoint, MetadataChange, MetadataUpdate, NodeInfo,
    NodeState, ObjectSlice, OpenStream, PartitionInfo, SnapshotAt, StreamProgress, Tier, TopicInfo,
};
use tailwater_rpc::{Error, Result};
use tailwater_types::{
    JournalId, LeaderEpoch, Lsn, MetadataVersion, NodeEpoch, NodeId, ObjectId, Offset, StreamId, TopicId,
};
use tokio::sync::broadcast;

use super::wal::FakeWal;

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
    /// Whether nobody hears for now that a journal was opened.
    confirms_nothing: bool,
    closes: usize,
    /// How often settings were changed or should have been, and how often that fails yet, with what.
    changes: usize,
    failing_changes: Option<(Error, usize)>,
    /// What nodes are asked to give away.
    asks: Vec<OpenStream>,
    /// Whether nobody is told how far streams are uploaded.
    hides_uploads: bool,
    next_id: u64,
    /// No producer ids are to be had.
    has_no_ids: bool,
    asked_for_ids: u32,
    /// What nodes are told of it.
    lease: Option<Duration>,
    /// Whether heartbeats aren't answered.
    hears_nothing: bool,
}

struct FakeJournal {
    owner: NodeId,
    confirmed: bool,
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

    /// The controller doesn't hear from now on that a journal was opened, or hears it again.
    pub fn confirm_nothing(&self, nothing: bool) {
        self.inner.lock().confirms_nothing = nothing;
    }

    /// Producer ids are refused from now on, each time after a second, or given again. Answers how often they were asked for.
    pub fn refuse_producer_ids(&self, refuses: bool) -> u32 {
        let mut inner = self.inner.lock();
        inner.has_no_ids = refuses;
        inner.asked_for_ids
    }

    /// What nodes are told from now on: after what silence they are fenced.
    pub fn tell_lease(&self, lease: Option<Duration>) {
        self.inner.lock().lease = lease;
    }

    /// No heartbeat is answered from now on, or each is again.
    pub fn hear_nothing(&self, nothing: bool) {
        self.inner.lock().hears_nothing = nothing;
    }

    /// Gives up what a node has open.
    pub fn seal_all_of(&self, node: u32) {
        self.inner.lock().seal_all_of(NodeId(node), &self.wal);
    }

    /// The next so many changes of settings fail. Answers how many there were so far.
    pub fn fail_changes(&self, error: Error, times: usize) -> usize {
        let mut inner = self.inner.lock();
        inner.failing_changes = Some((error, times));
        inner.changes
    }

    /// Asks for these leaderships from now on.
    pub fn ask(&self, streams: &[(StreamId, LeaderEpoch)]) {
        let asked = |&(stream, leader_epoch): &(StreamId, LeaderEpoch)| OpenStream { stream, leader_epoch };
        self.inner.lock().asks = streams.iter().map(asked).collect();
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

    /// Shows a cleaned object in the place of all that a stream has in objects, up to its uploaded end.
    pub fn commit_cleaned(&self, stream: StreamId, slice: ObjectSlice) -> MetadataVersion {
        let mut inner = self.inner.lock();
        let found = inner.streams.get_mut(&stream).expect("it exists");
        assert_eq!(found.progress.uploaded, slice.range.end);
        found.progress.cleaned = slice.range.end;
        found.objects = vec![slice];
        let change = MetadataChange::Stream(found.progress);
        self.publish(&mut inner, vec![change])
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
        self.add_frontend_with(node, state, &[("PLAINTEXT", host)]);
    }

    /// Another frontend, with these listeners and their hosts.
    pub fn add_frontend_with(&self, node: u32, state: NodeState, listeners: &[(&str, &str)]) {
        let endpoint = |(listener, host): &(&str, &str)| Endpoint {
            listener: (*listener).to_owned(),
            host: (*host).to_owned(),
            port: 9093,
        };
        let mut inner = self.inner.lock();
        let info = NodeInfo {
            node: NodeId(node),
            tier: Tier::Frontend,
            epoch: NodeEpoch(1),
            state,
            endpoints: listeners.iter().map(endpoint).collect(),
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
            cleaned: Offset::ZERO,
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
            // What nobody has confirmed ends at 0, without the WAL.
            journal.end = Some(if journal.confirmed {
                wal.seal_now(*id)
            } else {
                Lsn::ZERO
            });
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

/// An object's id that nothing else has.
pub(super) fn object_id(number: u64) -> ObjectId {
    ObjectId(number)
}
