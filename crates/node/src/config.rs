//! The whole configuration: a section a tier, and what concerns the process itself.
//!
//! Owns: the process's own sections, what follows from others (paths below the data directory, the advertised address),
//! and that every section validates itself before anything starts. Does not own: the tiers' settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tailwater_runtime::config::{ByteSize, Millis};
use tailwater_store::{Location, RetryPolicy, StorageOptions, is_s3_setting};

use crate::layers::ConfigError;
use crate::process;
use crate::role::Role;

/// After how long a silent node is fenced, unless `controller.lease` says otherwise; in standalone never.
const DEFAULT_LEASE: Millis = Millis::seconds(3);

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub node: NodeConfig,
    pub log: LogConfig,
    pub http: HttpConfig,
    pub rpc: RpcConfig,
    pub storage: StorageConfig,
    pub controller: tailwater_controller::Config,
    pub wal: tailwater_wal::Config,
    pub frontend: tailwater_frontend::Config,
    pub compactor: tailwater_compactor::Config,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// The node's number, its own in the whole cluster; of a frontend it is Kafka's broker id. Absent: from the number that
    /// ends the host's name, as in a StatefulSet (frontend-0 is 1, wal-0 is 10001); a compactor takes a random one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Holds the metadata, the WAL's device and, unless `storage.url` says otherwise, the objects.
    pub data_dir: PathBuf,
    /// Threads that run tasks; 0: as many as there are cores.
    pub worker_threads: usize,
    /// Open files that Kafka clients' connections leave to the process itself: its devices, metadata and objects, and the
    /// other tiers'. At most half of all.
    pub reserved_files: u64,
    /// How long what is left of the process may take to end, once its tier has stopped within its own limits.
    pub stop_timeout: Millis,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            id: None,
            data_dir: PathBuf::from("data"),
            worker_threads: 0,
            reserved_files: 256,
            stop_timeout: Millis::seconds(20),
        }
    }
}

/// Logs, which go to stderr.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A level, or a filter as in "info,tailwater_wal=debug".
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
        }
    }
}

/// The HTTP port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where /healthz, /readyz and /metrics are; port 0: any free one.
    pub listen: SocketAddr,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9464).into(),
        }
    }
}

/// gRPC between the tiers, where they are processes of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcConfig {
    /// Where the controller, a WAL node or a frontend is called by others; port 0: any free one.
    pub listen: SocketAddr,
    /// HOST:PORT that others are told to call this WAL node or frontend at. Empty: the listening address, for a wildcard the
    /// host's name. Port 0: the listening port.
    pub advertise: String,
    /// HOST:PORT of the controller. The name may resolve later.
    pub controller: String,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9470).into(),
            advertise: String::new(),
            controller: "127.0.0.1:9470".to_owned(),
        }
    }
}

/// Where objects are kept, and how hard that is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// `file:///PATH` or `s3://BUCKET/PREFIX`; empty: the folder `objects` in the data directory.
    pub url: String,
    /// Objects above this are uploaded in parts of this size, where the store has such uploads. At least 5 MiB.
    pub part_size: ByteSize,
    /// Parts of one object that are uploaded at the same time.
    pub parallel_parts: usize,
    /// The pause after a call's first failure; each further one doubles it, up to `retry_max`.
    pub retry_first: Millis,
    pub retry_max: Millis,
    /// How long after its beginning a call is tried again.
    pub retry_deadline: Millis,
    /// Settings of the S3 client: `region`, `endpoint`, `access_key_id`, `secret_access_key`, `allow_http` and so on.
    /// `AWS_*` variables of the environment count where nothing is said here.
    pub s3: BTreeMap<String, String>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            part_size: ByteSize::mib(8),
            parallel_parts: 4,
            retry_first: Millis(100),
            retry_max: Millis::seconds(5),
            retry_deadline: Millis::seconds(60),
            s3: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Fills in what follows from other settings, and has every section checked.
    ///
    /// # Errors
    /// The first section's that can't be used, with its name.
    pub fn complete(&mut self, role: Role) -> Result<(), ConfigError> {
        // A tier's default path lies below the data directory; one that was set is taken as it is.
        let data_dir = &self.node.data_dir;
        if self.controller.data_dir == tailwater_controller::Config::default().data_dir {
            self.controller.data_dir = data_dir.join("controller");
        }
        if self.wal.path == tailwater_wal::Config::default().path {
            self.wal.path = data_dir.join("wal.log");
        }
        if role == Role::Controller && self.controller.lease.is_none() {
            self.controller.lease = Some(DEFAULT_LEASE);
        }
        if role.uses_objects() {
            self.storage.complete(role, data_dir)?;
        }
        let server = &mut self.frontend.server;
        server.listener.make_ascii_uppercase();
        advertise_by_name("frontend.server.advertise", &server.listen, &mut server.advertise)?;
        for (name, listener) in &mut self.frontend.listeners {
            let setting = format!("frontend.listeners.{name}.advertise");
            advertise_by_name(&setting, &listener.listen, &mut listener.advertise)?;
        }
        let rpc = &mut self.rpc;
        if rpc.advertise.is_empty() {
            rpc.advertise = if rpc.listen.ip().is_unspecified() && role.is_called_by_address() {
                format!("{}:0", own_name("rpc.advertise", &rpc.listen.to_string())?)
            } else {
                rpc.listen.to_string()
            };
        }
        let advertised = rpc.advertise.rsplit_once(':');
        if !advertised.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
            || is_wildcard(&rpc.advertise) && role.is_called_by_address()
        {
            return Err(ConfigError(format!(
                "rpc.advertise is {:?}: others can call a HOST:PORT only, which is no wildcard",
                rpc.advertise
            )));
        }
        let sections = [
            ("controller", self.controller.validate()),
            ("wal", self.wal.validate()),
            ("frontend", self.frontend.validate()),
            ("compactor", self.compactor.validate()),
        ];
        for (section, checked) in sections {
            checked.map_err(|why| ConfigError(format!("section {section}: {why}")))?;
        }
        Ok(())
    }

    /// Lets clients have no more connections than `open_files`, the process's limit, has room for beside what is reserved.
    pub fn limit_connections(&mut self, open_files: u64) {
        let room = room_for_connections(open_files, self.node.reserved_files);
        let limit = &mut self.frontend.server.max_connections;
        if *limit > room {
            tracing::warn!(
                max_connections = *limit,
                open_files,
                reserved = self.node.reserved_files,
                taken = room,
                "frontend.server.max_connections is more than the limit of open files (ulimit -n) has room for"
            );
        }
        if *limit == 0 || *limit > room {
            *limit = room;
        }
    }

    /// As a configuration file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every setting has a TOML form")
    }
}

/// Connections that `open_files` have room for. At least half of them are clients', so that a low limit leaves both something.
fn room_for_connections(open_files: u64, reserved: u64) -> usize {
    let room = open_files.saturating_sub(reserved.min(open_files / 2));
    usize::try_from(room).unwrap_or(usize::MAX).max(1)
}

/// Fills in what clients are told where `listen` is every address of the host and `setting` says nothing.
fn advertise_by_name(setting: &str, listen: &str, advertise: &mut String) -> Result<(), ConfigError> {
    if advertise.is_empty() && is_wildcard(listen) {
        // Port 0: the one that is listened on.
        *advertise = format!("{}:0", own_name(setting, listen)?);
    }
    Ok(())
}

/// The host's name, for others to connect to where `listen` is every address of it.
fn own_name(needed: &str, listen: &str) -> Result<String, ConfigError> {
    process::host_name().ok_or_else(|| {
        ConfigError(format!(
            "{needed} is needed: {listen} is a wildcard and the host has no name"
        ))
    })
}

/// Whether an address to listen on is every address of the host, which no client can connect to.
fn is_wildcard(listen: &str) -> bool {
    listen
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.ip().is_unspecified())
}

impl StorageConfig {
    fn complete(&mut self, role: Role, data_dir: &Path) -> Result<(), ConfigError> {
        if self.url.is_empty() && role != Role::Standalone {
            return Err(ConfigError(
                "storage.url is needed: all frontends and compactors of a cluster share one store".to_owned(),
            ));
        }
        if self.url.is_empty() {
            let folder = std::path::absolute(data_dir.join("objects"));
            let folder =
                folder.map_err(|error| ConfigError(format!("node.data_dir {}: {error}", data_dir.display())))?;
            self.url = Location::File { folder }.to_string();
        }
        let location = self.location()?;
        if !location.is_durable() {
            return Err(ConfigError(format!(
                "storage.url {location}: objects would be gone with the process, and the data directory outlives it"
            )));
        }
        Ok(())
    }

    /// # Errors
    /// If the URL isn't one of a store.
    pub fn location(&self) -> Result<Location, ConfigError> {
        self.url
            .parse()
            .map_err(|error| ConfigError(format!("storage.url: {error}")))
    }

    /// Everything else about the store; what `environment` says of S3 counts where no setting does.
    pub fn options(&self, environment: impl Iterator<Item = (OsString, OsString)>) -> StorageOptions {
        let ours = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok()?.to_ascii_lowercase();
            let is_ours = name.starts_with("aws_") && is_s3_setting(&name);
            is_ours.then_some((name, value.into_string().ok()?))
        };
        let mut s3: BTreeMap<_, _> = environment.filter_map(ours).collect();
        for (name, value) in &self.s3 {
            s3.remove(&format!("aws_{name}"));
            s3.insert(name.clone(), value.clone());
        }
        StorageOptions {
            s3,
            part_bytes: self.part_size.as_usize(),
            parallel_parts: self.parallel_parts,
            retry: RetryPolicy {
                first_backoff: self.retry_first.as_duration(),
                max_backoff: self.retry_max.as_duration(),
                deadline: self.retry_deadline.as_duration(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(change: impl FnOnce(&mut Config)) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        config.node.data_dir = PathBuf::from("/d");
        change(&mut config);
        config.complete(Role::Standalone).map(|()| config)
    }

    /// Paths nobody set lie in the data directory; one that was set stays.
    #[test]
    fn paths_follow_the_data_directory() {
        let config = completed(|config| config.wal.path = PathBuf::from("/dev/fast")).unwrap();
        assert_eq!(config.controller.data_dir, PathBuf::from("/d/controller"));
        assert_eq!(config.wal.path, PathBuf::from("/dev/fast"));
        assert_eq!(config.storage.url, "file:///d/objects");
    }

    /// A store that ends with the process is refused beside a data directory that doesn't; so is what is no URL.
    #[test]
    fn a_store_must_outlive_the_process() {
        let error = completed(|config| config.storage.url = "memory:///".to_owned())
            .unwrap_err()
            .to_string();
        assert!(error.contains("memory:///") && error.contains("outlives"), "{error}");
        let error = completed(|config| config.storage.url = "somewhere".to_owned())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("storage.url: "), "{error}");
    }

    /// A wildcard is no address for clients: they are told the host's name, unless something else was set.
    #[test]
    fn a_wildcard_is_advertised_by_name() {
        let advertised = |listen: &str, advertise: &str| {
            let config = completed(|config| {
                config.frontend.server.listen = listen.to_owned();
                config.frontend.server.advertise = advertise.to_owned();
            });
            config.unwrap().frontend.server.advertise
        };
        let by_name = format!("{}:0", process::host_name().unwrap());
        assert_eq!(advertised("0.0.0.0:9092", ""), by_name);
        assert_eq!(advertised("[::]:9092", ""), by_name);
        assert_eq!(advertised("0.0.0.0:9092", "broker:1"), "broker:1");
        assert_eq!(advertised("127.0.0.1:9092", ""), "");
    }

    /// Clients get what open files leave beside the reserve, or what is set, if that is less; of few files they get half.
    #[test]
    fn connections_leave_files_to_the_process() {
        let limited = |set: usize, open_files: u64| {
            let mut config = Config::default();
            config.frontend.server.max_connections = set;
            config.limit_connections(open_files);
            config.frontend.server.max_connections
        };
        assert_eq!(limited(0, 1024), 768);
        assert_eq!(limited(500, 1024), 500);
        assert_eq!(limited(5000, 1024), 768);
        assert_eq!(limited(0, 100), 50);
        assert_eq!(limited(0, 1), 1);
    }

    /// So is one for other nodes, where they are told it by the controller; an advertised wildcard is refused there.
    #[test]
    fn a_wildcard_is_told_to_nodes_by_name() {
        let advertised = |role: Role, advertise: &str| {
            let mut config = Config::default();
            config.rpc.listen = ([0, 0, 0, 0], 9470).into();
            advertise.clone_into(&mut config.rpc.advertise);
            config.storage.url = "file:///o".to_owned();
            config.complete(role).map(|()| config.rpc.advertise)
        };
        let by_name = format!("{}:0", process::host_name().unwrap());
        for role in [Role::Wal, Role::Frontend] {
            assert_eq!(advertised(role, "").unwrap(), by_name);
            assert_eq!(advertised(role, "here:1").unwrap(), "here:1");
            let refused = advertised(role, "0.0.0.0:9470").unwrap_err().to_string();
            assert!(refused.starts_with("rpc.advertise is"), "{refused}");
        }
        for role in [Role::Controller, Role::Compactor, Role::Standalone] {
            assert_eq!(advertised(role, "").unwrap(), "0.0.0.0:9470", "nobody is told it");
        }
    }

    /// A further listener on a wildcard is advertised by name too, and the first one's name is in capitals.
    #[test]
    fn every_listener_is_completed() {
        let config = completed(|config| {
            "inside".clone_into(&mut config.frontend.server.listener);
            let further = tailwater_frontend::ListenerConfig {
                listen: "0.0.0.0:9094".to_owned(),
                advertise: String::new(),
            };
            config.frontend.listeners.insert("OUT".to_owned(), further);
        });
        let frontend = config.unwrap().frontend;
        assert_eq!(frontend.server.listener, "INSIDE");
        let by_name = format!("{}:0", process::host_name().unwrap());
        assert_eq!(frontend.listeners["OUT"].advertise, by_name);
    }

    /// A tier's own check is asked, and its section named.
    #[test]
    fn sections_are_validated() {
        let error = completed(|config| config.wal.capacity = ByteSize::kib(1))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("section wal: ") && error.contains("capacity"),
            "{error}"
        );
    }

    /// What is dumped can be read again, and is the same.
    #[test]
    fn a_dump_is_a_configuration() {
        let config = completed(|_| ()).unwrap();
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }

    /// S3's settings win over the environment's; what isn't S3's stays out.
    #[test]
    fn s3_settings_win_over_the_environment() {
        let mut storage = StorageConfig::default();
        storage.s3.insert("region".to_owned(), "here".to_owned());
        let environment = [
            ("AWS_REGION", "there"),
            ("AWS_ENDPOINT", "http://s3"),
            ("AWS_PROFILE_COLOUR", "x"),
            ("HOME", "/"),
        ];
        let environment = environment.iter().map(|&(name, value)| (name.into(), value.into()));
        let found = storage.options(environment).s3;
        let expected = [("region", "here"), ("aws_endpoint", "http://s3")];
        assert_eq!(
            found,
            expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        );
    }
}
