use std::time::Duration;

use bytes::BytesMut;
use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::TransactionEnd::{Abort, Commit};
use tailwater_log::{Refusal, TransactionMarker};
use tailwater_runtime::CancellationToken;
use tailwater_store::{Fault, FaultyStorage, Operation};
use tailwater_types::Lsn;

use super::*;
use crate::error_codes;
use crate::testing::{
    Fixture, append, batch, commit, commit_verified, end, marker, send_marker, transactional, verified,
};

fn stable(partition: &Partition) -> (i64, i64, i64) {
    (
        partition.last_stable_offset().0,
        partition.high_watermark().0,
        partition.log_end().0,
    )
}

fn aborted(partition: &Partition) -> Vec<(i64, i64, i64)> {
    let state = partition.state.lock();
    let all = state.log.aborted_within(Offset::ZERO..state.log.end());
    all.iter()
        .map(|one| (one.producer_id, one.first_offset.0, one.last_offset.0))
        .collect()
}

/// Rule 7: the last stable offset stays at an open transaction's start, and moves once the marker is committed, not before.
#[tokio::test(start_paused = true)]
async fn rule_7_the_last_stable_offset_moves_with_the_committed_marker() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit(&partition, batch(&[b"plain"])).await;
    assert_eq!(stable(&partition), (1, 1, 1));
    commit_verified(&partition, transactional(7, 0, 0, &[b"a", b"b"])).await;
    commit(&partition, batch(&[b"plain"])).await;
    assert_eq!(stable(&partition), (1, 4, 4));
    fixture.wal.hold();
    let sent = send_marker(&partition, marker(7, 0, Commit)).await.unwrap();
    assert_eq!(sent.base_offset(), Offset(4), "rule 3: it takes an offset");
    // Its end is in the log, and may not come to be.
    assert_eq!(stable(&partition), (1, 4, 5));
    fixture.wal.release();
    sent.committed().await.unwrap();
    assert_eq!(stable(&partition), (5, 5, 5));
    assert_eq!(aborted(&partition), []);
}

/// Of transactions side by side the first that is open counts, whichever ends first.
#[tokio::test(start_paused = true)]
async fn transactions_side_by_side() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    for producer in [7, 8, 9] {
        commit_verified(&partition, transactional(producer, 0, 0, &[b"x"])).await;
    }
    end(&partition, 8, 0, Abort).await;
    assert_eq!(stable(&partition).0, 0);
    end(&partition, 7, 0, Commit).await;
    assert_eq!(stable(&partition).0, 2);
    end(&partition, 9, 0, Abort).await;
    assert_eq!(stable(&partition), (6, 6, 6));
    assert_eq!(aborted(&partition), [(8, 1, 3), (9, 2, 5)]);
}

/// Rule 7: an aborted transaction is told to whoever reads data of it or its marker; not where compaction has taken the
/// marker away, which it does when no data is left: the consumer would wait for the marker, and skip what comes later.
#[tokio::test(start_paused = true)]
async fn rule_7_an_aborted_transaction_without_its_marker_is_not_listed() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit_verified(&partition, transactional(7, 0, 0, &[b"a"])).await;
    end(&partition, 7, 0, Abort).await;
    commit_verified(&partition, transactional(7, 0, 1, &[b"b"])).await;
    end(&partition, 7, 0, Commit).await;
    let all = partition.read(Offset::ZERO, Offset(4), 1 << 20, true).await.unwrap();
    let all: Vec<_> = all
        .into_iter()
        .flat_map(Batches::new)
        .map(|batch| batch.unwrap().1)
        .collect();
    assert_eq!(all.len(), 4);
    let told = |from: i64, batches: &[Bytes]| partition.aborted_in(Offset(from), batches).len();
    assert_eq!(
        (
            told(0, &all),
            told(0, &all[..1]),
            told(1, &all[1..]),
            told(2, &all[2..])
        ),
        (1, 1, 1, 0)
    );
    assert_eq!((told(0, &all[2..]), told(1, &all[2..])), (0, 0));
}

/// What a partition has below its uploaded end of an aborted transaction of producer 7, and of one of producer 8 whose
/// marker lies behind; then a plain batch.
async fn with_aborted(fixture: &mut Fixture) -> Arc<Partition> {
    let partition = fixture.topic("t").await;
    commit_verified(&partition, transactional(7, 0, 0, &[b"aborted"])).await;
    end(&partition, 7, 0, Abort).await;
    commit_verified(&partition, transactional(8, 0, 0, &[b"aborted later"])).await;
    commit(&partition, batch(&[b"plain"])).await;
    let journal = fixture.journal();
    fixture.upload(journal, Lsn(4), false).await;
    end(&partition, 8, 0, Abort).await;
    partition
}

/// What compaction leaves of it below offset 4: nothing of producer 7 and, whatever it would do, all of producer 8.
async fn cleaned_batches(partition: &Partition) -> Vec<BytesMut> {
    let read = partition.read(Offset::ZERO, Offset(4), 1 << 20, true).await.unwrap();
    let read = read.into_iter().flat_map(Batches::new).map(Result::unwrap);
    let left = read.filter(|(header, _)| header.producer_id != 7);
    left.map(|(_, batch)| BytesMut::from(&batch[..])).collect()
}

/// Reads as a consumer under read_committed does: the producers of the records that it takes for good.
async fn consumed(partition: &Partition, from: i64) -> Vec<i64> {
    let end = partition.last_stable_offset();
    let read = partition.read_committed(Offset(from), end, 1 << 20, true).await;
    let (batches, aborted) = read.unwrap();
    let mut skipped: Vec<_> = aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
    let mut producers = Vec::new();
    for (header, _) in batches.into_iter().flat_map(Batches::new).map(Result::unwrap) {
        let is_skipped = |(id, first): &(i64, Offset)| *id == header.producer_id && *first <= header.base_offset;
        if header.is_control() {
            skipped.retain(|skipped| !is_skipped(skipped));
        } else if !skipped.iter().any(is_skipped) && header.count > 0 {
            producers.push(header.producer_id);
        }
    }
    producers
}

/// A leader forgets the aborted transactions that compaction has left nothing of, or it would take none at some time; what it
/// wrote of them lies in its tail cache still, and is shown to nobody.
#[tokio::test(start_paused = true)]
async fn what_compaction_has_taken_of_aborted_transactions_is_forgotten() {
    let mut fixture = Fixture::start().await;
    let partition = with_aborted(&mut fixture).await;
    assert_eq!(aborted(&partition), [(7, 0, 1), (8, 2, 4)]);
    assert!(partition.tail.has(Offset(0)));
    let cleaned = cleaned_batches(&partition).await;
    fixture.clean(partition.stream(), &cleaned).await;
    while aborted(&partition).len() > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        aborted(&partition),
        [(8, 2, 4)],
        "its marker lies behind the clean part"
    );
    assert!(partition.tail.has(Offset(0)));
    assert!(!partition.has_in_memory(Offset(0), Offset(4)) && partition.has_in_memory(Offset(4), Offset(5)));
    for from in 0..4 {
        assert_eq!(consumed(&partition, from).await, [-1], "from {from}");
    }
    // The same for whoever opens it next.
    let topic = partition.topic();
    fixture.restart().await;
    let partition = fixture.opened(topic, 0).await;
    while aborted(&partition).len() > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(consumed(&partition, 0).await, [-1]);
}

/// A read that has begun on an object that is replaced meanwhile, and what was aborted in it forgotten, isn't answered with it.
#[tokio::test(start_paused = true)]
async fn aborted_records_that_are_forgotten_while_they_are_read_are_not_answered() {
    let mut fixture = Fixture::start().await;
    let partition = with_aborted(&mut fixture).await;
    let (topic, cleaned) = (partition.topic(), cleaned_batches(&partition).await);
    let storage = Arc::new(FaultyStorage::new(fixture.storage.clone()));
    fixture.storage = storage.clone();
    fixture.restart().await;
    let partition = fixture.opened(topic, 0).await;
    let (begun, release) = (storage.begun().len(), CancellationToken::new());
    for operation in [Operation::GetRange, Operation::GetTail] {
        storage.inject(operation, 0, Fault::Held(release.clone()));
    }
    let cleans = async {
        while storage.begun().len() == begun {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fixture.clean(partition.stream(), &cleaned).await;
        while aborted(&partition).len() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        release.cancel();
    };
    let (read, ()) = tokio::join!(consumed(&partition, 0), cleans);
    assert_eq!(read, [-1]);
}

/// KIP-890: a transaction opens only with a guard, and a marker takes guards away: what was delayed until its transaction
/// had ended doesn't open another.
#[tokio::test(start_paused = true)]
async fn a_batch_that_comes_too_late_opens_no_transaction() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let refused = append(&partition, transactional(7, 0, 0, &[b"x"])).await.unwrap_err();
    assert_eq!(error_codes::of_append(&refused), ErrorCode::InvalidTxnState);
    let late = verified(&partition, transactional(7, 0, 0, &[b"late"]));
    assert!(late.guard.is_some());
    end(&partition, 7, 0, Abort).await;
    let refused = partition.append(late).await.unwrap_err();
    assert_eq!(error_codes::of_append(&refused), ErrorCode::InvalidTxnState);
    assert_eq!(stable(&partition), (1, 1, 1));
    commit_verified(&partition, transactional(7, 0, 0, &[b"next"])).await;
    let goes_on = verified(&partition, transactional(7, 0, 1, &[b"more"]));
    assert_eq!(goes_on.guard, None, "nothing to verify any more");
    partition.append(goes_on).await.unwrap().committed().await.unwrap();
    let beside = transactional(7, 0, 2, &[b"beside"]);
    let mut plain = tailwater_kafka::batch::BatchHeader::read(&beside).unwrap();
    plain.attributes = 0;
    let plain = tailwater_kafka::batch::assemble(&plain, &beside[tailwater_kafka::batch::HEADER_BYTES..]);
    let refused = append(&partition, plain).await.unwrap_err();
    assert_eq!(error_codes::of_append(&refused), ErrorCode::InvalidTxnState);
}

/// Rule 14: once a marker of a newer epoch is there, data and markers of the older one are INVALID_PRODUCER_EPOCH, after a
/// restart too; an older coordinator's marker is TRANSACTION_COORDINATOR_FENCED.
#[tokio::test(start_paused = true)]
async fn rule_14_a_fenced_epoch_is_refused() {
    let mut fixture = Fixture::start().await;
    let mut partition = fixture.topic("t").await;
    commit_verified(&partition, transactional(7, 3, 0, &[b"x"])).await;
    end(&partition, 7, 4, Abort).await;
    for restart in [false, true] {
        if restart {
            fixture.restart().await;
            partition = fixture.opened(partition.topic(), 0).await;
        }
        let zombie = verified(&partition, transactional(7, 3, 1, &[b"zombie"]));
        let refused = partition.append(zombie).await.unwrap_err();
        assert_eq!(error_codes::of_append(&refused), ErrorCode::InvalidProducerEpoch);
        let refused = send_marker(&partition, marker(7, 3, Commit)).await.unwrap_err();
        assert_eq!(error_codes::of_append(&refused), ErrorCode::InvalidProducerEpoch);
        let older = TransactionMarker {
            marker: tailwater_kafka::batch::Marker {
                coordinator_epoch: 0,
                end: Commit,
            },
            ..marker(7, 4, Commit)
        };
        let refused = send_marker(&partition, older).await.unwrap_err();
        assert!(matches!(
            refused,
            AppendError::Refused(Refusal::CoordinatorFenced {
                current: 1,
                found: 0,
                ..
            })
        ));
        assert_eq!(
            error_codes::of_append(&refused),
            ErrorCode::TransactionCoordinatorFenced
        );
        assert_eq!(stable(&partition), (2, 2, 2), "nothing was written");
    }
}

/// Rule 13: an open transaction is as durable as the log, whether its data is in an object or behind one: the next leader
/// knows where it began, takes what goes on in it, and its marker.
#[tokio::test(start_paused = true)]
async fn rule_13_open_transactions_survive_a_restart_between_data_and_marker() {
    for uploads in [false, true] {
        let mut fixture = Fixture::start().await;
        let partition = fixture.topic("t").await;
        let topic = partition.topic();
        commit_verified(&partition, transactional(8, 0, 0, &[b"aborted"])).await;
        end(&partition, 8, 0, Abort).await;
        commit_verified(&partition, transactional(7, 0, 0, &[b"a", b"b"])).await;
        if uploads {
            let journal = fixture.journal();
            let all = Lsn(fixture.wal.entries(journal).len() as u64);
            fixture.upload(journal, all, true).await;
        }
        commit(&partition, batch(&[b"plain"])).await;
        fixture.restart().await;
        let partition = fixture.opened(topic, 0).await;
        assert_eq!(stable(&partition), (2, 5, 5), "uploads: {uploads}");
        assert_eq!(aborted(&partition), [(8, 0, 1)]);
        let goes_on = verified(&partition, transactional(7, 0, 2, &[b"c"]));
        assert_eq!(goes_on.guard, None);
        partition.append(goes_on).await.unwrap().committed().await.unwrap();
        end(&partition, 7, 0, Abort).await;
        assert_eq!(stable(&partition), (7, 7, 7));
        fixture.restart().await;
        let partition = fixture.opened(topic, 0).await;
        assert_eq!(stable(&partition), (7, 7, 7));
        assert_eq!(aborted(&partition), [(8, 0, 1), (7, 2, 6)]);
    }
}

/// A marker whose commit nobody heard of is sent again: it takes another offset, and ends nothing.
#[tokio::test(start_paused = true)]
async fn a_marker_may_be_sent_again() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit_verified(&partition, transactional(7, 0, 0, &[b"x"])).await;
    assert_eq!(end(&partition, 7, 0, Commit).await, Offset(1));
    assert_eq!(end(&partition, 7, 0, Commit).await, Offset(2));
    assert_eq!(stable(&partition), (3, 3, 3));
    assert_eq!(
        end(&partition, 99, 5, Abort).await,
        Offset(3),
        "a producer that never wrote here"
    );
    assert_eq!(aborted(&partition), []);
}

/// What lies below the start of the log holds nobody up, and isn't listed.
#[tokio::test(start_paused = true)]
async fn deleted_records_are_stable() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit_verified(&partition, transactional(8, 0, 0, &[b"x"])).await;
    end(&partition, 8, 0, Abort).await;
    commit_verified(&partition, transactional(7, 0, 0, &[b"a", b"b"])).await;
    commit(&partition, batch(&[b"plain"])).await;
    assert_eq!(stable(&partition), (2, 5, 5));
    partition.set_log_start(Offset(4));
    assert_eq!(stable(&partition), (4, 5, 5));
    assert_eq!(aborted(&partition), []);
    end(&partition, 7, 0, Commit).await;
    assert_eq!(stable(&partition), (6, 6, 6));
}

/// Without credit a marker isn't written, and nothing has ended.
#[tokio::test(start_paused = true)]
async fn a_marker_without_credit_ends_nothing() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit_verified(&partition, transactional(7, 0, 0, &[b"x"])).await;
    fixture.wal.hold();
    let large = vec![1; 1 << 20];
    while append(&partition, batch(&[&large])).await.is_ok() {}
    // No more than a marker has.
    while append(&partition, batch(&[b"x"])).await.is_ok() {}
    let end = partition.log_end();
    let refused = send_marker(&partition, marker(7, 0, Commit)).await.unwrap_err();
    assert_eq!(error_codes::of_append(&refused), ErrorCode::RequestTimedOut);
    assert_eq!(partition.log_end(), end);
    assert_eq!(partition.state.lock().log.first_open(), Some(Offset(0)));
}
