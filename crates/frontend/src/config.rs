//! The frontend's settings, each with its default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tailwater_runtime::config::{ByteSize, Millis};

use crate::listeners::{self, ListenerConfig};

/// Settings of a frontend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub node: NodeConfig,
    pub server: ServerConfig,
    /// Further Kafka listeners, each with a name (a section `[frontend.listeners.NAME]`) and a port of its own: clients that
    /// connect there are told brokers' addresses there.
    pub listeners: BTreeMap<String, ListenerConfig>,
    pub topics: TopicsConfig,
    pub groups: GroupsConfig,
    pub transactions: TransactionsConfig,
    pub journal: JournalConfig,
    pub cache: CacheConfig,
    pub produce: ProduceConfig,
    pub fetch: FetchConfig,
}

/// How this node stands to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// How often the node tells the controller that it lives; a sixth of the controller's lease, or less.
    pub heartbeat_interval: Millis,
    /// At shutdown, how long it may take until other frontends have this node's partitions; then, how long appends in flight
    /// may take to be committed.
    pub drain_timeout: Millis,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Millis(500),
            drain_timeout: Millis::seconds(10),
        }
    }
}

/// The first Kafka listener, and what holds for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// HOST:PORT to listen on; port 0: any free one.
    pub listen: String,
    /// HOST:PORT that clients are told to connect to. Empty: the listening address, for a wildcard the host's name.
    /// Port 0: the listening port. The name needs not resolve here.
    pub advertise: String,
    /// The first listener's name, in capitals: its clients are told addresses of listeners with this name.
    pub listener: String,
    /// The largest request (Kafka's `socket.request.max.bytes`): a record of 128 MiB fits.
    pub max_request: ByteSize,
    /// Bytes of requests that all connections together may have in memory at the same time.
    pub request_memory: ByteSize,
    /// Produce requests of one connection that may be on their way at the same time.
    pub max_pipelined_requests: usize,
    /// Their bytes: with these on their way, the next request of the connection isn't begun.
    pub max_pipelined_bytes: ByteSize,
    /// Connections that all clients together may have, at all listeners (Kafka's `max.connections`); one more is closed at
    /// once. 0: as many as open files allow, but for those that `node.reserved_files` keeps.
    pub max_connections: usize,
    /// Connections that clients of one address may have (Kafka's `max.connections.per.ip`); 0: no limit.
    pub max_connections_per_ip: usize,
    /// A connection without a request for so long is closed (Kafka's `connections.max.idle.ms`); one that waits for an
    /// answer isn't idle. 0: never.
    pub idle_timeout: Millis,
    /// A request that has begun to arrive and of which nothing more comes for so long, or an answer of which the client
    /// takes nothing more, closes its connection: others may be waiting for the memory that it holds.
    pub stall_timeout: Millis,
    /// At shutdown, how long requests that have begun may take to be answered.
    pub shutdown_timeout: Millis,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9092".to_owned(),
            advertise: String::new(),
            listener: listeners::DEFAULT_NAME.to_owned(),
            max_request: ByteSize::mib(160),
            request_memory: ByteSize::mib(256),
            max_pipelined_requests: 32,
            max_pipelined_bytes: ByteSize::mib(32),
            max_connections: 0,
            max_connections_per_ip: 0,
            idle_timeout: Millis::seconds(600),
            stall_timeout: Millis::seconds(30),
            shutdown_timeout: Millis::seconds(5),
        }
    }
}

/// Topics that are made without being told how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// Whether a topic is made when a client asks for its metadata (Kafka's `auto.create.topics.enable`).
    pub auto_create: bool,
    /// Partitions of a topic that is made without a number (Kafka's `num.partitions`).
    pub partitions: i32,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            auto_create: true,
            partitions: 4,
        }
    }
}

/// Consumer groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupsConfig {
    /// Partitions of `__consumer_offsets` when it is made (Kafka's `offsets.topic.num.partitions`).
    pub offsets_topic_partitions: i32,
    /// The shortest session that a member may ask for (Kafka's `group.min.session.timeout.ms`).
    pub min_session_timeout: Millis,
    /// The longest (Kafka's `group.max.session.timeout.ms`).
    pub max_session_timeout: Millis,
    /// How long a group that was empty waits for more members (Kafka's `group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay: Millis,
    /// Members that one group may have (Kafka's `group.max.size`).
    pub max_size: usize,
    /// UTF-16 characters of an offset's metadata (Kafka's `offset.metadata.max.bytes`).
    pub offset_metadata_max_chars: usize,
    /// How long offsets are kept that no group needs, from when it is empty (Kafka's `offsets.retention.minutes`).
    pub offsets_retention: Millis,
    /// How often groups are looked at for what has expired (Kafka's `offsets.retention.check.interval.ms`).
    pub offsets_retention_check_interval: Millis,
    /// How long a silent member stays in a group whose coordinator assigns (Kafka's `group.consumer.session.timeout.ms`).
    pub consumer_session_timeout: Millis,
    /// How often its members are to send heartbeats (Kafka's `group.consumer.heartbeat.interval.ms`).
    pub consumer_heartbeat_interval: Millis,
    /// The least time between two of its assignments (Kafka's `group.consumer.assignment.interval.ms`).
    pub consumer_assignment_interval: Millis,
    /// Members that it may have (Kafka's `group.consumer.max.size`).
    pub consumer_max_size: usize,
    /// Which groups with members change between the classic protocol and that of KIP-848 (Kafka's
    /// `group.consumer.migration.policy`).
    pub consumer_migration_policy: MigrationPolicy,
}

/// Ways for groups that have members from one protocol to the other; empty ones always change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationPolicy {
    Disabled,
    /// A classic group becomes one whose coordinator assigns when a member of the new protocol joins it.
    Upgrade,
    /// A group whose coordinator assigns becomes a classic one when the last member of the new protocol has left it.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    pub fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    pub fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Bidirectional => "bidirectional",
        }
    }
}

impl Default for GroupsConfig {
    fn default() -> Self {
        Self {
            offsets_topic_partitions: 50,
            min_session_timeout: Millis::seconds(6),
            max_session_timeout: Millis::seconds(1800),
            initial_rebalance_delay: Millis::seconds(3),
            max_size: i32::MAX as usize,
            offset_metadata_max_chars: 4096,
            offsets_retention: Millis::seconds(7 * 24 * 3600),
            offsets_retention_check_interval: Millis::seconds(600),
            consumer_session_timeout: Millis::seconds(45),
            consumer_heartbeat_interval: Millis::seconds(5),
            consumer_assignment_interval: Millis::seconds(1),
            consumer_max_size: i32::MAX as usize,
            consumer_migration_policy: MigrationPolicy::default(),
        }
    }
}

/// What transactional producers may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransactionsConfig {
    /// Partitions of `__transaction_state` when it is made (Kafka's `transaction.state.log.num.partitions`).
    pub state_topic_partitions: i32,
    /// The longest that a producer may let a transaction run before it is aborted (Kafka's `transaction.max.timeout.ms`).
    pub max_timeout: Millis,
    /// How long a transactional id is remembered that nobody uses (Kafka's `transactional.id.expiration.ms`).
    pub id_expiration: Millis,
}

impl Default for TransactionsConfig {
    fn default() -> Self {
        Self {
            state_topic_partitions: 50,
            max_timeout: Millis::seconds(900),
            id_expiration: Millis::seconds(7 * 24 * 3600),
        }
    }
}

/// How appends become journal entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// An entry is sent when it has this many bytes, whatever is in flight; a larger batch is an entry of its own.
    pub entry_bytes: ByteSize,
    /// While fewer bytes than this are sent and not yet durable, an append is sent at once.
    pub in_flight_bytes: ByteSize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            entry_bytes: ByteSize::mib(1),
            in_flight_bytes: ByteSize::mib(1),
        }
    }
}

/// What is kept in memory for reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Newest batches of all partitions together.
    pub tail_bytes: ByteSize,
    /// Blocks and indexes of objects.
    pub object_bytes: ByteSize,
    /// Blocks and indexes of objects that are being read at the same time.
    pub object_in_flight_bytes: ByteSize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            tail_bytes: ByteSize::mib(64),
            object_bytes: ByteSize::mib(64),
            object_in_flight_bytes: ByteSize::mib(32),
        }
    }
}

/// What producers may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProduceConfig {
    /// The most that the records of one compressed batch may have when they are decompressed to be checked.
    pub max_decompressed_bytes: ByteSize,
    /// The longest that a request may ask to wait for its commit.
    pub max_timeout: Millis,
    /// How many zstd contexts may be in use at the same time; 0: as many as there are cores.
    pub zstd_contexts: usize,
    /// How many zstd contexts are kept while idle.
    pub zstd_idle_contexts: usize,
}

impl Default for ProduceConfig {
    fn default() -> Self {
        Self {
            max_decompressed_bytes: ByteSize::mib(256),
            max_timeout: Millis::seconds(300),
            zstd_contexts: 0,
            zstd_idle_contexts: 1,
        }
    }
}

/// What consumers may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// The most that one answer has, whatever the client allows, but for a first batch that is larger (Kafka's
    /// `fetch.max.bytes`).
    pub max_bytes: ByteSize,
    /// The longest that a fetch may ask to wait.
    pub max_wait: Millis,
    /// Bytes from the WAL and from objects that all fetches together may have in memory at the same time, from when they
    /// are read until their answers are written.
    pub cold_read_bytes: ByteSize,
    /// Fetch sessions that are kept (Kafka's `max.incremental.fetch.session.cache.slots`).
    pub session_slots: usize,
    /// Partitions that all fetch sessions together may have, of about 200 bytes each.
    pub session_partitions: usize,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::mib(55),
            max_wait: Millis::seconds(300),
            cold_read_bytes: ByteSize::mib(128),
            session_slots: 1000,
            session_partitions: 250_000,
        }
    }
}

impl ServerConfig {
    fn validate(&self) -> Result<(), String> {
        if self.max_request < ByteSize::kib(1) || self.max_request > ByteSize::mib(2047) {
            return Err(format!(
                "frontend.server.max_request is {}, 1KiB to 2047MiB are possible",
                self.max_request
            ));
        }
        if self.request_memory < self.max_request {
            let (memory, request) = (self.request_memory, self.max_request);
            return Err(format!(
                "frontend.server.request_memory is {memory}, but one request may have {request}"
            ));
        }
        if self.max_pipelined_requests == 0 {
            return Err("frontend.server.max_pipelined_requests is 0: nothing could be produced".to_owned());
        }
        Ok(())
    }
}

impl TopicsConfig {
    fn validate(self) -> Result<(), String> {
        match self.partitions {
            1.. => Ok(()),
            partitions => Err(format!(
                "frontend.topics.partitions is {partitions}, at least 1 is needed"
            )),
        }
    }
}

impl GroupsConfig {
    fn validate(&self) -> Result<(), String> {
        if self.offsets_topic_partitions < 1 {
            let partitions = self.offsets_topic_partitions;
            return Err(format!(
                "frontend.groups.offsets_topic_partitions is {partitions}, at least 1 is needed"
            ));
        }
        if self.min_session_timeout > self.max_session_timeout {
            let (min, max) = (self.min_session_timeout, self.max_session_timeout);
            return Err(format!(
                "frontend.groups.min_session_timeout is {min}, above frontend.groups.max_session_timeout, {max}"
            ));
        }
        if self.max_size == 0 {
            return Err("frontend.groups.max_size is 0: no group could have a member".to_owned());
        }
        if self.consumer_max_size == 0 {
            return Err("frontend.groups.consumer_max_size is 0: no group could have a member".to_owned());
        }
        if self.consumer_heartbeat_interval == Millis(0)
            || self.consumer_heartbeat_interval >= self.consumer_session_timeout
        {
            let (interval, timeout) = (self.consumer_heartbeat_interval, self.consumer_session_timeout);
            return Err(format!(
                "frontend.groups.consumer_heartbeat_interval is {interval}, 1ms to less than \
                 frontend.groups.consumer_session_timeout, {timeout}, are possible"
            ));
        }
        if self.offsets_retention == Millis(0) {
            return Err("frontend.groups.offsets_retention is 0: no offset would be kept".to_owned());
        }
        if self.offsets_retention_check_interval == Millis(0) {
            return Err("frontend.groups.offsets_retention_check_interval is 0, at least 1ms is needed".to_owned());
        }
        Ok(())
    }
}

impl TransactionsConfig {
    fn validate(&self) -> Result<(), String> {
        if self.state_topic_partitions < 1 {
            let partitions = self.state_topic_partitions;
            return Err(format!(
                "frontend.transactions.state_topic_partitions is {partitions}, at least 1 is needed"
            ));
        }
        if self.max_timeout < Millis(1) || self.max_timeout > Millis(i32::MAX as u64) {
            let timeout = self.max_timeout;
            return Err(format!(
                "frontend.transactions.max_timeout is {timeout}, 1ms to 24 days are possible"
            ));
        }
        if self.id_expiration < Millis(1) {
            return Err("frontend.transactions.id_expiration is 0: no transactional id could be used".to_owned());
        }
        Ok(())
    }
}

impl Config {
    /// # Errors
    /// The first setting that can't work, and why.
    pub fn validate(&self) -> Result<(), String> {
        let at_least = |name: &str, value: ByteSize, least: ByteSize| {
            if value >= least {
                return Ok(());
            }
            Err(format!("{name} is {value}, at least {least} is needed"))
        };
        self.all_listeners()?;
        self.server.validate()?;
        self.topics.validate()?;
        self.groups.validate()?;
        self.transactions.validate()?;
        at_least(
            "frontend.journal.entry_bytes",
            self.journal.entry_bytes,
            ByteSize::kib(4),
        )?;
        at_least("frontend.cache.object_bytes", self.cache.object_bytes, ByteSize::mib(1))?;
        at_least(
            "frontend.cache.object_in_flight_bytes",
            self.cache.object_in_flight_bytes,
            ByteSize::mib(1),
        )?;
        at_least(
            "frontend.produce.max_decompressed_bytes",
            self.produce.max_decompressed_bytes,
            ByteSize::mib(1),
        )?;
        at_least("frontend.fetch.max_bytes", self.fetch.max_bytes, ByteSize::kib(1))?;
        at_least(
            "frontend.fetch.cold_read_bytes",
            self.fetch.cold_read_bytes,
            self.fetch.max_bytes,
        )?;
        if self.journal.entry_bytes > ByteSize::mib(64) {
            return Err(format!(
                "frontend.journal.entry_bytes is {}, at most 64MiB is allowed",
                self.journal.entry_bytes
            ));
        }
        if self.node.heartbeat_interval < Millis(10) {
            return Err(format!(
                "frontend.node.heartbeat_interval is {}, at least 10ms is needed",
                self.node.heartbeat_interval
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are valid, and a setting that can't work is named.
    #[test]
    fn a_bad_setting_is_named() {
        let mut config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        config.fetch.cold_read_bytes = ByteSize::mib(1);
        let error = config.validate().unwrap_err();
        assert_eq!(
            error,
            "frontend.fetch.cold_read_bytes is 1MiB, at least 55MiB is needed"
        );
    }

    /// Requests must fit into the memory for all of them, and groups need room for a member.
    #[test]
    fn settings_of_the_protocol_are_checked() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert_eq!(
            refused(|config| config.server.request_memory = ByteSize::mib(1)),
            "frontend.server.request_memory is 1MiB, but one request may have 160MiB"
        );
        assert!(refused(|config| config.server.max_pipelined_requests = 0).contains("max_pipelined_requests"));
        assert!(refused(|config| config.topics.partitions = 0).contains("frontend.topics.partitions"));
        assert!(refused(|config| config.groups.min_session_timeout = Millis::seconds(9999)).contains("session"));
        assert!(refused(|config| config.groups.consumer_max_size = 0).contains("consumer_max_size"));
        assert!(
            refused(|config| config.groups.consumer_heartbeat_interval = Millis::seconds(45)).contains("heartbeat")
        );
        assert!(refused(|config| config.groups.max_size = 0).contains("frontend.groups.max_size"));
        assert!(refused(|config| config.transactions.max_timeout = Millis(0)).contains("max_timeout"));
        assert!(refused(|config| config.transactions.id_expiration = Millis(0)).contains("id_expiration"));
        assert!(
            refused(|config| config.groups.offsets_retention = Millis(0)).contains("frontend.groups.offsets_retention")
        );
        assert!(
            refused(|config| config.groups.offsets_retention_check_interval = Millis(0)).contains("check_interval")
        );
    }
}
