//! Coordinators that are killed or stopped exactly between a decision and what follows from it: what was decided comes to be, and
//! nothing else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tailwater_kafka::ErrorCode;
use tailwater_kafka::batch::{Batches, Marker, TransactionEnd};
use tailwater_tests::{
    Cluster, ClusterOptions, Connection, Leaders, Server, Transaction, committed_offset, is_long, read_stable,
    wait_until,
};

const CONFIG: &str = r#"
[wal]
capacity = "256MiB"
"#;
const TOPIC: &str = "partly";
/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);
const KILLED: i32 = 128 + libc::SIGKILL;
/// What a fenced process ends with.
const FENCED: i32 = 70;
/// What others say of a frontend that was killed or hangs, and it itself when it goes on.
const NOTICED: [&str; 5] = [
    "no answer to a heartbeat",
    "upload failed, it will be tried again",
    "journal ended, leaderships over it end",
    "fenced, stopping at once",
    "the process can't go on",
];

/// A cluster whose frontends keep what they lead as long as they live, with a topic of four partitions.
fn steady_cluster() -> Cluster {
    let options = ClusterOptions {
        // A frontend that was stopped keeps its partitions until the test has looked.
        settings: vec!["controller.balance=false".to_owned(), "controller.lease=10s".to_owned()],
        ..ClusterOptions::default()
    };
    let cluster = NOTICED.into_iter().fold(Cluster::start(options), Cluster::allow);
    let mut connection = Connection::open(cluster.kafka(1));
    let created = connection.create_topic(TOPIC, 4, &[]).expect("the server answers");
    assert_eq!(created, ErrorCode::None);
    cluster
}

/// A partition of the topic that this frontend leads.
fn led_by(leaders: Leaders, frontend: SocketAddr) -> i32 {
    let led = (0..4).find(|partition| leaders.of_partition(TOPIC, *partition) == frontend);
    led.expect("both frontends lead some")
}

/// The first name that this frontend coordinates.
fn named(prefix: &str, frontend: SocketAddr, coordinator: impl Fn(&str) -> SocketAddr) -> String {
    let mut names = (0..).map(|number| format!("{prefix}-{number}"));
    names.find(|name| coordinator(name) == frontend).expect("endless")
}

/// The markers of a partition by the producers' ids: each one's epoch, and whether it is a commit.
fn markers(bytes: &[u8]) -> BTreeMap<i64, Vec<(i16, bool)>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for batch in Batches::new(Bytes::copy_from_slice(bytes)) {
        let (header, bytes) = batch.expect("whole batches");
        if !header.is_control() {
            continue;
        }
        if let Some(marker) = Marker::read(&bytes).expect("a good one") {
            let marker = (header.producer_epoch, marker.end == TransactionEnd::Commit);
            found.entry(header.producer_id).or_default().push(marker);
        }
    }
    found
}

/// The coordinator is killed exactly between its decision, which is in the log, and the markers, which the partitions' leader
/// can't write because it hangs: its successor ends both transactions as they were decided, with their groups' offsets, and
/// their producers go on.
#[test]
fn what_was_decided_is_carried_out_after_kill_9_before_the_markers() {
    let cluster = steady_cluster();
    let (coordinator, leader) = (cluster.kafka(1), cluster.kafka(2));
    let leaders = Leaders::asked_at(coordinator);
    let partition = led_by(leaders, leader);
    let mut decided = Vec::new();
    for is_commit in [true, false] {
        let prefix = if is_commit { "committed" } else { "aborted" };
        let id = named(prefix, coordinator, |id| leaders.of_transactional_id(id));
        let group = named(prefix, leader, |group| leaders.of_group(group));
        let mut transaction = Transaction::init(&id, leaders);
        let offset = transaction.produce(TOPIC, partition, prefix.as_bytes());
        transaction.commit_offset(&group, TOPIC, partition, 7);
        decided.push((is_commit, transaction, group, offset));
    }
    let pid = cluster.signal("frontend-2", libc::SIGSTOP);
    for (is_commit, transaction, ..) in &decided {
        transaction.end(*is_commit);
        let expected = if *is_commit { "PrepareCommit" } else { "PrepareAbort" };
        assert_eq!(transaction.state(), expected, "nobody can have told the partition");
    }
    let killed = cluster.signal("frontend-1", libc::SIGKILL);
    assert_eq!(cluster.wait_for_exit("frontend-1", 1, LIMIT), KILLED);
    cluster.signal("frontend-2", libc::SIGCONT);
    cluster.wait_until_back("frontend-1", killed);
    println!("frontend-2 was fenced: {}", cluster.pid("frontend-2") != pid);

    let leaders = Leaders::asked_at(coordinator);
    for (is_commit, transaction, group, _) in &decided {
        transaction.wait_for(if *is_commit { "CompleteCommit" } else { "CompleteAbort" });
        let expected = if *is_commit { 7 } else { -1 };
        assert_eq!(committed_offset(leaders, group, TOPIC, partition), expected, "{group}");
    }
    let stable = read_stable(leaders, TOPIC, partition);
    assert_eq!(stable.last_stable_offset, stable.high_watermark, "all is decided");
    let ends = markers(&stable.bytes);
    for (is_commit, transaction, _, offset) in &mut decided {
        let (id, epoch) = transaction.producer();
        let is_aborted = stable.aborted.contains(&(id, *offset));
        assert_eq!(is_aborted, !*is_commit, "{stable:?}");
        // One that came a second time did no harm.
        assert!(
            !ends[&id].is_empty() && ends[&id].iter().all(|end| *end == (epoch, *is_commit)),
            "{ends:?}"
        );
        transaction.produce(TOPIC, partition, b"next");
        transaction.end(true);
        transaction.wait_for("CompleteCommit");
    }
    cluster.finish();
}

/// A coordinator is stopped when a commit is decided and on its way to the partitions. Another one takes over and ends the
/// transaction as it was decided; its producer begins the next one, in the same epoch. Then the first one goes on: it is
/// fenced, and no marker of it ends the producer's open transaction.
#[test]
fn a_coordinator_that_was_stopped_ends_no_later_transaction() {
    let cluster = steady_cluster();
    let (coordinator, leader) = (cluster.kafka(1), cluster.kafka(2));
    let leaders = Leaders::asked_at(leader);
    let partition = led_by(leaders, leader);
    let id = named("stopped", coordinator, |id| leaders.of_transactional_id(id));
    let mut transaction = Transaction::init(&id, leaders);
    transaction.produce(TOPIC, partition, b"decided");
    transaction.ask_at(Leaders::asked_at(coordinator));
    cluster.signal("frontend-2", libc::SIGSTOP);
    transaction.end(true);
    assert_eq!(
        transaction.state(),
        "PrepareCommit",
        "nobody can have told the partition"
    );
    let pid = cluster.signal("frontend-1", libc::SIGSTOP);
    cluster.signal("frontend-2", libc::SIGCONT);

    wait_until("another coordinator", LIMIT, || {
        leaders.of_transactional_id(&id) == leader
    });
    transaction.ask_at(leaders);
    transaction.wait_for("CompleteCommit");
    let open = transaction.produce(TOPIC, partition, b"open");
    cluster.signal("frontend-1", libc::SIGCONT);
    assert_eq!(cluster.wait_for_exit("frontend-1", 1, LIMIT), FENCED);
    cluster.wait_until_back("frontend-1", pid);
    assert_eq!(
        read_stable(leaders, TOPIC, partition).last_stable_offset,
        open,
        "it is open still"
    );
    transaction.end(false);
    transaction.wait_for("CompleteAbort");

    let stable = read_stable(leaders, TOPIC, partition);
    assert_eq!(stable.last_stable_offset, stable.high_watermark, "all is decided");
    let (id, epoch) = transaction.producer();
    assert_eq!(stable.aborted, [(id, open)]);
    let mut ends = markers(&stable.bytes).remove(&id).expect("it has ended");
    ends.dedup();
    assert_eq!(
        ends,
        [(epoch, true), (epoch, false)],
        "one that came a second time did no harm"
    );
    cluster.finish();
}

/// The server is killed in the instant after a commit with a group's offsets was answered, again and again: what was committed
/// is there, and stable, when it is back. (Apache Kafka 4.3.0, one node, was seen to answer UNSTABLE_OFFSET_COMMIT from then on.)
#[test]
fn offsets_are_stable_after_kill_9_behind_their_commit() {
    let mut server = Server::new(CONFIG);
    server.start();
    let leaders = Leaders::asked_at(server.kafka());
    let mut connection = Connection::open(server.kafka());
    let created = connection.create_topic(TOPIC, 1, &[]).expect("the server answers");
    assert_eq!(created, ErrorCode::None);
    let mut slowest = Duration::ZERO;
    for round in 1..=if is_long() { 200 } else { 20 } {
        let mut transaction = Transaction::init("instant", leaders);
        transaction.produce(TOPIC, 0, b"record");
        transaction.commit_offset("instant", TOPIC, 0, round);
        transaction.end(true);
        server.kill9();
        server.start();
        let back = Instant::now();
        assert_eq!(committed_offset(leaders, "instant", TOPIC, 0), round);
        slowest = slowest.max(back.elapsed());
    }
    println!("stable {slowest:?} after the ready line at the latest");
    server.finish();
}
