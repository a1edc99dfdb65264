//! The Python scripts of `clients/`: run, fed, and their verdicts taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::{Log, Process, repository, skip};

/// The scripts have deadlines of their own, which are about progress; this one only ends what hangs.
const SCRIPT_LIMIT: Duration = Duration::from_secs(40 * 60);

fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(repository().join("tests/clients").join(name))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a script to its end and shows what it said.
///
/// # Panics
/// If it doesn't exit 0.
pub fn run_client_script(python: &Path, name: &str, arguments: &[&str]) {
    run_with_restart(python, name, arguments, || {});
}

/// As [`run_client_script`]; `restart` is called when the script says `restart`, and the script's input ends then.
///
/// # Panics
/// If it doesn't exit 0.
pub fn run_with_restart(python: &Path, name: &str, arguments: &[&str], restart: impl FnOnce()) {
    let mut process = Process::start(script(python, name).args(arguments), Log::default());
    // At once, since some scripts run for minutes.
    let stdout = process.stdout.clone();
    let teller = std::thread::spawn(move || {
        let mut told = 0;
        while let Some(line) = stdout.wait_for(told, SCRIPT_LIMIT, |_| true) {
            println!("{line}");
            told += 1;
        }
    });
    if arguments.contains(&"--restart")
        && process
            .stdout
            .wait_for(0, SCRIPT_LIMIT, |line| line == "restart")
            .is_some()
    {
        restart();
    }
    process.close_stdin();
    let status = process.wait(SCRIPT_LIMIT);
    let _ = teller.join();
    let said = [process.stdout.lines(), process.stderr.lines()].concat().join("\n");
    println!("{}", process.stderr.lines().join("\n"));
    for line in process.stdout.lines() {
        if let Some((what, why)) = line.strip_prefix("SKIPPED ").and_then(|left| left.split_once(": ")) {
            skip(what, why);
        }
    }
    assert!(status.success(), "{name} {arguments:?} ended with {status}:\n{said}");
}

/// Producers and a committing group member that go on through restarts of the server: `idempotent_load.py`.
#[derive(Debug)]
pub struct Load {
    process: Process,
    history: PathBuf,
}

impl Load {
    /// Starts it, and waits until the first record is acknowledged.
    ///
    /// # Panics
    /// If that doesn't happen.
    pub fn start(python: &Path, bootstrap: &str, history: &Path, arguments: &[&str]) -> Self {
        let mut command = script(python, "idempotent_load.py");
        command
            .args(["--bootstrap", bootstrap, "--history"])
            .arg(history)
            .args(arguments);
        let process = Process::start(&mut command, Log::default());
        let started = process
            .stdout
            .wait_for(0, Duration::from_secs(120), |line| line == "started");
        assert!(
            started.is_some(),
            "the load did not start: {:?}",
            process.stderr.lines()
        );
        Self {
            process,
            history: history.to_owned(),
        }
    }

    /// Acknowledged records so far, as far as the history is written.
    pub fn acked(&self) -> usize {
        let history = std::fs::read_to_string(&self.history).unwrap_or_default();
        history.lines().filter(|line| line.starts_with("A ")).count()
    }

    /// The highest acknowledged offset of each partition, as far as the history is written.
    pub fn last_acked(&self) -> BTreeMap<i32, i64> {
        let history = std::fs::read_to_string(&self.history).unwrap_or_default();
        let whole = history.rfind('\n').map_or("", |end| &history[..end]);
        let mut last = BTreeMap::new();
        for line in whole.lines().filter_map(|line| line.strip_prefix("A ")) {
            let numbers: Vec<i64> = line
                .split(' ')
                .map(|number| number.parse().expect("a number"))
                .collect();
            let [_worker, partition, _number, offset] = numbers[..] else {
                panic!("an acknowledgement: {line}")
            };
            let highest = last
                .entry(i32::try_from(partition).expect("a partition"))
                .or_insert(offset);
            *highest = offset.max(*highest);
        }
        last
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Lets it flush everything and end; answers the longest time from a record to its acknowledgement.
    ///
    /// # Panics
    /// If a record failed for good.
    pub fn finish(mut self) -> Duration {
        self.process.close_stdin();
        let status = self.process.wait(Duration::from_secs(400));
        let said = [self.process.stdout.lines(), self.process.stderr.lines()]
            .concat()
            .join("\n");
        println!("{said}");
        assert!(status.success(), "the load ended with {status}:\n{said}");
        let slowest = said
            .split_once("slowest ")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        Duration::from_millis(slowest.expect("the load says how long the slowest took"))
    }
}

/// What `verify.py` has read and compared.
#[derive(Debug, Deserialize)]
pub struct Verified {
    pub read: u64,
    pub acked: u64,
    pub sent: u64,
    pub anomalies: u64,
}

/// Reads everything from the start to the end and holds it against the history; `at_end` once the load has ended.
///
/// # Panics
/// With the anomalies, if there are any.
pub fn verify(python: &Path, bootstrap: &str, history: &Path, at_end: bool) -> Verified {
    let mut command = script(python, "verify.py");
    command
        .args(["--bootstrap", bootstrap, "--group", "load-group", "--history"])
        .arg(history);
    if at_end {
        command.arg("--final");
    }
    let mut process = Process::start(&mut command, Log::default());
    process.close_stdin();
    let status = process.wait(SCRIPT_LIMIT);
    let said = process.stdout.lines().join("\n");
    assert!(
        status.success(),
        "verify ended with {status}: {said}\n{}",
        process.stderr.lines().join("\n")
    );
    let verified: Verified = serde_json::from_str(said.trim()).expect("verify prints JSON");
    println!("verified: {verified:?}");
    verified
}
