//! The five ports of `rpc::controller`: each call is a command for the driver, or a look at what is published.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use tailwater_rpc::controller::{
    AlterConfigs, Caller, Catalog, CloseStream, CommitObjects, ConfigChanges, ConfigOp, CreatePartitions, CreatedTopic,
    DeleteRecords, Heartbeat, HeartbeatAnswer, JournalGrant, JournalInfo, Journals, Lease, LeaseRef, MetadataUpdate,
    NewTopic, NodeInfo, Nodes, Objects, OpenStream, OpenedStream, PrepareObjects, PreparedObject, ProducerIds,
    RegisterNode, Registration, StreamObjects, StreamUpload, TaskKind, Tasks, Work,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_types::{DeviceEpoch, DeviceId, JournalId, MetadataVersion, Offset, Outcome, StreamId, TopicId};

use super::ControllerService;
use super::update;
use crate::state::{Tx, View, balance, catalog, configs, journals, nodes, objects, streams, tasks};

/// Some tasks become due by time alone: how often a waiting compactor asks again.
const LEASE_POLL: Duration = Duration::from_millis(500);

#[async_trait]
impl Nodes for ControllerService {
    async fn register(&self, request: RegisterNode) -> Result<Registration> {
        let command = move |tx: &mut Tx<'_>| nodes::register(tx, &request);
        let registration = self.commands.run("register", 0, command).await?;
        // Its partitions are placed before it hears of its epoch, in as many steps as that takes.
        while self.commands.run("place", 0, |tx| Ok(streams::place(tx))).await? {}
        Ok(registration)
    }

    async fn confirm_device(&self, caller: Caller, device: DeviceId, epoch: DeviceEpoch) -> Result<()> {
        let command = move |tx: &mut Tx<'_>| nodes::confirm_device(tx, caller, device, epoch);
        self.commands.run("confirm_device", 0, command).await
    }

    async fn heartbeat(&self, caller: Caller, request: Heartbeat) -> Result<HeartbeatAnswer> {
        let command = move |tx: &mut Tx<'_>| {
            Ok(HeartbeatAnswer {
                state: update::node_state(nodes::heartbeat(tx, caller, &request)?),
                controller_epoch: tx.cluster().term,
                asked: balance::asked_of(tx, caller),
                lease: tx.limits.node_lease,
            })
        };
        self.commands.run("heartbeat", 0, command).await
    }

    async fn watch(&self, caller: Caller) -> Result<Stream<Arc<MetadataUpdate>>> {
        self.published.read(|state| nodes::check(state, caller))?;
        Ok(self.published.watch())
    }

    async fn watch_nodes(&self) -> Result<Stream<Vec<NodeInfo>>> {
        let published = self.published.clone();
        let versions = published.versions();
        let first: Option<Vec<NodeInfo>> = None;
        let changes = futures::stream::unfold(
            (versions, published, first),
            |(mut versions, published, seen)| async move {
                loop {
                    versions.borrow_and_update();
                    let nodes: Vec<_> = published.read(|state| {
                        nodes::nodes(state)
                            .map(|(id, record)| update::node_info(id, record))
                            .collect()
                    });
                    if seen.as_ref() != Some(&nodes) {
                        return Some((Ok(nodes.clone()), (versions, published, Some(nodes))));
                    }
                    versions.changed().await.ok()?;
                }
            },
        );
        Ok(changes.boxed())
    }
}

#[async_trait]
impl Catalog for ControllerService {
    async fn create_topic(&self, caller: Caller, topic: NewTopic) -> Result<CreatedTopic> {
        let id = TopicId::from_random(self.runtime.random.u128());
        let bytes = topic.name.len() + topic.configs.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let command = move |tx: &mut Tx<'_>| catalog::create_topic(tx, caller, id, &topic);
        self.commands.run("create_topic", bytes, command).await
    }

    async fn delete_topic(&self, caller: Caller, topic: TopicId) -> Result<MetadataVersion> {
        let command = move |tx: &mut Tx<'_>| catalog::delete_topic(tx, caller, topic);
        self.commands.run("delete_topic", 0, command).await
    }

    async fn alter_configs(&self, caller: Caller, request: AlterConfigs) -> Result<MetadataVersion> {
        let bytes = bytes_of(&request.changes);
        let command = move |tx: &mut Tx<'_>| configs::alter(tx, caller, &request);
        self.commands.run("alter_configs", bytes, command).await
    }

    async fn create_partitions(&self, caller: Caller, request: CreatePartitions) -> Result<MetadataVersion> {
        let command = move |tx: &mut Tx<'_>| catalog::create_partitions(tx, caller, request);
        self.commands.run("create_partitions", 0, command).await
    }

    async fn delete_records(&self, caller: Caller, request: DeleteRecords) -> Result<MetadataVersion> {
        let command = move |tx: &mut Tx<'_>| catalog::delete_records(tx, caller, request);
        self.commands.run("delete_records", 0, command).await
    }

    async fn allocate_producer_ids(&self, caller: Caller) -> Result<ProducerIds> {
        let command = move |tx: &mut Tx<'_>| catalog::allocate_producer_ids(tx, caller);
        self.commands.run("allocate_producer_ids", 0, command).await
    }
}

#[async_trait]
impl Journals for ControllerService {
    async fn create_journal(&self, caller: Caller, confirms: bool) -> Result<JournalGrant> {
        let command = move |tx: &mut Tx<'_>| journals::create_journal(tx, caller, confirms);
        self.commands.run("create_journal", 0, command).await
    }

    async fn confirm_journal(&self, caller: Caller, journal: JournalId) -> Result<()> {
        let command = move |tx: &mut Tx<'_>| journals::confirm_journal(tx, caller, journal);
        self.commands.run("confirm_journal", 0, command).await
    }

    async fn open_streams(&self, caller: Caller, streams: Vec<OpenStream>) -> Result<Vec<Result<OpenedStream>>> {
        self.published
            .read(|state| streams::open_streams(state, caller, &streams))
    }

    async fn close_streams(&self, caller: Caller, streams: Vec<CloseStream>) -> Result<Vec<Result<()>>> {
        let mut answers = vec![Ok(()); streams.len()];
        for (number, step) in streams::close_steps(&streams).into_iter().enumerate() {
            let requests: Vec<_> = step.iter().map(|at| streams[*at]).collect();
            let bytes = size_of_val(&requests[..]);
            let command = move |tx: &mut Tx<'_>| streams::close(tx, caller, &requests);
            let closed = self.commands.run("close_streams", bytes, command).await;
            let closed = closed.map_err(|error| match number {
                0 => error,
                // Earlier steps have happened: the caller must take nothing until it knows.
                _ => Error::Unavailable {
                    detail: error.to_string(),
                    outcome: Outcome::Unknown,
                },
            })?;
            for (at, answer) in step.into_iter().zip(closed) {
                answers[at] = answer;
            }
        }
        Ok(answers)
    }

    async fn list_journals(&self) -> Result<Vec<JournalInfo>> {
        Ok(self.published.read(journals::list))
    }
}

#[async_trait]
impl Objects for ControllerService {
    async fn prepare_objects(&self, caller: Caller, request: PrepareObjects) -> Result<Vec<PreparedObject>> {
        let command = move |tx: &mut Tx<'_>| objects::prepare(tx, caller, &request);
        self.commands.run("prepare_objects", 0, command).await
    }

    async fn commit_objects(&self, caller: Caller, request: CommitObjects) -> Result<MetadataVersion> {
        let streams: usize = request.objects.iter().map(|object| object.streams.len()).sum();
        let bytes = streams * size_of::<tailwater_rpc::controller::CommittedStream>();
        let command = move |tx: &mut Tx<'_>| objects::commit(tx, caller, &request);
        self.commands.run("commit_objects", bytes, command).await
    }

    async fn find_objects(&self, stream: StreamId, from: Offset, limit: usize) -> Result<StreamObjects> {
        self.published.read(|state| objects::find(state, stream, from, limit))
    }

    async fn stream_uploads(&self, streams: Vec<StreamId>) -> Result<Vec<StreamUpload>> {
        Ok(self.published.read(|state| objects::uploads(state, &streams)))
    }
}

#[async_trait]
impl Tasks for ControllerService {
    async fn lease(&self, caller: Caller, kinds: Vec<TaskKind>, wait: Duration) -> Result<Option<Lease>> {
        let clock = &self.runtime.clock;
        let deadline = clock.now() + wait;
        let mut versions = self.published.versions();
        loop {
            versions.mark_unchanged();
            let kinds = kinds.clone();
            let wall_ms = clock.wall_ms();
            let command = move |tx: &mut Tx<'_>| tasks::lease(tx, caller, &kinds, wall_ms);
            let lease = self.commands.run("lease", 0, command).await?;
            let left = deadline.saturating_duration_since(clock.now());
            if lease.is_some() || left.is_zero() {
                return Ok(lease);
            }
            // Either way it is time to ask again: something has changed, or has become due.
            let waited = clock.timeout(left.min(LEASE_POLL), versions.changed());
            drop(waited.await);
        }
    }

    async fn renew(&self, caller: Caller, lease: LeaseRef) -> Result<Work> {
        let command = move |tx: &mut Tx<'_>| tasks::renew(tx, caller, lease);
        self.commands.run("renew", 0, command).await
    }

    async fn release(&self, caller: Caller, lease: LeaseRef, done: bool) -> Result<()> {
        let command = move |tx: &mut Tx<'_>| tasks::release(tx, caller, lease, done);
        self.commands.run("release", 0, command).await
    }
}

fn bytes_of(changes: &ConfigChanges) -> usize {
    match changes {
        ConfigChanges::Replace(configs) => configs.iter().map(|(name, value)| name.len() + value.len()).sum(),
        ConfigChanges::Incremental(changes) => {
            let of_op = |op: &ConfigOp| match op {
                ConfigOp::Set(value) => value.len(),
                ConfigOp::Delete => 0,
                ConfigOp::Append { items, unset } | ConfigOp::Subtract { items, unset } => {
                    items.iter().map(String::len).sum::<usize>() + unset.len()
                }
            };
            changes.iter().map(|change| change.name.len() + of_op(&change.op)).sum()
        }
    }
}
