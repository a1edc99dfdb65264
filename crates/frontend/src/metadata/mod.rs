//! What clients ask before anything else: brokers, topics, coordinators, offsets by time, producer ids.

mod brokers;
mod coordinators;
mod create;
mod list_offsets;
pub(crate) mod names;
mod producer_ids;
mod topics;

pub(crate) use brokers::broker_id;
pub(crate) use coordinators::find_coordinator;
pub(crate) use create::TopicCreator;
pub(crate) use list_offsets::list_offsets;
pub(crate) use producer_ids::{ProducerIdPool, init_producer_id};
pub(crate) use topics::{AutoCreate, metadata};
