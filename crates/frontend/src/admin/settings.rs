//! The settings that a topic has: Apache Kafka 4.3's names, defaults and bounds, all in one table.
//!
//! Owns: what is legal, what holds where nothing is set, and typed access to the settings that something here obeys.
//! Does not own: where settings are kept (the controller's catalog), what obeys them.
//!
//! Settings about segments, indexes, flushing and replication mean nothing here: they are kept and shown, so that tools
//! that set them go on working.

use std::collections::BTreeMap;

use super::values::Values;
use crate::view::Topic;

const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const TIERED: &str = "Tiered Storage functionality is disabled in the broker. \
                      Topic cannot be configured with remote log storage.";

pub(crate) const CLEANUP_POLICY: &str = "cleanup.policy";
pub(crate) const COMPRESSION_TYPE: &str = "compression.type";
pub(crate) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
pub(crate) const MESSAGE_TIMESTAMP_TYPE: &str = "message.timestamp.type";
pub(crate) const SEGMENT_BYTES: &str = "segment.bytes";
const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";
const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub values: Values,
}

const fn setting(name: &'static str, default: &'static str, values: Values) -> Setting {
    Setting { name, default, values }
}

const fn long(min: i64) -> Values {
    Values::Long { min }
}

const fn int(min: i32) -> Values {
    Values::Int { min, max: i32::MAX }
}

/// Ascending by name.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(CLEANUP_POLICY, "delete", Values::SomeOf(&["compact", "delete"])),
    setting("compression.gzip.level", "-1", Values::IntOr { min: 1, max: 9, or: -1 }),
    setting("compression.lz4.level", "9", Values::Int { min: 1, max: 17 }),
    setting(COMPRESSION_TYPE, "producer", Values::OneOf(COMPRESSION_TYPES)),
    setting("compression.zstd.level", "3", Values::Int { min: -131_072, max: 22 }),
    setting("delete.retention.ms", "86400000", long(0)),
    setting("file.delete.delay.ms", "60000", long(0)),
    setting("flush.messages", "9223372036854775807", long(1)),
    setting("flush.ms", "9223372036854775807", long(0)),
    setting("follower.replication.throttled.replicas", "", Values::Replicas),
    setting("index.interval.bytes", "4096", int(0)),
    setting("leader.replication.throttled.replicas", "", Values::Replicas),
    setting("local.retention.bytes", "-2", long(-2)),
    setting("local.retention.ms", "-2", long(-2)),
    setting(MAX_COMPACTION_LAG_MS, "9223372036854775807", long(1)),
    setting(MAX_MESSAGE_BYTES, "1048588", int(0)),
    setting("message.timestamp.after.max.ms", "3600000", long(0)),
    setting("message.timestamp.before.max.ms", "9223372036854775807", long(0)),
    setting(
        MESSAGE_TIMESTAMP_TYPE,
        "CreateTime",
        Values::OneOf(&["CreateTime", "LogAppendTime"]),
    ),
    setting("min.cleanable.dirty.ratio", "0.5", Values::Ratio),
    setting(MIN_COMPACTION_LAG_MS, "0", long(0)),
    setting("min.insync.replicas", "1", int(1)),
    setting("preallocate", "false", Values::Bool),
    setting("remote.log.copy.disable", "false", Values::Bool),
    setting("remote.log.delete.on.disable", "false", Values::Bool),
    setting("remote.storage.enable", "false", Values::OnlyFalse(TIERED)),
    setting("retention.bytes", "-1", long(i64::MIN)),
    setting("retention.ms", "604800000", long(-1)),
    setting(SEGMENT_BYTES, "1073741824", int(1_048_576)),
    setting("segment.index.bytes", "10485760", int(4)),
    setting("segment.jitter.ms", "0", long(0)),
    setting("segment.ms", "604800000", long(1)),
    setting("unclean.leader.election.enable", "false", Values::Bool),
];

/// The setting of that name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    let at = SETTINGS.binary_search_by(|setting| setting.name.cmp(name)).ok()?;
    Some(&SETTINGS[at])
}

/// Whether a topic may have these settings, the rest at their defaults.
///
/// # Errors
/// What is wrong, in Kafka's words.
pub(crate) fn check(configs: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in configs {
        let setting = find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
        let reworded = |wrong: String| match setting.values {
            Values::OnlyFalse(_) => wrong,
            _ => format!("Invalid value {value} for configuration {name}: {wrong}"),
        };
        setting.values.check(value).map_err(reworded)?;
    }
    let (min, max) = (lag(configs, MIN_COMPACTION_LAG_MS), lag(configs, MAX_COMPACTION_LAG_MS));
    if min > max {
        return Err(format!(
            "conflict topic config setting {MIN_COMPACTION_LAG_MS} ({min}) > {MAX_COMPACTION_LAG_MS} ({max})"
        ));
    }
    Ok(())
}

fn lag(configs: &BTreeMap<String, String>, name: &str) -> i64 {
    let set = configs.get(name).map(String::as_str);
    let text = set.or(find(name).map(|setting| setting.default)).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}

/// The settings of a topic that something here obeys, each with its default where it isn't set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicSettings<'a> {
    configs: &'a BTreeMap<String, String>,
}

impl<'a> TopicSettings<'a> {
    pub fn of(topic: &'a Topic) -> Self {
        Self {
            configs: &topic.info.configs,
        }
    }

    /// The most bytes that a stored batch may have.
    pub fn max_message_bytes(self) -> usize {
        self.value(MAX_MESSAGE_BYTES).parse().unwrap_or(0)
    }

    /// Whether records carry the time at which they were appended instead of their producer's.
    pub fn is_log_append_time(self) -> bool {
        self.value(MESSAGE_TIMESTAMP_TYPE) == "LogAppendTime"
    }

    fn value(self, name: &str) -> &'a str {
        let set = self.configs.get(name).map(|value| value.trim());
        set.or(find(name).map(|setting| setting.default)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Names ascend, or the search misses some; every default is legal.
    #[test]
    fn the_table_is_sorted_and_its_defaults_are_legal() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        let defaults: BTreeMap<_, _> = SETTINGS
            .iter()
            .map(|setting| (setting.name.to_owned(), setting.default.to_owned()))
            .collect();
        assert_eq!(check(&defaults), Ok(()));
    }

    /// What Apache Kafka 4.3.0 answered to the same settings.
    #[test]
    fn values_are_checked_as_kafka_checks_them() {
        let accepted = [
            ("segment.bytes", "1048576"),
            ("retention.bytes", "-5"),
            ("retention.ms", "-1"),
            ("preallocate", "TRUE"),
            ("cleanup.policy", "compact,delete"),
            ("leader.replication.throttled.replicas", "*"),
            ("leader.replication.throttled.replicas", "0:1,1:2"),
            ("compression.gzip.level", "-1"),
        ];
        for (name, value) in accepted {
            assert_eq!(check(&configs(&[(name, value)])), Ok(()), "{name}={value}");
        }
        let refused = [
            ("segment.bytes", "1048575", "Value must be at least 1048576"),
            ("retention.ms", "-2", "Value must be at least -1"),
            ("max.message.bytes", "-1", "Value must be at least 0"),
            ("max.message.bytes", "x", "Not a number of type INT"),
            (
                "compression.type",
                "foo",
                "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer",
            ),
            (
                "compression.gzip.level",
                "0",
                "Value must be between 1 and 9 or equal to -1",
            ),
            ("compression.lz4.level", "18", "Value must be no more than 17"),
            ("compression.zstd.level", "-131073", "Value must be at least -131072"),
            ("min.cleanable.dirty.ratio", "1.1", "Value must be no more than 1"),
            ("preallocate", "maybe", "Expected value to be either true or false"),
            (
                "message.timestamp.type",
                "Foo",
                "String must be one of: CreateTime, LogAppendTime",
            ),
            ("cleanup.policy", "foo", "String must be one of: compact, delete"),
        ];
        for (name, value, wrong) in refused {
            let expected = format!("Invalid value {value} for configuration {name}: {wrong}");
            assert_eq!(check(&configs(&[(name, value)])), Err(expected));
        }
        assert_eq!(
            check(&configs(&[("nosuch", "1")])),
            Err("Unknown topic config name: nosuch".to_owned())
        );
        assert!(check(&configs(&[("remote.storage.enable", "true")])).is_err());
        let lags = configs(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "3")]);
        let expected = "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (3)";
        assert_eq!(check(&lags), Err(expected.to_owned()));
    }
}
