//! Groups as a whole whose coordinator goes away amid a rebalance: killed, or stopped until others have taken over.

use std::time::Duration;

use tailwater_tests::{
    Cluster, ClusterOptions, GroupMember, GroupProtocol, Leaders, Server, SharedTopic, settle_group, wait_until,
};

const CONFIG: &str = r#"
[wal]
capacity = "64MiB"
[frontend.groups]
offsets_topic_partitions = 1
consumer_assignment_interval = "0ms"
consumer_session_timeout = "60s"
"#;
const TOPIC: &str = "shared";
const PACE: Duration = Duration::from_millis(10);
/// Far beyond anything that should happen.
const LIMIT: Duration = Duration::from_secs(60);
/// What a fenced process ends with.
const FENCED: i32 = 70;
/// What others notice of a frontend that hangs, and what it says when it goes on.
const NOTICED: [&str; 5] = [
    "no answer to a heartbeat",
    "upload failed, it will be tried again",
    "journal ended, leaderships over it end",
    "fenced, stopping at once",
    "the process can't go on",
];

/// The coordinator is killed at every step of a rebalance: the group goes on from where it was, nobody has to join anew, and
/// no partition is with two members.
#[test]
fn a_rebalance_goes_on_after_kill_9() {
    let mut server = Server::new(CONFIG);
    server.start();
    let shared = SharedTopic::create(server.kafka(), TOPIC, 12).expect("a topic");
    let at = server.kafka();
    let new = |number| GroupMember::new(GroupProtocol::Modern, at, "g", number, &shared).expect("a connection");
    let mut members = vec![new(0), new(1)];
    settle_group(&mut members, PACE).expect("two settle");
    members.push(new(2));
    // Who has spoken since the third member came, when the coordinator is killed.
    for spoken in 0..3 {
        let newcomer = members.last_mut().expect("there is one");
        newcomer.beat().expect("it joins");
        for member in &mut members[..spoken] {
            member.beat().expect("a member");
        }
        server.kill9();
        server.start();
        for member in &mut members {
            member.connect(server.kafka()).expect("a connection");
        }
        settle_group(&mut members, PACE).expect("all settle");
        members.push(new(3 + spoken));
    }
    server.finish();
}

/// The coordinator hangs amid a rebalance for longer than its lease: the members that the group had go on with the next
/// coordinator, the newcomer gets its share there, and the former coordinator, which goes on then, changes nothing of it.
#[test]
fn a_rebalance_goes_on_without_a_coordinator_that_hangs() {
    let settings = [
        "frontend.groups.initial_rebalance_delay=0ms",
        "frontend.groups.consumer_assignment_interval=0ms",
        "frontend.groups.consumer_session_timeout=60s",
        "controller.balance=false",
    ];
    let options = ClusterOptions {
        settings: settings.map(str::to_owned).to_vec(),
        ..ClusterOptions::default()
    };
    let cluster = NOTICED.into_iter().fold(Cluster::start(options), Cluster::allow);
    let (first, second) = (cluster.kafka(1), cluster.kafka(2));
    let shared = SharedTopic::create(first, TOPIC, 12).expect("a topic");
    let leaders = Leaders::asked_at(second);
    let mut groups = Vec::new();
    for protocol in [GroupProtocol::Classic, GroupProtocol::Modern] {
        let mut names = (0..).map(|number| format!("{protocol:?}-{number}"));
        let name = names.find(|name| leaders.of_group(name) == first).expect("endless");
        let new = |number| GroupMember::new(protocol, first, &name, number, &shared).expect("a connection");
        let mut members = vec![new(0), new(1)];
        settle_group(&mut members, PACE).expect("two settle");
        let mut newcomer = new(2);
        match protocol {
            GroupProtocol::Classic => newcomer.send_join().expect("it asks"),
            GroupProtocol::Modern => {
                newcomer.beat().expect("it joins");
                // It is told to give some of its partitions back.
                members[0].beat().expect("a member");
            }
        }
        groups.push((protocol, name, members, newcomer));
    }

    let pid = cluster.signal("frontend-1", libc::SIGSTOP);
    let mut waiting = None;
    for (protocol, name, members, newcomer) in &mut groups {
        wait_until("another coordinator", LIMIT, || leaders.of_group(name) == second);
        for member in members.iter_mut() {
            let before = (member.epoch(), member.owned().clone());
            member.connect(second).expect("a connection");
            member.beat().expect("it goes on");
            if *protocol == GroupProtocol::Classic {
                // The rebalance that had begun is none of the log's.
                assert_eq!((member.epoch(), member.owned()), (before.0, &before.1));
            }
        }
        match protocol {
            GroupProtocol::Classic => {
                let anew = GroupMember::new(*protocol, second, name, 2, &shared).expect("a connection");
                waiting = Some(std::mem::replace(newcomer, anew));
            }
            GroupProtocol::Modern => newcomer.connect(second).expect("a connection"),
        }
    }
    for (_, _, mut members, newcomer) in groups {
        members.push(newcomer);
        settle_group(&mut members, PACE).expect("all settle");
        let settled: Vec<_> = members
            .iter()
            .map(|member| (member.epoch(), member.owned().clone()))
            .collect();
        if cluster.exits("frontend-1").is_empty() {
            cluster.signal("frontend-1", libc::SIGCONT);
            assert_eq!(cluster.wait_for_exit("frontend-1", 1, LIMIT), FENCED);
            let mut waiting = waiting.take().expect("the classic group came first");
            let refused = waiting.receive_joined().expect_err("it isn't in the group");
            println!("the former coordinator's answer: {refused:#}");
            cluster.wait_until_back("frontend-1", pid);
        }
        for (member, settled) in members.iter_mut().zip(settled) {
            member.beat().expect("a member");
            assert_eq!((member.epoch(), member.owned().clone()), settled);
        }
    }
    cluster.finish();
}
