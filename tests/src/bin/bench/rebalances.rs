//! Groups of both protocols whose coordinator is killed amid a rebalance: how soon everybody has its share again.
//!
//! Owns: when it is killed, and where the members turn to. Does not own: what they say (`tailwater_tests::GroupMember`).

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tailwater_tests::{
    Cluster, ClusterOptions, GroupMember, GroupProtocol, Leaders, Server, SharedTopic, settle_group,
};

use crate::figures::{Column, Figures};

const PARTITIONS: i32 = 12;
/// The least that brokers let a classic member have by default; and what the new protocol's are given here.
const SESSION: Duration = Duration::from_secs(6);
const PACE: Duration = Duration::from_millis(300);
const LIMIT: Duration = Duration::from_secs(60);
const BOTH: [GroupProtocol; 2] = [GroupProtocol::Classic, GroupProtocol::Modern];

/// A group whose rebalance has begun and can't end yet.
struct Amid {
    protocol: GroupProtocol,
    group: String,
    shared: SharedTopic,
    members: Vec<GroupMember>,
    newcomer: GroupMember,
}

/// # Errors
/// If a member is refused, or a group doesn't settle.
pub fn measure(binary: &Path, figures: &mut Figures) -> Result<()> {
    for protocol in BOTH {
        let restarted = restarted(binary, protocol)?;
        figures.add(&name(protocol), Column::Standalone, restarted.as_secs_f64() * 1e3, "ms");
        let failed_over = failed_over(binary, protocol)?;
        figures.add(&name(protocol), Column::Apart, failed_over.as_secs_f64() * 1e3, "ms");
    }
    Ok(())
}

pub fn aims(figures: &mut Figures) {
    for protocol in BOTH {
        figures.aim(&name(protocol), "< 8000 (session timeout + 2 s)");
    }
}

fn name(protocol: GroupProtocol) -> String {
    let name = match protocol {
        GroupProtocol::Classic => "classic",
        GroupProtocol::Modern => "new",
    };
    format!(
        "coordinator killed amid a rebalance, session timeout {} s, {name} protocol: until settled",
        SESSION.as_secs()
    )
}

/// The server is killed and started again at once.
fn restarted(binary: &Path, protocol: GroupProtocol) -> Result<Duration> {
    let session = SESSION.as_secs();
    let config =
        format!("[frontend.groups]\ninitial_rebalance_delay = \"0ms\"\nconsumer_session_timeout = \"{session}s\"\n");
    let mut server = Server::new(&config).binary(binary);
    server.start();
    let shared = SharedTopic::create(server.kafka(), "shared", PARTITIONS)?;
    let amid = Amid::begin(protocol, server.kafka(), "group", &shared)?;
    let begun = Instant::now();
    server.kill9();
    server.start();
    amid.settle_at(server.kafka())?;
    let settled = begun.elapsed();
    server.finish();
    Ok(settled)
}

/// The coordinator's frontend is killed and stays dead: its lease runs out, and another takes over.
fn failed_over(binary: &Path, protocol: GroupProtocol) -> Result<Duration> {
    let settings = [
        "frontend.groups.initial_rebalance_delay=0ms".to_owned(),
        format!("frontend.groups.consumer_session_timeout={}s", SESSION.as_secs()),
    ];
    let options = ClusterOptions {
        restart: None,
        settings: settings.to_vec(),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start_binary(options, binary);
    let (dies, stays) = (cluster.kafka(1), cluster.kafka(2));
    let shared = SharedTopic::create(stays, "shared", PARTITIONS)?;
    let leaders = Leaders::asked_at(stays);
    let mut names = (0..1_000).map(|number| format!("group-{number}"));
    let group = names.find(|name| leaders.of_group(name) == dies);
    let group = group.context("the frontend coordinates nothing")?;
    let amid = Amid::begin(protocol, dies, &group, &shared)?;
    let begun = Instant::now();
    cluster.signal("frontend-1", libc::SIGKILL);
    while leaders.of_group(&group) != stays {
        ensure!(begun.elapsed() < LIMIT, "nobody takes over");
        std::thread::sleep(Duration::from_millis(5));
    }
    amid.settle_at(stays)?;
    let settled = begun.elapsed();
    cluster.finish();
    Ok(settled)
}

impl Amid {
    /// Three have settled; a fourth has come, and one of the three has heard of it.
    fn begin(protocol: GroupProtocol, at: SocketAddr, group: &str, shared: &SharedTopic) -> Result<Self> {
        let new = |number| member(protocol, at, group, number, shared);
        let mut members = (0..3).map(new).collect::<Result<Vec<_>>>()?;
        settle_group(&mut members, PACE)?;
        let mut newcomer = new(3)?;
        match protocol {
            GroupProtocol::Classic => {
                newcomer.send_join()?;
                members[0].send_join()?;
            }
            GroupProtocol::Modern => {
                newcomer.beat()?;
                members[0].beat()?;
            }
        }
        // What was sent is there.
        std::thread::sleep(PACE);
        Ok(Self {
            protocol,
            group: group.to_owned(),
            shared: shared.clone(),
            members,
            newcomer,
        })
    }

    /// All of them go on at this coordinator.
    fn settle_at(mut self, at: SocketAddr) -> Result<()> {
        self.members.iter_mut().try_for_each(|member| member.connect(at))?;
        match self.protocol {
            // Its id was of the rebalance, which no log has: clients ask for another.
            GroupProtocol::Classic => self.newcomer = member(self.protocol, at, &self.group, 3, &self.shared)?,
            GroupProtocol::Modern => self.newcomer.connect(at)?,
        }
        self.members.push(self.newcomer);
        settle_group(&mut self.members, PACE)?;
        Ok(())
    }
}

fn member(
    protocol: GroupProtocol,
    at: SocketAddr,
    group: &str,
    number: usize,
    shared: &SharedTopic,
) -> Result<GroupMember> {
    Ok(GroupMember::new(protocol, at, group, number, shared)?.with_session_timeout(SESSION))
}
