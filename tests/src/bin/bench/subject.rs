//! What is measured: a server, or several processes that are one, seen from outside.
//!
//! Owns: starting and stopping each kind, and whose CPU and memory counts as its. Does not own: what is measured of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tailwater_tests::{Cluster, ClusterOptions, Metrics, Server, repository};
use tempfile::TempDir;

const UPLOAD_LIMIT: Duration = Duration::from_secs(180);
/// Memory that a peer's JVM may take is what its own start script gives it by default.
const PEER_READY_LIMIT: Duration = Duration::from_secs(120);

/// A running server under measurement.
pub enum Subject {
    Standalone(Box<Server>),
    Apart(Box<Cluster>),
    Peer(Peer),
}

/// Somebody else's server, started by a script of `tests/reference`.
pub struct Peer {
    name: &'static str,
    script: PathBuf,
    folder: TempDir,
    address: SocketAddr,
    pid: u32,
    ready: Duration,
}

impl Subject {
    /// All in one process; `config` is what its configuration file holds.
    pub fn standalone(binary: &Path, config: &str) -> (Self, Duration) {
        let mut server = Server::new(config).binary(binary);
        let ready = server.start();
        (Self::Standalone(Box::new(server)), ready)
    }

    /// Every role a process of its own.
    pub fn apart(binary: &Path) -> (Self, Duration) {
        let begun = Instant::now();
        let options = ClusterOptions {
            wal_capacity: "1GiB",
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start_binary(options, binary);
        (Self::Apart(Box::new(cluster)), begun.elapsed())
    }

    /// `tests/reference/NAME start FOLDER OPTIONS`, which prints `ready: HOST:PORT pid N`.
    ///
    /// # Errors
    /// If it doesn't start.
    pub fn peer(name: &'static str, options: &[&str]) -> Result<Self> {
        let script = repository().join("tests/reference").join(name);
        let folder = tempfile::tempdir()?;
        let begun = Instant::now();
        let output = Command::new(&script)
            .arg("start")
            .arg(folder.path().join("server"))
            .args(options)
            .stdin(Stdio::null())
            .output()
            .with_context(|| script.display().to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let ready = said.lines().find_map(|line| line.strip_prefix("ready: "));
        let Some((address, pid)) = ready.and_then(|ready| ready.split_once(" pid ")) else {
            bail!("{name} didn't start: {said}{}", String::from_utf8_lossy(&output.stderr));
        };
        ensure!(begun.elapsed() < PEER_READY_LIMIT, "{name} took {:?}", begun.elapsed());
        Ok(Self::Peer(Peer {
            name,
            address: address.parse()?,
            pid: pid.trim().parse()?,
            script,
            folder,
            ready: begun.elapsed(),
        }))
    }

    pub fn bootstrap(&self) -> String {
        match self {
            Self::Standalone(server) => server.bootstrap(),
            Self::Apart(cluster) => cluster.bootstrap().to_owned(),
            Self::Peer(peer) => peer.address.to_string(),
        }
    }

    /// Where the first of its brokers listens.
    pub fn kafka(&self) -> SocketAddr {
        match self {
            Self::Standalone(server) => server.kafka(),
            Self::Apart(cluster) => cluster.kafka(1),
            Self::Peer(peer) => peer.address,
        }
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Standalone(server) => vec![server.id()],
            Self::Apart(cluster) => {
                let pid = |role: &String| cluster.pid(role).cast_unsigned();
                cluster.roles().iter().map(pid).collect()
            }
            Self::Peer(peer) => vec![peer.pid],
        }
    }

    /// CPU time of all its processes so far, user and system.
    ///
    /// # Errors
    /// If one of them has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.pids().into_iter().map(cpu_seconds).sum()
    }

    /// Resident memory of all its processes now, in MiB.
    ///
    /// # Errors
    /// If one of them has ended.
    pub fn memory_mib(&self) -> Result<f64> {
        let kib: f64 = self
            .pids()
            .into_iter()
            .map(|pid| status_kib(pid, "VmRSS"))
            .sum::<Result<_>>()?;
        Ok(kib / 1024.0)
    }

    /// The most that they have had.
    ///
    /// # Errors
    /// If one of them has ended.
    pub fn peak_memory_mib(&self) -> Result<f64> {
        let kib: f64 = self
            .pids()
            .into_iter()
            .map(|pid| status_kib(pid, "VmHWM"))
            .sum::<Result<_>>()?;
        Ok(kib / 1024.0)
    }

    /// Waits until everything acknowledged is in objects; answers `false` where there are none.
    ///
    /// # Errors
    /// If that doesn't happen.
    pub fn wait_until_uploaded(&self) -> Result<bool> {
        let lag = || -> Result<f64> {
            let sum = |metrics: Metrics| metrics.sum("tailwater_upload_lag_bytes");
            match self {
                Self::Standalone(server) => Ok(sum(server.metrics())),
                Self::Apart(cluster) => Ok(sum(cluster.metrics("compactor-1"))),
                Self::Peer(peer) => bail!("{} has no objects", peer.name),
            }
        };
        if matches!(self, Self::Peer(_)) {
            return Ok(false);
        }
        let begun = Instant::now();
        while lag()? > 0.0 {
            ensure!(begun.elapsed() < UPLOAD_LIMIT, "not uploaded within {UPLOAD_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(true)
    }

    /// Ends it.
    pub fn finish(self) {
        match self {
            Self::Standalone(server) => server.finish(),
            Self::Apart(cluster) => cluster.finish(),
            Self::Peer(peer) => drop(peer),
        }
    }
}

impl Peer {
    pub fn ready(&self) -> Duration {
        self.ready
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let stopped = Command::new(&self.script)
            .arg("stop")
            .arg(self.folder.path().join("server"))
            .output();
        if !stopped.is_ok_and(|done| done.status.success()) {
            eprintln!("{} was not stopped", self.name);
        }
    }
}

/// CPU time of all threads of a process so far, user and system.
///
/// # Errors
/// If it has ended.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
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
