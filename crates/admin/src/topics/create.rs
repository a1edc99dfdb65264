//! `topics create` and `topics add-partitions`.

use clap::Args;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};

use super::each_once;
use crate::arguments::KeyValue;
use crate::client::{ANY_VERSION, Broker, Client, Patience};
use crate::error::Error;
use crate::report::Report;

/// Leaves the number to the broker.
const BROKERS_CHOICE: i32 = -1;

#[derive(Debug, Args)]
pub struct Create {
    /// The topics' names: letters, digits, '.', '_' and '-'.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// How many partitions each has; by default the cluster's choice.
    #[arg(long, short, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas each partition has; by default the cluster's choice. Tailwater has one: copies are its storage's.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting and its value. May be repeated.
    #[arg(long, short, value_name = "KEY=VALUE")]
    config: Vec<KeyValue>,
    /// A topic that exists is left as it is, and no failure.
    #[arg(long)]
    if_not_exists: bool,
    /// Only checks whether it would work.
    #[arg(long)]
    dry_run: bool,
}

impl Create {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let outcomes = client.settle(each_once(&self.names), Patience::All, |client, names| {
            let request = CreateTopicsRequest {
                topics: names.iter().map(|name| self.topic(name)).collect(),
                timeout_ms: client.timeout_ms(),
                validate_only: self.dry_run,
            };
            let response = client.ask(Broker::Controller, ANY_VERSION, &request)?;
            let outcome = |topic: CreatableTopicResult| {
                let done = match topic.error_code {
                    ErrorCode::TopicAlreadyExists if self.if_not_exists => Ok("exists already"),
                    error => Error::check(error, topic.error_message.as_deref()).map(|()| self.done()),
                };
                (topic.name.to_string(), done)
            };
            Ok(response.topics.into_iter().map(outcome).collect())
        })?;
        Ok(Report::of_changes("topic", &outcomes))
    }

    fn topic(&self, name: &str) -> CreatableTopic {
        let config = |entry: &KeyValue| CreatableTopicConfig {
            name: Str::from(entry.key.as_str()),
            value: Some(Str::from(entry.value.as_str())),
        };
        CreatableTopic {
            name: Str::from(name),
            num_partitions: self.partitions.unwrap_or(BROKERS_CHOICE),
            replication_factor: self.replication_factor.unwrap_or(-1),
            configs: self.config.iter().map(config).collect(),
            ..Default::default()
        }
    }

    fn done(&self) -> &'static str {
        if self.dry_run { "would be created" } else { "created" }
    }
}

#[derive(Debug, Args)]
pub struct AddPartitions {
    /// The topic.
    name: String,
    /// How many partitions it shall have, old and new together.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..))]
    total: i32,
    /// Only checks whether it would work.
    #[arg(long)]
    dry_run: bool,
}

impl AddPartitions {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let outcomes = client.settle([self.name.clone()], Patience::All, |client, _| {
            let request = CreatePartitionsRequest {
                topics: vec![CreatePartitionsTopic {
                    name: Str::from(self.name.as_str()),
                    count: self.total,
                    assignments: None,
                }],
                timeout_ms: client.timeout_ms(),
                validate_only: self.dry_run,
            };
            let response = client.ask(Broker::Controller, ANY_VERSION, &request)?;
            let outcome = |topic: CreatePartitionsTopicResult| {
                let done = Error::check(topic.error_code, topic.error_message.as_deref());
                (topic.name.to_string(), done.map(|()| self.done()))
            };
            Ok(response.results.into_iter().map(outcome).collect())
        })?;
        Ok(Report::of_changes("topic", &outcomes))
    }

    fn done(&self) -> String {
        let has = if self.dry_run { "would have" } else { "has" };
        format!("{has} {} partitions", self.total)
    }
}
