//! Typed look-ups, the same over the state and over a step in the making.

use std::sync::Arc;

use tailwater_format::metadata::{
    CleaningRecord, ClusterRecord, ConfigRecord, Counters, DeletionRecord, DeviceRecord, JournalRecord, Key,
    NodeRecord, ObjectRecord, Record, StreamBlock, StreamRow, TopicRecord,
};
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceId, JournalId, NodeEpoch, NodeId, ObjectId, StreamId, TaskId, TopicId,
};

macro_rules! lookup {
    ($name:ident($id:ty) -> $variant:ident($record:ty)) => {
        fn $name(&self, id: $id) -> Option<&Arc<$record>> {
            match self.record(Key::$variant(id)) {
                Some(Record::$variant(record)) => Some(record),
                _ => None,
            }
        }
    };
}

/// Something that has records.
pub trait View {
    fn record(&self, key: Key) -> Option<&Record>;

    lookup!(node(NodeId) -> Node(NodeRecord));
    lookup!(device(DeviceId) -> Device(DeviceRecord));
    lookup!(topic(TopicId) -> Topic(TopicRecord));
    lookup!(block(u64) -> Streams(StreamBlock));
    lookup!(journal(JournalId) -> Journal(JournalRecord));
    lookup!(object(ObjectId) -> Object(ObjectRecord));
    lookup!(deletion(TaskId) -> Deletion(DeletionRecord));
    lookup!(config(u64) -> Config(ConfigRecord));
    lookup!(cleaning(TaskId) -> Cleaning(CleaningRecord));

    fn row(&self, stream: StreamId) -> Option<&StreamRow> {
        self.block(Key::block_of(stream))?.rows.get(&stream)
    }

    fn counters(&self) -> Counters {
        match self.record(Key::Counters) {
            Some(Record::Counters(counters)) => **counters,
            _ => Counters::default(),
        }
    }

    fn cluster(&self) -> ClusterRecord {
        match self.record(Key::Cluster) {
            Some(Record::Cluster(cluster)) => (**cluster).clone(),
            _ => ClusterRecord {
                cluster: ClusterId::from_bytes([0; 16]),
                term: ControllerEpoch(0),
            },
        }
    }

    /// Whether this is the registration that the node has now, and is not fenced.
    fn is_registered(&self, (node, epoch): (NodeId, NodeEpoch)) -> bool {
        self.node(node)
            .is_some_and(|record| record.granted && record.epoch == epoch)
    }
}
