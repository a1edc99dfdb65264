//! DescribeLogDirs: how large the partitions are that this node leads.
//!
//! Owns: the one directory that a frontend shows. A partition's size is that of its batches in objects, as the controller
//! counts them, and of what isn't uploaded yet. The directory stands for object storage, whose size nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str};
use tailwater_types::StreamId;

use crate::error_codes;
use crate::partition::Partition;
use crate::server::Handlers;

const LOG_DIR: &str = "object-storage";
/// Streams that the controller is asked about at once.
const STREAMS_AT_ONCE: usize = 1000;

pub(crate) async fn describe_log_dirs(handlers: &Handlers, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let mut partitions = handlers.partitions().all();
    if let Some(topics) = &request.topics {
        let asked: BTreeSet<(&str, i32)> = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|index| (&*topic.topic, *index)))
            .collect();
        partitions.retain(|partition| asked.contains(&(&**partition.topic_name(), partition.index())));
    }
    let (error_code, topics) = match uploaded_bytes(handlers, &partitions).await {
        Ok(uploaded) => (ErrorCode::None, show(&partitions, &uploaded)),
        Err(error) => {
            tracing::info!(%error, "the sizes of partitions aren't known for now");
            (error_codes::of_sizes(&error), Vec::new())
        }
    };
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            error_code,
            log_dir: Str::from_static(LOG_DIR),
            topics,
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn uploaded_bytes(
    handlers: &Handlers,
    partitions: &[Arc<Partition>],
) -> Result<BTreeMap<StreamId, u64>, tailwater_rpc::Error> {
    let objects = &handlers.session().controller().objects;
    let mut bytes = BTreeMap::new();
    for some in partitions.chunks(STREAMS_AT_ONCE) {
        let streams = some.iter().map(|partition| partition.stream()).collect();
        let uploads = objects.stream_uploads(streams).await?;
        bytes.extend(uploads.into_iter().map(|upload| (upload.stream, upload.bytes)));
    }
    Ok(bytes)
}

fn show(partitions: &[Arc<Partition>], uploaded: &BTreeMap<StreamId, u64>) -> Vec<DescribeLogDirsTopic> {
    let mut topics: BTreeMap<&Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in partitions {
        let in_objects = uploaded.get(&partition.stream()).copied().unwrap_or(0);
        let shown = DescribeLogDirsPartition {
            partition_index: partition.index(),
            partition_size: i64::try_from(in_objects + partition.tail_bytes()).unwrap_or(i64::MAX),
            ..Default::default()
        };
        topics.entry(partition.topic_name()).or_default().push(shown);
    }
    let topic = |(name, partitions): (&Arc<str>, _)| DescribeLogDirsTopic {
        name: Str::from(&**name),
        partitions,
    };
    topics.into_iter().map(topic).collect()
}
