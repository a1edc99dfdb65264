//! Topics and producer ids.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tailwater_types::{MetadataVersion, TopicId};

use super::Caller;
use crate::Result;

#[async_trait]
pub trait Catalog: Send + Sync {
    /// Creates a topic with its partitions and streams, and places them.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyExists`] under that name (or one that differs only in `.` and `_`),
    /// [`crate::Error::Invalid`] for a name or count that isn't legal.
    async fn create_topic(&self, caller: Caller, topic: NewTopic) -> Result<CreatedTopic>;

    /// Deletes a topic; its objects are freed later.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a topic.
    async fn delete_topic(&self, caller: Caller, topic: TopicId) -> Result<MetadataVersion>;

    /// A block of producer ids that nobody else gets, ever.
    async fn allocate_producer_ids(&self, caller: Caller) -> Result<ProducerIds>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub configs: BTreeMap<String, String>,
    pub internal: bool,
    /// Check only: nothing is created.
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub id: TopicId,
    /// The metadata version that shows it.
    pub version: MetadataVersion,
}

/// Producer ids `[first, first + count)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIds {
    pub first: i64,
    pub count: i64,
}
