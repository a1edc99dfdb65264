//! InitProducerId: who a producer is, and who it was.

use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::txn::effects::{Reply, Request};
use crate::txn::state::*;

/// A new id begins at epoch 0; each further start fences the one before; an id that isn't known is nobody's.
#[test]
fn each_start_fences_the_one_before() {
    let mut h = Harness::new();
    let stranger = producer(7, 0);
    assert_eq!(h.add(stranger, 0), ErrorCode::InvalidProducerIdMapping);
    assert_eq!(h.end(stranger, true, 1), Err(ErrorCode::InvalidProducerIdMapping));
    assert_eq!(h.describe(), Err(ErrorCode::TransactionalIdNotFound));
    let first = h.init(None).unwrap();
    assert_eq!(first.epoch, 0);
    let second = h.init(None).unwrap();
    assert_eq!(second, producer(first.id, 1));
    assert_eq!(h.add(first, 0), ErrorCode::ProducerFenced);
    assert_eq!(h.add(second, 0), ErrorCode::None);
}

/// Rule 14: at the coordinator an old epoch is PRODUCER_FENCED, whatever it asks for, and whoever it says to be.
#[test]
fn rule_14_an_old_epoch_is_fenced_at_the_coordinator() {
    for version in [1, 2] {
        let mut h = Harness::new();
        let zombie = h.init(None).unwrap();
        assert_eq!(h.add(zombie, 0), ErrorCode::None);
        assert_eq!(h.init(None), Err(ErrorCode::ConcurrentTransactions));
        let next = h.init(None).unwrap();
        for _ in 0..2 {
            assert_eq!(h.add(zombie, 0), ErrorCode::ProducerFenced);
            assert_eq!(h.verify(zombie, 0), ErrorCode::ProducerFenced);
            assert_eq!(h.end(zombie, true, version), Err(ErrorCode::ProducerFenced));
            assert_eq!(h.end(zombie, false, version), Err(ErrorCode::ProducerFenced));
            assert_eq!(h.init(Some(zombie)), Err(ErrorCode::ProducerFenced));
            // Nor once its successor is in a transaction, which goes on.
            assert_eq!(h.add(next, 1), ErrorCode::None);
        }
        assert_eq!(h.phase(), Phase::Ongoing);
    }
}

/// Rule 15: an open transaction is aborted first, with CONCURRENT_TRANSACTIONS until its markers are written; the markers
/// have an epoch that the aborted producer never had.
#[test]
fn rule_15_an_open_transaction_is_aborted_first() {
    let mut h = Harness::new();
    let first = h.init(None).unwrap();
    assert_eq!(h.add(first, 0), ErrorCode::None);
    h.marks_at_once = false;
    assert_eq!(h.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.phase(), Phase::PrepareAbort);
    assert_eq!(h.init(None), Err(ErrorCode::ConcurrentTransactions));
    let sent = &h.markers[0];
    assert!(!sent.is_commit && sent.producer.epoch > first.epoch);
    let fenced = sent.producer.epoch;
    h.mark_next(true);
    assert_eq!(h.phase(), Phase::CompleteAbort);
    let second = h.init(None).unwrap();
    assert_eq!(second, producer(first.id, fenced + 1));
}

/// While an answer is on its way nobody else gets one.
#[test]
fn one_change_at_a_time() {
    let mut h = Harness::new();
    h.commits_at_once = false;
    let request = |new_id| Request::Init {
        timeout_ms: 1,
        expected: None,
        new_id,
    };
    let first = h.ask(request(Some(5)));
    assert_eq!(h.reply(first), None, "not before it is committed");
    assert_eq!(h.init(None), Err(ErrorCode::ConcurrentTransactions));
    h.commit_next(Ok(()));
    assert_eq!(h.reply(first), Some(Reply::Producer(Ok(producer(5, 0)))));
}

/// What can't be written is refused, and leaves nothing behind.
#[test]
fn a_failed_write_changes_nothing() {
    let mut h = Harness::new();
    h.commits_at_once = false;
    let init = h.ask(Request::Init {
        timeout_ms: TIMEOUT_MS,
        expected: None,
        new_id: Some(5),
    });
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(
        h.reply(init),
        Some(Reply::Producer(Err(ErrorCode::CoordinatorNotAvailable)))
    );
    assert_eq!(h.describe(), Err(ErrorCode::TransactionalIdNotFound));
    assert_eq!(h.shard.len(), 0);
    h.commits_at_once = true;
    let first = h.init(None).unwrap();
    h.commits_at_once = false;
    let add = h.begin_add(first, 0);
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(h.reply(add), Some(Reply::Added(ErrorCode::CoordinatorNotAvailable)));
    h.commits_at_once = true;
    h.pass(Duration::from_secs(3600));
    assert_eq!(h.phase(), Phase::Empty, "an idle id isn't forgotten for it");
}

/// KIP-360: a producer that knows who it is gets its next epoch, and gets it again if the answer was lost; with any other
/// epoch it is fenced.
#[test]
fn a_producer_that_says_who_it_is() {
    let mut h = Harness::new();
    let first = h.init(Some(producer(77, 3))).unwrap();
    assert_eq!(first.epoch, 0, "nothing is known of it: it gets a new id");
    let second = h.init(Some(first)).unwrap();
    assert_eq!(second, producer(first.id, 1));
    assert_eq!(h.init(Some(first)), Ok(second), "the same again");
    let third = h.init(None).unwrap();
    assert_eq!(third, producer(first.id, 2));
    assert_eq!(
        h.init(Some(second)),
        Err(ErrorCode::ProducerFenced),
        "replaced by somebody"
    );
    assert_eq!(h.init(Some(producer(first.id + 1, 2))), Err(ErrorCode::ProducerFenced));
    assert_eq!(h.add(third, 0), ErrorCode::None);
    assert_eq!(
        h.init(Some(second)),
        Err(ErrorCode::ProducerFenced),
        "a zombie aborts nothing"
    );
    assert_eq!(h.phase(), Phase::Ongoing);
    assert_eq!(h.init(Some(third)), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.phase(), Phase::CompleteAbort);
}

fn exhausted(h: &mut Harness) -> ProducerRef {
    let first = h.init(None).unwrap();
    let mut state = h.describe().unwrap();
    state.epoch = i16::MAX - 1;
    h.log.push((ID.to_owned(), Some(state)));
    *h = std::mem::replace(h, Harness::new()).restart();
    producer(first.id, i16::MAX - 1)
}

/// Without epochs left the producer gets another id at epoch 0, and its repeat the same.
#[test]
fn used_up_epochs_give_a_new_id() {
    let mut h = Harness::new();
    let last = exhausted(&mut h);
    let next = h.init(Some(last)).unwrap();
    assert!(next.id != last.id && next.epoch == 0);
    assert_eq!(h.init(Some(last)), Ok(next));
    let mut h = Harness::new();
    let last = exhausted(&mut h);
    assert_eq!(h.init(Some(producer(last.id, 5))), Err(ErrorCode::ProducerFenced));
    let next = h.init(None).unwrap();
    assert!(next.id != last.id && next.epoch == 0);
}

/// The last epoch of an id can be fenced too: its producer can't take the abort for its own.
#[test]
fn the_last_epoch_can_be_fenced() {
    let mut h = Harness::new();
    let last = exhausted(&mut h);
    assert_eq!(h.add(last, 0), ErrorCode::None);
    assert_eq!(h.init(None), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.sent[0].producer, producer(last.id, i16::MAX));
    assert_eq!(h.end(last, false, 2), Err(ErrorCode::ProducerFenced));
    assert_eq!(h.end(last, true, 2), Err(ErrorCode::ProducerFenced));
    h = h.restart();
    assert_eq!(h.end(last, false, 2), Err(ErrorCode::ProducerFenced));
    let next = h.init(None).unwrap();
    assert!(next.id != last.id && next.epoch == 0);
}

/// KIP-890: an end with used-up epochs gives the next id at once, and again to who missed it; it can be used while the
/// markers with the old one are still on their way.
#[test]
fn an_end_without_epochs_gives_a_new_id() {
    let mut h = Harness::new();
    let last = exhausted(&mut h);
    assert_eq!(h.add(last, 0), ErrorCode::None);
    h.marks_at_once = false;
    let next = h.end(last, true, 2).unwrap();
    assert!(next.id != last.id && next.epoch == 0);
    assert_eq!(h.markers[0].producer, producer(last.id, i16::MAX));
    assert_eq!(h.end(last, true, 2), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.end(next, false, 2), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.init(Some(next)), Err(ErrorCode::ConcurrentTransactions));
    let add = h.begin_add(next, 1);
    assert_eq!(h.reply(add), None, "it waits for the markers");
    h.mark_next(true);
    assert_eq!(h.reply(add), Some(Reply::Added(ErrorCode::None)));
    h.marks_at_once = true;
    let mut h = Harness::new();
    let last = exhausted(&mut h);
    assert_eq!(h.add(last, 0), ErrorCode::None);
    let next = h.end(last, true, 2).unwrap();
    assert_eq!(h.end(last, true, 2), Ok(next));
    assert_eq!(h.end(last, false, 2), Err(ErrorCode::InvalidTxnState));
}
