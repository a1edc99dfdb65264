//! Groups of both protocols: what many small ones cost that do nothing but beat, and how soon a large one has settled.
//!
//! Owns: who speaks when, and that everybody has its share where a figure says so. Does not own: what is said (`tailwater_tests::GroupMember`).

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tailwater_tests::{GroupMember, GroupProtocol, SharedTopic, join_as_one, settle_group};

use crate::figures::{Column, Figures};
use crate::subject::Subject;

/// What differs from a server's defaults, and Kafka's is started with, too.
pub const CONFIG: &str = "[frontend.groups]\ninitial_rebalance_delay = \"0ms\"\n";
const LIMIT: Duration = Duration::from_secs(60);

const GROUPS: usize = 1_000;
const MEMBERS_EACH: usize = 3;
/// Threads of the load; each drives its share of the groups, one member at a time.
const DRIVERS: usize = 10;
/// How long everybody beats before it counts: a JVM compiles meanwhile.
const WARM_UP: Duration = Duration::from_secs(30);
/// And how long it counts.
const COUNTED: Duration = Duration::from_secs(20);

const LARGE: usize = 300;
const LARGE_PARTITIONS: i32 = 3_000;
const LARGE_PACE: Duration = Duration::from_millis(300);
/// How often it is settled anew; the slowest counts.
const LARGE_REPEATS: usize = 3;

const BOTH: [GroupProtocol; 2] = [GroupProtocol::Classic, GroupProtocol::Modern];

/// Everything of one server.
///
/// # Errors
/// If a member is refused, or a group doesn't settle.
pub fn measure(subject: &Subject, column: Column, figures: &mut Figures) -> Result<()> {
    raise_open_files()?;
    let server = subject.kafka();
    let few = SharedTopic::create(server, "few", i32::try_from(MEMBERS_EACH)?)?;
    let many = SharedTopic::create(server, "many", LARGE_PARTITIONS)?;
    for protocol in BOTH {
        let percent = beat(subject, protocol, &few)?;
        figures.add(&beating(protocol), column, percent, "% of a core");
    }
    for protocol in BOTH {
        let taken: Vec<Duration> = (0..LARGE_REPEATS)
            .map(|repeat| settle(server, protocol, &many, repeat))
            .collect::<Result<_>>()?;
        let slowest = taken.iter().max().context("it was repeated")?;
        figures.add(&settling(protocol), column, slowest.as_secs_f64() * 1e3, "ms");
    }
    Ok(())
}

pub fn aims(figures: &mut Figures) {
    for protocol in BOTH {
        figures.aim(&beating(protocol), "< 5");
        figures.aim(&settling(protocol), "< 3000");
    }
}

fn beating(protocol: GroupProtocol) -> String {
    let every = pace(protocol).as_secs();
    format!(
        "{GROUPS} groups of {MEMBERS_EACH}, {} protocol, a heartbeat every {every} s: server CPU",
        name(protocol)
    )
}

fn settling(protocol: GroupProtocol) -> String {
    format!(
        "{LARGE} members over {LARGE_PARTITIONS} partitions, {} protocol: all join, until settled",
        name(protocol)
    )
}

fn name(protocol: GroupProtocol) -> &'static str {
    match protocol {
        GroupProtocol::Classic => "classic",
        GroupProtocol::Modern => "new",
    }
}

/// Of clients with defaults: `heartbeat.interval.ms`, and what coordinators tell by default.
fn pace(protocol: GroupProtocol) -> Duration {
    match protocol {
        GroupProtocol::Classic => Duration::from_secs(3),
        GroupProtocol::Modern => Duration::from_secs(5),
    }
}

/// The server's share of a core while all groups beat, in percent.
fn beat(subject: &Subject, protocol: GroupProtocol, shared: &SharedTopic) -> Result<f64> {
    let server = subject.kafka();
    let kind = name(protocol);
    let begin = Barrier::new(DRIVERS + 1);
    let drive = |driver: usize| -> Result<()> {
        let mine = (0..GROUPS).filter(|group| group % DRIVERS == driver);
        let members = settled(server, protocol, mine.map(|group| format!("{kind}-{group:04}")), shared);
        // Whatever became of it: the others wait.
        begin.wait();
        let mut members = members?;
        let gap = pace(protocol) / u32::try_from(members.len())?;
        let begun = Instant::now();
        let mut next = begun;
        while begun.elapsed() < WARM_UP + COUNTED {
            for member in &mut members {
                sleep(next.saturating_duration_since(Instant::now()));
                member.beat()?;
                next += gap;
            }
        }
        ensure!(
            members.iter().all(|member| member.owned().len() == 1),
            "a share was lost"
        );
        Ok(())
    };
    std::thread::scope(|scope| {
        let drive = &drive;
        let drivers: Vec<_> = (0..DRIVERS).map(|driver| scope.spawn(move || drive(driver))).collect();
        begin.wait();
        sleep(WARM_UP);
        let (begun, before) = (Instant::now(), subject.cpu_seconds()?);
        sleep(COUNTED);
        let percent = 100.0 * (subject.cpu_seconds()? - before) / begun.elapsed().as_secs_f64();
        for driver in drivers {
            join(driver)?;
        }
        Ok(percent)
    })
}

/// All members of these groups, each with a partition.
fn settled(
    server: SocketAddr,
    protocol: GroupProtocol,
    groups: impl Iterator<Item = String>,
    shared: &SharedTopic,
) -> Result<Vec<GroupMember>> {
    let mut all = Vec::new();
    for group in groups {
        let member = |number| GroupMember::new(protocol, server, &group, number, shared);
        let mut members: Vec<GroupMember> = (0..MEMBERS_EACH).map(member).collect::<Result<_>>()?;
        join_as_one(&mut members)?;
        all.extend(members);
    }
    let begun = Instant::now();
    while !all.iter().all(|member| member.owned().len() == 1) {
        ensure!(begun.elapsed() < LIMIT, "not all groups settle");
        all.iter_mut().try_for_each(GroupMember::beat)?;
        sleep(Duration::from_millis(200));
    }
    Ok(all)
}

/// How long it takes from when all members begin to join.
fn settle(server: SocketAddr, protocol: GroupProtocol, shared: &SharedTopic, repeat: usize) -> Result<Duration> {
    let group = format!("large-{}-{repeat}", name(protocol));
    let member = |number| GroupMember::new(protocol, server, &group, number, shared);
    let mut members: Vec<GroupMember> = (0..LARGE).map(member).collect::<Result<_>>()?;
    settle_group(&mut members, LARGE_PACE)
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// As many as may be: every member has a connection.
fn raise_open_files() -> Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls only read or write the struct that they are given.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    ensure!(done, "the limit of open files: {}", std::io::Error::last_os_error());
    let needed = (GROUPS * MEMBERS_EACH) as u64 + 256;
    ensure!(
        limit.rlim_cur >= needed,
        "{needed} open files are needed, {} may be",
        limit.rlim_cur
    );
    Ok(())
}
