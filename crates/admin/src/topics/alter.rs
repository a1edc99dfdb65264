//! `topics config` and `topics alter`.

use clap::Args;

use crate::arguments::Changes;
use crate::client::Client;
use crate::configs::{self, Resource};
use crate::error::Error;
use crate::report::Report;

#[derive(Debug, Args)]
pub struct Config {
    /// The topic.
    name: String,
    /// Those that have their defaults too.
    #[arg(long)]
    all: bool,
}

impl Config {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let settings = configs::describe(client, &Resource::Topic(self.name.clone()));
        let mut settings = match settings {
            Ok(settings) => settings,
            Err(error @ Error::Refused { .. }) => {
                let mut report = Report::new(&Vec::<i32>::new());
                report.failure(format!("topic {}", self.name), &error);
                return Ok(report);
            }
            Err(error) => return Err(error),
        };
        settings.retain(|setting| self.all || !setting.is_default());
        let mut report = Report::new(&settings);
        configs::show(&mut report, &settings);
        Ok(report)
    }
}

#[derive(Debug, Args)]
pub struct Alter {
    /// The topic.
    name: String,
    #[command(flatten)]
    changes: Changes,
    /// Only checks whether it would work.
    #[arg(long)]
    dry_run: bool,
}

impl Alter {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let resource = Resource::Topic(self.name.clone());
        let outcomes = configs::alter(client, &resource, &self.changes, self.dry_run)?;
        let named = outcomes.into_iter().map(|(_, outcome)| (self.name.clone(), outcome));
        Ok(Report::of_changes("topic", &named.collect()))
    }
}
