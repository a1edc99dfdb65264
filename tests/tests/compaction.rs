//! Key compaction of a whole server: what is read from a compacted topic's start is its table, offsets stay, whatever is
//! killed when; the internal topics are compacted too.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::Duration;

use bytes::BytesMut;
use tailwater_kafka::batch::{BatchBuilder, BatchHeader, Batches, HEADER_BYTES, Marker, TransactionEnd};
use tailwater_kafka::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, EndTxnRequest, FetchPartition, FetchRequest, FetchTopic,
    FindCoordinatorRequest, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterableConfig, InitProducerIdRequest, InitProducerIdResponse, OffsetCommitRequest,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest, OffsetFetchRequestTopic,
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use tailwater_kafka::record::records;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_tests::{Connection, Seed, Server, wait_until};

/// Uploads, cleanings and deletions all the time, in small objects.
const CONFIG: &str = r#"
[wal]
capacity = "64MiB"
flush_window = "4MiB"
[controller]
delete_delay = "500ms"
clean_interval = "1ms"
[compactor]
trigger_age = "200ms"
poll_interval = "50ms"
idle_poll_interval = "100ms"
clean_object_bytes = "16KiB"
[frontend.groups]
offsets_topic_partitions = 1
[frontend.transactions]
state_topic_partitions = 1
"#;
const TOPIC: &str = "table";
const LIMIT: Duration = Duration::from_secs(180);

/// Key and value, `None` a tombstone.
type Record = (String, Option<String>);
/// By their offsets.
type Records = BTreeMap<i64, Record>;

/// Who a producer is.
#[derive(Clone, Copy, Debug)]
struct Producer {
    id: i64,
    epoch: i16,
    sequence: i32,
}

/// One writer of one partition, and what it must read.
struct Table {
    kafka: std::net::SocketAddr,
    connection: Connection,
    producer: Producer,
    /// Every record that was acknowledged and came to be: key and value, `None` a tombstone.
    written: Records,
    /// Records of aborted transactions.
    aborted: BTreeSet<i64>,
    next_value: u32,
}

/// What was read: the batches in order, and the aborted transactions that were listed with them.
#[derive(Default)]
struct Read {
    batches: Vec<(BatchHeader, BytesMut)>,
    aborted: Vec<(i64, i64)>,
}

/// Makes a call again while the answer says that it is too early.
fn patiently<T>(what: &str, mut call: impl FnMut() -> (ErrorCode, T)) -> T {
    let mut answer = None;
    wait_until(what, LIMIT, || {
        let (code, value) = call();
        match code {
            ErrorCode::None => answer = Some(value),
            ErrorCode::NotLeaderOrFollower
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::ConcurrentTransactions => sleep(Duration::from_millis(20)),
            other => panic!("{what}: {other:?}"),
        }
        answer.is_some()
    });
    answer.expect("waited for it")
}

/// As clients do first: makes the coordinator's topic.
fn find_coordinator(connection: &mut Connection, key_type: i8, key: &str) {
    let request = FindCoordinatorRequest {
        key: Str::from(key),
        key_type,
        ..FindCoordinatorRequest::default()
    };
    patiently("a coordinator", || {
        (connection.call(3, &request).expect("the server answers").error_code, ())
    });
}

fn init_producer(connection: &mut Connection, id: &str) -> Producer {
    find_coordinator(connection, 1, id);
    let request = InitProducerIdRequest {
        transactional_id: Some(Str::from(id)),
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    let found: InitProducerIdResponse = patiently("a producer id", || {
        let answer = connection.call(4, &request).expect("the server answers");
        (answer.error_code, answer)
    });
    Producer {
        id: found.producer_id,
        epoch: found.producer_epoch,
        sequence: 0,
    }
}

/// Whatever is dirty is cleaned at once, in all topics.
fn clean_eagerly(connection: &mut Connection) {
    let set = IncrementalAlterableConfig {
        name: Str::from("log.cleaner.min.cleanable.ratio"),
        config_operation: 0,
        value: Some(Str::from("0")),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalAlterConfigsResource {
            // All brokers.
            resource_type: 4,
            resource_name: Str::from(""),
            configs: vec![set],
        }],
        ..IncrementalAlterConfigsRequest::default()
    };
    let answer = connection.call(1, &request).expect("the server answers");
    assert_eq!(answer.responses[0].error_code, ErrorCode::None);
}

impl Table {
    fn new(server: &Server) -> Self {
        Self::with(server, &[("cleanup.policy", "compact")])
    }

    fn with(server: &Server, configs: &[(&str, &str)]) -> Self {
        let mut connection = Connection::open(server.kafka());
        clean_eagerly(&mut connection);
        let created = connection.create_topic(TOPIC, 1, configs).expect("the server answers");
        assert_eq!(created, ErrorCode::None);
        Self {
            kafka: server.kafka(),
            producer: init_producer(&mut connection, "table-writer"),
            connection,
            written: BTreeMap::new(),
            aborted: BTreeSet::new(),
            next_value: 0,
        }
    }

    /// After a restart: the same producer under a new epoch, which ends what it left open.
    fn reconnect(&mut self) {
        self.connection = Connection::open(self.kafka);
        self.producer = init_producer(&mut self.connection, "table-writer");
    }

    /// Writes one batch; in a transaction, or plainly.
    fn write(&mut self, keys: &[u32], value: bool, transactional: bool) -> Vec<(i64, Record)> {
        let mut builder = BatchBuilder::new();
        if transactional {
            let Producer { id, epoch, sequence } = self.producer;
            builder = builder.producer(id, epoch, sequence).transactional();
            self.producer.sequence += keys.len() as i32;
        }
        let mut records = Vec::new();
        for key in keys {
            self.next_value += 1;
            let record = (format!("key-{key}"), value.then(|| format!("{:060}", self.next_value)));
            let bytes = record.1.as_ref().map(String::as_bytes);
            builder.push(1_700_000_000_000, Some(record.0.as_bytes()), bytes, &[]);
            records.push(record);
        }
        let batch = builder.build();
        let base = patiently("a batch to be taken", || {
            let data = PartitionProduceData {
                index: 0,
                records: Some(batch.clone()),
            };
            let request = ProduceRequest {
                transactional_id: transactional.then(|| Str::from("table-writer")),
                acks: -1,
                timeout_ms: 30_000,
                topic_data: vec![TopicProduceData {
                    name: Str::from(TOPIC),
                    partition_data: vec![data],
                    ..Default::default()
                }],
            };
            let mut answer = self.connection.call(9, &request).expect("the server answers");
            let answer = answer.responses.remove(0).partition_responses.remove(0);
            (answer.error_code, answer.base_offset)
        });
        (base..).zip(records).collect()
    }

    fn transaction(&mut self, keys: &[u32], commits: bool) {
        let Producer { id, epoch, .. } = self.producer;
        let add = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Str::from("table-writer"),
            v3_and_below_producer_id: id,
            v3_and_below_producer_epoch: epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: Str::from(TOPIC),
                partitions: vec![0],
            }],
            ..AddPartitionsToTxnRequest::default()
        };
        patiently("a partition to be added", || {
            let answer = self.connection.call(3, &add).expect("the server answers");
            let topic = &answer.results_by_topic_v3_and_below[0];
            (topic.results_by_partition[0].partition_error_code, ())
        });
        let written = self.write(keys, true, true);
        let end = EndTxnRequest {
            transactional_id: Str::from("table-writer"),
            producer_id: id,
            producer_epoch: epoch,
            committed: commits,
        };
        patiently("a transaction to end", || {
            (
                self.connection.call(3, &end).expect("the server answers").error_code,
                (),
            )
        });
        if commits {
            self.written.extend(written);
        } else {
            self.aborted.extend(written.into_iter().map(|(offset, _)| offset));
        }
    }

    /// Some of everything: plain writes, tombstones, transactions that commit and that don't.
    fn round(&mut self, seed: &mut Seed) {
        for _ in 0..4 {
            let mut keys = |count: u64| (0..count).map(|_| seed.draw(0, 40) as u32).collect::<Vec<_>>();
            let (plain, committed, aborted, deleted) = (keys(12), keys(5), keys(5), keys(1));
            let written = self.write(&plain, true, false);
            self.written.extend(written);
            self.transaction(&committed, true);
            self.transaction(&aborted, false);
            let written = self.write(&deleted, false, false);
            self.written.extend(written);
        }
    }

    fn read(&mut self, isolation_level: i8) -> Read {
        self.read_topic(TOPIC, isolation_level)
    }

    /// Everything of a topic's only partition from the start up to the high watermark (or last stable offset).
    fn read_topic(&mut self, topic: &str, isolation_level: i8) -> Read {
        let (mut read, mut at) = (Read::default(), 0);
        loop {
            let wanted = FetchPartition {
                partition: 0,
                fetch_offset: at,
                partition_max_bytes: 40_000,
                ..Default::default()
            };
            let request = FetchRequest {
                max_bytes: 1 << 20,
                isolation_level,
                topics: vec![FetchTopic {
                    topic: Str::from(topic),
                    partitions: vec![wanted],
                    ..Default::default()
                }],
                ..FetchRequest::default()
            };
            let mut found = patiently("a fetch", || {
                let mut answer = self.connection.call(11, &request).expect("the server answers");
                let found = answer.responses.remove(0).partitions.remove(0);
                (found.error_code, found)
            });
            let listed = found.aborted_transactions.take().unwrap_or_default();
            read.aborted
                .extend(listed.iter().map(|aborted| (aborted.first_offset, aborted.producer_id)));
            let mut bytes = BytesMut::new();
            for piece in found.records.take().iter().flat_map(|records| records.pieces()) {
                bytes.extend_from_slice(piece);
            }
            if bytes.is_empty() {
                let (stable, end) = (found.last_stable_offset, found.high_watermark);
                if isolation_level == 1 && stable < end {
                    // The marker of a transaction that has ended is on its way.
                    sleep(Duration::from_millis(20));
                    continue;
                }
                assert_eq!(at, end, "a fetch below the end gives something");
                return read;
            }
            for batch in Batches::new(bytes) {
                // A fetch may end within a batch.
                let Ok((header, batch)) = batch else { break };
                assert!(
                    header.base_offset.0 >= at,
                    "steps back to {} behind {at}",
                    header.base_offset
                );
                at = header.end_offset().0;
                read.batches.push((header, batch));
            }
        }
    }

    /// The table as somebody reads it who skips what was aborted, and every record by its offset.
    fn restore(read: Read) -> (BTreeMap<String, String>, Records) {
        let (mut table, mut all, mut skipped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut listed = read.aborted;
        listed.sort_unstable();
        listed.dedup();
        listed.reverse();
        for (header, batch) in read.batches {
            while let Some((_, producer)) = listed.pop_if(|(first, _)| *first < header.end_offset().0) {
                skipped.insert(producer);
            }
            if header.is_control() {
                let is_abort = header.count > 0
                    && Marker::read(&batch)
                        .expect("a marker")
                        .is_some_and(|marker| marker.end == TransactionEnd::Abort);
                if is_abort {
                    skipped.remove(&header.producer_id);
                }
                continue;
            }
            for record in records(&batch[HEADER_BYTES..]) {
                let record = record.expect("a record");
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                let (key, value) = (text(record.key.expect("a key")), record.value.map(text));
                let offset = header.base_offset.0 + i64::from(record.offset_delta);
                all.insert(offset, (key.clone(), value.clone()));
                if header.is_transactional() && skipped.contains(&header.producer_id) {
                    continue;
                }
                match value {
                    Some(value) => _ = table.insert(key, value),
                    None => _ = table.remove(&key),
                }
            }
        }
        (table, all)
    }

    /// The live table: what the writer knows that it must be.
    fn live(&self) -> BTreeMap<String, String> {
        let mut live = BTreeMap::new();
        for (key, value) in self.written.values() {
            match value {
                Some(value) => _ = live.insert(key.clone(), value.clone()),
                None => _ = live.remove(key),
            }
        }
        live
    }

    /// Each key's newest record, by its offset.
    fn newest(&self) -> Records {
        let by_key: BTreeMap<_, _> = self.written.iter().map(|(offset, (key, _))| (key, *offset)).collect();
        by_key
            .into_values()
            .map(|offset| (offset, self.written[&offset].clone()))
            .collect()
    }

    /// The log restores the live table, and whatever is in it stands where it was acknowledged. Answers all of it.
    fn check(&mut self) -> Records {
        let (table, committed) = Self::restore(self.read(1));
        assert_eq!(table, self.live(), "restored from the topic");
        let (_, all) = Self::restore(self.read(0));
        for found in [&committed, &all] {
            for (offset, record) in found.iter().filter(|(offset, _)| !self.aborted.contains(offset)) {
                assert_eq!(self.written.get(offset), Some(record), "at {offset}");
            }
            assert!(self.newest().keys().all(|offset| found.contains_key(offset)));
        }
        all
    }
}

/// Waits until everything is uploaded and cleaned: several looks say so, since each figure is a little late.
fn settle(server: &Server) {
    let names = [
        "tailwater_upload_lag_bytes",
        "tailwater_controller_dirty_bytes",
        "tailwater_controller_cleanings",
    ];
    let mut looks = 0;
    wait_until("all to be uploaded and cleaned", LIMIT, || {
        let metrics = server.metrics();
        let is_settled = names.iter().all(|name| metrics.sum(name) == 0.0);
        looks = if is_settled { looks + 1 } else { 0 };
        sleep(Duration::from_millis(400));
        looks == 5
    });
}

/// Rule 30: a compacted topic read from its start has each key's newest value where it was acknowledged and nothing else,
/// read_committed and read_uncommitted; after restarts, and after kills in the middle of uploads, cleanings and deletions.
#[test]
fn rule_30_a_compacted_topic_is_its_table() {
    let mut seed = Seed::from_environment();
    let mut server = Server::new(CONFIG);
    server.start();
    let mut table = Table::new(&server);
    for _ in 0..5 {
        table.round(&mut seed);
        sleep(Duration::from_millis(300));
    }
    table.check();
    // What a frontend still has in memory isn't cleaned there: from here on it reads objects.
    settle(&server);
    assert!(server.terminate().success());
    server.start();
    table.reconnect();
    settle(&server);
    assert_eq!(table.check(), table.newest(), "each key once, at its offset");

    for round in 0..4 {
        table.round(&mut seed);
        sleep(Duration::from_millis(seed.draw(0, 700)));
        let metrics = server.metrics();
        println!(
            "round {round}: killed after {} cleanings, {} deletions",
            metrics.sum_where("tailwater_cleanings_total", "done"),
            metrics.sum_where("tailwater_objects_deleted_total", "ok")
        );
        server.kill9();
        server.start();
        table.reconnect();
        table.check();
    }
    settle(&server);
    wait_until("what was replaced to be deleted", LIMIT, || {
        server
            .metrics()
            .sum_where("tailwater_objects_deleted_total", "result=\"ok\"")
            >= 1.0
    });
    server.kill9();
    server.start();
    table.reconnect();
    settle(&server);
    assert_eq!(table.check(), table.newest(), "each key once, at its offset");
    // Offsets go on where they ended.
    let last = *table.written.keys().last().expect("much was written");
    let next = table.write(&[1], true, false)[0].0;
    assert!(next > last, "{next} behind {last}");
    server.finish();
}

/// A tombstone goes when it has been there for the topic's `delete.retention.ms`, and its key with it; everything else stays
/// where it was acknowledged.
#[test]
fn tombstones_go_after_delete_retention_ms() {
    let mut server = Server::new(CONFIG);
    server.start();
    let configs = [("cleanup.policy", "compact"), ("delete.retention.ms", "1000")];
    let mut table = Table::with(&server, &configs);
    for (keys, is_value) in [(vec![1, 2, 3, 4], true), (vec![1, 3], false), (vec![5], true)] {
        let written = table.write(&keys, is_value, false);
        table.written.extend(written);
    }
    settle(&server);
    // From the first cleaning on their time counts; the second one is there for this.
    sleep(Duration::from_millis(1200));
    let written = table.write(&[6], true, false);
    table.written.extend(written);
    settle(&server);
    // What a frontend still has in memory isn't cleaned there: from here on it reads objects.
    assert!(server.terminate().success());
    server.start();
    table.reconnect();
    settle(&server);
    let mut expected = table.newest();
    expected.retain(|_, (_, value)| value.is_some());
    assert_eq!(expected.len(), 4);
    let (restored, found) = Table::restore(table.read(0));
    assert_eq!(restored, table.live());
    assert_eq!(found, expected);
    server.finish();
}

/// Of a topic with one record for each commit or change of state the newest of each key is left, and offsets go on.
fn is_compacted(table: &mut Table, topic: &str, written: i64) {
    let read = table.read_topic(topic, 0);
    let mut found = BTreeMap::<Vec<u8>, usize>::new();
    for (header, batch) in &read.batches {
        for record in records(&batch[HEADER_BYTES..]) {
            let record = record.expect("a record");
            if !header.is_control() {
                *found.entry(record.key.expect("a key").to_vec()).or_default() += 1;
            }
        }
    }
    let end = read.batches.last().map_or(0, |(header, _)| header.end_offset().0);
    let left: usize = found.values().sum();
    println!("{topic}: {left} of {end} records are left");
    assert!(end >= written, "{topic}: {end} records were written");
    // What this leadership has written isn't cleaned in its memory.
    assert!(left <= 20, "{topic}: {left} records of {} keys are left", found.len());
}

/// Committed offsets and transactional ids are what they were, once their topics are compacted; and compacted they are.
#[test]
fn internal_topics_are_compacted() {
    let mut server = Server::new(CONFIG);
    server.start();
    let mut table = Table::new(&server);
    let commit = |connection: &mut Connection, offset: i64| {
        let request = OffsetCommitRequest {
            group_id: Str::from("group"),
            topics: vec![OffsetCommitRequestTopic {
                name: Str::from(TOPIC),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: offset,
                    committed_metadata: Some(Str::from("m")),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..OffsetCommitRequest::default()
        };
        patiently("a commit", || {
            let answer = connection.call(7, &request).expect("the server answers");
            (answer.topics[0].partitions[0].error_code, ())
        });
    };
    find_coordinator(&mut table.connection, 0, "group");
    for offset in 0..300 {
        commit(&mut table.connection, offset);
        if offset % 10 == 0 {
            table.transaction(&[1, 2], offset % 20 == 0);
        }
    }
    let before = table.producer;
    let written = |server: &Server| server.metrics().sum("tailwater_clean_written_bytes_total");
    wait_until("three topics to be cleaned", LIMIT, || {
        server
            .metrics()
            .sum_where("tailwater_cleanings_total", "result=\"done\"")
            >= 3.0
    });
    settle(&server);
    println!("{} bytes were kept", written(&server));
    server.kill9();
    server.start();
    table.reconnect();
    assert_eq!(table.producer.id, before.id, "the transactional id is remembered");
    assert!(table.producer.epoch > before.epoch);
    let request = OffsetFetchRequest {
        group_id: Str::from("group"),
        topics: Some(vec![OffsetFetchRequestTopic {
            name: Str::from(TOPIC),
            partition_indexes: vec![0],
        }]),
        ..OffsetFetchRequest::default()
    };
    let committed = patiently("committed offsets", || {
        let mut answer = table.connection.call(5, &request).expect("the server answers");
        // A coordinator that loads answers without topics.
        let topic = answer.topics.pop();
        (answer.error_code, topic.and_then(|mut topic| topic.partitions.pop()))
    });
    let committed = committed.expect("it was asked for");
    assert_eq!(committed.committed_offset, 299);
    is_compacted(&mut table, "__consumer_offsets", 300);
    // Three changes a transaction.
    is_compacted(&mut table, "__transaction_state", 90);
    table.check();
    server.finish();
}
