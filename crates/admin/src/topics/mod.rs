//! `tailwater topics …`.

mod alter;
mod create;
mod delete;
mod describe;
mod list;
mod offsets;
mod trim;

use clap::{Args, Subcommand};

use crate::arguments::Options;
use crate::client::{Client, Topic};
use crate::error::Error;
use crate::report::{Failures, Report};

const EXAMPLES: &str = "\
Examples:
  tailwater topics list
  tailwater topics create orders --partitions 12 --config retention.ms=86400000
  tailwater topics describe orders
  tailwater topics alter orders --set compression.type=zstd --unset retention.ms
  tailwater topics offsets orders --at 2026-01-31T08:00:00Z
  tailwater topics list --output json | jq -r '.[].name'
  tailwater topics delete orders --bootstrap kafka.example:9092

Each topic that fails is named on stderr with Kafka's error; the exit code is then 1.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Topics {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists topics.
    List(list::List),
    /// Shows topics' partitions: leaders, replicas, offsets, sizes; and the settings that are not defaults.
    Describe(describe::Describe),
    /// Creates topics.
    Create(create::Create),
    /// Deletes topics with everything in them, without asking.
    Delete(delete::Delete),
    /// Shows a topic's settings, with what they come from.
    Config(alter::Config),
    /// Changes settings of a topic; those that aren't named stay.
    Alter(alter::Alter),
    /// Gives a topic more partitions.
    AddPartitions(create::AddPartitions),
    /// Shows where partitions begin and end, or the offsets at a time.
    Offsets(offsets::Offsets),
    /// Deletes the records below an offset; says what it would do unless --execute is given.
    DeleteRecords(trim::DeleteRecords),
}

impl Action {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        match self {
            Self::List(list) => list.run(client),
            Self::Describe(describe) => describe.run(client),
            Self::Create(create) => create.run(client),
            Self::Delete(delete) => delete.run(client),
            Self::Config(config) => config.run(client),
            Self::Alter(alter) => alter.run(client),
            Self::AddPartitions(add) => add.run(client),
            Self::Offsets(offsets) => offsets.run(client),
            Self::DeleteRecords(trim) => trim.run(client),
        }
    }
}

/// The named topics, each once, or all but the internal ones if none is named; and those that there aren't.
fn chosen(client: &mut Client, names: &[String]) -> Result<(Vec<Topic>, Failures), Error> {
    let topics = match names {
        [] => client.topics(None)?,
        names => client.topics(Some(&each_once(names)))?,
    };
    let (mut found, missing) = Report::sift("topic", topics);
    found.retain(|topic| !names.is_empty() || !topic.internal);
    Ok((found, missing))
}

/// In their order.
fn each_once(names: &[String]) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    names.iter().filter(|name| seen.insert(*name)).cloned().collect()
}
