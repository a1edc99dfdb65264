//! What the ports promise, with a WAL node that notes its orders.

use std::time::Duration;

use futures::StreamExt;
use tailwater_rpc::Error;
use tailwater_rpc::controller::*;
use tailwater_types::*;

use crate::support::*;

/// A frontend that starts anew has its old journal sealed at the WAL node, however long that is down, and opens its streams
/// behind the seal.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_registration_seals_the_old_journal() {
    let cluster = Cluster::start().await;
    cluster.wal(1, DeviceEpoch(0)).await;
    let old = cluster.frontend(1).await;
    cluster.topic(old, "a", 1).await;
    let grant = cluster.controller.create_journal(old, false).await.unwrap();
    assert_eq!((grant.ensemble, grant.ack_quorum), (vec![cluster.device], 1));
    cluster.wal.ends.lock().insert(grant.journal, Lsn(7));
    *cluster.wal.down.lock() = true;

    let new = cluster.frontend(2).await;
    let partition = cluster.partitions(new).await.remove(0);
    assert_eq!(
        (partition.leader, partition.leader_epoch),
        (Some(FRONTEND), LeaderEpoch(1))
    );
    let (stream, leader_epoch) = (partition.stream, partition.leader_epoch);
    let open = async || {
        let request = vec![OpenStream { stream, leader_epoch }];
        cluster.controller.open_streams(new, request).await.unwrap().remove(0)
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(open().await, Err(Error::StreamNotClosed { stream }));
    *cluster.wal.down.lock() = false;
    let opened = until(async || open().await.ok()).await;
    assert_eq!(opened.tails.len(), 1);
    assert_eq!(opened.tails[0].range, LsnRange::new(Lsn(0), Lsn(7)));
    let seals = cluster.wal.seals.lock().clone();
    assert!(
        seals
            .iter()
            .all(|seal| seal.journal == grant.journal && seal.device == cluster.device)
    );
    assert!(seals.iter().all(|seal| seal.epoch.controller == new.controller_epoch));
    assert!(
        seals.is_sorted_by(|a, b| a.epoch < b.epoch),
        "each attempt has its own epoch"
    );
}

/// A journal that nobody has confirmed ends at 0 although its member is down; it is sealed there before it is to be forgotten, as
/// one that has it open demands.
#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_journal_is_sealed_before_it_is_forgotten() {
    let cluster = Cluster::start().await;
    cluster.wal(1, DeviceEpoch(0)).await;
    let old = cluster.frontend(1).await;
    cluster.topic(old, "a", 1).await;
    let grant = cluster.controller.create_journal(old, true).await.unwrap();
    assert!(grant.unconfirmed);
    *cluster.wal.down.lock() = true;
    let new = cluster.frontend(2).await;
    let partition = cluster.partitions(new).await.remove(0);
    let (stream, leader_epoch) = (partition.stream, partition.leader_epoch);
    let request = vec![OpenStream { stream, leader_epoch }];
    let opened = cluster.controller.open_streams(new, request).await.unwrap().remove(0);
    assert_eq!(opened.unwrap().tails, [], "nothing is waited for");
    *cluster.wal.down.lock() = false;
    let trim = until(async || cluster.wal.trims.lock().first().cloned()).await;
    assert_eq!((trim.journal, trim.to, trim.gone), (grant.journal, Lsn::ZERO, true));
    let seals = cluster.wal.seals.lock().clone();
    assert_eq!(
        seals.iter().map(|seal| seal.journal).collect::<Vec<_>>(),
        [grant.journal]
    );
}

/// A commit moves the trim LSN at the WAL node; the last one of a sealed journal makes it gone, there and here. A trim is sent
/// again to a node, and by a controller, that has started anew.
#[tokio::test(flavor = "multi_thread")]
async fn commits_trim_journals() {
    let mut cluster = Cluster::start().await;
    cluster.wal(1, DeviceEpoch(0)).await;
    let frontend = cluster.frontend(1).await;
    let compactor = cluster.compactor(1).await;
    let waiting = cluster.lease(compactor, TaskKind::Upload);
    let (grant, lease) = tokio::join!(cluster.controller.create_journal(frontend, false), waiting);
    let (journal, lease) = (grant.unwrap().journal, lease.unwrap().lease);
    let commit = |start, end| CommitObjects {
        lease,
        source: CommitSource::Journals(vec![(journal, LsnRange::new(Lsn(start), Lsn(end)))]),
        objects: Vec::new(),
        abandoned: Vec::new(),
    };
    let version = cluster
        .controller
        .commit_objects(compactor, commit(0, 5))
        .await
        .unwrap();
    let wal = cluster.wal.clone();
    let trims = move || std::mem::take(&mut *wal.trims.lock());
    let trim = until(async || trims().pop()).await;
    assert_eq!((trim.journal, trim.to, trim.gone), (journal, Lsn(5), false));
    assert!(trim.version >= version);

    cluster.wal(2, DeviceEpoch(1)).await;
    assert_eq!(until(async || trims().pop()).await.to, Lsn(5));
    cluster.restart().await;
    assert_eq!(until(async || trims().pop()).await.to, Lsn(5));

    let repeat = cluster.controller.commit_objects(compactor, commit(0, 5)).await;
    assert_eq!(repeat, Ok(version), "the lease and its commit outlive the controller");
    cluster.wal.ends.lock().insert(journal, Lsn(6));
    cluster.frontend(2).await;
    until(async || {
        let renewed = cluster.controller.renew(compactor, lease).await.unwrap();
        matches!(
            renewed,
            Work::Upload {
                sealed_end: Some(Lsn(6)),
                ..
            }
        )
        .then_some(())
    })
    .await;
    cluster
        .controller
        .commit_objects(compactor, commit(5, 6))
        .await
        .unwrap();
    until(async || trims().iter().any(|trim| trim.gone && trim.to == Lsn(6)).then_some(())).await;
    assert!(cluster.journals().await.is_empty());
}

/// The term is raised and all else is as it was; who was registered goes on, and leads what it led.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let mut cluster = Cluster::start().await;
    cluster.wal(1, DeviceEpoch(0)).await;
    let frontend = cluster.frontend(1).await;
    cluster.topic(frontend, "a", 300).await;
    cluster.controller.create_journal(frontend, false).await.unwrap();
    let ids = cluster.controller.allocate_producer_ids(frontend).await.unwrap();
    let (id, snapshot, journals) = (
        cluster.controller.cluster(),
        cluster.snapshot(frontend).await,
        cluster.journals().await,
    );
    cluster.restart().await;
    assert_eq!(cluster.controller.cluster(), id);
    assert_eq!(cluster.snapshot(frontend).await, snapshot);
    assert_eq!(cluster.journals().await, journals);
    let answer = cluster
        .controller
        .heartbeat(frontend, Heartbeat::default())
        .await
        .unwrap();
    assert_eq!(answer.controller_epoch, frontend.controller_epoch.next());
    let more = cluster.controller.allocate_producer_ids(frontend).await.unwrap();
    assert!(more.first >= ids.first + ids.count);
    let repeat = cluster.frontend(1).await;
    assert_eq!(repeat.node_epoch, frontend.node_epoch);
}

/// A watcher gets a snapshot, then every version in order, each naming the one before; together they are the next snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_miss_nothing() {
    let cluster = Cluster::start().await;
    let frontend = cluster.frontend(1).await;
    let mut watch = cluster.controller.watch(frontend).await.unwrap();
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.previous, None);
    let created = futures::future::join_all((0..50).map(|n| {
        let cluster = &cluster;
        async move { cluster.topic(frontend, &format!("t{n}"), 2).await }
    }))
    .await;
    let gone = created[7].id;
    let last = cluster.controller.delete_topic(frontend, gone).await.unwrap();
    let (mut version, mut topics, mut partitions) = (first.version, Vec::new(), 0);
    while version < last {
        let update = watch.next().await.unwrap().unwrap();
        assert_eq!(update.previous, Some(version));
        version = update.version;
        for change in &update.changes {
            match change {
                MetadataChange::Topic(topic) => topics.push(topic.id),
                MetadataChange::TopicDeleted(id) => topics.retain(|topic| topic != id),
                MetadataChange::Partition(partition) if partition.topic != gone => partitions += 1,
                _ => {}
            }
        }
    }
    assert_eq!((topics.len(), partitions), (49, 98));
    assert_eq!(cluster.partitions(frontend).await.len(), 98);
    assert!(created.iter().all(|topic| topic.version <= last));
}

/// A watcher that doesn't read is dropped, with an error behind what it had; others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_is_dropped() {
    let cluster = Cluster::start().await;
    let frontend = cluster.frontend(1).await;
    let mut slow = cluster.controller.watch(frontend).await.unwrap();
    for _ in 0..1100 {
        cluster.controller.allocate_producer_ids(frontend).await.unwrap();
    }
    let mut updates = 0;
    let end = loop {
        match slow.next().await.unwrap() {
            Ok(_) => updates += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Error::Throttled(_)), "{end:?}");
    assert!(updates > 1000 && slow.next().await.is_none());
}

/// Waiting for a task takes as long as was asked for, and refuses the unregistered.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_task_ends() {
    let cluster = Cluster::start().await;
    let compactor = cluster.compactor(1).await;
    let none = cluster
        .controller
        .lease(compactor, vec![TaskKind::Upload], Duration::from_millis(50))
        .await;
    assert_eq!(none, Ok(None));
    let stranger = Caller {
        node: NodeId(7),
        ..compactor
    };
    let refused = cluster.controller.lease(stranger, vec![], Duration::ZERO).await;
    assert_eq!(refused, Err(Error::NodeUnknown { node: NodeId(7) }));
    assert!(cluster.controller.watch(stranger).await.is_err());
}

/// After a shutdown calls fail and watches end, instead of hanging.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_everybody() {
    let cluster = Cluster::start().await;
    let frontend = cluster.frontend(1).await;
    let mut watch = cluster.controller.watch(frontend).await.unwrap();
    watch.next().await.unwrap().unwrap();
    let controller = cluster.controller.clone();
    let (_, answers) = tokio::join!(
        cluster.controller.shutdown(),
        futures::future::join_all((0..20).map(|_| controller.allocate_producer_ids(frontend)))
    );
    assert_eq!(answers.len(), 20);
    while let Ok(_update) = watch.next().await.unwrap() {}
    assert!(watch.next().await.is_none());
    assert!(controller.allocate_producer_ids(frontend).await.is_err());
}
