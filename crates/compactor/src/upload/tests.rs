//! Whole uploads against the test cluster, with a failure at every step.

use std::time::Duration;

use tailwater_kafka::batch::{BatchBuilder, Marker, TransactionEnd};
use tailwater_log::PartitionState;
use tailwater_rpc::Error;
use tailwater_runtime::CancellationToken;
use tailwater_runtime::config::{ByteSize, Millis};
use tailwater_store::{Failure, Fault, ObjectStorage as _, Operation};
use tailwater_types::{JournalId, Lsn, Offset, Outcome, StreamId};

use crate::Config;
use crate::testing::{Call, Cluster, State, When};

fn unavailable() -> Error {
    Error::Unavailable {
        detail: "injected".to_owned(),
        outcome: Outcome::Unknown,
    }
}

/// Triggers fast, and cuts small.
fn config() -> Config {
    Config {
        trigger_age: Millis(500),
        batch_bytes: ByteSize(2_000),
        stream_object_bytes: ByteSize(700),
        ..Config::default()
    }
}

/// Three streams over a dozen entries: several runs, objects of one stream and mixed ones.
fn fill(cluster: &Cluster, journal: u64) {
    for round in 0..6 {
        cluster.append(journal, &[(1, 2), (2, 1)]);
        cluster.append_epoch(journal, 0, 150 * round, &[(3, 3)]);
    }
}

/// Everything reaches objects, once and in order, with snapshots; the trim LSN follows, the lag falls to 0.
#[tokio::test(start_paused = true)]
async fn a_journal_is_uploaded() {
    let cluster = Cluster::new();
    fill(&cluster, 1);
    let compactor = cluster.start(config()).await;
    cluster.until_all_uploaded().await;
    cluster.check_objects().await;
    assert!(cluster.metric("tailwater_upload_lag_bytes 0"));
    assert!(cluster.state.lock().commits > 1, "bounded runs");
    fill(&cluster, 1);
    cluster.until_all_uploaded().await;
    cluster.check_objects().await;
    compactor.shutdown().await;
}

/// Little and young data waits for its age.
#[tokio::test(start_paused = true)]
async fn young_data_waits() {
    let cluster = Cluster::new();
    let compactor = cluster.start(Config::default()).await;
    cluster.append(1, &[(1, 2)]);
    cluster.clock.sleep(Duration::from_secs(25)).await;
    assert_eq!(cluster.uploaded(1), 0);
    assert!(!cluster.metric("tailwater_upload_lag_bytes 0"));
    cluster.clock.sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.uploaded(1), 2);
    compactor.shutdown().await;
}

/// A sealed journal is uploaded to its end at once, also when it is sealed under way, also when nothing is left in it.
#[tokio::test(start_paused = true)]
async fn a_sealed_journal_is_finished() {
    let cluster = Cluster::new();
    let compactor = cluster
        .start(Config {
            trigger_age: Millis::seconds(20),
            ..config()
        })
        .await;
    cluster.append(1, &[(1, 2)]);
    cluster.append(2, &[(2, 2)]);
    cluster.clock.sleep(Duration::from_secs(4)).await;
    cluster.seal(1);
    cluster.clock.sleep(Duration::from_secs(2)).await;
    assert!(cluster.journal(1, |journal| journal.is_gone) && !cluster.journal(2, |journal| journal.is_gone));
    cluster.until_all_uploaded().await;
    cluster.seal(2);
    cluster
        .until("both are gone", |state| {
            state.journals.values().all(|journal| journal.is_gone)
        })
        .await;
    cluster.check_objects().await;
    compactor.shutdown().await;
}

/// Whatever call fails, before or after it took effect, the upload goes on and nothing is there twice.
#[tokio::test(start_paused = true)]
async fn any_failed_call_is_survived() {
    let calls = [
        Call::Lease,
        Call::Renew,
        Call::Status,
        Call::Read,
        Call::Uploads,
        Call::Prepare,
        Call::Commit,
    ];
    for call in calls {
        for (when, error) in [
            (When::Before, unavailable()),
            (When::After, unavailable()),
            (When::Before, Error::Throttled("injected".to_owned())),
            (When::Before, Error::Internal("injected".to_owned())),
        ] {
            let cluster = Cluster::new();
            fill(&cluster, 1);
            cluster.fail(call, when, error.clone());
            cluster.fail(call, when, error.clone());
            let compactor = cluster.start(config()).await;
            cluster.until_all_uploaded().await;
            cluster.check_objects().await;
            compactor.shutdown().await;
        }
    }
}

/// Whatever the store fails at, the upload goes on; objects of failed attempts are given up and never committed.
#[tokio::test(start_paused = true)]
async fn any_failed_put_is_survived() {
    for failure in [
        Failure::NoSpace,
        Failure::Unavailable,
        Failure::Throttled,
        Failure::Refused,
    ] {
        for fault in [Fault::Before(failure), Fault::After(failure)] {
            for nth in 0..4 {
                let cluster = Cluster::new();
                fill(&cluster, 1);
                cluster.storage.inject(Operation::Put, nth, fault.clone());
                let compactor = cluster.start(config()).await;
                cluster.until_all_uploaded().await;
                cluster.check_objects().await;
                let given_up = |state: &State| state.prepared.iter().all(|object| state.abandoned.contains(object));
                assert!(given_up(&cluster.state.lock()) && !cluster.state.lock().abandoned.is_empty());
                compactor.shutdown().await;
            }
        }
    }
}

/// Producers in the stream's newest snapshot.
async fn known_producers(cluster: &Cluster, stream: StreamId) -> Vec<i64> {
    let at = cluster.state.lock().streams[&stream]
        .snapshot
        .clone()
        .expect("it was uploaded");
    let range = at.position..at.position + u64::from(at.length);
    let bytes = cluster.storage.get_range(&at.key, range).await.unwrap();
    let state = PartitionState::decode_snapshot(&bytes).unwrap();
    state.producers().map(|producer| producer.id).collect()
}

/// An upload forgets producers that nobody has heard of for `producer_expiration`, by the time of the uploads that had them;
/// never one whose transaction is open. So does a compactor that has only what the last one wrote.
#[tokio::test(start_paused = true)]
async fn an_upload_forgets_idle_producers() {
    let cluster = Cluster::new();
    let expiring = Config {
        producer_expiration: Millis::seconds(600),
        ..config()
    };
    let mut compactor = cluster.start(expiring.clone()).await;
    let write = |producer: i64, is_transactional: bool| {
        let builder = BatchBuilder::new().producer(producer, 0, 0);
        let mut builder = match is_transactional {
            true => builder.transactional(),
            false => builder,
        };
        builder.push(1_000, None, Some(b"v"), &[]);
        cluster.append_batches(1, 0, vec![(1, builder.build())]);
    };
    write(10, false);
    write(11, true);
    cluster.until_all_uploaded().await;
    cluster.clock.sleep(Duration::from_secs(400)).await;
    write(12, false);
    cluster.until_all_uploaded().await;
    assert_eq!(known_producers(&cluster, StreamId(1)).await, [10, 11, 12]);
    cluster.clock.sleep(Duration::from_secs(300)).await;
    compactor.shutdown().await;
    compactor = cluster.start(expiring).await;
    write(13, false);
    cluster.until_all_uploaded().await;
    assert_eq!(known_producers(&cluster, StreamId(1)).await, [11, 12, 13]);
    compactor.shutdown().await;
}

/// A store without space stops uploads and loses nothing; they go on when there is room.
#[tokio::test(start_paused = true)]
async fn a_full_store_is_waited_for() {
    let cluster = Cluster::new();
    fill(&cluster, 1);
    cluster.storage.set_outage(Operation::Put, Some(Failure::NoSpace));
    let compactor = cluster.start(config()).await;
    cluster.clock.sleep(Duration::from_secs(300)).await;
    assert_eq!(cluster.journal(1, |journal| journal.trim), Lsn(0));
    cluster.storage.set_outage(Operation::Put, None);
    cluster.until_all_uploaded().await;
    cluster.check_objects().await;
    compactor.shutdown().await;
}

/// One journal that can't be read holds up neither the others nor deletions.
#[tokio::test(start_paused = true)]
async fn a_broken_journal_stays_alone() {
    let cluster = Cluster::new();
    cluster.append(1, &[(1, 2)]);
    cluster.append(2, &[(2, 2)]);
    cluster.state.lock().broken_journals.insert(JournalId(1));
    cluster.state.lock().deletions.push(Vec::new());
    let compactor = cluster.start(config()).await;
    cluster
        .until("the other is uploaded", |state| {
            state.streams[&StreamId(2)].uploaded.0 == 2
        })
        .await;
    cluster
        .until("deletions are done", |state| state.deletions.is_empty())
        .await;
    assert_eq!(cluster.uploaded(1), 0);
    compactor.shutdown().await;
}

/// The same for a put that hangs.
#[tokio::test(start_paused = true)]
async fn a_slow_put_stays_alone() {
    let cluster = Cluster::new();
    let release = CancellationToken::new();
    cluster.storage.inject(Operation::Put, 0, Fault::Held(release.clone()));
    cluster.append(1, &[(1, 2)]);
    let compactor = cluster.start(config()).await;
    cluster.clock.sleep(Duration::from_secs(3)).await;
    cluster.append(2, &[(2, 2)]);
    cluster
        .until("the other is uploaded", |state| {
            state.streams[&StreamId(2)].uploaded.0 == 2
        })
        .await;
    assert_eq!(cluster.uploaded(1), 0);
    release.cancel();
    cluster.until_all_uploaded().await;
    cluster.check_objects().await;
    compactor.shutdown().await;
}

/// A holder whose lease was taken stops, even in the middle of a put, and the next one's upload is the only one.
#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_upload() {
    let cluster = Cluster::new();
    let release = CancellationToken::new();
    cluster.storage.inject(Operation::Put, 0, Fault::Held(release.clone()));
    cluster.append(1, &[(1, 2)]);
    let compactor = cluster.start(config()).await;
    cluster.clock.sleep(Duration::from_secs(3)).await;
    // The lease is free again: the same compactor gets it under another epoch, while the put still hangs.
    cluster.state.lock().journals.get_mut(&JournalId(1)).unwrap().is_leased = false;
    cluster.until_all_uploaded().await;
    release.cancel();
    cluster.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.state.lock().commits, 1);
    assert_eq!(cluster.journal(1, |journal| journal.lease_epoch), 2);
    cluster.check_objects().await;
    compactor.shutdown().await;
}

/// A compactor that comes back after its commit took effect unseen, with nothing in memory, goes on behind it from the
/// snapshots in objects.
#[tokio::test(start_paused = true)]
async fn the_next_compactor_goes_on() {
    let cluster = Cluster::new();
    fill(&cluster, 1);
    cluster.fail(Call::Commit, When::After, unavailable());
    // Repeats of the commit fail too, until the process is stopped.
    for _ in 0..1_000 {
        cluster.fail(Call::Commit, When::Before, unavailable());
    }
    let compactor = cluster.start(config()).await;
    cluster.until("the first commit", |state| state.commits == 1).await;
    cluster.clock.sleep(Duration::from_secs(1)).await;
    compactor.shutdown().await;
    cluster.state.lock().faults.clear();
    let compactor = cluster.start(config()).await;
    cluster.until_all_uploaded().await;
    cluster.check_objects().await;
    assert!(
        cluster
            .storage
            .begun()
            .iter()
            .any(|(operation, _)| *operation == Operation::GetRange)
    );
    compactor.shutdown().await;
}

/// A snapshot that can't be read fails the attempt, not the stream: it is tried again.
#[tokio::test(start_paused = true)]
async fn a_failed_snapshot_read_is_repeated() {
    let cluster = Cluster::new();
    fill(&cluster, 1);
    let compactor = cluster.start(config()).await;
    cluster.until_all_uploaded().await;
    compactor.shutdown().await;
    fill(&cluster, 1);
    cluster
        .storage
        .inject(Operation::GetRange, 0, Fault::Before(Failure::Unavailable));
    let compactor = cluster.start(config()).await;
    cluster.until_all_uploaded().await;
    cluster.check_objects().await;
    compactor.shutdown().await;
}

/// A stream that moved from one journal to another and back is uploaded without a hole: each upload waits for the part
/// before its own.
#[tokio::test(start_paused = true)]
async fn a_stream_in_two_journals_has_no_holes() {
    let cluster = Cluster::new();
    cluster.append_epoch(1, 0, 10, &[(1, 2), (2, 2)]);
    cluster.append_epoch(2, 1, 10, &[(1, 3)]);
    cluster.append_epoch(1, 2, 10, &[(1, 4), (2, 1)]);
    cluster.append_epoch(2, 3, 10, &[(2, 5), (1, 1)]);
    cluster.seal(1);
    let compactor = cluster.start(config()).await;
    cluster.until_all_uploaded().await;
    cluster.check_objects().await;
    assert!(cluster.journal(1, |journal| journal.is_gone));
    compactor.shutdown().await;
}

/// Slices of a deleted topic's streams are passed over.
#[tokio::test(start_paused = true)]
async fn a_deleted_stream_holds_nothing_up() {
    let cluster = Cluster::new();
    cluster.append(1, &[(1, 2), (2, 2)]);
    cluster.append(1, &[(2, 1)]);
    cluster.state.lock().streams.remove(&StreamId(2));
    let compactor = cluster.start(config()).await;
    cluster.until_all_uploaded().await;
    cluster.check_objects().await;
    compactor.shutdown().await;
}

/// A stop lets the upload on its way finish, and gives all leases back.
#[tokio::test(start_paused = true)]
async fn a_stop_is_in_order() {
    let cluster = Cluster::new();
    let release = CancellationToken::new();
    cluster.storage.inject(Operation::Put, 0, Fault::Held(release.clone()));
    cluster.append(1, &[(1, 2)]);
    cluster.append(2, &[(2, 2)]);
    let compactor = cluster.start(config()).await;
    cluster.clock.sleep(Duration::from_secs(2)).await;
    let clock = cluster.clock.clone();
    tokio::join!(compactor.shutdown(), async {
        clock.sleep(Duration::from_secs(1)).await;
        release.cancel();
    });
    assert_eq!((cluster.uploaded(1), cluster.uploaded(2)), (2, 2));
    assert!(cluster.state.lock().journals.values().all(|journal| !journal.is_leased));
}

/// A stop doesn't wait for ever for an upload that hangs.
#[tokio::test(start_paused = true)]
async fn a_stop_has_a_deadline() {
    let cluster = Cluster::new();
    cluster
        .storage
        .inject(Operation::Put, 0, Fault::Held(CancellationToken::new()));
    cluster.append(1, &[(1, 2)]);
    let compactor = cluster.start(config()).await;
    cluster.clock.sleep(Duration::from_secs(2)).await;
    let begin = cluster.clock.now();
    compactor.shutdown().await;
    assert!(cluster.clock.now() - begin < Duration::from_secs(8));
    assert!(cluster.state.lock().journals.values().all(|journal| !journal.is_leased));
    assert_eq!(cluster.uploaded(1), 0);
}

/// Rule 7: each commit says how far the stream was decided at its end, also where a transaction goes on from one upload to
/// the next; the snapshots know of what is open, and of what was aborted.
#[tokio::test(start_paused = true)]
async fn rule_7_uploads_commit_the_stable_end() {
    let data = |producer, sequence| {
        let mut builder = BatchBuilder::new().producer(producer, 0, sequence).transactional();
        builder.push(1_000, None, Some(&[7; 50]), &[]);
        vec![(5, builder.build())]
    };
    let marker = |producer, end| {
        let marker = Marker {
            end,
            coordinator_epoch: 2,
        };
        vec![(5, marker.build(producer, 0, 1_000))]
    };
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    let steps = [
        (vec![data(8, 0), data(9, 0), marker(9, TransactionEnd::Abort)], 0),
        (vec![data(8, 1), data(9, 1)], 0),
        (vec![marker(8, TransactionEnd::Commit)], 4),
        (vec![marker(9, TransactionEnd::Abort)], 7),
    ];
    let mut uploaded = 0;
    for (appends, stable) in steps {
        uploaded += appends.len() as i64;
        for batches in appends {
            cluster.append_batches(1, 0, batches);
        }
        cluster.until_all_uploaded().await;
        let state = cluster.state.lock();
        let last = &state.committed.last().unwrap().streams[0];
        assert_eq!((last.range.end, last.stable_end), (Offset(uploaded), Offset(stable)));
    }
    cluster.check_objects().await;
    let aborted = cluster.state.lock().streams[&StreamId(5)].state.aborted().len();
    assert_eq!(aborted, 2);
    compactor.shutdown().await;
}
