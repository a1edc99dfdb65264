use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tailwater_types::{LeaderEpoch, Offset};

use super::*;
use crate::record::Header;

/// Written by Apache Kafka 4.3's own classes.
const GOLDEN: &str = "000000000000000000000045000000050263134e110000000000010000018bcfe568000000018bcfe5680500\
    0000000000000700030000000b0000000218000000026b047631020268010c000a02010000";

fn golden() -> Vec<u8> {
    (0..GOLDEN.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&GOLDEN[at..at + 2], 16).unwrap())
        .collect()
}

fn golden_builder() -> BatchBuilder {
    let mut builder = BatchBuilder::new().producer(7, 3, 11);
    builder.push(
        1_700_000_000_000,
        Some(b"k"),
        Some(b"v1"),
        &[Header { key: b"h", value: None }],
    );
    builder.push(1_700_000_000_005, None, Some(b""), &[]);
    builder
}

/// A batch of `count` records at `base_offset`.
fn batch_at(base_offset: i64, count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    (0..count).for_each(|_| builder.push(0, None, Some(b"value"), &[]));
    let mut batch = builder.build();
    assign(&mut batch, Offset(base_offset), LeaderEpoch(0));
    batch.to_vec()
}

/// `change` one batch, with the CRC set right again, and validate it.
fn validate_changed(change: impl FnOnce(&mut [u8])) -> Result<BatchHeader, BatchError> {
    let mut batch = golden();
    change(&mut batch);
    let crc = crc32c::crc32c(&batch[CRC_END..]);
    batch[at::CRC..CRC_END].copy_from_slice(&crc.to_be_bytes());
    validate(&batch)
}

#[test]
fn builds_kafkas_bytes() {
    let mut batch = golden_builder().build();
    assign(&mut batch, Offset::ZERO, LeaderEpoch(5));
    assert_eq!(batch, golden());
}

#[test]
fn reads_kafkas_header() {
    let header = validate(&golden()).unwrap();
    let expected = BatchHeader {
        base_offset: Offset(0),
        length: 69,
        leader_epoch: LeaderEpoch(5),
        crc: 0x6313_4e11,
        attributes: 0,
        last_offset_delta: 1,
        base_timestamp_ms: 1_700_000_000_000,
        max_timestamp_ms: 1_700_000_000_005,
        producer_id: 7,
        producer_epoch: 3,
        base_sequence: 11,
        count: 2,
    };
    assert_eq!(header, expected);
    assert_eq!((header.size(), header.end_offset()), (81, Offset(2)));
    assert_eq!(assemble(&header, &golden()[HEADER_BYTES..]), golden());
}

/// Each rule for a client's batch, and what breaks it.
#[test]
fn refuses_what_a_client_may_not_send() {
    assert!(validate_changed(|_| ()).is_ok());
    let count = |count, last_offset_delta| {
        Err(BatchError::Count {
            count,
            last_offset_delta,
        })
    };
    assert_eq!(validate_changed(|b| b[at::COUNT + 3] = 3), count(3, 1));
    assert_eq!(validate_changed(|b| b[at::COUNT..][..4].fill(0xff)), count(-1, 1));
    assert_eq!(validate_changed(|b| b[at::COUNT - 34 + 3] = 9), count(2, 9));
    let empty = validate_changed(|b| {
        b[at::COUNT..][..4].fill(0);
        b[at::LAST_OFFSET_DELTA..][..4].fill(0xff);
    });
    assert_eq!(empty, count(0, -1));
    assert_eq!(
        validate_changed(|b| b[at::ATTRIBUTES + 1] = 0x20),
        Err(BatchError::Control)
    );
    assert_eq!(
        validate_changed(|b| b[at::ATTRIBUTES + 1] = 0x08),
        Err(BatchError::TimestampType)
    );
    assert_eq!(
        validate_changed(|b| b[at::ATTRIBUTES + 1] = 0x05),
        Err(BatchError::Compression(5))
    );
    assert!(matches!(
        validate_changed(|b| b[at::BASE_SEQUENCE] = 0xff),
        Err(BatchError::Producer { .. })
    ));
    let transaction_of_nobody = validate_changed(|b| {
        b[at::ATTRIBUTES + 1] = 0x10;
        b[at::PRODUCER_ID..][..8].fill(0xff);
    });
    assert!(matches!(
        transaction_of_nobody,
        Err(BatchError::Producer { producer_id: -1, .. })
    ));
    assert_eq!(validate_changed(|b| b[at::MAGIC] = 1), Err(BatchError::Magic(1)));
}

#[test]
fn refuses_forged_lengths_and_torn_batches() {
    let with_length = |length: i32| {
        let mut batch = golden();
        batch[at::LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
        validate(&batch).unwrap_err()
    };
    for length in [-1, 0, 48, i32::MIN] {
        assert_eq!(with_length(length), BatchError::Length(length));
    }
    for length in [70, i32::MAX] {
        let needed = length as usize + LENGTH_END;
        assert_eq!(with_length(length), BatchError::Truncated { needed, available: 81 });
    }
    assert_eq!(with_length(68), BatchError::Trailing(1));
    for end in 0..golden().len() {
        assert!(matches!(validate(&golden()[..end]), Err(BatchError::Truncated { .. })));
    }
}

/// Any flipped bit behind the leader epoch is found.
#[test]
fn refuses_every_flipped_bit() {
    for bit in at::MAGIC * 8..golden().len() * 8 {
        let mut batch = golden();
        batch[bit / 8] ^= 1 << (bit % 8);
        assert!(validate(&batch).is_err(), "bit {bit}");
    }
}

#[test]
fn assigning_offsets_leaves_the_crc_right() {
    let mut batch = golden();
    assign(&mut batch, Offset(i64::MAX - 2), LeaderEpoch(i32::MAX));
    let header = validate(&batch).unwrap();
    assert_eq!(
        (header.base_offset, header.leader_epoch),
        (Offset(i64::MAX - 2), LeaderEpoch(i32::MAX))
    );
    assert_eq!(whole_crc(&batch), Ok(crc32c::crc32c(&batch)));
}

#[test]
fn log_append_time_has_its_bit_its_time_and_a_right_crc() {
    let mut batch = golden();
    let header = set_log_append_time(&mut batch, 1_800_000_000_000).unwrap();
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp_ms, 1_800_000_000_000);
    assert_eq!(
        header.base_timestamp_ms, 1_700_000_000_000,
        "the records' deltas are against it"
    );
    assert_eq!(header.crc, crc32c::crc32c(&batch[CRC_END..]));
    assert_eq!(whole_crc(&batch), Ok(crc32c::crc32c(&batch)));
}

/// Batches of one buffer are patched in place, each alone, and nothing is copied.
#[test]
fn split_batches_are_writable_pieces_of_the_run() {
    let run = BytesMut::from(&[golden(), batch_at(0, 3)].concat()[..]);
    let start = run.as_ptr();
    let batches: Vec<_> = Batches::new(run).map(|batch| batch.unwrap().1).collect();
    assert_eq!(
        batches.iter().map(BytesMut::len).sum::<usize>(),
        81 + batch_at(0, 3).len()
    );
    assert_eq!(batches[0].as_ptr(), start);
    assert_eq!(batches[1].as_ptr(), start.wrapping_add(81));
    let mut frozen = Vec::new();
    for (mut batch, base_offset) in batches.into_iter().zip([10, 12]) {
        assign(&mut batch, Offset(base_offset), LeaderEpoch(1));
        let place = batch.as_ptr();
        let batch = batch.freeze();
        assert_eq!(batch.as_ptr(), place);
        frozen.push(batch);
    }
    assert_eq!(validate(&frozen[0]).unwrap().base_offset, Offset(10));
    assert_eq!(validate(&frozen[1]).unwrap().base_offset, Offset(12));
}

#[test]
fn splitting_ends_at_the_first_error() {
    let torn = [golden(), golden()[..70].to_vec()].concat();
    let mut batches = Batches::new(Bytes::from(torn));
    assert!(batches.next().unwrap().is_ok());
    let error = BatchError::Truncated {
        needed: 81,
        available: 70,
    };
    assert_eq!(batches.next().unwrap().unwrap_err(), error);
    assert!(batches.next().is_none());
}

#[test]
fn a_compressed_batch_says_so() {
    let batch = golden_builder().build_compressed(Compression::Zstd, Bytes::copy_from_slice);
    let header = validate(&batch).unwrap();
    assert_eq!(header.compression(), Ok(Compression::Zstd));
    assert_eq!(&batch[HEADER_BYTES..], &golden()[HEADER_BYTES..]);
}

proptest! {
    /// The search finds what a scan over last offsets finds, holes between batches included.
    #[test]
    fn locates_as_a_scan_does(batches: Vec<(u8, u8)>, offset in 0i64..2000) {
        let (mut run, mut next, mut expected) = (Vec::new(), 0, None);
        for (hole, count) in batches.into_iter().take(20) {
            let base_offset = next + i64::from(hole % 4);
            next = base_offset + i64::from(count % 40) + 1;
            if expected.is_none() && next > offset {
                expected = Some(run.len());
            }
            run.extend(batch_at(base_offset, usize::from(count % 40) + 1));
        }
        prop_assert_eq!(locate(&run, Offset(offset)), Ok(expected));
    }

    /// Arbitrary bytes are an error or a batch, and never a panic.
    #[test]
    fn survives_anything(bytes: Vec<u8>, offset: i64) {
        let _ = validate(&bytes);
        let _ = locate(&bytes, Offset(offset));
        let _ = whole_crc(&bytes);
        let _ = set_log_append_time(&mut bytes.clone(), 0);
        Batches::new(Bytes::from(bytes)).for_each(drop);
    }
}
