//! Which node coordinates what, and the way to its owner here.
//!
//! Owns: one internal topic (made when it is first needed), the hash from an id to its partition, one owner for each of the
//! partitions that is led here. Does not own: what owners do (`owner.rs`), which partitions are led here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tailwater_kafka::ErrorCode;
use tailwater_rpc::controller::NewTopic;
use tailwater_runtime::telemetry::IntGauge;
use tailwater_runtime::{Clock, Policy, Tasks};
use tailwater_types::NodeId;
use tokio::sync::{mpsc, oneshot};

use super::machine::Machine;
use super::owner::{Command, Owner, OwnerHandle, Stage};
use super::standing::Standing;
use crate::metadata::TopicCreator;
use crate::partition::{Partition, Partitions};
use crate::session::Session;
use crate::view::{Topic, View};

/// How often owners that have failed are begun again.
pub(super) const RESTART_INTERVAL: Duration = Duration::from_secs(30);

/// Makes the state machine of a partition, empty.
pub type NewMachine<M> = dyn Fn(&Arc<Partition>) -> M + Send + Sync;

/// What is hosted.
pub(crate) struct Hosted<M: Machine> {
    /// What the internal topic is made as.
    pub topic: NewTopic,
    pub new_machine: Box<NewMachine<M>>,
    /// Partitions that are coordinated here.
    pub coordinators: IntGauge,
    /// Those of them that haven't read their log yet: their clients are told to wait.
    pub loading: IntGauge,
    /// Those of them that have failed and not served since: nobody is served there.
    pub failed: IntGauge,
}

/// The coordinators of one internal topic that this node is; clones share them.
pub(crate) struct Host<M: Machine> {
    inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for Host<M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<M: Machine> {
    hosted: Hosted<M>,
    session: Session,
    standing: Standing,
    view: View,
    partitions: Partitions,
    creator: TopicCreator,
    tasks: Tasks,
    /// By partition of the internal topic.
    owners: RwLock<BTreeMap<i32, OwnerHandle<M>>>,
    /// Partitions whose owner has failed and not served since.
    failed: Mutex<BTreeSet<i32>>,
}

impl<M: Machine> Host<M> {
    pub fn new(
        hosted: Hosted<M>,
        session: Session,
        view: View,
        partitions: Partitions,
        creator: TopicCreator,
        tasks: Tasks,
    ) -> Self {
        let inner = Inner {
            hosted,
            standing: Standing::new(session.clone()),
            session,
            view,
            partitions,
            creator,
            tasks,
            owners: RwLock::default(),
            failed: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn clock(&self) -> &Clock {
        self.inner.session.clock()
    }

    /// Keeps one owner for each led partition of the internal topic; runs until its task is dropped.
    pub async fn follow(self) {
        let mut changes = self.inner.partitions.changes();
        loop {
            changes.borrow_and_update();
            self.reconcile();
            tokio::select! {
                biased;
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.clock().sleep(RESTART_INTERVAL) => {}
            }
        }
    }

    /// Gives everything up: whoever waits is told to look for another coordinator.
    pub fn resign(&self) {
        self.inner.owners.write().clear();
        self.inner.hosted.coordinators.set(0);
        self.inner.failed.lock().clear();
        self.inner.hosted.failed.set(0);
    }

    /// The owner of an id.
    ///
    /// # Errors
    /// The code for clients: NOT_COORDINATOR without the topic, where another node is the coordinator, or where this one has
    /// failed; COORDINATOR_LOAD_IN_PROGRESS. (COORDINATOR_NOT_AVAILABLE is FindCoordinator's: members don't expect it.)
    pub fn owner_of(&self, id: &str) -> Result<Way<M>, ErrorCode> {
        self.find(|count| partition_of(id, count), |owner| self.way_to(owner))
    }

    /// The owner of a partition of the internal topic.
    ///
    /// # Errors
    /// As [`Host::owner_of`].
    pub fn owner_at(&self, index: i32) -> Result<Way<M>, ErrorCode> {
        self.find(|_| index, |owner| self.way_to(owner))
    }

    /// The log that an id's owner writes.
    ///
    /// # Errors
    /// As [`Host::owner_of`].
    pub fn log_of(&self, id: &str) -> Result<Arc<Partition>, ErrorCode> {
        self.find(|count| partition_of(id, count), |owner| owner.partition.clone())
    }

    fn way_to(&self, owner: &OwnerHandle<M>) -> Way<M> {
        Way {
            commands: owner.commands.clone(),
            log: owner.partition.clone(),
            standing: self.inner.standing.clone(),
        }
    }

    /// `index` makes a partition of the number of all.
    fn find<T>(
        &self,
        index: impl FnOnce(usize) -> i32,
        what: impl FnOnce(&OwnerHandle<M>) -> T,
    ) -> Result<T, ErrorCode> {
        let topic = self.topic().ok_or(ErrorCode::NotCoordinator)?;
        let index = index(topic.partitions.len());
        let leader = topic.partitions.get(&index).and_then(|partition| partition.leader);
        if leader != Some(self.inner.session.node()) {
            return Err(ErrorCode::NotCoordinator);
        }
        let owners = self.inner.owners.read();
        let owner = owners
            .get(&index)
            .filter(|owner| owner.partition.topic() == topic.info.id);
        match owner.map(|owner| (owner, owner.stage())) {
            Some((owner, Stage::Serving)) => Ok(what(owner)),
            Some((_, Stage::Ended)) => Err(ErrorCode::NotCoordinator),
            Some((_, Stage::Loading)) | None => Err(ErrorCode::CoordinatorLoadInProgress),
        }
    }

    /// The owners of all partitions that this node leads, but for those that have failed, which a gauge tells of: one log
    /// that can't be read shall not hide all others.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS while some are still being read.
    pub fn all_owners(&self) -> Result<Vec<Way<M>>, ErrorCode> {
        let (topic, here) = (self.topic(), Some(self.inner.session.node()));
        let owners = self.inner.owners.read();
        let way = |owner: Option<&OwnerHandle<M>>| match owner.map(|owner| (owner, owner.stage())) {
            Some((owner, Stage::Serving)) => Some(Ok(self.way_to(owner))),
            Some((owner, Stage::Ended)) if owner.has_failed() && !owner.partition.is_closing() => None,
            // The log is somebody else's, or will be: whose isn't known here yet.
            Some((_, Stage::Loading | Stage::Ended)) | None => Some(Err(ErrorCode::CoordinatorLoadInProgress)),
        };
        // Also of those that are being opened, or given away: nobody else has what is coordinated there meanwhile.
        let partitions = topic.iter().flat_map(|topic| &topic.partitions);
        let led = partitions.filter(|(_, info)| info.leader == here);
        led.filter_map(|(index, _)| way(owners.get(index))).collect()
    }

    /// The node that coordinates `id`, after making the internal topic if there is none.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE while nobody leads the id's partition.
    pub async fn coordinator_of(&self, id: &str) -> Result<NodeId, ErrorCode> {
        let topic = self.ensure_topic().await?;
        let partition = topic.partitions.get(&partition_of(id, topic.partitions.len()));
        partition
            .and_then(|partition| partition.leader)
            .ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// The partition of the internal topic that has `id`, after making the topic if there is none.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE without the topic.
    pub async fn partition_of(&self, id: &str) -> Result<i32, ErrorCode> {
        let topic = self.ensure_topic().await?;
        Ok(partition_of(id, topic.partitions.len()))
    }

    /// What the internal topic is made as.
    pub fn new_topic(&self) -> &NewTopic {
        &self.inner.hosted.topic
    }

    fn topic(&self) -> Option<Arc<Topic>> {
        let name = &self.inner.hosted.topic.name;
        self.inner.view.snapshot().topic_named(name).cloned()
    }

    async fn ensure_topic(&self) -> Result<Arc<Topic>, ErrorCode> {
        if let Some(topic) = self.topic() {
            return Ok(topic);
        }
        match self.inner.creator.ensure(self.inner.hosted.topic.clone()).await {
            Ok(topic) => Ok(topic),
            Err(error) => {
                let topic = &self.inner.hosted.topic.name;
                tracing::info!(%error, topic, "a coordinator's topic isn't there yet");
                Err(ErrorCode::CoordinatorNotAvailable)
            }
        }
    }

    /// An owner for each open partition, none for any other. One that has ended although its leadership goes on has failed,
    /// and its successor reads the log again.
    fn reconcile(&self) {
        let topic = self.topic();
        let open: Vec<Arc<Partition>> = topic
            .as_ref()
            .map_or_else(Vec::new, |topic| self.inner.partitions.of_topic(topic.info.id));
        // What is being given away has another coordinator soon, which must not be contradicted.
        let open: Vec<_> = open.into_iter().filter(|partition| !partition.is_closing()).collect();
        let mut owners = self.inner.owners.write();
        self.note_failed(&owners, &open);
        owners.retain(|_, owner| {
            let is_open = open.iter().any(|partition| Arc::ptr_eq(partition, &owner.partition));
            is_open && !owner.has_failed()
        });
        for partition in open {
            let Some(topic) = &topic else { break };
            let index = partition.index();
            owners
                .entry(index)
                .or_insert_with(|| self.start_owner(partition, topic));
        }
        let count = i64::try_from(owners.len()).unwrap_or(i64::MAX);
        self.inner.hosted.coordinators.set(count);
    }

    /// Keeps who has failed, until it is seen to serve or isn't here any more.
    fn note_failed(&self, owners: &BTreeMap<i32, OwnerHandle<M>>, open: &[Arc<Partition>]) {
        let mut failed = self.inner.failed.lock();
        for (index, owner) in owners {
            if owner.has_failed() {
                failed.insert(*index);
            } else if owner.stage() == Stage::Serving {
                failed.remove(index);
            }
        }
        failed.retain(|index| open.iter().any(|partition| partition.index() == *index));
        let count = i64::try_from(failed.len()).unwrap_or(i64::MAX);
        self.inner.hosted.failed.set(count);
    }

    fn start_owner(&self, partition: Arc<Partition>, topic: &Topic) -> OwnerHandle<M> {
        let machine = (self.inner.hosted.new_machine)(&partition);
        let name = format!("owner-{}", partition.index());
        let max_batch_bytes = topic.settings.max_message_bytes;
        let (owner, handle) = Owner::new(
            machine,
            partition,
            max_batch_bytes,
            self.inner.hosted.loading.clone(),
            self.clock().clone(),
        );
        self.inner.tasks.spawn(&name, Policy::LOGGED_ABORT, owner.run());
        handle
    }
}

/// The way to an owner.
pub(crate) struct Way<M: Machine> {
    commands: mpsc::Sender<Command<M>>,
    log: Arc<Partition>,
    standing: Standing,
}

impl<M: Machine> Way<M> {
    /// Asks it. One whose leadership is over leaves the question unanswered, and the answer of one that may have been
    /// deposed without knowing it doesn't leave: both are NOT_COORDINATOR, though what was asked for may have been done.
    pub async fn ask(&self, id: String, request: M::Request) -> M::Reply {
        let resigned = M::refused(&request, ErrorCode::NotCoordinator);
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command { id, request, reply }).await.is_err() {
            return resigned;
        }
        match answer.await {
            // Asked behind the decision: what is found out now held when it was made.
            Ok(answer) if self.standing.holds(&self.log).await => answer,
            Ok(_) | Err(_) => resigned,
        }
    }

    #[cfg(test)]
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }
}

/// The partition of the internal topic that has an id: Java's hash of it, made positive as Kafka does.
fn partition_of(id: &str, partitions: usize) -> i32 {
    let hash = id
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    let count = i32::try_from(partitions).unwrap_or(i32::MAX).max(1);
    positive % count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash is Java's, over UTF-16 units, and its absolute value Kafka's, for which the smallest number is 0.
    #[test]
    fn ids_hash_to_kafkas_partitions() {
        let cases = [
            ("", 50, 0),
            ("a", 50, 47),
            ("console-consumer", 50, 40),
            // Its hash is i32::MIN.
            ("polygenelubricants", 50, 0),
            ("é", 1000, 233),
            ("\u{1f600}x", 50, 39),
        ];
        for (id, partitions, expected) in cases {
            assert_eq!(partition_of(id, partitions), expected, "{id}");
        }
    }
}
