use tailwater_store::{FaultyStorage, Operation};
use tailwater_types::{LeaderEpoch, ObjectId};

use super::*;
use crate::testing::{Cluster, batch};

/// A state at `end` with one producer.
fn state(end: i32) -> PartitionState {
    let mut state = PartitionState::default();
    let stored = batch(Offset::ZERO, 0, 0, end, 1);
    let header = tailwater_kafka::batch::BatchHeader::read(&stored).unwrap();
    state.apply(&header, Offset::ZERO, LeaderEpoch(0), 0);
    state
}

/// Puts snapshots behind one another in one object; answers where they lie.
async fn stored(storage: &FaultyStorage, key: &str, ends: &[i32]) -> Vec<StreamUpload> {
    let (mut position, mut chunks, mut uploads) = (0, Vec::new(), Vec::new());
    for (stream, end) in ends.iter().enumerate() {
        let bytes = state(*end).encode_snapshot();
        let at = SnapshotAt {
            object: ObjectId(1),
            key: key.to_owned(),
            position,
            length: bytes.len() as u32,
            crc: crc32c::crc32c(&bytes),
        };
        position += bytes.len() as u64;
        chunks.push(bytes);
        uploads.push(StreamUpload {
            start: Offset::ZERO,
            stream: StreamId(stream as u64),
            uploaded: Offset(i64::from(*end)),
            cleaned: Offset::ZERO,
            snapshot: Some(at),
            bytes: 0,
        });
    }
    storage.put(key, chunks).await.unwrap();
    uploads
}

fn reads(storage: &FaultyStorage) -> usize {
    storage
        .begun()
        .iter()
        .filter(|(operation, _)| *operation == Operation::GetRange)
        .count()
}

/// Snapshots that lie together are read at once; a state that was kept isn't read; one kept at another end is.
#[tokio::test(start_paused = true)]
async fn states_are_kept_or_read_together() {
    let storage = Cluster::new().storage;
    let states = States::new(storage.clone(), 1 << 20);
    let uploads = stored(&storage, "packed", &[3, 4, 5]).await;
    let loaded = states.load(uploads.clone()).await.unwrap();
    assert_eq!(loaded.len(), 3);
    assert_eq!((loaded[&StreamId(1)].clone(), reads(&storage)), (state(4), 1));
    for (stream, state) in loaded {
        states.keep(stream, state);
    }
    states.load(uploads.clone()).await.unwrap();
    assert_eq!(reads(&storage), 1);
    states.keep(StreamId(1), state(9));
    assert_eq!(states.load(uploads).await.unwrap()[&StreamId(1)], state(4));
    assert_eq!(reads(&storage), 2);
}

/// A stream that was never uploaded has an empty state where it begins.
#[tokio::test(start_paused = true)]
async fn a_new_stream_is_empty() {
    let states = States::new(Cluster::new().storage, 1 << 20);
    let upload = StreamUpload {
        start: Offset::ZERO,
        stream: StreamId(1),
        uploaded: Offset(6),
        cleaned: Offset::ZERO,
        snapshot: None,
        bytes: 0,
    };
    assert_eq!(
        states.load(vec![upload]).await.unwrap()[&StreamId(1)],
        PartitionState::empty(Offset(6))
    );
}

/// A snapshot that isn't what was committed, or not exact at the uploaded end, is an error.
#[tokio::test(start_paused = true)]
async fn damaged_snapshots_are_errors() {
    let storage = Cluster::new().storage;
    let states = States::new(storage.clone(), 1 << 20);
    let good = stored(&storage, "packed", &[3]).await.remove(0);
    for change in [
        (|upload| upload.uploaded = Offset(4)) as fn(&mut StreamUpload),
        |upload| upload.snapshot.as_mut().unwrap().crc ^= 1,
        |upload| upload.snapshot.as_mut().unwrap().length -= 1,
    ] {
        let mut upload = good.clone();
        change(&mut upload);
        assert!(matches!(states.load(vec![upload]).await, Err(Error::Snapshot { .. })));
    }
    let mut beyond = good.clone();
    beyond.snapshot.as_mut().unwrap().length += 1;
    assert!(matches!(states.load(vec![beyond]).await, Err(Error::Store(_))));
}

/// What is kept has a bound; those used last stay.
#[test]
fn the_cache_is_bounded() {
    let bytes = state(1).memory_bytes();
    let mut cache = Cache::default();
    for stream in [1, 2, 3, 1, 4] {
        cache.keep(StreamId(stream), state(1), 2 * bytes);
    }
    assert_eq!(cache.states.keys().map(|stream| stream.0).collect::<Vec<_>>(), [1, 4]);
    assert_eq!((cache.bytes, cache.order.len()), (2 * bytes, 2));
}

/// Far apart, or in different objects: read by themselves.
#[test]
fn only_neighbours_are_read_together() {
    let wanted = |key: &str, position: u64| Wanted {
        stream: StreamId(1),
        uploaded: Offset(1),
        at: SnapshotAt {
            object: ObjectId(1),
            key: key.to_owned(),
            position,
            length: 10,
            crc: 0,
        },
    };
    let reads = group(vec![
        wanted("b", 0),
        wanted("a", 500_000),
        wanted("a", 20),
        wanted("a", 0),
    ]);
    let ranges: Vec<_> = reads
        .iter()
        .map(|read| (read.key.as_str(), read.range.clone(), read.wanted.len()))
        .collect();
    assert_eq!(ranges, [("a", 0..30, 2), ("a", 500_000..500_010, 1), ("b", 0..10, 1)]);
}
