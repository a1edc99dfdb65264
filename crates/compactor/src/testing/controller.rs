//! The controller of the test cluster. It commits what a real one would, and asserts what must hold of uploads.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tailwater_rpc::controller::{
    AlterConfigs, Caller, Catalog, CloseStream, CommitObjects, CommitSource, CommittedObject, CommittedStream,
    CreatePartitions, CreatedTopic, DeleteRecords, Heartbeat, HeartbeatAnswer, JournalGrant, JournalInfo, Journals,
    Lease, LeaseRef, MetadataUpdate, NewTopic, NodeInfo, NodeState, Nodes, ObjectSlice, Objects, OpenStream,
    OpenedStream, PrepareObjects, PreparedObject, ProducerIds, RegisterNode, Registration, StreamObjects, StreamUpload,
    TaskKind, Tasks, Work,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_types::{
    ClusterId, ControllerEpoch, DeviceEpoch, DeviceId, JournalId, LeaseEpoch, MetadataVersion, NodeEpoch, ObjectId,
    Offset, OffsetRange, StreamId, TaskId, TopicId,
};

use super::cluster::{Call, Cluster, DEVICE, LEASE_DURATION, State, When, key};
use super::wal::unasked;

/// A deletion's task; uploads have their journal's number.
const DELETION: TaskId = TaskId(1_000_000);
const CLEANING: TaskId = TaskId(1_000_001);

impl State {
    fn work(&self, lease: LeaseRef) -> Option<Work> {
        if lease.task == DELETION {
            let objects = self.deletions.first().filter(|_| self.leased_deletion)?.clone();
            return Some(Work::Delete { objects });
        }
        if lease.task == CLEANING {
            return self.leased_cleaning.clone();
        }
        let id = JournalId(lease.task.0);
        let journal = self.journals.get(&id)?;
        let holds = journal.is_leased && !journal.is_gone && LeaseEpoch(journal.lease_epoch) == lease.epoch;
        holds.then(|| Work::Upload {
            journal: id,
            ensemble: vec![DEVICE],
            trim: journal.trim,
            sealed_end: journal.sealed_end,
        })
    }

    fn check(&self, lease: LeaseRef) -> Result<Work> {
        self.work(lease).ok_or(Error::LeaseFenced { task: lease.task })
    }

    fn lease(&mut self, kinds: &[TaskKind]) -> Option<Lease> {
        let lease = if kinds == [TaskKind::Delete] {
            if self.deletions.is_empty() || self.leased_deletion {
                return None;
            }
            self.leased_deletion = true;
            LeaseRef {
                task: DELETION,
                epoch: LeaseEpoch(1),
            }
        } else if kinds == [TaskKind::Clean] {
            if self.leased_cleaning.is_some() {
                return None;
            }
            self.leased_cleaning = Some(self.cleaning.take()?);
            LeaseRef {
                task: CLEANING,
                epoch: LeaseEpoch(1),
            }
        } else {
            let (id, journal) = self
                .journals
                .iter_mut()
                .find(|(_, journal)| !journal.is_leased && !journal.is_gone)?;
            journal.is_leased = true;
            journal.lease_epoch += 1;
            LeaseRef {
                task: TaskId(id.0),
                epoch: LeaseEpoch(journal.lease_epoch),
            }
        };
        let work = self.work(lease)?;
        Some(Lease {
            lease,
            duration: LEASE_DURATION,
            work,
        })
    }

    fn commit(&mut self, request: &CommitObjects) -> Result<()> {
        let repeats = |object: &ObjectId| self.committed.iter().any(|known| known.object == *object);
        if !request.objects.is_empty() && request.objects.iter().all(|object| repeats(&object.object)) {
            return Ok(());
        }
        self.check(request.lease)?;
        for object in &request.objects {
            if !self.prepared.contains(&object.object) {
                return Err(Error::ObjectExpired { object: object.object });
            }
        }
        let ranges = match &request.source {
            CommitSource::Journals(ranges) => ranges,
            CommitSource::Objects {
                stream,
                range,
                objects,
                keys_end,
            } => {
                self.keys_end = *keys_end;
                return self.commit_cleaned(request, *stream, *range, objects);
            }
        };
        let [(id, range)] = ranges[..] else {
            panic!("one journal an upload")
        };
        let journal = self.journals.get_mut(&id).expect("it is leased");
        if journal.trim != range.start {
            return Err(Error::OffsetNotMatched {
                journal: id,
                trim: journal.trim,
            });
        }
        journal.trim = range.end;
        if journal.trim.0 == journal.entries.len() as u64 {
            journal.since = None;
        }
        journal.is_gone = journal.sealed_end == Some(range.end);
        for object in &request.objects {
            self.prepared.remove(&object.object);
            for part in &object.streams {
                let row = self
                    .streams
                    .get_mut(&part.stream)
                    .expect("streams that are no more are left out");
                assert_eq!(
                    part.range.start, row.uploaded,
                    "uploads are contiguous, without overlap"
                );
                row.uploaded = part.range.end;
                row.snapshot = part.snapshot.clone();
                self.slices
                    .entry(part.stream)
                    .or_default()
                    .insert(part.range.end, slice(object, part));
            }
            self.committed.push(object.clone());
        }
        for object in &request.abandoned {
            assert!(!self.committed.iter().any(|known| known.object == *object));
        }
        self.abandoned.extend(&request.abandoned);
        self.commits += 1;
        Ok(())
    }

    /// The sources must be what is found in the range; the last one keeps what it has behind it.
    fn commit_cleaned(
        &mut self,
        request: &CommitObjects,
        stream: StreamId,
        range: OffsetRange,
        sources: &[ObjectId],
    ) -> Result<()> {
        let Some(slices) = self.slices.get_mut(&stream) else {
            return Err(Error::NotFound(format!("stream {stream}")));
        };
        let found: Vec<_> = slices
            .values()
            .filter(|slice| slice.range.clip(range).is_some())
            .cloned()
            .collect();
        let ids: Vec<_> = found.iter().map(|slice| slice.object).collect();
        if ids != sources {
            return Err(Error::ObjectReplaced { object: sources[0] });
        }
        assert_eq!(found[0].range.start, range.start);
        let mut at = range.start;
        slices.retain(|_, slice| slice.range.end <= range.start || slice.range.end > range.end);
        if let Some(cut) = slices.values_mut().find(|slice| slice.range.contains(range.end)) {
            cut.range.start = range.end;
        }
        let row = self.streams.get_mut(&stream).expect("it is cleaned");
        for object in &request.objects {
            let [part] = &object.streams[..] else {
                panic!("one stream a cleaned object")
            };
            assert_eq!(
                (part.stream, part.range.start),
                (stream, at),
                "in order, without a hole"
            );
            at = part.range.end;
            slices.insert(at, slice(object, part));
            if part.snapshot.is_some() {
                assert_eq!(at, row.uploaded, "the snapshot is exact there");
                row.snapshot = part.snapshot.clone();
            }
            self.prepared.remove(&object.object);
            self.committed.push(object.clone());
        }
        assert_eq!(at, range.end);
        self.abandoned.extend(&request.abandoned);
        self.commits += 1;
        Ok(())
    }
}

fn slice(object: &CommittedObject, part: &CommittedStream) -> ObjectSlice {
    ObjectSlice {
        object: object.object,
        key: key(object.object),
        size_bytes: object.size_bytes,
        range: part.range,
        max_timestamp_ms: part.max_timestamp_ms,
    }
}

#[async_trait]
impl Tasks for Cluster {
    async fn lease(&self, _: Caller, kinds: Vec<TaskKind>, wait: Duration) -> Result<Option<Lease>> {
        self.fault(Call::Lease, When::Before)?;
        let deadline = self.clock.now() + wait;
        loop {
            let lease = self.state.lock().lease(&kinds);
            if lease.is_some() || self.clock.now() >= deadline {
                return Ok(lease);
            }
            self.clock.sleep(Duration::from_millis(10)).await;
        }
    }

    async fn renew(&self, _: Caller, lease: LeaseRef) -> Result<Work> {
        self.fault(Call::Renew, When::Before)?;
        self.state.lock().check(lease)
    }

    async fn release(&self, _: Caller, lease: LeaseRef, done: bool) -> Result<()> {
        self.fault(Call::Release, When::Before)?;
        let mut state = self.state.lock();
        state.check(lease)?;
        if lease.task == CLEANING {
            state.leased_cleaning = None;
            state.cleaned.push(done);
        } else if lease.task == DELETION {
            state.leased_deletion = false;
            if done {
                state.deletions.remove(0);
            }
        } else {
            let journal = state.journals.get_mut(&JournalId(lease.task.0)).expect("it is leased");
            journal.is_leased = false;
        }
        Ok(())
    }
}

#[async_trait]
impl Objects for Cluster {
    async fn prepare_objects(&self, _: Caller, request: PrepareObjects) -> Result<Vec<PreparedObject>> {
        self.fault(Call::Prepare, When::Before)?;
        let mut state = self.state.lock();
        state.check(request.lease)?;
        let prepared = (0..request.count).map(|_| {
            state.next_object += 1;
            let object = ObjectId(state.next_object);
            state.prepared.insert(object);
            PreparedObject {
                object,
                key: key(object),
                deadline: Duration::from_secs(600),
            }
        });
        let prepared = prepared.collect();
        drop(state);
        self.fault(Call::Prepare, When::After)?;
        Ok(prepared)
    }

    async fn commit_objects(&self, _: Caller, request: CommitObjects) -> Result<MetadataVersion> {
        self.fault(Call::Commit, When::Before)?;
        self.state.lock().commit(&request)?;
        self.fault(Call::Commit, When::After)?;
        Ok(MetadataVersion(1))
    }

    async fn stream_uploads(&self, streams: Vec<StreamId>) -> Result<Vec<StreamUpload>> {
        self.fault(Call::Uploads, When::Before)?;
        let state = self.state.lock();
        let upload = |stream| {
            let row = state.streams.get(&stream)?;
            Some(StreamUpload {
                start: Offset::ZERO,
                stream,
                uploaded: row.uploaded,
                cleaned: Offset::ZERO,
                snapshot: row.snapshot.clone(),
                bytes: 0,
            })
        };
        Ok(streams.into_iter().filter_map(upload).collect())
    }

    async fn find_objects(&self, stream: StreamId, from: Offset, limit: usize) -> Result<StreamObjects> {
        let state = self.state.lock();
        let Some(row) = state.streams.get(&stream) else {
            return Err(Error::NotFound(format!("stream {stream}")));
        };
        let slices = state.slices.get(&stream).into_iter().flat_map(|slices| slices.values());
        let slices = slices.filter(|slice| slice.range.end > from).take(limit);
        Ok(StreamObjects {
            version: MetadataVersion(1),
            start: Offset::ZERO,
            uploaded: row.uploaded,
            objects: slices.cloned().collect(),
        })
    }
}

#[async_trait]
impl Nodes for Cluster {
    async fn register(&self, _: RegisterNode) -> Result<Registration> {
        Ok(Registration {
            cluster: ClusterId::from_bytes([9; 16]),
            controller_epoch: ControllerEpoch(1),
            node_epoch: NodeEpoch(1),
            device_epoch: None,
            lease: None,
        })
    }

    async fn confirm_device(&self, _: Caller, _: DeviceId, _: DeviceEpoch) -> Result<()> {
        Err(unasked())
    }

    async fn heartbeat(&self, _: Caller, _: Heartbeat) -> Result<HeartbeatAnswer> {
        Ok(HeartbeatAnswer {
            controller_epoch: ControllerEpoch(1),
            state: NodeState::Active,
            asked: Vec::new(),
            lease: None,
        })
    }

    async fn watch(&self, _: Caller) -> Result<Stream<Arc<MetadataUpdate>>> {
        Err(unasked())
    }

    async fn watch_nodes(&self) -> Result<Stream<Vec<NodeInfo>>> {
        Err(unasked())
    }
}

#[async_trait]
impl Catalog for Cluster {
    async fn create_topic(&self, _: Caller, _: NewTopic) -> Result<CreatedTopic> {
        Err(unasked())
    }

    async fn delete_topic(&self, _: Caller, _: TopicId) -> Result<MetadataVersion> {
        Err(unasked())
    }

    async fn alter_configs(&self, _: Caller, _: AlterConfigs) -> Result<MetadataVersion> {
        Err(unasked())
    }

    async fn create_partitions(&self, _: Caller, _: CreatePartitions) -> Result<MetadataVersion> {
        Err(unasked())
    }

    async fn delete_records(&self, _: Caller, _: DeleteRecords) -> Result<MetadataVersion> {
        Err(unasked())
    }

    async fn allocate_producer_ids(&self, _: Caller) -> Result<ProducerIds> {
        Err(unasked())
    }
}

#[async_trait]
impl Journals for Cluster {
    async fn create_journal(&self, _: Caller, _: bool) -> Result<JournalGrant> {
        Err(unasked())
    }

    async fn confirm_journal(&self, _: Caller, _: JournalId) -> Result<()> {
        Err(unasked())
    }

    async fn open_streams(&self, _: Caller, _: Vec<OpenStream>) -> Result<Vec<Result<OpenedStream>>> {
        Err(unasked())
    }

    async fn close_streams(&self, _: Caller, _: Vec<CloseStream>) -> Result<Vec<Result<()>>> {
        Err(unasked())
    }

    async fn list_journals(&self) -> Result<Vec<JournalInfo>> {
        Err(unasked())
    }
}
