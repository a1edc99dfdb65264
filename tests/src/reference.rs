//! Apache Kafka as a process, started by `tests/reference/kafka`: what the tests themselves are tested against.

use std::process::Command;

use tempfile::TempDir;

use crate::repository;

/// A running Apache Kafka; dropping it stops it.
#[derive(Debug)]
pub struct Reference {
    folder: TempDir,
    bootstrap: String,
}

impl Reference {
    /// Fetches it if need be, starts it and waits until it answers.
    ///
    /// # Panics
    /// If it doesn't come up.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let done = Self::script("start", &folder)
            .output()
            .expect("tests/reference/kafka can be run");
        let said = String::from_utf8_lossy(&done.stdout);
        let bootstrap = said
            .lines()
            .find_map(|line| line.strip_prefix("ready: ")?.split_once(" pid "))
            .map(|(bootstrap, _)| bootstrap.to_owned());
        let Some(bootstrap) = bootstrap else {
            panic!(
                "Apache Kafka did not start: {said}{}",
                String::from_utf8_lossy(&done.stderr)
            );
        };
        Self { folder, bootstrap }
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Kills it, and starts it again with what it has on disk.
    ///
    /// # Panics
    /// If it doesn't come back.
    pub fn restart(&self) {
        let status = Self::script("restart", &self.folder).status();
        assert!(status.expect("tests/reference/kafka can be run").success());
    }

    fn script(action: &str, folder: &TempDir) -> Command {
        let mut command = Command::new(repository().join("tests/reference/kafka"));
        command.arg(action).arg(folder.path().join("kafka"));
        command
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        match Self::script("stop", &self.folder).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("stopping Apache Kafka: {other:?}"),
        }
    }
}
