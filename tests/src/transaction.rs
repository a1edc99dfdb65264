//! A transactional producer, request by request, for tests that stop the servers in between: transactions of version 1, whose
//! epoch stays from one to the next.
//!
//! Owns: which frontend is asked for what ([`Leaders`]), and repeating what clients repeat. Does not own: what is to come of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tailwater_kafka::batch::BatchBuilder;
use tailwater_kafka::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, DescribeTransactionsRequest,
    EndTxnRequest, FetchPartition, FetchRequest, FetchTopic, FindCoordinatorRequest, InitProducerIdRequest,
    MetadataRequest, MetadataRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    PartitionProduceData, ProduceRequest, TopicProduceData, TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
};
use tailwater_kafka::{ErrorCode, Str};

use crate::Connection;

/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(20);
const TIMEOUT_MS: i32 = 60_000;

/// Who leads and coordinates what, asked at one frontend.
#[derive(Clone, Copy, Debug)]
pub struct Leaders {
    at: SocketAddr,
}

impl Leaders {
    /// As the frontend at this address says it.
    pub fn asked_at(at: SocketAddr) -> Self {
        Self { at }
    }

    /// # Panics
    /// If nobody leads it within a minute.
    pub fn of_partition(self, topic: &str, partition: i32) -> SocketAddr {
        until("a leader", || {
            let mut connection = Connection::try_open(self.at).ok()?;
            let request = MetadataRequest {
                topics: Some(vec![MetadataRequestTopic {
                    name: Some(Str::from(topic)),
                    ..Default::default()
                }]),
                ..Default::default()
            };
            let answer = connection.call(9, &request).ok()?;
            let partitions = &answer.topics.first()?.partitions;
            let leader = partitions
                .iter()
                .find(|found| found.partition_index == partition)?
                .leader_id;
            let broker = answer.brokers.iter().find(|broker| broker.node_id == leader)?;
            address(&broker.host, broker.port)
        })
    }

    /// # Panics
    /// If there is none within a minute.
    pub fn of_transactional_id(self, id: &str) -> SocketAddr {
        self.coordinator(id, 1)
    }

    /// # Panics
    /// If there is none within a minute.
    pub fn of_group(self, group: &str) -> SocketAddr {
        self.coordinator(group, 0)
    }

    fn coordinator(self, key: &str, key_type: i8) -> SocketAddr {
        until("a coordinator", || {
            let request = FindCoordinatorRequest {
                key: Str::from(key),
                key_type,
                ..Default::default()
            };
            let answer = Connection::try_open(self.at).ok()?.call(3, &request).ok()?;
            (answer.error_code == ErrorCode::None).then(|| address(&answer.host, answer.port))?
        })
    }
}

fn address(host: &str, port: i32) -> Option<SocketAddr> {
    Some(SocketAddr::new(host.parse().ok()?, u16::try_from(port).ok()?))
}

/// The first answer that there is.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        std::thread::sleep(RETRY);
    }
}

/// A producer with a transactional id, and whatever it does in its transactions.
#[derive(Debug)]
pub struct Transaction {
    id: String,
    leaders: Leaders,
    producer: (i64, i16),
    sequences: BTreeMap<(String, i32), i32>,
}

impl Transaction {
    /// A new producer, which ends what one of the same name has left.
    ///
    /// # Panics
    /// If that doesn't come through within a minute, or is refused.
    pub fn init(id: &str, leaders: Leaders) -> Self {
        let mut new = Self {
            id: id.to_owned(),
            leaders,
            producer: (-1, -1),
            sequences: BTreeMap::new(),
        };
        let request = InitProducerIdRequest {
            transactional_id: Some(Str::from(id)),
            transaction_timeout_ms: TIMEOUT_MS,
            ..Default::default()
        };
        new.producer = new.ask_coordinator("a producer id", |connection| {
            let answer = connection.call(4, &request).ok()?;
            through(answer.error_code, "InitProducerId")?;
            Some((answer.producer_id, answer.producer_epoch))
        });
        new
    }

    /// From now on it asks this frontend who leads what.
    pub fn ask_at(&mut self, leaders: Leaders) {
        self.leaders = leaders;
    }

    /// Its id and epoch.
    pub fn producer(&self) -> (i64, i16) {
        self.producer
    }

    /// Adds the partition to the transaction, and a record to the partition. Answers the record's offset.
    ///
    /// # Panics
    /// As [`Transaction::init`].
    pub fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> i64 {
        let (producer_id, epoch) = self.producer;
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Str::from(self.id.as_str()),
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: Str::from(topic),
                partitions: vec![partition],
            }],
            ..Default::default()
        };
        self.ask_coordinator("a partition in the transaction", |connection| {
            let answer = connection.call(3, &request).ok()?;
            let topics = answer.results_by_topic_v3_and_below;
            through(
                topics[0].results_by_partition[0].partition_error_code,
                "AddPartitionsToTxn",
            )
        });
        let sequence = self.sequences.entry((topic.to_owned(), partition)).or_default();
        let mut batch = BatchBuilder::new()
            .producer(producer_id, epoch, *sequence)
            .transactional();
        batch.push(1_700_000_000_000, None, Some(value), &[]);
        let batch = batch.build();
        let offset = until("a record to be acknowledged", || {
            let request = ProduceRequest {
                transactional_id: Some(Str::from(self.id.as_str())),
                acks: -1,
                timeout_ms: 10_000,
                topic_data: vec![TopicProduceData {
                    name: Str::from(topic),
                    partition_data: vec![PartitionProduceData {
                        index: partition,
                        records: Some(batch.clone()),
                    }],
                    ..Default::default()
                }],
            };
            let leader = self.leaders.of_partition(topic, partition);
            let answer = Connection::try_open(leader).ok()?.call(9, &request).ok()?;
            let found = &answer.responses[0].partition_responses[0];
            through(found.error_code, "Produce")?;
            Some(found.base_offset)
        });
        *sequence += 1;
        offset
    }

    /// Makes an offset of a group a part of the transaction.
    ///
    /// # Panics
    /// As [`Transaction::init`].
    pub fn commit_offset(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let (producer_id, producer_epoch) = self.producer;
        let request = AddOffsetsToTxnRequest {
            transactional_id: Str::from(self.id.as_str()),
            producer_id,
            producer_epoch,
            group_id: Str::from(group),
        };
        self.ask_coordinator("a group in the transaction", |connection| {
            through(connection.call(3, &request).ok()?.error_code, "AddOffsetsToTxn")
        });
        let request = TxnOffsetCommitRequest {
            transactional_id: Str::from(self.id.as_str()),
            group_id: Str::from(group),
            producer_id,
            producer_epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: Str::from(topic),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        until("an offset in the transaction", || {
            let coordinator = self.leaders.of_group(group);
            let answer = Connection::try_open(coordinator).ok()?.call(3, &request).ok()?;
            through(answer.topics[0].partitions[0].error_code, "TxnOffsetCommit")
        });
    }

    /// Ends the transaction; answered as soon as that is decided.
    ///
    /// # Panics
    /// As [`Transaction::init`].
    pub fn end(&self, is_commit: bool) {
        let (producer_id, producer_epoch) = self.producer;
        let request = EndTxnRequest {
            transactional_id: Str::from(self.id.as_str()),
            producer_id,
            producer_epoch,
            committed: is_commit,
        };
        self.ask_coordinator("an end", |connection| {
            through(connection.call(3, &request).ok()?.error_code, "EndTxn")
        });
    }

    /// The state's name, as DescribeTransactions has it.
    ///
    /// # Panics
    /// As [`Transaction::init`].
    pub fn state(&self) -> String {
        let request = DescribeTransactionsRequest {
            transactional_ids: vec![Str::from(self.id.as_str())],
        };
        self.ask_coordinator("a description", |connection| {
            let answer = connection.call(0, &request).ok()?;
            let found = &answer.transaction_states[0];
            through(found.error_code, "DescribeTransactions")?;
            Some(found.transaction_state.to_string())
        })
    }

    /// Waits until the transaction is in this state.
    ///
    /// # Panics
    /// If it isn't within a minute.
    pub fn wait_for(&self, state: &str) {
        until(state, || (self.state() == state).then_some(()));
    }

    fn ask_coordinator<T>(&self, what: &str, mut ask: impl FnMut(&mut Connection) -> Option<T>) -> T {
        until(what, || {
            let coordinator = self.leaders.of_transactional_id(&self.id);
            ask(&mut Connection::try_open(coordinator).ok()?)
        })
    }
}

/// What a read_committed fetch of a partition sees: everything as bytes, and how far that goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Stable {
    pub last_stable_offset: i64,
    pub high_watermark: i64,
    /// Producer ids of aborted transactions, with their first offsets.
    pub aborted: Vec<(i64, i64)>,
    pub bytes: Vec<u8>,
}

/// # Panics
/// If nobody answers within a minute.
pub fn read_stable(leaders: Leaders, topic: &str, partition: i32) -> Stable {
    let request = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 8 << 20,
        isolation_level: 1,
        topics: vec![FetchTopic {
            topic: Str::from(topic),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: 0,
                partition_max_bytes: 8 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    until("an answer to a fetch", || {
        let leader = leaders.of_partition(topic, partition);
        let mut answer = Connection::try_open(leader).ok()?.call(12, &request).ok()?;
        let mut found = answer.responses.remove(0).partitions.remove(0);
        through(found.error_code, "Fetch")?;
        let aborted = found.aborted_transactions.take().unwrap_or_default();
        let mut bytes = Vec::new();
        for piece in found.records.take().iter().flat_map(|records| records.pieces()) {
            bytes.extend_from_slice(piece);
        }
        Some(Stable {
            last_stable_offset: found.last_stable_offset,
            high_watermark: found.high_watermark,
            aborted: aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect(),
            bytes,
        })
    })
}

/// What a group has committed of a partition, once that is stable; -1 for nothing.
///
/// # Panics
/// If it isn't within a minute.
pub fn committed_offset(leaders: Leaders, group: &str, topic: &str, partition: i32) -> i64 {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::from(group),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: Str::from(topic),
                partition_indexes: vec![partition],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        require_stable: true,
        ..Default::default()
    };
    until("a stable offset", || {
        let coordinator = leaders.of_group(group);
        let answer = Connection::try_open(coordinator).ok()?.call(8, &request).ok()?;
        let found = &answer.groups[0];
        through(found.error_code, "OffsetFetch")?;
        let found = &found.topics[0].partitions[0];
        through(found.error_code, "OffsetFetch")?;
        Some(found.committed_offset)
    })
}

/// `None` for what clients repeat.
fn through(error: ErrorCode, what: &str) -> Option<()> {
    use ErrorCode::*;
    match error {
        None => Some(()),
        NotCoordinator
        | CoordinatorNotAvailable
        | CoordinatorLoadInProgress
        | ConcurrentTransactions
        | NotLeaderOrFollower
        | NotEnoughReplicas
        | UnknownTopicOrPartition
        | RequestTimedOut
        | UnstableOffsetCommit
        | LeaderNotAvailable
        | OperationNotAttempted => Option::None,
        error => panic!("{what}: {error:?}"),
    }
}
