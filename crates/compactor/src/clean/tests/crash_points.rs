//! Passes that end in the middle: at the store, at a bound, at a stop, or because what they clean goes away.

use tailwater_kafka::batch::{Marker, TransactionEnd};
use tailwater_runtime::CancellationToken;
use tailwater_store::{Failure, Fault, Operation};

use super::*;

/// How many calls of a kind a pass over these makes: to choose from which one fails.
async fn calls(objects: &[Vec<Vec<(u32, u32)>>], operation: Operation) -> usize {
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    upload(&cluster, objects).await;
    let count = |cluster: &Cluster| {
        cluster
            .storage
            .begun()
            .iter()
            .filter(|call| call.0 == operation)
            .count()
    };
    let before = count(&cluster);
    assert!(clean(&cluster, 0).await);
    let calls = count(&cluster) - before;
    compactor.shutdown().await;
    calls
}

/// Each key's newest record is where it was, whatever else is there.
async fn is_whole(cluster: &Cluster, objects: &[Vec<Vec<(u32, u32)>>]) -> bool {
    let left = found(cluster).await;
    newest(objects)
        .iter()
        .all(|(offset, record)| left.get(offset) == Some(record))
}

/// Whatever the store fails at (an index, a run of blocks, a put that happened or didn't, an object that isn't there), in any
/// group: a reader finds each key's newest value, and the next pass ends it.
#[tokio::test(start_paused = true)]
async fn a_pass_survives_whatever_the_store_fails_at() {
    let objects = history(36);
    let (away, gone) = (Fault::Before(Failure::Unavailable), Fault::Before(Failure::NotFound));
    let cases = [
        (Operation::GetTail, vec![away.clone(), gone.clone()]),
        (Operation::GetRange, vec![away.clone(), gone]),
        (
            Operation::Put,
            vec![
                away,
                Fault::After(Failure::Unavailable),
                Fault::Before(Failure::NoSpace),
            ],
        ),
    ];
    for (operation, faults) in cases {
        let calls = calls(&objects, operation).await;
        assert!(calls > 1, "{operation:?}: {calls}");
        for fault in faults {
            for nth in [0, calls / 2, calls - 1] {
                let cluster = Cluster::new();
                let compactor = cluster.start(config()).await;
                upload(&cluster, &objects).await;
                cluster.storage.inject(operation, nth, fault.clone());
                let case = format!("{operation:?} {nth} of {calls}: {fault:?}");
                assert!(!clean(&cluster, 0).await, "{case}: it never struck");
                assert!(is_whole(&cluster, &objects).await, "{case}");
                assert!(clean(&cluster, 0).await, "{case}");
                assert_eq!(found(&cluster).await, newest(&objects), "{case}");
                compactor.shutdown().await;
            }
        }
    }
}

/// A batch of a transaction that is aborted objects later, by producer 5.
fn aborted(key: u32) -> BytesMut {
    let mut builder = BatchBuilder::new().producer(5, 0, 0).transactional();
    builder.push(1_000, Some(&key.to_be_bytes()), Some(&[9; 4]), &[]);
    builder.build()
}

/// A controller that takes no more in one commit gets smaller groups, each cleaned from where the last one ended: also as to
/// which transactions are open there.
#[tokio::test(start_paused = true)]
async fn a_group_that_is_too_large_is_cleaned_in_parts() {
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    let objects = history(40);
    upload(&cluster, &objects[..2]).await;
    let offset = cluster.uploaded(STREAM.0);
    cluster.append_batches(1, 0, vec![(STREAM.0, aborted(7_777))]);
    upload(&cluster, &objects[2..20]).await;
    let marker = Marker {
        end: TransactionEnd::Abort,
        coordinator_epoch: 0,
    };
    cluster.append_batches(1, 0, vec![(STREAM.0, marker.build(5, 0, 1_000))]);
    upload(&cluster, &objects[20..]).await;
    assert!(found(&cluster).await.contains_key(&offset));
    let commits = cluster.state.lock().commits;
    for _ in 0..3 {
        cluster.fail(Call::Commit, When::Before, Error::Invalid("too large".to_owned()));
    }
    assert!(clean(&cluster, 0).await);
    assert!(cluster.state.lock().commits - commits > 8, "groups of four at most");
    let left = found(&cluster).await;
    assert!(!left.contains_key(&offset), "aborted, and left at {offset}");
    let records = |all: BTreeMap<i64, (u32, u32)>| all.into_values().collect::<Vec<_>>();
    assert_eq!(records(left), records(newest(&objects)));
    compactor.shutdown().await;
}

/// One batch with more keys than there is room for: nothing is changed, and other streams are cleaned and uploaded.
#[tokio::test(start_paused = true)]
async fn a_batch_with_too_many_keys_changes_nothing() {
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    let objects = vec![vec![vec![(1, 1)]], vec![(0..30_000).map(|key| (key, key)).collect()]];
    upload(&cluster, &objects).await;
    let (before, commits) = (found(&cluster).await, cluster.state.lock().commits);
    // What lies before it fits.
    let first_dirty = 1;
    assert!(!clean(&cluster, first_dirty).await);
    assert_eq!(cluster.state.lock().commits, commits);
    assert_eq!(found(&cluster).await, before);
    assert!(cluster.metric("tailwater_cleanings_total{result=\"failed\"} 1"));
    upload(&cluster, &[vec![vec![(2, 2)]]]).await;
    compactor.shutdown().await;
}

/// Holds the pass in the put of its second group; the token lets it go on.
async fn in_the_second_group(cluster: &Cluster) -> CancellationToken {
    let (release, commits) = (CancellationToken::new(), cluster.state.lock().commits);
    let held = Fault::Held(release.clone());
    cluster.storage.inject(Operation::Put, PUTS_OF_FIRST_GROUP, held);
    let puts = |cluster: &Cluster| {
        let begun = cluster.storage.begun();
        begun.iter().filter(|call| call.0 == Operation::Put).count()
    };
    let before = puts(cluster);
    cluster.state.lock().cleaning = Some(work(cluster));
    cluster
        .until("the first group is committed", |state| state.commits > commits)
        .await;
    while puts(cluster) < before + 1 + PUTS_OF_FIRST_GROUP {
        cluster.clock.sleep(Duration::from_millis(50)).await;
    }
    release
}

fn work(cluster: &Cluster) -> Work {
    Work::Clean {
        stream: STREAM,
        range: OffsetRange::new(Offset::ZERO, Offset(cluster.uploaded(STREAM.0))),
        first_dirty: Offset::ZERO,
        delete_retention: Duration::from_secs(60),
    }
}

/// A lease that is lost between two groups, and a stop there: the first group stays, the second is never committed, and who
/// has the lease next ends it.
#[tokio::test(start_paused = true)]
async fn a_pass_that_loses_its_lease_between_groups_commits_no_more() {
    for stops in [false, true] {
        let cluster = Cluster::new();
        let mut compactor = cluster.start(config()).await;
        let objects = history(40);
        upload(&cluster, &objects).await;
        let commits = cluster.state.lock().commits;
        let release = in_the_second_group(&cluster).await;
        if stops {
            release.cancel();
            compactor.shutdown().await;
            compactor = cluster.start(config()).await;
        } else {
            // The next renewal says so.
            cluster.state.lock().leased_cleaning = None;
            cluster.clock.sleep(Duration::from_secs(10)).await;
            release.cancel();
            cluster.clock.sleep(Duration::from_secs(1)).await;
            assert!(cluster.metric("tailwater_cleanings_total{result=\"lost\"} 1"));
            assert_eq!(cluster.state.lock().commits, commits + 1);
        }
        assert!(is_whole(&cluster, &objects).await);
        cluster.state.lock().leased_cleaning = None;
        assert!(clean(&cluster, 0).await);
        assert_eq!(found(&cluster).await, newest(&objects));
        compactor.shutdown().await;
    }
}

/// The topic is deleted, or its first objects go because their records were deleted, in the middle of a pass: it ends, and
/// everything else goes on.
#[tokio::test(start_paused = true)]
async fn what_goes_away_meanwhile_ends_a_pass() {
    for is_topic in [true, false] {
        let cluster = Cluster::new();
        let compactor = cluster.start(config()).await;
        let objects = history(40);
        upload(&cluster, &objects).await;
        let release = in_the_second_group(&cluster).await;
        let given_back = {
            let state = &mut *cluster.state.lock();
            if is_topic {
                state.streams.remove(&STREAM);
                state.slices.remove(&STREAM);
            } else {
                // So much that the second group's own sources are among it.
                let slices = state.slices.get_mut(&STREAM).unwrap();
                let last = slices.keys().next_back().copied().unwrap();
                slices.retain(|end, _| *end == last);
            }
            state.cleaned.len()
        };
        release.cancel();
        cluster
            .until("the cleaning is given back", |state| state.cleaned.len() > given_back)
            .await;
        assert_eq!(
            cluster.state.lock().cleaned.last(),
            Some(&!is_topic),
            "nothing is wrong with what is left"
        );
        cluster.append_batches(2, 0, vec![(9, batch(&[(1, 1)]))]);
        cluster.until_all_uploaded().await;
        compactor.shutdown().await;
    }
}

/// A pass whose store never answers is seen standing still, and is given up; what it had committed stays, and the next one ends it.
#[tokio::test(start_paused = true)]
async fn a_pass_that_stands_still_is_given_up() {
    let cluster = Cluster::new();
    let config = Config {
        clean_stall: Millis::seconds(90),
        ..config()
    };
    let compactor = cluster.start(config).await;
    let objects = history(40);
    upload(&cluster, &objects).await;
    let given_back = cluster.state.lock().cleaned.len();
    let release = in_the_second_group(&cluster).await;
    let held_at = cluster.clock.wall_ms() / 1_000;
    cluster.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.state.lock().cleaned.len(), given_back, "it may be slow");
    let stands_since = |seconds| cluster.metric(&format!("tailwater_clean_last_progress_seconds {seconds}"));
    assert!(stands_since(held_at) || stands_since(held_at - 1));
    cluster.clock.sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.state.lock().cleaned[given_back..], [false]);
    assert!(stands_since(0));
    assert!(cluster.metric("tailwater_cleanings_total{result=\"failed\"} 1"));
    release.cancel();
    assert!(is_whole(&cluster, &objects).await);
    assert!(clean(&cluster, 0).await);
    assert_eq!(found(&cluster).await, newest(&objects));
    compactor.shutdown().await;
}
