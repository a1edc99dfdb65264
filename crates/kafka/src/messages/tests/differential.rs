//! Our bytes through the `kafka-protocol` crate, and its bytes through ours, for every version that both have. The few
//! newer versions that it lacks have golden bytes.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage};

use crate::messages as ours;
use crate::testing::{Fill, Rng};
use crate::{Message, Versions};

const SEEDS: u64 = 60;

/// What we encode they decode to something that they encode to the same bytes, and these decode to what we began with.
fn agree<Ours, Theirs>() -> Versions
where
    Ours: Message + Fill + Debug + PartialEq,
    Theirs: TheirMessage + Encodable + Decodable + Debug,
{
    let both = Versions {
        min: Ours::VERSIONS.min.max(Theirs::VERSIONS.min),
        max: Ours::VERSIONS.max.min(Theirs::VERSIONS.max),
    };
    for number in both.min..=both.max {
        let version = Ours::version(number).unwrap();
        for seed in 0..SEEDS {
            let case = format!("{} v{number}, seed {seed}", Ours::NAME);
            let message = Ours::fill(&mut Rng(seed), version);
            let bytes = message.encode(number).unwrap_or_else(|error| panic!("{case}: {error}"));

            let mut left: Bytes = bytes.clone();
            let decoded = Theirs::decode(&mut left, number);
            let decoded = decoded.unwrap_or_else(|error| panic!("{case}: they don't read it: {error}\n{message:?}"));
            assert!(left.is_empty(), "{case}: they leave {} bytes", left.len());

            let mut encoded = BytesMut::new();
            decoded
                .encode(&mut encoded, number)
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(encoded, bytes, "{case}:\n{message:?}\n{decoded:?}");
            assert_eq!(Ours::decode(encoded, number).as_ref(), Ok(&message), "{case}");
            assert_eq!(field_names(&message), field_names(&decoded), "{case}");
        }
    }
    both
}

/// A field of Tailwater's own comes last, under a tag that is the only one which others don't know: as we and they show it.
const OWN: [&str; 2] = [" tailwater_", "unknown_tagged_fields: {10000"];

/// The names of all fields in their order on the wire: two fields of one type that change places agree in bytes.
fn field_names(message: &impl Debug) -> Vec<String> {
    let mut text = format!("{message:?}");
    let own = OWN.iter().filter_map(|own| text.find(own)).min();
    text.truncate(own.unwrap_or(text.len()));
    let names = text.match_indices(": ").map(|(at, _)| {
        let head = text[..at].trim_end_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        text[head.len()..at].to_owned()
    });
    names
        .filter(|name| !name.is_empty() && name != "unknown_tagged_fields")
        .collect()
}

macro_rules! agree {
    ($($test:ident: $($message:ident $min:literal..=$max:literal),*;)*) => {$(
        #[test]
        fn $test() {
            $(
                let both = agree::<ours::$message, theirs::$message>();
                assert_eq!(both, Versions { min: $min, max: $max }, stringify!($message));
            )*
        }
    )*};
}

agree! {
    produce: ProduceRequest 3..=13, ProduceResponse 3..=13;
    fetch: FetchRequest 4..=18, FetchResponse 4..=18;
    list_offsets: ListOffsetsRequest 1..=10, ListOffsetsResponse 1..=10;
    metadata: MetadataRequest 0..=13, MetadataResponse 0..=13;
    api_versions: ApiVersionsRequest 0..=4, ApiVersionsResponse 0..=4;
    create_topics: CreateTopicsRequest 2..=7, CreateTopicsResponse 2..=7;
    delete_topics: DeleteTopicsRequest 1..=6, DeleteTopicsResponse 1..=6;
    describe_configs: DescribeConfigsRequest 1..=4, DescribeConfigsResponse 1..=4;
    alter_configs: AlterConfigsRequest 0..=2, AlterConfigsResponse 0..=2;
    incremental_alter_configs: IncrementalAlterConfigsRequest 0..=1, IncrementalAlterConfigsResponse 0..=1;
    list_config_resources: ListConfigResourcesRequest 0..=1, ListConfigResourcesResponse 0..=1;
    create_partitions: CreatePartitionsRequest 0..=3, CreatePartitionsResponse 0..=3;
    delete_records: DeleteRecordsRequest 0..=2, DeleteRecordsResponse 0..=2;
    init_producer_id: InitProducerIdRequest 0..=5, InitProducerIdResponse 0..=6;
    find_coordinator: FindCoordinatorRequest 0..=6, FindCoordinatorResponse 0..=6;
    join_group: JoinGroupRequest 0..=9, JoinGroupResponse 0..=9;
    sync_group: SyncGroupRequest 0..=5, SyncGroupResponse 0..=5;
    heartbeat: HeartbeatRequest 0..=4, HeartbeatResponse 0..=4;
    leave_group: LeaveGroupRequest 0..=5, LeaveGroupResponse 0..=5;
    offset_commit: OffsetCommitRequest 2..=9, OffsetCommitResponse 2..=10;
    offset_fetch: OffsetFetchRequest 1..=9, OffsetFetchResponse 1..=10;
    offset_for_leader_epoch: OffsetForLeaderEpochRequest 2..=4, OffsetForLeaderEpochResponse 2..=4;
    describe_cluster: DescribeClusterRequest 0..=2, DescribeClusterResponse 0..=2;
    describe_groups: DescribeGroupsRequest 0..=6, DescribeGroupsResponse 0..=6;
    list_groups: ListGroupsRequest 0..=5, ListGroupsResponse 0..=5;
    delete_groups: DeleteGroupsRequest 0..=2, DeleteGroupsResponse 0..=2;
    describe_topic_partitions: DescribeTopicPartitionsRequest 0..=0, DescribeTopicPartitionsResponse 0..=0;
    describe_log_dirs: DescribeLogDirsRequest 1..=4;
    describe_producers: DescribeProducersRequest 0..=0, DescribeProducersResponse 0..=0;
    elect_leaders: ElectLeadersRequest 0..=2, ElectLeadersResponse 0..=2;
    update_features: UpdateFeaturesRequest 0..=2, UpdateFeaturesResponse 0..=2;
    describe_quorum: DescribeQuorumRequest 0..=2, DescribeQuorumResponse 0..=2;
    alter_reassignments: AlterPartitionReassignmentsRequest 0..=1, AlterPartitionReassignmentsResponse 0..=1;
    list_reassignments: ListPartitionReassignmentsRequest 0..=0, ListPartitionReassignmentsResponse 0..=0;
    add_partitions_to_txn: AddPartitionsToTxnRequest 0..=5, AddPartitionsToTxnResponse 0..=5;
    add_offsets_to_txn: AddOffsetsToTxnRequest 0..=4, AddOffsetsToTxnResponse 0..=4;
    end_txn: EndTxnRequest 0..=5, EndTxnResponse 0..=5;
    write_txn_markers: WriteTxnMarkersResponse 1..=1;
    txn_offset_commit: TxnOffsetCommitRequest 0..=5, TxnOffsetCommitResponse 0..=5;
    describe_transactions: DescribeTransactionsRequest 0..=0, DescribeTransactionsResponse 0..=0;
    list_transactions: ListTransactionsRequest 0..=2, ListTransactionsResponse 0..=2;
    consumer_group_heartbeat: ConsumerGroupHeartbeatRequest 0..=1, ConsumerGroupHeartbeatResponse 0..=1;
    consumer_group_describe: ConsumerGroupDescribeRequest 0..=1, ConsumerGroupDescribeResponse 0..=1;
    offset_delete: OffsetDeleteRequest 0..=0, OffsetDeleteResponse 0..=0;
}
