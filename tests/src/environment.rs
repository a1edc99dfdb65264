//! What the machine offers and how the run was asked for: Python, long runs, CI, chance.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The checkout's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the checkout")
        .to_owned()
}

/// Whether `make test-long` runs: more records, more rounds.
pub fn is_long() -> bool {
    std::env::var("TAILWATER_TEST_LONG").is_ok_and(|value| value == "1")
}

/// Says aloud what isn't tested here and why; under `CI=true` nothing may be skipped, so it fails.
///
/// # Panics
/// Under `CI=true`.
pub fn skip(what: &str, why: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{what} can't be skipped under CI=true: {why}"
    );
    // Not eprintln!: that is captured, and nobody would hear.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}

/// The interpreter of the environment that `make test` prepares; `None`, after saying so, without it.
pub fn python(what: &str) -> Option<PathBuf> {
    python_with(what, &["aiokafka", "confluent_kafka", "kafka"])
}

/// As [`python`], where it can import these modules.
pub fn python_with(what: &str, modules: &[&str]) -> Option<PathBuf> {
    let path =
        std::env::var_os("TAILWATER_TEST_PYTHON").map_or_else(|| repository().join(".venv/bin/python"), PathBuf::from);
    let modules = modules.join(", ");
    let works = Command::new(&path).args(["-c", &format!("import {modules}")]).output();
    if works.is_ok_and(|done| done.status.success()) {
        return Some(path);
    }
    skip(
        what,
        &format!("no Python with {modules} at {} (make .venv/.ready)", path.display()),
    );
    None
}

/// Makes the clients ready that `tests/clients/prepare` knows, which is quick where nothing has changed; the script says
/// which it leaves out, and under `CI=true` leaves out none.
///
/// # Panics
/// If it fails.
pub fn prepare_clients() {
    let status = Command::new(repository().join("tests/clients/prepare"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("tests/clients/prepare can be run");
    assert!(status.success(), "tests/clients/prepare ended with {status}");
}

/// Waits until `done` says so, asking every 20 ms.
///
/// # Panics
/// After `limit`, naming `what`.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Chance that can be repeated: prints its seed, and takes it from `TAILWATER_TEST_SEED`.
#[derive(Debug)]
pub struct Seed(u64);

impl Seed {
    pub fn from_environment() -> Self {
        let given = std::env::var("TAILWATER_TEST_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let seed = given.unwrap_or(since.subsec_nanos().into());
        println!("TAILWATER_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number of `low..high` (splitmix64).
    pub fn draw(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (mixed ^ (mixed >> 31)) % (high - low)
    }
}
