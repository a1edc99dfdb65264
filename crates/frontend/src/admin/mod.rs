//! What changes topics: CreateTopics, DeleteTopics, and the settings that topics have.

mod create_topics;
mod delete_topics;
pub(crate) mod settings;
mod values;

pub(crate) use create_topics::create_topics;
pub(crate) use delete_topics::delete_topics;
