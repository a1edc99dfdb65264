//! DescribeConfigs and ListConfigResources (docs/kafka.md rule 28).
//!
//! Every setting of a resource is answered, also where nothing is set, with its type and its source.

use std::collections::BTreeSet;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_rpc::controller::ConfigResource as Resource;

use super::group_settings::{CLIENT_METRICS_SETTINGS, GROUP_SETTINGS};
use super::refusal::Refusal;
use super::settings::{SETTINGS, Setting};
use super::sources::{Asked, CLIENT_METRICS, GROUP, Sources, TOPIC};
use super::{broker_settings, resource};
use crate::metadata::names;
use crate::server::{Handlers, RequestContext};
use crate::view::Snapshot;

type Entries = Vec<DescribeConfigsResourceResult>;

pub(crate) fn describe_configs(handlers: &Handlers, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let view = handlers.view().snapshot();
    let (synonyms, documents) = (request.include_synonyms, request.include_documentation);
    let results = request.resources.into_iter().map(|asked| {
        let describe = Describe {
            view: &view,
            sources: handlers.sources(&view),
            keys: asked.configuration_keys.filter(|keys| !keys.is_empty()),
            synonyms,
            documents,
        };
        let described = describe.resource(asked.resource_type, &asked.resource_name);
        // Kafka's clients show an empty text, not null, where nothing is wrong.
        let (error_code, message, configs) = match described {
            Ok(configs) => (ErrorCode::None, String::new(), configs),
            Err(refused) => (refused.error, refused.message.unwrap_or_default(), Vec::new()),
        };
        DescribeConfigsResult {
            error_code,
            error_message: Some(message.into()),
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            configs,
        }
    });
    DescribeConfigsResponse {
        throttle_time_ms: 0,
        results: results.collect(),
    }
}

struct Describe<'a> {
    view: &'a Snapshot,
    sources: Sources<'a>,
    /// `None`: all of them.
    keys: Option<Vec<Str>>,
    synonyms: bool,
    documents: bool,
}

impl Describe<'_> {
    fn resource(&self, resource_type: i8, name: &str) -> Result<Entries, Refusal> {
        let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        match resource_type {
            resource::TOPIC => {
                let checked = names::check(name);
                checked.map_err(|wrong| Refusal::new(ErrorCode::InvalidTopicException, wrong))?;
                match self.view.topic_named(name) {
                    Some(topic) => Ok(self.table(SETTINGS, Some(&topic.info.configs), TOPIC)),
                    None => Err(Refusal::bare(ErrorCode::UnknownTopicOrPartition)),
                }
            }
            resource::BROKER if name.is_empty() => Ok(self.brokers(true)),
            resource::BROKER => match name.parse::<u32>() {
                Ok(id) if id == self.sources.node.0 => Ok(self.brokers(false)),
                Ok(id) => invalid(format!(
                    "Unexpected broker id, expected {} or empty string, but received {id}",
                    self.sources.node
                )),
                Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
            },
            resource::CLIENT_METRICS if name.is_empty() => {
                invalid("Client metrics subscription name must not be empty".to_owned())
            }
            resource::CLIENT_METRICS => {
                let set = self.view.configs(&Resource::ClientMetrics(name.to_owned()));
                Ok(self.table(CLIENT_METRICS_SETTINGS, set, CLIENT_METRICS))
            }
            resource::GROUP if name.is_empty() => invalid("Group name must not be empty".to_owned()),
            resource::GROUP => {
                let set = self.view.configs(&Resource::Group(name.to_owned()));
                Ok(self.table(GROUP_SETTINGS, set, GROUP))
            }
            other => invalid(format!("Unsupported resource type: {other}")),
        }
    }

    fn table(
        &self,
        table: &'static [Setting],
        set: Option<&std::collections::BTreeMap<String, String>>,
        own: i8,
    ) -> Entries {
        let asked = table.iter().filter(|setting| self.asks_for(setting.name));
        let entry = |setting: &Setting| {
            let found = self.sources.of_resource(setting, set, own);
            found.show(setting.name, setting.values, false, self.asked(setting.doc))
        };
        asked.map(entry).collect()
    }

    /// Of this broker, or what is set of all of them.
    fn brokers(&self, all: bool) -> Entries {
        let settings = broker_settings::all();
        let asked = settings.values().filter(|setting| self.asks_for(setting.name));
        let entries = asked.filter_map(|setting| {
            let found = match all {
                true => self.sources.of_all_brokers(setting)?,
                false => self.sources.of_broker(setting),
            };
            Some(found.show(
                setting.name,
                setting.values,
                setting.is_read_only,
                self.asked(setting.doc),
            ))
        });
        entries.collect()
    }

    fn asks_for(&self, name: &str) -> bool {
        self.keys
            .as_ref()
            .is_none_or(|keys| keys.iter().any(|key| **key == *name))
    }

    fn asked(&self, doc: &'static str) -> Asked {
        Asked {
            synonyms: self.synonyms,
            documentation: self.documents.then_some(doc),
        }
    }
}

/// Everything that has settings, or may have.
pub(crate) fn list_config_resources(
    handlers: &Handlers,
    context: &RequestContext,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let served = [
        resource::TOPIC,
        resource::BROKER,
        resource::CLIENT_METRICS,
        resource::GROUP,
    ];
    // Version 0 asks for subscriptions to clients' metrics only.
    let asked: BTreeSet<i8> = match context.version {
        0 => [resource::CLIENT_METRICS].into(),
        _ if request.resource_types.is_empty() => served.into(),
        _ => request.resource_types.into_iter().collect(),
    };
    if asked
        .iter()
        .any(|asked| !served.contains(asked) && *asked != resource::BROKER_LOGGER)
    {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion,
            ..Default::default()
        };
    }
    let view = handlers.view().snapshot();
    let mut config_resources = Vec::new();
    let mut add = |resource_type: i8, name: &str| {
        if asked.contains(&resource_type) {
            config_resources.push(ConfigResource {
                resource_name: name.into(),
                resource_type,
            });
        }
    };
    view.topics().for_each(|topic| add(resource::TOPIC, &topic.name));
    view.frontends()
        .for_each(|node| add(resource::BROKER, &node.node.to_string()));
    for resource in view.configured() {
        match resource {
            Resource::Group(name) => add(resource::GROUP, name),
            Resource::ClientMetrics(name) => add(resource::CLIENT_METRICS, name),
            Resource::Topic(_) | Resource::Broker(_) => {}
        }
    }
    ListConfigResourcesResponse {
        config_resources,
        ..Default::default()
    }
}
