//! The frontend's settings, each with its default.

use serde::{Deserialize, Serialize};
use tailwater_runtime::config::{ByteSize, Millis};

/// Settings of a frontend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub node: NodeConfig,
    pub journal: JournalConfig,
    pub cache: CacheConfig,
    pub produce: ProduceConfig,
    pub fetch: FetchConfig,
}

/// How this node stands to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// How often the node tells the controller that it lives; well below the controller's lease.
    pub heartbeat_interval: Millis,
    /// At shutdown, how long appends in flight may take to be committed.
    pub drain_timeout: Millis,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Millis::seconds(2),
            drain_timeout: Millis::seconds(10),
        }
    }
}

/// How appends become journal entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// An entry is sent when it has this many bytes, whatever is in flight; a larger batch is an entry of its own.
    pub entry_bytes: ByteSize,
    /// While fewer bytes than this are sent and not yet durable, an append is sent at once.
    pub in_flight_bytes: ByteSize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            entry_bytes: ByteSize::mib(1),
            in_flight_bytes: ByteSize::mib(1),
        }
    }
}

/// What is kept in memory for reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Newest batches of all partitions together.
    pub tail_bytes: ByteSize,
    /// Blocks and indexes of objects.
    pub object_bytes: ByteSize,
    /// Blocks and indexes of objects that are being read at the same time.
    pub object_in_flight_bytes: ByteSize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            tail_bytes: ByteSize::mib(64),
            object_bytes: ByteSize::mib(64),
            object_in_flight_bytes: ByteSize::mib(32),
        }
    }
}

/// What producers may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProduceConfig {
    /// The most that the records of one compressed batch may have when they are decompressed to be checked.
    pub max_decompressed_bytes: ByteSize,
    /// The longest that a request may ask to wait for its commit.
    pub max_timeout: Millis,
    /// How many zstd contexts may be in use at the same time; 0: as many as there are cores.
    pub zstd_contexts: usize,
    /// How many zstd contexts are kept while idle.
    pub zstd_idle_contexts: usize,
}

impl Default for ProduceConfig {
    fn default() -> Self {
        Self {
            max_decompressed_bytes: ByteSize::mib(256),
            max_timeout: Millis::seconds(300),
            zstd_contexts: 0,
            zstd_idle_contexts: 1,
        }
    }
}

/// What consumers may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// The most that one answer has, whatever the client allows, but for a first batch that is larger (Kafka's
    /// `fetch.max.bytes`).
    pub max_bytes: ByteSize,
    /// The longest that a fetch may ask to wait.
    pub max_wait: Millis,
    /// Bytes that all fetches together may be reading from the WAL and from objects at the same time.
    pub cold_read_bytes: ByteSize,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::mib(55),
            max_wait: Millis::seconds(300),
            cold_read_bytes: ByteSize::mib(128),
        }
    }
}

impl Config {
    /// # Errors
    /// The first setting that can't work, and why.
    pub fn validate(&self) -> Result<(), String> {
        let at_least = |name: &str, value: ByteSize, least: ByteSize| {
            if value >= least {
                return Ok(());
            }
            Err(format!("{name} is {value}, at least {least} is needed"))
        };
        at_least("journal.entry_bytes", self.journal.entry_bytes, ByteSize::kib(4))?;
        at_least("cache.object_bytes", self.cache.object_bytes, ByteSize::mib(1))?;
        at_least(
            "cache.object_in_flight_bytes",
            self.cache.object_in_flight_bytes,
            ByteSize::mib(1),
        )?;
        at_least(
            "produce.max_decompressed_bytes",
            self.produce.max_decompressed_bytes,
            ByteSize::mib(1),
        )?;
        at_least("fetch.max_bytes", self.fetch.max_bytes, ByteSize::kib(1))?;
        at_least(
            "fetch.cold_read_bytes",
            self.fetch.cold_read_bytes,
            self.fetch.max_bytes,
        )?;
        if self.journal.entry_bytes > ByteSize::mib(64) {
            return Err(format!(
                "journal.entry_bytes is {}, at most 64MiB is allowed",
                self.journal.entry_bytes
            ));
        }
        if self.node.heartbeat_interval < Millis(10) {
            return Err(format!(
                "node.heartbeat_interval is {}, at least 10ms is needed",
                self.node.heartbeat_interval
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are valid, and a setting that can't work is named.
    #[test]
    fn a_bad_setting_is_named() {
        let mut config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        config.fetch.cold_read_bytes = ByteSize::mib(1);
        let error = config.validate().unwrap_err();
        assert_eq!(error, "fetch.cold_read_bytes is 1MiB, at least 55MiB is needed");
    }
}
