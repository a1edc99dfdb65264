//! AlterConfigs and IncrementalAlterConfigs (docs/kafka.md rule 28).
//!
//! Owns: what is refused before the controller is asked, in Kafka's words. Does not own: how changes are applied; the
//! controller does that on its newest state, each resource by itself, all of its changes or none.

use std::collections::{BTreeMap, BTreeSet};

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_rpc::controller::{AlterConfigs, ConfigChange, ConfigChanges, ConfigOp, ConfigResource as Resource};
use tailwater_types::NodeId;

use super::group_settings::{self, CLIENT_METRICS_SETTINGS, GROUP_SETTINGS};
use super::refusal::Refusal;
use super::settings::{self, SETTINGS, Setting};
use super::values::{Values, items};
use super::{broker_settings, resource};
use crate::error_codes;
use crate::metadata::names;
use crate::server::Handlers;
use crate::view::Snapshot;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// One resource of a request of either kind.
struct Asked {
    resource_type: i8,
    name: Str,
    configs: Vec<IncrementalAlterableConfig>,
    /// Whether everything that isn't named is unset.
    replaces: bool,
}

pub(crate) async fn alter_configs(handlers: &Handlers, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let asked = request.resources.into_iter().map(|asked| Asked {
        resource_type: asked.resource_type,
        name: asked.resource_name,
        configs: asked
            .configs
            .into_iter()
            .map(|config| IncrementalAlterableConfig {
                name: config.name,
                config_operation: SET,
                value: config.value,
            })
            .collect(),
        replaces: true,
    });
    AlterConfigsResponse {
        throttle_time_ms: 0,
        responses: alter(handlers, asked.collect(), request.validate_only).await,
    }
}

pub(crate) async fn incremental_alter_configs(
    handlers: &Handlers,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let asked = request.resources.into_iter().map(|asked| Asked {
        resource_type: asked.resource_type,
        name: asked.resource_name,
        configs: asked.configs,
        replaces: false,
    });
    IncrementalAlterConfigsResponse {
        throttle_time_ms: 0,
        responses: alter(handlers, asked.collect(), request.validate_only).await,
    }
}

async fn alter(handlers: &Handlers, asked: Vec<Asked>, validate_only: bool) -> Vec<AlterConfigsResourceResponse> {
    let mut seen: BTreeMap<(i8, Str), usize> = BTreeMap::new();
    for asked in &asked {
        *seen.entry((asked.resource_type, asked.name.clone())).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(asked.len());
    for asked in asked {
        let once = seen.get(&(asked.resource_type, asked.name.clone())) == Some(&1);
        let altered = match once {
            true => alter_one(handlers, &asked, validate_only).await,
            false => Err(invalid("Each resource must appear at most once.")),
        };
        let refused = altered.err().unwrap_or_else(|| Refusal::bare(ErrorCode::None));
        responses.push(AlterConfigsResourceResponse {
            error_code: refused.error,
            error_message: refused.message.map(Str::from),
            resource_type: asked.resource_type,
            resource_name: asked.name,
        });
    }
    responses
}

async fn alter_one(handlers: &Handlers, asked: &Asked, validate_only: bool) -> Result<(), Refusal> {
    let request = {
        let view = handlers.view().snapshot();
        let resource = check_form(asked).and_then(|()| find_resource(&view, asked))?;
        let changes = check_changes(&view, &resource, asked)?;
        AlterConfigs {
            resource,
            changes,
            validate_only,
        }
    };
    let altered = handlers.creator().alter_configs(request).await;
    altered.map_err(|error| Refusal::new(error_codes::of_alter_configs(&error), error.to_string()))
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

/// What is wrong with the request itself.
fn check_form(asked: &Asked) -> Result<(), Refusal> {
    let names: BTreeSet<&str> = asked.configs.iter().map(|config| config.name.as_str()).collect();
    if names.len() < asked.configs.len() {
        return Err(invalid("Error due to duplicate config keys"));
    }
    let nulls = asked
        .configs
        .iter()
        .filter(|config| config.value.is_none() && config.config_operation != DELETE);
    let nulls: Vec<&str> = nulls.map(|config| config.name.as_str()).collect();
    match nulls.is_empty() {
        true => Ok(()),
        false => Err(invalid(format!("Null value not supported for : {}", nulls.join(", ")))),
    }
}

fn find_resource(view: &Snapshot, asked: &Asked) -> Result<Resource, Refusal> {
    let name = asked.name.as_str();
    match asked.resource_type {
        resource::TOPIC if name.is_empty() => Err(invalid("Default topic resources are not allowed.")),
        resource::TOPIC => {
            let checked = names::check(name);
            checked.map_err(|wrong| Refusal::new(ErrorCode::InvalidTopicException, wrong))?;
            let missing = || {
                let message = format!("The topic '{name}' does not exist.");
                Refusal::new(ErrorCode::UnknownTopicOrPartition, message)
            };
            view.topic_named(name)
                .map(|topic| Resource::Topic(topic.info.id))
                .ok_or_else(missing)
        }
        resource::BROKER if name.is_empty() => Ok(Resource::Broker(None)),
        resource::BROKER => {
            let node = name.parse::<u32>().map(NodeId);
            let node = node.map_err(|_| invalid(format!("Node id must be an integer, but it is: {name}")))?;
            match view.frontends().any(|frontend| frontend.node == node) {
                true => Ok(Resource::Broker(Some(node))),
                false => Err(invalid(format!(
                    "Unexpected broker id, received {node}, which isn't registered"
                ))),
            }
        }
        resource::GROUP if name.is_empty() => Err(invalid("Default group resources are not allowed.")),
        resource::GROUP => Ok(Resource::Group(name.to_owned())),
        resource::CLIENT_METRICS if name.is_empty() => {
            Err(invalid("Client metrics subscription name must not be empty"))
        }
        resource::CLIENT_METRICS => Ok(Resource::ClientMetrics(name.to_owned())),
        other => Err(invalid(format!("Unknown resource type {other}"))),
    }
}

/// The changes for the controller, each of them legal, and all of them together as far as this node knows.
fn check_changes(view: &Snapshot, resource: &Resource, asked: &Asked) -> Result<ConfigChanges, Refusal> {
    if matches!(resource, Resource::Broker(_)) {
        check_dynamic(asked)?;
    }
    let changes = match asked.replaces {
        true => {
            let set = asked.configs.iter().map(|config| {
                let value = config.value.as_deref().unwrap_or_default();
                Kind::of(resource, &config.name)?.check(&config.name, value)?;
                Ok((config.name.to_string(), value.to_owned()))
            });
            ConfigChanges::Replace(set.collect::<Result<_, Refusal>>()?)
        }
        false => {
            let changes = asked.configs.iter().map(|config| {
                let op = check_op(resource, config)?;
                let name = config.name.to_string();
                Ok(ConfigChange { name, op })
            });
            ConfigChanges::Incremental(changes.collect::<Result<_, Refusal>>()?)
        }
    };
    if let Resource::Topic(id) = resource
        && let Some(topic) = view.topic(*id)
    {
        let together = settings::check_together(&changes.applied_to(&topic.info.configs));
        together.map_err(|wrong| Refusal::new(ErrorCode::InvalidConfig, wrong))?;
    }
    Ok(changes)
}

/// Settings of brokers that only their configuration says are refused all at once, whatever is to be done to them.
fn check_dynamic(asked: &Asked) -> Result<(), Refusal> {
    let known = broker_settings::all();
    let is_fixed = |name: &&str| known.get(name).is_some_and(|setting| setting.is_read_only);
    let fixed: Vec<&str> = asked
        .configs
        .iter()
        .map(|config| config.name.as_str())
        .filter(is_fixed)
        .collect();
    match fixed.is_empty() {
        true => Ok(()),
        false => Err(invalid(format!(
            "Cannot update these configs dynamically: [{}]",
            fixed.join(", ")
        ))),
    }
}

fn check_op(resource: &Resource, config: &IncrementalAlterableConfig) -> Result<ConfigOp, Refusal> {
    let name = config.name.as_str();
    let value = config.value.as_deref().unwrap_or_default();
    let verb = match config.config_operation {
        DELETE => return Ok(ConfigOp::Delete),
        SET => {
            Kind::of(resource, name)?.check(name, value)?;
            return Ok(ConfigOp::Set(value.to_owned()));
        }
        APPEND => "append",
        SUBTRACT => "subtract",
        other => return Err(invalid(format!("Unknown config operation {other} of {name}"))),
    };
    let kind = Kind::of(resource, name)?;
    if !kind.values.is_list() {
        let message = match resource {
            Resource::Broker(_) => format!("Config value {verb} is not allowed for config key: {name}"),
            _ => format!(
                "Can't {} to key {name} because its type is not LIST.",
                verb.to_uppercase()
            ),
        };
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    }
    let items: Vec<String> = items(value).map(str::to_owned).collect();
    let unset = kind.default.to_owned();
    if config.config_operation == SUBTRACT {
        return Ok(ConfigOp::Subtract { items, unset });
    }
    kind.check(name, value)?;
    Ok(ConfigOp::Append { items, unset })
}

/// One setting, whatever it is one of.
struct Kind {
    default: &'static str,
    values: Values,
    /// Of a subscription to clients' metrics, which Kafka checks in another way.
    metrics: Option<&'static Setting>,
    /// Kafka's code for a value that isn't legal.
    error: ErrorCode,
}

impl Kind {
    /// # Errors
    /// There is no such setting.
    fn of(resource: &Resource, name: &str) -> Result<Self, Refusal> {
        let unknown =
            |what: &str| Refusal::new(ErrorCode::InvalidConfig, format!("Unknown {what} config name: {name}"));
        let of_table = |setting: &'static Setting| Self {
            default: setting.default,
            values: setting.values,
            metrics: None,
            error: ErrorCode::InvalidConfig,
        };
        match resource {
            Resource::Topic(_) => settings::find_in(SETTINGS, name)
                .map(of_table)
                .ok_or_else(|| unknown("topic")),
            Resource::Group(_) => settings::find_in(GROUP_SETTINGS, name)
                .map(of_table)
                .ok_or_else(|| unknown("group")),
            Resource::ClientMetrics(_) => {
                let setting = settings::find_in(CLIENT_METRICS_SETTINGS, name);
                let missing = || invalid(format!("Unknown client metrics configuration: {name}"));
                let setting = setting.ok_or_else(missing)?;
                Ok(Self {
                    metrics: Some(setting),
                    ..of_table(setting)
                })
            }
            Resource::Broker(_) => {
                let setting = broker_settings::all().remove(name).ok_or_else(|| unknown("broker"))?;
                Ok(Self {
                    default: setting.default.unwrap_or_default(),
                    values: setting.values,
                    metrics: None,
                    error: ErrorCode::InvalidRequest,
                })
            }
        }
    }

    fn check(&self, name: &str, value: &str) -> Result<(), Refusal> {
        match self.metrics {
            Some(setting) => group_settings::check_client_metrics(setting, value),
            None => {
                let checked = self.values.check(name, value);
                checked.map_err(|wrong| Refusal::new(self.error, wrong))
            }
        }
    }
}
