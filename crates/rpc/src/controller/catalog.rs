//! Topics, settings and producer ids.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tailwater_types::{LeaderEpoch, MetadataVersion, NodeId, Offset, StreamId, TopicId};

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

    /// Changes what is set of one resource: all of the changes or none, applied to what is set when the controller gets
    /// to it. Whether a value makes sense is the caller's to know.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a topic, [`crate::Error::Invalid`] if too much would be set.
    async fn alter_configs(&self, caller: Caller, request: AlterConfigs) -> Result<MetadataVersion>;

    /// Gives a topic more partitions, `total` in all, and places the new ones.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a topic, [`crate::Error::Invalid`] if that isn't more than it has, or too
    /// many.
    async fn create_partitions(&self, caller: Caller, request: CreatePartitions) -> Result<MetadataVersion>;

    /// Moves the start of a stream up to `start`, on behalf of its leader, which knows that this isn't above the high
    /// watermark. A start at or below the present one changes nothing.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without such a stream, [`crate::Error::StreamFenced`] if the caller doesn't lead it under
    /// that epoch, [`crate::Error::Invalid`] for a negative start.
    async fn delete_records(&self, caller: Caller, request: DeleteRecords) -> Result<MetadataVersion>;

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

/// What settings are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    Topic(TopicId),
    /// One frontend; `None`: the default of all of them.
    Broker(Option<NodeId>),
    Group(String),
    /// A subscription to clients' metrics (KIP-714).
    ClientMetrics(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigs {
    pub resource: ConfigResource,
    pub changes: ConfigChanges,
    /// Check only: nothing is changed.
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChanges {
    /// Exactly this is set afterwards.
    Replace(BTreeMap<String, String>),
    /// In this order; settings that aren't named stay.
    Incremental(Vec<ConfigChange>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub name: String,
    pub op: ConfigOp,
}

impl ConfigChanges {
    /// What is set afterwards where `before` was set.
    pub fn applied_to(&self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        match self {
            Self::Replace(configs) => configs.clone(),
            Self::Incremental(changes) => {
                let mut configs = before.clone();
                changes.iter().for_each(|change| change.apply(&mut configs));
                configs
            }
        }
    }
}

impl ConfigChange {
    fn apply(&self, configs: &mut BTreeMap<String, String>) {
        let list = |unset: &String| -> Vec<String> {
            let items = configs.get(&self.name).unwrap_or(unset).split(',').map(str::trim);
            items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let value = match &self.op {
            ConfigOp::Delete => {
                configs.remove(&self.name);
                return;
            }
            ConfigOp::Set(value) => value.clone(),
            ConfigOp::Append { items, unset } => {
                let mut list = list(unset);
                for item in items {
                    if !list.contains(item) {
                        list.push(item.clone());
                    }
                }
                list.join(",")
            }
            ConfigOp::Subtract { items, unset } => {
                let mut list = list(unset);
                list.retain(|item| !items.contains(item));
                list.join(",")
            }
        };
        configs.insert(self.name.clone(), value);
    }
}

/// The last two are about lists separated by commas; `unset` is the list that holds where nothing is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    Set(String),
    Delete,
    Append { items: Vec<String>, unset: String },
    Subtract { items: Vec<String>, unset: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatePartitions {
    pub topic: TopicId,
    pub total: i32,
    /// Check only: nothing is created.
    pub validate_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteRecords {
    pub stream: StreamId,
    pub leader_epoch: LeaderEpoch,
    pub start: Offset,
}
