//! Exactly-once under fire: workers and coordinators that are killed, and what readers of committed records find then.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use tailwater_tests::{
    Cluster, ClusterOptions, Reference, Seed, Server, is_long, prepare_clients, python, run_client_script,
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
/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);
const KILLED: i32 = 128 + libc::SIGKILL;
/// What others say of a frontend that was killed, and it itself when it is back.
const NOTICED: [&str; 5] = [
    "no answer to a heartbeat",
    "upload failed, it will be tried again",
    "journal ended, leaderships over it end",
    "fenced, stopping at once",
    "the process can't go on",
];

/// A worker passes records on from topic to topic, is killed now and then, and what it has passed on is looked at.
fn pass_on(python: &Path, bootstrap: &str, records: u32, kills: u32, at_once: u32) {
    let [records, kills, at_once] = [records, kills, at_once].map(|number| number.to_string());
    let arguments = [
        "--bootstrap",
        bootstrap,
        "--records",
        &records,
        "--kills",
        &kills,
        "--at-once",
        &at_once,
    ];
    run_client_script(python, "exactly_once.py", &arguments);
}

/// Records to pass on, how often the worker is killed meanwhile, and records of a transaction at most.
fn scale() -> (u32, u32, u32) {
    if is_long() {
        (1_000_000, 10, 1_000)
    } else {
        (20_000, 2, 200)
    }
}

/// Consume, transform, produce: a worker that is killed again and again passes each record on exactly once.
#[test]
fn killed_workers_pass_each_record_on_once() {
    let Some(python) = python("killed workers") else {
        return;
    };
    let mut server = Server::new(CONFIG);
    server.start();
    let (records, kills, at_once) = scale();
    pass_on(&python, &server.bootstrap(), records, kills, at_once);
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
    let (records, kills, at_once) = scale();
    pass_on(&python, kafka.bootstrap(), records, kills, at_once);
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

/// Frontends are killed while they coordinate a worker's transactions and its group, lead its partitions and write its markers:
/// each transaction ends as it was decided, and each record is passed on exactly once.
#[test]
fn killed_frontends_end_transactions_as_decided() {
    let Some(python) = python("killed frontends") else {
        return;
    };
    let options = ClusterOptions {
        settings: vec!["frontend.groups.initial_rebalance_delay=0ms".to_owned()],
        ..ClusterOptions::default()
    };
    let cluster = NOTICED.into_iter().fold(Cluster::start(options), Cluster::allow);
    let (records, kills, at_once) = if is_long() { (200_000, 30, 20) } else { (20_000, 4, 20) };
    let mut seed = Seed::from_environment();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| pass_on(&python, cluster.bootstrap(), records, 0, at_once));
        let roles = ["frontend-1", "frontend-2"].into_iter().cycle();
        let mut done = 0;
        for role in roles.take(kills) {
            sleep(Duration::from_millis(seed.draw(500, 3000)));
            if worker.is_finished() {
                break;
            }
            let (pid, ends) = (cluster.pid(role), cluster.exits(role).len());
            cluster.signal(role, libc::SIGKILL);
            assert_eq!(cluster.wait_for_exit(role, ends + 1, LIMIT), KILLED, "{role}");
            println!("{role} is back after {:?}", cluster.wait_until_back(role, pid));
            done += 1;
        }
        worker.join().expect("each record is passed on once");
        assert!(done > 0, "it was over before anybody was killed");
    });
    cluster.finish();
}
