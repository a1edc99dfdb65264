//! What a group whose coordinator assigns (KIP-848) is: its epochs, its members, what each shall have and what each has.
//!
//! Owns: the data, and what a record makes of it, which is the same in the replay and in a decision that is committed. Does
//! not own: what is decided when (`heartbeat.rs`, `leave.rs`), time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tailwater_types::TopicId;

use super::record::{ConsumerRecord, CurrentAssignment, Subscription};

/// Partitions by topic.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// Partitions that a member has, each with the member's epoch when it got it (KIP-1251).
pub type Assigned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// The epoch of a member that joins; one below leaves.
pub const JOINING: i32 = 0;
/// The epoch with which a static member leaves for a while.
pub const LEAVING_FOR_A_WHILE: i32 = -2;

/// How far a member is on the way to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// It has what it had in the target of its epoch.
    #[default]
    Stable,
    /// It has partitions that it must give back first.
    Unrevoked,
    /// It waits for partitions that others have.
    Unreleased,
    /// What a newer coordinator wrote.
    Unknown,
}

/// What a regular expression stood for when it was last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRegex {
    pub topics: BTreeSet<String>,
    /// Of the metadata at that time.
    pub version: i64,
    pub at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub subscription: Subscription,
    pub current: CurrentAssignment,
}

/// Cheap to copy: a decision is made on a copy, which becomes the group when its records are committed.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub epoch: i32,
    pub metadata_hash: i64,
    /// The epoch that the target was made for.
    pub target_epoch: i32,
    /// When; 0 is unknown.
    pub assigned_at_ms: i64,
    pub members: BTreeMap<String, Arc<Member>>,
    /// Instance id → member id.
    pub static_members: BTreeMap<String, String>,
    pub target: BTreeMap<String, Arc<Partitions>>,
    pub regexes: BTreeMap<String, Arc<ResolvedRegex>>,
    /// How many members have each partition, or haven't given it back yet: never more than one, but in a replay.
    owned: BTreeMap<TopicId, BTreeMap<i32, u32>>,
    /// Whether the log may have a record of the topics' shapes from before Kafka 4.1.
    pub has_partition_metadata: bool,
    /// The version of the topics that the hash and the regular expressions were last compared with. Isn't recorded.
    pub topics_version: Option<i64>,
}

impl State {
    /// Takes a record over.
    pub fn apply(&mut self, record: &ConsumerRecord) {
        match record {
            ConsumerRecord::Epoch(Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            ConsumerRecord::Epoch(None) => {
                self.epoch = 0;
                self.metadata_hash = 0;
            }
            ConsumerRecord::PartitionMetadata { is_deleted } => self.has_partition_metadata = !is_deleted,
            ConsumerRecord::Member(id, Some(subscription)) => self.subscribe(id, subscription),
            ConsumerRecord::Member(id, None) => self.remove(id),
            ConsumerRecord::TargetEpoch(value) => {
                let value = value.unwrap_or_default();
                self.target_epoch = value.epoch;
                self.assigned_at_ms = value.at_ms;
            }
            ConsumerRecord::TargetMember(id, Some(partitions)) => {
                self.target.insert(id.clone(), Arc::new(partitions.clone()));
            }
            ConsumerRecord::TargetMember(id, None) => {
                self.target.remove(id);
            }
            ConsumerRecord::Current(id, current) => self.set_current(id, current.as_ref()),
            ConsumerRecord::Regex(regex, Some(resolved)) => {
                self.regexes.insert(regex.clone(), Arc::new(resolved.clone()));
            }
            ConsumerRecord::Regex(regex, None) => {
                self.regexes.remove(regex);
            }
        }
    }

    fn subscribe(&mut self, id: &str, subscription: &Subscription) {
        if let Some(instance) = &subscription.instance_id {
            self.static_members.insert(instance.clone(), id.to_owned());
        }
        match self.members.get_mut(id) {
            Some(member) => Arc::make_mut(member).subscription = subscription.clone(),
            None => {
                let member = Member {
                    subscription: subscription.clone(),
                    current: CurrentAssignment::default(),
                };
                self.members.insert(id.to_owned(), Arc::new(member));
            }
        }
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        self.count_owned(&member.current, false);
        // Another one may have its place already.
        if let Some(instance) = &member.subscription.instance_id
            && self.static_members.get(instance).is_some_and(|holder| holder == id)
        {
            self.static_members.remove(instance);
        }
    }

    fn set_current(&mut self, id: &str, current: Option<&CurrentAssignment>) {
        if current.is_some() && !self.members.contains_key(id) {
            // In a log that was compacted who the member is may stand behind what it has.
            self.subscribe(id, &Subscription::default());
        }
        let Some(member) = self.members.get_mut(id) else { return };
        let new = current.cloned().unwrap_or_default();
        let old = std::mem::replace(&mut Arc::make_mut(member).current, new.clone());
        self.count_owned(&old, false);
        self.count_owned(&new, true);
    }

    fn count_owned(&mut self, current: &CurrentAssignment, is_owned: bool) {
        for (topic, partitions) in current.assigned.iter().chain(&current.revoking) {
            let counts = self.owned.entry(*topic).or_default();
            for partition in partitions.keys() {
                let count = counts.entry(*partition).or_default();
                *count = match is_owned {
                    true => *count + 1,
                    false => count.saturating_sub(1),
                };
                if *count == 0 {
                    counts.remove(partition);
                }
            }
            if counts.is_empty() {
                self.owned.remove(topic);
            }
        }
    }

    /// Whether a member has the partition, or hasn't given it back yet.
    pub fn is_owned(&self, topic: TopicId, partition: i32) -> bool {
        let counts = self.owned.get(&topic);
        counts.is_some_and(|counts| counts.contains_key(&partition))
    }

    pub fn target_of(&self, id: &str) -> Arc<Partitions> {
        self.target.get(id).cloned().unwrap_or_default()
    }

    /// Kafka's name for what the group does.
    pub fn name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(|member| self.is_reconciled(member)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether a member has all that it shall have.
    pub fn is_reconciled(&self, member: &Member) -> bool {
        member.current.progress == Progress::Stable && member.current.epoch == self.target_epoch
    }

    /// Whether nothing is stored of it.
    pub fn is_blank(&self) -> bool {
        let is_unborn = self.epoch == 0 && self.target_epoch == 0;
        is_unborn && self.members.is_empty() && self.target.is_empty() && self.regexes.is_empty()
    }

    /// What makes the log forget the group, in Kafka's order: its epoch last.
    pub fn tombstones(&self) -> Vec<ConsumerRecord> {
        let members = || self.members.keys().cloned();
        let mut records: Vec<ConsumerRecord> = members().map(|id| ConsumerRecord::Current(id, None)).collect();
        records.extend(
            self.target
                .keys()
                .map(|id| ConsumerRecord::TargetMember(id.clone(), None)),
        );
        records.push(ConsumerRecord::TargetEpoch(None));
        records.extend(members().map(|id| ConsumerRecord::Member(id, None)));
        records.extend(
            self.regexes
                .keys()
                .map(|regex| ConsumerRecord::Regex(regex.clone(), None)),
        );
        if self.has_partition_metadata {
            records.push(ConsumerRecord::PartitionMetadata { is_deleted: true });
        }
        records.push(ConsumerRecord::Epoch(None));
        records
    }
}

/// A state that decisions are being made on, with the records that make it.
#[derive(Debug)]
pub struct Draft {
    state: Arc<State>,
    pub records: Vec<ConsumerRecord>,
    /// About as many as the records' values have.
    pub bytes: usize,
    /// Nothing is decided on it any more.
    pub dissolved: Option<Dissolved>,
}

/// A group that only members of the classic protocol are left in, to go on as theirs.
#[derive(Clone, Debug)]
pub struct Dissolved {
    pub state: Arc<State>,
    /// Whether they are asked to join again.
    pub rebalances: bool,
}

impl Draft {
    pub fn new(state: Arc<State>) -> Self {
        Self {
            state,
            records: Vec::new(),
            bytes: 0,
            dissolved: None,
        }
    }

    pub fn put(&mut self, record: ConsumerRecord) {
        Arc::make_mut(&mut self.state).apply(&record);
        self.bytes += record.about_bytes();
        self.records.push(record);
    }

    /// Ends the group as one whose coordinator assigns.
    pub fn dissolve(&mut self, rebalances: bool) {
        self.dissolved = Some(Dissolved {
            state: self.state.clone(),
            rebalances,
        });
        for record in self.state.tombstones() {
            self.put(record);
        }
    }

    /// Nothing that is recorded.
    pub fn set_topics_version(&mut self, version: i64) {
        if self.state.topics_version != Some(version) {
            Arc::make_mut(&mut self.state).topics_version = Some(version);
        }
    }

    pub fn into_state(self) -> Arc<State> {
        self.state
    }
}

impl std::ops::Deref for Draft {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}
