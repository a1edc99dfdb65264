//! `tailwater cluster …`.

mod config;
mod describe;
mod nodes;

use clap::{Args, Subcommand};

use crate::arguments::Options;
use crate::client::Client;
use crate::error::Error;
use crate::report::Report;

const EXAMPLES: &str = "\
Examples:
  tailwater cluster nodes
  tailwater cluster describe --bootstrap kafka-1.example:9092,kafka-2.example:9092
  tailwater cluster config --broker 1
  tailwater cluster alter --set log.retention.ms=86400000     # of all brokers
  tailwater cluster nodes --output json | jq '.[] | select(.state != \"Active\")'";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Cluster {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Shows the cluster's id, its brokers and its features.
    Describe(describe::Describe),
    /// Shows each node of all tiers: its epoch, its state and its addresses.
    Nodes(nodes::Nodes),
    /// Shows settings of a broker, or of all brokers, with what they come from.
    Config(config::Config),
    /// Changes settings of a broker, or of all brokers; those that aren't named stay.
    Alter(config::Alter),
}

impl Action {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        match self {
            Self::Describe(describe) => describe.run(client),
            Self::Nodes(nodes) => nodes.run(client),
            Self::Config(config) => config.run(client),
            Self::Alter(alter) => alter.run(client),
        }
    }
}
