//! `tailwater standalone` as a process on free loopback ports, with a data directory of its own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Log, Metrics, Process, get};

/// Generous: other tests share the machine, and a restart may have a log to read.
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A server that can be started, killed and started again on the same directory and ports.
///
/// Its log may have no WARN or ERROR but the allowed ones: [`Server::finish`] checks it.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    binary: PathBuf,
    config: String,
    arguments: Vec<String>,
    kafka: SocketAddr,
    http: SocketAddr,
    log: Log,
    allowed: Vec<&'static str>,
    /// A command that the server's is the arguments of.
    wrapper: Vec<&'static str>,
    ready: String,
    process: Option<Process>,
}

impl Server {
    /// Not started yet; `config` is the content of its configuration file.
    pub fn new(config: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
            binary: Self::test_binary(),
            config: config.to_owned(),
            arguments: Vec::new(),
            kafka: (Ipv4Addr::LOCALHOST, free_port()).into(),
            http: (Ipv4Addr::LOCALHOST, free_port()).into(),
            log: Log::default(),
            // How soon a busy disk lets the controller answer is no question of a test, and being fenced has lines of its own.
            allowed: vec!["no answer to a heartbeat; trying on"],
            wrapper: Vec::new(),
            ready: String::new(),
            process: None,
        }
    }

    /// The server as cargo has built it together with the running test or tool.
    pub fn test_binary() -> PathBuf {
        let own = std::env::current_exe().expect("a test knows its own file");
        let folder = own
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"))
            .expect("it lies in a folder");
        folder.join("tailwater-under-test")
    }

    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = path.to_owned();
        self
    }

    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Started by a command that gets the server's as its arguments, and that becomes it (`exec`).
    #[must_use]
    pub fn under(mut self, wrapper: &[&'static str]) -> Self {
        self.wrapper = wrapper.to_vec();
        self
    }

    /// What its configuration file holds from the next start on.
    pub fn set_config(&mut self, config: &str) {
        config.clone_into(&mut self.config);
    }

    /// Lines of its log with this text may be warnings or errors.
    #[must_use]
    pub fn allow(mut self, text: &'static str) -> Self {
        self.allowed.push(text);
        self
    }

    /// Everything but the data directory, which is `folder()/data`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn kafka(&self) -> SocketAddr {
        self.kafka
    }

    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The address of a further listener, as the ready line told it.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn listener(&self, name: &str) -> SocketAddr {
        listener(&self.ready, name)
    }

    pub fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn command(&self) -> Command {
        let file = self.folder.path().join("tailwater.toml");
        std::fs::write(&file, &self.config).expect("the configuration file is written");
        let mut command = match &self.wrapper[..] {
            [] => Command::new(&self.binary),
            [first, others @ ..] => {
                let mut command = Command::new(first);
                command.args(others).arg(&self.binary);
                command
            }
        };
        command
            .arg("standalone")
            .arg("--data-dir")
            .arg(self.data())
            .args([
                "--kafka-listen",
                &self.kafka.to_string(),
                "--http-listen",
                &self.http.to_string(),
            ])
            .arg("--config")
            .arg(file)
            .args(&self.arguments)
            .env_remove("RUST_LOG");
        command
    }

    /// Starts it and waits for its ready line; answers how long that took.
    ///
    /// # Panics
    /// If it isn't ready in time, with the last lines of its log.
    pub fn start(&mut self) -> Duration {
        assert!(self.process.is_none(), "it runs already");
        let begun = Instant::now();
        let mut process = Process::start(&mut self.command(), self.log.clone());
        let ready = process
            .stdout
            .wait_for(0, READY_LIMIT, |line| line.starts_with("ready: "));
        let took = begun.elapsed();
        let Some(ready) = ready else {
            let ended = if process.is_running() {
                "still starting".to_owned()
            } else {
                process.wait(STOP_LIMIT).to_string()
            };
            panic!(
                "not ready within {READY_LIMIT:?} ({ended}); the end of its log:\n{}",
                self.log_tail(40)
            );
        };
        let (first, last) = (format!("ready: kafka {}", self.kafka), format!(" http {}", self.http));
        let further = ready.strip_prefix(&first).and_then(|rest| rest.strip_suffix(&last));
        let expected = if self.config.contains("[frontend.listeners.") {
            further
        } else {
            further.filter(|rest| rest.is_empty())
        };
        assert!(expected.is_some(), "{ready}");
        self.ready = ready;
        self.process = Some(process);
        took
    }

    /// The process' id.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    pub fn kill9(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.signal(libc::SIGTERM);
        process.wait(STOP_LIMIT)
    }

    /// # Panics
    /// If its HTTP port doesn't answer.
    pub fn metrics(&self) -> Metrics {
        let (status, body) = get(self.http, "/metrics").expect("the HTTP port answers");
        assert_eq!(status, 200, "{body}");
        Metrics::parse(&body)
    }

    /// Stops it in order, and checks its exit code and its log.
    ///
    /// # Panics
    /// If either is not as it should be.
    pub fn finish(mut self) {
        let status = self.terminate();
        assert!(
            status.success(),
            "ended with {status}; the end of its log:\n{}",
            self.log_tail(40)
        );
        self.check_log();
    }

    /// # Panics
    /// If the log has warnings or errors that nobody allowed.
    pub fn check_log(&self) {
        let is_bad = |line: &String| {
            let level = line.split_whitespace().nth(1);
            let panicked = line.contains("panicked at");
            (matches!(level, Some("WARN" | "ERROR")) || panicked)
                && !self.allowed.iter().any(|text| line.contains(text))
        };
        let bad: Vec<_> = self.log.lines().into_iter().filter(is_bad).collect();
        assert!(
            bad.is_empty(),
            "{} unexpected lines in the log, first:\n{}",
            bad.len(),
            bad[..bad.len().min(10)].join("\n")
        );
    }

    fn log_tail(&self, count: usize) -> String {
        let lines = self.log.lines();
        lines[lines.len().saturating_sub(count)..]
            .iter()
            .fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "  | {line}");
                text
            })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the server's log:\n{}", self.log_tail(60));
        }
    }
}

/// The address behind a name in a ready line.
///
/// # Panics
/// If there is none.
pub(crate) fn listener(ready: &str, name: &str) -> SocketAddr {
    let mut words = ready.split_whitespace().skip_while(|word| *word != name).skip(1);
    let address = words.next().unwrap_or_else(|| panic!("no {name} in {ready:?}"));
    address.parse().expect("an address")
}

/// A port that nobody listens on now. Below the range from which the kernel gives out ports by itself, and from a part
/// of it that depends on the process, so that tests that run side by side don't meet.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    let offset = u16::try_from(std::process::id() * 97 % u32::from(COUNT)).expect("it is below the count");
    for _ in 0..COUNT {
        let port = FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
