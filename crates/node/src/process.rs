//! What the operating system knows of this process, and the lock that keeps a second one out of its data directory.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context as _, bail};

const LOCK_FILE: &str = "lock";

/// Held for as long as it lives.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Creates the directory where it isn't there.
    ///
    /// # Errors
    /// If it can't be made or another process uses it.
    pub fn take(data_dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data_dir)
            .with_context(|| format!("data directory {} can't be created", data_dir.display()))?;
        let path = data_dir.join(LOCK_FILE);
        let file = File::create(&path).with_context(|| format!("{} can't be opened", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                bail!("data directory {} is in use by another process", data_dir.display())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} can't be locked", path.display()))
            }
        }
    }
}

/// The host's name; for a wildcard listen address it is what clients are told.
pub fn host_name() -> Option<String> {
    let mut buffer = [0_u8; 256];
    // SAFETY: the length given is the buffer's, less one byte that stays zero.
    let result = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    let end = buffer.iter().position(|&byte| byte == 0)?;
    let name = std::str::from_utf8(&buffer[..end]).ok()?;
    (result == 0 && !name.is_empty()).then(|| name.to_owned())
}

/// Prometheus' conventional process metrics, in its text format; what can't be read is left out.
pub fn metrics_text() -> String {
    let mut text = String::new();
    let mut sample = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    };
    sample(
        "process_cpu_seconds_total",
        "counter",
        "CPU time of all threads, user and system.",
        cpu_seconds(),
    );
    sample(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory.",
        resident_bytes(),
    );
    sample(
        "process_start_time_seconds",
        "gauge",
        "When the process began, in seconds since 1970.",
        start_time_seconds(),
    );
    sample("process_open_fds", "gauge", "Open file descriptors.", open_files());
    sample(
        "process_max_fds",
        "gauge",
        "File descriptors that may be open.",
        max_files(),
    );
    text
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses, which may hold anything; utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // SAFETY: sysconf only looks a number up.
    let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some((user + system) as f64 / ticks_a_second as f64)
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn start_time_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Field 22, in ticks since the machine began; the name in parentheses may hold anything.
    let ticks: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    // SAFETY: sysconf only looks a number up.
    let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(boot as f64 + ticks as f64 / ticks_a_second as f64)
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: sysconf only looks a number up.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages as f64 * page_bytes as f64)
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn open_files() -> Option<f64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

#[allow(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn max_files() -> Option<f64> {
    file_limits().map(|limits| limits.rlim_cur as f64)
}

fn file_limits() -> Option<libc::rlimit> {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a struct of the kind that the call fills.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) };
    (result == 0).then_some(limits)
}

/// Raises the limit of open files to what the process may have at most, and answers the limit that holds then; `None` if the
/// system doesn't say.
pub fn raise_open_files() -> Option<u64> {
    let limits = file_limits()?;
    let raised = libc::rlimit {
        rlim_cur: limits.rlim_max,
        ..limits
    };
    // SAFETY: the pointer is to a struct of the kind that the call reads.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
    let limit = if result == 0 { raised.rlim_cur } else { limits.rlim_cur };
    tracing::info!(before = limits.rlim_cur, now = limit, "open files may be so many");
    Some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second holder is refused until the first is gone.
    #[test]
    fn a_data_directory_has_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("deep/data");
        let first = DataDirLock::take(&data_dir).unwrap();
        let refusal = DataDirLock::take(&data_dir).unwrap_err().to_string();
        assert!(refusal.contains("in use by another process"), "{refusal}");
        drop(first);
        DataDirLock::take(&data_dir).unwrap();
    }

    /// The limit of open files is as high as it may be, once it has been raised.
    #[test]
    fn open_files_are_raised_to_the_most_there_may_be() {
        let raised = raise_open_files().unwrap();
        let limits = file_limits().unwrap();
        assert_eq!((raised, raised), (limits.rlim_cur, limits.rlim_max));
    }

    /// All four can be read here, and are plausible.
    #[test]
    fn process_metrics_are_there() {
        let text = metrics_text();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
        ] {
            assert!(text.contains(&format!("\n{name} ")), "{text}");
        }
        assert!(resident_bytes().unwrap() > 100_000.0);
    }
}
