//! `topics delete`.

use clap::Args;
use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Versions};

use super::each_once;
use crate::client::{Broker, Client, Patience};
use crate::error::Error;
use crate::report::Report;

/// From here on a topic is named as the request below has it (Apache Kafka 2.8).
const DELETE_TOPICS: Versions = Versions { min: 6, max: i16::MAX };

#[derive(Debug, Args)]
pub struct Delete {
    /// Which topics.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// A topic that isn't there is no failure.
    #[arg(long)]
    if_exists: bool,
}

impl Delete {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let outcomes = client.settle(each_once(&self.names), Patience::All, |client, names| {
            let state = |name: &String| DeleteTopicState {
                name: Some(Str::from(name.as_str())),
                ..Default::default()
            };
            let request = DeleteTopicsRequest {
                topics: names.iter().map(state).collect(),
                timeout_ms: client.timeout_ms(),
                ..Default::default()
            };
            let response = client.ask(Broker::Controller, DELETE_TOPICS, &request)?;
            let outcome = |topic: DeletableTopicResult| {
                let name = topic.name.map_or_else(String::new, |name| name.to_string());
                let done = match topic.error_code {
                    ErrorCode::UnknownTopicOrPartition if self.if_exists => Ok("isn't there"),
                    error => Error::check(error, topic.error_message.as_deref()).map(|()| "deleted"),
                };
                (name, done)
            };
            Ok(response.responses.into_iter().map(outcome).collect())
        })?;
        Ok(Report::of_changes("topic", &outcomes))
    }
}
