use proptest::prelude::*;

use super::*;
use crate::object::{DataBlock, FOOTER_BYTES, Tail, decode_tail, tail_bytes};

fn piece(stream: u64, start: i64, end: i64, bytes: Vec<u8>) -> RecordsPiece {
    RecordsPiece {
        stream: StreamId(stream),
        range: OffsetRange::new(Offset(start), Offset(end)),
        max_timestamp_ms: 1_000 + end,
        batches: 1,
        crc: crc32c::crc32c(&bytes),
        bytes: Bytes::from(bytes),
    }
}

fn small() -> EncodedObject {
    let mut writer = ObjectWriter::new();
    writer.push(piece(1, 10, 12, b"ab".to_vec()));
    writer.push(piece(1, 12, 13, b"c".to_vec()));
    writer.push(piece(7, 0, 1, b"xyz".to_vec()));
    writer.push_snapshot(StreamId(1), Offset(13), b"snap");
    writer.finish()
}

fn index(object: &[u8]) -> Index {
    match decode_tail(object, object.len() as u64).expect("own bytes") {
        Tail::Index(index) => index,
        Tail::NeedsBytes(bytes) => panic!("needs {bytes}"),
    }
}

/// All blocks of an object, and an error for the first bad byte.
fn read(object: &Bytes) -> Result<Vec<DataBlock>, crate::FormatError> {
    let Tail::Index(index) = decode_tail(object, object.len() as u64)? else {
        panic!("the whole object is there");
    };
    let rows = index.rows().iter();
    rows.map(|row| {
        let start = row.position as usize;
        DataBlock::decode(&object.slice(start..start + row.size_bytes as usize), row)
    })
    .collect()
}

/// The layout is what is stored: it changes only with a new version.
#[test]
fn golden_bytes() {
    let object = small();
    let bytes = object.chunks.concat();
    assert_eq!(bytes.len() as u64, object.size_bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "54574442010000000000000000000001000000000000000a000000000000000d00000000000003f500000003000000030000\
    0002364b3fb700000000f5585901616263545744420100000000000000000000070000000000000000000000000000000100\
    000000000003e900000003000000030000000125236885000000009734a39478797a54575342010000000000000100000000\
    00000001000000000000000d0000000492c562cc736e61705457495801000000000000029b300e5300000000000000010000\
    00000000000a000000000000000d00000000000003f500000000000000000000004300000000000000070000000000000000\
    000000000000000100000000000003e900000000000000430000004354574f420100000000000000000000ae000000680000\
    0028000000000000008600000000e3fa0283";

/// Blocks come back with their stream, range, greatest timestamp and bytes; a snapshot lies where its place says.
#[test]
fn reads_back_what_was_written() {
    let object = small();
    let bytes = Bytes::from(object.chunks.concat());
    let blocks = read(&bytes).expect("own bytes");
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0].header.range, OffsetRange::new(Offset(10), Offset(13)));
    assert_eq!(
        (blocks[0].header.max_timestamp_ms, blocks[0].header.batches),
        (1_013, 2)
    );
    assert_eq!(blocks[0].body.as_ref(), b"abc");
    assert_eq!(blocks[1].body.as_ref(), b"xyz");
    let place = object.snapshots[0];
    let at = place.position as usize;
    assert_eq!(&bytes[at..at + place.length as usize], b"snap");
    assert_eq!(place.crc, crc32c::crc32c(b"snap"));
}

/// A change of any byte that a reader looks at is an error; what only an audit reads is the snapshot block.
#[test]
fn any_changed_byte_is_found() {
    let object = small();
    let bytes = object.chunks.concat();
    let place = object.snapshots[0];
    let snapshots = place.position as usize - SNAPSHOTS_FIXED_BYTES - SNAPSHOT_HEAD_BYTES
        ..place.position as usize + place.length as usize;
    for at in (0..bytes.len()).filter(|at| !snapshots.contains(at)) {
        let mut torn = bytes.clone();
        torn[at] ^= 0x40;
        assert!(read(&Bytes::from(torn)).is_err(), "byte {at}");
    }
}

/// An end that was cut off is never taken for a shorter object.
#[test]
fn any_cut_is_found() {
    let bytes = small().chunks.concat();
    for length in 0..bytes.len() {
        assert!(decode_tail(&bytes[..length], length as u64).is_err(), "{length} bytes");
    }
}

/// A tail without the whole index says how much to read.
#[test]
fn a_short_tail_asks_for_more() {
    let bytes = small().chunks.concat();
    let size = bytes.len() as u64;
    let tail = &bytes[bytes.len() - FOOTER_BYTES - 1..];
    let Ok(Tail::NeedsBytes(need)) = decode_tail(tail, size) else {
        panic!("an index from one byte")
    };
    assert!(matches!(
        decode_tail(&bytes[(size - need) as usize..], size),
        Ok(Tail::Index(_))
    ));
    assert_eq!(tail_bytes(size), size);
}

/// A batch above the target is a block of its own, and neighbours don't join it.
#[test]
fn a_large_batch_is_a_block_of_its_own() {
    let mut writer = ObjectWriter::new();
    writer.push(piece(1, 0, 1, vec![1; 100]));
    writer.push(piece(1, 1, 2, vec![2; BLOCK_TARGET_BYTES + 1]));
    writer.push(piece(1, 2, 3, vec![3; 100]));
    let sizes: Vec<_> = index(&writer.finish().chunks.concat())
        .rows()
        .iter()
        .map(|row| row.size_bytes as usize - BLOCK_HEADER_BYTES)
        .collect();
    assert_eq!(sizes, [100, BLOCK_TARGET_BYTES + 1, 100]);
}

/// Record bytes are handed on as they are, not copied.
#[test]
fn record_bytes_are_shared() {
    let records = piece(1, 0, 1, vec![9; 70_000]);
    let pointer = records.bytes.as_ptr();
    let mut writer = ObjectWriter::new();
    writer.push(records);
    assert!(writer.finish().chunks.iter().any(|chunk| chunk.as_ptr() == pointer));
}

/// A block belongs to the row that found it, or is refused.
#[test]
fn a_block_at_the_wrong_place_is_refused() {
    let bytes = Bytes::from(small().chunks.concat());
    let index = index(&bytes);
    let (first, second) = (index.rows()[0], index.rows()[1]);
    let start = first.position as usize;
    let block = bytes.slice(start..start + first.size_bytes as usize);
    assert!(DataBlock::decode(&block, &first).is_ok());
    assert!(DataBlock::decode(&block, &second).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is pushed is found again by stream and offset, in blocks near the target.
    #[test]
    fn every_piece_is_found(sizes in proptest::collection::vec((0..4_u64, 1..300_000_usize), 1..24)) {
        let mut pieces: Vec<_> = Vec::new();
        let mut ends = [0_i64; 4];
        for (at, (stream, size)) in sizes.iter().enumerate() {
            let start = ends[*stream as usize];
            ends[*stream as usize] += 3;
            pieces.push(piece(*stream, start, start + 3, vec![at as u8; *size]));
        }
        pieces.sort_by_key(|piece| (piece.stream, piece.range.start));
        let mut writer = ObjectWriter::new();
        pieces.iter().cloned().for_each(|piece| writer.push(piece));
        let bytes = Bytes::from(writer.finish().chunks.concat());
        let blocks = read(&bytes).expect("own bytes");
        let index = index(&bytes);
        for piece in &pieces {
            let row = index.from(piece.stream, piece.range.start.advance(2))[0];
            prop_assert!(row.range.clip(piece.range) == Some(piece.range));
        }
        let joined: Vec<u8> = blocks.iter().flat_map(|block| block.body.to_vec()).collect();
        let pushed: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        prop_assert!(joined == pushed);
    }

    /// No input makes the decoder panic or allocate beyond it.
    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), size in any::<u64>()) {
        prop_assert!(decode_tail(&bytes, size).is_err());
        prop_assert!(BlockHeader::decode(&bytes).is_err());
    }
}
