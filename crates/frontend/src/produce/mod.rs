//! Produce: batches into partitions.
//!
//! Owns: one request from its decoded form to its answer, in two steps. [`ProduceHandler::append`] gives every batch its
//! offsets; requests of one connection pass through it in order. [`PendingProduce::answer`] waits for the commits, while
//! the connection's next requests already append. Does not own: offsets (`partition`), sockets (`server`).

mod record_faults;
mod reencode;
mod transactional;
mod validate;

#[cfg(test)]
mod codecs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tailwater_codec::Encoding;
use tailwater_kafka::batch::{BatchHeader, Compression};
use tailwater_kafka::messages::{
    PartitionProduceData, PartitionProduceResponse, ProduceLeaderIdAndEpoch, ProduceNodeEndpoint, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use tailwater_kafka::{ErrorCode, Str, Uuid};
use tailwater_log::Refusal as SequenceRefusal;
use tailwater_runtime::clock::Instant;
use tailwater_runtime::{Clock, Tasks, ZstdPool};
use tailwater_types::{LeaderEpoch, NodeId, TopicId};

use crate::config::ProduceConfig;
use crate::error_codes;
use crate::listeners::ListenerName;
use crate::metadata::brokers;
use crate::metrics::RequestMetrics;
use crate::partition::{Append, AppendError, Appended, Missing, Partition, Partitions};
use crate::txn::Transactions;
use crate::view::{Snapshot, Topic, View};

use transactional::{Unverified, Verified};

#[cfg(test)]
pub(crate) use codecs::compress as compressed_for_tests;
use validate::validate;
pub use validate::{Refusal, Rules};

/// The first version that names topics by id (KIP-516).
const FIRST_ID_VERSION: i16 = 13;
/// A compressed batch up to this size is validated where the request is; a larger one where it holds nobody up.
const INLINE_COMPRESSED_BYTES: usize = 64 << 10;

/// Serves Produce; clones share everything.
#[derive(Clone)]
pub struct ProduceHandler {
    pub view: View,
    pub partitions: Partitions,
    pub config: ProduceConfig,
    pub zstd: Arc<ZstdPool>,
    pub clock: Clock,
    pub tasks: Tasks,
    pub metrics: RequestMetrics,
    /// Whom producers' transactions are coordinated by; until it is set, nobody is in one.
    pub transactions: Option<Transactions>,
}

/// What the client is to be told.
#[derive(Debug)]
pub enum ProduceAnswer {
    Response(ProduceResponse),
    /// With acks=0 nobody waits for anything.
    Nothing,
    /// With acks=0 an error can be told in no other way.
    Close,
}

/// A request whose batches have their offsets.
#[must_use = "the client waits for the answer"]
pub struct PendingProduce {
    acks: i16,
    deadline: Instant,
    topics: Vec<PendingTopic>,
    by_id: bool,
    listener: ListenerName,
    handler: ProduceHandler,
}

struct PendingTopic {
    name: Str,
    id: Uuid,
    partitions: Vec<PendingPartition>,
}

struct PendingPartition {
    index: i32,
    outcome: Result<(Arc<Partition>, Appended), Failure>,
}

/// Why a partition's batch wasn't appended.
enum Failure {
    Code(ErrorCode),
    /// By its transaction's coordinator.
    Unverified(Unverified),
    /// With the name of the partition, for who is told of its records.
    Refusal(Refusal, String),
    Missing(Missing),
    Append(AppendError),
}

impl ProduceHandler {
    /// Appends the request's batches, in its order. The client came through `listener`; `frame_bytes` is the memory that the request's buffer keeps alive.
    ///
    /// Waits only for the WAL's credit, and for the coordinator of a transaction that begins here, up to the request's own
    /// timeout. If the future is dropped, each batch was appended
    /// whole or not at all.
    pub async fn append(
        &self,
        request: ProduceRequest,
        version: i16,
        listener: &ListenerName,
        frame_bytes: usize,
    ) -> PendingProduce {
        let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
        let deadline = self.clock.now() + timeout.min(self.config.max_timeout.as_duration());
        let by_id = version >= FIRST_ID_VERSION;
        let batches = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
        let shared_bytes = batches
            .filter_map(|data| data.records.as_ref())
            .map(BytesMut::len)
            .sum();
        let verified = transactional::verify(self, &request, version, deadline).await;
        let job = Job {
            handler: self,
            version,
            deadline,
            backing_bytes: frame_bytes.max(shared_bytes),
            shared_bytes,
            refused: refuse_request(&request),
            verified,
        };
        let mut topics = Vec::with_capacity(request.topic_data.len());
        for topic in request.topic_data {
            topics.push(job.append_topic(topic, by_id).await);
        }
        PendingProduce {
            acks: request.acks,
            deadline,
            topics,
            by_id,
            listener: listener.clone(),
            handler: self.clone(),
        }
    }
}

/// What is wrong with the request as a whole.
fn refuse_request(request: &ProduceRequest) -> Option<ErrorCode> {
    (!(-1..=1).contains(&request.acks)).then_some(ErrorCode::InvalidRequiredAcks)
}

/// One request while its batches are appended.
struct Job<'a> {
    handler: &'a ProduceHandler,
    version: i16,
    deadline: Instant,
    backing_bytes: usize,
    shared_bytes: usize,
    refused: Option<ErrorCode>,
    verified: Verified,
}

impl Job<'_> {
    async fn append_topic(&self, data: TopicProduceData, by_id: bool) -> PendingTopic {
        let view = self.handler.view.snapshot();
        let topic = if by_id {
            view.topic(TopicId(data.topic_id))
        } else {
            view.topic_named(&data.name)
        };
        let topic = topic.cloned();
        drop(view);
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let outcome = self.append_partition(topic.as_deref(), partition).await;
            partitions.push(PendingPartition { index, outcome });
        }
        PendingTopic {
            name: data.name,
            id: data.topic_id,
            partitions,
        }
    }

    async fn append_partition(
        &self,
        topic: Option<&Topic>,
        data: PartitionProduceData,
    ) -> Result<(Arc<Partition>, Appended), Failure> {
        if let Some(code) = self.refused {
            return Err(Failure::Code(code));
        }
        let topic = topic.ok_or(Failure::Missing(Missing::UnknownTopic))?;
        if topic.info.internal {
            return Err(Failure::Code(ErrorCode::InvalidTopicException));
        }
        let partition = self.handler.partitions.get(topic.info.id, data.index);
        let partition = partition.map_err(Failure::Missing)?;
        let batch = data.records.unwrap_or_default();
        let checked = self.validate(batch, topic).await?;
        let refused = |refusal| Failure::Refusal(refusal, format!("{}-{}", topic.name, data.index));
        let (header, batch) = checked.map_err(refused)?;
        let guard = self
            .verified
            .guard(topic.info.id, data.index, &header)
            .map_err(Failure::Unverified)?;
        // What was encoded anew is in memory of its own.
        let (backing_bytes, shared_bytes) = match batch.is_new {
            true => (batch.bytes.len(), batch.bytes.len()),
            false => (self.backing_bytes, self.shared_bytes),
        };
        let append = Append {
            header,
            batch: batch.bytes,
            backing_bytes,
            shared_bytes,
            log_append_time: topic.settings.is_log_append_time,
            guard,
            deadline: self.deadline,
        };
        let bytes = append.batch.len() as u64;
        let appended = partition.append(append).await.map_err(|error| {
            let partitions = &self.handler.partitions;
            match (error, partitions.get(partition.topic(), partition.index())) {
                // A marker, or another leadership, has taken the guard: a sound batch finds a new one when it is repeated.
                (AppendError::Refused(SequenceRefusal::InvalidTransactionState { .. }), _) if guard.is_some() => {
                    Failure::Code(ErrorCode::NotEnoughReplicas)
                }
                // It has another leader now, which the client is told of.
                (AppendError::NotLeader, Err(missing)) => Failure::Missing(missing),
                (error, _) => Failure::Append(error),
            }
        })?;
        self.handler.metrics.produced_batches.inc();
        self.handler.metrics.produced_bytes.inc_by(bytes);
        Ok((partition, appended))
    }

    /// The batch as it is to be stored. Whatever takes long is done where it holds nobody up.
    async fn validate(
        &self,
        batch: BytesMut,
        topic: &Topic,
    ) -> Result<Result<(BatchHeader, Checked), Refusal>, Failure> {
        let settings = &topic.settings;
        let now_ms = self.handler.clock.wall_ms();
        let rules = Rules {
            version: self.version,
            max_message_bytes: settings.max_message_bytes,
            max_decompressed_bytes: self.handler.config.max_decompressed_bytes.as_usize(),
            needs_keys: settings.compacts,
            times_ms: (!settings.is_log_append_time).then(|| {
                now_ms.saturating_sub(settings.timestamp_before_max_ms)
                    ..=now_ms.saturating_add(settings.timestamp_after_max_ms)
            }),
        };
        let stored_as = settings.stored_as;
        let takes_long = BatchHeader::read(&batch)
            .and_then(|header| header.compression())
            .is_ok_and(|compression| {
                compression != Compression::None || reencode::is_due(stored_as, compression).is_some()
            });
        if !takes_long || batch.len() <= INLINE_COMPRESSED_BYTES {
            return Ok(check(batch, stored_as, &rules, &self.handler.zstd));
        }
        let zstd = self.handler.zstd.clone();
        let checked = self
            .handler
            .tasks
            .run_blocking("validate-batch", move || check(batch, stored_as, &rules, &zstd));
        match checked.await {
            Ok(checked) => Ok(checked),
            Err(error) => {
                tracing::debug!(%error, "batch was not validated");
                Err(Failure::Code(ErrorCode::NotLeaderOrFollower))
            }
        }
    }
}

/// A batch that may be stored.
struct Checked {
    bytes: BytesMut,
    /// Whether it isn't the producer's any more.
    is_new: bool,
}

/// Holds a batch against the rules, and encodes it anew where its topic asks for that.
fn check(
    batch: BytesMut,
    stored_as: Option<Encoding>,
    rules: &Rules,
    zstd: &ZstdPool,
) -> Result<(BatchHeader, Checked), Refusal> {
    let header = validate(&batch, rules, zstd)?;
    let (header, bytes, is_new) = match reencode::is_due(stored_as, header.compression()?) {
        Some(encoding) => {
            let (header, bytes) = reencode::reencode(&header, &batch, encoding, rules, zstd)?;
            (header, bytes, true)
        }
        None => (header, batch, false),
    };
    Ok((header, Checked { bytes, is_new }))
}

impl PendingProduce {
    /// Waits until every batch is committed, has failed, or the request's time is over.
    pub async fn answer(self) -> ProduceAnswer {
        let mut answer = Answer {
            handler: &self.handler,
            by_id: self.by_id,
            listener: &self.listener,
            endpoints: BTreeMap::new(),
            failed: false,
        };
        let mut responses = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let mut partition_responses = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let response = match (self.acks, partition.outcome) {
                    // Nobody asks what becomes of it.
                    (0, Ok(_)) => continue,
                    (_, Ok((led, appended))) => answer.committed(&led, appended, self.deadline).await,
                    (_, Err(failure)) => answer.failure(&failure),
                };
                partition_responses.push(PartitionProduceResponse {
                    index: partition.index,
                    ..response
                });
            }
            responses.push(TopicProduceResponse {
                name: topic.name,
                topic_id: topic.id,
                partition_responses,
            });
        }
        match (self.acks, answer.failed) {
            (0, false) => ProduceAnswer::Nothing,
            (0, true) => ProduceAnswer::Close,
            _ => ProduceAnswer::Response(ProduceResponse {
                responses,
                node_endpoints: answer.endpoints.into_values().collect(),
                ..ProduceResponse::default()
            }),
        }
    }
}

/// An answer while it is put together.
struct Answer<'a> {
    handler: &'a ProduceHandler,
    by_id: bool,
    listener: &'a ListenerName,
    /// Leaders that the client is sent to (KIP-951).
    endpoints: BTreeMap<NodeId, ProduceNodeEndpoint>,
    failed: bool,
}

impl Answer<'_> {
    async fn committed(
        &mut self,
        partition: &Partition,
        appended: Appended,
        deadline: Instant,
    ) -> PartitionProduceResponse {
        // Most commits are there before a timer would be worth its while; the deadline still holds for those that aren't.
        match self.handler.clock.timeout_at(deadline, appended.committed()).await {
            Ok(Ok(commit)) => {
                if commit.duplicate {
                    self.handler.metrics.duplicates.inc();
                }
                PartitionProduceResponse {
                    base_offset: commit.base_offset.0,
                    log_append_time_ms: commit.log_append_time_ms,
                    log_start_offset: partition.log_start().0,
                    ..PartitionProduceResponse::default()
                }
            }
            Ok(Err(_ended)) => match self.handler.partitions.get(partition.topic(), partition.index()) {
                Err(missing) => self.failure(&Failure::Missing(missing)),
                // It has been opened again: the producer's repeat finds out what became of the batch.
                Ok(_) => self.failure(&Failure::Code(ErrorCode::NotLeaderOrFollower)),
            },
            Err(_elapsed) => self.failure(&Failure::Code(ErrorCode::RequestTimedOut)),
        }
    }

    fn failure(&mut self, failure: &Failure) -> PartitionProduceResponse {
        self.failed = true;
        let (error_code, error_message) = match failure {
            Failure::Code(code) => (*code, None),
            Failure::Unverified(Unverified { code, message }) => (*code, message.map(str::to_owned)),
            Failure::Refusal(refusal, partition) => {
                let message = match refusal {
                    Refusal::Records(faults) => faults.summary(partition),
                    refusal => refusal.to_string(),
                };
                (error_codes::of_refusal(refusal), Some(message))
            }
            Failure::Missing(missing) => (error_codes::of_missing(missing, self.by_id), None),
            Failure::Append(error) => (error_codes::of_append(error), Some(error.to_string())),
        };
        let record_errors = match failure {
            Failure::Refusal(Refusal::Records(faults), partition) => faults.errors(partition),
            _ => Vec::new(),
        };
        let current_leader = match failure {
            Failure::Missing(missing) => self.leader(missing),
            _ => ProduceLeaderIdAndEpoch::default(),
        };
        let errors = &self.handler.metrics.produce_errors;
        errors.with_label_values(&[&format!("{error_code:?}")]).inc();
        PartitionProduceResponse {
            error_code,
            error_message: error_message.map(Str::from),
            base_offset: -1,
            record_errors,
            current_leader,
            ..PartitionProduceResponse::default()
        }
    }

    /// Kafka.md section 3, rule 11: who leads the partition, and where it is reached.
    fn leader(&mut self, missing: &Missing) -> ProduceLeaderIdAndEpoch {
        let Missing::NotLeader {
            leader: Some(leader),
            leader_epoch: LeaderEpoch(leader_epoch),
        } = *missing
        else {
            return ProduceLeaderIdAndEpoch::default();
        };
        let Some(endpoint) = endpoint(&self.handler.view.snapshot(), leader, self.listener) else {
            return ProduceLeaderIdAndEpoch::default();
        };
        self.endpoints.insert(leader, endpoint);
        ProduceLeaderIdAndEpoch {
            leader_id: brokers::broker_id(leader),
            leader_epoch,
        }
    }
}

fn endpoint(view: &Snapshot, node: NodeId, listener: &ListenerName) -> Option<ProduceNodeEndpoint> {
    let address = brokers::endpoint(view, node, listener)?;
    Some(ProduceNodeEndpoint {
        node_id: brokers::broker_id(node),
        host: Str::from(address.host.as_str()),
        port: i32::from(address.port),
        rack: None,
    })
}
