//! A coordinator whose log stands still, or ends, while a decision is on its way there.

use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::TransactionEnd;
use tailwater_kafka::messages::*;

use super::client::{Client, Server};
use super::txn::{ID, coordinator, decided, describe, end, init, init_request, produce};
use super::txn_kills::becomes;
use crate::testing::transactional;
use crate::txn::ProducerRef;

fn commit_request(who: ProducerRef) -> EndTxnRequest {
    EndTxnRequest {
        transactional_id: ID.into(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        committed: true,
    }
}

/// Sends it, and waits until a record of it is on its way to the WAL, which is held.
async fn send_on_its_way(server: &Server, client: &mut Client, who: ProducerRef) -> i32 {
    let before = server.fixture.wal.sent();
    let asked = client.send(5, &commit_request(who)).await;
    on_its_way(server, before).await;
    asked
}

async fn on_its_way(server: &Server, before: usize) {
    for _ in 0..1000 {
        if server.fixture.wal.sent() > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing is written");
}

/// Commits as clients do: again while the last request is still being carried out.
async fn commit_patiently(client: &mut Client, who: ProducerRef) -> (ErrorCode, ProducerRef) {
    for _ in 0..500 {
        match end(client, who, true, 5).await {
            (ErrorCode::ConcurrentTransactions, _) => tokio::time::sleep(Duration::from_millis(10)).await,
            answer => return answer,
        }
    }
    panic!("the transaction doesn't end");
}

async fn with_open_transaction(server: &Server, client: &mut Client, timeout_ms: i32) -> ProducerRef {
    server.fixture.topic("t").await;
    coordinator(client).await;
    init(client).await;
    let answer = client.ask(5, &init_request(timeout_ms)).await;
    assert_eq!(answer.error_code, ErrorCode::None);
    let who = ProducerRef {
        id: answer.producer_id,
        epoch: answer.producer_epoch,
    };
    let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
    assert_eq!(produce(client, server, 12, batch).await, ErrorCode::None);
    who
}

/// A decision that was on its way when the journal was sealed is in the log, or isn't: the next coordinator ends the
/// transaction by it, or goes on with one that is open. Either way the producer that asks again is told that it has committed,
/// and there is one marker.
#[tokio::test]
async fn a_decision_on_its_way_at_the_seal_is_found_or_made_again() {
    for is_kept in [true, false] {
        let server = Server::start().await;
        let mut client = server.connect().await;
        let who = with_open_transaction(&server, &mut client, 60_000).await;
        server.fixture.wal.hold();
        send_on_its_way(&server, &mut client, who).await;
        server.fixture.wal.seal_all(is_kept);
        drop(client);

        let server = server.restart().await;
        let mut client = server.connect().await;
        coordinator(&mut client).await;
        match is_kept {
            true => becomes(&mut client, "CompleteCommit").await,
            false => assert_eq!(describe(&mut client, ID).await.transaction_state.as_str(), "Ongoing"),
        }
        let (error, next) = commit_patiently(&mut client, who).await;
        assert_eq!((error, next.id, next.epoch), (ErrorCode::None, who.id, who.epoch + 1));
        let found = decided(&mut client).await;
        assert_eq!(
            (
                found.high_watermark,
                found.aborted_transactions.unwrap_or_default().len()
            ),
            (2, 0)
        );
        let markers = server.markers().await;
        let [(header, marker)] = markers[..] else {
            panic!("{markers:?}");
        };
        assert_eq!(
            (marker.end, header.producer_epoch),
            (TransactionEnd::Commit, next.epoch)
        );
    }
}

/// A transaction runs too long while the WAL stands still: if its commit was on its way, it is committed; if not, it is aborted
/// under the next epoch, and nobody was told otherwise.
#[tokio::test]
async fn a_timeout_while_the_wal_stands_still_changes_no_decision() {
    for commits_first in [true, false] {
        let server = Server::start().await;
        let mut client = server.connect().await;
        let timeout_ms = if commits_first { 1_500 } else { 300 };
        let who = with_open_transaction(&server, &mut client, timeout_ms).await;
        server.fixture.wal.hold();
        let before = server.fixture.wal.sent();
        let (answer, expected) = if commits_first {
            let asked = send_on_its_way(&server, &mut client, who).await;
            tokio::time::sleep(Duration::from_millis(2_000)).await;
            server.fixture.wal.release();
            let answer = client.receive::<EndTxnRequest>(asked, 5).await;
            (answer.error_code, (TransactionEnd::Commit, 0))
        } else {
            // The abort.
            on_its_way(&server, before).await;
            let (meanwhile, _) = end(&mut client, who, true, 5).await;
            assert_eq!(meanwhile, ErrorCode::ConcurrentTransactions);
            server.fixture.wal.release();
            let (answer, _) = commit_patiently(&mut client, who).await;
            (answer, (TransactionEnd::Abort, 1))
        };
        assert_eq!(answer == ErrorCode::None, commits_first, "{answer:?}");
        let found = decided(&mut client).await;
        let aborted = found.aborted_transactions.unwrap_or_default().len();
        let markers = server.markers().await;
        let [(header, marker)] = markers[..] else {
            panic!("{markers:?}");
        };
        assert_eq!((marker.end, aborted), expected);
        assert_eq!(header.producer_epoch, who.epoch + 1);
    }
}
