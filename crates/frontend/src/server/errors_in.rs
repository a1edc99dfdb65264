//! Where answers say that something has gone wrong, so that it can be counted.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;

pub(super) trait ErrorsIn {
    /// Tells every error code of the answer, successes too.
    fn errors_in(&self, tell: &mut dyn FnMut(ErrorCode));
}

macro_rules! errors_in {
    ($($response:ty: |$it:ident| $codes:expr;)*) => {$(
        impl ErrorsIn for $response {
            fn errors_in(&self, tell: &mut dyn FnMut(ErrorCode)) {
                let $it = self;
                $codes.into_iter().for_each(tell);
            }
        }
    )*};
}

errors_in! {
    ApiVersionsResponse: |it| [it.error_code];
    MetadataResponse: |it| it.topics.iter().map(|topic| topic.error_code);
    ListOffsetsResponse: |it| it.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    FindCoordinatorResponse: |it| it.coordinators.iter().map(|found| found.error_code).chain([it.error_code]);
    InitProducerIdResponse: |it| [it.error_code];
    CreateTopicsResponse: |it| it.topics.iter().map(|topic| topic.error_code);
    DeleteTopicsResponse: |it| it.responses.iter().map(|topic| topic.error_code);
    DescribeConfigsResponse: |it| it.results.iter().map(|result| result.error_code);
    AlterConfigsResponse: |it| it.responses.iter().map(|result| result.error_code);
    IncrementalAlterConfigsResponse: |it| it.responses.iter().map(|result| result.error_code);
    ListConfigResourcesResponse: |it| [it.error_code];
    CreatePartitionsResponse: |it| it.results.iter().map(|topic| topic.error_code);
    DeleteRecordsResponse: |it| it.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    JoinGroupResponse: |it| [it.error_code];
    SyncGroupResponse: |it| [it.error_code];
    HeartbeatResponse: |it| [it.error_code];
    ConsumerGroupHeartbeatResponse: |it| [it.error_code];
    ConsumerGroupDescribeResponse: |it| it.groups.iter().map(|group| group.error_code);
    LeaveGroupResponse: |it| it.members.iter().map(|member| member.error_code).chain([it.error_code]);
    OffsetCommitResponse: |it| it.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    OffsetFetchResponse: |it| it.groups.iter().map(|group| group.error_code).chain([it.error_code]);
    OffsetForLeaderEpochResponse: |it| it.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    DescribeClusterResponse: |it| [it.error_code];
    DescribeGroupsResponse: |it| it.groups.iter().map(|group| group.error_code);
    ListGroupsResponse: |it| [it.error_code];
    DeleteGroupsResponse: |it| it.results.iter().map(|group| group.error_code);
    DescribeTopicPartitionsResponse: |it| it.topics.iter().map(|topic| topic.error_code);
    DescribeLogDirsResponse: |it| it.results.iter().map(|dir| dir.error_code).chain([it.error_code]);
    DescribeProducersResponse: |it| it.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    ElectLeadersResponse: |it| it
        .replica_election_results
        .iter()
        .flat_map(|topic| &topic.partition_result)
        .map(|p| p.error_code)
        .chain([it.error_code]);
    UpdateFeaturesResponse: |it| [it.error_code];
    DescribeQuorumResponse: |it| it
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| p.error_code)
        .chain([it.error_code]);
    AlterPartitionReassignmentsResponse: |it| it
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| p.error_code)
        .chain([it.error_code]);
    ListPartitionReassignmentsResponse: |it| [it.error_code];
    OffsetDeleteResponse: |it| it
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| p.error_code)
        .chain([it.error_code]);
    AddPartitionsToTxnResponse: |it| it
        .results_by_transaction
        .iter()
        .flat_map(|transaction| &transaction.topic_results)
        .chain(&it.results_by_topic_v3_and_below)
        .flat_map(|topic| &topic.results_by_partition)
        .map(|p| p.partition_error_code)
        .chain([it.error_code]);
    AddOffsetsToTxnResponse: |it| [it.error_code];
    TxnOffsetCommitResponse: |it| it.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code);
    EndTxnResponse: |it| [it.error_code];
    WriteTxnMarkersResponse: |it| it
        .markers
        .iter()
        .flat_map(|marker| &marker.topics)
        .flat_map(|topic| &topic.partitions)
        .map(|p| p.error_code);
    DescribeTransactionsResponse: |it| it.transaction_states.iter().map(|found| found.error_code);
    ListTransactionsResponse: |it| [it.error_code];
}
