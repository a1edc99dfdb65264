//! Bytes that Apache Kafka 4.3's own classes wrote: for the versions that the other codec doesn't have, for the
//! coordinator's records, and for a message with several tagged fields.

use std::fmt::Debug;

use bytes::Bytes;

use crate::messages::*;
use crate::{ErrorCode, Message, Uuid};

const TOPIC_ID: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The message has exactly these bytes, and these bytes are that message.
fn golden<M: Message + Debug + PartialEq>(message: &M, version: i16, bytes: &str) {
    let bytes = hex(bytes);
    assert_eq!(message.encode(version).unwrap(), bytes);
    assert_eq!(M::decode(&bytes[..], version).as_ref(), Ok(message));
}

#[test]
fn init_producer_id_6() {
    let request = InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 60_000,
        producer_id: 7,
        producer_epoch: 3,
        enable_2_pc: true,
        keep_prepared_txn: false,
    };
    golden(&request, 6, "0374780000ea6000000000000000070003010000");
    let response = InitProducerIdResponse {
        throttle_time_ms: 1,
        error_code: ErrorCode::ConcurrentTransactions,
        producer_id: 8,
        producer_epoch: 4,
        ongoing_txn_producer_id: 9,
        ongoing_txn_producer_epoch: 5,
    };
    golden(&response, 6, "000000010033000000000000000800040000000000000009000500");
}

/// Up to version 4 the other codec has them too, but its structs lack version 5's field.
#[test]
fn describe_log_dirs_1_to_4() {
    let partition = DescribeLogDirsPartition {
        partition_index: 2,
        partition_size: 300,
        offset_lag: 4,
        is_future_key: true,
    };
    let dir = DescribeLogDirsResult {
        error_code: ErrorCode::KafkaStorageError,
        log_dir: "d".into(),
        topics: vec![DescribeLogDirsTopic {
            name: "t".into(),
            partitions: vec![partition],
        }],
        ..Default::default()
    };
    let response = DescribeLogDirsResponse {
        throttle_time_ms: 1,
        results: vec![dir],
        ..Default::default()
    };
    let sizes = "00000002000000000000012c000000000000000401";
    let unknown = "f".repeat(32);
    let cases = [
        (1, format!("000000010000000100380001640000000100017400000001{sizes}")),
        (2, format!("00000001020038026402027402{sizes}00000000")),
        (3, format!("000000010000020038026402027402{sizes}00000000")),
        (4, format!("000000010000020038026402027402{sizes}0000{unknown}0000")),
    ];
    for (version, bytes) in cases {
        golden(&response, version, &bytes);
    }
}

#[test]
fn describe_log_dirs_5() {
    let topic = DescribableLogDirTopic {
        topic: "t".into(),
        partitions: vec![1, 2],
    };
    let some = DescribeLogDirsRequest {
        topics: Some(vec![topic]),
    };
    golden(&some, 5, "0202740300000001000000020000");
    golden(&DescribeLogDirsRequest { topics: None }, 5, "0000");
    let partition = DescribeLogDirsPartition {
        partition_index: 2,
        partition_size: 300,
        offset_lag: 4,
        is_future_key: true,
    };
    let dir = DescribeLogDirsResult {
        error_code: ErrorCode::KafkaStorageError,
        log_dir: "d".into(),
        topics: vec![DescribeLogDirsTopic {
            name: "t".into(),
            partitions: vec![partition],
        }],
        total_bytes: 1000,
        usable_bytes: -1,
        is_cordoned: true,
    };
    let response = DescribeLogDirsResponse {
        throttle_time_ms: 1,
        error_code: ErrorCode::None,
        results: vec![dir],
    };
    golden(
        &response,
        5,
        "00000001000002003802640202740200000002000000000000012c000000000000000401000000000000000003e8\
            ffffffffffffffff010000",
    );
}

#[test]
fn list_offsets_11() {
    let partition = ListOffsetsPartition {
        partition_index: 2,
        current_leader_epoch: 5,
        timestamp: -3,
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![partition],
        }],
        timeout_ms: 1500,
    };
    golden(
        &request,
        11,
        "ffffffff01020274020000000200000005fffffffffffffffd0000000005dc00",
    );
    let partition = ListOffsetsPartitionResponse {
        partition_index: 2,
        error_code: ErrorCode::NotLeaderOrFollower,
        timestamp: 11,
        offset: 12,
        leader_epoch: 13,
    };
    let response = ListOffsetsResponse {
        throttle_time_ms: 1,
        topics: vec![ListOffsetsTopicResponse {
            name: "t".into(),
            partitions: vec![partition],
        }],
    };
    golden(
        &response,
        11,
        "0000000102027402000000020006000000000000000b000000000000000c0000000d000000",
    );
}

#[test]
fn offset_commit_10() {
    let partition = OffsetCommitRequestPartition {
        partition_index: 2,
        committed_offset: 300,
        committed_leader_epoch: 6,
        committed_metadata: Some("md".into()),
    };
    let topic = OffsetCommitRequestTopic {
        topic_id: TOPIC_ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 4,
        member_id: "m".into(),
        group_instance_id: Some("i".into()),
        topics: vec![topic],
        ..Default::default()
    };
    golden(
        &request,
        10,
        "026700000004026d0269020102030405060708090a0b0c0d0e0f100200000002000000000000012c00000006\
            036d64000000",
    );
    let partition = OffsetCommitResponsePartition {
        partition_index: 2,
        error_code: ErrorCode::OffsetMetadataTooLarge,
    };
    let topic = OffsetCommitResponseTopic {
        topic_id: TOPIC_ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let response = OffsetCommitResponse {
        throttle_time_ms: 1,
        topics: vec![topic],
    };
    golden(
        &response,
        10,
        "00000001020102030405060708090a0b0c0d0e0f100200000002000c000000",
    );
}

#[test]
fn offset_fetch_10() {
    let topic = OffsetFetchRequestTopics {
        topic_id: TOPIC_ID,
        partition_indexes: vec![1, 2],
        ..Default::default()
    };
    let some = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: Some("m".into()),
        member_epoch: 3,
        topics: Some(vec![topic]),
    };
    let every = OffsetFetchRequestGroup {
        group_id: "h".into(),
        ..Default::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![some, every],
        require_stable: true,
        ..Default::default()
    };
    golden(
        &request,
        10,
        "030267026d00000003020102030405060708090a0b0c0d0e0f100300000001000000020000026800ffffffff\
            00000100",
    );
    let partition = OffsetFetchResponsePartitions {
        partition_index: 2,
        committed_offset: 300,
        committed_leader_epoch: 6,
        metadata: Some("md".into()),
        error_code: ErrorCode::UnstableOffsetCommit,
    };
    let topic = OffsetFetchResponseTopics {
        topic_id: TOPIC_ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let group = OffsetFetchResponseGroup {
        group_id: "g".into(),
        topics: vec![topic],
        error_code: ErrorCode::CoordinatorNotAvailable,
    };
    let response = OffsetFetchResponse {
        throttle_time_ms: 1,
        groups: vec![group],
        ..Default::default()
    };
    golden(
        &response,
        10,
        "00000001020267020102030405060708090a0b0c0d0e0f100200000002000000000000012c00000006036d64\
            00580000000f0000",
    );
}

#[test]
fn fetch_response_18() {
    let partition = PartitionData {
        partition_index: 2,
        error_code: ErrorCode::NotLeaderOrFollower,
        high_watermark: 20,
        last_stable_offset: 19,
        log_start_offset: 3,
        current_leader: FetchLeaderIdAndEpoch {
            leader_id: 1,
            leader_epoch: 5,
        },
        aborted_transactions: Some(vec![AbortedTransaction {
            producer_id: 7,
            first_offset: 8,
        }]),
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        topic_id: TOPIC_ID,
        partitions: vec![partition],
        ..Default::default()
    };
    let endpoint = FetchNodeEndpoint {
        node_id: 1,
        host: "h".into(),
        port: 9092,
        rack: Some("r".into()),
    };
    let response = FetchResponse {
        throttle_time_ms: 1,
        session_id: 9,
        responses: vec![topic],
        node_endpoints: vec![endpoint],
        ..Default::default()
    };
    golden(
        &response,
        18,
        "00000001000000000009020102030405060708090a0b0c0d0e0f100200000002000600000000000000140000\
            0000000000130000000000000003020000000000000007000000000000000800ffffffff0101010900000001\
            00000005000001000e0200000001026800002384027200",
    );
}

/// A key's first two bytes are its type: Kafka's brokers write 1 for offsets and 2 for groups, and once wrote 0.
#[test]
fn group_record_keys() {
    let offset = GroupRecordKey::Offset(OffsetCommitKey {
        group: "g".into(),
        topic: "t".into(),
        partition: 2,
    });
    let group = GroupRecordKey::Group(GroupMetadataKey { group: "g".into() });
    let body = "00016700017400000002";
    assert_eq!(offset.encode().unwrap(), hex(&format!("0001{body}")));
    assert_eq!(
        GroupRecordKey::decode(&hex(&format!("0000{body}"))).unwrap(),
        Some(offset.clone())
    );
    assert_eq!(GroupRecordKey::decode(&offset.encode().unwrap()).unwrap(), Some(offset));
    assert_eq!(group.encode().unwrap(), hex("0002000167"));
    assert_eq!(GroupRecordKey::decode(&group.encode().unwrap()).unwrap(), Some(group));
    assert_eq!(
        GroupRecordKey::decode(&hex("00030001670001")).unwrap(),
        None,
        "a type of other groups"
    );
}

#[test]
fn offset_commit_values() {
    let newest = OffsetCommitValue {
        offset: 300,
        leader_epoch: 6,
        metadata: "md".into(),
        commit_timestamp: 1_700_000_000_000,
        topic_id: TOPIC_ID,
        ..Default::default()
    };
    let bytes = hex("0004000000000000012c00000006036d640000018bcfe568000100100102030405060708090a0b0c0d0e0f10");
    assert_eq!(newest.encode_value().unwrap(), bytes);
    assert_eq!(OffsetCommitValue::decode_value(&bytes).unwrap(), newest);

    let without_topic_id = OffsetCommitValue {
        topic_id: Uuid::nil(),
        ..newest
    };
    let bytes = hex("0003000000000000012c0000000600026d640000018bcfe56800");
    assert_eq!(OffsetCommitValue::decode_value(&bytes).unwrap(), without_topic_id);

    let expiring = OffsetCommitValue {
        leader_epoch: -1,
        expire_timestamp: 1_700_000_000_001,
        ..without_topic_id
    };
    let bytes = hex("0001000000000000012c00026d640000018bcfe568000000018bcfe56801");
    assert_eq!(OffsetCommitValue::decode_value(&bytes).unwrap(), expiring);
}

#[test]
fn group_metadata_value_3() {
    let member = MemberMetadata {
        member_id: "m".into(),
        group_instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout: 300_000,
        session_timeout: 45_000,
        subscription: Bytes::from_static(&[1, 2]),
        assignment: Bytes::from_static(&[3]),
    };
    let group = GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 4,
        protocol: Some("range".into()),
        leader: Some("m".into()),
        current_state_timestamp: 1_700_000_000_000,
        members: vec![member],
    };
    let bytes = hex(
        "00030008636f6e73756d657200000004000572616e676500016d0000018bcfe568000000000100016d000169\
            000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103",
    );
    assert_eq!(group.encode_value().unwrap(), bytes);
    assert_eq!(GroupMetadataValue::decode_value(&bytes).unwrap(), group);
}

/// The other codec has version 1 too, but its struct lacks version 2's field.
#[test]
fn write_txn_markers_1_and_2() {
    let topic = WritableTxnMarkerTopic {
        name: "t".into(),
        partition_indexes: vec![1, 2],
    };
    let marker = WritableTxnMarker {
        producer_id: 7,
        producer_epoch: 3,
        transaction_result: true,
        topics: vec![topic],
        coordinator_epoch: 9,
        transaction_version: 2,
    };
    let request = WriteTxnMarkersRequest { markers: vec![marker] };
    golden(
        &request,
        2,
        "0200000000000000070003010202740300000001000000020000000009020000",
    );
    let mut older = request;
    older.markers[0].transaction_version = 0;
    golden(
        &older,
        1,
        "02000000000000000700030102027403000000010000000200000000090000",
    );
    let topic = WritableTxnMarkerTopicResult {
        name: "t".into(),
        partitions: vec![WritableTxnMarkerPartitionResult {
            partition_index: 2,
            error_code: ErrorCode::TransactionCoordinatorFenced,
        }],
    };
    let response = WriteTxnMarkersResponse {
        markers: vec![WritableTxnMarkerResult {
            producer_id: 7,
            topics: vec![topic],
        }],
    };
    golden(&response, 2, "0200000000000000070202740200000002003400000000");
}

#[test]
fn transaction_log_keys() {
    let key = TransactionLogKey {
        transactional_id: "tx".into(),
    };
    assert_eq!(key.encode_key().unwrap(), hex("000000027478"));
    assert_eq!(TransactionLogKey::decode_key(&key.encode_key().unwrap()), Ok(Some(key)));
    assert_eq!(
        TransactionLogKey::decode_key(&hex("00010000")),
        Ok(None),
        "another type"
    );
}

/// Version 1 is what is written where transactions have version 1 or 2; Kafka before them wrote version 0.
#[test]
fn transaction_log_values() {
    let ongoing = TransactionLogValue {
        producer_id: 7,
        producer_epoch: 3,
        transaction_timeout_ms: 60_000,
        transaction_status: 1,
        transaction_partitions: Some(vec![TransactionLogPartitions {
            topic: "t".into(),
            partition_ids: vec![1, 2],
        }]),
        transaction_last_update_timestamp_ms: 1_700_000_000_001,
        transaction_start_timestamp_ms: 1_700_000_000_000,
        ..Default::default()
    };
    let bytes = hex(
        "0000000000000000000700030000ea60010000000100017400000002000000010000000200\
            00018bcfe568010000018bcfe56800",
    );
    assert_eq!(TransactionLogValue::decode_value(&bytes), Ok(ongoing.clone()));

    let bumped = TransactionLogValue {
        previous_producer_id: 6,
        next_producer_id: 8,
        client_transaction_version: 2,
        next_producer_epoch: 0,
        ..ongoing
    };
    let bytes = hex("0001000000000000000700030000ea60010202740300000001000000020000\
            00018bcfe568010000018bcfe568000400080000000000000006010800000000000000080202000203020000");
    assert_eq!(bumped.encode_value().unwrap(), bytes);
    assert_eq!(TransactionLogValue::decode_value(&bytes), Ok(bumped));

    let empty = TransactionLogValue {
        producer_id: 7,
        transaction_timeout_ms: 60_000,
        transaction_last_update_timestamp_ms: 1_700_000_000_001,
        transaction_start_timestamp_ms: -1,
        ..Default::default()
    };
    let bytes = hex("0001000000000000000700000000ea6000000000018bcfe56801ffffffffffffffff00");
    assert_eq!(empty.encode_value().unwrap(), bytes);
    assert_eq!(TransactionLogValue::decode_value(&bytes), Ok(empty));
}
