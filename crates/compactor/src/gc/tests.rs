use bytes::Bytes;
use tailwater_store::{Failure, Fault, Operation};

use super::*;
use crate::testing::Cluster;

async fn with_objects() -> (Cluster, Vec<(ObjectId, String)>) {
    let cluster = Cluster::new();
    let objects: Vec<_> = (1..4)
        .map(|object| (ObjectId(object), format!("object-{object}")))
        .collect();
    // The first was never written.
    for (_, key) in &objects[1..] {
        cluster.storage.put(key, vec![Bytes::from_static(b"x")]).await.unwrap();
    }
    cluster
        .storage
        .put("other", vec![Bytes::from_static(b"x")])
        .await
        .unwrap();
    cluster.state.lock().deletions.push(objects.clone());
    (cluster, objects)
}

/// What a task names is deleted, present or not, and nothing else; then the task is done.
#[tokio::test(start_paused = true)]
async fn named_objects_are_deleted() {
    let (cluster, objects) = with_objects().await;
    let compactor = cluster.start(crate::Config::default()).await;
    cluster
        .until("the task is done", |state| state.deletions.is_empty())
        .await;
    for (_, key) in &objects {
        assert!(cluster.storage.head(key).await.is_err());
    }
    assert!(cluster.storage.head("other").await.is_ok());
    compactor.shutdown().await;
}

/// A failure leaves the task undone, to be done again; the other objects are deleted meanwhile.
#[tokio::test(start_paused = true)]
async fn a_failed_deletion_is_repeated() {
    let (cluster, objects) = with_objects().await;
    cluster
        .storage
        .inject(Operation::Delete, 1, Fault::Before(Failure::Unavailable));
    cluster
        .storage
        .inject(Operation::Delete, 3, Fault::After(Failure::Unavailable));
    let compactor = cluster.start(crate::Config::default()).await;
    cluster
        .until("the task is done", |state| state.deletions.is_empty())
        .await;
    for (_, key) in &objects {
        assert!(cluster.storage.head(key).await.is_err());
    }
    assert!(cluster.metric("tailwater_objects_deleted_total{result=\"failed\"} 2"));
    compactor.shutdown().await;
}
