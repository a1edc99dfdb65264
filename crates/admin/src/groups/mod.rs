//! `tailwater groups …`.

mod delete;
mod describe;
mod list;
mod question;
mod reset;

use clap::{Args, Subcommand};

use crate::arguments::Options;
use crate::client::Client;
use crate::error::Error;
use crate::report::Report;

const EXAMPLES: &str = "\
Examples:
  tailwater groups list --state Stable
  tailwater groups describe billing
  tailwater groups reset-offsets billing --topic orders --to-earliest             # says what it would do
  tailwater groups reset-offsets billing --topic orders:0,1 --to-datetime 2026-01-31T08:00:00Z --execute
  tailwater groups delete-offsets billing --topic old-orders
  tailwater groups describe billing --output json | jq '.[].total_lag'

Each group that fails is named on stderr with Kafka's error; the exit code is then 1.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Groups {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists groups.
    List(list::List),
    /// Shows groups' members, what they are assigned, how far they have come and how far they are behind.
    Describe(describe::Describe),
    /// Deletes groups without members, with their offsets, without asking.
    Delete(delete::Delete),
    /// Moves the offsets of a group without members; says what it would do unless --execute is given.
    ResetOffsets(reset::ResetOffsets),
    /// Forgets a group's offsets of topics that it isn't subscribed to, without asking.
    DeleteOffsets(delete::DeleteOffsets),
}

impl Action {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        match self {
            Self::List(list) => list.run(client),
            Self::Describe(describe) => describe.run(client),
            Self::Delete(delete) => delete.run(client),
            Self::ResetOffsets(reset) => reset.run(client),
            Self::DeleteOffsets(delete) => delete.run(client),
        }
    }
}
