//! What administrators ask for: CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords, and the settings of topics,
//! brokers, groups and clients' metrics; producers, leaders, sizes, assignments, features and the quorum, as far as there
//! are any.

mod alter_configs;
mod assignments;
mod broker_settings;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod elect_leaders;
pub(crate) mod features;
mod group_settings;
mod quorum;
mod reassignments;
mod refusal;
mod resource;
pub(crate) mod settings;
mod sources;
pub(crate) mod topic_settings;
mod values;

pub(crate) use alter_configs::{alter_configs, incremental_alter_configs};
pub(crate) use broker_settings::FixedSettings;
pub(crate) use create_partitions::create_partitions;
pub(crate) use create_topics::create_topics;
pub(crate) use delete_records::delete_records;
pub(crate) use delete_topics::delete_topics;
pub(crate) use describe_configs::{describe_configs, list_config_resources};
pub(crate) use describe_log_dirs::describe_log_dirs;
pub(crate) use describe_producers::describe_producers;
pub(crate) use elect_leaders::elect_leaders;
pub(crate) use features::update_features;
pub(crate) use quorum::describe_quorum;
pub(crate) use reassignments::{alter_partition_reassignments, list_partition_reassignments};
pub(crate) use sources::Sources;
