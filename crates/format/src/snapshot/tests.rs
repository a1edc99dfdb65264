use proptest::prelude::*;

use super::*;

fn batch(first: i32, last: i32, base: i64) -> ProducerBatch {
    ProducerBatch {
        first_sequence: first,
        last_sequence: last,
        base_offset: Offset(base),
        max_timestamp_ms: 9,
    }
}

fn start(epoch: i32, start: i64) -> EpochStart {
    EpochStart {
        epoch: LeaderEpoch(epoch),
        start: Offset(start),
    }
}

fn producers(all: impl IntoIterator<Item = Producer>) -> BTreeMap<i64, Producer> {
    all.into_iter().map(|producer| (producer.id, producer)).collect()
}

/// What version 1 could say.
fn older() -> Snapshot {
    Snapshot {
        end: Offset(40),
        leader_epochs: vec![start(0, 0), start(3, 17)],
        producers: producers([
            Producer {
                id: 1_000,
                epoch: 2,
                coordinator_epoch: -1,
                last_used_ms: 77,
                last_offset: Offset(39),
                transaction_start: None,
                batches: vec![batch(0, 1, 20), batch(2, 2, 39)],
            },
            Producer {
                id: 1_001,
                epoch: 0,
                coordinator_epoch: -1,
                last_used_ms: 78,
                last_offset: Offset(-1),
                transaction_start: None,
                batches: vec![],
            },
        ]),
        aborted: vec![],
    }
}

fn sample() -> Snapshot {
    let mut sample = older();
    let mut more: Vec<_> = sample.producers.into_values().collect();
    more[0].transaction_start = Some(Offset(20));
    more[1].coordinator_epoch = 6;
    more[1].last_offset = Offset(38);
    more.push(Producer {
        id: 5_000,
        epoch: 300,
        coordinator_epoch: 5,
        last_used_ms: 70,
        last_offset: Offset(37),
        transaction_start: Some(Offset(30)),
        batches: vec![batch(i32::MAX - 1, 1, 30)],
    });
    sample.producers = producers(more);
    let aborted = |producer_id, first, last, stable| AbortedTransaction {
        producer_id,
        first_offset: Offset(first),
        last_offset: Offset(last),
        last_stable_offset: Offset(stable),
    };
    sample.aborted = vec![aborted(1_001, 3, 5, 6), aborted(1_000, 7, 38, 20)];
    sample
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).expect("hex"))
        .collect()
}

/// The layout is what is stored: it changes only with a new version.
#[test]
fn golden_bytes() {
    let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN_2);
}

const GOLDEN_2: &str = "5457534e02000000000000000000002800000002000000030000000200000311e80712029a01001300011387010000130001\
        08000201069f1f19ac020f020509fcffffff0f030979d20f05020001211f13";

/// What a release before transactions has stored is still read.
#[test]
fn version_1_is_read() {
    let hex = "5457534e01000000000000000000002800000002000000020000000000000000000000000000000300000000000000110000\
        0000000003e8000000000000004d000202000000000000000001000000000000001400000000000000090000000200000002\
        0000000000000027000000000000000900000000000003e9000000000000004e00000000";
    let mut bytes = bytes_of(hex);
    assert_eq!(Snapshot::decode(&bytes), Ok(older()));
    for length in 0..bytes.len() {
        assert!(Snapshot::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    bytes.push(0);
    assert!(Snapshot::decode(&bytes).is_err());
    bytes[16..24].fill(0xff);
    assert!(matches!(Snapshot::decode(&bytes), Err(FormatError::Truncated { .. })));
}

#[test]
fn reads_back_what_was_written() {
    for snapshot in [sample(), older(), Snapshot::default()] {
        let bytes = snapshot.encode();
        assert!(bytes.len() <= snapshot.max_encoded_bytes());
        assert_eq!(Snapshot::decode(&bytes), Ok(snapshot));
    }
}

#[test]
fn any_cut_is_found() {
    let bytes = sample().encode();
    for length in 0..bytes.len() {
        assert!(Snapshot::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(Snapshot::decode(&longer).is_err());
}

/// Counts that the input can't hold allocate nothing.
#[test]
fn forged_counts_are_refused() {
    let mut bytes = Snapshot::default().encode().to_vec();
    bytes[16..28].fill(0xff);
    assert!(matches!(Snapshot::decode(&bytes), Err(FormatError::Truncated { .. })));
}

/// A version from the future is told by its number.
#[test]
fn a_newer_version_is_refused() {
    let mut bytes = sample().encode().to_vec();
    bytes[4] = 3;
    assert!(matches!(
        Snapshot::decode(&bytes),
        Err(FormatError::Version { found: 3, .. })
    ));
}

/// The largest of everything still fits the bound.
#[test]
fn the_bound_holds_for_the_largest_numbers() {
    let far = batch(i32::MAX, i32::MAX - 1, 0);
    let snapshot = Snapshot {
        end: Offset(i64::MAX),
        leader_epochs: vec![start(i32::MAX, i64::MAX - 1)],
        producers: producers([Producer {
            id: i64::MAX,
            epoch: i16::MAX,
            coordinator_epoch: i32::MAX,
            last_used_ms: i64::MIN,
            last_offset: Offset(-1),
            transaction_start: Some(Offset(0)),
            batches: (0..5)
                .map(|at| ProducerBatch {
                    base_offset: Offset(at * (i64::MAX / 5)),
                    max_timestamp_ms: if at % 2 == 0 { i64::MAX } else { 0 },
                    ..far
                })
                .collect(),
        }]),
        aborted: vec![AbortedTransaction {
            producer_id: i64::MAX,
            first_offset: Offset(0),
            last_offset: Offset(i64::MAX - 1),
            last_stable_offset: Offset(0),
        }],
    };
    let bytes = snapshot.encode();
    assert!(bytes.len() <= snapshot.max_encoded_bytes());
    assert_eq!(Snapshot::decode(&bytes), Ok(snapshot));
}

/// 100,000 producers that each have sent `batches`, one after the other, over a stream with records of others between.
fn crowd(batches: usize) -> Snapshot {
    const PRODUCERS: i64 = 100_000;
    let end = PRODUCERS * batches.max(1) as i64 * 30;
    let crowd = (0..PRODUCERS).map(|at| {
        let last_used_ms = 1_700_000_000_000 + at * 7_919 % 86_400_000;
        let sent = (0..batches).map(|nth| {
            let first = 10 * nth as i32 + 1_000;
            ProducerBatch {
                first_sequence: first,
                last_sequence: first + 9,
                base_offset: Offset((nth as i64 * PRODUCERS + at) * 30),
                max_timestamp_ms: last_used_ms - 50 * (batches - nth) as i64,
            }
        });
        let batches: Vec<_> = sent.collect();
        Producer {
            id: 4_000 + at,
            epoch: 1,
            coordinator_epoch: 3,
            last_used_ms,
            last_offset: batches.last().map_or(Offset(at), |last| last.base_offset.advance(9)),
            transaction_start: (at % 100 == 0).then_some(Offset(end - 1 - at)),
            batches,
        }
    });
    Snapshot {
        end: Offset(end),
        leader_epochs: vec![start(0, 0)],
        producers: producers(crowd),
        aborted: Vec::new(),
    }
}

/// 100,000 producers' state is a few megabytes: what a new leader reads before it serves.
#[test]
fn a_crowd_of_producers_is_packed() {
    for (batches, max_bytes) in [(0, 16), (1, 28), (5, 72)] {
        let snapshot = crowd(batches);
        let bytes = snapshot.encode();
        let each = bytes.len() / snapshot.producers.len();
        assert!(each <= max_bytes, "{batches} batches: {each} bytes a producer");
        assert_eq!(Snapshot::decode(&bytes), Ok(snapshot));
    }
}

/// Prints how long 100,000 producers with five batches each take; judges nothing.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, reason = "measures the real clock")]
fn how_long_a_crowd_takes() {
    let snapshot = crowd(PRODUCER_BATCHES);
    let begun = std::time::Instant::now();
    let bytes = snapshot.encode();
    let encoded = begun.elapsed();
    let begun = std::time::Instant::now();
    let decoded = Snapshot::decode(&bytes).expect("own bytes");
    let took = begun.elapsed();
    println!(
        "{} producers: {} bytes, encoded in {encoded:?}, decoded in {took:?}",
        decoded.producers.len(),
        bytes.len()
    );
}

proptest! {
    /// What decodes, whatever was changed in it, reads back.
    #[test]
    fn mutations_are_refused_or_valid(at in 0_usize..1_000, bit in 0_u8..8) {
        let mut bytes = sample().encode().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(snapshot) = Snapshot::decode(&bytes) {
            prop_assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
        }
    }
}
