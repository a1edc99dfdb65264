//! Frames from anybody: no input ends the process, and what is understood is understood again after encoding.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tailwater_kafka::{Message, Reader, Request, RequestHeader, batch, messages::*};

/// What decodes encodes, and decodes to the same again.
fn again<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8], version: i16) {
    let Ok(message) = M::decode(bytes, version) else { return };
    let encoded = message.encode(version).expect("it came in this version");
    assert_eq!(M::decode(encoded, version).as_ref(), Ok(&message));
}

macro_rules! again {
    ($selector:expr, $body:expr, $version:expr; $($message:ident),*) => {{
        let all: &[fn(&[u8], i16)] = &[$(again::<$message>),*];
        all[usize::from($selector) % all.len()]($body, $version);
    }};
}

fuzz_target!(|input: &[u8]| {
    let mut reader = Reader::new(BytesMut::from(input));
    if let Ok(header) = RequestHeader::decode(&mut reader) {
        let _ = Request::decode(header.api, header.version, reader);
    }
    let [selector, version, body @ ..] = input else { return };
    let _ = GroupRecordKey::decode(body);
    let _ = ConsumerGroupRecordKey::decode(body);
    let _ = TransactionLogKey::decode_key(body);
    let _ = batch::Marker::read(body);
    let _ = ConsumerAssignment::decode_any(body);
    again!(*selector, body, i16::from(version % 19);
        ProduceRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
        FindCoordinatorRequest, JoinGroupRequest, HeartbeatRequest, LeaveGroupRequest, SyncGroupRequest,
        ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, InitProducerIdRequest,
        ProduceResponse, FetchResponse, MetadataResponse, OffsetFetchResponse, ApiVersionsResponse,
        AddPartitionsToTxnRequest, AddOffsetsToTxnRequest, EndTxnRequest, WriteTxnMarkersRequest, TxnOffsetCommitRequest,
        DescribeTransactionsRequest, ListTransactionsRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupDescribeRequest,
        AddPartitionsToTxnResponse, WriteTxnMarkersResponse, ConsumerGroupHeartbeatResponse,
        OffsetCommitValue, GroupMetadataValue, TransactionLogKey, TransactionLogValue, ConsumerGroupEpochValue,
        ConsumerMemberValue, TargetEpochValue, TargetMemberValue, CurrentAssignmentValue, ResolvedRegexValue);
});
