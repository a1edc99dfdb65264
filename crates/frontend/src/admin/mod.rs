//! What changes topics and settings: CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords, and the settings of
//! topics, brokers, groups and clients' metrics.

mod alter_configs;
mod assignments;
mod broker_settings;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_configs;
mod group_settings;
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
pub(crate) use sources::Sources;
