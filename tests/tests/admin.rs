//! `tailwater topics|groups|cluster …` against a server, as a person or a script runs them: what stands on stdout, what on
//! stderr, and the exit code.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_tests::{Cluster, ClusterOptions, Connection, Reference, Server, batch, free_port, wait_until};

/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);
/// Groups settle at once.
const CONFIG: &str = "[frontend.groups]\ninitial_rebalance_delay = \"0ms\"\n";
/// The last version in which a member may join without an id of its own.
const JOIN_VERSION: i16 = 3;
const SYNC_VERSION: i16 = 2;
const COMMIT_VERSION: i16 = 8;

/// What one run of the tool said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().expect("it ends by itself"),
            out: String::from_utf8(output.stdout.clone()).expect("text"),
            err: String::from_utf8(output.stderr.clone()).expect("text"),
        }
    }

    /// The rows of all tables and lines, each as its words.
    fn words(&self) -> Vec<Vec<&str>> {
        self.out.lines().map(|line| line.split_whitespace().collect()).collect()
    }

    /// The first row that begins with these words.
    fn row(&self, begin: &[&str]) -> Vec<&str> {
        let mut rows = self.words().into_iter();
        let found = rows.find(|row| row.starts_with(begin));
        found.unwrap_or_else(|| panic!("no row {begin:?} in:\n{}\n{}", self.out, self.err))
    }

    fn ok(self) -> Self {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        self
    }

    /// The command was carried out, and says that nothing was changed.
    fn dry(self) -> Self {
        assert!(self.code == 0 && self.err.contains("needs --execute"), "{self:?}");
        self
    }

    /// It failed, with one sentence that has all of these.
    fn fails(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.starts_with("tailwater: ") || code == 2, "{self:?}");
        for text in texts {
            assert!(self.err.contains(text), "{text:?} isn't in {self:?}");
        }
    }
}

/// The tool, at one cluster.
struct Admin {
    bootstrap: String,
}

impl Admin {
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(Server::test_binary());
        command
            .args(arguments.split_whitespace())
            .env("TAILWATER_BOOTSTRAP", &self.bootstrap)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &str) -> Said {
        Said::of(&self.command(arguments).output().expect("it runs"))
    }

    /// The JSON, whatever the exit code.
    fn json(&self, arguments: &str) -> Value {
        let said = self.run(&format!("{arguments} --output json"));
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }
}

fn start() -> (Server, Admin, Connection) {
    let mut server = Server::new(CONFIG);
    server.start();
    let bootstrap = server.bootstrap();
    let connection = Connection::open(server.kafka());
    (server, Admin { bootstrap }, connection)
}

fn produce(connection: &mut Connection, topic: &str, partition: i32, records: usize) {
    let values = vec![&b"value"[..]; records];
    let done = connection.produce(topic, partition, batch(&values)).expect("answered");
    assert_eq!(done.error_code, ErrorCode::None);
}

/// Commits as nobody's member: the group is there, and empty.
fn commit(connection: &mut Connection, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let partition = |&(partition_index, committed_offset): &(i32, i64)| OffsetCommitRequestPartition {
        partition_index,
        committed_offset,
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: offsets.iter().map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    // Who looks for the first coordinator makes the topic that keeps what is committed.
    let coordinator = FindCoordinatorRequest {
        key: group.into(),
        ..Default::default()
    };
    wait_until("a commit is taken", LIMIT, || {
        connection.call(1, &coordinator).expect("answered");
        let response = connection.call(COMMIT_VERSION, &request).expect("answered");
        response.topics[0]
            .partitions
            .iter()
            .all(|partition| !partition.error_code.is_error())
    });
}

/// Joins a group as its only member, with these partitions of a topic; answers the member's id.
fn join(connection: &mut Connection, group: &str, topic: &str, partitions: &[i32]) -> String {
    let topic_in_bytes = [
        &u16::try_from(topic.len()).expect("short").to_be_bytes()[..],
        topic.as_bytes(),
    ]
    .concat();
    let subscription = [&[0, 0, 0, 0, 0, 1][..], &topic_in_bytes, &[0xff; 4]].concat();
    let request = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: subscription.into(),
        }],
        ..Default::default()
    };
    let joined = connection.call(JOIN_VERSION, &request).expect("answered");
    assert_eq!(joined.error_code, ErrorCode::None);
    let assignment = ConsumerAssignment {
        assigned_partitions: vec![AssignedPartitions {
            topic: topic.into(),
            partitions: partitions.to_vec(),
        }],
        user_data: None,
    };
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: assignment.encode_with_version(1).expect("it can be said"),
        }],
        ..Default::default()
    };
    let synced = connection.call(SYNC_VERSION, &request).expect("answered");
    assert_eq!(synced.error_code, ErrorCode::None);
    joined.member_id.to_string()
}

fn leave(connection: &mut Connection, group: &str, member: &str) {
    let request = LeaveGroupRequest {
        group_id: group.into(),
        member_id: Str::from(member),
        ..Default::default()
    };
    assert_eq!(
        connection.call(2, &request).expect("answered").error_code,
        ErrorCode::None
    );
}

/// Topics are created, listed, described, changed, grown, trimmed and deleted, each as a table and as JSON.
#[test]
fn topics_are_administered() {
    let (server, admin, mut connection) = start();

    let said = admin
        .run("topics create orders --partitions 2 --config retention.ms=60000 --dry-run")
        .ok();
    assert_eq!(said.out, "topic orders: would be created\n");
    assert_eq!(admin.json("topics list"), json!([]));
    let said = admin
        .run("topics create orders --partitions 2 --config retention.ms=60000")
        .ok();
    assert_eq!(said.out, "topic orders: created\n");
    let created = admin.json("topics create bills");
    assert_eq!(
        created,
        json!([{ "topic": "bills", "outcome": "created", "error": null }])
    );

    // What is there already is a failure, or not; the others are created all the same.
    let said = admin.run("topics create orders fresh");
    said.fails(1, &["topic orders: TOPIC_ALREADY_EXISTS: "]);
    assert_eq!(said.out, "topic fresh: created\n");
    let said = admin.run("topics create orders --if-not-exists").ok();
    assert_eq!(said.out, "topic orders: exists already\n");
    admin
        .run("topics create a/b")
        .fails(1, &["topic a/b: INVALID_TOPIC_EXCEPTION: "]);
    admin
        .run("topics create c --config no.such=1")
        .fails(1, &["topic c: INVALID_CONFIG: "]);
    let failed = admin.json("topics create orders");
    assert_eq!(
        (&failed[0]["outcome"], &failed[0]["error"]["code"]),
        (&json!("failed"), &json!(36))
    );

    let said = admin.run("topics list").ok();
    assert_eq!(said.row(&["NAME"]), ["NAME", "PARTITIONS", "REPLICATION"]);
    assert_eq!(said.row(&["orders"]), ["orders", "2", "1"]);
    let listed = admin.json("topics list");
    let names: Vec<_> = listed
        .as_array()
        .expect("an array")
        .iter()
        .map(|topic| topic["name"].clone())
        .collect();
    assert_eq!(names, ["bills", "fresh", "orders"]);
    assert_eq!(listed[2]["topic_id"].as_str().map(str::len), Some(22));

    produce(&mut connection, "orders", 1, 3);
    let said = admin.run("topics describe orders").ok();
    assert!(
        said.out.starts_with("topic orders: 2 partitions, replication 1, id "),
        "{said:?}"
    );
    assert_eq!(said.row(&["retention.ms=60000"]), ["retention.ms=60000", "(topic)"]);
    assert_eq!(
        said.row(&["1"])[..8],
        ["1", "1", "0", "1", "1", "0", "3", "3"],
        "{said:?}"
    );
    let described = admin.json("topics describe orders");
    assert_eq!(described[0]["configs"][0]["name"], "retention.ms");
    let partition = &described[0]["partitions"][1];
    assert_eq!(
        (&partition["leader"], &partition["end_offset"], &partition["records"]),
        (&json!(1), &json!(3), &json!(3))
    );
    assert!(
        partition["size_bytes"].as_i64().is_some_and(|bytes| bytes > 60),
        "{partition}"
    );
    let said = admin.run("topics describe orders nothing");
    said.fails(1, &["topic nothing: UNKNOWN_TOPIC_OR_PARTITION: "]);
    said.row(&["topic", "orders:"]);
    assert_eq!(admin.json("topics describe").as_array().map(Vec::len), Some(3));

    assert_eq!(
        admin
            .run("topics alter orders --set compression.type=zstd --unset retention.ms --dry-run")
            .ok()
            .out,
        "topic orders: would be changed\n"
    );
    assert_eq!(
        admin
            .run("topics alter orders --set compression.type=zstd --unset retention.ms")
            .ok()
            .out,
        "topic orders: changed\n"
    );
    let settings = admin.json("topics config orders");
    assert_eq!(
        settings,
        json!([{ "name": "compression.type", "value": "zstd", "source": "topic", "read_only": false, "sensitive": false }])
    );
    assert_eq!(
        admin.run("topics config bills").ok().out,
        "every setting has its default\n"
    );
    assert_eq!(
        admin.run("topics config orders --all").ok().row(&["retention.ms"]),
        ["retention.ms", "604800000", "default"]
    );
    admin
        .run("topics config nothing")
        .fails(1, &["topic nothing: UNKNOWN_TOPIC_OR_PARTITION: "]);
    admin
        .run("topics alter orders --set retention.ms=soon")
        .fails(1, &["topic orders: INVALID_CONFIG: "]);
    admin.run("topics alter orders").fails(2, &["nothing to change"]);

    assert_eq!(
        admin.run("topics add-partitions orders --total 3").ok().out,
        "topic orders: has 3 partitions\n"
    );
    admin
        .run("topics add-partitions orders --total 3")
        .fails(1, &["topic orders: INVALID_PARTITIONS: "]);

    assert_eq!(
        admin.run("topics offsets orders").ok().row(&["orders", "1"]),
        ["orders", "1", "0", "3", "3"]
    );
    // The batches' time is 2023-11-14T22:13:20Z.
    let places = admin.json("topics offsets orders --at 2023-11-14");
    assert_eq!(
        places[1],
        json!({ "topic": "orders", "partition": 1, "offset": 0, "timestamp_ms": 1_700_000_000_000_i64 })
    );
    assert_eq!(places[0]["offset"], Value::Null);
    let said = admin.run("topics offsets orders --at max-timestamp").ok();
    assert_eq!(said.row(&["orders", "1"])[3], "2023-11-14T22:13:20.000Z");
    admin
        .run("topics offsets orders --at yesterday")
        .fails(2, &["a time is expected"]);

    let said = admin.run("topics delete-records orders:1 --to-offset 2").dry();
    assert_eq!(
        said.row(&["orders"]),
        ["orders", "1", "0", "2", "would", "be", "deleted"]
    );
    assert_eq!(admin.json("topics offsets orders")[1]["start_offset"], 0);
    let trimmed = admin.json("topics delete-records orders:1 --to-offset 2 --execute");
    assert_eq!(
        trimmed,
        json!([{ "topic": "orders", "partition": 1, "start_offset": 0, "new_start_offset": 2, "outcome": "deleted" }])
    );
    assert_eq!(
        admin.run("topics offsets orders").ok().row(&["orders", "1"]),
        ["orders", "1", "2", "3", "1"]
    );
    admin
        .run("topics delete-records orders:1 --to-offset 4 --execute")
        .fails(1, &["topic orders partition 1: OFFSET_OUT_OF_RANGE: "]);
    admin
        .run("topics delete-records orders:7 --to-latest")
        .fails(1, &["topic orders partition 7: UNKNOWN_TOPIC_OR_PARTITION: "]);

    let said = admin.run("topics delete orders nothing");
    said.fails(1, &["topic nothing: UNKNOWN_TOPIC_OR_PARTITION: "]);
    assert_eq!(said.out, "topic orders: deleted\n");
    assert_eq!(
        admin.run("topics delete nothing --if-exists").ok().out,
        "topic nothing: isn't there\n"
    );
    assert_eq!(admin.json("topics list").as_array().map(Vec::len), Some(2));
    server.finish();
}

/// Groups are listed and described with members and lag, their offsets reset and deleted, and they themselves deleted.
#[test]
fn groups_are_administered() {
    let (server, admin, mut connection) = start();
    admin.run("topics create orders --partitions 3").ok();
    admin.run("topics create bills --partitions 1").ok();
    produce(&mut connection, "orders", 0, 5);
    produce(&mut connection, "orders", 1, 7);
    commit(&mut connection, "idle", "orders", &[(0, 2), (1, 7)]);
    commit(&mut connection, "idle", "bills", &[(0, 0)]);
    commit(&mut connection, "busy", "orders", &[(0, 1)]);
    let mut member = Connection::open(server.kafka());
    let id = join(&mut member, "busy", "orders", &[0, 2]);

    let said = admin.run("groups list").ok();
    assert_eq!(said.row(&["busy"]), ["busy", "classic", "Stable", "consumer", "1"]);
    assert_eq!(said.row(&["idle"])[..3], ["idle", "classic", "Empty"]);
    let listed = admin.json("groups list --state stable --type classic");
    assert_eq!(
        listed,
        json!([{ "group_id": "busy", "type": "classic", "state": "Stable", "protocol_type": "consumer", "coordinator": 1 }])
    );
    assert_eq!(admin.json("groups list --type consumer"), json!([]));

    let said = admin.run("groups describe busy").ok();
    assert!(
        said.out
            .starts_with("group busy: Stable, members 1, lag 4, type classic (range), coordinator 1\n"),
        "{said:?}"
    );
    assert_eq!(said.row(&[&id]), [&id, "-", "tests", "127.0.0.1", "orders:0,2"]);
    assert_eq!(said.row(&["orders", "0"]), ["orders", "0", "1", "5", "4", &id]);
    // Assigned, and nothing committed.
    assert_eq!(said.row(&["orders", "2"]), ["orders", "2", "-", "0", "-", &id]);
    let described = admin.json("groups describe idle");
    assert_eq!(
        (&described[0]["total_lag"], &described[0]["members"]),
        (&json!(3), &json!([]))
    );
    let progress = json!({ "topic": "orders", "partition": 0, "committed_offset": 2, "end_offset": 5, "lag": 3, "member_id": null });
    assert_eq!(described[0]["offsets"][1], progress);
    let said = admin.run("groups describe nobody idle");
    said.fails(1, &["group nobody: GROUP_ID_NOT_FOUND: "]);
    said.row(&["group", "idle:"]);

    // Only while nobody is there, and only when told to.
    for execute in ["", " --execute"] {
        admin
            .run(&format!(
                "groups reset-offsets busy --topic orders --to-earliest{execute}"
            ))
            .fails(1, &["group busy: NON_EMPTY_GROUP: "]);
    }
    let said = admin
        .run("groups reset-offsets idle --topic orders:0 --to-latest")
        .dry();
    assert_eq!(said.row(&["orders"]), ["orders", "0", "2", "5", "would", "be", "reset"]);
    assert_eq!(admin.json("groups describe idle")[0]["total_lag"], 3);
    let reset = admin.json("groups reset-offsets idle --topic orders:0 --to-latest --execute");
    assert_eq!(
        reset,
        json!([{ "group_id": "idle", "topic": "orders", "partition": 0, "committed_offset": 2, "new_offset": 5, "outcome": "reset" }])
    );
    assert_eq!(admin.json("groups describe idle")[0]["total_lag"], 0);
    let new_offsets = |how: &str| {
        let reset = admin.json(&format!("groups reset-offsets idle --all-topics {how} --execute"));
        let of = |row: &Value| (row["topic"].as_str().map(str::to_owned), row["new_offset"].as_i64());
        let rows: Vec<_> = reset.as_array().expect("an array").iter().map(of).collect();
        assert_eq!(
            rows.iter().map(|row| row.0.as_deref()).collect::<Vec<_>>(),
            [Some("bills"), Some("orders"), Some("orders")]
        );
        [rows[1].1, rows[2].1].map(|offset| offset.expect("a number"))
    };
    assert_eq!(new_offsets("--to-earliest"), [0, 0]);
    assert_eq!(new_offsets("--to-offset 6"), [5, 6]);
    assert_eq!(new_offsets("--shift-by -2"), [3, 4]);
    assert_eq!(new_offsets("--to-datetime 2023-11-14"), [0, 0]);
    assert_eq!(new_offsets("--to-datetime 2024-01-01T00:00:00Z"), [5, 7]);
    // A group that isn't there yet gets its first offsets.
    admin
        .run("groups reset-offsets new --topic orders --to-latest --execute")
        .ok();
    assert_eq!(
        admin.json("groups describe new")[0]["offsets"][1]["committed_offset"],
        7
    );
    admin
        .run("groups reset-offsets idle --topic nothing --to-latest")
        .fails(1, &["topic nothing: UNKNOWN_TOPIC_OR_PARTITION: "]);
    admin
        .run("groups reset-offsets idle --to-latest")
        .fails(2, &["--topic"]);
    admin
        .run("groups reset-offsets idle --topic orders --to-latest --to-earliest")
        .fails(2, &["cannot be used with"]);

    let said = admin.run("groups delete-offsets idle --topic orders:1").ok();
    assert_eq!(said.row(&["orders"]), ["orders", "1", "deleted"]);
    let deleted = admin.json("groups delete-offsets idle --topic bills");
    assert_eq!(
        deleted,
        json!([{ "group_id": "idle", "topic": "bills", "partition": 0, "outcome": "deleted" }])
    );
    assert_eq!(
        admin.json("groups describe idle")[0]["offsets"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(
        admin.run("groups delete-offsets idle --topic bills").ok().out,
        "group idle: nothing is committed there\n"
    );
    admin.run("groups delete-offsets busy --topic orders").fails(
        1,
        &["group busy, topic orders partition 0: GROUP_SUBSCRIBED_TO_TOPIC: "],
    );

    let said = admin.run("groups delete busy idle nobody");
    said.fails(
        1,
        &["group busy: NON_EMPTY_GROUP: ", "group nobody: GROUP_ID_NOT_FOUND: "],
    );
    assert_eq!(said.out, "group idle: deleted\n");
    assert_eq!(
        admin.run("groups delete idle --if-exists").ok().out,
        "group idle: isn't there\n"
    );
    leave(&mut member, "busy", &id);
    let deleted = admin.json("groups delete busy");
    assert_eq!(
        deleted,
        json!([{ "group": "busy", "outcome": "deleted", "error": null }])
    );
    server.finish();
}

/// The cluster, its nodes of all tiers, and its brokers' settings.
#[test]
fn the_cluster_is_described_and_configured() {
    let (server, admin, _connection) = start();
    let said = admin.run("cluster describe").ok();
    assert_eq!(said.row(&["1"]), ["1", &server.bootstrap(), "-", "Active"]);
    let described = admin.json("cluster describe");
    assert_eq!(
        (&described["controller"], described["cluster_id"].as_str().map(str::len)),
        (&json!(1), Some(22))
    );
    assert_eq!(
        described["brokers"],
        json!([{ "id": 1, "address": server.bootstrap(), "rack": null, "fenced": false }])
    );
    let features = described["features"].as_array().expect("an array");
    assert!(
        features.iter().any(|feature| feature["name"] == "metadata.version"),
        "{described}"
    );

    let said = admin.run("cluster nodes").ok();
    assert_eq!(said.row(&["TIER"]), ["TIER", "ID", "EPOCH", "STATE", "KAFKA", "RPC"]);
    let nodes = admin.json("cluster nodes");
    let tiers: Vec<_> = nodes
        .as_array()
        .expect("an array")
        .iter()
        .map(|node| (&node["tier"], &node["state"]))
        .collect();
    let active = json!("Active");
    let expected = ["controller", "wal", "frontend", "compactor"].map(|tier| json!(tier));
    assert_eq!(tiers, expected.iter().map(|tier| (tier, &active)).collect::<Vec<_>>());
    assert_eq!(
        (&nodes[2]["id"], &nodes[2]["kafka"]),
        (&json!(1), &json!([server.bootstrap()]))
    );
    assert!(nodes[1]["device"].is_string() && nodes[0]["id"].is_null(), "{nodes}");

    assert_eq!(
        admin.run("cluster alter --set log.retention.ms=60000").ok().out,
        "broker all: changed\n"
    );
    assert_eq!(
        admin.run("cluster config").ok().row(&["log.retention.ms"]),
        ["log.retention.ms", "60000", "all_brokers"]
    );
    assert_eq!(
        admin
            .run("cluster alter --broker 1 --set log.retention.ms=70000")
            .ok()
            .out,
        "broker 1: changed\n"
    );
    let settings = admin.json("cluster config --broker 1");
    let found = settings
        .as_array()
        .expect("an array")
        .iter()
        .find(|setting| setting["name"] == "log.retention.ms");
    assert_eq!(
        found.map(|setting| (&setting["value"], &setting["source"])),
        Some((&json!("70000"), &json!("broker")))
    );
    admin
        .run("cluster config --broker 9 --timeout 300ms")
        .fails(1, &["cannot connect to broker 9"]);
    server.finish();
}

/// Nobody there, somebody else there, and wrong usage are told apart by sentence and exit code; a reader that goes away is
/// none of it.
#[test]
fn failures_are_told_apart() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let admin = Admin {
        bootstrap: nobody.to_string(),
    };
    admin
        .run("topics list")
        .fails(1, &[&format!("cannot connect to {nobody}: connection refused")]);
    admin.run("topics list --output json").fails(1, &["cannot connect"]);
    admin.run("topics").fails(2, &["Usage: "]);
    admin.run("topics list --output yaml").fails(2, &["yaml"]);
    admin.run("topics create x --partitions 0").fails(2, &["0"]);
    admin
        .run("topics list --bootstrap ,")
        .fails(2, &["--bootstrap names no address"]);
    for group in ["topics", "groups", "cluster"] {
        let said = admin.run(&format!("{group} --help")).ok();
        assert!(
            said.out.contains("Examples:\n  tailwater ") && said.out.contains("--bootstrap"),
            "{said:?}"
        );
    }

    let mut server = Server::new(CONFIG);
    server.start();
    // The flag wins over the environment, and may stand anywhere; the second address is tried after the first.
    let flag = format!("--bootstrap {nobody},{}", server.bootstrap());
    admin.run(&format!("topics {flag} list")).ok();
    admin.run(&format!("topics list {flag}")).ok();
    let http = Admin {
        bootstrap: server.http().to_string(),
    };
    http.run("topics list").fails(
        1,
        &[&format!(
            "cannot connect to {}: it doesn't answer as a Kafka broker does",
            server.http()
        )],
    );

    let here = Admin {
        bootstrap: server.bootstrap(),
    };
    let mut child = here
        .command("topics list")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let said = Said::of(&child.wait_with_output().expect("it ends"));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    server.finish();
}

/// `cluster nodes`, as (tier, epoch, state) by the node's number.
fn node(admin: &Admin, id: i64) -> (String, i64, String) {
    let nodes = admin.json("cluster nodes --all");
    let nodes = nodes.as_array().expect("an array");
    let node = nodes
        .iter()
        .find(|node| node["id"] == id)
        .unwrap_or_else(|| panic!("no node {id} in {nodes:?}"));
    let text = |field: &str| node[field].as_str().expect("a text").to_owned();
    (text("tier"), node["epoch"].as_i64().expect("a number"), text("state"))
}

/// Every node of a cluster is shown with its tier; a frontend that was killed is Fenced under a higher epoch, one that was
/// stopped has left; and a controller that is away is said to be.
#[test]
fn cluster_nodes_shows_who_is_there_and_who_is_not() {
    let options = ClusterOptions {
        restart: None,
        frontends: 3,
        wals: 2,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).allow("no answer to a heartbeat");
    let admin = Admin {
        bootstrap: cluster.kafka(1).to_string(),
    };
    let tiers = |admin: &Admin| {
        let nodes = admin.json("cluster nodes");
        let nodes = nodes.as_array().expect("an array").iter();
        nodes
            .map(|node| format!("{} {} {}", node["tier"], node["id"], node["state"]))
            .collect::<Vec<_>>()
    };
    let expected = [
        r#""controller" null "Active""#,
        r#""wal" 10001 "Active""#,
        r#""wal" 10002 "Active""#,
        r#""frontend" 1 "Active""#,
        r#""frontend" 2 "Active""#,
        r#""frontend" 3 "Active""#,
        r#""compactor" 20001 "Active""#,
    ];
    wait_until("all nodes are active", LIMIT, || tiers(&admin) == expected);

    let (_, epoch, _) = node(&admin, 2);
    cluster.signal("frontend-2", libc::SIGKILL);
    wait_until("the killed frontend is fenced", LIMIT, || {
        node(&admin, 2) == ("frontend".to_owned(), epoch + 1, "Fenced".to_owned())
    });
    let said = admin.run("cluster nodes").ok();
    assert_eq!(said.row(&["frontend", "2"])[3], "Fenced");

    cluster.signal("frontend-3", libc::SIGTERM);
    assert_eq!(cluster.wait_for_exit("frontend-3", 1, LIMIT), 0);
    wait_until("the stopped frontend has left", LIMIT, || {
        let (_, _, state) = node(&admin, 3);
        ["ShuttingDown", "Gone"].contains(&state.as_str())
    });

    cluster.signal("controller-1", libc::SIGKILL);
    wait_until("the controller is missed", LIMIT, || {
        let said = admin.run("cluster nodes");
        said.code == 0
            && said.row(&["controller"])[3] == "Unreachable"
            && said.err.contains("the states are those it gave last")
    });
}

/// The same commands against Apache Kafka, which has all but the tiers. `make test-reference` runs it.
#[test]
#[ignore = "starts Apache Kafka: make test-reference"]
fn the_commands_work_against_apache_kafka() {
    let kafka = Reference::start();
    let admin = Admin {
        bootstrap: kafka.bootstrap().to_owned(),
    };
    let mut connection = Connection::open(kafka.bootstrap().parse().expect("an address"));
    admin
        .run("topics create orders --partitions 3 --config retention.ms=60000")
        .ok();
    wait_until("its partitions have leaders", LIMIT, || {
        let described = admin.json("topics describe orders");
        let partitions = described[0]["partitions"].as_array().map_or(&[][..], |all| &all[..]);
        partitions.len() == 3 && partitions.iter().all(|partition| partition["end_offset"] == 0)
    });
    produce(&mut connection, "orders", 0, 5);
    produce(&mut connection, "orders", 1, 7);
    assert_eq!(admin.run("topics list").ok().row(&["orders"]), ["orders", "3", "1"]);
    let said = admin.run("topics describe orders").ok();
    assert_eq!(said.row(&["retention.ms=60000"]), ["retention.ms=60000", "(topic)"]);
    assert_eq!(
        said.row(&["1"])[..8],
        ["1", "1", "0", "1", "1", "0", "7", "7"],
        "{said:?}"
    );
    admin
        .run("topics create orders")
        .fails(1, &["topic orders: TOPIC_ALREADY_EXISTS: "]);
    admin
        .run("topics alter orders --set compression.type=zstd --unset retention.ms")
        .ok();
    let settings = admin.json("topics config orders");
    assert!(
        settings
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["value"] == "zstd")),
        "{settings}"
    );
    admin.run("topics add-partitions orders --total 4").ok();
    admin.run("topics delete-records orders:0 --to-offset 2 --execute").ok();
    wait_until("the start has moved", LIMIT, || {
        admin.run("topics offsets orders").row(&["orders", "0"]) == ["orders", "0", "2", "5", "3"]
    });

    commit(&mut connection, "idle", "orders", &[(0, 2), (1, 7)]);
    commit(&mut connection, "busy", "orders", &[(0, 3)]);
    let id = join(&mut connection, "busy", "orders", &[0, 2]);
    let said = admin.run("groups list").ok();
    assert_eq!(said.row(&["busy"]), ["busy", "classic", "Stable", "consumer", "1"]);
    let said = admin.run("groups describe busy").ok();
    assert!(
        said.out
            .starts_with("group busy: Stable, members 1, lag 2, type classic (range), coordinator 1\n"),
        "{said:?}"
    );
    assert_eq!(said.row(&[&id]), [&id, "-", "tests", "127.0.0.1", "orders:0,2"]);
    assert_eq!(said.row(&["orders", "0"]), ["orders", "0", "3", "5", "2", &id]);
    assert_eq!(admin.json("groups describe idle")[0]["total_lag"], 3);
    admin
        .run("groups describe nobody")
        .fails(1, &["group nobody: GROUP_ID_NOT_FOUND: "]);
    admin
        .run("groups reset-offsets busy --topic orders --to-latest --execute")
        .fails(1, &["group busy: NON_EMPTY_GROUP: "]);
    admin
        .run("groups reset-offsets idle --topic orders:0 --to-latest --execute")
        .ok();
    assert_eq!(admin.json("groups describe idle")[0]["total_lag"], 0);
    admin
        .run("groups reset-offsets new --topic orders --to-earliest --execute")
        .ok();
    admin.run("groups delete-offsets idle --topic orders:1").ok();
    admin
        .run("groups delete busy")
        .fails(1, &["group busy: NON_EMPTY_GROUP: "]);
    admin.run("groups delete idle").ok();

    // A group whose coordinator assigns (KIP-848).
    let mut heartbeat = ConsumerGroupHeartbeatRequest {
        group_id: "modern".into(),
        member_id: "one".into(),
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec!["orders".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    wait_until("the coordinator has assigned", LIMIT, || {
        let answer = connection.call(1, &heartbeat).expect("answered");
        assert_eq!(answer.error_code, ErrorCode::None, "{:?}", answer.error_message);
        heartbeat = ConsumerGroupHeartbeatRequest {
            group_id: "modern".into(),
            member_id: "one".into(),
            member_epoch: answer.member_epoch,
            ..Default::default()
        };
        answer
            .assignment
            .is_some_and(|assignment| !assignment.topic_partitions.is_empty())
    });
    let said = admin.run("groups describe modern").ok();
    assert!(said.out.contains("members 1, lag 0, type consumer"), "{said:?}");
    assert_eq!(said.row(&["one"])[4], "orders:0,1,2,3");

    let described = admin.json("cluster describe");
    assert_eq!(described["brokers"][0]["address"], kafka.bootstrap());
    let said = admin.run("cluster nodes");
    assert!(said.code == 0 && said.err.contains("no Tailwater cluster"), "{said:?}");
    assert_eq!(said.row(&["broker"])[..4], ["broker", "1", "-", "Active"]);
    assert_eq!(said.row(&["controller"])[..4], ["controller", "1", "-", "Leader"]);
    assert_eq!(admin.run("topics delete orders").ok().out, "topic orders: deleted\n");
}
