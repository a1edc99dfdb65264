//! What holds for a setting, and where that comes from (docs/kafka.md rules 27 and 28).
//!
//! Owns: the order in which sources go, nearest first: the resource itself, this broker, all brokers, this node's
//! configuration, Kafka's default. Does not own: which settings there are (the tables).

use std::collections::BTreeMap;

use tailwater_kafka::Str;
use tailwater_kafka::messages::{DescribeConfigsResourceResult, DescribeConfigsSynonym};
use tailwater_rpc::controller::ConfigResource;
use tailwater_types::NodeId;

use super::broker_settings::{self, BrokerSetting, FixedSettings};
use super::settings::{Inherits, Setting};
use super::values::{Values, parse_bool};
use crate::view::Snapshot;

/// Kafka's numbers of where a value comes from.
pub(crate) const TOPIC: i8 = 1;
const BROKER: i8 = 2;
const ALL_BROKERS: i8 = 3;
const FIXED: i8 = 4;
const DEFAULT: i8 = 5;
pub(crate) const CLIENT_METRICS: i8 = 7;
pub(crate) const GROUP: i8 = 8;

/// Where this node looks for what is set.
pub(crate) struct Sources<'a> {
    pub view: &'a Snapshot,
    pub node: NodeId,
    pub fixed: &'a FixedSettings,
}

/// A value, its source, and everything that would hold in its place, nearest first, itself included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub value: Option<String>,
    pub source: i8,
    pub synonyms: Vec<(&'static str, String, i8)>,
}

impl Sources<'_> {
    /// A setting of a topic, a group or a subscription, of which `set` is what is set of it itself, which counts as `own`.
    pub fn of_resource(&self, setting: &Setting, set: Option<&BTreeMap<String, String>>, own: i8) -> Found {
        let mut synonyms = Vec::new();
        if let Some(value) = set.and_then(|set| set.get(setting.name)) {
            synonyms.push((setting.name, setting.values.shown(value), own));
        }
        if let Some(name) = setting.inherits.name() {
            let default = matches!(setting.inherits, Inherits::From(_)).then_some(setting.default);
            synonyms.extend(self.of_brokers(name, setting.values, default));
        }
        Found::nearest(synonyms, Some(setting.default))
    }

    /// A setting of this broker.
    pub fn of_broker(&self, setting: &BrokerSetting) -> Found {
        let synonyms = self.of_brokers(setting.name, setting.values, setting.default);
        Found::nearest(synonyms, setting.default)
    }

    /// What is set of all brokers.
    pub fn of_all_brokers(&self, setting: &BrokerSetting) -> Option<Found> {
        let synonyms = self.of_brokers(setting.name, setting.values, setting.default);
        let set: Vec<_> = synonyms
            .into_iter()
            .filter(|(.., source)| *source == ALL_BROKERS)
            .collect();
        (!set.is_empty()).then(|| Found::nearest(set, None))
    }

    /// Partitions of a topic that is made without a number.
    pub fn default_partitions(&self) -> i32 {
        let value = self.broker_value(broker_settings::NUM_PARTITIONS);
        value.and_then(|value| value.parse().ok()).unwrap_or(1)
    }

    /// Whether a topic is made when a client asks for it.
    pub fn creates_topics(&self) -> bool {
        let value = self.broker_value(broker_settings::AUTO_CREATE_TOPICS);
        value.is_none_or(|value| parse_bool(&value).unwrap_or(true))
    }

    fn broker_value(&self, name: &'static str) -> Option<String> {
        let found = self.of_brokers(name, Values::Text, None);
        found.into_iter().next().map(|(_, value, _)| value)
    }

    fn of_brokers(
        &self,
        name: &'static str,
        values: Values,
        default: Option<&'static str>,
    ) -> Vec<(&'static str, String, i8)> {
        let set = |resource, source| {
            let value = self.view.configs(&resource)?.get(name)?;
            Some((name, values.shown(value), source))
        };
        let nearer = [
            set(ConfigResource::Broker(Some(self.node)), BROKER),
            set(ConfigResource::Broker(None), ALL_BROKERS),
            self.fixed.get(name).map(|value| (name, value.to_owned(), FIXED)),
            default.map(|value| (name, value.to_owned(), DEFAULT)),
        ];
        nearer.into_iter().flatten().collect()
    }
}

impl Found {
    fn nearest(synonyms: Vec<(&'static str, String, i8)>, default: Option<&str>) -> Self {
        let (value, source) = match synonyms.first() {
            Some((_, value, source)) => (Some(value.clone()), *source),
            None => (default.map(str::to_owned), DEFAULT),
        };
        Self {
            value,
            source,
            synonyms,
        }
    }

    /// As DescribeConfigs shows it.
    pub fn show(
        self,
        name: &'static str,
        values: Values,
        is_read_only: bool,
        asked: Asked,
    ) -> DescribeConfigsResourceResult {
        let synonyms = self
            .synonyms
            .into_iter()
            .map(|(name, value, source)| DescribeConfigsSynonym {
                name: name.into(),
                value: Some(value.into()),
                source,
            });
        DescribeConfigsResourceResult {
            name: name.into(),
            value: self.value.map(Str::from),
            read_only: is_read_only,
            config_source: self.source,
            is_sensitive: false,
            synonyms: if asked.synonyms { synonyms.collect() } else { Vec::new() },
            config_type: values.config_type(),
            documentation: asked.documentation.map(Str::from_static),
        }
    }
}

/// What of an entry is asked for beside its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub synonyms: bool,
    pub documentation: Option<&'static str>,
}
