//! First figures: what the server costs, beside what the machine itself can do, as a table and as JSON.
//!
//! Owns: what is measured and how it is printed. Does not own: targets; a figure is never a test's verdict.

mod latency;
mod raw;
mod recovery;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde::Deserialize;
use tailwater_tests::{Server, repository};

use crate::latency::Percentiles;

/// The server's defaults, except that what is idle isn't uploaded late.
const CONFIG: &str = "";
const IDLE: Duration = Duration::from_secs(5);
/// What goes through the page cache before the server's objects do.
const WARM_GIGABYTES: usize = 4;
const UPLOAD_LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug, Parser)]
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
    #[arg(long, default_value_t = 5_000)]
    rounds: usize,
    /// Records of 1 KiB that a start after a kill finds in the WAL alone.
    #[arg(long, default_value_t = 1_000_000)]
    unuploaded_records: u64,
    /// Where to write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What `figures_load.py` prints.
#[derive(Debug, Deserialize)]
struct Transferred {
    bytes: f64,
    seconds: f64,
}

/// The figures by name, in the order in which they were taken.
#[derive(Default)]
struct Figures(Vec<(String, f64, &'static str)>);

impl Figures {
    fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        println!("{name:<58} {value:>12.3} {unit}");
        self.0.push((name, value, unit));
    }

    fn add_percentiles(&mut self, name: &str, found: &Percentiles) {
        self.add(format!("{name}, p50"), found.p50.as_secs_f64() * 1e6, "µs");
        self.add(format!("{name}, p99"), found.p99.as_secs_f64() * 1e6, "µs");
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut figures = Figures::default();
    machine(&mut figures)?;
    server(&arguments, &mut figures)?;
    recovery::measure(&arguments, &mut figures)?;
    if let Some(path) = &arguments.json {
        let map: BTreeMap<_, _> = figures
            .0
            .iter()
            .map(|(name, value, unit)| (format!("{name} [{unit}]"), value))
            .collect();
        std::fs::write(path, serde_json::to_string_pretty(&map)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// What the machine does without the server.
fn machine(figures: &mut Figures) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("raw");
    figures.add(
        "machine: sequential O_DIRECT write, 1 MiB each",
        raw::sequential_write(&file)? / 1e6,
        "MB/s",
    );
    figures.add_percentiles(
        "machine: 4 KiB O_DIRECT write + fdatasync",
        &raw::write_and_flush(&file)?,
    );
    figures.add_percentiles("machine: loopback echo of 100 bytes", &raw::loopback_echo()?);
    let [copy, receive] = raw::copy_and_receive_cpu()?;
    figures.add("machine: one copy in memory", copy, "CPU-s/GB");
    figures.add("machine: receive from a loopback socket", receive, "CPU-s/GB");
    let [first, again] = raw::buffered_write_cpu(&file, WARM_GIGABYTES)?;
    figures.add(
        "machine: buffered write + fsync, first touch of memory",
        first,
        "CPU-s/GB",
    );
    figures.add("machine: buffered write + fsync", again, "CPU-s/GB");
    Ok(())
}

fn server(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let mut server = Server::new(CONFIG).binary(&arguments.binary);
    figures.add(
        "start to ready, first start (formats the device)",
        server.start().as_secs_f64() * 1e3,
        "ms",
    );
    ensure!(server.terminate().success(), "the server did not stop in order");
    figures.add(
        "start to ready, nothing to recover",
        server.start().as_secs_f64() * 1e3,
        "ms",
    );
    std::thread::sleep(IDLE);
    figures.add(
        "idle memory",
        status_kib(server.process().id(), "VmRSS")? / 1024.0,
        "MiB",
    );
    let idle_cpu = cpu_seconds(server.process().id())?;
    std::thread::sleep(IDLE);
    let idle_cpu = cpu_seconds(server.process().id())? - idle_cpu;
    figures.add("idle CPU", idle_cpu / IDLE.as_secs_f64() * 100.0, "% of a core");

    let acked = latency::acknowledged_records(server.kafka(), arguments.rounds)?;
    figures.add_percentiles("one acknowledged record of 100 bytes", &acked);

    transfer(arguments, &mut server, "produce", figures)?;
    transfer(arguments, &mut server, "consume", figures)?;
    figures.add(
        "peak memory",
        status_kib(server.process().id(), "VmHWM")? / 1024.0,
        "MiB",
    );
    server.finish();
    Ok(())
}

/// Runs the load in one direction; what is produced counts once it is in objects.
fn transfer(arguments: &Arguments, server: &mut Server, what: &str, figures: &mut Figures) -> Result<()> {
    let pid = server.process().id();
    let before = cpu_seconds(pid)?;
    let moved = load(&arguments.python, server, what, arguments.records)?;
    let client_done = cpu_seconds(pid)?;
    let begun = Instant::now();
    while what == "produce" && server.metrics().sum("tailwater_upload_lag_bytes") > 0.0 {
        ensure!(begun.elapsed() < UPLOAD_LIMIT, "not uploaded within {UPLOAD_LIMIT:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let after = cpu_seconds(pid)?;
    let gigabytes = moved.bytes / 1e9;
    figures.add(
        format!("{what}: throughput seen by the client"),
        moved.bytes / moved.seconds / 1e6,
        "MB/s",
    );
    figures.add(
        format!("{what}: server CPU until the client is done"),
        (client_done - before) / gigabytes,
        "CPU-s/GB",
    );
    if what == "produce" {
        figures.add(
            "produce: server CPU until all is uploaded",
            (after - before) / gigabytes,
            "CPU-s/GB",
        );
    }
    Ok(())
}

/// Runs `figures_load.py` to its end.
fn load(python: &Path, server: &Server, what: &str, records: u64) -> Result<Transferred> {
    let script = repository().join("tests/clients/figures_load.py");
    let (bootstrap, records) = (server.bootstrap(), records.to_string());
    let done = Command::new(python)
        .arg(script)
        .args([what, "--bootstrap", &bootstrap, "--records", &records])
        .output()
        .context("the load can't be started")?;
    ensure!(
        done.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// CPU time of all threads so far, user and system.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    let fields: Vec<_> = stat.rsplit_once(") ").context("a stat line")?.1.split(' ').collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    // SAFETY: sysconf only looks a number up.
    let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    #[allow(clippy::cast_precision_loss, reason = "it is 100")]
    Ok(ticks / ticks_a_second as f64)
}

fn status_kib(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.context("a status field")?.trim().trim_end_matches(" kB").parse()?)
}
