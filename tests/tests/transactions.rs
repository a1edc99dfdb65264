//! Exactly-once under fire: workers and coordinators that are killed, and what readers of committed records find then.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use tailwater_kafka::batch::{BatchBuilder, Batches, HEADER_BYTES};
use tailwater_kafka::messages::{
    EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, PartitionProduceData, ProduceRequest,
    TopicProduceData,
};
use tailwater_kafka::record::records;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_tests::{
    Cluster, ClusterOptions, Connection, Reference, Seed, Server, is_long, prepare_clients, python, run_client_script,
    wait_until,
};

const CONFIG: &str = r#"
[wal]
capacity = "256MiB"
[compactor]
trigger_bytes = "8MiB"
trigger_age = "1s"
[frontend.groups]
initial_rebalance_delay = "0ms"
"#;
/// Uploads and cleanings all the time, and next to nothing in memory: what is read of a changelog is what cleanings left.
const COMPACTING: &str = r#"
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
[frontend.cache]
tail_bytes = "32KiB"
[frontend.groups]
initial_rebalance_delay = "0ms"
"#;
/// The newest that name topics by name, and end transactions as the second version does.
const PRODUCE_VERSION: i16 = 12;
const END_VERSION: i16 = 5;
/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);
/// Longer than the lease (3 s, `deploy/roles/controller.toml`) and the controller's next look.
const BEYOND_LEASE: Duration = Duration::from_secs(5);
const KILLED: i32 = 128 + libc::SIGKILL;
/// What a fenced process ends with.
const FENCED: i32 = 70;
/// What others say of a frontend that was killed, and it itself when it is back.
const NOTICED: [&str; 5] = [
    "no answer to a heartbeat",
    "upload failed, it will be tried again",
    "journal ended, leaderships over it end",
    "fenced, stopping at once",
    "the process can't go on",
];

/// A worker passes records on from topic to topic, is stopped now and then, and what it has passed on is looked at.
fn pass_on(python: &Path, bootstrap: &str, records: u32, kills: u32, pauses: u32, at_once: u32) {
    let [records, kills, pauses, at_once] = [records, kills, pauses, at_once].map(|number| number.to_string());
    let arguments = [
        "--bootstrap",
        bootstrap,
        "--records",
        &records,
        "--kills",
        &kills,
        "--pauses",
        &pauses,
        "--at-once",
        &at_once,
    ];
    run_client_script(python, "exactly_once.py", &arguments);
}

/// A worker that is killed, and at last one that stands still until another has taken its place.
fn stop_workers(python: &Path, bootstrap: &str) {
    let (records, kills, at_once) = if is_long() {
        (1_000_000, 10, 1_000)
    } else {
        (20_000, 2, 200)
    };
    pass_on(python, bootstrap, records, kills, 1, at_once);
}

/// Consume, transform, produce: workers that are killed again and again pass each record on exactly once; one that stood still
/// while another took its place is refused.
#[test]
fn killed_workers_pass_each_record_on_once() {
    let Some(python) = python("killed workers") else {
        return;
    };
    let mut server = Server::new(CONFIG);
    server.start();
    stop_workers(&python, &server.bootstrap());
    server.finish();
}

/// So it is with Apache Kafka.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn killed_workers_pass_each_record_on_once_with_kafka() {
    let Some(python) = python("killed workers with Apache Kafka") else {
        return;
    };
    let kafka = Reference::start();
    stop_workers(&python, kafka.bootstrap());
}

/// A Kafka Streams application counts, and is killed meanwhile: once with what it had on disk, once without.
fn count(python: &Path, bootstrap: &str) {
    prepare_clients();
    for more in [&[][..], &["--lose-state"]] {
        let arguments = [&["--bootstrap", bootstrap][..], more].concat();
        run_client_script(python, "streams.py", &arguments);
    }
}

/// A windowed count with a repartition topic, a state store and a changelog, exactly once, that is killed twice: each count
/// from one on is there once, in order, also where the state is restored from the changelog.
#[test]
fn killed_streams_applications_count_everything_once() {
    let Some(python) = python("Kafka Streams") else {
        return;
    };
    let mut server = Server::new(CONFIG);
    server.start();
    count(&python, &server.bootstrap());
    server.finish();
}

/// So it is with Apache Kafka.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn killed_streams_applications_count_everything_once_with_kafka() {
    let Some(python) = python("Kafka Streams with Apache Kafka") else {
        return;
    };
    let kafka = Reference::start();
    count(&python, kafka.bootstrap());
}

/// The same, and the compactor compacts the changelog all the time: what is restored from what it leaves is what was there.
#[test]
fn a_changelog_that_is_compacted_meanwhile_restores_its_table() {
    let Some(python) = python("Kafka Streams over a compacted changelog") else {
        return;
    };
    prepare_clients();
    let mut server = Server::new(COMPACTING);
    server.start();
    run_client_script(
        &python,
        "streams.py",
        &["--bootstrap", &server.bootstrap(), "--compact"],
    );
    let done = server
        .metrics()
        .sum_where("tailwater_cleanings_total", "result=\"done\"");
    println!("{done} cleanings");
    assert!(done >= 2.0, "each partition of the changelog is cleaned");
    server.finish();
}

/// So it is with Apache Kafka.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn a_changelog_that_is_compacted_meanwhile_restores_its_table_with_kafka() {
    let Some(python) = python("Kafka Streams over Apache Kafka's compacted changelog") else {
        return;
    };
    prepare_clients();
    let kafka = Reference::start();
    run_client_script(&python, "streams.py", &["--bootstrap", kafka.bootstrap(), "--compact"]);
}

/// Frontends are killed while they coordinate a worker's transactions and its group, lead its partitions and write its markers:
/// each transaction ends as it was decided, and each record is passed on exactly once.
#[test]
fn killed_frontends_end_transactions_as_decided() {
    let (records, kills) = if is_long() { (200_000, 30) } else { (20_000, 4) };
    frontends_go_away("killed frontends", records, kills, |cluster, role| {
        let ends = cluster.exits(role).len();
        cluster.signal(role, libc::SIGKILL);
        assert_eq!(cluster.wait_for_exit(role, ends + 1, LIMIT), KILLED, "{role}");
    });
}

/// The same with frontends that are stopped until others have taken over, and then go on: they are fenced, and what they were
/// about to do changes nothing.
#[test]
fn stopped_frontends_end_transactions_as_decided() {
    let (records, stops) = if is_long() { (200_000, 20) } else { (20_000, 2) };
    frontends_go_away("stopped frontends", records, stops, |cluster, role| {
        let ends = cluster.exits(role).len();
        cluster.signal(role, libc::SIGSTOP);
        sleep(BEYOND_LEASE);
        cluster.signal(role, libc::SIGCONT);
        assert_eq!(cluster.wait_for_exit(role, ends + 1, LIMIT), FENCED, "{role}");
    });
}

/// A worker passes records on while one frontend after the other goes away, and comes back.
fn frontends_go_away(what: &str, records: u32, times: usize, go: impl Fn(&Cluster, &str)) {
    let Some(python) = python(what) else {
        return;
    };
    let options = ClusterOptions {
        settings: vec!["frontend.groups.initial_rebalance_delay=0ms".to_owned()],
        ..ClusterOptions::default()
    };
    let cluster = NOTICED.into_iter().fold(Cluster::start(options), Cluster::allow);
    let mut seed = Seed::from_environment();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| pass_on(&python, cluster.bootstrap(), records, 0, 0, 20));
        let roles = ["frontend-1", "frontend-2"].into_iter().cycle();
        let mut done = 0;
        for role in roles.take(times) {
            sleep(Duration::from_millis(seed.draw(500, 3000)));
            if worker.is_finished() {
                break;
            }
            let pid = cluster.pid(role);
            go(&cluster, role);
            println!("{role} is back after {:?}", cluster.wait_until_back(role, pid));
            done += 1;
        }
        worker.join().expect("each record is passed on once");
        assert!(done > 0, "it was over before anybody went away");
    });
    cluster.finish();
}

/// One producer's transactions of the second version, over the wire.
struct Raw {
    connection: Connection,
    id: i64,
}

impl Raw {
    fn open(bootstrap: &str) -> (Self, i16) {
        let address = bootstrap.parse().expect("one address");
        let mut connection = Connection::open(address);
        let created = connection.create_topic("late", 1, &[]).expect("the server answers");
        assert_eq!(created, ErrorCode::None);
        let find = FindCoordinatorRequest {
            key: Str::from("late-id"),
            key_type: 1,
            ..FindCoordinatorRequest::default()
        };
        let init = InitProducerIdRequest {
            transactional_id: Some(Str::from("late-id")),
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        let (mut id, mut epoch) = (-1, -1);
        wait_until("a producer id", LIMIT, || {
            // Makes the coordinators' topic.
            connection.call(3, &find).expect("the server answers");
            let answer = connection.call(4, &init).expect("the server answers");
            (id, epoch) = (answer.producer_id, answer.producer_epoch);
            answer.error_code == ErrorCode::None
        });
        (Self { connection, id }, epoch)
    }

    /// What the partition says of a batch; again while it is too early.
    fn write(&mut self, epoch: i16, sequence: i32, value: &str) -> ErrorCode {
        let mut builder = BatchBuilder::new().producer(self.id, epoch, sequence).transactional();
        builder.push(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
        let batch = builder.build();
        let mut found = ErrorCode::None;
        wait_until("an answer that stays", LIMIT, || {
            let data = PartitionProduceData {
                index: 0,
                records: Some(batch.clone()),
            };
            let request = ProduceRequest {
                transactional_id: Some(Str::from("late-id")),
                acks: -1,
                timeout_ms: 30_000,
                topic_data: vec![TopicProduceData {
                    name: Str::from("late"),
                    partition_data: vec![data],
                    ..Default::default()
                }],
            };
            let answer = self.connection.call(PRODUCE_VERSION, &request);
            found = answer.expect("the server answers").responses[0].partition_responses[0].error_code;
            !matches!(
                found,
                ErrorCode::ConcurrentTransactions
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::NotEnoughReplicas
                    | ErrorCode::UnknownTopicOrPartition
            )
        });
        found
    }

    /// The next epoch.
    fn commit(&mut self, epoch: i16) -> i16 {
        let request = EndTxnRequest {
            transactional_id: Str::from("late-id"),
            producer_id: self.id,
            producer_epoch: epoch,
            committed: true,
        };
        let mut next = epoch;
        wait_until("a transaction to end", LIMIT, || {
            let answer = self.connection.call(END_VERSION, &request).expect("the server answers");
            (self.id, next) = (answer.producer_id, answer.producer_epoch);
            answer.error_code == ErrorCode::None
        });
        next
    }

    /// Every value of the partition, whosoever's, and how many transactions have ended there.
    fn read(&mut self) -> (Vec<String>, usize) {
        let (mut values, mut ends, mut at) = (Vec::new(), 0, 0);
        loop {
            let (code, bytes) = self.connection.fetch("late", 0, at).expect("the server answers");
            assert_eq!(code, ErrorCode::None);
            if bytes.is_empty() {
                return (values, ends);
            }
            for batch in Batches::new(bytes) {
                let (header, batch) = batch.expect("whole batches");
                at = header.end_offset().0;
                if header.is_control() {
                    ends += 1;
                } else {
                    let found = records(&batch[HEADER_BYTES..]).map(|record| record.expect("a record").value);
                    values.extend(found.map(|value| String::from_utf8_lossy(value.expect("a value")).into_owned()));
                }
            }
        }
    }
}

fn refuse_late_batches(bootstrap: &str) {
    let (mut raw, mut epoch) = Raw::open(bootstrap);
    let mut expected = Vec::new();
    for round in 0..3 {
        let value = format!("round {round}");
        assert_eq!(raw.write(epoch, 0, &value), ErrorCode::None);
        expected.push(value);
        let next = raw.commit(epoch);
        assert_eq!(next, epoch + 1, "each end gives a new epoch");
        // The answer comes before the markers; until they are there, a batch still is one of its own transaction.
        wait_until("the end to be in the partition", LIMIT, || {
            raw.read().1 == expected.len()
        });
        // Sent before the end, under way until now: before the next transaction begins, and within it.
        assert_eq!(raw.write(epoch, 1, "late"), ErrorCode::InvalidProducerEpoch);
        let value = format!("next of {round}");
        assert_eq!(raw.write(next, 0, &value), ErrorCode::None);
        expected.push(value);
        assert_eq!(raw.write(epoch, 1, "late"), ErrorCode::InvalidProducerEpoch);
        epoch = raw.commit(next);
    }
    wait_until("the last end", LIMIT, || raw.read().1 == expected.len());
    assert_eq!(raw.read().0, expected);
}

/// Rule 16: a batch of a transaction that has ended comes late, under the epoch that the end has replaced: it is refused, between
/// two transactions and in the next one.
#[test]
fn rule_16_a_late_batch_of_an_old_epoch_is_refused() {
    let mut server = Server::new(CONFIG);
    server.start();
    refuse_late_batches(&server.bootstrap());
    server.finish();
}

/// So it is with Apache Kafka.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn rule_16_a_late_batch_of_an_old_epoch_is_refused_by_kafka() {
    let kafka = Reference::start();
    refuse_late_batches(kafka.bootstrap());
}
