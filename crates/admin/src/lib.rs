//! The admin commands `tailwater topics|groups|cluster …`, over the Kafka protocol.
//!
//! Owns: the commands, a small blocking Kafka client for them (`client`), and what is printed. Does not own: reading the
//! environment, the process' exit (both are `node`'s), the codec (`kafka`). Nothing but `cluster`'s list of nodes knows
//! Tailwater from any other Kafka.

mod arguments;
mod client;
mod cluster;
mod configs;
mod connection;
mod error;
mod groups;
mod offsets;
mod report;
mod topics;

use std::process::ExitCode;

use clap::Subcommand;

use arguments::Options;
use client::Client;
use error::Error;
use report::Report;

/// Where brokers are looked for if nothing says where.
const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";
const EXIT_USAGE: u8 = 2;

/// An admin command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists, describes, creates, changes and deletes topics.
    Topics(topics::Topics),
    /// Lists and describes consumer groups, resets and deletes their offsets.
    Groups(groups::Groups),
    /// Describes the cluster, its nodes, and its brokers' settings.
    Cluster(cluster::Cluster),
}

impl Command {
    /// Runs it to its end. `bootstrap` is where brokers are if the command line doesn't say.
    pub fn run(self, bootstrap: Option<String>) -> ExitCode {
        match self {
            Self::Topics(topics) => carry_out(&topics.options, bootstrap, |client| topics.action.run(client)),
            Self::Groups(groups) => carry_out(&groups.options, bootstrap, |client| groups.action.run(client)),
            Self::Cluster(cluster) => carry_out(&cluster.options, bootstrap, |client| cluster.action.run(client)),
        }
    }
}

fn carry_out(
    options: &Options,
    bootstrap: Option<String>,
    action: impl FnOnce(&mut Client) -> Result<Report, Error>,
) -> ExitCode {
    let bootstrap = options.bootstrap.clone().or(bootstrap);
    let bootstrap = bootstrap.unwrap_or_else(|| DEFAULT_BOOTSTRAP.to_owned());
    let mut client = Client::new(&bootstrap, options.timeout.as_duration());
    match action(&mut client) {
        Ok(report) => report.print(options.output),
        Err(error) => {
            report::complain(&error);
            match error {
                Error::Usage(_) => ExitCode::from(EXIT_USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
