//! `cluster config` and `cluster alter`: brokers' settings.

use clap::Args;

use crate::arguments::Changes;
use crate::client::Client;
use crate::configs::{self, Resource};
use crate::error::Error;
use crate::report::Report;

#[derive(Debug, Args)]
pub struct Config {
    /// Which broker; by default what is set of all of them.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker: Option<i32>,
    /// Those that have their defaults too.
    #[arg(long)]
    all: bool,
}

impl Config {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let mut settings = configs::describe(client, &Resource::Broker(self.broker))?;
        settings.retain(|setting| self.all || !setting.is_default());
        let mut report = Report::new(&settings);
        configs::show(&mut report, &settings);
        Ok(report)
    }
}

#[derive(Debug, Args)]
pub struct Alter {
    /// Which broker; by default all of them.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker: Option<i32>,
    #[command(flatten)]
    changes: Changes,
    /// Only checks whether it would work.
    #[arg(long)]
    dry_run: bool,
}

impl Alter {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let name = self.broker.map_or_else(|| "all".to_owned(), |id| id.to_string());
        let outcomes = configs::alter(client, &Resource::Broker(self.broker), &self.changes, self.dry_run)?;
        let named = outcomes.into_iter().map(|(_, outcome)| (name.clone(), outcome));
        Ok(Report::of_changes("broker", &named.collect()))
    }
}
