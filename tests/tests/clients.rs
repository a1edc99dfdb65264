//! Unmodified Kafka clients produce records of every sort and read them back exactly, by assignment and in a group whose
//! members come and go. Each script was first run against Apache Kafka.

use std::process::Command;

use tailwater_tests::{Server, is_long, python, run_client_script, skip};

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
"#;

fn round_trip(script: &str, arguments: &[&str]) {
    let Some(python) = python(&format!("{script} {arguments:?}")) else {
        return;
    };
    let mut server = Server::new(CONFIG);
    server.start();
    let records = if is_long() { "100000" } else { "10000" };
    let bootstrap = server.bootstrap();
    run_client_script(
        &python,
        script,
        &[&["--bootstrap", &bootstrap, "--records", records], arguments].concat(),
    );
    server.finish();
}

/// librdkafka's Python binding gets back what it sent.
#[test]
fn confluent_kafka_round_trip() {
    round_trip("roundtrip.py", &["--client", "confluent"]);
}

/// kafka-python gets back what it sent.
#[test]
fn kafka_python_round_trip() {
    round_trip("roundtrip.py", &["--client", "kafka-python"]);
}

/// kcat gets back what it sent.
#[test]
fn kcat_round_trip() {
    if Command::new("kcat").arg("-V").output().is_err() {
        return skip("kcat_round_trip", "kcat is not installed");
    }
    round_trip("kcat_roundtrip.py", &[]);
}
