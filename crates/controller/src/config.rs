//! The controller's settings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tailwater_runtime::config::{ByteSize, Millis};

use crate::state::Limits;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the metadata store, of the controller alone.
    pub data_dir: PathBuf,
    /// A node that is silent for longer is fenced. Absent: never, which is right only where all nodes are one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Millis>,
    /// Partitions move, a few at a time, until all frontends lead equally many, of each topic and in all: so one that joins
    /// gets its share.
    pub balance: bool,
    /// How long a frontend is registered before it takes part in that, and how long nothing moves after a controller's start.
    pub balance_after: Millis,
    /// A compactor that doesn't renew a task for longer may lose it to another.
    pub task_lease: Millis,
    /// Time that a compactor has to write an object and commit it.
    pub object_deadline: Millis,
    /// How long an object that nothing names any more is kept for readers that still know it, and the pause between two
    /// deletions of one that was never committed.
    pub delete_delay: Millis,
    /// How long a partition is left alone whose key compaction failed: twice as long each time, up to an hour.
    pub clean_backoff: Millis,
    /// How long a partition is left alone that was compacted, unless 64 MiB have come since: a pass costs some requests to the
    /// object storage, however little there is to do.
    pub clean_interval: Millis,
    /// Memory that the metadata store may use as a cache.
    pub cache: ByteSize,
    /// Room on the disk that is kept back, so that the metadata store can be opened again after the disk was full.
    pub ballast: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("data/controller"),
            lease: None,
            balance: true,
            balance_after: Millis::seconds(5),
            task_lease: Millis::seconds(30),
            object_deadline: Millis::seconds(15 * 60),
            delete_delay: Millis::seconds(5 * 60),
            clean_backoff: Millis::seconds(15),
            clean_interval: Millis::seconds(5 * 60),
            cache: ByteSize::mib(16),
            ballast: ByteSize::mib(16),
        }
    }
}

impl Config {
    /// # Errors
    /// The first setting that can't work, in one sentence.
    pub fn validate(&self) -> Result<(), String> {
        if self.data_dir.as_os_str().is_empty() {
            return Err("data_dir: a folder is needed".to_owned());
        }
        let second = Millis::seconds(1);
        if let Some(lease) = self.lease.filter(|lease| *lease < second) {
            return Err(format!("lease: {lease} is too short, at least {second} is needed"));
        }
        if self.task_lease < second {
            let found = self.task_lease;
            return Err(format!("task_lease: {found} is too short, at least {second} is needed"));
        }
        if self.object_deadline < self.task_lease {
            let (found, lease) = (self.object_deadline, self.task_lease);
            return Err(format!("object_deadline: {found} is shorter than task_lease, {lease}"));
        }
        let least = ByteSize::mib(1);
        if self.cache < least {
            let found = self.cache;
            return Err(format!("cache: {found} is too small, at least {least} is needed"));
        }
        Ok(())
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            node_lease: self.lease.map(Millis::as_duration),
            balance_after: self.balance.then(|| self.balance_after.as_duration()),
            task_lease: self.task_lease.as_duration(),
            object_deadline: self.object_deadline.as_duration(),
            delete_delay: self.delete_delay.as_duration(),
            clean_backoff: self.clean_backoff.as_duration(),
            clean_interval: self.clean_interval.as_duration(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are valid; each setting that can't work is refused by its name.
    #[test]
    fn refuses_what_cant_work() {
        let good = Config::default();
        assert_eq!(good.validate(), Ok(()));
        let bad = [
            (
                "data_dir",
                Config {
                    data_dir: PathBuf::new(),
                    ..good.clone()
                },
            ),
            (
                "lease",
                Config {
                    lease: Some(Millis(10)),
                    ..good.clone()
                },
            ),
            (
                "task_lease",
                Config {
                    task_lease: Millis(10),
                    ..good.clone()
                },
            ),
            (
                "object_deadline",
                Config {
                    object_deadline: Millis(10),
                    ..good.clone()
                },
            ),
            (
                "cache",
                Config {
                    cache: ByteSize(10),
                    ..good
                },
            ),
        ];
        for (name, config) in bad {
            let error = config.validate().expect_err(name);
            assert!(error.starts_with(&format!("{name}: ")), "{error}");
        }
    }
}
