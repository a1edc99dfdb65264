//! What is followed: large updates, and the end of a subscription.

use futures::StreamExt;
use tailwater_rpc::controller::*;

use crate::support::*;

/// A snapshot of 200,000 partitions, with as many streams, arrives as one update, and so does what comes behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_snapshot_is_one_update() {
    let updates = vec![update(7, None, 400_000), update(8, Some(7), 0), update(9, Some(8), 1)];
    let (runtime, fake) = (runtime(), Fake::new(updates));
    let served = Served::start(&fake, &runtime).await;
    let client = served.client(&runtime);
    let mut watch = client.watch(CALLER).await.unwrap();
    for expected in &fake.updates {
        let update = watch.next().await.unwrap().unwrap();
        assert!(update == *expected, "version {}", expected.version);
    }
    served.stop().await;
}

/// Dropping the stream ends the subscription at the server.
#[tokio::test]
async fn a_dropped_watch_ends() {
    let (runtime, fake) = (runtime(), Fake::new(vec![update(1, None, 1)]));
    let served = Served::start(&fake, &runtime).await;
    let client = served.client(&runtime);
    let mut watch = client.watch(CALLER).await.unwrap();
    watch.next().await.unwrap().unwrap();
    let nodes = client.watch_nodes().await.unwrap();
    fake.until_open(2).await;
    drop(watch);
    fake.until_open(1).await;
    drop(nodes);
    fake.until_open(0).await;
    served.stop().await;
}
