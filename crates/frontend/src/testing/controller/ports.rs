//! The five ports of the controller in memory: what a frontend may call.
//!
//! Owns nothing: the state and what tests do with it are [`super`]'s.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use tailwater_rpc::controller::{
    AlterConfigs, Caller, Catalog, CloseStream, CommitObjects, ConfigInfo, ConfigResource, CreatePartitions,
    CreatedTopic, DeleteRecords, Heartbeat, HeartbeatAnswer, JournalGrant, JournalInfo, Journals, Lease, LeaseRef,
    MetadataChange, MetadataUpdate, NewTopic, NodeInfo, NodeState, Nodes, Objects, OpenStream, OpenedStream,
    PrepareObjects, PreparedObject, ProducerIds, RegisterNode, Registration, StreamObjects, StreamTail, StreamUpload,
    TaskKind, Tasks, Tier, Work,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, DeviceId, JournalId, LsnRange, MetadataVersion, Offset, Outcome, StreamId,
    TopicId,
};

use super::{FakeController, FakeJournal, FakeStream};
use crate::testing::wal::unused;

#[async_trait]
impl Nodes for FakeController {
    async fn register(&self, request: RegisterNode) -> Result<Registration> {
        let mut inner = self.inner.lock();
        let epoch = inner.node_epochs.entry(request.node).or_default();
        *epoch = epoch.next();
        let epoch = *epoch;
        // What an older epoch left open is sealed.
        inner.seal_all_of(request.node, &self.wal);
        let info = NodeInfo {
            node: request.node,
            tier: Tier::Frontend,
            epoch,
            state: NodeState::Active,
            endpoints: request.endpoints,
            address: None,
            device: None,
        };
        inner.nodes.insert(request.node, info.clone());
        self.publish(&mut inner, vec![MetadataChange::Node(info)]);
        Ok(Registration {
            cluster: ClusterId::from_random(9),
            controller_epoch: ControllerEpoch(1),
            node_epoch: epoch,
            device_epoch: None,
            lease: inner.lease,
        })
    }

    async fn confirm_device(&self, _: Caller, _: DeviceId, _: DeviceEpoch) -> Result<()> {
        unused()
    }

    async fn heartbeat(&self, caller: Caller, request: Heartbeat) -> Result<HeartbeatAnswer> {
        if self.inner.lock().hears_nothing {
            return Err(Error::Unavailable {
                detail: "nobody hears it".to_owned(),
                outcome: Outcome::Unknown,
            });
        }
        self.check(caller)?;
        let mut inner = self.inner.lock();
        let mut led = inner.streams.values().map(|stream| stream.partition.leader);
        let leads = led.any(|leader| leader == Some(caller.node));
        let state = match request.controlled_shutdown {
            false => NodeState::Active,
            true if leads && inner.others(caller.node).is_some() => NodeState::ControlledShutdown,
            true => NodeState::ShuttingDown,
        };
        let info = inner.nodes.get_mut(&caller.node).expect("it is registered");
        if info.state != state {
            info.state = state;
            let changes = vec![MetadataChange::Node(info.clone())];
            self.publish(&mut inner, changes);
        }
        if state == NodeState::ShuttingDown && !leads {
            inner.seal_all_of(caller.node, &self.wal);
        }
        Ok(HeartbeatAnswer {
            controller_epoch: ControllerEpoch(1),
            state,
            asked: inner.asks.clone(),
            lease: inner.lease,
        })
    }

    async fn watch_nodes(&self) -> Result<Stream<Vec<NodeInfo>>> {
        Err(Error::Internal("not needed".to_owned()))
    }

    async fn watch(&self, caller: Caller) -> Result<Stream<Arc<MetadataUpdate>>> {
        self.check(caller)?;
        let inner = self.inner.lock();
        let first = Arc::new(inner.snapshot());
        let updates = self.updates.subscribe();
        let later = futures::stream::unfold(updates, |mut updates| async move {
            let update = updates.recv().await.ok()?;
            Some((Ok(update), updates))
        });
        Ok(futures::stream::iter([Ok(first)]).chain(later).boxed())
    }
}

#[async_trait]
impl Catalog for FakeController {
    async fn create_topic(&self, _: Caller, topic: NewTopic) -> Result<CreatedTopic> {
        let configs: Vec<_> = topic.configs.iter().map(|(key, value)| (&**key, &**value)).collect();
        let id = self.add_topic(&topic.name, topic.partitions, &configs);
        let version = self.inner.lock().version;
        Ok(CreatedTopic { id, version })
    }

    async fn delete_topic(&self, _: Caller, topic: TopicId) -> Result<MetadataVersion> {
        self.delete_topic_now(topic);
        Ok(self.inner.lock().version)
    }

    async fn alter_configs(&self, _: Caller, request: AlterConfigs) -> Result<MetadataVersion> {
        let mut inner = self.inner.lock();
        inner.changes += 1;
        if let Some((error, times)) = &mut inner.failing_changes
            && *times > 0
        {
            *times -= 1;
            return Err(error.clone());
        }
        let resource = request.resource;
        let change = match &resource {
            ConfigResource::Topic(id) => {
                let mut info = inner.topics.get(id).expect("it exists").clone();
                info.configs = request.changes.applied_to(&info.configs);
                MetadataChange::Topic(info)
            }
            other => {
                let before = inner.configs.get(other).cloned().unwrap_or_default();
                let configs = request.changes.applied_to(&before);
                MetadataChange::Config(ConfigInfo { resource, configs })
            }
        };
        if request.validate_only {
            return Ok(inner.version);
        }
        match &change {
            MetadataChange::Config(info) => drop(inner.configs.insert(info.resource.clone(), info.configs.clone())),
            MetadataChange::Topic(info) => drop(inner.topics.insert(info.id, info.clone())),
            _ => {}
        }
        Ok(self.publish(&mut inner, vec![change]))
    }

    async fn create_partitions(&self, _: Caller, request: CreatePartitions) -> Result<MetadataVersion> {
        let mut inner = self.inner.lock();
        let of_topic = |stream: &&FakeStream| stream.partition.topic == request.topic;
        let present = inner.streams.values().filter(of_topic).count() as i32;
        if request.validate_only {
            return Ok(inner.version);
        }
        let mut changes = Vec::new();
        for index in present..request.total {
            changes.extend(inner.add_partition(request.topic, index));
        }
        Ok(self.publish(&mut inner, changes))
    }

    async fn delete_records(&self, _: Caller, request: DeleteRecords) -> Result<MetadataVersion> {
        let mut inner = self.inner.lock();
        let progress = &mut inner.streams.get_mut(&request.stream).expect("it exists").progress;
        progress.start = progress.start.max(request.start);
        let changes = vec![MetadataChange::Stream(*progress)];
        Ok(self.publish(&mut inner, changes))
    }

    async fn allocate_producer_ids(&self, _: Caller) -> Result<ProducerIds> {
        let refuses = {
            let mut inner = self.inner.lock();
            inner.asked_for_ids += 1;
            inner.has_no_ids
        };
        if refuses {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Err(Error::Unavailable {
                detail: "no ids".to_owned(),
                outcome: Outcome::Unknown,
            });
        }
        let mut inner = self.inner.lock();
        inner.next_id += 1;
        Ok(ProducerIds {
            first: inner.next_id as i64 * 1000,
            count: 1000,
        })
    }
}

#[async_trait]
impl Journals for FakeController {
    async fn create_journal(&self, caller: Caller, confirms: bool) -> Result<JournalGrant> {
        self.check(caller)?;
        let mut inner = self.inner.lock();
        let journal = JournalId(inner.journals.len() as u64 + 1);
        inner.seal_all_of(caller.node, &self.wal);
        let opened = FakeJournal {
            owner: caller.node,
            confirmed: !confirms,
            end: None,
        };
        inner.journals.insert(journal, opened);
        Ok(JournalGrant {
            journal,
            ensemble: vec![self.wal.device],
            ack_quorum: 1,
            min_leader_epochs: Vec::new(),
            unconfirmed: confirms,
        })
    }

    async fn confirm_journal(&self, caller: Caller, id: JournalId) -> Result<()> {
        self.check(caller)?;
        let mut inner = self.inner.lock();
        if inner.confirms_nothing {
            return Err(Error::Unavailable {
                detail: "not now".to_owned(),
                outcome: Outcome::Unknown,
            });
        }
        let journal = inner.journals.get_mut(&id).filter(|journal| journal.end.is_none());
        let journal = journal.ok_or(Error::JournalFenced { journal: id })?;
        journal.confirmed = true;
        Ok(())
    }

    async fn open_streams(&self, caller: Caller, streams: Vec<OpenStream>) -> Result<Vec<Result<OpenedStream>>> {
        self.check(caller)?;
        let inner = self.inner.lock();
        let answer = |open: OpenStream| {
            let stream = inner.streams.get(&open.stream);
            let stream = stream.ok_or_else(|| Error::NotFound("stream".to_owned()))?;
            let led = (stream.partition.leader, stream.partition.leader_epoch);
            if led != (Some(caller.node), open.leader_epoch) {
                return Err(Error::StreamFenced { stream: open.stream });
            }
            let mut tails = Vec::new();
            for (id, journal) in &inner.journals {
                let trim = inner.trims.get(id).copied().unwrap_or_default();
                let end = stream.tail(caller.node, *id, journal)?;
                if end > trim {
                    tails.push(StreamTail {
                        journal: *id,
                        ensemble: vec![self.wal.device],
                        range: LsnRange::new(trim, end),
                    });
                }
            }
            Ok(OpenedStream {
                stream: open.stream,
                start: stream.progress.start,
                uploaded: stream.progress.uploaded,
                snapshot: stream.snapshot.clone(),
                tails,
                closed: stream.ended,
            })
        };
        Ok(streams.into_iter().map(answer).collect())
    }

    async fn close_streams(&self, caller: Caller, streams: Vec<CloseStream>) -> Result<Vec<Result<()>>> {
        self.check(caller)?;
        let mut inner = self.inner.lock();
        inner.closes += 1;
        if inner.closes_nothing {
            return Err(Error::Throttled("not now".to_owned()));
        }
        let next = inner.others(caller.node);
        let (mut answers, mut changes) = (Vec::new(), Vec::new());
        for request in streams {
            let stream = inner.streams.get_mut(&request.stream).expect("it exists");
            answers.push(stream.close(caller, request, next));
            changes.push(MetadataChange::Partition(stream.partition.clone()));
        }
        self.publish(&mut inner, changes);
        if inner.loses_answers {
            return Err(Error::Unavailable {
                detail: "the answer is lost".to_owned(),
                outcome: Outcome::Unknown,
            });
        }
        Ok(answers)
    }

    async fn list_journals(&self) -> Result<Vec<JournalInfo>> {
        unused()
    }
}

#[async_trait]
impl Objects for FakeController {
    async fn prepare_objects(&self, _: Caller, _: PrepareObjects) -> Result<Vec<PreparedObject>> {
        unused()
    }

    async fn commit_objects(&self, _: Caller, _: CommitObjects) -> Result<MetadataVersion> {
        unused()
    }

    async fn find_objects(&self, stream: StreamId, from: Offset, limit: usize) -> Result<StreamObjects> {
        let inner = self.inner.lock();
        let found = inner
            .streams
            .get(&stream)
            .ok_or_else(|| Error::NotFound("stream".to_owned()))?;
        let behind = found.objects.iter().filter(|object| object.range.end > from);
        Ok(StreamObjects {
            version: inner.version,
            start: found.progress.start,
            uploaded: found.progress.uploaded,
            objects: behind.take(limit).cloned().collect(),
        })
    }

    async fn stream_uploads(&self, streams: Vec<StreamId>) -> Result<Vec<StreamUpload>> {
        let inner = self.inner.lock();
        if inner.hides_uploads {
            return unused();
        }
        let upload = |stream: &StreamId| {
            let found = inner.streams.get(stream)?;
            Some(StreamUpload {
                start: Offset::ZERO,
                stream: *stream,
                uploaded: found.progress.uploaded,
                cleaned: Offset::ZERO,
                snapshot: found.snapshot.clone(),
                bytes: found.bytes,
            })
        };
        Ok(streams.iter().filter_map(upload).collect())
    }
}

#[async_trait]
impl Tasks for FakeController {
    async fn lease(&self, _: Caller, _: Vec<TaskKind>, _: Duration) -> Result<Option<Lease>> {
        unused()
    }

    async fn renew(&self, _: Caller, _: LeaseRef) -> Result<Work> {
        unused()
    }

    async fn release(&self, _: Caller, _: LeaseRef, _: bool) -> Result<()> {
        unused()
    }
}
