//! Which partitions this node leads: what the view assigns is opened, what it takes away is ended.
//!
//! Owns: the map from topic and index to [`Partition`], and trying again. Does not own: what opening means (`open`), nor
//! the journal (`journal::Keeper`). Invariant: a partition is here only while its journal is the open one and the view
//! says that this node leads it under that epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tailwater_rpc::controller::PartitionInfo;
use tailwater_runtime::clock::Instant;
use tailwater_runtime::{Policy, Tasks};
use tailwater_types::{Kind, LeaderEpoch, MetadataVersion, NodeId, TopicId};
use tokio::sync::watch;

use super::open::{Assigned, OpenError, open};
use super::{Partition, Services};
use crate::journal::{Current, Journal};
use crate::session::Session;
use crate::view::Snapshot;

const RETRY_MS: u64 = 20;
const RETRY_MAX: Duration = Duration::from_secs(5);
/// What another node, or the controller, is about to finish isn't waited for long.
const PASSING_RETRY_MAX: Duration = Duration::from_millis(200);
/// Streams that one request opens: bounds what one scan keeps in memory.
const OPEN_AT_ONCE: usize = 1024;

type Key = (TopicId, i32);

/// The partitions of this node; clones share them.
#[derive(Clone)]
pub struct Partitions {
    inner: Arc<Inner>,
}

struct Inner {
    services: Arc<Services>,
    session: Session,
    journal: Current,
    tasks: Tasks,
    led: RwLock<BTreeMap<Key, Arc<Partition>>>,
    opening: Mutex<Openings>,
    /// Counts changes of `led` and the ends of openings.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Openings {
    running: BTreeSet<Key>,
    failed: BTreeMap<Key, Failure>,
}

/// A partition that could not be opened, and when that is tried again.
struct Failure {
    attempts: u32,
    retry_at: Instant,
}

/// Why a partition isn't served here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no topic of that id (or name).
    UnknownTopic,
    /// The topic has no partition of that index.
    UnknownPartition,
    /// Another node leads it, or none.
    NotLeader {
        leader: Option<NodeId>,
        leader_epoch: LeaderEpoch,
    },
    /// This node is about to: the client is to try again.
    Opening { leader_epoch: LeaderEpoch },
}

impl Partitions {
    pub fn new(services: Arc<Services>, session: Session, journal: Current, tasks: Tasks) -> Self {
        let inner = Inner {
            services,
            session,
            journal,
            tasks,
            led: RwLock::default(),
            opening: Mutex::default(),
            changes: watch::Sender::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The node whose partitions these are.
    pub fn node(&self) -> NodeId {
        self.inner.session.node()
    }

    /// The partition, if this node leads it and it is open.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn get(&self, topic: TopicId, index: i32) -> Result<Arc<Partition>, Missing> {
        if let Some(partition) = self.inner.led.read().get(&(topic, index)) {
            return Ok(partition.clone());
        }
        let view = self.inner.services.view.snapshot();
        let topic = view.topic(topic).ok_or(Missing::UnknownTopic)?;
        let info = topic.partitions.get(&index).ok_or(Missing::UnknownPartition)?;
        Err(self.why_not_here(info))
    }

    /// The open partitions of a topic that this node leads, by index.
    pub fn of_topic(&self, topic: TopicId) -> Vec<Arc<Partition>> {
        let led = self.inner.led.read();
        let range = led.range((topic, i32::MIN)..=(topic, i32::MAX));
        range.map(|(_, partition)| partition.clone()).collect()
    }

    /// All open partitions, by topic and index.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.inner.led.read().values().cloned().collect()
    }

    /// Those that take batches: open, and not being given away.
    pub(super) fn taking(&self) -> Vec<Arc<Partition>> {
        let led = self.inner.led.read();
        led.values()
            .filter(|partition| !partition.is_closing())
            .cloned()
            .collect()
    }

    /// How many partitions are open here.
    pub fn count(&self) -> usize {
        self.inner.led.read().len()
    }

    pub(super) fn session(&self) -> &Session {
        &self.inner.session
    }

    /// Told after each change of which partitions are open here, and of which of them take batches. Slow receivers miss some
    /// changes and see the last: what to
    /// do follows from comparing [`Partitions::of_topic`] with what was there before, by [`Arc::ptr_eq`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Waits until every partition that the view assigns to this node is open, or has failed to open at least once.
    /// Cancellation-safe.
    pub async fn settled(&self) {
        let mut versions = self.inner.services.view.subscribe();
        let mut journals = self.inner.journal.clone();
        let mut changes = self.changes();
        loop {
            versions.borrow_and_update();
            journals.borrow_and_update();
            changes.borrow_and_update();
            if self.has_settled() {
                return;
            }
            tokio::select! {
                biased;
                changed = versions.changed() => changed.expect("the sender lives in the view"),
                changed = journals.changed() => if changed.is_err() {
                    return;
                },
                changed = changes.changed() => changed.expect("the sender lives in self"),
            }
        }
    }

    fn has_settled(&self) -> bool {
        let view = self.inner.services.view.snapshot();
        if view.version() == MetadataVersion::default() || self.inner.journal.borrow().is_none() {
            return false;
        }
        let led = self.inner.led.read();
        let opening = self.inner.opening.lock();
        self.assigned(&view).all(|assigned| {
            let key = key_of(&assigned.info);
            led.contains_key(&key) || opening.failed.contains_key(&key)
        })
    }

    /// Follows the view and the journal; runs until its task is dropped.
    pub async fn follow(self) {
        let mut versions = self.inner.services.view.subscribe();
        let mut journals = self.inner.journal.clone();
        let mut changes = self.changes();
        loop {
            versions.borrow_and_update();
            changes.borrow_and_update();
            let journal = journals.borrow_and_update().clone();
            let retry_at = self.reconcile(journal.as_ref());
            tokio::select! {
                biased;
                changed = versions.changed() => changed.expect("the sender lives in the view"),
                changed = journals.changed() => if changed.is_err() { return },
                changed = changes.changed() => changed.expect("the sender lives in self"),
                () = self.inner.session.clock().sleep_until(retry_at) => {}
            }
        }
    }

    /// Ends all leaderships.
    pub fn end_all(&self) {
        let led = std::mem::take(&mut *self.inner.led.write());
        led.into_values().for_each(|partition| partition.end());
        self.changed();
    }

    /// Ends what isn't this node's any more, begins to open what is, and answers when to look again.
    fn reconcile(&self, journal: Option<&Arc<Journal>>) -> Instant {
        let view = self.inner.services.view.snapshot();
        let ended = {
            let mut led = self.inner.led.write();
            let stays = |partition: &Partition| {
                let info = view.partition(partition.topic, partition.index);
                let led_here =
                    info.is_some_and(|info| self.is_mine(info) && partition.leader_epoch == info.leader_epoch);
                led_here && journal.is_some_and(|journal| Arc::ptr_eq(journal, &partition.journal))
            };
            let ended = led.extract_if(.., |_, partition| !stays(partition));
            ended.map(|(_, partition)| partition).collect::<Vec<_>>()
        };
        if !ended.is_empty() {
            ended.iter().for_each(|partition| partition.end());
            self.changed();
        }
        for partition in self.inner.led.read().values() {
            if let Some(progress) = view.progress(partition.stream) {
                partition.forget_cleaned(progress.cleaned, view.version());
            }
        }
        let now = self.inner.session.clock().now();
        let far = now + RETRY_MAX;
        let Some(journal) = journal else { return far };
        let (due, retry_at) = self.due(&view, now);
        for batch in due.chunks(OPEN_AT_ONCE) {
            let (here, batch, journal) = (self.clone(), batch.to_vec(), journal.clone());
            self.inner
                .tasks
                .spawn("open-partitions", Policy::LOGGED_ABORT, async move {
                    here.open(batch, &journal).await;
                });
        }
        retry_at.unwrap_or(far)
    }

    /// What is to be opened now, and when the next one that failed is.
    fn due(&self, view: &Snapshot, now: Instant) -> (Vec<Assigned>, Option<Instant>) {
        let led = self.inner.led.read();
        let mut opening = self.inner.opening.lock();
        let assigned: BTreeMap<Key, Assigned> = self
            .assigned(view)
            .map(|assigned| (key_of(&assigned.info), assigned))
            .filter(|(key, _)| !led.contains_key(key) && !opening.running.contains(key))
            .collect();
        opening.failed.retain(|key, _| assigned.contains_key(key));
        let mut retry_at: Option<Instant> = None;
        let mut due = Vec::new();
        for (key, assigned) in assigned {
            match opening.failed.get(&key) {
                Some(failure) if failure.retry_at > now => {
                    let earliest = retry_at.map_or(failure.retry_at, |at| at.min(failure.retry_at));
                    retry_at = Some(earliest);
                }
                _ => {
                    opening.running.insert(key);
                    due.push(assigned);
                }
            }
        }
        self.gauge(led.len(), opening.running.len());
        (due, retry_at)
    }

    async fn open(&self, batch: Vec<Assigned>, journal: &Arc<Journal>) {
        let keys: Vec<Key> = batch.iter().map(|assigned| key_of(&assigned.info)).collect();
        let opened = open(batch, journal, &self.inner.services, &self.inner.session).await;
        {
            let mut led = self.inner.led.write();
            let mut opening = self.inner.opening.lock();
            for (key, opened) in keys.into_iter().zip(opened) {
                opening.running.remove(&key);
                match opened {
                    Ok(partition) => {
                        opening.failed.remove(&key);
                        self.inner.services.metrics.opened.inc();
                        led.insert(key, Arc::new(partition));
                    }
                    Err(error) => self.failed(&mut opening, key, &error),
                }
            }
            self.gauge(led.len(), opening.running.len());
        }
        // If something has changed meanwhile, the next look ends what shouldn't be here.
        self.changed();
    }

    fn failed(&self, opening: &mut Openings, key: Key, error: &OpenError) {
        let clock = self.inner.session.clock();
        let attempts = opening.failed.get(&key).map_or(0, |failure| failure.attempts) + 1;
        let (topic, partition) = key;
        // Something that another node, or the controller, is about to finish.
        let passing = match error {
            OpenError::Port(error) => {
                matches!(
                    error.kind(),
                    Kind::Unavailable | Kind::NotFound | Kind::Fenced | Kind::Shutdown
                )
            }
            _ => false,
        };
        let most = if passing { PASSING_RETRY_MAX } else { RETRY_MAX };
        let pause = Duration::from_millis(RETRY_MS << (attempts - 1).min(10)).min(most);
        let jitter = self.inner.session.random().jitter(pause / 4);
        let retry_at = clock.now() + pause + jitter;
        opening.failed.insert(key, Failure { attempts, retry_at });
        if passing {
            tracing::debug!(%topic, partition, %error, "not to be opened yet");
            return;
        }
        self.inner.services.metrics.open_failures.inc();
        if attempts == 1 {
            tracing::error!(%topic, partition, %error, "partition can't be opened, trying again");
        }
    }

    fn assigned<'a>(&'a self, view: &'a Snapshot) -> impl Iterator<Item = Assigned> + 'a {
        view.topics().flat_map(move |topic| {
            let mine = topic.partitions.values().filter(|info| self.is_mine(info));
            mine.map(|info| Assigned {
                info: info.clone(),
                topic_name: topic.name.clone(),
            })
        })
    }

    fn is_mine(&self, info: &PartitionInfo) -> bool {
        info.leader == Some(self.inner.session.node())
    }

    fn why_not_here(&self, info: &PartitionInfo) -> Missing {
        let leader_epoch = info.leader_epoch;
        if self.is_mine(info) {
            return Missing::Opening { leader_epoch };
        }
        Missing::NotLeader {
            leader: info.leader,
            leader_epoch,
        }
    }

    fn gauge(&self, led: usize, opening: usize) {
        let metrics = &self.inner.services.metrics;
        metrics.led.set(led as i64);
        metrics.opening.set(opening as i64);
    }

    pub(super) fn changed(&self) {
        self.inner.changes.send_modify(|count| *count += 1);
    }
}

fn key_of(info: &PartitionInfo) -> Key {
    (info.topic, info.index)
}
