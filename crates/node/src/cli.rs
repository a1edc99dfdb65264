//! The command line, and what the process says and exits with when it can't start.
//!
//! Exit codes: 0 after an orderly stop, 1 for a failure, 2 for a wrong command line or configuration, 70 when fenced.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::layers::{self, ConfigError, Layers, Setting};
use crate::{logging, standalone};

const EXIT_USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "tailwater",
    version,
    about = "A streaming log that speaks the Kafka protocol and keeps its data in object storage"
)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Runs all four tiers in one process.
    Standalone(Standalone),
}

/// Each of these wins over the environment, which wins over the file.
#[derive(Debug, Args)]
struct Standalone {
    /// Where the process keeps its metadata, its journal and, by default, its objects.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where Kafka clients connect to.
    #[arg(long, value_name = "HOST:PORT")]
    kafka_listen: Option<String>,
    /// What Kafka clients are told to connect to; by default the listen address, for a wildcard the host's name.
    #[arg(long, value_name = "HOST:PORT")]
    kafka_advertise: Option<String>,
    /// Where /healthz, /readyz and /metrics are.
    #[arg(long, value_name = "HOST:PORT")]
    http_listen: Option<String>,
    /// Where objects are kept: file:///PATH or s3://BUCKET/PREFIX; by default DIR/objects.
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    /// What is logged: error, warn, info, debug or trace, or a filter as in "info,tailwater_wal=debug".
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Any setting by its key, as in --set wal.capacity=4GiB. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A TOML file of settings.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints the settings in force, with their defaults, and exits.
    #[arg(long)]
    dump_config: bool,
}

impl Standalone {
    /// The flags as settings, in the order in which they apply.
    fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let named = [
            ("--data-dir", "node.data_dir", &self.data_dir),
            ("--kafka-listen", "frontend.server.listen", &self.kafka_listen),
            ("--kafka-advertise", "frontend.server.advertise", &self.kafka_advertise),
            ("--http-listen", "http.listen", &self.http_listen),
            ("--object-store", "storage.url", &self.object_store),
            ("--log", "log.filter", &self.log),
        ];
        let set = self.set.iter().map(|text| Setting::from_key_value("flag --set", text));
        let named = named.iter().filter_map(|&(flag, key, value)| {
            value
                .as_ref()
                .map(|value| Ok(Setting::new(&format!("flag {flag}"), key, value)))
        });
        set.chain(named).collect()
    }
}

/// Runs the process to its end.
pub fn main() -> ExitCode {
    crate::allocator::configure();
    let Role::Standalone(flags) = Cli::parse().role;
    let config = match configure(&flags) {
        Ok(config) => config,
        Err(error) => return refuse(&error, EXIT_USAGE),
    };
    if flags.dump_config {
        print!("{}", config.to_toml());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = logging::start(&config.log) {
        return refuse(&error, EXIT_USAGE);
    }
    match standalone::run(config) {
        Ok(code) => code,
        Err(error) => refuse(&format!("{error:#}"), 1),
    }
}

fn configure(flags: &Standalone) -> Result<Config, ConfigError> {
    let layers = Layers {
        file: flags.config.as_deref().map(layers::read_file).transpose()?,
        environment: layers::environment(std::env::vars_os()),
        flags: flags.settings()?,
    };
    let mut config = layers.load()?;
    config.complete()?;
    Ok(config)
}

/// One sentence on stderr.
fn refuse(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("tailwater: {error}");
    ExitCode::from(code)
}
