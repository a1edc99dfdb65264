//! Partitions of a transaction, and its end in both versions.

use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::txn::effects::Reply;
use crate::txn::state::*;

/// A partition is in the transaction once that is committed, and until its end.
#[test]
fn partitions_are_in_the_transaction_until_its_end() {
    let mut h = Harness::new();
    let first = h.init(None).unwrap();
    assert_eq!(h.verify(first, 0), ErrorCode::TransactionAbortable);
    h.commits_at_once = false;
    let add = h.begin_add(first, 0);
    assert_eq!(h.verify(first, 0), ErrorCode::TransactionAbortable);
    h.commit_next(Ok(()));
    assert_eq!(h.reply(add), Some(Reply::Added(ErrorCode::None)));
    assert_eq!(h.verify(first, 0), ErrorCode::None);
    h.commits_at_once = true;
    assert_eq!(h.add(first, 0), ErrorCode::None);
    assert_eq!(h.log.len(), 2, "what is in it already isn't written again");
    assert_eq!(h.add(first, 1), ErrorCode::None);
    let next = h.end(first, true, 2).unwrap();
    assert_eq!(h.sent[0].partitions, [at(0), at(1)]);
    assert_eq!(h.verify(first, 0), ErrorCode::ProducerFenced);
    assert_eq!(h.verify(next, 0), ErrorCode::TransactionAbortable);
}

/// The first version keeps the epoch; an end may be repeated, and not be turned round.
#[test]
fn ends_of_the_first_version() {
    for (is_commit, phase) in [(true, Phase::CompleteCommit), (false, Phase::CompleteAbort)] {
        let mut h = Harness::new();
        let who = h.init(None).unwrap();
        assert_eq!(
            h.end(who, is_commit, 1),
            Err(ErrorCode::InvalidTxnState),
            "nothing has begun"
        );
        assert_eq!(h.add(who, 0), ErrorCode::None);
        h.marks_at_once = false;
        assert_eq!(h.end(who, is_commit, 1), Ok(who));
        assert_eq!(h.end(who, is_commit, 1), Err(ErrorCode::ConcurrentTransactions));
        assert_eq!(h.end(who, !is_commit, 1), Err(ErrorCode::InvalidTxnState));
        assert_eq!(h.markers[0].producer, who);
        assert_eq!(h.markers[0].is_commit, is_commit);
        h.mark_next(true);
        assert_eq!(h.phase(), phase);
        assert_eq!(h.end(who, is_commit, 1), Ok(who));
        assert_eq!(h.end(who, !is_commit, 1), Err(ErrorCode::InvalidTxnState));
        assert_eq!(
            h.end(producer(who.id, who.epoch + 1), is_commit, 1),
            Err(ErrorCode::ProducerFenced)
        );
    }
}

/// Rule 16: each end of the second version gives a new epoch, the markers' epoch, and gives it again to who missed the
/// answer. Kafka's table of what Empty, CompleteAbort and CompleteCommit make of ends.
#[test]
fn rule_16_ends_of_the_second_version_give_a_new_epoch() {
    let mut h = Harness::new();
    let who = h.init(None).unwrap();
    assert_eq!(h.add(who, 0), ErrorCode::None);
    let next = h.end(who, true, 2).unwrap();
    assert_eq!(next, producer(who.id, who.epoch + 1));
    assert_eq!((h.sent[0].producer, h.sent[0].client_version), (next, 2));

    const ABORT: bool = false;
    const COMMIT: bool = true;
    let bumped = |who: ProducerRef| Ok(producer(who.id, who.epoch + 1));
    type Expected = fn(ProducerRef) -> Result<ProducerRef, ErrorCode>;
    let fenced: Expected = |_| Err(ErrorCode::ProducerFenced);
    let wrong: Expected = |_| Err(ErrorCode::InvalidTxnState);
    let same: Expected = Ok;
    let table: [(Phase, bool, bool, Expected); 12] = [
        // Repeat, then current.
        (Phase::Empty, ABORT, true, fenced),
        (Phase::Empty, ABORT, false, bumped),
        (Phase::Empty, COMMIT, true, fenced),
        (Phase::Empty, COMMIT, false, wrong),
        (Phase::CompleteAbort, ABORT, true, same),
        (Phase::CompleteAbort, ABORT, false, bumped),
        (Phase::CompleteAbort, COMMIT, true, wrong),
        (Phase::CompleteAbort, COMMIT, false, wrong),
        (Phase::CompleteCommit, ABORT, true, wrong),
        (Phase::CompleteCommit, ABORT, false, bumped),
        (Phase::CompleteCommit, COMMIT, true, same),
        (Phase::CompleteCommit, COMMIT, false, wrong),
    ];
    for (phase, is_commit, is_repeat, expected) in table {
        let mut h = Harness::new();
        let first = h.init(None).unwrap();
        let current = match phase {
            Phase::Empty => h.init(None).unwrap(),
            _ => {
                assert_eq!(h.add(first, 0), ErrorCode::None);
                h.end(first, phase == Phase::CompleteCommit, 2).unwrap()
            }
        };
        assert_eq!(h.phase(), phase);
        let asked = if is_repeat {
            producer(current.id, current.epoch - 1)
        } else {
            current
        };
        let answer = h.end(asked, is_commit, 2);
        assert_eq!(
            answer,
            expected(current),
            "{phase:?} commit {is_commit} repeat {is_repeat}"
        );
    }
}

/// While it ends: the repeat comes again later, the other end is wrong, any other epoch is fenced.
#[test]
fn ends_while_it_is_ending() {
    let mut h = Harness::new();
    let who = h.init(None).unwrap();
    assert_eq!(h.add(who, 0), ErrorCode::None);
    h.marks_at_once = false;
    let next = h.end(who, true, 2).unwrap();
    assert_eq!(h.end(who, true, 2), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.end(who, false, 2), Err(ErrorCode::InvalidTxnState));
    assert_eq!(h.init(None), Err(ErrorCode::ConcurrentTransactions));
    // Who was told of the end may have begun the next one, in vain: it comes again, and is not fenced.
    assert_eq!(h.end(next, true, 2), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.end(next, false, 2), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(h.init(Some(next)), Err(ErrorCode::ConcurrentTransactions));
    let other = producer(next.id, next.epoch + 1);
    assert_eq!(h.end(other, false, 2), Err(ErrorCode::ProducerFenced));
    h.mark_next(true);
    assert_eq!(h.end(next, false, 2), Ok(producer(next.id, next.epoch + 1)));
}

/// No marker leaves before the decision is committed, and what is decided is done only when every partition has its marker.
#[test]
fn markers_follow_the_decision() {
    let mut h = Harness::new();
    let who = h.init(None).unwrap();
    assert_eq!((h.add(who, 0), h.add(who, 1)), (ErrorCode::None, ErrorCode::None));
    (h.commits_at_once, h.marks_at_once) = (false, false);
    let end = h.ask(crate::txn::effects::Request::End {
        producer: who,
        is_commit: true,
        with_new_epoch: false,
        new_id: None,
    });
    assert!(h.markers.is_empty() && h.reply(end).is_none());
    assert_eq!(h.end(who, false, 1), Err(ErrorCode::ConcurrentTransactions));
    h.commit_next(Ok(()));
    assert_eq!(h.reply(end), Some(Reply::Producer(Ok(who))));
    h.mark_next(false);
    assert_eq!(h.markers[0].attempt, 1);
    let mut some = h.markers.remove(0);
    some.partitions.pop();
    let marked = crate::txn::effects::Marked {
        id: some.id,
        producer: some.producer,
        partitions: some.partitions,
        attempt: some.attempt,
    };
    let effects = h.shard.marked(marked, h.now);
    assert_eq!(effects.markers[0].partitions, [at(1)]);
    assert_eq!(
        h.describe().unwrap().partitions,
        [at(1)].into(),
        "what has no marker yet"
    );
    assert!(effects.writes.is_empty());
    h.markers = effects.markers;
    h.mark_next(true);
    assert_eq!(h.in_flight.len(), 1);
    h.commit_next(Ok(()));
    assert_eq!(h.phase(), Phase::CompleteCommit);
}

/// Invariant 10: whoever takes over carries on with what was decided, and with nothing that wasn't.
#[test]
fn a_successor_sends_the_markers() {
    for is_commit in [true, false] {
        let mut h = Harness::new();
        let who = h.init(None).unwrap();
        assert_eq!(h.add(who, 0), ErrorCode::None);
        h.marks_at_once = false;
        let next = h.end(who, is_commit, 2).unwrap();
        let decided = h.markers[0].clone();
        h.sent.clear();
        h.marks_at_once = true;
        let mut h = h.restart();
        assert_eq!(h.sent, [decided]);
        assert!(!h.phase().is_ending());
        assert_eq!(h.end(who, is_commit, 2), Ok(next), "and knows the repeat");
        assert_eq!(h.add(next, 0), ErrorCode::None);
        let mut h = h.restart();
        assert_eq!(h.phase(), Phase::Ongoing);
        assert_eq!(h.verify(next, 0), ErrorCode::None);
    }
}

/// What is asked while the last transaction ends waits for it, but not for ever.
#[test]
fn what_comes_early_waits_for_the_end() {
    let mut h = Harness::new();
    let who = h.init(None).unwrap();
    assert_eq!(h.add(who, 0), ErrorCode::None);
    h.marks_at_once = false;
    assert_eq!(h.end(who, true, 1), Ok(who));
    let (add, verify) = (h.begin_add(who, 1), h.begin_verify(who, 1));
    assert_eq!((h.reply(add), h.reply(verify)), (None, None));
    h.mark_next(true);
    assert_eq!(h.reply(add), Some(Reply::Added(ErrorCode::None)));
    assert!(matches!(h.reply(verify), Some(Reply::Verified(Ok(_)))));
    assert_eq!(h.describe().unwrap().partitions, [at(1)].into());

    assert_eq!(h.end(who, true, 1), Ok(who));
    let (add, verify) = (h.begin_add(who, 1), h.begin_verify(who, 1));
    h.pass(Duration::from_millis(999));
    assert_eq!((h.reply(add), h.reply(verify)), (None, None));
    h.pass(Duration::from_millis(1));
    assert_eq!(h.reply(add), Some(Reply::Added(ErrorCode::ConcurrentTransactions)));
    assert_eq!(
        h.reply(verify),
        Some(Reply::Verified(Err(ErrorCode::ConcurrentTransactions)))
    );
}
