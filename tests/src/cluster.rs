//! A cluster of single processes on loopback, as `make cluster` starts it: `deploy/local/cluster` with a folder of its own.
//!
//! Owns: starting and stopping all of it, and signals to one role. Roles have names as in `frontend-1`; their supervisors
//! start them again after [`Cluster::restart`] seconds.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::server::listener;
use crate::{Metrics, Server, get, repository};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// Everything that differs from cluster to cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Seconds until an ended role is started again; `None`: it stays dead.
    pub restart: Option<f64>,
    pub frontends: u32,
    pub wals: u32,
    pub wal_capacity: &'static str,
    /// Settings for all roles, as `KEY=VALUE`.
    pub settings: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            restart: Some(1.0),
            frontends: 2,
            wals: 3,
            wal_capacity: "256MiB",
            settings: Vec::new(),
        }
    }
}

/// A running cluster; dropping it stops it.
///
/// Logs may have no WARN or ERROR but the allowed ones: [`Cluster::finish`] checks them.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    options: ClusterOptions,
    binary: PathBuf,
    bootstrap: String,
    allowed: Vec<&'static str>,
}

impl Cluster {
    /// # Panics
    /// If it isn't ready in time, with what it said.
    pub fn start(options: ClusterOptions) -> Self {
        Self::start_binary(options, &Server::test_binary())
    }

    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_binary(options: ClusterOptions, binary: &Path) -> Self {
        let mut cluster = Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
            options,
            binary: binary.to_owned(),
            bootstrap: String::new(),
            // How soon a busy disk lets the controller answer is no question of a test, and being fenced has lines of its own.
            allowed: vec!["no answer to a heartbeat; trying on"],
        };
        let output = cluster.script("start");
        let said = String::from_utf8_lossy(&output.stdout);
        let ready = said.lines().find_map(|line| line.strip_prefix("ready: kafka "));
        let Some(bootstrap) = ready.filter(|_| output.status.success()) else {
            panic!(
                "the cluster isn't ready:\n{said}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        cluster.bootstrap = bootstrap.to_owned();
        cluster
    }

    /// Lines of its logs with this text may be warnings or errors.
    #[must_use]
    pub fn allow(mut self, text: &'static str) -> Self {
        self.allowed.push(text);
        self
    }

    /// The Kafka addresses of all frontends, as clients take them.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The Kafka address of a frontend, from 1 on.
    ///
    /// # Panics
    /// If there is no such frontend.
    pub fn kafka(&self, frontend: usize) -> SocketAddr {
        let address = self.bootstrap.split(',').nth(frontend - 1);
        address.expect("a frontend of the cluster").parse().expect("an address")
    }

    /// The address of a frontend's further listener, as its ready line told it.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn listener(&self, frontend: usize, name: &str) -> SocketAddr {
        let file = self.folder.path().join("run").join(format!("frontend-{frontend}.out"));
        listener(&std::fs::read_to_string(file).expect("a frontend of the cluster"), name)
    }

    /// # Panics
    /// If there is no such role.
    pub fn http(&self, role: &str) -> SocketAddr {
        self.setting(role, "TAILWATER_HTTP__LISTEN")
            .parse()
            .expect("an address")
    }

    /// One variable of the environment that the role is started with.
    ///
    /// # Panics
    /// Without such a role or variable.
    pub fn setting(&self, role: &str, variable: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("env").join(role)).expect("a role of the cluster");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
        value.expect("a variable of the role").to_owned()
    }

    /// # Panics
    /// If there is no such role, or it was never started.
    pub fn pid(&self, role: &str) -> i32 {
        let file = self.folder.path().join("run").join(format!("{role}.pid"));
        let pid = std::fs::read_to_string(file).expect("a role of the cluster");
        pid.trim().parse().expect("a process id")
    }

    /// Answers the id of the process that got it.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn signal(&self, role: &str, signal: i32) -> i32 {
        let pid = self.pid(role);
        // SAFETY: no memory is involved. The role's supervisor reaps it and gives the pid file to the next one, so the id
        // is the role's unless it ended just now.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(
            result,
            0,
            "kill({role} {pid}, {signal}): {}",
            std::io::Error::last_os_error()
        );
        pid
    }

    /// The exit codes that the role's processes have had so far; 128 + N for signal N.
    pub fn exits(&self, role: &str) -> Vec<i32> {
        let file = self.folder.path().join("run").join(format!("{role}.exits"));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().map(|code| code.parse().expect("an exit code")).collect()
    }

    /// Waits for the role's `count`th end, and answers how it ended.
    ///
    /// # Panics
    /// If it doesn't end within `limit`.
    pub fn wait_for_exit(&self, role: &str, count: usize, limit: Duration) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(code) = self.exits(role).get(count - 1) {
                return *code;
            }
            assert!(
                begun.elapsed() < limit,
                "{role} didn't end within {limit:?}:\n{}",
                self.log_tail(role)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a process of the role other than `before` is ready; answers how long that took.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait_until_back(&self, role: &str, before: i32) -> Duration {
        let begun = Instant::now();
        loop {
            let is_ready = || get(self.http(role), "/readyz").is_ok_and(|(status, _)| status == 200);
            if self.pid(role) != before && is_ready() {
                return begun.elapsed();
            }
            assert!(
                begun.elapsed() < READY_LIMIT,
                "{role} isn't back within {READY_LIMIT:?}:\n{}",
                self.log_tail(role)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// # Panics
    /// If the role's HTTP port doesn't answer.
    pub fn metrics(&self, role: &str) -> Metrics {
        let (status, body) = get(self.http(role), "/metrics").expect("the HTTP port answers");
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// What a role has logged so far, over all its lives.
    pub fn log(&self, role: &str) -> String {
        let file = self.folder.path().join("log").join(format!("{role}.log"));
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// Every role's name, in the order of starting.
    pub fn roles(&self) -> Vec<String> {
        let numbered = |role: &'static str, count: u32| (1..=count).map(move |number| format!("{role}-{number}"));
        numbered("controller", 1)
            .chain(numbered("wal", self.options.wals))
            .chain(numbered("frontend", self.options.frontends))
            .chain(numbered("compactor", 1))
            .collect()
    }

    /// Stops it in order, and checks the last exit codes and all logs.
    ///
    /// # Panics
    /// If one of them is not as it should be.
    pub fn finish(self) {
        let output = self.script("stop");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && said.is_empty(),
            "stop ended with {}: {said}",
            output.status
        );
        for role in self.roles() {
            let exits = self.exits(&role);
            // A test has killed it, and nobody has started it again.
            let left_dead = |code: &i32| self.options.restart.is_none() && *code == 128 + libc::SIGKILL;
            if exits.last().is_some_and(|code| *code != 0 && !left_dead(code)) {
                panic!("{role} ended with {exits:?}:\n{}", self.log_tail(&role));
            }
        }
        let bad: Vec<String> = self.roles().iter().flat_map(|role| self.bad_lines(role)).collect();
        assert!(
            bad.is_empty(),
            "{} unexpected lines in the logs, first:\n{}",
            bad.len(),
            bad[..bad.len().min(10)].join("\n")
        );
    }

    fn bad_lines(&self, role: &str) -> Vec<String> {
        let is_bad = |line: &&str| {
            let level = line.split_whitespace().nth(1);
            let panicked = line.contains("panicked");
            (matches!(level, Some("WARN" | "ERROR")) || panicked)
                && !self.allowed.iter().any(|text| line.contains(text))
        };
        let log = self.log(role);
        log.lines()
            .filter(is_bad)
            .map(|line| format!("{role}: {line}"))
            .collect()
    }

    fn log_tail(&self, role: &str) -> String {
        let log = self.log(role);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn script(&self, command: &str) -> Output {
        let restart = self
            .options
            .restart
            .map_or_else(|| "off".to_owned(), |seconds| seconds.to_string());
        Command::new(repository().join("deploy/local/cluster"))
            .arg(command)
            .env_remove("CLUSTER_COMPACTORS")
            .env_remove("CLUSTER_OBJECT_STORE")
            .env("TAILWATER", &self.binary)
            .env("CLUSTER_DIR", self.folder.path())
            .env("CLUSTER_RESTART", restart)
            .env("CLUSTER_FRONTENDS", self.options.frontends.to_string())
            .env("CLUSTER_WALS", self.options.wals.to_string())
            .env("CLUSTER_WAL_CAPACITY", self.options.wal_capacity)
            .env("CLUSTER_SET", self.options.settings.join(" "))
            .output()
            .expect("deploy/local/cluster runs")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for role in self.roles() {
                // Not eprintln!: a second panic here would hide the first.
                let _ = writeln!(std::io::stderr(), "the end of {role}'s log:\n{}", self.log_tail(&role));
            }
        }
        self.script("stop");
    }
}
