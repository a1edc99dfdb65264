//! Coordinators that die between a decision and its markers, and markers that come late.

use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::batch::{BatchHeader, Batches, Marker, TransactionEnd};
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_types::StreamId;

use super::client::{Client, Server};
use super::txn::{ID, coordinator, decided, describe, end, init, produce};
use super::txn_offsets::{commit, ready, stable};
use crate::metadata::names;
use crate::testing::transactional;

/// Nobody is here under this number, so no marker gets there.
pub(super) const NOBODY: u32 = 2;

impl Server {
    fn streams(&self, topic: &str) -> Vec<StreamId> {
        let view = self.fixture.data.view.snapshot();
        let topic = view.topic_named(topic).expect("it is there");
        let partitions = topic.partitions.values();
        partitions.map(|partition| partition.stream).collect()
    }

    /// Has other leaders for all of a topic's partitions, and waits until this node knows.
    pub(super) async fn move_to(&self, topic: &str, leader: u32) {
        for stream in self.streams(topic) {
            self.fixture.controller.move_to(stream, leader);
        }
        let is_there = || {
            let view = self.fixture.data.view.snapshot();
            let topic = view.topic_named(topic).expect("it is there");
            topic
                .partitions
                .values()
                .all(|partition| partition.leader.is_some_and(|found| found.0 == leader))
        };
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The control batches of the topic's only partition, with their markers.
    pub(super) async fn markers(&self) -> Vec<(BatchHeader, Marker)> {
        let batches = self.batches("t", 0).await.into_iter();
        batches
            .filter(|(header, _)| header.is_control())
            .map(|(header, bytes)| (header, Marker::read(&bytes).expect("whole").expect("a marker")))
            .collect()
    }

    /// All committed batches of a partition that is led here.
    pub(super) async fn batches(&self, topic: &str, index: i32) -> Vec<(BatchHeader, Bytes)> {
        let view = self.fixture.data.view.snapshot();
        let id = view.topic_named(topic).expect("it is there").info.id;
        let partition = self.fixture.opened(id, index).await;
        let (mut from, end) = (partition.log_start(), partition.high_watermark());
        let mut found = Vec::new();
        while from < end {
            let runs = partition.read(from, end, 1 << 20, true).await.expect("it is readable");
            found.extend(
                runs.into_iter()
                    .flat_map(Batches::new)
                    .map(|batch| batch.expect("whole")),
            );
            from = found.last().map_or(end, |(header, _)| header.end_offset());
        }
        found
    }

    /// The epoch of whoever coordinates the id.
    fn coordinator_epoch(&self) -> i32 {
        let index = self.partition_for(names::TRANSACTION_STATE, ID);
        let view = self.fixture.data.view.snapshot();
        let topic = view.topic_named(names::TRANSACTION_STATE).expect("it is there");
        topic.partitions[&index].leader_epoch.0
    }

    /// The partition of an internal topic in which `id`'s records are.
    pub(super) fn partition_for(&self, topic: &str, id: &str) -> i32 {
        let view = self.fixture.data.view.snapshot();
        let partitions = view.topic_named(topic).expect("it is there").partitions.len();
        let hash = id.bytes().fold(0, |hash, byte| hash * 31 + i32::from(byte));
        hash % i32::try_from(partitions).unwrap()
    }
}

pub(super) async fn becomes(client: &mut Client, state: &str) {
    for _ in 0..500 {
        if describe(client, ID).await.transaction_state.as_str() == state {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the transaction never becomes {state}");
}

/// Issue 5: a coordinator that dies between its decision and the markers has a successor that ends the transaction as decided,
/// in its partitions and in the group's: each has one marker, of the epoch after the transaction's, by the living coordinator.
#[tokio::test]
async fn what_was_decided_is_told_by_the_next_coordinator() {
    for is_commit in [true, false] {
        let server = Server::start().await;
        server.fixture.topic("t").await;
        let mut client = server.connect().await;
        ready(&mut client).await;
        let who = init(&mut client).await;
        let batch = transactional(who.id, who.epoch, 0, &[b"x"]);
        assert_eq!(produce(&mut client, &server, 12, batch).await, ErrorCode::None);
        assert_eq!(commit(&mut client, who, 5, 10).await, ErrorCode::None);
        let topics = ["t", names::CONSUMER_OFFSETS];
        for topic in topics {
            server.move_to(topic, NOBODY).await;
        }
        let (error, next) = end(&mut client, who, is_commit, 5).await;
        assert_eq!((error, next.epoch), (ErrorCode::None, who.epoch + 1));
        let (decided_as, ended_as) = match is_commit {
            true => ("PrepareCommit", "CompleteCommit"),
            false => ("PrepareAbort", "CompleteAbort"),
        };
        assert_eq!(describe(&mut client, ID).await.transaction_state.as_str(), decided_as);

        let server = server.restart().await;
        let mut client = server.connect().await;
        coordinator(&mut client).await;
        assert_eq!(describe(&mut client, ID).await.transaction_state.as_str(), decided_as);
        for topic in topics {
            server.move_to(topic, 1).await;
        }
        becomes(&mut client, ended_as).await;
        ready(&mut client).await;
        let found = decided(&mut client).await;
        let aborted = found.aborted_transactions.unwrap_or_default().len();
        assert_eq!((found.high_watermark, aborted), (2, usize::from(!is_commit)));
        assert_eq!(stable(&mut client).await, if is_commit { 10 } else { -1 });
        let markers = server.markers().await;
        let [(header, marker)] = markers[..] else {
            panic!("{markers:?}");
        };
        assert_eq!(marker.end == TransactionEnd::Commit, is_commit);
        assert_eq!((header.producer_id, header.producer_epoch), (next.id, next.epoch));
        assert_eq!(marker.coordinator_epoch, server.coordinator_epoch());
        // And so it goes on.
        let batch = transactional(next.id, next.epoch, 0, &[b"y"]);
        assert_eq!(produce(&mut client, &server, 12, batch).await, ErrorCode::None);
        assert_eq!(commit(&mut client, next, 5, 11).await, ErrorCode::None);
        assert_eq!(end(&mut client, next, true, 5).await.0, ErrorCode::None);
        assert_eq!(stable(&mut client).await, 11);
    }
}

/// A marker that comes while the next transaction's first batch waits for its coordinator takes that batch's guard away, and no
/// more: the coordinator is asked again, and the batch is taken.
#[tokio::test]
async fn a_marker_in_between_fails_no_batch_of_the_next_transaction() {
    let server = Server::start().await;
    server.fixture.topic("t").await;
    server.fixture.topic("away").await;
    let mut client = server.connect().await;
    coordinator(&mut client).await;
    let who = init(&mut client).await;
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: ID.into(),
        v3_and_below_producer_id: who.id,
        v3_and_below_producer_epoch: who.epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic {
            name: "away".into(),
            partitions: vec![0],
        }],
        ..Default::default()
    };
    client.ask(3, &add).await;
    server.move_to("away", NOBODY).await;
    let (error, next) = end(&mut client, who, true, 5).await;
    assert_eq!(error, ErrorCode::None);

    let mut administrator = server.connect().await;
    let batch = transactional(next.id, next.epoch, 0, &[b"x"]);
    let writing = produce(&mut client, &server, 12, batch);
    let meanwhile = async {
        // So that the batch waits. Otherwise nothing comes in between, which is fine, too.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let marker = WriteTxnMarkersRequest {
            markers: vec![WritableTxnMarker {
                producer_id: who.id,
                producer_epoch: who.epoch,
                transaction_result: true,
                topics: vec![WritableTxnMarkerTopic {
                    name: Str::from("t"),
                    partition_indexes: vec![0],
                }],
                coordinator_epoch: 0,
                ..Default::default()
            }],
        };
        let mut answer = administrator.ask(1, &marker).await;
        let error = answer
            .markers
            .remove(0)
            .topics
            .remove(0)
            .partitions
            .remove(0)
            .error_code;
        assert_eq!(error, ErrorCode::None);
        server.move_to("away", 1).await;
    };
    let (written, ()) = tokio::join!(writing, meanwhile);
    assert_eq!(written, ErrorCode::None);
    assert_eq!(end(&mut client, next, true, 5).await.0, ErrorCode::None);
}
