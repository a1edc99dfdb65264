//! Input that lies: no panic, and no memory that the input doesn't justify.

use bytes::{BufMut as _, BytesMut};

use crate::messages::*;
use crate::testing::{Fill, Rng, allocated_bytes};
use crate::{CodecError, Message, Str};

/// What a message in memory may have for each of its bytes on the wire: a field of one byte may be an empty string of 32,
/// and a growing vector allocates up to twice what it holds, and held.
const MEMORY_FACTOR: usize = 200;

/// Lengths and counts that aren't so, in each of the wire's forms.
const FORGERIES: &[&[u8]] = &[
    &[0],
    &[0xff],
    &[0x80],
    &(-1i16).to_be_bytes(),
    &i16::MIN.to_be_bytes(),
    &i16::MAX.to_be_bytes(),
    &(-1i32).to_be_bytes(),
    &0i32.to_be_bytes(),
    &i32::MIN.to_be_bytes(),
    &i32::MAX.to_be_bytes(),
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff],
];

fn decode_within_bounds<M: Message>(input: &[u8], version: i16) -> Result<M, CodecError> {
    let frame = BytesMut::from(input);
    let before = allocated_bytes();
    let result = M::decode(frame, version);
    let allocated = allocated_bytes() - before;
    let justified = MEMORY_FACTOR * input.len() + 1024;
    assert!(
        allocated <= justified,
        "{} v{version}: {allocated} bytes for {input:x?}",
        M::NAME
    );
    result
}

fn survives<M: Message + Fill>() {
    for number in M::VERSIONS.min..=M::VERSIONS.max {
        let version = M::version(number).unwrap();
        for seed in 0..3 {
            let bytes = M::fill(&mut Rng(seed), version).encode(number).unwrap();
            for at in 0..bytes.len() {
                assert!(
                    decode_within_bounds::<M>(&bytes[..at], number).is_err(),
                    "{} v{number} cut",
                    M::NAME
                );
                for forgery in FORGERIES {
                    let mut forged = bytes.to_vec();
                    let end = forged.len().min(at + forgery.len());
                    forged[at..end].copy_from_slice(&forgery[..end - at]);
                    // A forged field that isn't a length may well be right.
                    let _ = decode_within_bounds::<M>(&forged, number);
                }
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(
                decode_within_bounds::<M>(&longer, number).err(),
                Some(CodecError::Trailing(1))
            );
        }
    }
}

macro_rules! survive {
    ($($test:ident: $($message:ident),*;)*) => {$(
        #[test]
        fn $test() {
            $(survives::<$message>();)*
        }
    )*};
}

survive! {
    produce: ProduceRequest, ProduceResponse;
    fetch: FetchRequest, FetchResponse;
    list_offsets: ListOffsetsRequest, ListOffsetsResponse;
    metadata: MetadataRequest, MetadataResponse;
    api_versions: ApiVersionsRequest, ApiVersionsResponse;
    topics: CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse;
    describe_configs: DescribeConfigsRequest, DescribeConfigsResponse;
    alter_configs: AlterConfigsRequest, AlterConfigsResponse;
    incremental_alter_configs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    list_config_resources: ListConfigResourcesRequest, ListConfigResourcesResponse;
    partitions: CreatePartitionsRequest, CreatePartitionsResponse, DeleteRecordsRequest, DeleteRecordsResponse;
    init_producer_id: InitProducerIdRequest, InitProducerIdResponse;
    find_coordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    join_group: JoinGroupRequest, JoinGroupResponse;
    sync_group: SyncGroupRequest, SyncGroupResponse;
    membership: HeartbeatRequest, HeartbeatResponse, LeaveGroupRequest, LeaveGroupResponse;
    offsets: OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse;
    offset_for_leader_epoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    describe_cluster: DescribeClusterRequest, DescribeClusterResponse;
    described_groups: DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest, ListGroupsResponse;
    deleted_groups: DeleteGroupsRequest, DeleteGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse;
    describe_topic_partitions: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
    describe_log_dirs: DescribeLogDirsRequest, DescribeLogDirsResponse;
    describe_producers: DescribeProducersRequest, DescribeProducersResponse;
    elect_leaders: ElectLeadersRequest, ElectLeadersResponse;
    update_features: UpdateFeaturesRequest, UpdateFeaturesResponse;
    describe_quorum: DescribeQuorumRequest, DescribeQuorumResponse;
    alter_reassignments: AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    list_reassignments: ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    transaction_members: AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddOffsetsToTxnRequest,
        AddOffsetsToTxnResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse;
    transaction_ends: EndTxnRequest, EndTxnResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse;
    described_transactions: DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
        ListTransactionsResponse;
    consumer_groups: ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerGroupDescribeRequest,
        ConsumerGroupDescribeResponse;
    transaction_records: TransactionLogKey, TransactionLogValue;
    group_records: OffsetCommitKey, OffsetCommitValue, GroupMetadataKey, GroupMetadataValue;
    consumer_group_records: ConsumerGroupKey, ConsumerMemberKey, ResolvedRegexKey, ConsumerGroupEpochValue,
        ConsumerMemberValue, TargetEpochValue, TargetMemberValue, CurrentAssignmentValue, ResolvedRegexValue;
}

/// A count that the input could hold, of elements that are larger in memory than on the wire.
#[test]
fn a_count_within_the_input_does_not_allocate_for_larger_elements() {
    let mut bytes = BytesMut::new();
    bytes.put_i32(500_000);
    bytes.put_slice(&[0xff; 1_000_000]);
    let before = allocated_bytes();
    assert!(MetadataRequest::decode(bytes, 0).is_err());
    assert!(allocated_bytes() - before <= 1_100_000);
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        ..Default::default()
    };
    let bytes = request.encode(4).unwrap();
    let (&no_tags, body) = bytes.split_last().unwrap();
    assert_eq!(no_tags, 0);
    let tagged = |tags: &[u8]| HeartbeatRequest::decode([body, tags].concat().as_slice(), 4);
    assert_eq!(tagged(&[2, 7, 3, 1, 2, 3, 99, 0]), Ok(request));
    assert!(tagged(&[1, 7, 3, 1, 2]).is_err(), "longer than the input");
    assert!(
        tagged(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err(),
        "more than the input has"
    );
}

/// A known tagged field must have the size it says.
#[test]
fn a_tagged_field_is_read_to_its_end() {
    let response = ApiVersionsResponse {
        zk_migration_ready: true,
        ..Default::default()
    };
    let bytes = response.encode(3).unwrap();
    let (body, tags) = bytes.split_at(bytes.len() - 4);
    assert_eq!(tags, [1, 3, 1, 1]);
    let forged = [body, &[1, 3, 2, 1, 1]].concat();
    assert!(ApiVersionsResponse::decode(&forged[..], 3).is_err());
}

#[test]
fn null_is_an_error_where_the_version_has_none() {
    assert!(MetadataRequest::decode(&(-1i32).to_be_bytes()[..], 0).is_err());
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert!(all.encode(0).is_err());
    assert_eq!(MetadataRequest::decode(all.encode(1).unwrap(), 1), Ok(all));
}

/// A value the version can't carry is an error, unless the field may be lost.
#[test]
fn what_would_be_lost_is_not_encoded() {
    let request = HeartbeatRequest {
        group_instance_id: Some("i".into()),
        ..Default::default()
    };
    let error = CodecError::NotInVersion {
        field: "HeartbeatRequest.group_instance_id",
        version: 2,
    };
    assert_eq!(request.encode(2), Err(error));
    let request = JoinGroupRequest {
        reason: Some("why not".into()),
        ..Default::default()
    };
    assert!(request.encode(7).is_ok());
}

#[test]
fn text_longer_than_its_length_field_is_not_encoded() {
    let request = HeartbeatRequest {
        group_id: "x".repeat(40_000).into(),
        ..Default::default()
    };
    assert!(request.encode(3).is_err());
    assert!(request.encode(4).is_ok(), "a compact length has no such limit");
}

#[test]
fn text_is_utf8() {
    let bytes = [0, 2, 0xc3, 0x28, 0, 0, 0, 0, 0, 0];
    let error = CodecError::Field {
        field: "HeartbeatRequest.group_id",
        source: Box::new(CodecError::Utf8),
    };
    assert_eq!(HeartbeatRequest::decode(&bytes[..], 0), Err(error));
    assert_eq!(Str::from_utf8(b"\xff"[..].into()), Err(CodecError::Utf8));
}
