//! One version of the metadata, and how an update makes the next one of it.
//!
//! Pure. Owns what a frontend keeps of the metadata and by what it is found. Does not own where updates come from
//! (`follow`) nor who waits for them (`mod`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailwater_rpc::controller::{
    ConfigInfo, ConfigResource, MetadataChange, MetadataUpdate, NodeInfo, NodeState, PartitionInfo, StreamProgress,
    Tier, TopicInfo,
};
use tailwater_types::{MetadataVersion, NodeId, StreamId, TopicId};

use crate::admin::topic_settings::TopicSettings;

/// The cluster's nodes, topics, partitions, what of their streams is uploaded, and settings, all as of one version.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Whose view it is.
    node: NodeId,
    version: MetadataVersion,
    /// When a topic came, went, or got partitions.
    topics_version: MetadataVersion,
    nodes: BTreeMap<NodeId, NodeInfo>,
    topics: BTreeMap<TopicId, Arc<Topic>>,
    names: BTreeMap<Arc<str>, TopicId>,
    streams: BTreeMap<StreamId, StreamProgress>,
    /// What is set of brokers, groups and clients' metrics.
    configs: BTreeMap<ConfigResource, BTreeMap<String, String>>,
}

/// A topic with its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub info: TopicInfo,
    /// The name again, to be shared.
    pub name: Arc<str>,
    pub partitions: BTreeMap<i32, PartitionInfo>,
    /// What follows from its settings and its brokers'.
    pub settings: TopicSettings,
}

/// An update that doesn't follow what is here: only a fresh snapshot helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    #[error("metadata goes on at version {found}, but version {expected} is here")]
    Version {
        expected: MetadataVersion,
        found: MetadataVersion,
    },
    #[error("metadata names a partition of topic {topic}, which isn't there")]
    UnknownTopic { topic: TopicId },
}

impl Snapshot {
    /// Nothing yet, at version 0.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            version: MetadataVersion::default(),
            topics_version: MetadataVersion::default(),
            nodes: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            streams: BTreeMap::new(),
            configs: BTreeMap::new(),
        }
    }

    pub fn version(&self) -> MetadataVersion {
        self.version
    }

    /// The version as of which there were other topics, or other numbers of partitions, for the last time.
    pub fn topics_version(&self) -> MetadataVersion {
        self.topics_version
    }

    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// The frontends that clients can be sent to.
    pub fn frontends(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes().filter(|node| is_served_by(node))
    }

    /// The frontend, if clients can be sent to it.
    pub fn frontend(&self, node: NodeId) -> Option<&NodeInfo> {
        self.node(node).filter(|node| is_served_by(node))
    }

    pub fn node(&self, node: NodeId) -> Option<&NodeInfo> {
        self.nodes.get(&node)
    }

    /// In the order of their ids.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.names.get(name).and_then(|id| self.topics.get(id))
    }

    pub fn partition(&self, topic: TopicId, index: i32) -> Option<&PartitionInfo> {
        self.topics.get(&topic)?.partitions.get(&index)
    }

    /// What is in objects of a stream; `None` while the controller has said nothing of it.
    pub fn progress(&self, stream: StreamId) -> Option<&StreamProgress> {
        self.streams.get(&stream)
    }

    /// What is set of something else than a topic.
    pub fn configs(&self, resource: &ConfigResource) -> Option<&BTreeMap<String, String>> {
        self.configs.get(resource)
    }

    /// Everything but topics of which something is set.
    pub fn configured(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    /// Takes the next update over.
    ///
    /// # Errors
    /// [`Gap`]: what is here stays as it was.
    pub(super) fn apply(&mut self, update: &MetadataUpdate) -> Result<(), Gap> {
        self.check(update)?;
        if update.previous.is_none() {
            *self = Self::new(self.node);
            self.topics_version = update.version;
        }
        if update.changes.iter().any(|change| self.changes_topics(change)) {
            self.topics_version = update.version;
        }
        // Topics first: the order within an atomic step means nothing.
        for change in &update.changes {
            if let MetadataChange::Topic(info) = change {
                self.set_topic(info);
            }
        }
        for change in &update.changes {
            match change {
                MetadataChange::Topic(_) => {}
                MetadataChange::TopicDeleted(id) => self.delete_topic(*id),
                MetadataChange::Partition(info) => self.set_partition(info),
                MetadataChange::Node(info) => {
                    self.nodes.insert(info.node, info.clone());
                }
                MetadataChange::Stream(progress) => {
                    self.streams.insert(progress.stream, *progress);
                }
                MetadataChange::Config(info) => self.set_config(info),
            }
        }
        self.version = update.version;
        Ok(())
    }

    /// Whether `update` is the next one, and each of its partitions is of a topic that is here or comes with it.
    fn check(&self, update: &MetadataUpdate) -> Result<(), Gap> {
        if let Some(found) = update.previous.filter(|previous| *previous != self.version) {
            return Err(Gap::Version {
                expected: self.version,
                found,
            });
        }
        let mut known: BTreeSet<TopicId> = BTreeSet::new();
        for change in &update.changes {
            if let MetadataChange::Topic(info) = change {
                known.insert(info.id);
            }
        }
        let is_known = |id: &TopicId| known.contains(id) || (update.previous.is_some() && self.topics.contains_key(id));
        let unknown = update.changes.iter().find_map(|change| match change {
            MetadataChange::Partition(info) if !is_known(&info.topic) => Some(info.topic),
            _ => None,
        });
        unknown.map_or(Ok(()), |topic| Err(Gap::UnknownTopic { topic }))
    }

    fn changes_topics(&self, change: &MetadataChange) -> bool {
        match change {
            MetadataChange::Topic(info) => !self.topics.contains_key(&info.id),
            MetadataChange::TopicDeleted(_) => true,
            MetadataChange::Partition(info) => self.partition(info.topic, info.index).is_none(),
            MetadataChange::Node(_) | MetadataChange::Stream(_) | MetadataChange::Config(_) => false,
        }
    }

    fn set_topic(&mut self, info: &TopicInfo) {
        let settings = self.settings_of(&info.configs);
        if let Some(topic) = self.topics.get_mut(&info.id) {
            let topic = Arc::make_mut(topic);
            (topic.info, topic.settings) = (info.clone(), settings);
            return;
        }
        let name: Arc<str> = info.name.as_str().into();
        self.names.insert(name.clone(), info.id);
        let topic = Topic {
            info: info.clone(),
            name,
            partitions: BTreeMap::new(),
            settings,
        };
        self.topics.insert(info.id, Arc::new(topic));
    }

    fn settings_of(&self, configs: &BTreeMap<String, String>) -> TopicSettings {
        let of = |node| self.configs.get(&ConfigResource::Broker(node));
        TopicSettings::resolve(configs, [of(Some(self.node)), of(None)])
    }

    /// What brokers are set to is inherited by topics.
    fn set_config(&mut self, info: &ConfigInfo) {
        match info.configs.is_empty() {
            true => self.configs.remove(&info.resource),
            false => self.configs.insert(info.resource.clone(), info.configs.clone()),
        };
        if !matches!(info.resource, ConfigResource::Broker(_)) {
            return;
        }
        let mut topics = std::mem::take(&mut self.topics);
        for topic in topics.values_mut() {
            let settings = self.settings_of(&topic.info.configs);
            if settings != topic.settings {
                Arc::make_mut(topic).settings = settings;
            }
        }
        self.topics = topics;
    }

    fn delete_topic(&mut self, id: TopicId) {
        let Some(topic) = self.topics.remove(&id) else {
            return;
        };
        // A topic created again under the name has taken it over.
        if self.names.get(&topic.name) == Some(&id) {
            self.names.remove(&topic.name);
        }
        for partition in topic.partitions.values() {
            self.streams.remove(&partition.stream);
        }
    }

    /// Nothing where the topic was deleted in the same step.
    fn set_partition(&mut self, info: &PartitionInfo) {
        if let Some(topic) = self.topics.get_mut(&info.topic) {
            Arc::make_mut(topic).partitions.insert(info.index, info.clone());
        }
    }
}

fn is_served_by(node: &NodeInfo) -> bool {
    use NodeState::*;
    node.tier == Tier::Frontend && matches!(node.state, Active | Starting | ControlledShutdown)
}

#[cfg(test)]
pub(crate) mod tests {
    use tailwater_types::{LeaderEpoch, Offset};

    use super::*;

    pub(crate) fn topic_id(number: u8) -> TopicId {
        TopicId::from_bytes([number; 16])
    }

    pub(crate) fn topic(number: u8, name: &str) -> MetadataChange {
        MetadataChange::Topic(TopicInfo {
            id: topic_id(number),
            name: name.to_owned(),
            configs: BTreeMap::new(),
            internal: false,
        })
    }

    pub(crate) fn partition(topic: u8, index: i32, stream: u64, leader: u32) -> MetadataChange {
        MetadataChange::Partition(PartitionInfo {
            topic: topic_id(topic),
            index,
            stream: StreamId(stream),
            leader: Some(NodeId(leader)),
            leader_epoch: LeaderEpoch(0),
        })
    }

    pub(crate) fn update(previous: Option<u64>, version: u64, changes: Vec<MetadataChange>) -> MetadataUpdate {
        MetadataUpdate {
            version: MetadataVersion(version),
            previous: previous.map(MetadataVersion),
            changes,
        }
    }

    fn progress(stream: u64, uploaded: i64) -> MetadataChange {
        MetadataChange::Stream(StreamProgress {
            stream: StreamId(stream),
            start: Offset::ZERO,
            uploaded: Offset(uploaded),
            cleaned: Offset::ZERO,
        })
    }

    /// Changes in a row add up, a partition may stand in front of its topic, and an update that skips one is refused.
    #[test]
    fn updates_follow_each_other() {
        let mut here = Snapshot::new(NodeId(1));
        let first = vec![partition(1, 0, 10, 1), topic(1, "a"), progress(10, 5)];
        here.apply(&update(None, 4, first)).unwrap();
        here.apply(&update(Some(4), 5, vec![progress(10, 9)])).unwrap();
        assert_eq!(here.progress(StreamId(10)).unwrap().uploaded, Offset(9));
        assert_eq!(here.topic_named("a").unwrap().partitions.len(), 1);
        assert_eq!(
            here.apply(&update(Some(6), 7, vec![])),
            Err(Gap::Version {
                expected: MetadataVersion(5),
                found: MetadataVersion(6)
            })
        );
    }

    /// A snapshot replaces everything: what it doesn't name is gone.
    #[test]
    fn a_snapshot_starts_anew() {
        let mut here = Snapshot::new(NodeId(1));
        here.apply(&update(None, 4, vec![topic(1, "a")])).unwrap();
        here.apply(&update(None, 9, vec![topic(2, "b")])).unwrap();
        assert!(here.topic_named("a").is_none() && here.topic(topic_id(1)).is_none());
        assert_eq!(here.version(), MetadataVersion(9));
    }

    /// A deleted topic takes its partitions' progress with it, and leaves a namesake with another id alone.
    #[test]
    fn a_recreated_topic_is_another_one() {
        let mut here = Snapshot::new(NodeId(1));
        let changes = vec![topic(1, "a"), partition(1, 0, 10, 1), progress(10, 5)];
        here.apply(&update(None, 1, changes)).unwrap();
        let recreated = vec![
            topic(2, "a"),
            partition(2, 0, 11, 1),
            MetadataChange::TopicDeleted(topic_id(1)),
        ];
        here.apply(&update(Some(1), 2, recreated)).unwrap();
        assert_eq!(here.topic_named("a").unwrap().info.id, topic_id(2));
        assert!(here.progress(StreamId(10)).is_none());
        assert!(here.partition(topic_id(2), 0).is_some());
    }

    /// Topics inherit what is set of their broker and of all brokers, as soon as it is set and until it isn't.
    #[test]
    fn topics_follow_their_brokers_settings() {
        let config = |node: Option<u32>, bytes: Option<&str>| {
            let set = |value: &str| ("message.max.bytes".to_owned(), value.to_owned());
            MetadataChange::Config(ConfigInfo {
                resource: ConfigResource::Broker(node.map(NodeId)),
                configs: bytes.map(set).into_iter().collect(),
            })
        };
        let mut here = Snapshot::new(NodeId(1));
        let mut bytes = |version: u64, change: MetadataChange| {
            let previous = (version > 1).then(|| version - 1);
            here.apply(&update(previous, version, vec![change])).unwrap();
            here.topic_named("a").map(|topic| topic.settings.max_message_bytes)
        };
        assert_eq!(bytes(1, config(None, Some("10"))), None);
        assert_eq!(bytes(2, topic(1, "a")), Some(10));
        assert_eq!(bytes(3, config(Some(2), Some("20"))), Some(10), "another node's");
        assert_eq!(bytes(4, config(Some(1), Some("30"))), Some(30));
        assert_eq!(bytes(5, config(Some(1), None)), Some(10));
        assert_eq!(bytes(6, config(None, None)), Some(1_048_588));
    }
}
