use std::io::BufReader;

use proptest::prelude::*;

use super::*;
use crate::batch::{BatchBuilder, HEADER_BYTES};

fn walk(body: &[u8], count: i32) -> Result<Vec<RecordInfo>, RecordError> {
    RecordWalker::new(body, count, body.len() as u64).collect()
}

/// One record: null key, value "v", no headers.
const RECORD: &[u8] = &[14, 0, 0, 0, 1, 2, b'v', 0];

#[test]
fn one_record_byte_by_byte() {
    let record = Record::read(&mut &RECORD[..]).unwrap();
    let expected = Record {
        offset_delta: 0,
        timestamp_delta: 0,
        key: None,
        value: Some(b"v"),
        headers: vec![],
    };
    assert_eq!(record, expected);
    let info = RecordInfo {
        offset_delta: 0,
        timestamp_delta: 0,
        key_bytes: None,
        value_bytes: Some(1),
        headers: 0,
    };
    assert_eq!(walk(RECORD, 1).unwrap(), [info]);
}

/// Each way in which records can lie, and the error it gets.
#[test]
fn refuses_records_that_lie() {
    use RecordError::*;
    let changed = |at: usize, byte: u8| {
        let mut record = RECORD.to_vec();
        record[at] = byte;
        walk(&record, 1).unwrap_err()
    };
    assert!(matches!(walk(RECORD, 2), Err(TooLarge { .. })), "one less than counted");
    assert!(
        matches!(walk(&[RECORD, RECORD].concat(), 1), Err(Trailing)),
        "one more than counted"
    );
    assert!(matches!(
        walk(&[RECORD, RECORD].concat(), 2),
        Err(OffsetDelta { expected: 1, found: 0 })
    ));
    assert!(matches!(changed(0, 16), TooLarge { .. }), "longer than the input");
    assert!(matches!(changed(0, 12), TooLarge { .. }), "shorter than its fields");
    assert!(matches!(walk(&[&[16], &RECORD[1..], &[0]].concat(), 1), Err(Short(1))));
    assert!(matches!(changed(0, 1), Length(-1)), "a length of -1");
    assert!(matches!(changed(3, 2), OffsetDelta { expected: 0, found: 1 }));
    assert!(matches!(changed(4, 3), Length(-2)), "a key of -2 bytes");
    assert!(matches!(changed(5, 0x7e), TooLarge { .. }), "a value behind the end");
    assert!(matches!(changed(7, 1), Length(-1)), "-1 headers");
    assert!(matches!(changed(7, 2), TooLarge { .. }), "a header that isn't there");
    assert!(matches!(walk(&[0xff; 12], 1), Err(Varint)));
    assert!(matches!(walk(&[], 1), Err(TooLarge { .. })));
}

/// A stream may not give more than it is allowed, whatever its records say.
#[test]
fn a_stream_is_bounded() {
    let endless = BufReader::new(std::io::repeat(0));
    let last = RecordWalker::new(endless, i32::MAX, 1 << 20).last().unwrap();
    assert!(last.is_err());

    let mut builder = BatchBuilder::new();
    (0..100).for_each(|_| builder.push(0, None, Some(&[7; 1000]), &[]));
    let batch = builder.build();
    let body = &batch[HEADER_BYTES..];
    let walked = |max_bytes| RecordWalker::new(body, 100, max_bytes).collect::<Result<Vec<_>, _>>();
    assert_eq!(walked(body.len() as u64).unwrap().len(), 100);
    assert!(matches!(
        walked(body.len() as u64 - 1),
        Err(RecordError::TooLarge { .. })
    ));
}

type Sample = (i32, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

proptest! {
    /// What the builder writes comes back from a slice, and from a stream that comes in pieces of a few bytes.
    #[test]
    fn written_records_read_back(
        samples in prop::collection::vec(any::<Sample>(), 1..20),
        buffer in 1usize..64,
    ) {
        let mut builder = BatchBuilder::new();
        for (time, key, value, headers) in &samples {
            let headers: Vec<_> =
                headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
            builder.push((*time).into(), key.as_deref(), value.as_deref(), &headers);
        }
        let batch = builder.build();
        let body = &batch[HEADER_BYTES..];
        let stream = RecordWalker::new(BufReader::with_capacity(buffer, body), samples.len() as i32, u64::MAX);
        let infos: Vec<_> = stream.collect::<Result<_, _>>().unwrap();
        let read: Vec<_> = records(body).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!((infos.len(), read.len()), (samples.len(), samples.len()));
        for (n, ((time, key, value, headers), (info, record))) in samples.iter().zip(infos.iter().zip(&read)).enumerate() {
            prop_assert_eq!(record.offset_delta as usize, n);
            prop_assert_eq!(record.timestamp_delta, i64::from(*time) - i64::from(samples[0].0));
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
            let header = |h: &Header<'_>| (h.key.to_vec(), h.value.map(<[u8]>::to_vec));
            prop_assert_eq!(&record.headers.iter().map(header).collect::<Vec<_>>(), headers);
            let expected = RecordInfo {
                offset_delta: record.offset_delta,
                timestamp_delta: record.timestamp_delta,
                key_bytes: key.as_ref().map(|key| key.len() as u32),
                value_bytes: value.as_ref().map(|value| value.len() as u32),
                headers: headers.len() as u32,
            };
            prop_assert_eq!(*info, expected);
        }
    }

    /// Arbitrary bytes are an error or records, and never a panic.
    #[test]
    fn survives_anything(bytes: Vec<u8>, count: i32) {
        let _ = walk(&bytes, count);
        records(&bytes).for_each(drop);
    }
}
