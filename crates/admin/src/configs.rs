//! Settings of topics and brokers: what holds and why, and changes of it (DescribeConfigs, IncrementalAlterConfigs).

use serde::Serialize;
use tailwater_kafka::Str;
use tailwater_kafka::messages::*;

use crate::arguments::Changes;
use crate::client::{ANY_VERSION, Broker, Client, Outcomes, Patience};
use crate::error::Error;
use crate::report::{Report, Table, cell};

/// Kafka's numbers of what settings are about.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Kafka's numbers of changes.
const SET: i8 = 0;
const DELETE: i8 = 1;
const DEFAULT: &str = "default";

/// What settings are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Topic(String),
    /// `None`: the default of all of them.
    Broker(Option<i32>),
}

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: String,
    /// `None`: nothing, or a secret.
    pub value: Option<String>,
    pub source: &'static str,
    pub read_only: bool,
    pub sensitive: bool,
}

impl Setting {
    pub fn is_default(&self) -> bool {
        self.source == DEFAULT
    }
}

impl Resource {
    fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => TOPIC,
            Self::Broker(_) => BROKER,
        }
    }

    /// As requests carry it.
    fn name(&self) -> String {
        match self {
            Self::Topic(name) => name.clone(),
            Self::Broker(id) => cell(*id),
        }
    }

    /// Only a broker itself knows how it is configured.
    fn asked_at(&self) -> Broker {
        match self {
            Self::Topic(_) | Self::Broker(None) => Broker::Any,
            Self::Broker(Some(id)) => Broker::Id(*id),
        }
    }
}

/// What holds for a resource, in the order of the settings' names.
///
/// # Errors
/// A broker's refusal, or that it can't be reached.
pub fn describe(client: &mut Client, resource: &Resource) -> Result<Vec<Setting>, Error> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: resource.kind(),
            resource_name: resource.name().into(),
            configuration_keys: None,
        }],
        ..Default::default()
    };
    let response = client.ask(resource.asked_at(), ANY_VERSION, &request)?;
    let Some(result) = response.results.into_iter().next() else {
        return Err(Error::Absent("the broker's answer doesn't mention it".to_owned()));
    };
    Error::check(result.error_code, result.error_message.as_deref())?;
    let setting = |entry: DescribeConfigsResourceResult| Setting {
        name: entry.name.to_string(),
        value: entry.value.map(|value| value.to_string()),
        source: source(entry.config_source),
        read_only: entry.read_only,
        sensitive: entry.is_sensitive,
    };
    let mut settings: Vec<_> = result.configs.into_iter().map(setting).collect();
    settings.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(settings)
}

/// Changes what is named and nothing else; what was done, or would be.
///
/// # Errors
/// A broker's refusal, or that it can't be reached.
pub fn alter(
    client: &mut Client,
    resource: &Resource,
    changes: &Changes,
    dry_run: bool,
) -> Result<Outcomes<Resource, &'static str>, Error> {
    let set = changes.set.iter().map(|entry| IncrementalAlterableConfig {
        name: Str::from(entry.key.as_str()),
        config_operation: SET,
        value: Some(Str::from(entry.value.as_str())),
    });
    let unset = changes.unset.iter().map(|key| IncrementalAlterableConfig {
        name: Str::from(key.as_str()),
        config_operation: DELETE,
        value: None,
    });
    let configs: Vec<_> = set.chain(unset).collect();
    if configs.is_empty() {
        return Err(Error::Usage(
            "nothing to change: --set KEY=VALUE or --unset KEY is needed".to_owned(),
        ));
    }
    let broker = match resource {
        Resource::Broker(Some(id)) => Broker::Id(*id),
        _ => Broker::Controller,
    };
    client.settle([resource.clone()], Patience::All, |client, _| {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsResource {
                resource_type: resource.kind(),
                resource_name: resource.name().into(),
                configs: configs.clone(),
            }],
            validate_only: dry_run,
        };
        let response = client.ask(broker, ANY_VERSION, &request)?;
        let answered = response.responses.into_iter().map(|answer| {
            let checked = Error::check(answer.error_code, answer.error_message.as_deref());
            let done = if dry_run { "would be changed" } else { "changed" };
            (resource.clone(), checked.map(|()| done))
        });
        Ok(answered.collect())
    })
}

/// Adds settings as a table, all of them or those that are not defaults.
pub fn show(report: &mut Report, settings: &[Setting]) {
    let mut table = Table::new(&["SETTING", "VALUE", "SOURCE"]);
    for setting in settings {
        let value = match (&setting.value, setting.sensitive) {
            (None, true) => Some("(secret)"),
            (value, _) => value.as_deref(),
        };
        table.row(vec![setting.name.clone(), cell(value), setting.source.to_owned()]);
    }
    match table.is_empty() {
        true => report.line("every setting has its default"),
        false => report.table(table),
    }
}

/// Kafka's numbers of where a value comes from.
fn source(number: i8) -> &'static str {
    match number {
        1 => "topic",
        2 => "broker",
        3 => "all_brokers",
        4 => "configuration",
        5 => DEFAULT,
        6 => "broker_logger",
        7 => "client_metrics",
        8 => "group",
        _ => "unknown",
    }
}
