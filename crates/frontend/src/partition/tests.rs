use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use tailwater_log::Refusal;
use tailwater_types::{JournalId, LeaderEpoch, Lsn};

use super::*;
use crate::config::Config;
use crate::metrics::JournalMetrics;
use crate::session::EXIT_FENCED;
use crate::testing::{Fixture, START_MS, append, batch, commit, idempotent, to_append, values_from};

#[allow(clippy::disallowed_methods, reason = "a test's own task")]
fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}

fn value(number: usize, bytes: usize) -> Vec<u8> {
    format!("{number:08}").into_bytes().repeat(bytes.div_ceil(8))
}

/// Rule 3: offsets are dense, and what is acknowledged is where the batch really lies.
#[tokio::test(start_paused = true)]
async fn rule_3_offsets_are_dense() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let mut next = 0;
    for number in 0..20usize {
        let values: Vec<Vec<u8>> = (0..number % 3 + 1).map(|_| value(number, 16)).collect();
        let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
        assert_eq!(commit(&partition, batch(&values)).await, Offset(next));
        next += values.len() as i64;
        assert_eq!(partition.high_watermark(), Offset(next));
    }
    let read = values_from(&partition, 0).await;
    let offsets: Vec<i64> = read.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (0..next).collect::<Vec<_>>());
}

/// What isn't durable is neither acknowledged nor served.
#[tokio::test(start_paused = true)]
async fn nothing_is_served_before_it_is_committed() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit(&partition, batch(&[b"first"])).await;
    fixture.wal.hold();
    let second = append(&partition, batch(&[b"second"])).await.unwrap();
    assert_eq!(second.base_offset(), Offset(1));
    let committed = spawn(second.committed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!committed.is_finished());
    assert_eq!(
        (partition.high_watermark(), partition.log_end()),
        (Offset(1), Offset(2))
    );
    assert_eq!(values_from(&partition, 0).await.len(), 1);
    fixture.wal.release();
    assert_eq!(committed.await.unwrap().unwrap().base_offset, Offset(1));
    assert_eq!(values_from(&partition, 0).await.len(), 2);
}

/// Rule 12: a repeat of a batch in flight is answered when the first one commits, with the first one's offset; a batch
/// out of turn is refused.
#[tokio::test(start_paused = true)]
async fn rule_12_a_repeat_in_flight_waits_for_the_first() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit(&partition, idempotent(0, 3)).await;
    fixture.wal.hold();
    let first = append(&partition, idempotent(3, 2)).await.unwrap();
    let repeat = append(&partition, idempotent(3, 2)).await.unwrap();
    let third = append(&partition, idempotent(5, 1)).await.unwrap();
    let refused = append(&partition, idempotent(9, 1)).await.unwrap_err();
    assert!(matches!(
        refused,
        AppendError::Refused(Refusal::OutOfOrderSequence { expected: 6, .. })
    ));
    let repeat = spawn(repeat.committed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!repeat.is_finished());
    fixture.wal.release();
    let repeat = repeat.await.unwrap().unwrap();
    assert!(repeat.duplicate);
    assert_eq!(repeat.base_offset, Offset(3));
    assert_eq!(first.committed().await.unwrap().base_offset, Offset(3));
    assert_eq!(third.committed().await.unwrap().base_offset, Offset(5));
    let late = append(&partition, idempotent(0, 3))
        .await
        .unwrap()
        .committed()
        .await
        .unwrap();
    assert_eq!((late.base_offset, late.duplicate), (Offset(0), true));
    assert_eq!(partition.log_end(), Offset(6));
}

/// Without credit an append ends in time with nothing assigned; when there is room again appends go on where they were.
#[tokio::test(start_paused = true)]
async fn an_append_without_credit_assigns_nothing() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit(&partition, batch(&[b"first"])).await;
    fixture.wal.hold();
    let large = value(1, 1 << 20);
    let mut taken = Vec::new();
    let refused = loop {
        match append(&partition, batch(&[&large])).await {
            Ok(appended) => taken.push(appended),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::TimedOut);
    assert!(taken.len() > 4, "the window has room for several");
    assert_eq!(partition.log_end(), Offset(1 + taken.len() as i64));
    fixture.wal.release();
    for appended in taken {
        appended.committed().await.unwrap();
    }
    let end = partition.log_end();
    assert_eq!(commit(&partition, batch(&[b"after"])).await, end);
}

/// A batch that the device never gives credit for is refused at once, however patient its producer: it must not stand
/// before everybody else's.
#[tokio::test(start_paused = true)]
async fn a_batch_that_never_gets_credit_holds_nobody_up() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let fits = value(1, 8_000_000);
    assert_eq!(commit(&partition, batch(&[&fits])).await, Offset(0));
    let begun = tokio::time::Instant::now();
    let large = value(1, 9 << 20);
    let refused = append(&partition, batch(&[&large])).await.unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { bytes } if bytes > 9 << 20));
    assert_eq!(commit(&partition, batch(&[b"after"])).await, Offset(1));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// Appends that wait for room are counted while they do, whether they get it or give up; the gauge comes back to 0, and
/// what waited for long is appended when there is room.
#[tokio::test(start_paused = true)]
async fn appends_that_wait_for_room_are_counted() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let waiting = JournalMetrics::new(&fixture.runtime.metrics).appends_waiting;
    fixture.wal.hold();
    let large = value(1, 1 << 20);
    while append(&partition, batch(&[&large])).await.is_ok() {}
    assert_eq!(waiting.get(), 0, "one has given up");
    let clock = &fixture.runtime.clock;
    let patient = Append {
        deadline: clock.now() + Duration::from_secs(10),
        ..to_append(batch(&[&large]))
    };
    let release = async {
        clock.sleep(Duration::from_secs(5)).await;
        assert_eq!(waiting.get(), 1);
        fixture.wal.release();
    };
    let (appended, ()) = tokio::join!(partition.append(patient), release);
    appended.unwrap().committed().await.unwrap();
    assert_eq!(waiting.get(), 0);
}

/// When the WAL goes away and comes back, what was in flight is sent again: it commits once, in order, at its offsets.
#[tokio::test(start_paused = true)]
async fn what_was_in_flight_survives_a_restart_of_the_wal() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit(&partition, batch(&[b"0"])).await;
    fixture.wal.hold();
    let mut waiting = Vec::new();
    for number in 1..20usize {
        let value = value(number, 100_000);
        waiting.push(append(&partition, batch(&[&value])).await.unwrap());
    }
    fixture.wal.go_away();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let during = append(&partition, batch(&[b"during"])).await.unwrap();
    fixture.wal.come_back();
    fixture.wal.release();
    for (number, appended) in (1..).zip(waiting) {
        assert_eq!(appended.committed().await.unwrap().base_offset, Offset(number));
    }
    assert_eq!(during.committed().await.unwrap().base_offset, Offset(20));
    let read = values_from(&partition, 0).await;
    assert_eq!(read.len(), 21);
    assert_eq!(read[20].1, b"during");
}

/// A WAL that comes back with less room than it had: what is beyond its credit waits, and what is durable is acknowledged
/// meanwhile. The journal goes on, and everything commits in order once there is room.
#[tokio::test(start_paused = true)]
async fn a_wal_that_comes_back_nearly_full_is_waited_for() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit(&partition, batch(&[b"0"])).await;
    let journal = fixture.journal();
    fixture.wal.go_away();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut waiting = VecDeque::new();
    for number in 1..6usize {
        waiting.push_back(append(&partition, batch(&[&value(number, 900_000)])).await.unwrap());
    }
    fixture.wal.fill_up(2_000_000);
    fixture.wal.come_back();
    for number in 1..3 {
        let first = waiting.pop_front().unwrap().committed();
        let first = tokio::time::timeout(Duration::from_secs(60), first).await;
        assert_eq!(first.expect("in time").unwrap().base_offset, Offset(number));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fixture.wal.entries(journal).len(), 3, "no room for more");
    fixture.wal.release();
    for (number, appended) in (3..).zip(waiting) {
        assert_eq!(appended.committed().await.unwrap().base_offset, Offset(number));
    }
    assert_eq!(fixture.journal(), journal);
    assert_eq!(values_from(&partition, 0).await.len(), 6);
}

/// A WAL that refuses to open a journal, as one that is gone, is asked to open another.
#[tokio::test(start_paused = true)]
async fn a_journal_that_is_gone_is_left_for_another() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let journal = fixture.journal();
    let next = JournalId(journal.0 + 1);
    fixture.wal.forget(next);
    let end = fixture.wal.seal_now(journal);
    fixture.controller.set_sealed(journal, end);
    while !partition.has_ended() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let again = fixture.opened(partition.topic(), 0).await;
    assert_eq!(commit(&again, batch(&[b"0"])).await, Offset(0));
    assert_eq!(fixture.journal(), JournalId(journal.0 + 2));
}

/// When its journal is sealed a leadership ends: what is in flight has an unknown outcome, and the partition opens again
/// over a new journal, with everything that was acknowledged.
#[tokio::test(start_paused = true)]
async fn a_sealed_journal_ends_its_leaderships() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    commit(&partition, idempotent(0, 2)).await;
    fixture.wal.hold();
    let lost = append(&partition, idempotent(2, 1)).await.unwrap();
    let journal = fixture.journal();
    let end = fixture.wal.seal_now(journal);
    fixture.controller.set_sealed(journal, end);
    assert_eq!(lost.committed().await, Err(LeadershipEnded));
    fixture.wal.release();
    let again = fixture.opened(partition.topic(), 0).await;
    assert!(partition.has_ended() && !Arc::ptr_eq(&partition, &again));
    assert_eq!(
        append(&partition, idempotent(2, 1)).await.unwrap_err(),
        AppendError::NotLeader
    );
    assert_eq!(again.high_watermark(), Offset(2));
    assert_eq!(commit(&again, idempotent(2, 1)).await, Offset(2));
    assert_eq!(values_from(&again, 0).await.len(), 3);
    assert!(fixture.journal() > journal);
}

/// A node that is told it is fenced asks for the end of the process with exit code 70.
#[tokio::test(start_paused = true)]
async fn a_fenced_node_stops() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    fixture.wal.hold();
    let lost = append(&partition, batch(&[b"x"])).await.unwrap();
    fixture.controller.fence();
    fixture.wal.seal_now(fixture.journal());
    let fatal = fixture.runtime.tasks.fatal().await;
    assert_eq!(fatal.exit_code, EXIT_FENCED);
    assert!(fixture.data.session.fenced().is_cancelled());
    assert_eq!(lost.committed().await, Err(LeadershipEnded));
}

/// Rule 13: after a restart producers' sequences are known, from an object's snapshot and from what lies behind it.
#[tokio::test(start_paused = true)]
async fn rule_13_producer_state_is_as_durable_as_the_log() {
    for uploads in [false, true] {
        let mut fixture = Fixture::start().await;
        let partition = fixture.topic("t").await;
        let topic = partition.topic();
        commit(&partition, idempotent(0, 2)).await;
        if uploads {
            let journal = fixture.journal();
            let end = Lsn(fixture.wal.entries(journal).len() as u64);
            fixture.upload(journal, end, true).await;
        }
        commit(&partition, idempotent(2, 2)).await;
        fixture.restart().await;
        let partition = fixture.opened(topic, 0).await;
        assert_eq!(partition.high_watermark(), Offset(4));
        for sequence in [0, 2] {
            let repeat = append(&partition, idempotent(sequence, 2)).await.unwrap();
            let repeat = repeat.committed().await.unwrap();
            assert_eq!(
                (repeat.base_offset, repeat.duplicate),
                (Offset(i64::from(sequence)), true)
            );
        }
        assert_eq!(commit(&partition, idempotent(4, 1)).await, Offset(4));
    }
}

/// Rule 10: an older epoch is fenced, a newer one unknown; when the owner changes, this node serves the partition no more.
#[tokio::test(start_paused = true)]
async fn rule_10_leader_epochs_are_checked() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let (topic, stream) = (partition.topic(), partition.stream);
    commit(&partition, batch(&[b"x"])).await;
    let journal = fixture.journal();
    let end = fixture.wal.entries(journal).len() as u64;
    fixture.controller.set_sealed(journal, Lsn(end));
    fixture.controller.move_to(stream, 1);
    let mut changes = fixture.data.partitions.changes();
    while !partition.has_ended() {
        changes.changed().await.unwrap();
    }
    let again = fixture.opened(topic, 0).await;
    assert_eq!(again.leader_epoch(), LeaderEpoch(1));
    assert_eq!(again.check_epoch(0), Err(EpochMismatch::Fenced));
    assert_eq!((again.check_epoch(-1), again.check_epoch(1)), (Ok(()), Ok(())));
    assert_eq!(again.check_epoch(2), Err(EpochMismatch::Unknown));
    fixture.controller.move_to(stream, 2);
    while !again.has_ended() {
        changes.changed().await.unwrap();
    }
    let missing = fixture.data.partitions.get(topic, 0).err().unwrap();
    let expected = Missing::NotLeader {
        leader: Some(tailwater_types::NodeId(2)),
        leader_epoch: LeaderEpoch(2),
    };
    assert_eq!(missing, expected);
}

/// A topic that is deleted is gone here too, and a partition or topic that never was is told apart.
#[tokio::test(start_paused = true)]
async fn what_isnt_there_is_named() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let topic = partition.topic();
    let missing = |index| fixture.data.partitions.get(topic, index).err();
    assert_eq!(missing(1), Some(Missing::UnknownPartition));
    fixture.controller.delete_topic_now(topic);
    let mut changes = fixture.data.partitions.changes();
    while !partition.has_ended() {
        changes.changed().await.unwrap();
    }
    assert_eq!(missing(0), Some(Missing::UnknownTopic));
}

/// A leader writes its state down once the tail behind it has grown to 8 MiB.
#[tokio::test(start_paused = true)]
async fn a_long_tail_gets_a_snapshot() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let large = value(1, 1 << 20);
    for _ in 0..9 {
        commit(&partition, batch(&[&large])).await;
    }
    let entries = fixture.wal.entries(fixture.journal());
    let snapshots: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.slices())
        .filter(|(header, _)| header.kind == tailwater_format::entry::SliceKind::Snapshot)
        .map(|(header, bytes)| (header.base, PartitionState::decode_snapshot(bytes).unwrap().end()))
        .collect();
    assert_eq!(snapshots, [(Offset(8), Offset(8))]);
}

/// Rule 8: a timestamp gives the first record at or after it, in objects and behind them, or nothing.
#[tokio::test(start_paused = true)]
async fn rule_8_timestamps_are_found_everywhere() {
    let mut fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let at = |timestamp: i64| {
        let mut builder = tailwater_kafka::batch::BatchBuilder::new();
        builder.push(START_MS + timestamp, None, Some(b"v"), &[]);
        builder.push(START_MS + timestamp + 5, None, Some(b"v"), &[]);
        builder.build()
    };
    for timestamp in [10, 30, 20] {
        commit(&partition, at(timestamp)).await;
    }
    let journal = fixture.journal();
    fixture.upload(journal, Lsn(3), true).await;
    for timestamp in [90, 40] {
        commit(&partition, at(timestamp)).await;
    }
    let end = partition.high_watermark();
    for (wanted, offset) in [
        (0, Some(0)),
        (11, Some(1)),
        (16, Some(2)),
        (36, Some(6)),
        (95, Some(7)),
        (96, None),
    ] {
        let found = partition.offset_for_timestamp(START_MS + wanted, end).await.unwrap();
        assert_eq!(found.map(|found| found.offset.0), offset, "at {wanted}");
    }
    let largest = partition.max_timestamp(end).await.unwrap().unwrap();
    assert_eq!((largest.offset, largest.timestamp_ms), (Offset(7), START_MS + 95));
}

/// Rule 8: the record with the largest timestamp is found among those that are left, whether compaction took the one that had it or
/// DeleteRecords did; of several the first.
#[tokio::test(start_paused = true)]
async fn rule_8_the_largest_timestamp_is_of_a_record_that_is_there() {
    let mut fixture = Fixture::start().await;
    let partition = fixture.topic("t").await;
    let at = |timestamp: i64| {
        let mut builder = tailwater_kafka::batch::BatchBuilder::new();
        builder.push(START_MS + timestamp, None, Some(b"v"), &[]);
        builder.push(START_MS + timestamp - 5, None, Some(b"v"), &[]);
        builder.build()
    };
    for timestamp in [50, 90, 70, 70] {
        commit(&partition, at(timestamp)).await;
    }
    let journal = fixture.journal();
    fixture.upload(journal, Lsn(4), true).await;
    for timestamp in [60, 20] {
        commit(&partition, at(timestamp)).await;
    }
    let end = partition.high_watermark();
    let largest = async || {
        let found = partition.max_timestamp(end).await.unwrap();
        found.map(|found| (found.offset.0, found.timestamp_ms - START_MS))
    };
    assert_eq!(largest().await, Some((2, 90)));
    let read = partition.read(Offset::ZERO, Offset(8), 1 << 20, true).await.unwrap();
    let batches = read
        .into_iter()
        .flat_map(tailwater_kafka::batch::Batches::new)
        .map(Result::unwrap);
    let left = batches.filter(|(header, _)| header.base_offset != Offset(2));
    let left: Vec<_> = left.map(|(_, batch)| bytes::BytesMut::from(&batch[..])).collect();
    fixture.clean(partition.stream(), &left).await;
    // What was known of objects is asked for again.
    tokio::time::sleep(Duration::from_secs(10)).await;
    partition.tail.restart();
    assert_eq!(largest().await, Some((4, 70)));
    for (start, expected) in [
        (5, Some((6, 70))),
        (7, Some((7, 65))),
        (8, Some((8, 60))),
        (9, Some((9, 55))),
        (12, None),
    ] {
        partition.set_log_start(Offset(start));
        assert_eq!(largest().await, expected, "from {start}");
    }
}

/// A partition that nobody uses stays small: a node may have a hundred thousand.
#[test]
fn an_idle_partition_is_small() {
    assert!(size_of::<Partition>() < 1024, "{} bytes", size_of::<Partition>());
}

/// Many appenders and readers at once, on several threads: offsets stay dense, each caller's batches stay in its order, and
/// the journal has each stream's slices in offset order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_appends_keep_every_order() {
    const CALLERS: usize = 8;
    const BATCHES: usize = 100;
    let mut config = Config::default();
    config.cache.tail_bytes = tailwater_runtime::config::ByteSize::kib(32);
    let fixture = Fixture::with(config).await;
    let topic = fixture.controller.add_topic("t", 2, &[]);
    let partitions = [fixture.opened(topic, 0).await, fixture.opened(topic, 1).await];
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let partition = partitions[caller % 2].clone();
        callers.push(spawn(async move {
            for number in 0..BATCHES {
                let value = [value(caller, 8), value(number, 8 + number * 10)].concat();
                let appended = append(&partition, batch(&[&value])).await.unwrap();
                if number % 7 == 0 {
                    let offset = appended.committed().await.unwrap().base_offset;
                    let read = partition.read(offset, partition.high_watermark(), 1, true).await;
                    assert_eq!(read.unwrap().len(), 1);
                }
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    for partition in &partitions {
        let end = partition.log_end();
        while partition.high_watermark() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let read = values_from(partition, 0).await;
        assert_eq!(read.len(), CALLERS / 2 * BATCHES);
        let mut next = [0; CALLERS];
        for (_, value) in read {
            let number = |at: usize| {
                std::str::from_utf8(&value[at..at + 8])
                    .unwrap()
                    .parse::<usize>()
                    .unwrap()
            };
            let (caller, number) = (number(0), number(8));
            assert_eq!(number, next[caller], "caller {caller}");
            next[caller] += 1;
        }
        let mut next = Offset::ZERO;
        let entries = fixture.wal.entries(fixture.journal());
        let slices = entries.iter().flat_map(|entry| entry.slices());
        for (header, _) in slices.filter(|(header, _)| header.stream == partition.stream) {
            assert_eq!(header.base, next);
            next = header.end;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        partition: usize,
        values: usize,
        bytes: usize,
    },
    Upload {
        trims: bool,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..3usize, 1..4usize, 1..3000usize);
    let append = append.prop_map(|(partition, values, bytes)| Step::Append {
        partition,
        values,
        bytes,
    });
    let step = prop_oneof![
        12 => append,
        2 => any::<bool>().prop_map(|trims| Step::Upload { trims }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is appended, uploaded, trimmed and restarted: every offset of every partition reads back as it was, across
    /// the borders between objects, journals and the tail cache.
    #[test]
    fn every_offset_reads_back(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(read_back(steps));
    }
}

async fn read_back(steps: Vec<Step>) {
    let mut config = Config::default();
    // So small that most reads go further.
    config.cache.tail_bytes = tailwater_runtime::config::ByteSize::kib(8);
    let mut fixture = Fixture::with(config).await;
    let topic = fixture.controller.add_topic("t", 3, &[]);
    let mut written: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 3];
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append {
                partition,
                values,
                bytes,
            } => {
                let led = fixture.opened(topic, partition as i32).await;
                let values = vec![value(number, bytes); values];
                let slices: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
                let base = commit(&led, batch(&slices)).await;
                assert_eq!(base.0, written[partition].len() as i64);
                written[partition].extend(values);
            }
            Step::Upload { trims } => {
                for journal in fixture.wal.journals() {
                    let end = Lsn(fixture.wal.entries(journal).len() as u64);
                    fixture.upload(journal, end, trims).await;
                }
            }
            Step::Restart => fixture.restart().await,
        }
    }
    for (index, expected) in written.iter().enumerate() {
        let partition = fixture.opened(topic, index as i32).await;
        assert_eq!(partition.high_watermark().0, expected.len() as i64);
        for from in 0..expected.len() {
            let read = values_from(&partition, from as i64).await;
            for (offset, value) in read {
                assert!(
                    value == expected[offset as usize],
                    "offset {offset} of partition {index}"
                );
            }
        }
    }
}
