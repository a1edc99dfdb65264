//! The client matrix: unmodified Kafka clients produce records of every sort and read them back exactly, by assignment and
//! in a group whose members come and go, and read what others wrote. What is sent, and what must come back, stands in
//! `tests/clients/`; every scenario is run against Apache Kafka as well (`make test-reference`). So are Apache Kafka's own
//! command-line tools: what they say of Apache Kafka is recorded, and what they say of Tailwater is held against it.

use std::process::Command;

use tailwater_tests::{
    Cluster, ClusterOptions, Reference, Server, is_long, prepare_clients, python, repository, run_client_script,
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

/// Runs a script against a server, and holds what it found against `docs/compatibility.md`.
fn run(script: &str, kind: &str, server: &str, bootstrap: &str, more: &[&str]) {
    run_as(server, script, kind, server, bootstrap, more);
}

/// As [`run`], of one of several ways to run a server: `name` tells what was found of them apart.
fn run_as(name: &str, script: &str, kind: &str, server: &str, bootstrap: &str, more: &[&str]) {
    prepare_clients();
    let Some(python) = python(script) else {
        return;
    };
    let found = repository().join(format!("target/compatibility/{kind}-{name}.json"));
    let found = found.to_str().expect("a path of text");
    let arguments = ["--bootstrap", bootstrap, "--json", found];
    run_client_script(&python, script, &[&arguments, more].concat());
    let kind = format!("--{kind}");
    let arguments = ["check", "--server", server, &kind, found];
    run_client_script(&python, "compatibility.py", &arguments);
}

fn run_matrix(server: &str, bootstrap: &str) {
    let records = if is_long() { "100000" } else { "10000" };
    run("matrix.py", "clients", server, bootstrap, &["--records", records]);
}

/// The file of known differences.
fn gaps() -> String {
    let path = repository().join("tests/reference/gaps.txt");
    path.to_str().expect("a path of text").to_owned()
}

fn run_tools(server: &str, bootstrap: &str, more: &[&str]) {
    run("tools.py", "tools", server, bootstrap, more);
}

/// Every client gets back what it sent, and what others sent, from Tailwater.
#[test]
fn the_client_matrix_passes() {
    let mut server = Server::new(CONFIG);
    server.start();
    run_matrix("tailwater", &server.bootstrap());
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
        "frontend.groups.consumer_heartbeat_interval=500ms",
    ];
    let cluster = Cluster::start(ClusterOptions {
        settings: settings.map(str::to_owned).to_vec(),
        ..ClusterOptions::default()
    });
    let records = if is_long() { "100000" } else { "2000" };
    let arguments = ["--records", records];
    run_as(
        "apart",
        "matrix.py",
        "clients",
        "tailwater",
        cluster.bootstrap(),
        &arguments,
    );
    cluster.finish();
}

/// The same scenarios pass against Apache Kafka: one that doesn't is wrong itself.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn the_client_matrix_passes_against_kafka() {
    let kafka = Reference::start();
    run_matrix("kafka", kafka.bootstrap());
}

/// Kafka's tools say of Tailwater what they say of Kafka, but for the known gaps; a gap that is none any more is told.
#[test]
fn kafkas_tools_find_what_they_find_in_kafka() {
    let mut server = Server::new(CONFIG_OF_TOOLS);
    server.start();
    run_tools("tailwater", &server.bootstrap(), &["--gaps", &gaps()]);
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
    run_as(
        "apart",
        "tools.py",
        "tools",
        "tailwater",
        cluster.bootstrap(),
        &arguments,
    );
    cluster.finish();
}

/// What is recorded of Kafka's tools is what they say of Kafka.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn kafkas_tools_say_of_kafka_what_is_recorded() {
    let kafka = Reference::start();
    run_tools("kafka", kafka.bootstrap(), &[]);
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
