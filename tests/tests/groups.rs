//! Groups whose coordinator assigns (KIP-848) as a whole: their coordinator is killed amid a rebalance, and many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tailwater_kafka::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatTopic, FindCoordinatorRequest};
use tailwater_kafka::{ErrorCode, Uuid};
use tailwater_tests::{Connection, Server};

const CONFIG: &str = r#"
[wal]
capacity = "64MiB"
[frontend.groups]
offsets_topic_partitions = 1
consumer_assignment_interval = "0ms"
consumer_session_timeout = "60s"
consumer_heartbeat_interval = "300ms"
"#;
const TOPIC: &str = "shared";
/// Rounds of heartbeats after which a group that doesn't settle never will.
const MOST_ROUNDS: usize = 200;

/// A member as its client sees it.
struct Member {
    id: String,
    epoch: i32,
    owned: BTreeMap<Uuid, BTreeSet<i32>>,
}

impl Member {
    fn new(number: usize) -> Self {
        Self {
            id: format!("member-{number:03}"),
            epoch: 0,
            owned: BTreeMap::new(),
        }
    }

    /// One heartbeat; it gives back at once what it is told to. False where the coordinator isn't there.
    fn beat(&mut self, connection: &mut Connection, group: &str) -> bool {
        let topic = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| ConsumerGroupHeartbeatTopic {
            topic_id: *topic,
            partitions: partitions.iter().copied().collect(),
        };
        let joins = self.epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: self.id.as_str().into(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec![TOPIC.into()]),
            topic_partitions: Some(self.owned.iter().map(topic).collect()),
            ..Default::default()
        };
        let Ok(reply) = connection.call(1, &request) else {
            return false;
        };
        match reply.error_code {
            ErrorCode::None => {}
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                return false;
            }
            error => panic!("{}: {error:?} {:?}", self.id, reply.error_message),
        }
        self.epoch = reply.member_epoch;
        if let Some(assignment) = reply.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.owned = topics
                .map(|topic| (topic.topic_id, topic.partitions.into_iter().collect()))
                .collect();
        }
        true
    }

    fn beat_until_answered(&mut self, connection: &mut Connection, group: &str) {
        while !self.beat(connection, group) {
            sleep(Duration::from_millis(20));
        }
    }

    fn load(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }
}

fn create_topic(connection: &mut Connection, partitions: i32) {
    let error = connection
        .create_topic(TOPIC, partitions, &[])
        .expect("the server answers");
    assert_eq!(error, ErrorCode::None);
}

/// Has the coordinators' topic made.
fn find_coordinator(connection: &mut Connection, group: &str) {
    let request = FindCoordinatorRequest {
        key: group.into(),
        ..Default::default()
    };
    while connection
        .call(3, &request)
        .expect("the server answers")
        .error_code
        .is_error()
    {
        sleep(Duration::from_millis(20));
    }
}

/// One heartbeat of everybody, those of different connections at the same time.
fn beat_all(connections: &mut [Connection], group: &str, members: &mut [Member]) {
    let share = members.len().div_ceil(connections.len());
    std::thread::scope(|scope| {
        for (connection, members) in connections.iter_mut().zip(members.chunks_mut(share)) {
            scope.spawn(move || {
                for member in members {
                    member.beat_until_answered(connection, group);
                }
            });
        }
    });
}

/// Beats until all partitions are with members, as equally as can be; gives the rounds it took.
fn settle(
    connections: &mut [Connection],
    group: &str,
    members: &mut [Member],
    partitions: usize,
    pause: Duration,
) -> usize {
    let (least, most) = (partitions / members.len(), partitions.div_ceil(members.len()));
    for round in 0..MOST_ROUNDS {
        let begun = Instant::now();
        beat_all(connections, group, members);
        check_disjoint(members);
        let total: usize = members.iter().map(Member::load).sum();
        let is_even = members.iter().all(|member| (least..=most).contains(&member.load()));
        let epochs: BTreeSet<i32> = members.iter().map(|member| member.epoch).collect();
        if total == partitions && is_even && epochs.len() == 1 {
            return round;
        }
        sleep(pause.saturating_sub(begun.elapsed()));
    }
    let loads: Vec<(i32, usize)> = members.iter().map(|member| (member.epoch, member.load())).collect();
    panic!("the group doesn't settle: {loads:?}");
}

fn check_disjoint(members: &[Member]) {
    let mut seen = BTreeSet::new();
    for member in members {
        for (topic, partitions) in &member.owned {
            for partition in partitions {
                assert!(
                    seen.insert((*topic, *partition)),
                    "partition {partition} is with two members"
                );
            }
        }
    }
}

/// The coordinator is killed at every step of a rebalance: the group goes on from where it was, nobody has to join anew, and
/// no partition is with two members.
#[test]
fn a_rebalance_goes_on_after_kill_9() {
    let mut server = Server::new(CONFIG);
    server.start();
    let mut connection = Connection::open(server.kafka());
    create_topic(&mut connection, 12);
    find_coordinator(&mut connection, "g");
    let mut members = vec![Member::new(0), Member::new(1)];
    settle(
        std::slice::from_mut(&mut connection),
        "g",
        &mut members,
        12,
        Duration::ZERO,
    );
    members.push(Member::new(2));
    // Who has spoken since the third member came, when the coordinator is killed.
    for spoken in 0..3 {
        let newcomer = members.last_mut().expect("there is one");
        newcomer.beat_until_answered(&mut connection, "g");
        for member in &mut members[..spoken] {
            member.beat_until_answered(&mut connection, "g");
        }
        server.kill9();
        server.start();
        connection = Connection::open(server.kafka());
        settle(
            std::slice::from_mut(&mut connection),
            "g",
            &mut members,
            12,
            Duration::ZERO,
        );
        members.push(Member::new(3 + spoken));
    }
    server.finish();
}

/// How long a group of 300 members over 3,000 partitions takes to settle, with a heartbeat of each every 300 ms.
#[test]
#[ignore = "a measurement: prints what it took"]
fn measure_a_large_group() {
    let mut server = Server::new(CONFIG);
    server.start();
    let mut connection = Connection::open(server.kafka());
    create_topic(&mut connection, 3000);
    find_coordinator(&mut connection, "g");
    let mut members: Vec<Member> = (0..300).map(Member::new).collect();
    let mut connections: Vec<Connection> = (0..30).map(|_| Connection::open(server.kafka())).collect();
    let begun = Instant::now();
    let rounds = settle(&mut connections, "g", &mut members, 3000, Duration::from_millis(300));
    println!(
        "300 members over 3,000 partitions: {rounds} rounds, {:.2} s",
        begun.elapsed().as_secs_f64()
    );
    server.finish();
}

/// What 1,000 groups of three members cost the server, with a heartbeat of each member every 5 s.
#[test]
#[ignore = "a measurement: prints what it took"]
fn measure_many_groups() {
    let mut server = Server::new(CONFIG);
    server.start();
    let mut connection = Connection::open(server.kafka());
    create_topic(&mut connection, 3);
    find_coordinator(&mut connection, "g");
    let mut groups: Vec<(String, Vec<Member>)> = (0..1000)
        .map(|group| (format!("g-{group:04}"), (0..3).map(Member::new).collect()))
        .collect();
    let mut connections: Vec<Connection> = (0..20).map(|_| Connection::open(server.kafka())).collect();
    let share = groups.len() / connections.len();
    let rounds =
        |groups: &mut [(String, Vec<Member>)], connections: &mut [Connection], pause: Duration, rounds: usize| {
            std::thread::scope(|scope| {
                for (connection, groups) in connections.iter_mut().zip(groups.chunks_mut(share)) {
                    scope.spawn(move || {
                        let gap = pause / u32::try_from(3 * share).expect("few");
                        for _ in 0..rounds {
                            for (group, members) in groups.iter_mut() {
                                for member in members {
                                    let begun = Instant::now();
                                    member.beat_until_answered(connection, group);
                                    sleep(gap.saturating_sub(begun.elapsed()));
                                }
                            }
                        }
                    });
                }
            });
        };
    rounds(&mut groups, &mut connections, Duration::ZERO, 8);
    assert!(
        groups
            .iter()
            .flat_map(|(_, members)| members)
            .all(|member| member.load() == 1)
    );
    let (begun, ticks) = (Instant::now(), cpu_ticks(server.id()));
    rounds(&mut groups, &mut connections, Duration::from_secs(5), 4);
    let cpu_seconds = (cpu_ticks(server.id()) - ticks) as f64 / 100.0;
    let percent = 100.0 * cpu_seconds / begun.elapsed().as_secs_f64();
    println!("1,000 groups of three, 600 heartbeats a second: {percent:.1}% of a core");
    server.finish();
}

/// Of a process, in user and system mode; 100 a second.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let behind_name = stat.rsplit(") ").next().expect("a name in brackets");
    let fields: Vec<&str> = behind_name.split(' ').collect();
    let number = |field: usize| fields[field].parse::<u64>().expect("a number");
    number(11) + number(12)
}
