//! A store that refuses, fails, and leaves it open whether something happened.

use tailwater_controller::store::{Fault, MemoryStore, MetadataStore};
use tailwater_controller::{Config, Error as StartError, start, start_with};
use tailwater_rpc::Error;
use tailwater_rpc::controller::*;
use tailwater_types::*;

use crate::support::*;

fn topic_names(update: &MetadataUpdate) -> Vec<String> {
    let name = |change: &MetadataChange| match change {
        MetadataChange::Topic(topic) => Some(topic.name.clone()),
        _ => None,
    };
    update.changes.iter().filter_map(name).collect()
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

/// After a failure of unknown outcome the store is read: what happened is answered as a success, what didn't as a failure that
/// didn't happen, and a restart shows the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_outcome_is_found_out() {
    for happened in [false, true] {
        let mut cluster = Cluster::start().await;
        let frontend = cluster.frontend(1).await;
        cluster.faults.add(Fault::Lost { happened });
        let answer = cluster.controller.create_topic(frontend, topic("a", 3)).await;
        match answer {
            Ok(_) => assert!(happened),
            Err(error) => assert!(!happened && error.outcome() == Outcome::DidNotHappen),
        }
        let shown = cluster.snapshot(frontend).await;
        assert_eq!(topic_names(&shown).len(), usize::from(happened));
        cluster.restart().await;
        assert_eq!(cluster.snapshot(frontend).await, shown);
    }
}

/// While the store can't even be read, changes fail, what was published is still served, and it goes on by itself; a watcher
/// never sees versions with a gap. The repeat of a registration that had happened gives the same epoch.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_store_comes_back() {
    for happened in [false, true] {
        let cluster = Cluster::start().await;
        let frontend = cluster.frontend(1).await;
        let mut watch = cluster.controller.watch(frontend).await.unwrap();
        cluster.faults.add(Fault::Lost { happened });
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
            !happened,
            "a state of which no changes are known ends a watch"
        );
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
