//! The settings of groups and of subscriptions to clients' metrics (Apache Kafka 4.3's names, defaults and bounds).
//!
//! Kept, checked and shown here; a group's are obeyed where groups are served.

use tailwater_kafka::ErrorCode;

use super::refusal::Refusal;
use super::settings::{Inherits, Setting};
use super::values::{Values, items};

const INTERVAL_MS: &str = "interval.ms";
const MATCH: &str = "match";

const MATCHED: &[&str] = &[
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Heartbeats and sessions within what brokers allow.
macro_rules! within {
    ($min:literal $min_name:literal, $max:literal $max_name:literal) => {
        Values::Within {
            min: ($min, $min_name),
            max: ($max, $max_name),
        }
    };
}

const fn group(
    name: &'static str,
    default: &'static str,
    values: Values,
    broker: &'static str,
    doc: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        values,
        inherits: Inherits::From(broker),
        doc,
    }
}

const fn metrics(name: &'static str, default: &'static str, values: Values, doc: &'static str) -> Setting {
    Setting {
        name,
        default,
        values,
        inherits: Inherits::Nothing,
        doc,
    }
}

const AT_LEAST_0: Values = Values::Int { min: 0, max: i32::MAX };

/// Ascending by name.
#[rustfmt::skip]
pub(crate) const GROUP_SETTINGS: &[Setting] = &[
    group("consumer.assignment.interval.ms", "1000", AT_LEAST_0, "group.consumer.assignment.interval.ms",
        "The least time between two assignments of a consumer group."),
    group("consumer.heartbeat.interval.ms", "5000",
        within!(5000 "group.consumer.min.heartbeat.interval.ms", 15000 "group.consumer.max.heartbeat.interval.ms"),
        "group.consumer.heartbeat.interval.ms", "How often members of a consumer group are to send heartbeats."),
    group("consumer.session.timeout.ms", "45000",
        within!(45000 "group.consumer.min.session.timeout.ms", 60000 "group.consumer.max.session.timeout.ms"),
        "group.consumer.session.timeout.ms", "How long a silent member stays in a consumer group."),
    group("share.assignment.interval.ms", "1000", AT_LEAST_0, "group.share.assignment.interval.ms",
        "The least time between two assignments of a share group."),
    group("share.auto.offset.reset", "latest", Values::OffsetReset, "share.auto.offset.reset",
        "Where a share group begins: earliest, latest, or by_duration: and a duration."),
    group("share.delivery.count.limit", "5",
        within!(2 "group.share.min.delivery.count.limit", 10 "group.share.max.delivery.count.limit"),
        "group.share.delivery.count.limit", "How often a record is delivered to a share group at most."),
    group("share.heartbeat.interval.ms", "5000",
        within!(5000 "group.share.min.heartbeat.interval.ms", 15000 "group.share.max.heartbeat.interval.ms"),
        "group.share.heartbeat.interval.ms", "How often members of a share group are to send heartbeats."),
    group("share.isolation.level", "read_uncommitted", Values::OneOf(&["read_committed", "read_uncommitted"]),
        "share.isolation.level", "Whether a share group reads records of transactions that aren't committed."),
    group("share.partition.max.record.locks", "2000",
        within!(100 "group.share.min.partition.max.record.locks", 4000 "group.share.max.partition.max.record.locks"),
        "group.share.partition.max.record.locks", "How many records of one partition a share group may have acquired."),
    group("share.record.lock.duration.ms", "30000",
        within!(15000 "group.share.min.record.lock.duration.ms", 60000 "group.share.max.record.lock.duration.ms"),
        "group.share.record.lock.duration.ms", "How long a record stays acquired by a member of a share group."),
    group("share.renew.acknowledge.enable", "true", Values::Bool, "share.renew.acknowledge.enable",
        "Whether a member of a share group may prolong its acquisitions."),
    group("share.session.timeout.ms", "45000",
        within!(45000 "group.share.min.session.timeout.ms", 60000 "group.share.max.session.timeout.ms"),
        "group.share.session.timeout.ms", "How long a silent member stays in a share group."),
    group("streams.assignment.interval.ms", "1000", AT_LEAST_0, "group.streams.assignment.interval.ms",
        "The least time between two assignments of a streams group."),
    group("streams.heartbeat.interval.ms", "5000",
        within!(5000 "group.streams.min.heartbeat.interval.ms", 15000 "group.streams.max.heartbeat.interval.ms"),
        "group.streams.heartbeat.interval.ms", "How often members of a streams group are to send heartbeats."),
    group("streams.initial.rebalance.delay.ms", "3000", AT_LEAST_0, "group.streams.initial.rebalance.delay.ms",
        "How long a streams group that was empty waits for more members."),
    group("streams.num.standby.replicas", "0",
        within!(0 "group.streams.min.standby.replicas", 2 "group.streams.max.standby.replicas"),
        "group.streams.num.standby.replicas", "Standby replicas of each task of a streams group."),
    group("streams.session.timeout.ms", "45000",
        within!(45000 "group.streams.min.session.timeout.ms", 60000 "group.streams.max.session.timeout.ms"),
        "group.streams.session.timeout.ms", "How long a silent member stays in a streams group."),
];

/// Ascending by name.
#[rustfmt::skip]
pub(crate) const CLIENT_METRICS_SETTINGS: &[Setting] = &[
    metrics(INTERVAL_MS, "300000", Values::Int { min: 100, max: 3_600_000 }, "How often clients push metrics."),
    metrics(MATCH, "", Values::List, "Which clients are asked: selector=pattern, separated by commas; all of them hold."),
    metrics("metrics", "", Values::List, "Prefixes of the names of the metrics that are asked for; empty: none, *: all."),
];

/// Whether a subscription to clients' metrics may have this value.
///
/// # Errors
/// What is wrong, with Kafka's code and words.
pub(crate) fn check_client_metrics(setting: &Setting, value: &str) -> Result<(), Refusal> {
    match setting.name {
        INTERVAL_MS => match value.trim().parse::<i32>() {
            Ok(interval) if (100..=3_600_000).contains(&interval) => Ok(()),
            _ => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("Invalid value {value} for {INTERVAL_MS}, interval must be between 100 and 3600000 (1 hour)"),
            )),
        },
        MATCH => items(value).try_for_each(|pattern| {
            let known = pattern
                .split_once('=')
                .is_some_and(|(selector, pattern)| MATCHED.contains(&selector.trim()) && !pattern.trim().is_empty());
            match known {
                true => Ok(()),
                false => Err(Refusal::new(
                    ErrorCode::InvalidConfig,
                    format!("Illegal client matching pattern: {pattern}"),
                )),
            }
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names ascend, or the search misses some; every default is legal.
    #[test]
    fn the_tables_are_sorted_and_their_defaults_are_legal() {
        for table in [GROUP_SETTINGS, CLIENT_METRICS_SETTINGS] {
            assert!(table.is_sorted_by(|a, b| a.name < b.name));
            for setting in table {
                assert_eq!(setting.values.check(setting.name, setting.default), Ok(()));
            }
        }
    }

    /// What Apache Kafka 4.3.0 answered to the same values.
    #[test]
    fn values_are_checked_as_kafka_checks_them() {
        let check = |name: &str, value: &str| {
            let setting = super::super::settings::find_in(GROUP_SETTINGS, name).unwrap();
            setting.values.check(name, value)
        };
        assert_eq!(check("consumer.session.timeout.ms", "50000"), Ok(()));
        assert_eq!(check("share.auto.offset.reset", "by_duration:PT1H"), Ok(()));
        let refused = [
            (
                "consumer.session.timeout.ms",
                "5",
                "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
            ),
            (
                "share.auto.offset.reset",
                "foo",
                "Invalid value foo for configuration share.auto.offset.reset: Invalid value `foo` for configuration \
                 share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format \
                 'by_duration:<PnDTnHnMn.nS>'.",
            ),
            (
                "share.isolation.level",
                "foo",
                "Invalid value foo for configuration share.isolation.level: String must be one of: read_committed, \
                 read_uncommitted",
            ),
        ];
        for (name, value, wrong) in refused {
            assert_eq!(check(name, value), Err(wrong.to_owned()));
        }
        let of_metrics = |name: &str, value: &str| {
            let setting = super::super::settings::find_in(CLIENT_METRICS_SETTINGS, name).unwrap();
            check_client_metrics(setting, value).map_err(|refusal| (refusal.error, refusal.message.unwrap()))
        };
        assert_eq!(of_metrics("match", "client_id=x.*,client_source_port=1"), Ok(()));
        let interval = "Invalid value 5 for interval.ms, interval must be between 100 and 3600000 (1 hour)".to_owned();
        assert_eq!(
            of_metrics("interval.ms", "5"),
            Err((ErrorCode::InvalidRequest, interval))
        );
        for pattern in ["foo=5", "client_id"] {
            let wrong = format!("Illegal client matching pattern: {pattern}");
            assert_eq!(of_metrics("match", pattern), Err((ErrorCode::InvalidConfig, wrong)));
        }
    }
}
