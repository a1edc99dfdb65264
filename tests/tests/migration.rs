//! Groups whose members are rolled, one by one, from the classic protocol to that of KIP-848 and back, by real clients.

use std::path::Path;
use std::time::Duration;

use tailwater_kafka::messages::ConsumerGroupDescribeRequest;
use tailwater_tests::{Connection, Reference, Server, prepare_clients, python, run_client_script, wait_until};

const CONFIG: &str = r#"
[wal]
capacity = "64MiB"
[frontend.groups]
initial_rebalance_delay = "0ms"
consumer_heartbeat_interval = "300ms"
consumer_assignment_interval = "0ms"
"#;
/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);
const CLASSIC_MEMBER: i8 = 0;
const BOTH: &[&str] = &["range", "cooperative-sticky"];

fn roll(python: &Path, bootstrap: &str, clients: &str, assignors: &[&str]) {
    let assignors = assignors.join(",");
    let arguments = [
        "--bootstrap",
        bootstrap,
        "--clients",
        clients,
        "--assignors",
        &assignors,
    ];
    run_client_script(python, "migration.py", &arguments);
}

/// librdkafka and Java, eager and cooperative members: while they change the protocol one by one, every record is delivered and
/// committed, and the group is of the type that its members make it.
#[test]
fn groups_are_rolled_from_protocol_to_protocol() {
    prepare_clients();
    let Some(python) = python("groups that are rolled") else {
        return;
    };
    let mut server = Server::new(CONFIG);
    server.start();
    roll(&python, &server.bootstrap(), "confluent,java", BOTH);
    server.finish();
}

/// So it is with Apache Kafka.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn groups_are_rolled_from_protocol_to_protocol_with_kafka() {
    prepare_clients();
    let Some(python) = python("groups that are rolled with Apache Kafka") else {
        return;
    };
    let kafka = Reference::start();
    roll(&python, kafka.bootstrap(), "confluent,java", BOTH);
}

/// How many members speak the classic protocol, and how many the new one.
fn members(server: &Server, group: &str) -> (usize, usize) {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![group.into()],
        ..Default::default()
    };
    let described = Connection::open(server.kafka()).call(1, &request);
    let groups = described.map(|reply| reply.groups).unwrap_or_default();
    let types = groups
        .iter()
        .flat_map(|group| group.members.iter().map(|member| member.member_type));
    let (classic, new): (Vec<i8>, Vec<i8>) = types.partition(|kind| *kind == CLASSIC_MEMBER);
    (classic.len(), new.len())
}

/// The coordinator of a group of both protocols is killed, and the next one goes on with it: the same holds.
#[test]
fn a_group_of_both_protocols_outlives_its_coordinator() {
    let Some(python) = python("a coordinator of both protocols that is killed") else {
        return;
    };
    let mut server = Server::new(CONFIG);
    server.start();
    let bootstrap = server.bootstrap();
    let rolled = std::thread::spawn(move || roll(&python, &bootstrap, "confluent", &["cooperative-sticky"]));
    for of_new in 1..=2 {
        wait_until("the group has members of both protocols", LIMIT, || {
            let (classic, new) = members(&server, "roll-confluent-cooperative-sticky");
            classic > 0 && new == of_new
        });
        server.kill9();
        server.start();
    }
    rolled.join().expect("the roll passes");
    server.finish();
}
