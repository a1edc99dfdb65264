use proptest::prelude::*;
use tailwater_format::entry::Slice;
use tailwater_types::{JournalId, LeaderEpoch};

use super::*;
use crate::testing::batch;

/// A slice of batches with these record counts, from `base`.
fn slice(stream: u64, base: i64, counts: &[i32], value_bytes: usize) -> Slice {
    let (mut end, mut bytes) = (base, Vec::new());
    for count in counts {
        bytes.extend_from_slice(&batch(Offset(end), 0, end as i32, *count, value_bytes));
        end += i64::from(*count);
    }
    Slice {
        header: SliceHeader {
            kind: SliceKind::Records,
            stream: StreamId(stream),
            leader_epoch: LeaderEpoch(0),
            base: Offset(base),
            end: Offset(end),
            max_timestamp_ms: 0,
            length: bytes.len() as u32,
            crc: crc32c::crc32c(&bytes),
        },
        bytes: Bytes::from(bytes),
    }
}

fn entries(slices: Vec<Vec<Slice>>) -> Vec<Entry> {
    let encode = |(lsn, slices)| Entry::encode(JournalId(1), Lsn(lsn as u64), slices);
    slices.into_iter().enumerate().map(encode).collect()
}

fn states(ends: &[(u64, i64)]) -> BTreeMap<StreamId, PartitionState> {
    ends.iter()
        .map(|(stream, end)| (StreamId(*stream), PartitionState::empty(Offset(*end))))
        .collect()
}

fn run(slices: Vec<Vec<Slice>>, ends: &[(u64, i64)]) -> Result<Plan, Error> {
    plan(Lsn(0), &entries(slices), states(ends), 1)
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

/// What is uploaded already is left out: whole slices, and batches at a slice's front.
#[test]
fn what_is_uploaded_is_clipped() {
    let plan = run(
        vec![vec![slice(1, 0, &[2, 3], 9)], vec![slice(1, 5, &[1], 9)]],
        &[(1, 2)],
    )
    .unwrap();
    let part = &plan.streams[0];
    assert_eq!((part.range, part.pieces.len()), (range(2, 6), 2));
    assert_eq!(part.pieces[0].range, range(2, 5));
    assert_eq!(part.pieces[0].crc, crc32c::crc32c(&part.pieces[0].bytes));
    let plan = run(vec![vec![slice(1, 0, &[2, 3], 9)]], &[(1, 5)]).unwrap();
    assert!(plan.streams.is_empty() && plan.lsns == LsnRange::new(Lsn(0), Lsn(1)));
}

/// The run ends before the entry that would leave a hole, with nothing of that entry taken.
#[test]
fn a_hole_ends_the_run() {
    let slices = vec![
        vec![slice(1, 0, &[2], 9)],
        vec![slice(1, 2, &[2], 9), slice(2, 7, &[1], 9)],
    ];
    let plan = run(slices.clone(), &[(1, 0), (2, 6)]).unwrap();
    assert_eq!((plan.lsns.end, plan.waits_for), (Lsn(1), Some(StreamId(2))));
    assert_eq!(plan.streams.len(), 1);
    assert_eq!(plan.streams[0].range, range(0, 2));
    assert_eq!(run(slices, &[(1, 0), (2, 7)]).unwrap().waits_for, None);
}

/// A stream that is no more takes no space, and holds nobody up.
#[test]
fn a_deleted_stream_is_left_out() {
    let plan = run(vec![vec![slice(1, 50, &[2], 9), slice(2, 0, &[1], 9)]], &[(2, 0)]).unwrap();
    assert_eq!((plan.lsns.end, plan.streams.len()), (Lsn(1), 1));
    assert_eq!(plan.streams[0].stream, StreamId(2));
}

/// A slice longer than a block is cut at batches, and the pieces' sums are right without summing them.
#[test]
fn long_slices_are_cut_at_batches() {
    let long = slice(1, 0, &[1, 1, 1, 1, 1], 200_000);
    let plan = run(vec![vec![long.clone()]], &[(1, 0)]).unwrap();
    let pieces = &plan.streams[0].pieces;
    assert_eq!(pieces.iter().map(|piece| piece.batches).collect::<Vec<_>>(), [2, 2, 1]);
    for piece in pieces {
        assert_eq!(piece.crc, crc32c::crc32c(&piece.bytes));
        assert!(piece.bytes.len() <= BLOCK_TARGET_BYTES);
    }
    let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    assert!(joined == long.bytes);
}

/// Bytes that aren't what the slice's sum says are an error, not an object.
#[test]
fn damage_is_found() {
    let mut long = slice(1, 0, &[1, 1, 1], 300_000);
    long.header.crc ^= 1;
    assert!(matches!(run(vec![vec![long]], &[(1, 0)]), Err(Error::Slice { .. })));
    let mut short = slice(1, 0, &[1, 1], 9);
    short.header.end = Offset(3);
    assert!(matches!(run(vec![vec![short]], &[(1, 0)]), Err(Error::Slice { .. })));
    let straddles = run(vec![vec![slice(1, 0, &[4], 9)]], &[(1, 2)]);
    assert!(matches!(straddles, Err(Error::Log { .. })));
}

/// Streams with much get objects of their own, the others share the last.
#[test]
fn large_streams_get_their_own_object() {
    let slices = vec![slice(1, 0, &[1], 10), slice(2, 0, &[1], 5_000), slice(3, 0, &[1], 10)];
    let plan = run(vec![slices], &[(1, 0), (2, 0), (3, 0)]).unwrap();
    let objects = objects(plan.streams, 4_000);
    let streams: Vec<Vec<_>> = objects
        .iter()
        .map(|parts| parts.iter().map(|part| part.stream.0).collect())
        .collect();
    assert_eq!(streams, [vec![2], vec![1, 3]]);
    assert!(super::objects(Vec::new(), 1).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However batches lie in slices and entries, repeated or not, each stream gets what follows its end, once, in order.
    #[test]
    fn each_batch_is_taken_once(
        cuts in proptest::collection::vec((1..4_u64, proptest::collection::vec(1..4_i32, 1..4), any::<bool>()), 1..30),
        uploaded in 0..8_usize,
    ) {
        let mut bounds: BTreeMap<u64, Vec<i64>> = (1..4).map(|stream| (stream, vec![0])).collect();
        let mut slices = Vec::new();
        for (stream, counts, repeat) in cuts {
            let bounds = bounds.get_mut(&stream).unwrap();
            let base = *bounds.last().unwrap();
            for count in &counts {
                bounds.push(bounds.last().unwrap() + i64::from(*count));
            }
            slices.push(vec![slice(stream, base, &counts, 3)]);
            if repeat {
                slices.push(slices.last().unwrap().clone());
            }
        }
        let from = |stream: u64| bounds[&stream][uploaded.min(bounds[&stream].len() - 1)];
        let ends: Vec<_> = (1..4).map(|stream| (stream, from(stream))).collect();
        let plan = run(slices, &ends).unwrap();
        prop_assert_eq!(plan.waits_for, None);
        for (stream, bounds) in &bounds {
            let (start, end) = (from(*stream), *bounds.last().unwrap());
            let part = plan.streams.iter().find(|part| part.stream.0 == *stream);
            prop_assert_eq!(part.is_some(), start < end);
            let Some(part) = part else { continue };
            prop_assert_eq!(part.range, range(start, end));
            let mut at = part.range.start;
            for piece in &part.pieces {
                prop_assert_eq!(piece.range.start, at);
                prop_assert_eq!(piece.crc, crc32c::crc32c(&piece.bytes));
                at = piece.range.end;
            }
            prop_assert_eq!(at, part.state.end());
        }
    }
}
