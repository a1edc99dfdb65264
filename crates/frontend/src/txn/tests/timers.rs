//! What happens by itself: transactions that run too long, ids that nobody uses.

use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::txn::effects::Marked;
use crate::txn::state::*;

const TIMEOUT: Duration = Duration::from_millis(TIMEOUT_MS as u64);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A transaction that runs longer than its producer said is aborted, and the producer fenced, whichever version it has.
#[test]
fn a_transaction_that_runs_too_long_is_aborted() {
    for version in [1, 2] {
        let mut h = Harness::new();
        let who = h.init(None).unwrap();
        h.pass(Duration::from_secs(40));
        assert_eq!(h.add(who, 0), ErrorCode::None);
        h.pass(Duration::from_secs(40));
        assert_eq!(h.add(who, 1), ErrorCode::None, "another partition gives no more time");
        h.pass(Duration::from_millis(19_999));
        assert_eq!(h.phase(), Phase::Ongoing);
        h.pass(Duration::from_millis(1));
        assert_eq!(h.phase(), Phase::CompleteAbort);
        let sent = &h.sent[0];
        assert!(
            !sent.is_commit && sent.producer.epoch > who.epoch,
            "no batch of its own comes behind"
        );
        assert_eq!(sent.partitions, [at(0), at(1)]);
        let fenced = sent.producer;
        let (commit, abort) = (h.end(who, true, version), h.end(who, false, version));
        match version {
            1 => assert_eq!(
                (commit, abort),
                (Err(ErrorCode::ProducerFenced), Err(ErrorCode::ProducerFenced))
            ),
            // It may go on behind its abort, as that has happened.
            _ => assert_eq!((commit, abort), (Err(ErrorCode::InvalidTxnState), Ok(fenced))),
        }
        assert!(h.init(None).unwrap().epoch > fenced.epoch);
        assert_eq!(h.end(who, false, version), Err(ErrorCode::ProducerFenced));
    }
}

/// The time that a transaction has run before its coordinator moved counts.
#[test]
fn time_runs_across_coordinators() {
    let mut h = Harness::new();
    let who = h.init(None).unwrap();
    assert_eq!(h.add(who, 0), ErrorCode::None);
    h.pass(TIMEOUT - Duration::from_secs(10));
    let mut h = h.restart();
    h.pass(Duration::from_secs(9));
    assert_eq!(h.phase(), Phase::Ongoing);
    h.pass(Duration::from_secs(1));
    assert_eq!(h.phase(), Phase::CompleteAbort);
}

/// An abort that can't be written now is tried again, and so is the record that an end is complete.
#[test]
fn what_cannot_be_written_is_tried_again() {
    let mut h = Harness::new();
    let who = h.init(None).unwrap();
    assert_eq!(h.add(who, 0), ErrorCode::None);
    h.commits_at_once = false;
    h.pass(TIMEOUT);
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert!(h.in_flight.is_empty() && h.sent.is_empty());
    h.pass(Duration::from_secs(1));
    h.commit_next(Ok(()));
    assert_eq!(h.sent.len(), 1);
    h.commit_next(Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(h.phase(), Phase::PrepareAbort);
    h.pass(Duration::from_secs(1));
    h.commit_next(Ok(()));
    assert_eq!((h.phase(), h.sent.len()), (Phase::CompleteAbort, 1));
}

/// An id that nobody used for seven days is forgotten, whatever it did last; one in a transaction never is.
#[test]
fn idle_ids_are_forgotten() {
    for does in [
        |_: &mut Harness, _| (),
        |h: &mut Harness, who| {
            assert_eq!(h.add(who, 0), ErrorCode::None);
            h.end(who, true, 1).unwrap();
        },
    ] {
        let mut h = Harness::new();
        let who = h.init(None).unwrap();
        h.pass(6 * DAY);
        assert_eq!(h.init(Some(who)), Ok(producer(who.id, 1)));
        does(&mut h, producer(who.id, 1));
        h.pass(6 * DAY);
        let mut h = h.restart();
        h.pass(DAY - Duration::from_millis(1));
        assert!(h.describe().is_ok());
        h.pass(Duration::from_millis(1));
        assert_eq!(h.describe(), Err(ErrorCode::TransactionalIdNotFound));
        assert_eq!((h.shard.len(), h.shard.next_wake()), (0, None));
        assert_eq!(h.log.last(), Some(&(ID.to_owned(), None)));
        let mut h = h.restart();
        assert_eq!(h.describe(), Err(ErrorCode::TransactionalIdNotFound));
        assert!(h.init(None).unwrap().id != who.id);
    }
}

/// An id that is busy and idle in turn, for a long time, leaves no trace of each turn in memory.
#[test]
fn times_that_no_longer_count_are_forgotten() {
    let mut h = Harness::new();
    let mut who = h.init(None).unwrap();
    for _ in 0..500 {
        assert_eq!(h.add(who, 0), ErrorCode::None);
        h.pass(Duration::from_secs(1));
        who = h.end(who, true, 2).unwrap();
        // Past the time at which the ended transaction would have run too long: the id is looked at, and is idle.
        h.pass(TIMEOUT);
    }
    assert!(h.shard.kept_wakes() < 100, "{} times are kept", h.shard.kept_wakes());
}

/// What is open and what is ending is known at any time, with when the oldest began or was decided; also to a successor.
#[test]
fn what_runs_is_known_with_its_age() {
    let mut h = Harness::new();
    let who = h.init(None).unwrap();
    let running = |h: &Harness| {
        let now = h.shard.running();
        (
            now.open.count,
            now.open.oldest_ms,
            now.ending.count,
            now.ending.oldest_ms,
        )
    };
    assert_eq!(running(&h), (0, None, 0, None));
    assert_eq!(h.add(who, 0), ErrorCode::None);
    let begun = h.now.wall_ms;
    h.pass(Duration::from_secs(5));
    assert_eq!(h.add(who, 1), ErrorCode::None);
    assert_eq!(running(&h), (1, Some(begun), 0, None));
    h.marks_at_once = false;
    h.pass(Duration::from_secs(5));
    assert!(h.end(who, true, 2).is_ok());
    let decided = h.now.wall_ms;
    h.pass(Duration::from_secs(5));
    assert_eq!(running(&h), (0, None, 1, Some(decided)));
    let mut h = h.restart();
    assert_eq!(running(&h), (0, None, 1, Some(decided)));
    h.mark_next(true);
    assert_eq!(running(&h), (0, None, 0, None));
}

/// While so many transactions wait for leaders that are away no further one begins; what is open goes on, and ends.
#[test]
fn decided_transactions_are_bounded() {
    let mut h = Harness::new();
    h.marks_at_once = false;
    let open = h.init(None).unwrap();
    assert_eq!(h.add(open, 0), ErrorCode::None);
    let id = |number: usize| format!("ending{number}");
    let decided = |number: usize| Transaction {
        phase: Phase::PrepareCommit,
        partitions: [at(0)].into(),
        ..Transaction::new(1_000_000 + number as i64, 0)
    };
    let most = crate::txn::shard::MOST_ENDING;
    for number in 0..most {
        h.shard.replay(id(number), Some(decided(number)));
    }
    assert_eq!(h.add(open, 1), ErrorCode::None, "it is open");
    assert!(h.end(open, true, 1).is_ok());
    h.mark_next(true);
    assert_eq!(h.add(open, 0), ErrorCode::ConcurrentTransactions);
    let marked = Marked {
        id: id(0),
        producer: decided(0).producer(),
        partitions: vec![at(0)],
        attempt: 0,
    };
    for write in h.shard.marked(marked, h.now).writes {
        h.shard.written(write, Ok(()), h.now);
    }
    assert_eq!(h.add(open, 0), ErrorCode::None);
}
