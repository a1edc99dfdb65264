//! What the server costs and how fast it is, beside the machine's own limits and beside Apache Kafka with the same client.
//!
//! Owns: what is measured, in which order, and the two documents of a run (`docs/performance.md`, JSON). Does not own:
//! verdicts; a figure fails no test.

mod failover;
mod figures;
mod groups;
mod latency;
mod producers;
mod raw;
mod rebalances;
mod subject;
mod wal_only;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde::Deserialize;
use tailwater_kafka::ErrorCode;
use tailwater_tests::{Connection, repository};

use failover::Going;
use figures::{Column, Figures, replace_between};
use latency::Percentiles;
use subject::{Subject, cpu_seconds};

const IDLE: Duration = Duration::from_secs(4);
/// What goes through the page cache before the server's objects do.
const WARM_GIGABYTES: usize = 4;
/// What fits the tail cache, and how often it is read.
const TAIL_RECORDS: u64 = 40_000;
const TAIL_REPEATS: u64 = 25;
/// Of producers that wait every 100 records.
const WAITED_FOR_RECORDS: u64 = 160_000;
/// What Nisshi's sqlite takes at a tenth of the others' pace.
const SQLITE_RECORDS: u64 = 200_000;
/// Empty partitions, besides those of internal topics.
const MANY_PARTITIONS: [i32; 2] = [1_000, 10_000];
/// Between such lines stand the figures of a section, of one run: a run writes only the sections that it has measured.
const FIGURES: &str = "figures of make bench";
const GROUPS: &str = "figures of make bench, groups";
const REBALANCES: &str = "figures of make bench, rebalances";
/// Parts whose figures need not be compared with the machine's.
const BY_THEMSELVES: [&str; 2] = ["groups", "rebalances"];

const TO_WAL: &str = "produce to the WAL, no uploads: server CPU";
const PRODUCE: &str = "produce while it is uploaded: server CPU";
const UPLOADED: &str = "produce, until all is uploaded: server CPU";
const TAIL: &str = "fetch of what was just produced: server CPU";
const FETCH: &str = "fetch from the start: server CPU";
const SYNC: &str = "one acknowledged record, plain blocking client";
const SYNC_LIBRDKAFKA: &str = "one acknowledged record, librdkafka";
const READY: &str = "start to ready";
const FLUSHED: &str = "16 idempotent producers, a flush every 100 records";
const TRANSACTED: &str = "16 producers, a transaction every 100 records";
const IDLE_MEMORY: &str = "memory, idle";
const PER_PARTITION: &str = "memory, each of 10000 empty partitions";

#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The server to measure.
    #[arg(long)]
    binary: PathBuf,
    /// An interpreter with confluent-kafka.
    #[arg(long)]
    python: PathBuf,
    /// Records of 1 KiB to produce and read.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Acknowledged records, one at a time.
    #[arg(long, default_value_t = 3_000)]
    rounds: usize,
    /// Only these, as in `standalone,producers,apart,kafka,nisshi,failover,groups,rebalances`; all by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The document whose tables of what was measured are replaced.
    #[arg(long)]
    document: Option<PathBuf>,
}

/// What `figures_load.py` prints.
#[derive(Debug, Deserialize)]
struct Transferred {
    bytes: f64,
    seconds: f64,
    #[serde(default)]
    p50_us: f64,
    #[serde(default)]
    p99_us: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == part);
    let (mut figures, mut of_groups, mut of_rebalances) = <(Figures, Figures, Figures)>::default();
    let is_by_itself = |only: &String| BY_THEMSELVES.contains(&only.as_str());
    if arguments.only.is_empty() || !arguments.only.iter().all(is_by_itself) {
        machine(&mut figures)?;
    }
    if wanted("standalone") {
        standalone(&arguments, &mut figures)?;
        wal_only::standalone(&arguments, &mut figures)?;
    }
    if wanted("producers") {
        producers::measure(&arguments.binary, &mut figures)?;
    }
    if wanted("apart") {
        let (subject, ready) = Subject::apart(&arguments.binary);
        figures.add(READY, Column::Apart, ready.as_secs_f64() * 1e3, "ms");
        measure(&arguments, subject, Column::Apart, &mut figures)?;
        wal_only::apart(&arguments, &mut figures)?;
    }
    if wanted("kafka") {
        peer(&arguments, "kafka", &[], Column::Kafka, &mut figures)?;
    }
    if wanted("nisshi") && Command::new("nisshi").arg("--version").output().is_ok() {
        peer(&arguments, "nisshi", &["memory"], Column::NisshiMemory, &mut figures)?;
        let fewer = Arguments {
            records: arguments.records.min(SQLITE_RECORDS),
            ..arguments.clone()
        };
        peer(&fewer, "nisshi", &["sqlite"], Column::NisshiSqlite, &mut figures)?;
    }
    if wanted("failover") {
        failovers(&arguments, &mut figures)?;
    }
    if wanted("groups") {
        measure_groups(&arguments, &mut of_groups)?;
    }
    if wanted("rebalances") {
        rebalances::measure(&arguments.binary, &mut of_rebalances)?;
    }
    aims(&mut figures);
    groups::aims(&mut of_groups);
    rebalances::aims(&mut of_rebalances);
    let sections = [(FIGURES, &figures), (GROUPS, &of_groups), (REBALANCES, &of_rebalances)];
    if let Some(path) = &arguments.json {
        let all: Vec<serde_json::Value> = sections.iter().flat_map(|(_, figures)| figures.json()).collect();
        std::fs::write(path, serde_json::to_string_pretty(&all)?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &arguments.document {
        let mut document = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for (section, figures) in sections.iter().filter(|(_, figures)| !figures.is_empty()) {
            let (begin, end) = (format!("<!-- {section}: begin -->"), format!("<!-- {section}: end -->"));
            document = replace_between(&document, &begin, &end, &figures.table())?;
        }
        std::fs::write(path, document)?;
    }
    Ok(())
}

/// Each server by itself, with nothing but the groups on it.
fn measure_groups(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let (subject, _) = Subject::standalone(&arguments.binary, groups::CONFIG);
    groups::measure(&subject, Column::Standalone, figures)?;
    subject.finish();
    let subject = Subject::peer("kafka", &[])?;
    groups::measure(&subject, Column::Kafka, figures)?;
    subject.finish();
    Ok(())
}

/// What the machine does without any server.
fn machine(figures: &mut Figures) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw");
    let mut add = |name: &str, value: f64, unit| figures.add(name, Column::Machine, value, unit);
    add(
        "sequential O_DIRECT write, 1 MiB each",
        raw::sequential_write(&file)? / 1e6,
        "MB/s",
    );
    let flush = raw::write_and_flush(&file)?;
    add("4 KiB O_DIRECT write + fdatasync, p50", micros(flush.p50), "µs");
    add("4 KiB O_DIRECT write + fdatasync, p99", micros(flush.p99), "µs");
    let echo = raw::loopback_echo()?;
    add("loopback echo of 100 bytes, p50", micros(echo.p50), "µs");
    let [copy, receive] = raw::copy_and_receive_cpu()?;
    add("one copy in memory", copy, "CPU-s/GB");
    add("receive from a loopback socket", receive, "CPU-s/GB");
    let [_, again] = raw::buffered_write_cpu(&file, WARM_GIGABYTES)?;
    add("buffered write + fsync", again, "CPU-s/GB");
    Ok(())
}

/// Also what only one process of ours has: a second start, and many partitions.
fn standalone(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let (subject, first) = Subject::standalone(&arguments.binary, "");
    let name = "start to ready, first start (formats the device)";
    figures.add(name, Column::Standalone, first.as_secs_f64() * 1e3, "ms");
    let Subject::Standalone(mut server) = subject else {
        unreachable!("it was started as one")
    };
    ensure!(server.terminate().success(), "the server did not stop in order");
    let again = server.start();
    figures.add(READY, Column::Standalone, again.as_secs_f64() * 1e3, "ms");
    measure(arguments, Subject::Standalone(server), Column::Standalone, figures)?;
    for partitions in MANY_PARTITIONS {
        let (subject, _) = Subject::standalone(&arguments.binary, "");
        std::thread::sleep(IDLE);
        let before = subject.memory_mib()?;
        let created = Connection::open(subject.kafka()).create_topic("many", partitions, &[])?;
        ensure!(created == ErrorCode::None, "{created:?}");
        std::thread::sleep(IDLE);
        let each = (subject.memory_mib()? - before) * 1024.0 / f64::from(partitions);
        let name = format!("memory, each of {partitions} empty partitions");
        figures.add(&name, Column::Standalone, each, "KiB");
        let Subject::Standalone(mut server) = subject else {
            unreachable!("it was started as one")
        };
        ensure!(server.terminate().success(), "the server did not stop in order");
        let ready = server.start();
        let name = format!("start to ready, {partitions} empty partitions");
        figures.add(&name, Column::Standalone, ready.as_secs_f64() * 1e3, "ms");
        server.finish();
    }
    Ok(())
}

fn peer(
    arguments: &Arguments,
    name: &'static str,
    options: &[&str],
    column: Column,
    figures: &mut Figures,
) -> Result<()> {
    let subject = Subject::peer(name, options)?;
    if let Subject::Peer(peer) = &subject {
        figures.add(READY, column, peer.ready().as_secs_f64() * 1e3, "ms");
    }
    measure(arguments, subject, column, figures)
}

/// What is measured of everybody alike.
fn measure(arguments: &Arguments, subject: Subject, column: Column, figures: &mut Figures) -> Result<()> {
    std::thread::sleep(IDLE);
    figures.add(IDLE_MEMORY, column, subject.memory_mib()?, "MiB");
    let before = subject.cpu_seconds()?;
    std::thread::sleep(IDLE);
    let idle = (subject.cpu_seconds()? - before) / IDLE.as_secs_f64() * 100.0;
    figures.add("CPU, idle", column, idle, "% of a core");

    let plain = latency::acknowledged_records(subject.kafka(), arguments.rounds)?;
    add_percentiles(figures, SYNC, column, plain);
    let rounds = arguments.rounds as u64;
    let sync = run(arguments, &subject, &["sync", "--topic", "sync"], rounds)?;
    figures.add(&format!("{SYNC_LIBRDKAFKA}, p50"), column, sync.p50_us, "µs");
    figures.add(&format!("{SYNC_LIBRDKAFKA}, p99"), column, sync.p99_us, "µs");

    // Nisshi's sqlite would take minutes for each.
    let waited_for = match column {
        Column::NisshiMemory | Column::NisshiSqlite => &[][..],
        _ => &[("flush", FLUSHED), ("transact", TRANSACTED)],
    };
    for &(what, name) in waited_for {
        let moved = run(arguments, &subject, &[what, "--topic", what], WAITED_FOR_RECORDS)?;
        figures.add(name, column, moved.bytes / moved.seconds / 1e6, "MB/s");
    }

    // Once without counting: compilers and caches of all sides warm up. It fits the tail cache.
    run(arguments, &subject, &["produce", "--topic", "tail"], TAIL_RECORDS)?;
    subject.wait_until_uploaded()?;
    let before = subject.cpu_seconds()?;
    let repeat = TAIL_REPEATS.to_string();
    let moved = run(
        arguments,
        &subject,
        &["consume", "--topic", "tail", "--repeat", &repeat],
        TAIL_RECORDS,
    )?;
    figures.add(TAIL, column, cost(&subject, before, &moved)?, "CPU-s/GB");

    let before = subject.cpu_seconds()?;
    let moved = run(arguments, &subject, &["produce"], arguments.records)?;
    figures.add(PRODUCE, column, cost(&subject, before, &moved)?, "CPU-s/GB");
    figures.add("produce: throughput", column, moved.bytes / moved.seconds / 1e6, "MB/s");
    if subject.wait_until_uploaded()? {
        figures.add(UPLOADED, column, cost(&subject, before, &moved)?, "CPU-s/GB");
    }
    let before = subject.cpu_seconds()?;
    let moved = run(arguments, &subject, &["consume"], arguments.records)?;
    figures.add(FETCH, column, cost(&subject, before, &moved)?, "CPU-s/GB");
    figures.add("fetch: throughput", column, moved.bytes / moved.seconds / 1e6, "MB/s");
    figures.add("memory, peak under load", column, subject.peak_memory_mib()?, "MiB");
    subject.finish();
    Ok(())
}

/// CPU-seconds a gigabyte since `before`.
fn cost(subject: &Subject, before: f64, moved: &Transferred) -> Result<f64> {
    Ok((subject.cpu_seconds()? - before) / (moved.bytes / 1e9))
}

/// Runs `figures_load.py` against the subject.
fn run(arguments: &Arguments, subject: &Subject, what: &[&str], records: u64) -> Result<Transferred> {
    let script = repository().join("tests/clients/figures_load.py");
    let (bootstrap, records) = (subject.bootstrap(), records.to_string());
    let done = Command::new(&arguments.python)
        .arg(script)
        .args(what)
        .args(["--bootstrap", &bootstrap, "--records", &records])
        .output()
        .context("the load can't be started")?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{what:?}: {said}");
    Ok(serde_json::from_slice(&done.stdout)?)
}

fn failovers(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let ways = [
        (Going::Dies, "a frontend dies (lease 3 s)"),
        (Going::Restarts, "a frontend dies and is restarted at once"),
        (Going::Leaves, "a frontend leaves in order"),
    ];
    for (going, name) in ways {
        let noticed = failover::measure(&arguments.binary, &arguments.python, going)?;
        let served = noticed.served.as_secs_f64() * 1e3;
        figures.add(
            &format!("{name}: its partitions served again after"),
            Column::Apart,
            served,
            "ms",
        );
        let slowest = noticed.slowest.as_secs_f64() * 1e3;
        figures.add(
            &format!("{name}: longest acknowledgement"),
            Column::Apart,
            slowest,
            "ms",
        );
    }
    Ok(())
}

/// What the figures should be; some follow from the machine's own.
fn aims(figures: &mut Figures) {
    let machine = |name: &str| figures.get(name, Column::Machine);
    let flush = machine("4 KiB O_DIRECT write + fdatasync, p50").unwrap_or_default();
    let echo = machine("loopback echo of 100 bytes, p50").unwrap_or_default();
    figures.aim(
        &format!("{SYNC}, p50"),
        &format!("standalone ≤ {:.0} (write + echo + 40)", flush + echo + 40.0),
    );
    figures.aim(&format!("{SYNC_LIBRDKAFKA}, p50"), "standalone below Kafka's");
    figures.aim(TRANSACTED, "≥ half of the line above");
    figures.aim(TO_WAL, "standalone ≤ 0.7, apart ≤ 1.2");
    figures.aim(UPLOADED, "standalone ≤ 1.2, apart ≤ 2.2");
    figures.aim(FETCH, "≤ 0.7");
    figures.aim(TAIL, "≤ 0.35");
    figures.aim(READY, "standalone ≤ 200");
    producers::aims(figures);
    figures.aim(IDLE_MEMORY, "standalone ≤ 50");
    figures.aim(PER_PARTITION, "≤ 4");
    figures.aim(
        "a frontend dies (lease 3 s): its partitions served again after",
        "≤ 3500",
    );
    figures.aim("a frontend dies (lease 3 s): longest acknowledgement", "≤ 4500");
    figures.aim("a frontend leaves in order: longest acknowledgement", "≤ 1000");
}

fn add_percentiles(figures: &mut Figures, name: &str, column: Column, found: Percentiles) {
    figures.add(&format!("{name}, p50"), column, micros(found.p50), "µs");
    figures.add(&format!("{name}, p99"), column, micros(found.p99), "µs");
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
