use tailwater_format::entry::SliceKind;
use tailwater_rpc::controller::ClosedAt;
use tailwater_types::{LeaderEpoch, NodeId, Offset};

use super::super::{Append, Missing};
use super::*;
use crate::data::Data;
use crate::testing::{Fixture, append, batch, commit, idempotent, opened_at, to_append, values_from};

const SECOND: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods, reason = "a test's own task")]
fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}

/// Waits until this leadership is over at this node; answers what has come of the partition, if it isn't open again.
async fn gone_from(data: &Data, partition: &Arc<Partition>) -> Option<Missing> {
    let mut changes = data.partitions.changes();
    loop {
        changes.borrow_and_update();
        match data.partitions.get(partition.topic(), partition.index()) {
            Ok(open) if Arc::ptr_eq(&open, partition) => {}
            other => return other.err(),
        }
        changes.changed().await.expect("the registry lives");
    }
}

async fn close(data: &Data, partition: &Arc<Partition>) {
    close_by(data, partition, 10 * SECOND).await;
}

async fn close_by(data: &Data, partition: &Arc<Partition>, within: Duration) {
    let deadline = tokio::time::Instant::now() + within;
    data.partitions.close(std::slice::from_ref(partition), deadline).await;
}

/// A partition that is given away has everything at its next leader, producers' sequences too, and its snapshot is in the
/// journal; the one before names the new leader, and what it left open is sealed.
#[tokio::test(start_paused = true)]
async fn a_partition_is_handed_over_whole() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let second = fixture.another(2).await;
    commit(&partition, batch(&[b"one", b"two"])).await;
    commit(&partition, idempotent(0, 3)).await;
    let journal = partition.journal.id();
    assert!(fixture.data.hand_over().await);
    let moved = opened_at(&second, partition.topic(), 0).await;
    assert_eq!(moved.leader_epoch(), LeaderEpoch(1));
    assert_eq!((moved.log_end(), moved.high_watermark()), (Offset(5), Offset(5)));
    assert_eq!(values_from(&moved, 0).await.len(), 5);
    let repeat = append(&moved, idempotent(0, 3))
        .await
        .unwrap()
        .committed()
        .await
        .unwrap();
    assert_eq!((repeat.base_offset, repeat.duplicate), (Offset(2), true));
    assert_eq!(commit(&moved, idempotent(3, 1)).await, Offset(5));
    let missing = gone_from(&fixture.data, &partition).await;
    let leader_epoch = LeaderEpoch(1);
    assert_eq!(
        missing,
        Some(Missing::NotLeader {
            leader: Some(NodeId(2)),
            leader_epoch
        })
    );
    let ended = ClosedAt {
        leader_epoch: LeaderEpoch(0),
        end: Offset(5),
    };
    assert_eq!(fixture.controller.ended(partition.stream), Some(ended));
    let entries = fixture.wal.entries(journal);
    let last = entries.last().unwrap().header().slices.last().unwrap();
    assert_eq!((last.kind, last.end), (SliceKind::Snapshot, Offset(5)));
}

/// What is in flight when a partition is given away is committed first, acknowledged where it was sent, and not lost; what
/// comes meanwhile waits until the new leader is known, and is told of it.
#[tokio::test(start_paused = true)]
async fn appends_in_flight_are_waited_for() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let second = fixture.another(2).await;
    fixture.wal.hold();
    let in_flight = append(&partition, batch(&[b"in flight"])).await.unwrap();
    let closing = spawn({
        let (partitions, partition) = (fixture.data.partitions.clone(), partition.clone());
        async move {
            let deadline = tokio::time::Instant::now() + 10 * SECOND;
            partitions.close(&[partition], deadline).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(partition.is_closing() && fixture.controller.closes() == 0);
    let late = spawn({
        let partition = partition.clone();
        async move { append(&partition, batch(&[b"late"])).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!late.is_finished());
    fixture.wal.release();
    assert_eq!(in_flight.committed().await.unwrap().base_offset, Offset(0));
    closing.await.unwrap();
    assert_eq!(late.await.unwrap().unwrap_err(), AppendError::NotLeader);
    assert!(partition.has_ended(), "the metadata told of the new leader");
    let moved = opened_at(&second, partition.topic(), 0).await;
    assert_eq!(values_from(&moved, 0).await, [(0, b"in flight".to_vec())]);
}

/// A batch waits for the new leader for a moment only, and no longer than its own deadline.
#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_a_moment_only() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    assert!(partition.stop_intake());
    let began = tokio::time::Instant::now();
    let refused = append(&partition, batch(&[b"late"])).await.unwrap_err();
    assert_eq!((refused, began.elapsed()), (AppendError::NotLeader, MOVED_WAIT));
    // Counted from when it ceased to take batches: many partitions of one request don't add up.
    append(&partition, batch(&[b"later"])).await.unwrap_err();
    assert_eq!(began.elapsed(), MOVED_WAIT);
    partition.resume();
    assert_eq!(commit(&partition, batch(&[b"again"])).await, Offset(0));
}

/// A partition that goes there and back is whole each time, over journals that all stay open.
#[tokio::test(start_paused = true)]
async fn a_partition_comes_back_over_the_same_journal() {
    let fixture = Fixture::start().await;
    let second = fixture.another(2).await;
    let first = fixture.topic("t").await;
    let topic = first.topic();
    let mut led = first.clone();
    let mut expected = Vec::new();
    for turn in 0..6i64 {
        for number in 0..3 {
            let value = format!("{turn}/{number}").into_bytes();
            let offset = commit(&led, batch(&[&value])).await;
            expected.push((offset.0, value));
        }
        assert_eq!(values_from(&led, 0).await, expected);
        let (here, there) = if turn % 2 == 0 {
            (&fixture.data, &second)
        } else {
            (&second, &fixture.data)
        };
        close(here, &led).await;
        gone_from(here, &led).await;
        led = opened_at(there, topic, 0).await;
        assert_eq!(led.leader_epoch(), LeaderEpoch(turn as i32 + 1));
    }
    assert_eq!(values_from(&led, 0).await, expected);
    assert_eq!(fixture.wal.journals().len(), 2);
}

/// While it isn't known whether the controller took a close, the leadership takes nothing; it is asked until it says so.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let second = fixture.another(2).await;
    commit(&partition, batch(&[b"one"])).await;
    fixture.controller.lose_answers(true);
    let closing = spawn({
        let (partitions, partition) = (fixture.data.partitions.clone(), partition.clone());
        async move {
            partitions
                .close(&[partition], tokio::time::Instant::now() + SECOND)
                .await
        }
    });
    tokio::time::sleep(5 * SECOND).await;
    assert!(!closing.is_finished() && fixture.controller.closes() > 3);
    assert_eq!(
        append(&partition, batch(&[b"two"])).await.unwrap_err(),
        AppendError::NotLeader
    );
    fixture.controller.lose_answers(false);
    closing.await.unwrap();
    let moved = opened_at(&second, partition.topic(), 0).await;
    assert_eq!(values_from(&moved, 0).await, [(0, b"one".to_vec())]);
}

/// A leadership of which the controller knows nothing goes on when it can't be given away in time.
#[tokio::test(start_paused = true)]
async fn what_cant_be_given_away_goes_on() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let _second = fixture.another(2).await;
    commit(&partition, batch(&[b"one"])).await;
    fixture.controller.close_nothing(true);
    let deadline = tokio::time::Instant::now() + SECOND;
    let waits = append(&partition, batch(&[b"two"]));
    let closing = fixture
        .data
        .partitions
        .close(std::slice::from_ref(&partition), deadline);
    let ((), waited) = tokio::join!(closing, waits);
    // Whether it came before or after, it was appended or refused, and the next one is taken.
    drop(waited);
    assert!(!partition.is_closing() && !partition.has_ended());
    commit(&partition, batch(&[b"three"])).await;
    assert_eq!(fixture.controller.leader(partition.stream), Some(NodeId(1)));
    // Nor one whose appends don't come to an end.
    fixture.wal.hold();
    let held = append(&partition, batch(&[b"four"])).await.unwrap();
    close_by(&fixture.data, &partition, SECOND).await;
    assert!(!partition.is_closing());
    fixture.wal.release();
    held.committed().await.unwrap();
}

/// A log that doesn't end where the leadership before has closed it isn't served.
#[tokio::test(start_paused = true)]
async fn a_wrong_end_is_not_served() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let second = fixture.another(2).await;
    commit(&partition, batch(&[b"one"])).await;
    close(&fixture.data, &partition).await;
    let leader_epoch = LeaderEpoch(0);
    for (end, served) in [(0, false), (2, false), (1, true)] {
        fixture.controller.set_ended(
            partition.stream,
            ClosedAt {
                leader_epoch,
                end: Offset(end),
            },
        );
        fixture.controller.move_to(partition.stream, 2);
        tokio::time::sleep(30 * SECOND).await;
        assert_eq!(second.partitions.get(partition.topic(), 0).is_ok(), served, "{end}");
    }
    // What the new leadership has written itself is no contradiction when it is opened again over another journal.
    let moved = opened_at(&second, partition.topic(), 0).await;
    commit(&moved, batch(&[b"two"])).await;
    fixture
        .controller
        .set_sealed(moved.journal.id(), fixture.wal.seal_now(moved.journal.id()));
    gone_from(&second, &moved).await;
    let again = opened_at(&second, partition.topic(), 0).await;
    assert_eq!(
        (again.leader_epoch(), again.log_end()),
        (moved.leader_epoch(), Offset(2))
    );
}

/// A frontend that leaves gives everything away, however much there is, and ends with nothing; alone it waits for nobody.
#[tokio::test(start_paused = true)]
async fn a_frontend_leaves_with_nothing() {
    let fixture = Fixture::start().await;
    let topic = fixture.controller.add_topic("large", 600, &[]);
    for index in 0..600 {
        let partition = fixture.opened(topic, index).await;
        if index % 50 == 0 {
            commit(&partition, batch(&[b"one"])).await;
        }
    }
    let second = fixture.another(2).await;
    assert!(fixture.data.hand_over().await);
    for index in 0..600 {
        let moved = opened_at(&second, topic, index).await;
        assert_eq!(moved.log_end(), Offset(i64::from(index % 50 == 0)));
    }
    assert_eq!(fixture.data.partitions.count(), 0);
    let began = tokio::time::Instant::now();
    assert!(!second.hand_over().await, "nobody is there to take them");
    assert_eq!((began.elapsed(), second.partitions.count()), (Duration::ZERO, 600));
}

/// A frontend that can't give everything away in time leaves all the same.
#[tokio::test(start_paused = true)]
async fn a_frontend_leaves_in_time() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let _second = fixture.another(2).await;
    fixture.wal.hold();
    let held = append(&partition, batch(&[b"held"])).await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(fixture.data.hand_over().await);
    let timeout = fixture.data.config.node.drain_timeout.as_duration();
    assert!(
        (timeout..timeout + SECOND).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    drop(held);
}

/// A batch that waits for credit when its partition is given away isn't appended afterwards.
#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_for_room_is_not_appended_late() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let _second = fixture.another(2).await;
    fixture.wal.hold();
    let large = vec![7; 1 << 20];
    let mut taken = Vec::new();
    while let Ok(appended) = append(&partition, batch(&[&large])).await {
        taken.push(appended);
    }
    let waiting = spawn({
        let partition = partition.clone();
        let patient = Append {
            deadline: tokio::time::Instant::now() + 60 * SECOND,
            ..to_append(batch(&[&large]))
        };
        async move { partition.append(patient).await.map(drop) }
    });
    tokio::time::sleep(SECOND).await;
    let release = async {
        tokio::time::sleep(SECOND).await;
        fixture.wal.release();
    };
    tokio::join!(close(&fixture.data, &partition), release);
    assert_eq!(waiting.await.unwrap(), Err(AppendError::NotLeader));
    assert_eq!(
        fixture.controller.ended(partition.stream).unwrap().end,
        Offset(taken.len() as i64)
    );
}

/// What the controller asks for moves whole, and nothing else does: this node's journal goes on. Another epoch of the same
/// stream is none of what was asked for.
#[tokio::test(start_paused = true)]
async fn what_the_controller_asks_for_is_given_away() {
    let fixture = Fixture::start().await;
    let (stays, moves) = (fixture.topic("stays").await, fixture.topic("moves").await);
    let second = fixture.another(2).await;
    commit(&moves, batch(&[b"one", b"two"])).await;
    let journal = fixture.data.partitions.all()[0].journal.id();
    fixture
        .controller
        .ask(&[(moves.stream, LeaderEpoch(0)), (stays.stream, LeaderEpoch(7))]);
    let moved = opened_at(&second, moves.topic(), 0).await;
    assert_eq!((moved.leader_epoch(), moved.log_end()), (LeaderEpoch(1), Offset(2)));
    assert_eq!(commit(&moved, batch(&[b"three"])).await, Offset(2));
    assert_eq!(values_from(&moved, 0).await.len(), 3);
    // It is told again with each heartbeat, to both of them.
    fixture.data.runtime.clock.sleep(30 * SECOND).await;
    assert_eq!(commit(&stays, batch(&[b"here"])).await, Offset(0));
    assert_eq!(commit(&moved, batch(&[b"there"])).await, Offset(3));
    assert_eq!((stays.journal.id(), fixture.controller.closes()), (journal, 1));
}

/// While nothing becomes durable, what is asked for isn't begun, and nobody is refused for it; it moves with the next request
/// once that is over.
#[tokio::test(start_paused = true)]
async fn what_can_t_be_given_away_goes_on() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let second = fixture.another(2).await;
    fixture.wal.hold();
    let held = append(&partition, batch(&[b"one"])).await.unwrap();
    fixture.controller.ask(&[(partition.stream, LeaderEpoch(0))]);
    fixture.data.runtime.clock.sleep(SECOND).await;
    let taken = append(&partition, batch(&[b"two"])).await.unwrap();
    fixture.data.runtime.clock.sleep(10 * SECOND).await;
    assert!(!partition.is_closing());
    fixture.controller.ask(&[]);
    assert_eq!(fixture.controller.closes(), 0);
    fixture.wal.release();
    held.committed().await.unwrap();
    assert_eq!(taken.committed().await.unwrap().base_offset, Offset(1));
    fixture.controller.ask(&[(partition.stream, LeaderEpoch(0))]);
    let moved = opened_at(&second, partition.topic(), 0).await;
    assert_eq!(values_from(&moved, 0).await.len(), 2);
}
