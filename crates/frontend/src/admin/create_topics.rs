//! CreateTopics (docs/kafka.md rule 27).
//!
//! Owns: what is refused before the controller is asked, in Kafka's words, and how a new topic is shown. Any replication
//! factor is taken and shown as one replica: copies are the WAL's and the object store's. A new topic's settings are all
//! in the answer, each with its source, or the Java client throws.

use std::collections::BTreeMap;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;
use tailwater_rpc::controller::NewTopic;

use super::assignments;
use super::refusal::Refusal;
use super::settings::{self, SETTINGS};
use super::sources::{Asked, Sources, TOPIC};
use crate::error_codes;
use crate::metadata::names;
use crate::server::Handlers;
use crate::view::Snapshot;

/// What one request may make at most, as in Apache Kafka 4.3.
const MAX_PARTITIONS: i64 = 10_000;
const SHOWN_REPLICAS: i16 = 1;

fn refusal(error: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal::new(error, message)
}

pub(crate) async fn create_topics(handlers: &Handlers, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = handlers.clock().now() + timeout;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut partitions_left = MAX_PARTITIONS;
    for (at, asked) in request.topics.iter().enumerate() {
        let is_named = |other: &CreatableTopic| other.name == asked.name;
        if request.topics[..at].iter().any(is_named) {
            continue;
        }
        let checked = match request.topics[at + 1..].iter().any(is_named) {
            true => Err(refusal(ErrorCode::InvalidRequest, "Duplicate topic name.")),
            false => {
                let view = handlers.view().snapshot();
                check(&view, asked, handlers.sources(&view).default_partitions())
            }
        };
        let checked = checked.and_then(|new| {
            partitions_left -= i64::from(new.partitions);
            match partitions_left {
                ..0 => Err(refusal(
                    ErrorCode::PolicyViolation,
                    "Excessively large number of partitions per request.",
                )),
                _ => Ok(new),
            }
        });
        let made = match checked {
            Ok(new) => {
                let new = NewTopic {
                    validate_only: request.validate_only,
                    ..new
                };
                let made = handlers.clock().timeout_at(deadline, create(handlers, new)).await;
                made.unwrap_or_else(|_late| Err(refusal(ErrorCode::RequestTimedOut, "The controller took too long.")))
            }
            Err(refused) => Err(refused),
        };
        topics.push(made.unwrap_or_else(|Refusal { error, message }| CreatableTopicResult {
            name: asked.name.clone(),
            error_code: error,
            error_message: message.map(Into::into),
            ..Default::default()
        }));
    }
    CreateTopicsResponse {
        throttle_time_ms: 0,
        topics,
    }
}

async fn create(handlers: &Handlers, new: NewTopic) -> Result<CreatableTopicResult, Refusal> {
    let made = handlers.creator().create(new.clone()).await;
    let created = made.map_err(|error| refusal(error_codes::of_catalog(&error), error.to_string()))?;
    Ok(CreatableTopicResult {
        name: new.name.as_str().into(),
        topic_id: created.id.0,
        num_partitions: new.partitions,
        replication_factor: SHOWN_REPLICAS,
        configs: Some(show(&handlers.sources(&handlers.view().snapshot()), &new.configs)),
        ..Default::default()
    })
}

/// Every setting of a topic of which these are set.
fn show(sources: &Sources<'_>, configs: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let asked = Asked {
        synonyms: false,
        documentation: None,
    };
    let entries = SETTINGS.iter().map(|setting| {
        let found = sources.of_resource(setting, Some(configs), TOPIC);
        let shown = found.show(setting.name, setting.values, false, asked);
        CreatableTopicConfigs {
            name: shown.name,
            value: shown.value,
            read_only: shown.read_only,
            config_source: shown.config_source,
            is_sensitive: shown.is_sensitive,
        }
    });
    entries.collect()
}

fn check(view: &Snapshot, asked: &CreatableTopic, default_partitions: i32) -> Result<NewTopic, Refusal> {
    names::check(&asked.name).map_err(|wrong| refusal(ErrorCode::InvalidTopicException, wrong))?;
    if view.topic_named(&asked.name).is_some() {
        let message = format!("Topic '{}' already exists.", asked.name);
        return Err(refusal(ErrorCode::TopicAlreadyExists, message));
    }
    if let Some(other) = names::collision(&asked.name, view) {
        let message = format!("Topic '{}' collides with existing topic: {other}", asked.name);
        return Err(refusal(ErrorCode::InvalidTopicException, message));
    }
    let partitions = match asked.assignments.is_empty() {
        true => check_counts(asked, default_partitions)?,
        false => check_assignments(view, asked)?,
    };
    Ok(NewTopic {
        name: asked.name.as_str().to_owned(),
        partitions,
        configs: check_configs(asked)?,
        internal: names::is_internal(&asked.name),
        validate_only: false,
    })
}

fn check_counts(asked: &CreatableTopic, default_partitions: i32) -> Result<i32, Refusal> {
    if asked.replication_factor < -1 || asked.replication_factor == 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(refusal(ErrorCode::InvalidReplicationFactor, message));
    }
    match asked.num_partitions {
        -1 => Ok(default_partitions),
        ..=0 => {
            let message = "Number of partitions was set to an invalid non-positive value.";
            Err(refusal(ErrorCode::InvalidPartitions, message))
        }
        partitions => Ok(partitions),
    }
}

/// Placement is the controller's; an assignment only says how many partitions there are.
fn check_assignments(view: &Snapshot, asked: &CreatableTopic) -> Result<i32, Refusal> {
    let invalid = |message: &str| Err(refusal(ErrorCode::InvalidRequest, message));
    if asked.replication_factor != -1 {
        return invalid("A manual partition assignment was specified, but replication factor was not set to -1.");
    }
    if asked.num_partitions != -1 {
        return invalid("A manual partition assignment was specified, but numPartitions was not set to -1.");
    }
    let mut indexes: Vec<i32> = asked
        .assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    indexes.sort_unstable();
    let is_consecutive = indexes.iter().zip(0..).all(|(index, expected)| *index == expected);
    if !is_consecutive {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return Err(refusal(ErrorCode::InvalidReplicaAssignment, message));
    }
    for assignment in &asked.assignments {
        assignments::check(view, &assignment.broker_ids)?;
    }
    i32::try_from(indexes.len()).map_err(|_| refusal(ErrorCode::InvalidPartitions, "Too many partitions."))
}

fn check_configs(asked: &CreatableTopic) -> Result<BTreeMap<String, String>, Refusal> {
    let mut configs = BTreeMap::new();
    for config in &asked.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for topic configs: {}", config.name);
            return Err(refusal(ErrorCode::InvalidConfig, message));
        };
        configs.insert(config.name.as_str().to_owned(), value.as_str().to_owned());
    }
    settings::check(&configs).map_err(|wrong| refusal(ErrorCode::InvalidConfig, wrong))?;
    Ok(configs)
}
