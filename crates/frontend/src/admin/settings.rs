//! The settings that a topic has: Apache Kafka 4.3's names, defaults and bounds, all in one table.
//!
//! Owns: what is legal, what holds where nothing is set, which broker setting a topic inherits. Does not own: where settings
//! are kept (the controller's catalog), what is shown of them (`sources`), what obeys them (`topic_settings`).
//!
//! Settings about segments, indexes, flushing and replication mean nothing here: they are kept and shown, so that tools
//! that set them go on working.

use std::collections::BTreeMap;

use super::values::Values;

const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const TIERED: &str = "Tiered Storage functionality is disabled in the broker. \
                      Topic cannot be configured with remote log storage.";

pub(crate) const CLEANUP_POLICY: &str = "cleanup.policy";
pub(crate) const COMPRESSION_TYPE: &str = "compression.type";
pub(crate) const COMPRESSION_GZIP_LEVEL: &str = "compression.gzip.level";
pub(crate) const COMPRESSION_ZSTD_LEVEL: &str = "compression.zstd.level";
pub(crate) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
pub(crate) const MESSAGE_TIMESTAMP_TYPE: &str = "message.timestamp.type";
pub(crate) const TIMESTAMP_AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";
pub(crate) const TIMESTAMP_BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
pub(crate) const SEGMENT_BYTES: &str = "segment.bytes";
pub(crate) const UNCLEAN_LEADER_ELECTION: &str = "unclean.leader.election.enable";
const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";
const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";

/// One setting of a topic, a group, or a subscription to clients' metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub name: &'static str,
    pub default: &'static str,
    pub values: Values,
    pub inherits: Inherits,
    /// One sentence for who asks for documentation.
    pub doc: &'static str,
}

/// The broker setting that holds where nothing is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inherits {
    Nothing,
    /// Of the same default.
    From(&'static str),
    /// Which is null by default: the topic's own default holds.
    FromUnset(&'static str),
}

impl Inherits {
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::From(name) | Self::FromUnset(name) => Some(name),
        }
    }
}

const fn setting(
    name: &'static str,
    default: &'static str,
    values: Values,
    inherits: Inherits,
    doc: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        values,
        inherits,
        doc,
    }
}

const fn from(name: &'static str) -> Inherits {
    Inherits::From(name)
}

const fn from_unset(name: &'static str) -> Inherits {
    Inherits::FromUnset(name)
}

const fn long(min: i64) -> Values {
    Values::Long { min }
}

const fn int(min: i32) -> Values {
    Values::Int { min, max: i32::MAX }
}

const NOTHING: Inherits = Inherits::Nothing;

/// Ascending by name.
#[rustfmt::skip]
pub(crate) const SETTINGS: &[Setting] = &[
    setting(CLEANUP_POLICY, "delete", Values::SomeOf(&["compact", "delete"]), from("log.cleanup.policy"),
        "What becomes of old records: delete drops them by age and size, compact keeps the newest of each key."),
    setting(COMPRESSION_GZIP_LEVEL, "-1", Values::IntOr { min: 1, max: 9, or: -1 }, from(COMPRESSION_GZIP_LEVEL),
        "The level at which batches are encoded with gzip; -1 is gzip's own default."),
    setting("compression.lz4.level", "9", Values::Int { min: 1, max: 17 }, from("compression.lz4.level"),
        "The level at which batches are encoded with lz4. Kept and shown; lz4 is always encoded at its fast level."),
    setting(COMPRESSION_TYPE, "producer", Values::OneOf(COMPRESSION_TYPES), from(COMPRESSION_TYPE),
        "The codec in which batches are stored; producer keeps them as they came."),
    setting(COMPRESSION_ZSTD_LEVEL, "3", Values::Int { min: -131_072, max: 22 }, from(COMPRESSION_ZSTD_LEVEL),
        "The level at which batches are encoded with zstd."),
    setting("delete.retention.ms", "86400000", long(0), from("log.cleaner.delete.retention.ms"),
        "How long compaction keeps a tombstone, so that readers see it."),
    setting("file.delete.delay.ms", "60000", long(0), from("log.segment.delete.delay.ms"),
        "Kept and shown; objects are deleted after the controller's own delay."),
    setting("flush.messages", "9223372036854775807", long(1), from("log.flush.interval.messages"),
        "Kept and shown; every batch is durable before it is acknowledged."),
    setting("flush.ms", "9223372036854775807", long(0), from_unset("log.flush.interval.ms"),
        "Kept and shown; every batch is durable before it is acknowledged."),
    setting("follower.replication.throttled.replicas", "", Values::Replicas, NOTHING,
        "Kept and shown; partitions have no followers."),
    setting("index.interval.bytes", "4096", int(0), from("log.index.interval.bytes"),
        "Kept and shown; objects have an index entry a block."),
    setting("leader.replication.throttled.replicas", "", Values::Replicas, NOTHING,
        "Kept and shown; partitions have no followers."),
    setting("local.retention.bytes", "-2", long(-2), from("log.local.retention.bytes"),
        "Kept and shown; there is one log, in object storage."),
    setting("local.retention.ms", "-2", long(-2), from("log.local.retention.ms"),
        "Kept and shown; there is one log, in object storage."),
    setting(MAX_COMPACTION_LAG_MS, "9223372036854775807", long(1), from("log.cleaner.max.compaction.lag.ms"),
        "The age at which a record is compacted at the latest."),
    setting(MAX_MESSAGE_BYTES, "1048588", int(0), from("message.max.bytes"),
        "The most bytes of a stored batch."),
    setting(TIMESTAMP_AFTER_MAX_MS, "3600000", long(0), from("log.message.timestamp.after.max.ms"),
        "How far a record's timestamp may lie in the future."),
    setting(TIMESTAMP_BEFORE_MAX_MS, "9223372036854775807", long(0), from("log.message.timestamp.before.max.ms"),
        "How far a record's timestamp may lie in the past."),
    setting(MESSAGE_TIMESTAMP_TYPE, "CreateTime", Values::OneOf(&["CreateTime", "LogAppendTime"]),
        from("log.message.timestamp.type"),
        "Whether records carry their producer's time or the time at which they were appended."),
    setting("min.cleanable.dirty.ratio", "0.5", Values::Ratio, from("log.cleaner.min.cleanable.ratio"),
        "The share of the log that is to be uncompacted before it is compacted again."),
    setting(MIN_COMPACTION_LAG_MS, "0", long(0), from("log.cleaner.min.compaction.lag.ms"),
        "The age below which a record is never compacted."),
    setting("min.insync.replicas", "1", int(1), from("min.insync.replicas"),
        "Kept and shown; a partition has one replica, and its batches are as durable as the WAL makes them."),
    setting("preallocate", "false", Values::Bool, from("log.preallocate"),
        "Kept and shown; topics have no files."),
    setting("remote.log.copy.disable", "false", Values::Bool, NOTHING,
        "Kept and shown; there is one log, in object storage."),
    setting("remote.log.delete.on.disable", "false", Values::Bool, NOTHING,
        "Kept and shown; there is one log, in object storage."),
    setting("remote.storage.enable", "false", Values::OnlyFalse(TIERED), NOTHING,
        "Always false: there is one log, in object storage."),
    setting("retention.bytes", "-1", long(i64::MIN), from("log.retention.bytes"),
        "The size of a partition above which its oldest records are deleted; -1: no bound."),
    setting("retention.ms", "604800000", long(-1), from_unset("log.retention.ms"),
        "The age at which records are deleted; -1: never."),
    setting(SEGMENT_BYTES, "1073741824", int(1_048_576), from("log.segment.bytes"),
        "Kept and shown; objects have the compactor's sizes."),
    setting("segment.index.bytes", "10485760", int(4), from("log.index.size.max.bytes"),
        "Kept and shown; objects have an index entry a block."),
    setting("segment.jitter.ms", "0", long(0), from_unset("log.roll.jitter.ms"),
        "Kept and shown; objects have the compactor's ages."),
    setting("segment.ms", "604800000", long(1), from_unset("log.roll.ms"),
        "Kept and shown; objects have the compactor's ages."),
    setting(UNCLEAN_LEADER_ELECTION, "false", Values::Bool, from(UNCLEAN_LEADER_ELECTION),
        "Kept and shown; a leader never lacks an acknowledged record."),
];

/// The setting of that name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    find_in(SETTINGS, name)
}

/// The setting of that name in a table that ascends by name.
pub(crate) fn find_in(table: &'static [Setting], name: &str) -> Option<&'static Setting> {
    let at = table.binary_search_by(|setting| setting.name.cmp(name)).ok()?;
    Some(&table[at])
}

/// Whether a topic may have these settings, the rest at their defaults.
///
/// # Errors
/// What is wrong, in Kafka's words.
pub(crate) fn check(configs: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in configs {
        let setting = find(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
        setting.values.check(name, value)?;
    }
    check_together(configs)
}

/// Whether settings that are legal each are so together.
///
/// # Errors
/// What is wrong, in Kafka's words.
pub(crate) fn check_together(configs: &BTreeMap<String, String>) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Names ascend, or the search misses some; every default is legal, and every setting says what it does.
    #[test]
    fn the_table_is_sorted_and_its_defaults_are_legal() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        let defaults: BTreeMap<_, _> = SETTINGS
            .iter()
            .map(|setting| (setting.name.to_owned(), setting.default.to_owned()))
            .collect();
        assert_eq!(check(&defaults), Ok(()));
        assert!(SETTINGS.iter().all(|setting| setting.doc.ends_with('.')));
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
