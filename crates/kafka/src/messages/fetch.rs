//! Fetch: batches out of partitions, with sessions (KIP-227).

use crate::{ErrorCode, Records, Str, Uuid};

api! {
    Fetch, versions 4..=18, flexible 12..;

    request FetchRequest {
        cluster_id: Option<Str> [12.., tag 0, ignorable],
        /// -1 for consumers.
        replica_id: i32 [..=14] = -1,
        replica_state: ReplicaState [15.., tag 1],
        max_wait_ms: i32,
        min_bytes: i32,
        max_bytes: i32 [3.., ignorable] = i32::MAX,
        /// 0: read_uncommitted, 1: read_committed.
        isolation_level: i8 [4.., ignorable],
        session_id: i32 [7.., ignorable],
        session_epoch: i32 [7.., ignorable] = -1,
        topics: Vec<FetchTopic>,
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: Str [11.., ignorable],
    }

    response FetchResponse {
        throttle_time_ms: i32 [1.., ignorable],
        error_code: ErrorCode [7.., ignorable],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse>,
        node_endpoints: Vec<FetchNodeEndpoint> [16.., tag 0, ignorable],
    }

    struct ReplicaState {
        replica_id: i32 = -1,
        replica_epoch: i64 = -1,
    }

    struct FetchTopic {
        topic: Str [..=12, ignorable],
        topic_id: Uuid [13.., ignorable],
        partitions: Vec<FetchPartition>,
    }

    struct FetchPartition {
        partition: i32,
        current_leader_epoch: i32 [9.., ignorable] = -1,
        fetch_offset: i64,
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5.., ignorable] = -1,
        partition_max_bytes: i32,
        replica_directory_id: Uuid [17.., tag 0, ignorable],
        high_watermark: i64 [18.., tag 1, ignorable] = i64::MAX,
    }

    struct ForgottenTopic {
        topic: Str [7..=12, ignorable],
        topic_id: Uuid [13.., ignorable],
        partitions: Vec<i32>,
    }

    struct FetchableTopicResponse {
        topic: Str [..=12, ignorable],
        topic_id: Uuid [13.., ignorable],
        partitions: Vec<PartitionData>,
    }

    struct PartitionData {
        partition_index: i32,
        error_code: ErrorCode,
        high_watermark: i64,
        last_stable_offset: i64 [4.., ignorable] = -1,
        log_start_offset: i64 [5.., ignorable] = -1,
        diverging_epoch: EpochEndOffset [12.., tag 0],
        current_leader: FetchLeaderIdAndEpoch [12.., tag 1],
        snapshot_id: SnapshotId [12.., tag 2],
        aborted_transactions: Option<Vec<AbortedTransaction>> [4.., ignorable],
        preferred_read_replica: i32 [11..] = -1,
        records: Option<Records> = Some(Records::new()),
    }

    struct EpochEndOffset {
        epoch: i32 = -1,
        end_offset: i64 = -1,
    }

    struct FetchLeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    struct SnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }

    struct AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    struct FetchNodeEndpoint {
        node_id: i32,
        host: Str,
        port: i32,
        rack: Option<Str>,
    }
}
