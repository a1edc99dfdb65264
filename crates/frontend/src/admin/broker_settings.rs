//! The settings of brokers: those that topics inherit, and those that say how this node was started.
//!
//! Owns: which there are, which may be changed while it runs, and what this node's configuration says of them. Does not
//! own: where changed ones are kept (the controller's catalog).

use std::collections::BTreeMap;

use tailwater_types::NodeId;

use super::settings::{Inherits, SETTINGS};
use super::values::Values;
use crate::config::Config;
use crate::listeners::Listening;

pub(crate) const NUM_PARTITIONS: &str = "num.partitions";
pub(crate) const AUTO_CREATE_TOPICS: &str = "auto.create.topics.enable";

/// One setting of a broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerSetting {
    pub name: &'static str,
    /// Kafka's; `None` is null.
    pub default: Option<&'static str>,
    pub values: Values,
    /// Whether it can be changed only in this node's configuration.
    pub is_read_only: bool,
    pub doc: &'static str,
}

const fn dynamic(
    name: &'static str,
    default: Option<&'static str>,
    values: Values,
    doc: &'static str,
) -> BrokerSetting {
    BrokerSetting {
        name,
        default,
        values,
        is_read_only: false,
        doc,
    }
}

const fn fixed(name: &'static str, default: Option<&'static str>, values: Values, doc: &'static str) -> BrokerSetting {
    BrokerSetting {
        name,
        default,
        values,
        is_read_only: true,
        doc,
    }
}

const COUNT: Values = Values::Int { min: 1, max: i32::MAX };
const INT: Values = Values::Int {
    min: i32::MIN,
    max: i32::MAX,
};

/// Those that no topic inherits.
#[rustfmt::skip]
const OTHERS: &[BrokerSetting] = &[
    fixed("advertised.listeners", None, Values::List, "The addresses that clients are told to connect to."),
    dynamic(AUTO_CREATE_TOPICS, Some("true"), Values::Bool,
        "Whether a topic is made when a client asks for its metadata."),
    fixed("broker.id", Some("-1"), INT, "This node's number."),
    fixed("connections.max.idle.ms", Some("600000"), Values::Long { min: i64::MIN },
        "A connection without a request for so long is closed; -1: never."),
    fixed("default.replication.factor", Some("1"), Values::Int { min: 1, max: i32::MAX },
        "Replicas of a topic that is made without a number; partitions have one, and copies are the WAL's."),
    fixed("delete.topic.enable", Some("true"), Values::Bool, "Whether topics can be deleted."),
    fixed("fetch.max.bytes", Some("57671680"), Values::Int { min: 1024, max: i32::MAX },
        "The most bytes of one answer to a fetch."),
    fixed("group.consumer.assignment.interval.ms", Some("1000"), Values::Int { min: 0, max: i32::MAX },
        "The least time between two assignments of a consumer group."),
    fixed("group.consumer.assignors", Some("uniform,range"), Values::List,
        "The assignors of consumer groups; the first one is for groups whose members name none."),
    fixed("group.consumer.heartbeat.interval.ms", Some("5000"), COUNT,
        "How often members of a consumer group are to send heartbeats."),
    fixed("group.consumer.max.size", Some("2147483647"), COUNT, "Members that one consumer group may have."),
    fixed("group.consumer.migration.policy", Some("bidirectional"),
        Values::OneOf(&["disabled", "downgrade", "upgrade", "bidirectional"]),
        "Which groups with members change between the classic protocol and the new one."),
    fixed("group.consumer.session.timeout.ms", Some("45000"), COUNT,
        "How long a silent member stays in a consumer group."),
    fixed("group.initial.rebalance.delay.ms", Some("3000"), INT,
        "How long a group that was empty waits for more members."),
    fixed("group.max.session.timeout.ms", Some("1800000"), INT, "The longest session that a member may ask for."),
    fixed("group.max.size", Some("2147483647"), COUNT, "Members that one group may have."),
    fixed("group.min.session.timeout.ms", Some("6000"), INT, "The shortest session that a member may ask for."),
    fixed("listeners", None, Values::List, "The addresses that are listened on."),
    fixed("max.connections", Some("2147483647"), Values::Int { min: 0, max: i32::MAX },
        "Connections that all clients together may have."),
    fixed("max.connections.per.ip", Some("2147483647"), Values::Int { min: 0, max: i32::MAX },
        "Connections that clients of one address may have."),
    fixed("node.id", None, INT, "This node's number."),
    dynamic(NUM_PARTITIONS, Some("1"), COUNT, "Partitions of a topic that is made without a number."),
    fixed("offset.metadata.max.bytes", Some("4096"), INT, "The most characters of an offset's metadata."),
    fixed("offsets.retention.check.interval.ms", Some("600000"), Values::Long { min: 1 },
        "How often groups are looked at for what has expired."),
    fixed("offsets.retention.minutes", Some("10080"), COUNT,
        "How long offsets are kept that no group needs, from when it is empty."),
    fixed("offsets.topic.num.partitions", Some("50"), COUNT, "Partitions of the groups' topic when it is made."),
    fixed("offsets.topic.replication.factor", Some("3"), Values::Short,
        "Replicas of the groups' topic; partitions have one, and copies are the WAL's."),
    fixed("socket.request.max.bytes", Some("104857600"), COUNT, "The largest request."),
    fixed("transaction.max.timeout.ms", Some("900000"), COUNT, "The longest that a transaction may be asked to run."),
    fixed("transaction.state.log.num.partitions", Some("50"), COUNT,
        "Partitions of the transactions' topic when it is made."),
    fixed("transactional.id.expiration.ms", Some("604800000"), COUNT,
        "How long a transactional id is remembered that nobody uses."),
];

/// All of them, by name.
pub(crate) fn all() -> BTreeMap<&'static str, BrokerSetting> {
    let inherited = SETTINGS.iter().filter_map(|setting| {
        let default = match setting.inherits {
            Inherits::Nothing => return None,
            Inherits::From(_) => Some(setting.default),
            Inherits::FromUnset(_) => None,
        };
        let name = setting.inherits.name()?;
        Some(dynamic(name, default, setting.values, setting.doc))
    });
    let all = inherited.chain(OTHERS.iter().copied());
    all.map(|setting| (setting.name, setting)).collect()
}

/// What this node's configuration says where that isn't Kafka's default.
#[derive(Clone, Debug, Default)]
pub(crate) struct FixedSettings(BTreeMap<&'static str, String>);

impl FixedSettings {
    pub fn of(config: &Config, node: NodeId) -> Self {
        let (server, groups, topics) = (&config.server, &config.groups, &config.topics);
        let transactions = &config.transactions;
        let listeners = config.all_listeners().unwrap_or_default();
        let list = |address: fn(&Listening<'_>) -> String| {
            let each = listeners.iter().map(|one| format!("{}://{}", one.name, address(one)));
            each.collect::<Vec<_>>().join(",")
        };
        let idle = match server.idle_timeout.0 {
            0 => "-1".to_owned(),
            ms => ms.to_string(),
        };
        // No limit is Kafka's largest number.
        let connections = |limit: usize| match i32::try_from(limit) {
            Ok(limit @ 1..) => limit.to_string(),
            _ => i32::MAX.to_string(),
        };
        let values = [
            (
                "advertised.listeners",
                list(|one| match one.host.contains(':') {
                    true => format!("[{}]:{}", one.host, one.port),
                    false => format!("{}:{}", one.host, one.port),
                }),
            ),
            (AUTO_CREATE_TOPICS, topics.auto_create.to_string()),
            ("broker.id", node.to_string()),
            ("connections.max.idle.ms", idle),
            ("fetch.max.bytes", config.fetch.max_bytes.0.to_string()),
            (
                "group.consumer.assignment.interval.ms",
                groups.consumer_assignment_interval.0.to_string(),
            ),
            (
                "group.consumer.heartbeat.interval.ms",
                groups.consumer_heartbeat_interval.0.to_string(),
            ),
            ("group.consumer.max.size", groups.consumer_max_size.to_string()),
            (
                "group.consumer.migration.policy",
                groups.consumer_migration_policy.name().to_owned(),
            ),
            (
                "group.consumer.session.timeout.ms",
                groups.consumer_session_timeout.0.to_string(),
            ),
            (
                "group.initial.rebalance.delay.ms",
                groups.initial_rebalance_delay.0.to_string(),
            ),
            ("group.max.session.timeout.ms", groups.max_session_timeout.0.to_string()),
            ("group.max.size", groups.max_size.to_string()),
            ("group.min.session.timeout.ms", groups.min_session_timeout.0.to_string()),
            ("listeners", list(|one| one.listen.to_owned())),
            ("max.connections", connections(server.max_connections)),
            ("max.connections.per.ip", connections(server.max_connections_per_ip)),
            ("node.id", node.to_string()),
            (NUM_PARTITIONS, topics.partitions.to_string()),
            (
                "offset.metadata.max.bytes",
                groups.offset_metadata_max_chars.to_string(),
            ),
            (
                "offsets.retention.check.interval.ms",
                groups.offsets_retention_check_interval.0.to_string(),
            ),
            (
                "offsets.retention.minutes",
                groups.offsets_retention.0.div_ceil(60_000).to_string(),
            ),
            (
                "offsets.topic.num.partitions",
                groups.offsets_topic_partitions.to_string(),
            ),
            ("offsets.topic.replication.factor", "1".to_owned()),
            ("socket.request.max.bytes", server.max_request.0.to_string()),
            ("transaction.max.timeout.ms", transactions.max_timeout.0.to_string()),
            (
                "transaction.state.log.num.partitions",
                transactions.state_topic_partitions.to_string(),
            ),
            (
                "transactional.id.expiration.ms",
                transactions.id_expiration.0.to_string(),
            ),
        ];
        let known = all();
        let differs = |(name, value): &(&str, String)| {
            let default = known.get(name).and_then(|setting| setting.default);
            default != Some(value.as_str())
        };
        Self(values.into_iter().filter(differs).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MigrationPolicy;

    /// Every default is legal, what topics inherit can be changed, and what the configuration says has an entry.
    #[test]
    fn the_table_is_whole() {
        let all = all();
        for setting in all.values() {
            if let Some(default) = setting.default {
                assert_eq!(setting.values.check(setting.name, default), Ok(()));
            }
        }
        assert!(!all["log.retention.ms"].is_read_only && all["log.retention.ms"].default.is_none());
        assert_eq!(all["message.max.bytes"].default, Some("1048588"));
        let fixed = FixedSettings::of(&Config::default(), NodeId(7));
        assert!(fixed.0.keys().all(|name| all.contains_key(name)));
        assert_eq!(fixed.get(NUM_PARTITIONS), Some("4"));
        assert_eq!(fixed.get("group.min.session.timeout.ms"), None, "Kafka's default");
        let policy = "group.consumer.migration.policy";
        assert_eq!(fixed.get(policy), None);
        let mut config = Config::default();
        config.groups.consumer_migration_policy = MigrationPolicy::Upgrade;
        assert_eq!(FixedSettings::of(&config, NodeId(7)).get(policy), Some("upgrade"));
    }
}
