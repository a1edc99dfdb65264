//! One look at all partitions of a fetch, in request order.
//!
//! Owns: what fits into the answer (docs/kafka.md rules 4 to 6): whole batches, each partition's bound and the
//! request's, and the first batch of the first partition that has one whatever its size. Under read_committed it ends at the
//! last stable offset, and says what of it was aborted (rule 7).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use tailwater_format::snapshot::AbortedTransaction;
use tailwater_kafka::Str;
use tailwater_kafka::messages::{
    self, FetchLeaderIdAndEpoch, FetchNodeEndpoint, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use tailwater_runtime::{BytePermit, ByteSemaphore};
use tailwater_types::{NodeId, Offset};

use super::target::{Refused, Target};
use super::{FIRST_LEADER_VERSION, FetchHandler, Fetched};
use crate::error_codes;
use crate::listeners::ListenerName;
use crate::metadata::brokers;
use crate::partition::{Partition, ReadError};

/// How many partitions of one fetch are read from the WAL or from objects at the same time.
const COLD_READS: usize = 4;

/// What one look has found, for each target.
pub(super) struct Pass {
    found: Vec<Result<Found, Refused>>,
    bytes: usize,
    /// Those of them that the tail cache doesn't have.
    cold_bytes: usize,
    /// Permits for these.
    memory: Vec<BytePermit>,
}

struct Found {
    high_watermark: Offset,
    last_stable: Offset,
    log_start: Offset,
    batches: Vec<Bytes>,
    /// Of what is in the batches; `None` for who reads everything.
    aborted: Option<Vec<AbortedTransaction>>,
}

impl Pass {
    pub async fn run(handler: &FetchHandler, request: &FetchRequest, targets: &[Target]) -> Self {
        let request_max = usize::try_from(request.max_bytes).unwrap_or(0);
        let max_bytes = request_max.min(handler.config.max_bytes.as_usize());
        let cold: Vec<_> = targets.iter().filter(|target| target.is_cold()).collect();
        if cold.is_empty() {
            return Self::look(targets, max_bytes).await;
        }
        let asked: usize = cold.iter().map(|target| target.max_bytes.min(max_bytes)).sum();
        let mut expected = asked.min(max_bytes) as u64;
        loop {
            let permit = handler.cold_bytes.acquire(expected).await;
            let mut pass = Self::look(targets, max_bytes).await;
            match charge(&handler.cold_bytes, permit, pass.cold_bytes as u64) {
                Ok(memory) => {
                    pass.memory = memory;
                    return pass;
                }
                Err(found) => expected = found,
            }
        }
    }

    async fn look(targets: &[Target], max_bytes: usize) -> Self {
        let reads = targets.iter().enumerate().filter(|(_, target)| target.is_cold());
        // Collected: the closures' types would make this future one that can't be shown to be `Send`.
        let reads: Vec<_> = reads
            .map(|(at, target)| async move { (at, target.read(max_bytes, true).await) })
            .collect();
        // They come in request order: whichever is first is the one that may be larger than allowed.
        let mut cold = stream::iter(reads).buffered(COLD_READS).peekable();
        let mut pass = Self {
            found: Vec::with_capacity(targets.len()),
            bytes: 0,
            cold_bytes: 0,
            memory: Vec::new(),
        };
        for (at, target) in targets.iter().enumerate() {
            let left = max_bytes.saturating_sub(pass.bytes);
            let first = pass.bytes == 0;
            if left == 0 && !first {
                pass.found.push(target.read_nothing());
                continue;
            }
            let is_next = std::pin::Pin::new(&mut cold)
                .next_if(|(cold_at, _)| *cold_at == at)
                .await;
            let found = match is_next {
                Some((_, found)) => {
                    let found = found.map(|found| found.within(left, first));
                    pass.cold_bytes += found.as_ref().map_or(0, Found::bytes);
                    found
                }
                None => target.read(left, first).await,
            };
            pass.bytes += found.as_ref().map_or(0, Found::bytes);
            pass.found.push(found);
        }
        pass
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn has_error(&self) -> bool {
        self.found.iter().any(Result::is_err)
    }

    /// What each target's high watermark was when it was looked at.
    pub fn high_watermarks(&self) -> impl Iterator<Item = Offset> {
        let seen = |found: &Result<Found, Refused>| found.as_ref().map_or(Offset::ZERO, |found| found.high_watermark);
        self.found.iter().map(seen)
    }

    pub fn into_response(
        self,
        request: &FetchRequest,
        version: i16,
        listener: &ListenerName,
        targets: &[Target],
        handler: &FetchHandler,
    ) -> Fetched {
        let mut endpoints: BTreeMap<NodeId, FetchNodeEndpoint> = BTreeMap::new();
        let topic_response = |topic: &tailwater_kafka::messages::FetchTopic| FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: Vec::with_capacity(topic.partitions.len()),
        };
        let mut responses: Vec<_> = request.topics.iter().map(topic_response).collect();
        for (target, found) in targets.iter().zip(self.found) {
            let index = request.topics[target.topic].partitions[target.at].partition;
            let data = match found {
                Ok(found) => found.into_data(),
                Err(refused) => {
                    let leader = refused.leader.filter(|_| version >= FIRST_LEADER_VERSION);
                    refused_data(Refused { leader, ..refused }, listener, handler, &mut endpoints)
                }
            };
            responses[target.topic].partitions.push(PartitionData {
                partition_index: index,
                ..data
            });
        }
        Fetched {
            response: FetchResponse {
                responses,
                node_endpoints: endpoints.into_values().collect(),
                ..FetchResponse::default()
            },
            memory: self.memory,
        }
    }
}

/// Turns the permit for what was asked for into those for what was found. A first batch may be larger than asked for.
///
/// # Errors
/// What was found, if there is no permit for the rest of it now. To wait for that while this one is held would let two
/// fetches wait for each other: all is to be given up, and read again with a permit for this much.
fn charge(memory: &ByteSemaphore, mut permit: BytePermit, found: u64) -> Result<Vec<BytePermit>, u64> {
    if found == 0 {
        return Ok(Vec::new());
    }
    let missing = found.min(memory.total_bytes()).saturating_sub(permit.bytes());
    if missing == 0 {
        permit.shrink(found);
        return Ok(vec![permit]);
    }
    let rest = memory.try_acquire(missing).ok_or(found)?;
    Ok(vec![permit, rest])
}

impl Target {
    /// Whether there is something to read that the tail cache doesn't have.
    fn is_cold(&self) -> bool {
        self.partition
            .as_ref()
            .is_ok_and(|partition| !partition.has_in_memory(self.offset, self.end(partition)))
    }

    /// Where what it may read ends.
    fn end(&self, partition: &Partition) -> Offset {
        match self.read_committed {
            true => partition.last_stable_offset(),
            false => partition.high_watermark(),
        }
    }

    async fn read(&self, max_bytes: usize, first_whole: bool) -> Result<Found, Refused> {
        let mut found = self.read_nothing()?;
        let partition = self.partition.as_ref().map_err(|refused| *refused)?;
        let end = match self.read_committed {
            true => found.last_stable,
            false => found.high_watermark,
        };
        // Between the high watermark and the log end nothing is committed yet, between the last stable offset and the high
        // watermark something is undecided: a consumer that came from an older leader, or read everything before, waits.
        if self.offset > end && self.offset <= partition.log_end() {
            return Ok(found);
        }
        let max_bytes = max_bytes.min(self.max_bytes);
        if !self.read_committed {
            let read = partition.read(self.offset, end, max_bytes, first_whole);
            found.batches = read.await.map_err(|error| self.read_failed(&error))?;
        } else {
            let read = partition.read_committed(self.offset, end, max_bytes, first_whole);
            let (batches, aborted) = read.await.map_err(|error| self.read_failed(&error))?;
            (found.batches, found.aborted) = (batches, Some(aborted));
            // Of what is deleted nobody remembers what was aborted: that may have happened since it was read.
            let start = partition.log_start();
            if start > self.offset {
                let offset = self.offset;
                return Err(self.read_failed(&ReadError::OutOfRange { offset, start, end }));
            }
        }
        Ok(found)
    }

    fn read_nothing(&self) -> Result<Found, Refused> {
        let partition = self.partition.as_ref().map_err(|refused| *refused)?;
        if partition.has_ended() {
            return Err(self.read_failed(&ReadError::NotLeader));
        }
        let high_watermark = partition.high_watermark();
        Ok(Found {
            high_watermark,
            last_stable: partition.last_stable_below(high_watermark),
            log_start: partition.log_start(),
            batches: Vec::new(),
            aborted: self.read_committed.then(Vec::new),
        })
    }

    fn read_failed(&self, error: &ReadError) -> Refused {
        if matches!(error, ReadError::Corrupt(_)) {
            let (topic, partition) = self.name();
            tracing::error!(topic, partition, offset = %self.offset, %error, "stored data can't be read");
        }
        Refused {
            code: error_codes::of_read(error),
            leader: None,
        }
    }

    fn name(&self) -> (&str, i32) {
        match &self.partition {
            Ok(partition) => (partition.topic_name(), partition.index()),
            Err(_) => ("", -1),
        }
    }
}

impl Found {
    fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    /// Nothing of it, if it is more than is left; the next fetch asks again.
    fn within(mut self, left: usize, first: bool) -> Self {
        if self.bytes() > left && !first {
            self.batches.clear();
            self.aborted.iter_mut().for_each(Vec::clear);
        }
        self
    }

    fn into_data(self) -> PartitionData {
        let shown = |aborted: AbortedTransaction| messages::AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset.0,
        };
        let aborted = self.aborted.map(|all| all.into_iter().map(shown).collect());
        PartitionData {
            high_watermark: self.high_watermark.0,
            last_stable_offset: self.last_stable.0,
            log_start_offset: self.log_start.0,
            aborted_transactions: aborted,
            records: Some(self.batches.into_iter().collect()),
            ..PartitionData::default()
        }
    }
}

fn refused_data(
    refused: Refused,
    listener: &ListenerName,
    handler: &FetchHandler,
    endpoints: &mut BTreeMap<NodeId, FetchNodeEndpoint>,
) -> PartitionData {
    handler.metrics.refused_fetch(refused.code);
    let mut data = PartitionData {
        error_code: refused.code,
        high_watermark: -1,
        ..PartitionData::default()
    };
    let Some((leader, leader_epoch)) = refused.leader else {
        return data;
    };
    let snapshot = handler.view.snapshot();
    if let Some(address) = brokers::endpoint(&snapshot, leader, listener) {
        data.current_leader = FetchLeaderIdAndEpoch {
            leader_id: brokers::broker_id(leader),
            leader_epoch: leader_epoch.0,
        };
        let endpoint = FetchNodeEndpoint {
            node_id: brokers::broker_id(leader),
            host: Str::from(address.host.as_str()),
            port: i32::from(address.port),
            rack: None,
        };
        endpoints.insert(leader, endpoint);
    }
    data
}
