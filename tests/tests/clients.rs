//! The client matrix: unmodified Kafka clients produce records of every sort and read them back exactly, by assignment and
//! in a group whose members come and go, and read what others wrote. What is sent, and what must come back, stands in
//! `tests/clients/`; every scenario is run against Apache Kafka as well (`make test-reference`). So are Apache Kafka's own
//! command-line tools: what they say of Apache Kafka is recorded, and what they say of Tailwater is held against it.

use std::process::Command;

use tailwater_tests::{
    Cluster, ClusterOptions, Reference, Server, is_long, prepare_clients, python, repository, run_client_script,
    run_with_restart,
};

/// Uploads are frequent and small, so that the clients read from the tail, from the WAL and from objects.
const CONFIG: &str = r#"
[wal]
capacity = "256MiB"
flush_window = "8MiB"
[compactor]
trigger_bytes = "8MiB"
trigger_age = "1s"
[frontend.groups]
initial_rebalance_delay = "0ms"
consumer_session_timeout = "10s"
consumer_heartbeat_interval = "500ms"
consumer_assignment_interval = "0ms"
"#;

/// With Kafka's defaults where Tailwater has others.
const CONFIG_OF_TOOLS: &str = r#"
[wal]
capacity = "256MiB"
[frontend.groups]
initial_rebalance_delay = "0ms"
[frontend.topics]
partitions = 1
"#;

/// A script, and the server that it is run against.
struct Run<'a> {
    script: &'a str,
    /// As `compatibility.py` calls what is found.
    kind: &'a str,
    /// `tailwater` or `kafka`.
    server: &'a str,
    /// Tells what was found of several ways to run a server apart.
    name: &'a str,
    bootstrap: &'a str,
}

/// What processes say when all of them are killed and come back.
const NOTICED: [&str; 7] = [
    "no answer to a heartbeat",
    "upload failed, it will be tried again",
    "journal ended, leaderships over it end",
    "fenced, stopping at once",
    "wal::service::heartbeat: fenced",
    "the process can't go on",
    "journal can't be settled, still trying",
];

/// Runs a script against a server, and holds what it found against `docs/compatibility.md`.
fn run(run: &Run<'_>, more: &[&str], restart: impl FnOnce()) {
    let Run {
        script,
        kind,
        server,
        name,
        bootstrap,
    } = *run;
    prepare_clients();
    let Some(python) = python(script) else {
        return;
    };
    let found = repository().join(format!("target/compatibility/{kind}-{name}.json"));
    let found = found.to_str().expect("a path of text");
    let arguments = ["--bootstrap", bootstrap, "--json", found];
    run_with_restart(&python, script, &[&arguments, more].concat(), restart);
    let kind = format!("--{kind}");
    let arguments = ["check", "--server", server, &kind, found];
    run_client_script(&python, "compatibility.py", &arguments);
}

fn run_matrix(server: &str, name: &str, bootstrap: &str, records: &str, restart: impl FnOnce()) {
    let records = if is_long() { "100000" } else { records };
    let matrix = Run {
        script: "matrix.py",
        kind: "clients",
        server,
        name,
        bootstrap,
    };
    run(&matrix, &["--records", records, "--restart"], restart);
}

/// The file of known differences.
fn gaps() -> String {
    let path = repository().join("tests/reference/gaps.txt");
    path.to_str().expect("a path of text").to_owned()
}

fn run_tools(server: &str, name: &str, bootstrap: &str, more: &[&str]) {
    let tools = Run {
        script: "tools.py",
        kind: "tools",
        server,
        name,
        bootstrap,
    };
    run(&tools, more, || {});
}

/// Every client gets back what it sent, and what others sent, from Tailwater, and goes on where its group has committed when
/// the server has been killed and is back.
#[test]
fn the_client_matrix_passes() {
    let mut server = Server::new(CONFIG);
    server.start();
    let bootstrap = server.bootstrap();
    run_matrix("tailwater", "tailwater", &bootstrap, "10000", || {
        server.kill9();
        server.start();
    });
    server.finish();
}

/// The same from a cluster of single processes, whose partitions are led by two frontends.
#[test]
fn the_client_matrix_passes_apart() {
    let settings = [
        "wal.flush_window=8MiB",
        "compactor.trigger_bytes=8MiB",
        "compactor.trigger_age=1s",
        "frontend.groups.initial_rebalance_delay=0ms",
        "frontend.groups.consumer_session_timeout=10s",
        "frontend.groups.consumer_heartbeat_interval=500ms",
    ];
    let cluster = Cluster::start(ClusterOptions {
        settings: settings.map(str::to_owned).to_vec(),
        ..ClusterOptions::default()
    });
    let cluster = NOTICED.into_iter().fold(cluster, Cluster::allow);
    run_matrix("tailwater", "apart", cluster.bootstrap(), "2000", || {
        let roles = cluster.roles();
        let before: Vec<i32> = roles.iter().map(|role| cluster.signal(role, libc::SIGKILL)).collect();
        for (role, before) in roles.iter().zip(before) {
            cluster.wait_until_back(role, before);
        }
    });
    cluster.finish();
}

/// The same scenarios pass against Apache Kafka: one that doesn't is wrong itself.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn the_client_matrix_passes_against_kafka() {
    let kafka = Reference::start();
    run_matrix("kafka", "kafka", kafka.bootstrap(), "10000", || kafka.restart());
}

/// Kafka's tools say of Tailwater what they say of Kafka, but for the known gaps; a gap that is none any more is told.
#[test]
fn kafkas_tools_find_what_they_find_in_kafka() {
    let mut server = Server::new(CONFIG_OF_TOOLS);
    server.start();
    run_tools("tailwater", "tailwater", &server.bootstrap(), &["--gaps", &gaps()]);
    server.finish();
}

/// The same of a frontend, a WAL node, a controller and a compactor that are processes of their own. One frontend, since what is
/// recorded is of one broker.
#[test]
fn kafkas_tools_find_it_apart_too() {
    let settings = [
        "frontend.groups.initial_rebalance_delay=0ms",
        "frontend.topics.partitions=1",
    ];
    let cluster = Cluster::start(ClusterOptions {
        settings: settings.map(str::to_owned).to_vec(),
        frontends: 1,
        wals: 1,
        ..ClusterOptions::default()
    });
    let arguments = ["--gaps", &gaps()];
    run_tools("tailwater", "apart", cluster.bootstrap(), &arguments);
    cluster.finish();
}

/// What is recorded of Kafka's tools is what they say of Kafka.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn kafkas_tools_say_of_kafka_what_is_recorded() {
    let kafka = Reference::start();
    run_tools("kafka", "kafka", kafka.bootstrap(), &[]);
}

/// What judges the clients finds lost, changed, doubled and reordered records, and commits that were not honoured.
#[test]
fn the_oracle_can_fail() {
    let Some(python) = python("the_oracle_can_fail") else {
        return;
    };
    let done = Command::new(python)
        .args(["-m", "unittest", "--quiet", "oracle_test"])
        .current_dir(repository().join("tests/clients"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(!said.contains("Ran 0 tests"), "{said}");
}
