//! The settings of a topic that key compaction obeys: what is set of the topic, else of its leader's broker, else of all
//! brokers, else Apache Kafka's default. Frontends check values before they are set; one that can't be read is as if unset.

use tailwater_format::metadata::{ConfigOwner, TopicRecord};
use tailwater_types::NodeId;

use super::{State, View};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleaningSettings {
    /// `min.cleanable.dirty.ratio`: how much of the bytes must be dirty, 0 to 1.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: younger records stay as they are.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: with older dirty records no ratio is waited for.
    pub max_lag_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
}

impl CleaningSettings {
    /// `None` if the topic isn't compacted.
    pub fn of(state: &State, topic: &TopicRecord, leader: Option<NodeId>) -> Option<Self> {
        let value = |name: &str, of_broker: &str| value(state, topic, leader, name, of_broker);
        let policy = value("cleanup.policy", "log.cleanup.policy")?;
        if !policy.split(',').any(|item| item.trim() == "compact") {
            return None;
        }
        let number = |name, of_broker| value(name, of_broker)?.trim().parse::<i64>().ok();
        let ratio = value("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio");
        Some(Self {
            min_dirty_ratio: ratio.and_then(|ratio| ratio.trim().parse().ok()).unwrap_or(0.5),
            min_lag_ms: number("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms").unwrap_or(0),
            max_lag_ms: number("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms").unwrap_or(i64::MAX),
            delete_retention_ms: number("delete.retention.ms", "log.cleaner.delete.retention.ms").unwrap_or(86_400_000),
        })
    }
}

fn value<'a>(
    state: &'a State,
    topic: &'a TopicRecord,
    leader: Option<NodeId>,
    name: &str,
    of_broker: &str,
) -> Option<&'a str> {
    let broker = |node: Option<NodeId>| {
        let number = state.index().config(&ConfigOwner::Broker(node))?;
        state.config(number)?.configs.get(of_broker)
    };
    let of_leader = || leader.and_then(|node| broker(Some(node)));
    let set = topic.configs.get(name).or_else(of_leader).or_else(|| broker(None));
    set.map(String::as_str)
}
