//! Settings of a WAL node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tailwater_runtime::config::{ByteSize, Millis};

const MIN_CAPACITY_BYTES: u64 = 16 << 20;
const MIN_WINDOW_BYTES: u64 = 1 << 20;

/// All of it can be changed at any start, except where it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The device: a regular file, made at the first start.
    pub path: PathBuf,
    /// Its size when it is made; a device keeps the size that it was made with. At least 16 MiB, and four times the
    /// largest entry.
    pub capacity: ByteSize,
    /// How much of what isn't in object storage yet is kept in memory too, for uploads and readers.
    pub memory: ByteSize,
    /// The most that is written between two flushes, and so scanned for leftovers after a crash.
    pub flush_window: ByteSize,
    /// How much one journal may have sent that isn't durable yet. One largest entry always may be.
    pub credit_window: ByteSize,
    /// The largest entry. An entry can't be larger than about half of the device, whatever this says.
    pub max_entry: ByteSize,
    /// The part of the device, in percent, that is kept for seals, openings and trims.
    pub reserve_percent: u8,
    /// Memory for reads from the device at the same time.
    pub read_memory: ByteSize,
    /// How often the controller hears from this node; a sixth of the controller's lease, or less.
    pub heartbeat_interval: Millis,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("wal.log"),
            capacity: ByteSize(2 << 30),
            memory: ByteSize(128 << 20),
            flush_window: ByteSize(16 << 20),
            credit_window: ByteSize(64 << 20),
            max_entry: ByteSize(160 << 20),
            reserve_percent: 5,
            read_memory: ByteSize(64 << 20),
            heartbeat_interval: Millis(500),
        }
    }
}

impl Config {
    /// # Errors
    /// What is wrong, in a sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        let capacity = self.capacity.0;
        if self.path.as_os_str().is_empty() {
            return Err("wal.path is empty".to_owned());
        }
        if capacity < MIN_CAPACITY_BYTES {
            return Err(format!("wal.capacity is {}, at least 16MiB are needed", self.capacity));
        }
        if !(MIN_WINDOW_BYTES..=capacity / 4).contains(&self.flush_window.0) {
            let found = self.flush_window;
            return Err(format!(
                "wal.flush_window is {found}, it must be from 1MiB to a quarter of wal.capacity"
            ));
        }
        if self.credit_window.0 < MIN_WINDOW_BYTES {
            return Err(format!(
                "wal.credit_window is {}, at least 1MiB is needed",
                self.credit_window
            ));
        }
        if !(MIN_WINDOW_BYTES..=1 << 30).contains(&self.max_entry.0) {
            return Err(format!(
                "wal.max_entry is {}, it must be from 1MiB to 1GiB",
                self.max_entry
            ));
        }
        if !(1..=50).contains(&self.reserve_percent) {
            return Err(format!(
                "wal.reserve_percent is {}, it must be from 1 to 50",
                self.reserve_percent
            ));
        }
        if self.read_memory.0 < MIN_WINDOW_BYTES {
            return Err(format!(
                "wal.read_memory is {}, at least 1MiB is needed",
                self.read_memory
            ));
        }
        if self.heartbeat_interval.0 == 0 {
            return Err("wal.heartbeat_interval is 0".to_owned());
        }
        Ok(())
    }
}
