//! Settings of a compactor.

use serde::{Deserialize, Serialize};
use tailwater_runtime::config::{ByteSize, Millis};

/// The controller takes 64 objects in one commit, those given up included; an upload makes one a large stream and one more.
const MAX_OBJECTS: u64 = 40;

/// All have defaults; an unknown key is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A journal is uploaded when this much of it isn't yet, ...
    pub trigger_bytes: ByteSize,
    /// ... or so many entries: a start looks at each, and small ones are many before they are much, ...
    pub trigger_entries: u64,
    /// ... or when the oldest of that is this old, ...
    pub trigger_age: Millis,
    /// ... or, crumbs excepted, when the WAL device is full to this percentage.
    pub trigger_device_percent: u8,
    /// How much of a journal one upload takes at most; a larger entry goes alone.
    pub batch_bytes: ByteSize,
    /// A stream with at least this much in one upload gets an object of its own; all others share one.
    pub stream_object_bytes: ByteSize,
    /// How much all uploads at the same time may hold in memory.
    pub memory_bytes: ByteSize,
    /// How much is kept of streams' states from one upload to the next; what is not is read from their last snapshot.
    pub state_cache_bytes: ByteSize,
    /// How many journals one compactor takes at the same time.
    pub max_journals: usize,
    /// How many streams one compactor cleans (key compaction) at the same time; 0: none.
    pub max_cleanings: usize,
    /// How much each of them may hold of keys: 16 bytes of hash and an offset a key. One with more keys takes several passes.
    pub clean_keys_bytes: ByteSize,
    /// How large an object gets that a cleaning writes, about; so much is held in memory.
    pub clean_object_bytes: ByteSize,
    /// A cleaning that gets no further for so long is given up, and tried again later.
    pub clean_stall: Millis,
    /// How often the WAL is asked about a journal that has something to upload, ...
    pub poll_interval: Millis,
    /// ... and about one that has nothing.
    pub idle_poll_interval: Millis,
    /// How long an idempotent producer is remembered after its last batch (Kafka's `producer.id.expiration.ms`).
    pub producer_expiration: Millis,
    /// How often the controller hears from this node; a sixth of the controller's lease, or less.
    pub heartbeat_interval: Millis,
    /// How long a stop waits for uploads that are on their way. What isn't finished then is done again later.
    pub shutdown_grace: Millis,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            trigger_bytes: ByteSize::mib(64),
            trigger_entries: 100_000,
            trigger_age: Millis::seconds(30),
            trigger_device_percent: 50,
            batch_bytes: ByteSize::mib(128),
            stream_object_bytes: ByteSize::mib(8),
            memory_bytes: ByteSize::mib(256),
            state_cache_bytes: ByteSize::mib(32),
            max_journals: 64,
            max_cleanings: 1,
            clean_keys_bytes: ByteSize::mib(64),
            clean_object_bytes: ByteSize::mib(32),
            clean_stall: Millis::seconds(600),
            poll_interval: Millis(200),
            idle_poll_interval: Millis::seconds(1),
            producer_expiration: Millis::seconds(86_400),
            heartbeat_interval: Millis(500),
            shutdown_grace: Millis::seconds(3),
        }
    }
}

impl Config {
    /// # Errors
    /// One sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("trigger_bytes", self.trigger_bytes.0),
            ("trigger_entries", self.trigger_entries),
            ("batch_bytes", self.batch_bytes.0),
            ("memory_bytes", self.memory_bytes.0),
            ("clean_object_bytes", self.clean_object_bytes.0),
            ("clean_stall", self.clean_stall.0),
            ("max_journals", self.max_journals as u64),
            ("poll_interval", self.poll_interval.0),
            ("idle_poll_interval", self.idle_poll_interval.0),
            ("heartbeat_interval", self.heartbeat_interval.0),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} must be more than 0"));
        }
        let least = ByteSize::mib(1);
        if self.clean_keys_bytes < least {
            let found = self.clean_keys_bytes;
            return Err(format!("clean_keys_bytes must be at least {least}, not {found}"));
        }
        if !(1..=100).contains(&self.trigger_device_percent) {
            let percent = self.trigger_device_percent;
            return Err(format!(
                "trigger_device_percent must be between 1 and 100, not {percent}"
            ));
        }
        if self.stream_object_bytes.0 < self.batch_bytes.0 / MAX_OBJECTS {
            let (own, batch) = (self.stream_object_bytes, self.batch_bytes);
            return Err(format!(
                "stream_object_bytes must be at least a {MAX_OBJECTS}th of batch_bytes: {own} is too little for {batch}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are valid, and each bound is checked by name.
    #[test]
    fn bounds_are_checked() {
        assert_eq!(Config::default().validate(), Ok(()));
        let refused = |change: fn(&mut Config), name: &str| {
            let mut config = Config::default();
            change(&mut config);
            let text = config.validate().expect_err("out of bounds");
            assert!(text.contains(name), "{text}");
        };
        refused(|config| config.trigger_bytes = ByteSize(0), "trigger_bytes");
        refused(|config| config.trigger_entries = 0, "trigger_entries");
        refused(|config| config.max_journals = 0, "max_journals");
        refused(|config| config.clean_keys_bytes = ByteSize(1 << 19), "clean_keys_bytes");
        refused(|config| config.clean_object_bytes = ByteSize(0), "clean_object_bytes");
        refused(|config| config.clean_stall = Millis(0), "clean_stall");
        refused(|config| config.poll_interval = Millis(0), "poll_interval");
        refused(|config| config.trigger_device_percent = 0, "trigger_device_percent");
        refused(|config| config.trigger_device_percent = 101, "trigger_device_percent");
        refused(
            |config| config.stream_object_bytes = ByteSize::mib(1),
            "stream_object_bytes",
        );
    }
}
