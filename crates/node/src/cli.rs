//! The command line (that of admin commands is `admin`'s), and what the process says and exits with when it can't start.
//!
//! Exit codes: 0 after an orderly stop, 1 for a failure, 2 for a wrong command line or configuration, 70 when fenced.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::layers::{self, ConfigError, Layers, Setting};
use crate::role::Role;
use crate::{logging, run};

const EXIT_USAGE: u8 = 2;
/// Where admin commands find brokers if no flag says so. With one underscore: it is no setting.
const BOOTSTRAP_VARIABLE: &str = "TAILWATER_BOOTSTRAP";

#[derive(Debug, Parser)]
#[command(
    name = "tailwater",
    version,
    about = "A streaming log that speaks the Kafka protocol and keeps its data in object storage"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Run(Run),
    #[command(flatten)]
    Admin(tailwater_admin::Command),
}

/// A process of a role.
#[derive(Debug, Subcommand)]
enum Run {
    /// Runs all four tiers in one process.
    Standalone(Standalone),
    /// Runs the controller: all metadata, in a store of its own.
    Controller(Controller),
    /// Runs a WAL node: acknowledged records that are not in object storage yet, on a device of its own.
    Wal(Wal),
    /// Runs a frontend: Kafka clients connect to it; it keeps nothing.
    Frontend(Frontend),
    /// Runs a compactor: it moves journals into object storage; it keeps nothing.
    Compactor(Compactor),
}

/// Each of these wins over the environment, which wins over the file.
#[derive(Debug, Args)]
struct Common {
    /// Where /healthz, /readyz and /metrics are.
    #[arg(long, value_name = "IP:PORT")]
    http_listen: Option<String>,
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

/// Where Kafka clients connect to.
#[derive(Debug, Args)]
struct Kafka {
    /// Where Kafka clients connect to.
    #[arg(long, value_name = "HOST:PORT")]
    kafka_listen: Option<String>,
    /// What Kafka clients are told to connect to; by default the listen address, for a wildcard the host's name.
    #[arg(long, value_name = "HOST:PORT")]
    kafka_advertise: Option<String>,
}

/// A node of a cluster, and its controller.
#[derive(Debug, Args)]
struct Node {
    /// The controller's gRPC port.
    #[arg(long, value_name = "HOST:PORT")]
    controller: Option<String>,
    /// The node's number, its own in the whole cluster; by default from the number that ends the host's name.
    #[arg(long, value_name = "NUMBER")]
    node_id: Option<String>,
}

/// Where other nodes call this one.
#[derive(Debug, Args)]
struct Called {
    /// Where other nodes call it (gRPC).
    #[arg(long, value_name = "IP:PORT")]
    rpc_listen: Option<String>,
    /// Where other nodes are told to call it; by default the listen address, for a wildcard the host's name.
    #[arg(long, value_name = "HOST:PORT")]
    rpc_advertise: Option<String>,
}

#[derive(Debug, Args)]
struct Standalone {
    /// Where the process keeps its metadata, its journal and, by default, its objects.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    #[command(flatten)]
    kafka: Kafka,
    /// Where objects are kept: file:///PATH or s3://BUCKET/PREFIX; by default DIR/objects.
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Controller {
    /// Where the controller keeps its metadata.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where other tiers call it (gRPC).
    #[arg(long, value_name = "IP:PORT")]
    rpc_listen: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Wal {
    /// Where the node keeps its device, unless wal.path says otherwise.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    #[command(flatten)]
    called: Called,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Frontend {
    #[command(flatten)]
    kafka: Kafka,
    /// Where objects are kept: file:///PATH or s3://BUCKET/PREFIX; the same for all frontends and compactors.
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    #[command(flatten)]
    called: Called,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Compactor {
    /// Where objects are kept: file:///PATH or s3://BUCKET/PREFIX; the same for all frontends and compactors.
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    common: Common,
}

/// A flag with the setting that it stands for.
type Flag<'a> = (&'static str, &'static str, &'a Option<String>);

impl Kafka {
    fn flags(&self) -> [Flag<'_>; 2] {
        [
            ("--kafka-listen", "frontend.server.listen", &self.kafka_listen),
            ("--kafka-advertise", "frontend.server.advertise", &self.kafka_advertise),
        ]
    }
}

impl Called {
    fn flags(&self) -> [Flag<'_>; 2] {
        [
            ("--rpc-listen", "rpc.listen", &self.rpc_listen),
            ("--rpc-advertise", "rpc.advertise", &self.rpc_advertise),
        ]
    }
}

impl Node {
    fn flags(&self) -> [Flag<'_>; 2] {
        [
            ("--controller", "rpc.controller", &self.controller),
            ("--node-id", "node.id", &self.node_id),
        ]
    }
}

impl Common {
    fn flags(&self) -> [Flag<'_>; 2] {
        [
            ("--http-listen", "http.listen", &self.http_listen),
            ("--log", "log.filter", &self.log),
        ]
    }
}

impl Run {
    fn role(&self) -> Role {
        match self {
            Self::Standalone(_) => Role::Standalone,
            Self::Controller(_) => Role::Controller,
            Self::Wal(_) => Role::Wal,
            Self::Frontend(_) => Role::Frontend,
            Self::Compactor(_) => Role::Compactor,
        }
    }

    fn common(&self) -> &Common {
        match self {
            Self::Standalone(role) => &role.common,
            Self::Controller(role) => &role.common,
            Self::Wal(role) => &role.common,
            Self::Frontend(role) => &role.common,
            Self::Compactor(role) => &role.common,
        }
    }

    fn flags(&self) -> Vec<Flag<'_>> {
        let data_dir = |dir| ("--data-dir", "node.data_dir", dir);
        let object_store = |url| ("--object-store", "storage.url", url);
        let mut flags = Vec::new();
        match self {
            Self::Standalone(role) => {
                flags.extend([data_dir(&role.data_dir), object_store(&role.object_store)]);
                flags.extend(role.kafka.flags());
            }
            Self::Controller(role) => {
                flags.extend([
                    data_dir(&role.data_dir),
                    ("--rpc-listen", "rpc.listen", &role.rpc_listen),
                ]);
            }
            Self::Wal(role) => {
                flags.push(data_dir(&role.data_dir));
                flags.extend(role.called.flags());
                flags.extend(role.node.flags());
            }
            Self::Frontend(role) => {
                flags.push(object_store(&role.object_store));
                flags.extend(role.kafka.flags());
                flags.extend(role.called.flags());
                flags.extend(role.node.flags());
            }
            Self::Compactor(role) => {
                flags.push(object_store(&role.object_store));
                flags.extend(role.node.flags());
            }
        }
        flags.extend(self.common().flags());
        flags
    }

    /// The flags as settings, in the order in which they apply.
    fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let set = &self.common().set;
        let set = set.iter().map(|text| Setting::from_key_value("flag --set", text));
        let named = self.flags().into_iter().filter_map(|(flag, key, value)| {
            let value = value.as_ref()?;
            Some(Ok(Setting::new(&format!("flag {flag}"), key, value)))
        });
        set.chain(named).collect()
    }
}

/// Runs the process to its end.
pub fn main() -> ExitCode {
    crate::allocator::configure();
    match Cli::parse().command {
        Command::Run(command) => run_role(&command),
        Command::Admin(command) => {
            command.run(std::env::var_os(BOOTSTRAP_VARIABLE).and_then(|text| text.into_string().ok()))
        }
    }
}

fn run_role(command: &Run) -> ExitCode {
    let config = match configure(command) {
        Ok(config) => config,
        Err(error) => return refuse(&error, EXIT_USAGE),
    };
    if command.common().dump_config {
        print!("{}", config.to_toml());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = logging::start(&config.log) {
        return refuse(&error, EXIT_USAGE);
    }
    match run::run(command.role(), config) {
        Ok(code) => code,
        // A setting that only the start itself could judge.
        Err(error) if error.is::<ConfigError>() => refuse(&format!("{error:#}"), EXIT_USAGE),
        Err(error) => refuse(&format!("{error:#}"), 1),
    }
}

fn configure(command: &Run) -> Result<Config, ConfigError> {
    let file = &command.common().config;
    let layers = Layers {
        file: file.as_deref().map(layers::read_file).transpose()?,
        environment: layers::environment(std::env::vars_os()),
        flags: command.settings()?,
    };
    let mut config = layers.load()?;
    config.complete(command.role())?;
    Ok(config)
}

/// One sentence on stderr.
fn refuse(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("tailwater: {error}");
    ExitCode::from(code)
}
