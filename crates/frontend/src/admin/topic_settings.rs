//! The settings of a topic that something here obeys, parsed once a change and not once a batch.

use std::collections::BTreeMap;

use tailwater_codec::Encoding;
use tailwater_kafka::batch::Compression;

use super::settings::{self, Setting};
use super::values::items;

/// What holds for a topic: what is set of it, else of this broker, else of all brokers, else Kafka's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// The most bytes that a stored batch may have.
    pub max_message_bytes: usize,
    /// Whether records carry the time at which they were appended instead of their producer's.
    pub is_log_append_time: bool,
    /// How far a producer's time may lie in the past, and in the future.
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// `None`: batches are stored as they came.
    pub stored_as: Option<Encoding>,
    /// Whether every record needs a key, since only the newest of each key is kept.
    pub compacts: bool,
    /// Whether records may be deleted.
    pub deletes: bool,
}

type Configs = BTreeMap<String, String>;

impl TopicSettings {
    /// `brokers`: what is set of this broker, then what is set of all of them.
    pub fn resolve(configs: &Configs, brokers: [Option<&Configs>; 2]) -> Self {
        let value = |name: &str| {
            let setting = settings::find(name).expect("the table has what is obeyed");
            value_of(setting, configs, brokers)
        };
        // What can't be parsed was never accepted; Kafka's default holds.
        let number = |name: &str| {
            let default = || settings::find(name).and_then(|setting| setting.default.parse().ok());
            value(name).parse::<i64>().ok().or_else(default).unwrap_or_default()
        };
        let policy = value(settings::CLEANUP_POLICY);
        let level = |name: &str| i32::try_from(number(name)).unwrap_or_default();
        let encoding = |compression, level| Some(Encoding { compression, level });
        Self {
            max_message_bytes: usize::try_from(number(settings::MAX_MESSAGE_BYTES)).unwrap_or(0),
            is_log_append_time: value(settings::MESSAGE_TIMESTAMP_TYPE) == "LogAppendTime",
            timestamp_before_max_ms: number(settings::TIMESTAMP_BEFORE_MAX_MS),
            timestamp_after_max_ms: number(settings::TIMESTAMP_AFTER_MAX_MS),
            stored_as: match value(settings::COMPRESSION_TYPE) {
                "uncompressed" => encoding(Compression::None, 0),
                "gzip" => encoding(Compression::Gzip, level(settings::COMPRESSION_GZIP_LEVEL)),
                "snappy" => encoding(Compression::Snappy, 0),
                "lz4" => encoding(Compression::Lz4, 0),
                "zstd" => encoding(Compression::Zstd, level(settings::COMPRESSION_ZSTD_LEVEL)),
                _ => None,
            },
            compacts: items(policy).any(|item| item == "compact"),
            deletes: items(policy).any(|item| item == "delete"),
        }
    }
}

fn value_of<'a>(setting: &Setting, configs: &'a Configs, brokers: [Option<&'a Configs>; 2]) -> &'a str {
    let of_broker = |name: &str| brokers.into_iter().flatten().find_map(|configs| configs.get(name));
    let set = configs
        .get(setting.name)
        .or_else(|| setting.inherits.name().and_then(of_broker));
    set.map_or(setting.default, |value| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> Configs {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    /// The topic's own value goes before its broker's, that before all brokers', that before the default.
    #[test]
    fn the_nearest_value_holds() {
        let own = configs(&[("max.message.bytes", "1")]);
        let broker = configs(&[
            ("message.max.bytes", "2"),
            ("log.message.timestamp.type", "LogAppendTime"),
        ]);
        let all = configs(&[
            ("message.max.bytes", "3"),
            ("compression.type", "zstd"),
            ("compression.zstd.level", "7"),
        ]);
        let none = Configs::new();
        let bytes = |own, brokers| TopicSettings::resolve(own, brokers).max_message_bytes;
        assert_eq!(bytes(&own, [Some(&broker), Some(&all)]), 1);
        assert_eq!(bytes(&none, [Some(&broker), Some(&all)]), 2);
        assert_eq!(bytes(&none, [None, Some(&all)]), 3);
        assert_eq!(bytes(&none, [None, None]), 1_048_588);
        let resolved = TopicSettings::resolve(&none, [Some(&broker), Some(&all)]);
        assert!(resolved.is_log_append_time && resolved.deletes && !resolved.compacts);
        let zstd = Encoding {
            compression: Compression::Zstd,
            level: 7,
        };
        assert_eq!(resolved.stored_as, Some(zstd));
        let compacted = TopicSettings::resolve(&configs(&[("cleanup.policy", " compact ")]), [None, None]);
        assert!(compacted.compacts && !compacted.deletes && compacted.stored_as.is_none());
    }
}
