//! A child process whose output is read as it comes, so that it never blocks and everything it said is at hand.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The lines that a process has written so far; clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    inner: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads `from` to its end on a thread of its own.
    fn follow(&self, from: impl Read + Send + 'static) {
        self.inner.0.lock().unwrap().ended = false;
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                log.inner.0.lock().unwrap().lines.push(line);
                log.inner.1.notify_all();
            }
            log.inner.0.lock().unwrap().ended = true;
            log.inner.1.notify_all();
        });
    }

    pub fn lines(&self) -> Vec<String> {
        self.inner.0.lock().unwrap().lines.clone()
    }

    /// How many lines there are: a mark for [`Log::since`].
    pub fn mark(&self) -> usize {
        self.inner.0.lock().unwrap().lines.len()
    }

    pub fn since(&self, mark: usize) -> Vec<String> {
        self.inner.0.lock().unwrap().lines[mark..].to_vec()
    }

    /// The first line behind `mark` that `wanted` accepts; `None` at the limit, or if the output ends before.
    pub fn wait_for(&self, mark: usize, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let until = Instant::now() + limit;
        let (lock, changed) = &*self.inner;
        let mut lines = lock.lock().unwrap();
        loop {
            if let Some(line) = lines.lines.iter().skip(mark).find(|line| wanted(line)) {
                return Some(line.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.ended || left.is_zero() {
                return None;
            }
            lines = changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until the process has closed this output.
    fn wait_for_end(&self) {
        let (lock, changed) = &*self.inner;
        let lines = lock.lock().unwrap();
        let limit = Duration::from_secs(10);
        drop(changed.wait_timeout_while(lines, limit, |lines| !lines.ended).unwrap());
    }
}

/// A running process; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pub stdout: Log,
    pub stderr: Log,
}

impl Process {
    /// Starts `command`; what it writes to stderr is appended to `stderr`. Its stdin stays open until it is closed.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(command: &mut Command, stderr: Log) -> Self {
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        let stdout = Log::default();
        stdout.follow(child.stdout.take().expect("piped"));
        stderr.follow(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: no memory is involved; the child isn't reaped yet, so the id is its own.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "kill({pid}, {signal}): {}", std::io::Error::last_os_error());
    }

    /// Waits for its end and for the end of its output.
    ///
    /// # Panics
    /// After `limit`, with the last lines of its stderr; the process is killed then.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                self.stdout.wait_for_end();
                self.stderr.wait_for_end();
                return status;
            }
            if Instant::now() > until {
                self.kill();
                let lines = self.stderr.lines();
                panic!(
                    "did not end within {limit:?}; its last words: {:#?}",
                    &lines[lines.len().saturating_sub(20)..]
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait().expect("it is our child");
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        assert!(
            status.signal() == Some(libc::SIGKILL) || std::thread::panicking(),
            "it had ended by itself: {status}"
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
