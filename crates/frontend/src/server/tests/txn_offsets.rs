//! Offsets in transactions over the wire: consume, transform, produce, and its restarts.

use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;

use super::client::{Client, Server};
use super::txn::{ID, coordinator, end, init};
use super::{groups, txn};
use crate::testing::transactional;
use crate::txn::ProducerRef;

/// How many times something is looked for, every 10 ms.
const LOOKS: usize = 500;

pub(super) async fn ready(client: &mut Client) {
    coordinator(client).await;
    groups::coordinator(client).await;
}

pub(super) async fn commit(client: &mut Client, who: ProducerRef, version: i16, offset: i64) -> ErrorCode {
    commit_as(client, who, version, offset, -1).await
}

async fn commit_as(client: &mut Client, who: ProducerRef, version: i16, offset: i64, generation: i32) -> ErrorCode {
    let request = TxnOffsetCommitRequest {
        transactional_id: ID.into(),
        group_id: "g".into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        generation_id: generation,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: -1,
                committed_metadata: Some("as sent".into()),
            }],
        }],
        ..Default::default()
    };
    let mut answer = client.ask(version, &request).await;
    answer.topics.remove(0).partitions.remove(0).error_code
}

async fn add_offsets(client: &mut Client, who: ProducerRef) -> ErrorCode {
    let request = AddOffsetsToTxnRequest {
        transactional_id: ID.into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        group_id: "g".into(),
    };
    client.ask(3, &request).await.error_code
}

async fn fetch(client: &mut Client, require_stable: bool) -> (ErrorCode, i64) {
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        require_stable,
        topics: Some(vec![OffsetFetchRequestTopic {
            name: "t".into(),
            partition_indexes: vec![0],
        }]),
        ..Default::default()
    };
    let mut answer = client.ask(7, &request).await;
    assert_eq!(answer.error_code, ErrorCode::None);
    let found = answer.topics.remove(0).partitions.remove(0);
    (found.error_code, found.committed_offset)
}

/// What is committed, once no transaction is about to commit another.
pub(super) async fn stable(client: &mut Client) -> i64 {
    for _ in 0..LOOKS {
        match fetch(client, true).await {
            (ErrorCode::UnstableOffsetCommit, offset) => assert_eq!(offset, -1),
            (error, offset) => {
                assert_eq!(error, ErrorCode::None);
                return offset;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the marker doesn't come");
}

/// Rule 17, in both versions: what a transaction commits of a group isn't seen before its marker, and UNSTABLE_OFFSET_COMMIT to
/// who wants to know; and rule 16: TxnOffsetCommit 5 adds the group by itself, before that it has to have been added.
#[tokio::test]
async fn rule_17_offsets_of_an_open_transaction_are_not_seen() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    ready(&mut client).await;
    let mut who = init(&mut client).await;
    for (version, expected) in [
        (2, ErrorCode::InvalidTxnState),
        (3, ErrorCode::InvalidTxnState),
        (4, ErrorCode::TransactionAbortable),
    ] {
        assert_eq!(
            commit(&mut client, who, version, 1).await,
            expected,
            "version {version}"
        );
    }
    assert_eq!(fetch(&mut client, true).await, (ErrorCode::None, -1));
    let mut last = -1;
    for (round, committed) in [(1, true), (2, false), (3, true)] {
        let (with_new_epoch, offset) = (round > 1, 10 * round);
        let (commits, ends) = match with_new_epoch {
            true => (5, 5),
            false => {
                assert_eq!(add_offsets(&mut client, who).await, ErrorCode::None);
                (3, 4)
            }
        };
        assert_eq!(commit(&mut client, who, commits, offset).await, ErrorCode::None);
        assert_eq!(fetch(&mut client, false).await, (ErrorCode::None, last));
        assert_eq!(fetch(&mut client, true).await, (ErrorCode::UnstableOffsetCommit, -1));
        let (error, next) = end(&mut client, who, committed, ends).await;
        assert_eq!(error, ErrorCode::None);
        last = if committed { offset } else { last };
        assert_eq!(stable(&mut client).await, last);
        who = if with_new_epoch { next } else { who };
    }
}

/// A zombie commits no offsets, nor does who isn't in the group's generation; what nobody asks about adds no partition.
#[tokio::test]
async fn who_is_fenced_commits_no_offsets() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    ready(&mut client).await;
    let zombie = init(&mut client).await;
    assert_eq!(commit(&mut client, zombie, 5, 10).await, ErrorCode::None);
    let who = init(&mut client).await;
    assert_eq!(stable(&mut client).await, -1, "aborted");
    for version in [3, 5] {
        assert_eq!(
            commit(&mut client, zombie, version, 10).await,
            ErrorCode::InvalidProducerEpoch
        );
    }
    let stranger = ProducerRef { id: who.id + 1, ..who };
    assert_eq!(
        commit(&mut client, stranger, 5, 10).await,
        ErrorCode::InvalidProducerIdMapping
    );
    assert_eq!(
        commit_as(&mut client, who, 5, 10, 3).await,
        ErrorCode::IllegalGeneration
    );
    // What is open now is aborted by a marker of its own.
    assert_eq!(end(&mut client, who, false, 5).await.0, ErrorCode::None);
    let request = TxnOffsetCommitRequest {
        transactional_id: ID.into(),
        topics: vec![TxnOffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![TxnOffsetCommitRequestPartition::default()],
        }],
        ..Default::default()
    };
    let mut answer = client.ask(5, &request).await;
    let error = answer.topics.remove(0).partitions.remove(0).error_code;
    assert_eq!(error, ErrorCode::InvalidGroupId);
}

/// Issue 5: a group whose coordinator dies in the instant after the commit that has its offsets was answered reads them when
/// it is back; so does one whose transaction was open, once it is committed. Not before, and never half.
#[tokio::test]
async fn a_groups_offsets_live_through_restarts_amid_transactions() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    let mut client = server.connect().await;
    ready(&mut client).await;
    let who = init(&mut client).await;
    assert_eq!(commit(&mut client, who, 5, 10).await, ErrorCode::None);
    let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
    assert_eq!(txn::produce(&mut client, &server, 12, batch).await, ErrorCode::None);
    let (error, who) = end(&mut client, who, true, 5).await;
    assert_eq!(error, ErrorCode::None);

    let server = server.restart().await;
    let mut client = server.connect().await;
    ready(&mut client).await;
    assert_eq!(stable(&mut client).await, 10);
    assert_eq!(commit(&mut client, who, 5, 20).await, ErrorCode::None);

    let server = server.restart().await;
    let mut client = server.connect().await;
    ready(&mut client).await;
    assert_eq!(fetch(&mut client, true).await, (ErrorCode::UnstableOffsetCommit, -1));
    assert_eq!(fetch(&mut client, false).await, (ErrorCode::None, 10));
    // Its partition goes on with the transaction that its predecessor began.
    assert_eq!(commit(&mut client, who, 5, 21).await, ErrorCode::None);
    let (error, who) = end(&mut client, who, true, 5).await;
    assert_eq!((error, stable(&mut client).await), (ErrorCode::None, 21));
    assert_eq!(commit(&mut client, who, 5, 30).await, ErrorCode::None);
    assert_eq!(end(&mut client, who, false, 5).await.0, ErrorCode::None);

    let server = server.restart().await;
    let mut client = server.connect().await;
    ready(&mut client).await;
    assert_eq!(stable(&mut client).await, 21);
}
