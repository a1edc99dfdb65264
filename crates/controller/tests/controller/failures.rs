//! A store that refuses, fails, and leaves it open whether something happened.

use std::time::Duration;

use tailwater_controller::store::{Fault, MemoryStore, MetadataStore};
use tailwater_controller::{Config, Error as StartError, start, start_with};
use tailwater_rpc::Error;
use tailwater_rpc::controller::*;
use tailwater_types::*;

use crate::support::*;

/// Sorted: a snapshot has topics in the order of their ids, which are random.
fn topic_names(update: &MetadataUpdate) -> Vec<String> {
    let name = |change: &MetadataChange| match change {
        MetadataChange::Topic(topic) => Some(topic.name.clone()),
        _ => None,
    };
    let mut names: Vec<_> = update.changes.iter().filter_map(name).collect();
    names.sort();
    names
}

/// A refused change is seen by nobody, and the next one succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_changes_nothing() {
    let cluster = Cluster::start().await;
    let frontend = cluster.frontend(1).await;
    let before = cluster.snapshot(frontend).await;
    cluster.faults.add(Fault::Full);
    let refused = cluster.controller.create_topic(frontend, topic("a", 3)).await;
    assert!(matches!(refused, Err(Error::Throttled(_))), "{refused:?}");
    assert_eq!(cluster.snapshot(frontend).await, before);
    cluster.topic(frontend, "a", 3).await;
    assert_eq!(topic_names(&cluster.snapshot(frontend).await), ["a"]);
}

/// When the room ends at an unknown point the store is read: what was written is made durable and answered as a success, what
/// wasn't as a failure that didn't happen, and a restart after a power failure shows the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_outcome_is_found_out() {
    for written in [false, true] {
        let mut cluster = Cluster::start().await;
        let frontend = cluster.frontend(1).await;
        cluster.faults.add(Fault::Lost { written });
        let answer = cluster.controller.create_topic(frontend, topic("a", 3)).await;
        match answer {
            Ok(_) => assert!(written),
            Err(error) => assert!(!written && error.outcome() == Outcome::DidNotHappen),
        }
        let shown = cluster.snapshot(frontend).await;
        assert_eq!(topic_names(&shown).len(), usize::from(written));
        cluster.restart().await;
        assert_eq!(cluster.snapshot(frontend).await, shown);
    }
}

/// While the store can't even be read, changes fail, what was published is still served, and it goes on by itself; a watcher
/// never sees versions with a gap. The repeat of a registration that had happened gives the same epoch.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_store_comes_back() {
    for written in [false, true] {
        let mut cluster = Cluster::start().await;
        let frontend = cluster.frontend(1).await;
        let mut watch = cluster.controller.watch(frontend).await.unwrap();
        cluster.faults.add(Fault::Lost { written });
        cluster.faults.add(Fault::Load);
        cluster.faults.add(Fault::Load);
        let unknown = cluster
            .controller
            .register(request(COMPACTOR, Tier::Compactor, 5))
            .await;
        assert_eq!(unknown.unwrap_err().outcome(), Outcome::Unknown);
        let lost = cluster.controller.create_topic(frontend, topic("a", 3)).await;
        assert_eq!(lost.unwrap_err().outcome(), Outcome::DidNotHappen);
        assert!(topic_names(&cluster.snapshot(frontend).await).is_empty());
        cluster
            .controller
            .heartbeat(frontend, Heartbeat::default())
            .await
            .unwrap();
        until(async || cluster.controller.create_topic(frontend, topic("a", 3)).await.ok()).await;
        let again = cluster.compactor(5).await;
        assert_eq!(again.node_epoch, NodeEpoch(1));

        let mut last = None;
        let shown = cluster.snapshot(frontend).await.version;
        while let Some(Ok(update)) = futures::StreamExt::next(&mut watch).await {
            assert_eq!(update.previous, last);
            last = Some(update.version);
            if update.version == shown {
                break;
            }
        }
        assert_eq!(
            last == Some(shown),
            !written,
            "a state of which no changes are known ends a watch"
        );
        let shown = cluster.snapshot(frontend).await;
        cluster.restart().await;
        assert_eq!(cluster.snapshot(frontend).await, shown, "on the disk too");
    }
}

/// What was written as the room ended is neither shown nor answered before it could be written again, and nothing else gets in
/// between.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_batch_is_written_again_before_it_is_shown() {
    let mut cluster = Cluster::start().await;
    let frontend = cluster.frontend(1).await;
    let before = cluster.snapshot(frontend).await;
    cluster.faults.add(Fault::Lost { written: true });
    // The repeat finds no room, and at the next look at the store again none.
    cluster.faults.add(Fault::Full);
    cluster.faults.add(Fault::Lost { written: true });
    let unknown = cluster.controller.create_topic(frontend, topic("a", 3)).await;
    assert_eq!(unknown.unwrap_err().outcome(), Outcome::Unknown);
    let refused = cluster.controller.create_topic(frontend, topic("b", 3)).await;
    assert!(matches!(refused, Err(Error::Throttled(_))), "{refused:?}");
    assert_eq!(cluster.snapshot(frontend).await, before);
    until(async || cluster.controller.create_topic(frontend, topic("c", 3)).await.ok()).await;
    let shown = cluster.snapshot(frontend).await;
    assert_eq!(topic_names(&shown), ["a", "c"]);
    cluster.restart().await;
    assert_eq!(cluster.snapshot(frontend).await, shown);
}

/// A write or sync that failed for another reason than want of room ends the process, whether it is found at the batch, at its
/// repeat or on opening: the batch is neither answered as a success nor shown, though a read would find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_not_repeated() {
    let (lost, broken) = (Fault::Lost { written: true }, Fault::Broken { written: true });
    for faults in [&[broken][..], &[lost, broken], &[lost, Fault::BrokenLoad]] {
        let mut cluster = Cluster::start().await;
        let frontend = cluster.frontend(1).await;
        let before = cluster.snapshot(frontend).await;
        for fault in faults {
            cluster.faults.add(*fault);
        }
        let unknown = cluster.controller.create_topic(frontend, topic("a", 3)).await;
        assert_eq!(unknown.unwrap_err().outcome(), Outcome::Unknown, "{faults:?}");
        let wait = Duration::from_secs(5);
        let fatal = tokio::time::timeout(wait, cluster.tasks.fatal()).await.unwrap();
        assert!(fatal.reason.contains("is not repeated"), "{fatal}");
        // Longer than it takes until the store would be looked at again.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let refused = cluster.controller.create_topic(frontend, topic("b", 3)).await;
        assert_eq!(refused.unwrap_err().outcome(), Outcome::DidNotHappen);
        assert_eq!(cluster.snapshot(frontend).await, before);
        cluster.restart().await;
        assert_eq!(cluster.snapshot(frontend).await, before, "{faults:?}");
    }
}

/// What is no metadata of ours, or damaged, or of a later version, ends the start with a clear sentence; so do wrong settings.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cant_be() {
    let wals = || std::sync::Arc::new(Directory(DeviceId::from_bytes([9; 16]), Default::default()));
    let tables: [(&str, Vec<u8>, Vec<u8>); 3] = [
        ("metadata key", vec![77], vec![]),
        ("CRC32C", vec![1], vec![1, 2, 3, 4, 5, 6]),
        ("none that names a cluster", vec![2], counters()),
    ];
    for (text, key, value) in tables {
        let mut memory = MemoryStore::default();
        memory.commit(vec![(key, Some(value))]).await.unwrap();
        let started = start_with(Config::default(), Box::new(memory), wals(), runtime()).await;
        let error = started.err().expect(text).to_string();
        assert!(error.contains(text), "{error}");
    }
    let config = Config {
        data_dir: std::path::PathBuf::new(),
        ..Config::default()
    };
    let started = start(config, wals(), runtime()).await;
    assert!(matches!(started.err(), Some(StartError::Config(_))));
}

fn counters() -> Vec<u8> {
    use tailwater_format::metadata::{Counters, Key, Record};
    Record::Counters(std::sync::Arc::new(Counters::default())).encode(Key::Counters)
}
