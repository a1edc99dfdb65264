//! Whole passes over a cluster in memory, with failures on order.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use tailwater_format::object::{DataBlock, Tail, decode_tail};
use tailwater_kafka::batch::{BatchBuilder, BatchHeader, Batches, HEADER_BYTES};
use tailwater_kafka::record::records;
use tailwater_rpc::Error;
use tailwater_rpc::controller::Work;
use tailwater_runtime::config::{ByteSize, Millis};
use tailwater_store::ObjectStorage as _;
use tailwater_types::{Offset, OffsetRange, StreamId, TaskId};

use crate::Config;
use crate::testing::{Call, Cluster, When};

mod crash_points;

const STREAM: StreamId = StreamId(7);
/// Of the history that most tests have: as many objects as it takes for its second group's first to be the next.
const PUTS_OF_FIRST_GROUP: usize = 1;

fn config() -> Config {
    Config {
        trigger_age: Millis(300),
        clean_object_bytes: ByteSize(4_000),
        clean_keys_bytes: ByteSize::mib(1),
        ..Config::default()
    }
}

fn batch(records: &[(u32, u32)]) -> BytesMut {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        builder.push(1_000, Some(&key.to_be_bytes()), Some(&value.to_be_bytes()), &[]);
    }
    builder.build()
}

/// Appends and uploads one object after the other, each with a batch for each of the slices.
async fn upload(cluster: &Cluster, objects: &[Vec<Vec<(u32, u32)>>]) {
    for object in objects {
        for records in object {
            // Another stream shares the object.
            cluster.append_batches(1, 0, vec![(STREAM.0, batch(records)), (9, batch(&[(1, 1)]))]);
        }
        cluster.until_all_uploaded().await;
    }
}

/// Has the stream cleaned from `first_dirty` on; answers whether it was.
async fn clean(cluster: &Cluster, first_dirty: i64) -> bool {
    let (end, before) = {
        let state = cluster.state.lock();
        (state.streams[&STREAM].uploaded, state.cleaned.len())
    };
    cluster.state.lock().cleaning = Some(Work::Clean {
        stream: STREAM,
        range: OffsetRange::new(Offset::ZERO, end),
        first_dirty: Offset(first_dirty),
        delete_retention: Duration::from_secs(60),
    });
    cluster
        .until("the cleaning is given back", |state| state.cleaned.len() > before)
        .await;
    *cluster.state.lock().cleaned.last().unwrap()
}

/// Offset, key and value of everything that is found in objects; ranges follow one another and end with a batch.
async fn found(cluster: &Cluster) -> BTreeMap<i64, (u32, u32)> {
    let (slices, uploaded) = {
        let state = cluster.state.lock();
        (state.slices[&STREAM].clone(), state.streams[&STREAM].uploaded)
    };
    let (mut at, mut found) = (Offset::ZERO, BTreeMap::new());
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    for slice in slices.values() {
        assert_eq!(slice.range.start, at, "no hole between objects");
        let tail = cluster.storage.get_tail(&slice.key, slice.size_bytes).await.unwrap();
        let Ok(Tail::Index(index)) = decode_tail(&tail.bytes, slice.size_bytes) else {
            panic!("no index")
        };
        let mut end = at;
        for row in index.stream(STREAM) {
            let start = row.position as usize;
            let block = tail.bytes.slice(start..start + row.size_bytes as usize);
            let block = DataBlock::decode(&block, row).unwrap();
            for (header, batch) in Batches::new(block.body).map(Result::unwrap) {
                if !slice.range.contains(header.base_offset) {
                    continue;
                }
                end = header.end_offset();
                if header.is_control() {
                    continue;
                }
                for record in records(&batch[HEADER_BYTES..]).map(Result::unwrap) {
                    let offset = header.base_offset.0 + i64::from(record.offset_delta);
                    found.insert(offset, (number(record.key.unwrap()), number(record.value.unwrap())));
                }
            }
        }
        assert_eq!(end, slice.range.end, "the last offset has a batch");
        at = slice.range.end;
    }
    assert_eq!(at, uploaded);
    found
}

/// The newest record of each key, by its offset.
fn newest(objects: &[Vec<Vec<(u32, u32)>>]) -> BTreeMap<i64, (u32, u32)> {
    let all = objects.iter().flatten().flatten().enumerate();
    let by_key: BTreeMap<u32, (i64, u32)> = all
        .map(|(offset, (key, value))| (*key, (offset as i64, *value)))
        .collect();
    by_key
        .into_iter()
        .map(|(key, (offset, value))| (offset, (key, value)))
        .collect()
}

/// So many objects of two batches each, whose keys come again and again.
fn history(objects: u32) -> Vec<Vec<Vec<(u32, u32)>>> {
    let records = |object: u32, batch: u32| {
        (0..90)
            .map(|at| ((at * 7 + object + batch) % 200, object * 1_000 + at))
            .collect()
    };
    (0..objects)
        .map(|object| vec![records(object, 0), records(object, 1)])
        .collect()
}

/// A pass leaves each key's newest record at its offset, over many objects and groups; the snapshot stays exact at the
/// uploaded end, the other stream's records stay where they are, and what is uploaded later is cleaned by the next pass.
#[tokio::test(start_paused = true)]
async fn a_pass_leaves_the_newest_of_each_key() {
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    let mut objects = history(40);
    upload(&cluster, &objects).await;
    assert!(clean(&cluster, 0).await);
    assert_eq!(found(&cluster).await, newest(&objects));
    let first_end = cluster.uploaded(STREAM.0);
    {
        let state = cluster.state.lock();
        let slices = &state.slices[&STREAM];
        assert!((2..10).contains(&slices.len()), "{} objects", slices.len());
        let last = slices.values().last().unwrap();
        assert_eq!(state.streams[&STREAM].snapshot.as_ref().unwrap().object, last.object);
        assert_eq!(state.slices[&StreamId(9)].len(), 40);
    }
    let more = history(3);
    upload(&cluster, &more).await;
    objects.extend(more);
    assert!(clean(&cluster, first_end).await);
    assert_eq!(found(&cluster).await, newest(&objects));
    assert!(cluster.metric("tailwater_cleanings_total{result=\"done\"} 2"));
    compactor.shutdown().await;
}

/// A stream that is mostly clean costs reads, not writes: what nothing changes of stays where it is, and of what is written the
/// small ones are joined.
#[tokio::test(start_paused = true)]
async fn clean_objects_stay_where_they_are() {
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    let ids = |cluster: &Cluster| -> Vec<_> {
        let state = cluster.state.lock();
        state.slices[&STREAM].values().map(|slice| slice.object).collect()
    };
    let own_keys = |object: u32| vec![(0..300).map(|at| (object * 1_000 + at, object)).collect()];
    let mut objects: Vec<_> = (0..40).map(own_keys).collect();
    upload(&cluster, &objects).await;
    assert!(clean(&cluster, 0).await);
    let first = ids(&cluster);
    assert_eq!(first.len(), 40);

    // New keys.
    let mut end = cluster.uploaded(STREAM.0);
    objects.push(vec![vec![(77_000, 1)]]);
    upload(&cluster, &objects[40..]).await;
    let commits = cluster.state.lock().commits;
    assert!(clean(&cluster, end).await);
    assert_eq!(cluster.state.lock().commits, commits + 1);
    let second = ids(&cluster);
    assert_eq!(second[..40], first);
    assert!(cluster.metric("tailwater_clean_objects_total{what=\"kept\"} 40"));

    // A key of the fourth object: that one, and what is small at the end.
    end = cluster.uploaded(STREAM.0);
    objects.push(vec![vec![(3_000, 9)]]);
    upload(&cluster, &objects[41..]).await;
    assert!(clean(&cluster, end).await);
    let third = ids(&cluster);
    assert_eq!((&third[..3], &third[4..40]), (&first[..3], &first[4..40]));
    assert_ne!(third[3], first[3]);
    assert_eq!(third.len(), 41, "the two small ones are one");
    assert_eq!(found(&cluster).await, newest(&objects));
    compactor.shutdown().await;
}

/// Whatever fails, and wherever: before a put, after it and before the commit, after the commit with its answer lost; in
/// the first group and in the second. Each time a reader finds each key's newest value, and the next pass ends it.
#[tokio::test(start_paused = true)]
async fn a_pass_that_ends_anywhere_loses_nothing() {
    let unknown = Error::Unavailable {
        detail: "injected".to_owned(),
        outcome: tailwater_types::Outcome::Unknown,
    };
    let lost = Error::LeaseFenced {
        task: TaskId(1_000_001),
    };
    let replaced = Error::ObjectReplaced {
        object: tailwater_types::ObjectId(1),
    };
    let cases = [
        ("before the put", Call::Prepare, When::Before, lost.clone(), false),
        ("after the put", Call::Commit, When::Before, lost, false),
        ("another was faster", Call::Commit, When::Before, replaced, true),
        ("the answer is lost", Call::Commit, When::After, unknown.clone(), true),
        ("the call is lost", Call::Commit, When::Before, unknown.clone(), true),
        (
            "an object is prepared, unheard",
            Call::Prepare,
            When::After,
            unknown.clone(),
            true,
        ),
        ("none is prepared", Call::Prepare, When::Before, unknown, true),
    ];
    let cases = cases.into_iter().flat_map(|case| [(0, case.clone()), (1, case)]);
    for (group, (case, call, when, error, ends)) in cases {
        let cluster = Cluster::new();
        let compactor = cluster.start(config()).await;
        let objects = history(40);
        upload(&cluster, &objects).await;
        let is_lost = matches!(error, Error::LeaseFenced { .. });
        // A group has 32 sources, and is put in so many objects.
        let nth = match call {
            Call::Commit => group,
            _ => group * PUTS_OF_FIRST_GROUP,
        };
        let commits = cluster.state.lock().commits;
        cluster.fail_nth(call, nth, when, error);
        if is_lost {
            cluster.state.lock().cleaning = Some(Work::Clean {
                stream: STREAM,
                range: OffsetRange::new(Offset::ZERO, Offset(cluster.uploaded(STREAM.0))),
                first_dirty: Offset::ZERO,
                delete_retention: Duration::ZERO,
            });
            cluster
                .until("the fault struck", |state| {
                    state.faults.is_empty() && state.later_faults.is_empty()
                })
                .await;
            cluster.clock.sleep(Duration::from_secs(1)).await;
            assert!(cluster.metric("tailwater_cleanings_total{result=\"lost\"} 1"), "{case}");
            cluster.state.lock().leased_cleaning = None;
        } else {
            assert_eq!(clean(&cluster, 0).await, ends, "{case}");
        }
        {
            let state = cluster.state.lock();
            assert!(
                state.faults.is_empty() && state.later_faults.is_empty(),
                "{case}: it never struck"
            );
            let done = state.commits - commits;
            assert!(ends || done == group, "{case}: {done} groups were committed before it");
        }
        let left = found(&cluster).await;
        let is_whole = |(offset, record): (&i64, &(u32, u32))| left.get(offset) == Some(record);
        assert!(newest(&objects).iter().all(is_whole), "{case}");
        assert!(clean(&cluster, 0).await, "{case}");
        assert_eq!(found(&cluster).await, newest(&objects), "{case}");
        compactor.shutdown().await;
    }
}

/// A pass over the rest of another one touches nothing before it.
#[tokio::test(start_paused = true)]
async fn a_pass_goes_on_behind_what_another_committed() {
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    let objects = history(40);
    upload(&cluster, &objects).await;
    let object = tailwater_types::ObjectId(1);
    cluster.fail_nth(Call::Commit, 1, When::Before, Error::ObjectReplaced { object });
    assert!(clean(&cluster, 0).await);
    let (end, begins) = (Offset(cluster.uploaded(STREAM.0)), Offset(cleaned_to(&cluster).await));
    assert!(Offset::ZERO < begins && begins < end);
    let below = |cluster: &Cluster| -> Vec<_> {
        let state = cluster.state.lock();
        let slices = state.slices[&STREAM].range(..=begins);
        slices.map(|(_, slice)| slice.object).collect()
    };
    let first = below(&cluster);
    let given_back = {
        let state = &mut *cluster.state.lock();
        assert_eq!(state.keys_end, end, "the first one said how far it could go");
        state.cleaning = Some(Work::Clean {
            stream: STREAM,
            range: OffsetRange::new(begins, end),
            first_dirty: begins,
            delete_retention: Duration::from_secs(60),
        });
        state.cleaned.len()
    };
    cluster
        .until("the cleaning is given back", |state| state.cleaned.len() > given_back)
        .await;
    assert_eq!(cluster.state.lock().cleaned.last(), Some(&true));
    assert_eq!(below(&cluster), first);
    assert_eq!(found(&cluster).await, newest(&objects));
    compactor.shutdown().await;
}

/// More keys than there is room for: a pass ends at a batch's start, within an object, and the next one goes on there.
#[tokio::test(start_paused = true)]
async fn more_keys_than_fit_take_several_passes() {
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    let batches = |from: u32| {
        (from..from + 10)
            .map(|batch| (0..2_000).map(|at| (batch % 13 * 2_000 + at, batch)).collect())
            .collect()
    };
    let objects: Vec<Vec<_>> = vec![batches(0), batches(10)];
    upload(&cluster, &objects).await;
    let mut passes = 0;
    let mut first_dirty = 0;
    while first_dirty < cluster.uploaded(STREAM.0) {
        assert!(clean(&cluster, first_dirty).await);
        passes += 1;
        assert!(passes < 10);
        let left = found(&cluster).await;
        assert!(
            newest(&objects)
                .iter()
                .all(|(offset, record)| left.get(offset) == Some(record))
        );
        first_dirty = cleaned_to(&cluster).await;
    }
    assert!(passes > 1);
    assert_eq!(found(&cluster).await, newest(&objects));
    compactor.shutdown().await;
}

/// Where the part ends that passes have written: before the first object that an upload wrote, which has the other stream.
async fn cleaned_to(cluster: &Cluster) -> i64 {
    let state = cluster.state.lock();
    let is_upload = |object| {
        state
            .committed
            .iter()
            .any(|known| known.object == object && known.streams.len() > 1)
    };
    let first = state.slices[&STREAM].values().find(|slice| is_upload(slice.object));
    first
        .map_or(state.streams[&STREAM].uploaded, |slice| slice.range.start)
        .0
}

/// A damaged block ends a pass with an error, and changes nothing.
#[tokio::test(start_paused = true)]
async fn damage_is_never_cleaned_away() {
    let cluster = Cluster::new();
    let compactor = cluster.start(config()).await;
    let objects = history(2);
    upload(&cluster, &objects).await;
    let before = found(&cluster).await;
    let slice = cluster.state.lock().slices[&STREAM].values().next().unwrap().clone();
    let whole = cluster
        .storage
        .get_range(&slice.key, 0..slice.size_bytes)
        .await
        .unwrap();
    let mut damaged = BytesMut::from(&whole[..]);
    damaged[200] ^= 1;
    cluster.storage.delete(&slice.key).await.unwrap();
    cluster.storage.put(&slice.key, vec![damaged.freeze()]).await.unwrap();
    assert!(!clean(&cluster, 0).await);
    cluster.storage.delete(&slice.key).await.unwrap();
    cluster.storage.put(&slice.key, vec![whole]).await.unwrap();
    assert_eq!(found(&cluster).await, before);
    compactor.shutdown().await;
}

/// A header of a batch that has nothing left is all that a range's last batch keeps.
#[test]
fn an_empty_batch_is_a_header() {
    let kept = tailwater_kafka::batch::empty(&BatchHeader::read(&batch(&[(1, 1)])).unwrap());
    assert_eq!(kept.len(), HEADER_BYTES);
}
