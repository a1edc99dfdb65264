//! What clients ask before anything else: brokers, topics, coordinators, offsets by time and by epoch, producer ids.

pub(crate) mod brokers;
mod cluster;
mod coordinators;
mod create;
mod describe_topics;
mod leader_epochs;
mod list_offsets;
pub(crate) mod names;
mod producer_ids;
mod topics;

pub(crate) use brokers::broker_id;
pub(crate) use cluster::describe_cluster;
pub(crate) use coordinators::find_coordinator;
pub(crate) use create::TopicCreator;
pub(crate) use describe_topics::describe_topic_partitions;
pub(crate) use leader_epochs::offset_for_leader_epoch;
pub(crate) use list_offsets::list_offsets;
pub(crate) use producer_ids::ProducerIdPool;
pub(crate) use topics::{AutoCreate, metadata};
