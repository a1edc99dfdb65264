//! The contract of the controller's ports (`rpc::controller`), over every way to reach them: in this process, and over gRPC.
//!
//! The same tests run over both; what they hold is the ports' contract, and that the wire changes nothing of it.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use tailwater_rpc::controller::*;
use tailwater_rpc::grpc::{ControllerClient, controller_routes, serve};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::config::Millis;
use tailwater_runtime::{CancellationToken, Policy};
use tailwater_types::*;

use crate::support::*;

/// The controller as the tests see it, and the cluster around it.
struct Subject {
    nodes: Controller,
    cluster: Cluster,
}

macro_rules! conformance {
    ($($test:ident($lease:ident)),* $(,)?) => {
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::run(super::in_process, super::$lease, super::$test).await;
            })*
        }
        mod over_grpc {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::run(super::over_grpc, super::$lease, super::$test).await;
            })*
        }
    };
}

conformance!(
    registrations_and_their_repeats(NEVER),
    epochs_are_checked_first(NEVER),
    a_fenced_node_is_told_so(SOON),
    heartbeats_tell_the_state(NEVER),
    nodes_are_told_how_long_they_may_be_silent(LATER),
    everybody_sees_the_nodes(NEVER),
    watchers_get_a_snapshot_and_every_change(NEVER),
    a_dropped_watch_is_over(NEVER),
    topics_come_and_go(NEVER),
    producer_ids_are_given_once(NEVER),
    journals_and_their_streams(NEVER),
    many_streams_at_once(NEVER),
    objects_are_prepared_committed_and_found(NEVER),
    tasks_are_leased_renewed_and_released(NEVER),
    streams_are_cleaned(NEVER),
);

/// When a silent node is fenced.
const NEVER: Option<Millis> = None;
const SOON: Option<Millis> = Some(Millis::seconds(1));
const LATER: Option<Millis> = Some(Millis::seconds(30));

async fn run<F: Future<Output = Subject>, T: Future<Output = ()>>(
    form: impl FnOnce(Cluster) -> F,
    lease: Option<Millis>,
    test: impl FnOnce(Subject) -> T,
) {
    let config = tailwater_controller::Config {
        lease,
        ..Default::default()
    };
    test(form(Cluster::start_with(config).await).await).await;
}

async fn in_process(cluster: Cluster) -> Subject {
    let nodes = Controller::of(cluster.controller.clone());
    Subject { nodes, cluster }
}

async fn over_grpc(cluster: Cluster) -> Subject {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let routes = controller_routes(&Controller::of(cluster.controller.clone()));
    let runtime = runtime();
    let serving = serve(listener, routes, CancellationToken::new(), runtime.clock.clone());
    cluster.tasks.spawn("grpc", Policy::LOGGED_ABORT, async move {
        serving.await.unwrap();
    });
    let client = ControllerClient::new(&address, runtime).unwrap();
    // A machine under load isn't what is tested.
    let client = client.with_deadline(Duration::from_secs(60));
    let nodes = Controller::of(std::sync::Arc::new(client));
    Subject { nodes, cluster }
}

impl Subject {
    async fn register(&self, node: NodeId, tier: Tier, incarnation: u128) -> Caller {
        let registered = self.nodes.nodes.register(request(node, tier, incarnation)).await;
        caller(node, &registered.unwrap())
    }

    async fn frontend(&self) -> Caller {
        self.register(FRONTEND, Tier::Frontend, 1).await
    }

    async fn compactor(&self) -> Caller {
        self.register(COMPACTOR, Tier::Compactor, 1).await
    }

    async fn wal(&self) -> Caller {
        let registered = self.nodes.nodes.register(self.wal_request(0, 1)).await.unwrap();
        let caller = caller(WAL, &registered);
        let (device, granted) = (self.cluster.device, registered.device_epoch.unwrap());
        self.nodes.nodes.confirm_device(caller, device, granted).await.unwrap();
        caller
    }

    fn wal_request(&self, epoch: u64, incarnation: u128) -> RegisterNode {
        RegisterNode {
            address: Some("wal-0.wal:9000".to_owned()),
            device: Some(DeviceReport {
                device: self.cluster.device,
                epoch: DeviceEpoch(epoch),
                capacity_bytes: 1 << 30,
            }),
            ..request(WAL, Tier::Wal, incarnation)
        }
    }

    async fn partitions(&self, caller: Caller) -> Vec<PartitionInfo> {
        let mut watch = self.nodes.nodes.watch(caller).await.unwrap();
        let snapshot = watch.next().await.unwrap().unwrap();
        let partition = |change: &MetadataChange| match change {
            MetadataChange::Partition(partition) => Some(partition.clone()),
            _ => None,
        };
        snapshot.changes.iter().filter_map(partition).collect()
    }

    async fn open(&self, caller: Caller, stream: StreamId, leader_epoch: i32) -> Result<OpenedStream> {
        let leader_epoch = LeaderEpoch(leader_epoch);
        let asked = vec![OpenStream { stream, leader_epoch }];
        let mut answers = self.nodes.journals.open_streams(caller, asked).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Every call that carries epochs, as `caller`: the error of each.
    async fn refusals(&self, caller: Caller) -> Vec<Option<Error>> {
        let Controller {
            nodes,
            catalog,
            journals,
            objects,
            tasks,
        } = &self.nodes;
        let lease = LeaseRef {
            task: TaskId(1),
            epoch: LeaseEpoch(1),
        };
        let prepare = PrepareObjects { lease, count: 1 };
        let commit = commit(lease, JournalId(1), 0, 1, Vec::new());
        let device = self.cluster.device;
        vec![
            nodes.confirm_device(caller, device, DeviceEpoch(1)).await.err(),
            nodes.heartbeat(caller, Heartbeat::default()).await.err(),
            nodes.watch(caller).await.err(),
            catalog.create_topic(caller, topic("refused", 1)).await.err(),
            catalog.delete_topic(caller, TopicId::from_bytes([1; 16])).await.err(),
            catalog.allocate_producer_ids(caller).await.err(),
            journals.create_journal(caller, true).await.err(),
            journals.confirm_journal(caller, JournalId(1)).await.err(),
            journals.open_streams(caller, Vec::new()).await.err(),
            objects.prepare_objects(caller, prepare).await.err(),
            objects.commit_objects(caller, commit).await.err(),
            tasks.lease(caller, vec![TaskKind::Upload], Duration::ZERO).await.err(),
            tasks.renew(caller, lease).await.err(),
            tasks.release(caller, lease, false).await.err(),
        ]
    }

    async fn all_refuse(&self, caller: Caller, expected: Error) {
        for (call, found) in self.refusals(caller).await.into_iter().enumerate() {
            assert_eq!(found, Some(expected.clone()), "call {call}");
        }
    }
}

fn commit(lease: LeaseRef, journal: JournalId, start: u64, end: u64, objects: Vec<CommittedObject>) -> CommitObjects {
    CommitObjects {
        lease,
        source: CommitSource::Journals(vec![(journal, LsnRange::new(Lsn(start), Lsn(end)))]),
        objects,
        abandoned: Vec::new(),
    }
}

/// A repeat answers as the first did; another process gets a higher epoch; what doesn't fit is refused with both sides named.
async fn registrations_and_their_repeats(subject: Subject) {
    let nodes = &subject.nodes.nodes;
    let first = nodes.register(request(FRONTEND, Tier::Frontend, 1)).await.unwrap();
    assert_eq!(first.device_epoch, None);
    assert_eq!(first.cluster, subject.cluster.controller.cluster());
    assert_eq!(
        nodes.register(request(FRONTEND, Tier::Frontend, 1)).await,
        Ok(first.clone())
    );
    let second = nodes.register(request(FRONTEND, Tier::Frontend, 2)).await.unwrap();
    assert!(second.node_epoch > first.node_epoch);

    let other = ClusterId::from_bytes([7; 16]);
    let stranger = RegisterNode {
        cluster: Some(other),
        ..request(NodeId(2), Tier::Frontend, 1)
    };
    let Err(Error::Invalid(text)) = nodes.register(stranger).await else {
        panic!("another cluster's node");
    };
    assert!(
        text.contains(&other.to_string()) && text.contains(&first.cluster.to_string()),
        "{text}"
    );
    let refused = nodes.register(request(FRONTEND, Tier::Compactor, 1)).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");

    let granted = nodes.register(subject.wal_request(0, 1)).await.unwrap();
    assert_eq!(nodes.register(subject.wal_request(0, 1)).await, Ok(granted.clone()));
    let epoch = granted.device_epoch.unwrap();
    assert!(epoch > DeviceEpoch(0));
    let refused = nodes.register(subject.wal_request(epoch.0 + 5, 2)).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    nodes
        .confirm_device(caller(WAL, &granted), subject.cluster.device, epoch)
        .await
        .unwrap();
}

/// docs/design.md section 5, first row, for every call and in both directions.
async fn epochs_are_checked_first(subject: Subject) {
    let old = subject.frontend().await;
    let caller = subject.register(FRONTEND, Tier::Frontend, 2).await;
    let (node, registered) = (FRONTEND, caller.node_epoch);
    let carried = old.node_epoch;
    let stale = Error::NodeEpochStale {
        node,
        carried,
        registered,
    };
    subject.all_refuse(old, stale).await;
    let carried = registered.next();
    let unknown = Error::NodeEpochUnknown {
        node,
        carried,
        registered,
    };
    let never = Caller {
        node_epoch: carried,
        ..caller
    };
    subject.all_refuse(never, unknown).await;
    let (term, seen) = (caller.controller_epoch, caller.controller_epoch.next());
    let newer = Caller {
        controller_epoch: seen,
        ..caller
    };
    subject
        .all_refuse(newer, Error::NotActiveController { term, seen })
        .await;
    let node = NodeId(77);
    subject
        .all_refuse(Caller { node, ..caller }, Error::NodeUnknown { node })
        .await;
    // An older term than the controller's is none to mind.
    let controller_epoch = ControllerEpoch(0);
    let behind = Caller {
        controller_epoch,
        ..caller
    };
    subject
        .nodes
        .nodes
        .heartbeat(behind, Heartbeat::default())
        .await
        .unwrap();
}

/// A node whose lease has run out learns it from whatever it calls.
async fn a_fenced_node_is_told_so(subject: Subject) {
    let caller = subject.frontend().await;
    let mut lists = subject.nodes.nodes.watch_nodes().await.unwrap();
    until_item(&mut lists, |nodes| nodes[0].state == NodeState::Fenced).await;
    subject.all_refuse(caller, Error::NodeFenced { node: FRONTEND }).await;
}

/// The answer has the state that the controller sees, and its term.
async fn heartbeats_tell_the_state(subject: Subject) {
    let caller = subject.frontend().await;
    let answer = subject
        .nodes
        .nodes
        .heartbeat(caller, Heartbeat::default())
        .await
        .unwrap();
    assert_eq!(answer.controller_epoch, caller.controller_epoch);
    assert_eq!(answer.state, NodeState::Active);
    assert_eq!(answer.lease, None, "nobody is fenced for being silent");
    let leaving = Heartbeat {
        controlled_shutdown: true,
    };
    let answer = subject.nodes.nodes.heartbeat(caller, leaving).await.unwrap();
    assert!(
        matches!(answer.state, NodeState::ControlledShutdown | NodeState::ShuttingDown),
        "{answer:?}"
    );
}

/// A node learns with its registration, and again with each heartbeat, after what silence it is fenced.
async fn nodes_are_told_how_long_they_may_be_silent(subject: Subject) {
    let nodes = &subject.nodes.nodes;
    let registration = nodes.register(request(FRONTEND, Tier::Frontend, 1)).await.unwrap();
    assert_eq!(registration.lease, Some(Duration::from_secs(30)));
    let caller = subject.frontend().await;
    let answer = nodes.heartbeat(caller, Heartbeat::default()).await.unwrap();
    assert_eq!(answer.lease, Some(Duration::from_secs(30)));
}

/// Who isn't registered sees all nodes, now and after each change, with where they are reached.
async fn everybody_sees_the_nodes(subject: Subject) {
    let mut lists = subject.nodes.nodes.watch_nodes().await.unwrap();
    assert_eq!(lists.next().await.unwrap(), Ok(Vec::new()));
    subject.wal().await;
    let endpoints = vec![Endpoint {
        listener: "PLAINTEXT".to_owned(),
        host: "b1".to_owned(),
        port: 9092,
    }];
    let frontend = RegisterNode {
        endpoints: endpoints.clone(),
        ..request(FRONTEND, Tier::Frontend, 1)
    };
    subject.nodes.nodes.register(frontend).await.unwrap();
    let nodes = until_item(&mut lists, |nodes: &Vec<NodeInfo>| nodes.len() == 2).await;
    let wal = nodes.iter().find(|node| node.node == WAL).unwrap();
    assert_eq!((wal.tier, wal.device), (Tier::Wal, Some(subject.cluster.device)));
    assert_eq!(wal.address.as_deref(), Some("wal-0.wal:9000"));
    let frontend = nodes.iter().find(|node| node.node == FRONTEND).unwrap();
    assert_eq!(
        (frontend.endpoints.clone(), frontend.address.clone()),
        (endpoints, None)
    );
}

async fn until_item<T>(items: &mut tailwater_rpc::Stream<T>, wanted: impl Fn(&T) -> bool) -> T {
    loop {
        let item = items.next().await.unwrap().unwrap();
        if wanted(&item) {
            return item;
        }
    }
}

/// A snapshot of thousands of partitions, then each version in order, none left out; together they are the next snapshot.
async fn watchers_get_a_snapshot_and_every_change(subject: Subject) {
    let caller = subject.frontend().await;
    let catalog = &subject.nodes.catalog;
    catalog.create_topic(caller, topic("large", 5_000)).await.unwrap();
    let mut watch = subject.nodes.nodes.watch(caller).await.unwrap();
    let snapshot = watch.next().await.unwrap().unwrap();
    assert_eq!(snapshot.previous, None);
    assert_eq!(*snapshot, subject.cluster.snapshot(caller).await);
    assert_eq!(subject.partitions(caller).await.len(), 5_000);
    let mut last = MetadataVersion(0);
    let mut created = Vec::new();
    for n in 0..20 {
        let mut new = topic(&format!("t{n}"), 2);
        new.configs.insert("retention.ms".to_owned(), n.to_string());
        let topic = catalog.create_topic(caller, new).await.unwrap();
        last = catalog.delete_topic(caller, topic.id).await.unwrap();
        assert!(topic.version < last);
        created.push(topic.id);
    }
    let (mut version, mut seen, mut deleted) = (snapshot.version, Vec::new(), Vec::new());
    while version < last {
        let update = watch.next().await.unwrap().unwrap();
        assert_eq!(update.previous, Some(version));
        version = update.version;
        for change in &update.changes {
            match change {
                MetadataChange::Topic(topic) => seen.push(topic.id),
                MetadataChange::TopicDeleted(topic) => deleted.push(*topic),
                _ => {}
            }
        }
    }
    assert_eq!((&seen, &deleted), (&created, &created));
}

/// Dropping the stream ends it at the controller.
async fn a_dropped_watch_is_over(subject: Subject) {
    let caller = subject.frontend().await;
    let watchers = || {
        let text = subject.cluster.metrics.text();
        let line = text
            .lines()
            .find(|line| line.starts_with("tailwater_controller_watchers "));
        line.unwrap().split(' ').next_back().unwrap().to_owned()
    };
    let mut watch = subject.nodes.nodes.watch(caller).await.unwrap();
    watch.next().await.unwrap().unwrap();
    assert_eq!(watchers(), "1");
    drop(watch);
    until(async || (watchers() == "0").then_some(())).await;
}

/// A name is taken once, checks create nothing, and what isn't legal or there is refused by kind.
async fn topics_come_and_go(subject: Subject) {
    let (caller, catalog) = (subject.frontend().await, &subject.nodes.catalog);
    let check = NewTopic {
        validate_only: true,
        ..topic("a.b", 3)
    };
    catalog.create_topic(caller, check).await.unwrap();
    assert!(subject.partitions(caller).await.is_empty());
    let created = catalog.create_topic(caller, topic("a.b", 3)).await.unwrap();
    let partitions = subject.partitions(caller).await;
    assert_eq!(partitions.len(), 3);
    assert!(partitions.iter().all(|partition| partition.topic == created.id));
    let taken = catalog.create_topic(caller, topic("a_b", 1)).await;
    assert!(matches!(taken, Err(Error::AlreadyExists(_))), "{taken:?}");
    for illegal in [topic("", 1), topic("a/b", 1), topic("c", 0), topic("c", -5)] {
        let refused = catalog.create_topic(caller, illegal).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    assert!(catalog.delete_topic(caller, created.id).await.unwrap() > created.version);
    let gone = catalog.delete_topic(caller, created.id).await;
    assert!(matches!(gone, Err(Error::NotFound(_))), "{gone:?}");
}

/// Blocks that many ask for at once don't overlap.
async fn producer_ids_are_given_once(subject: Subject) {
    let caller = subject.frontend().await;
    let calls = (0..20).map(|_| subject.nodes.catalog.allocate_producer_ids(caller));
    let blocks = futures::future::join_all(calls).await;
    let mut blocks: Vec<_> = blocks.into_iter().map(|block| block.unwrap()).collect();
    blocks.sort_by_key(|block| block.first);
    assert!(blocks.is_sorted_by(|a, b| a.first + a.count <= b.first), "{blocks:?}");
}

/// A journal needs a device, is listed in the state it is in, and once sealed tells its owner's next life where the tails are.
async fn journals_and_their_streams(subject: Subject) {
    let (caller, journals) = (subject.frontend().await, &subject.nodes.journals);
    subject.nodes.catalog.create_topic(caller, topic("a", 1)).await.unwrap();
    let stream = subject.partitions(caller).await[0].stream;
    let none = journals.create_journal(caller, true).await.unwrap_err();
    assert_eq!(
        (none.kind(), none.outcome()),
        (Kind::Unavailable, Outcome::DidNotHappen),
        "{none}"
    );
    assert_eq!(journals.list_journals().await, Ok(Vec::new()));

    subject.wal().await;
    let grant = journals.create_journal(caller, true).await.unwrap();
    assert!(grant.unconfirmed);
    for _ in 0..2 {
        assert_eq!(journals.confirm_journal(caller, grant.journal).await, Ok(()));
    }
    assert_eq!(
        (grant.ensemble.clone(), grant.ack_quorum),
        (vec![subject.cluster.device], 1)
    );
    let listed = journals.list_journals().await.unwrap();
    assert_eq!(
        (listed[0].journal, listed[0].state),
        (grant.journal, JournalState::Open)
    );
    assert_eq!((listed[0].owner, listed[0].owner_epoch), (FRONTEND, caller.node_epoch));
    let opened = subject.open(caller, stream, 0).await.unwrap();
    assert_eq!(
        (opened.stream, opened.start, opened.uploaded),
        (stream, Offset(0), Offset(0))
    );
    assert_eq!((opened.snapshot, opened.tails), (None, Vec::new()));
    assert_eq!(
        subject.open(caller, stream, 1).await,
        Err(Error::StreamFenced { stream })
    );
    let missing = subject.open(caller, StreamId(9999), 0).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");

    subject.cluster.wal.ends.lock().insert(grant.journal, Lsn(7));
    *subject.cluster.wal.down.lock() = true;
    let next = subject.register(FRONTEND, Tier::Frontend, 2).await;
    assert_eq!(subject.open(next, stream, 0).await, Err(Error::StreamFenced { stream }));
    assert_eq!(
        subject.open(next, stream, 1).await,
        Err(Error::StreamNotClosed { stream })
    );
    assert_eq!(journals.list_journals().await.unwrap()[0].state, JournalState::Sealing);
    *subject.cluster.wal.down.lock() = false;
    let opened = until(async || subject.open(next, stream, 1).await.ok()).await;
    let tail = StreamTail {
        journal: grant.journal,
        ensemble: grant.ensemble,
        range: LsnRange::new(Lsn(0), Lsn(7)),
    };
    assert_eq!(opened.tails, vec![tail.clone()]);
    let sealed = JournalState::Sealed { end: Lsn(7) };
    assert_eq!(journals.list_journals().await.unwrap()[0].state, sealed);

    // One that was never confirmed holds nobody up while its device is away.
    let unopened = journals.create_journal(next, true).await.unwrap().journal;
    *subject.cluster.wal.down.lock() = true;
    let last = subject.register(FRONTEND, Tier::Frontend, 3).await;
    let opened = subject.open(last, stream, 2).await.unwrap();
    assert_eq!(opened.tails, vec![tail]);
    let late = journals.confirm_journal(last, unopened).await;
    assert_eq!(late, Err(Error::JournalFenced { journal: unopened }));
}

/// One answer for each of very many streams, in the order asked.
async fn many_streams_at_once(subject: Subject) {
    let caller = subject.frontend().await;
    subject.nodes.catalog.create_topic(caller, topic("a", 1)).await.unwrap();
    let stream = subject.partitions(caller).await[0].stream;
    let leader_epoch = LeaderEpoch(0);
    let others = (1_000_000..1_050_000).map(StreamId);
    let asked: Vec<_> = others
        .chain([stream])
        .map(|stream| OpenStream { stream, leader_epoch })
        .collect();
    let answers = subject.nodes.journals.open_streams(caller, asked).await.unwrap();
    assert_eq!(answers.len(), 50_001);
    let missing = Error::NotFound("stream 1000007".to_owned());
    assert_eq!(answers[7], Err(missing));
    assert_eq!(answers[50_000].as_ref().map(|opened| opened.stream), Ok(stream));
    let streams = (1_000_000..1_200_000).map(StreamId).chain([stream]).collect();
    let uploads = subject.nodes.objects.stream_uploads(streams).await.unwrap();
    assert_eq!(uploads.len(), 1, "a stream that isn't there is left out");
}

/// What is committed is found, a repeat answers as the first did, and each refusal is the one that section 5 names.
async fn objects_are_prepared_committed_and_found(subject: Subject) {
    subject.wal().await;
    let (frontend, compactor) = (subject.frontend().await, subject.compactor().await);
    let (objects, tasks) = (&subject.nodes.objects, &subject.nodes.tasks);
    subject
        .nodes
        .catalog
        .create_topic(frontend, topic("a", 1))
        .await
        .unwrap();
    let stream = subject.partitions(frontend).await[0].stream;
    let journal = subject
        .nodes
        .journals
        .create_journal(frontend, false)
        .await
        .unwrap()
        .journal;
    let lease = tasks
        .lease(compactor, vec![TaskKind::Upload], Duration::from_secs(30))
        .await;
    let lease = lease.unwrap().unwrap().lease;

    let prepare = PrepareObjects { lease, count: 2 };
    let prepared = objects.prepare_objects(compactor, prepare).await.unwrap();
    assert!(prepared.len() == 2 && prepared.iter().all(|it| !it.key.is_empty() && !it.deadline.is_zero()));
    let (object, key) = (prepared[0].object, prepared[0].key.clone());
    let snapshot = SnapshotAt {
        object,
        key: key.clone(),
        position: 4096,
        length: 100,
        crc: 0xdead_beef,
    };
    let part = CommittedStream {
        stream,
        range: OffsetRange::new(Offset(0), Offset(10)),
        stable_end: Offset(10),
        max_timestamp_ms: 5,
        bytes: 1000,
        snapshot: Some(snapshot.clone()),
    };
    let committed = CommittedObject {
        object,
        size_bytes: 5000,
        streams: vec![part],
    };
    let mut request = commit(lease, journal, 0, 5, vec![committed.clone()]);
    request.abandoned = vec![prepared[1].object];
    let version = objects.commit_objects(compactor, request.clone()).await.unwrap();
    assert_eq!(
        objects.commit_objects(compactor, request).await,
        Ok(version),
        "a repeat"
    );

    let found = objects.find_objects(stream, Offset(3), 10).await.unwrap();
    assert_eq!((found.start, found.uploaded), (Offset(0), Offset(10)));
    assert!(found.version >= version);
    let slice = ObjectSlice {
        object,
        key,
        size_bytes: 5000,
        range: OffsetRange::new(Offset(0), Offset(10)),
        max_timestamp_ms: 5,
    };
    assert_eq!(found.objects, vec![slice]);
    let upload = StreamUpload {
        start: Offset::ZERO,
        stream,
        uploaded: Offset(10),
        cleaned: Offset(0),
        snapshot: Some(snapshot),
        bytes: 1000,
    };
    assert_eq!(
        objects.stream_uploads(vec![StreamId(9999), stream]).await,
        Ok(vec![upload])
    );
    let missing = objects.find_objects(StreamId(9999), Offset(0), 1).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");

    let refused = async |request| objects.commit_objects(compactor, request).await.unwrap_err();
    let abandoned = CommittedObject {
        object: prepared[1].object,
        size_bytes: 1,
        streams: Vec::new(),
    };
    let expired = Error::ObjectExpired {
        object: abandoned.object,
    };
    assert_eq!(refused(commit(lease, journal, 5, 6, vec![abandoned])).await, expired);
    let gap = Error::OffsetNotMatched { journal, trim: Lsn(5) };
    assert_eq!(refused(commit(lease, journal, 6, 7, Vec::new())).await, gap);
    let task = lease.task;
    let epoch = LeaseEpoch(lease.epoch.0 + 1);
    let other = LeaseRef { task, epoch };
    assert_eq!(
        refused(commit(other, journal, 5, 6, Vec::new())).await,
        Error::LeaseFenced { task }
    );
    let prepare = PrepareObjects { lease: other, count: 1 };
    let fenced = objects.prepare_objects(compactor, prepare).await;
    assert_eq!(fenced, Err(Error::LeaseFenced { task }));
}

/// A waiting compactor gets a task as soon as there is one; what is given back is leased anew under a higher epoch.
async fn tasks_are_leased_renewed_and_released(subject: Subject) {
    subject.wal().await;
    let (frontend, compactor) = (subject.frontend().await, subject.compactor().await);
    let tasks = &subject.nodes.tasks;
    let both = || vec![TaskKind::Upload, TaskKind::Delete];
    assert_eq!(
        tasks.lease(compactor, both(), Duration::from_millis(20)).await,
        Ok(None)
    );
    let refused = tasks.lease(frontend, both(), Duration::ZERO).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    let waiting = tasks.lease(compactor, both(), Duration::from_secs(60));
    let (lease, grant) = tokio::join!(waiting, subject.nodes.journals.create_journal(frontend, false));
    let (lease, grant) = (lease.unwrap().unwrap(), grant.unwrap());
    let work = Work::Upload {
        journal: grant.journal,
        ensemble: grant.ensemble,
        trim: Lsn(0),
        sealed_end: None,
    };
    assert_eq!((&lease.work, lease.duration), (&work, Duration::from_secs(30)));
    assert_eq!(tasks.renew(compactor, lease.lease).await, Ok(work));
    tasks.release(compactor, lease.lease, false).await.unwrap();
    let task = lease.lease.task;
    assert_eq!(
        tasks.renew(compactor, lease.lease).await,
        Err(Error::LeaseFenced { task })
    );
    let again = tasks
        .lease(compactor, both(), Duration::from_secs(60))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.lease.task, task);
    assert!(again.lease.epoch > lease.lease.epoch);
}

/// A compacted stream is leased once it has something dirty; what is committed takes the place of what it was made from,
/// once.
async fn streams_are_cleaned(subject: Subject) {
    subject.wal().await;
    let (frontend, compactor) = (subject.frontend().await, subject.compactor().await);
    let (tasks, objects) = (&subject.nodes.tasks, &subject.nodes.objects);
    let lease = async |kind| {
        tasks
            .lease(compactor, vec![kind], Duration::from_secs(30))
            .await
            .unwrap()
            .unwrap()
    };
    let mut compacted = topic("a", 1);
    compacted
        .configs
        .insert("cleanup.policy".to_owned(), "compact".to_owned());
    subject.nodes.catalog.create_topic(frontend, compacted).await.unwrap();
    let stream = subject.partitions(frontend).await[0].stream;
    let journal = subject
        .nodes
        .journals
        .create_journal(frontend, false)
        .await
        .unwrap()
        .journal;
    let upload = lease(TaskKind::Upload).await.lease;
    let prepare = async |lease| {
        let prepared = objects
            .prepare_objects(compactor, PrepareObjects { lease, count: 1 })
            .await;
        prepared.unwrap()[0].object
    };
    let range = OffsetRange::new(Offset(0), Offset(10));
    let whole = |object| CommittedObject {
        object,
        size_bytes: 5000,
        streams: vec![CommittedStream {
            stream,
            range,
            stable_end: Offset(10),
            max_timestamp_ms: 5,
            bytes: 1000,
            snapshot: None,
        }],
    };
    let uploaded = prepare(upload).await;
    let request = commit(upload, journal, 0, 5, vec![whole(uploaded)]);
    objects.commit_objects(compactor, request).await.unwrap();

    let clean = lease(TaskKind::Clean).await;
    let work = Work::Clean {
        stream,
        range,
        first_dirty: Offset(0),
        delete_retention: Duration::from_secs(86_400),
    };
    assert_eq!(clean.work, work);
    assert_eq!(tasks.renew(compactor, clean.lease).await, Ok(work));
    let cleaned = prepare(clean.lease).await;
    let replacing = |object| CommitObjects {
        source: CommitSource::Objects {
            stream,
            range,
            objects: vec![uploaded],
            keys_end: range.end,
        },
        ..commit(clean.lease, journal, 0, 0, vec![whole(object)])
    };
    let version = objects.commit_objects(compactor, replacing(cleaned)).await.unwrap();
    assert_eq!(
        objects.commit_objects(compactor, replacing(cleaned)).await,
        Ok(version),
        "a repeat"
    );
    let found = objects.find_objects(stream, Offset(0), 10).await.unwrap().objects;
    assert_eq!(found.iter().map(|slice| slice.object).collect::<Vec<_>>(), [cleaned]);
    let late = prepare(clean.lease).await;
    let refused = objects.commit_objects(compactor, replacing(late)).await;
    assert_eq!(refused, Err(Error::ObjectReplaced { object: uploaded }));
    tasks.release(compactor, clean.lease, true).await.unwrap();
    let nothing = tasks
        .lease(compactor, vec![TaskKind::Clean], Duration::from_millis(20))
        .await;
    assert_eq!(nothing, Ok(None));
}
