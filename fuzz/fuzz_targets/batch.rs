//! Record batches from anybody: no input ends the process, and what is valid stays valid with offsets assigned.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tailwater_kafka::batch::{self, Batches, HEADER_BYTES};
use tailwater_kafka::record::{self, RecordWalker};
use tailwater_types::{LeaderEpoch, Offset};

fuzz_target!(|input: &[u8]| {
    for (header, mut bytes) in Batches::new(BytesMut::from(input)).flatten() {
        // A fuzzer guesses no CRC: set it right, so that what stands behind it is reached.
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let body = &bytes[HEADER_BYTES..];
        let walked = RecordWalker::new(body, header.count, body.len() as u64).collect::<Result<Vec<_>, _>>();
        let read = record::records(body).collect::<Result<Vec<_>, _>>();
        if let (Ok(walked), Ok(read)) = (&walked, &read) {
            assert_eq!(walked.len(), read.len());
        }
        if batch::validate(&bytes).is_ok() {
            batch::assign(&mut bytes, Offset(42), LeaderEpoch(7));
            let header = batch::validate(&bytes).expect("offsets lie outside the CRC");
            assert_eq!(batch::whole_crc(&bytes), Ok(crc32c::crc32c(&bytes)));
            assert_eq!(batch::locate(&bytes, header.base_offset), Ok(Some(0)));
        }
        let stamped = batch::set_log_append_time(&mut bytes, 1).expect("the header was read");
        assert_eq!(stamped.crc, crc32c::crc32c(&bytes[21..]));
    }
    let _ = batch::validate(input);
    let _ = batch::locate(input, Offset(input.len() as i64));
});
