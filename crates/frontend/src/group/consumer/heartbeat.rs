//! ConsumerGroupHeartbeat: how a member joins, says what it wants and has, and learns what it shall have (KIP-848).
//!
//! Owns: what is checked in which order, as Apache Kafka 4.3 does. Everything is checked before the first record is put, so
//! a refusal changes nothing. Does not own: how members leave (`leave.rs`), in which order they give and take
//! (`reconcile.rs`), sessions (`group.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tailwater_kafka::ErrorCode;
use tailwater_types::TopicId;

use super::leave;
use super::reconcile::{Towards, reconcile};
use super::record::{ConsumerRecord, CurrentAssignment, GroupEpoch, Subscription};
use super::state::{Assigned, Draft, JOINING, LEAVING_FOR_A_WHILE, Member, Partitions, State};
use super::target;
use super::topics::{self, Topics};
use crate::config::MigrationPolicy;
use crate::coordinator::Now;
use crate::group::assignor::Assignor;

/// A ConsumerGroupHeartbeat request. What is `None` hasn't changed since the last one.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// Empty: the member is new, and gets `new_member_id`.
    pub member_id: String,
    pub member_epoch: i32,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: Option<i32>,
    pub topics: Option<BTreeSet<String>>,
    /// Empty: none any more.
    pub regex: Option<String>,
    pub assignor: Option<String>,
    pub owned: Option<Partitions>,
    pub new_member_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    pub error: ErrorCode,
    /// What is wrong, where the error doesn't say it.
    pub message: Option<String>,
    pub member_id: Option<String>,
    pub member_epoch: i32,
    pub interval: Duration,
    /// `None`: as before.
    pub assignment: Option<Partitions>,
}

/// What holds for the group.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    /// The least time between two assignments.
    pub assignment_interval: Duration,
    pub max_size: usize,
    /// For groups whose members name no assignor.
    pub assignor: Assignor,
    pub migration: MigrationPolicy,
    /// Members that a classic group may have.
    pub classic_max_size: usize,
}

/// What a decision rests on beside the group.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The group's id.
    pub group: &'a str,
    pub now: Now,
    pub settings: Settings,
    pub topics: &'a dyn Topics,
}

/// A refusal: its code, and what is wrong where the code doesn't say it.
pub type Refusal = (ErrorCode, Option<String>);

impl HeartbeatReply {
    pub fn refused((error, message): Refusal) -> Self {
        Self {
            error,
            message,
            member_id: None,
            member_epoch: 0,
            interval: Duration::ZERO,
            assignment: None,
        }
    }
}

impl Heartbeat {
    /// How large what it wants and has is, not to the byte.
    pub fn about_bytes(&self) -> usize {
        let topics = self.topics.iter().flatten().map(|name| 32 + name.len());
        let owned = self
            .owned
            .iter()
            .flatten()
            .map(|(_, partitions)| 32 + 4 * partitions.len());
        topics.chain(owned).sum::<usize>() + self.regex.as_ref().map_or(0, String::len)
    }

    /// # Errors
    /// What no group could answer.
    pub fn validate(&self, needs_member_id: bool) -> Result<(), Refusal> {
        let invalid = |what: &str| Err((ErrorCode::InvalidRequest, Some(what.to_owned())));
        let is_empty = |text: &Option<String>| text.as_deref() == Some("");
        if is_empty(&self.instance_id) {
            return invalid("An instance id may not be empty.");
        }
        if is_empty(&self.rack_id) {
            return invalid("A rack id may not be empty.");
        }
        if self.member_id.is_empty() && (needs_member_id || self.member_epoch != JOINING) {
            return invalid("A member id is needed.");
        }
        match self.member_epoch {
            JOINING if self.rebalance_timeout_ms.is_none() => {
                return invalid("Who joins must say its rebalance timeout.");
            }
            JOINING if self.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
                return invalid("Who joins must say that it has no partitions.");
            }
            JOINING if self.topics.is_none() && self.regex.is_none() => {
                return invalid("Who joins must say which topics it wants.");
            }
            LEAVING_FOR_A_WHILE if self.instance_id.is_none() => {
                return invalid("Only a member with an instance id leaves for a while.");
            }
            ..LEAVING_FOR_A_WHILE => return invalid("There is no such member epoch."),
            _ => {}
        }
        match &self.assignor {
            Some(name) if Assignor::named(name).is_none() => {
                let known: Vec<&str> = Assignor::ALL.iter().map(|assignor| assignor.name()).collect();
                let what = format!("There is no assignor {name}, but {}.", known.join(", "));
                Err((ErrorCode::UnsupportedAssignor, Some(what)))
            }
            _ => Ok(()),
        }
    }

    /// Whether it says everything, as a member does that doesn't know what its coordinator knows.
    fn is_full(&self) -> bool {
        let says_all = self.rebalance_timeout_ms.is_some()
            && (self.topics.is_some() || self.regex.is_some())
            && self.owned.is_some();
        self.member_epoch == JOINING || says_all
    }

    /// What the member wants from now on.
    fn update(&self, known: &Subscription) -> Subscription {
        let or = |new: &Option<String>, known: &Option<String>| new.clone().or_else(|| known.clone());
        Subscription {
            instance_id: or(&self.instance_id, &known.instance_id),
            rack_id: or(&self.rack_id, &known.rack_id),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topics: self.topics.clone().unwrap_or_else(|| known.topics.clone()),
            regex: or(&self.regex, &known.regex),
            rebalance_timeout_ms: self.rebalance_timeout_ms.unwrap_or(known.rebalance_timeout_ms),
            assignor: or(&self.assignor, &known.assignor),
            classic: None,
        }
    }
}

/// Answers a heartbeat, putting what it changes.
///
/// # Errors
/// It is refused, and nothing is put.
pub fn heartbeat(draft: &mut Draft, request: &Heartbeat, around: &Around<'_>) -> Result<HeartbeatReply, Refusal> {
    if request.member_epoch < JOINING {
        return leave::leave(draft, request, around);
    }
    let joins = request.member_epoch == JOINING;
    let id = match request.member_id.as_str() {
        "" => &request.new_member_id,
        id => id,
    };
    let replaces = find(draft, id, request, joins, around)?;
    let known = draft.members.get(replaces.as_deref().unwrap_or(id)).cloned();
    let before = known
        .as_ref()
        .map(|member| member.subscription.clone())
        .unwrap_or_default();
    let wanted = request.update(&before);
    if let Some(regex) = wanted
        .regex
        .as_deref()
        .filter(|regex| !regex.is_empty() && wanted.regex != before.regex)
    {
        topics::compile(regex).map_err(|error| {
            // Before its last line there is a picture.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let what = format!("{regex} isn't a regular expression: {why}");
            (ErrorCode::InvalidRegularExpression, Some(what))
        })?;
    }
    // A state that only a newer coordinator knows can't be gone on from.
    let can_go_on = known.is_none_or(|member| can_reconcile(draft, &member, request.owned.as_ref()));
    if !can_go_on {
        return Err((ErrorCode::FencedMemberEpoch, None));
    }
    if let Some(old_id) = replaces {
        leave::replace(draft, &old_id, id);
    }
    let had = draft.members.get(id).map(|member| member.current.assigned.clone());
    update_group(draft, id, (&before, wanted), around);
    assign_if_due(draft, around);
    reconcile_member(draft, id, request.owned.as_ref(), around.topics);
    Ok(answer(draft, id, request, had, around))
}

/// The static member that the request's takes the place of, if any.
fn find(
    state: &State,
    id: &str,
    request: &Heartbeat,
    joins: bool,
    around: &Around<'_>,
) -> Result<Option<String>, Refusal> {
    let is_full = state.members.len() >= around.settings.max_size;
    let holder = request
        .instance_id
        .as_ref()
        .map(|instance| state.static_members.get(instance));
    match (holder, joins) {
        (Some(Some(holder)), true) if holder != id => {
            let has_left = state.members.get(holder).is_some_and(|member| {
                let is_classic = member.subscription.classic.is_some();
                is_classic || member.current.epoch == LEAVING_FOR_A_WHILE
            });
            match has_left {
                true => Ok(Some(holder.clone())),
                false => Err((ErrorCode::UnreleasedInstanceId, None)),
            }
        }
        (_, true) if is_full && !state.members.contains_key(id) => Err((ErrorCode::GroupMaxSizeReached, None)),
        (_, true) => Ok(None),
        (holder, false) => {
            leave::check_instance(id, holder)?;
            let member = state.members.get(id).ok_or((ErrorCode::UnknownMemberId, None))?;
            check_epoch(&member.current, request)?;
            Ok(None)
        }
    }
}

/// A member that is one epoch behind may have missed an answer: it is, if it has nothing but what it was given.
fn check_epoch(current: &CurrentAssignment, request: &Heartbeat) -> Result<(), Refusal> {
    let is_subset = |owned: &Partitions| {
        owned.iter().all(|(topic, partitions)| {
            let assigned = current.assigned.get(topic);
            partitions
                .iter()
                .all(|partition| assigned.is_some_and(|assigned| assigned.contains_key(partition)))
        })
    };
    let epoch = request.member_epoch;
    let has_missed_one = epoch == current.previous_epoch && request.owned.as_ref().is_some_and(is_subset);
    match epoch == current.epoch || epoch < current.epoch && has_missed_one {
        true => Ok(()),
        false => {
            let what = format!("The member is in epoch {}, and has to join anew.", current.epoch);
            Err((ErrorCode::FencedMemberEpoch, Some(what)))
        }
    }
}

/// Records what the member wants, and a new epoch where that, or the topics, ask for another assignment.
pub(super) fn update_group(
    draft: &mut Draft,
    id: &str,
    (before, wanted): (&Subscription, Subscription),
    around: &Around<'_>,
) {
    let is_known = draft.members.contains_key(id);
    let has_changed = !is_known || before.topics != wanted.topics || before.regex != wanted.regex;
    if !is_known || *before != wanted {
        draft.put(ConsumerRecord::Member(id.to_owned(), Some(wanted)));
    }
    if !has_changed && draft.topics_version == Some(around.topics.version()) {
        return;
    }
    let new_hash = topics::refresh(draft, around.topics, around.now);
    if has_changed || new_hash.is_some() {
        bump(draft, new_hash);
    }
}

/// The group's next epoch.
pub(super) fn bump(draft: &mut Draft, new_hash: Option<i64>) {
    let epoch = GroupEpoch {
        epoch: draft.epoch + 1,
        metadata_hash: new_hash.unwrap_or(draft.metadata_hash),
    };
    draft.put(ConsumerRecord::Epoch(Some(epoch)));
}

/// Brings the target to the group's epoch, if it is behind and the last assignment is long enough ago.
pub(super) fn assign_if_due(draft: &mut Draft, around: &Around<'_>) {
    if draft.epoch > draft.target_epoch && is_assignment_due(draft, around) {
        target::assign(draft, around.settings.assignor, around.topics, around.now);
    }
}

/// The first assignment is always due.
fn is_assignment_due(state: &State, around: &Around<'_>) -> bool {
    let interval_ms = i64::try_from(around.settings.assignment_interval.as_millis()).unwrap_or(i64::MAX);
    let elapsed_ms = around.now.wall_ms.saturating_sub(state.assigned_at_ms);
    // A clock that was set back doesn't stop assignments.
    state.assigned_at_ms == 0 || elapsed_ms < 0 || elapsed_ms >= interval_ms
}

/// `owned`: what the member says that it has.
pub(super) fn can_reconcile(state: &State, member: &Member, owned: Option<&Partitions>) -> bool {
    let towards = Towards {
        epoch: state.target_epoch,
        target: &Partitions::new(),
        wants: None,
        owned,
        is_owned: &|_, _| true,
    };
    reconcile(&member.current, &towards).is_some()
}

/// Brings a member that says that it has `owned` towards its target.
pub(super) fn reconcile_member(draft: &mut Draft, id: &str, owned: Option<&Partitions>, topics: &dyn Topics) {
    if let Some(next) = next_assignment(draft, id, owned, topics) {
        draft.put(ConsumerRecord::Current(id.to_owned(), Some(next)));
    }
}

/// What the member has from now on, where that isn't what it has.
fn next_assignment(
    state: &State,
    id: &str,
    owned: Option<&Partitions>,
    topics: &dyn Topics,
) -> Option<CurrentAssignment> {
    let member = state.members.get(id)?;
    // A target that is out of date may have what the member doesn't want any more: nothing of that is given out until the next
    // one is made.
    let wants: Option<BTreeSet<TopicId>> = (state.epoch > state.target_epoch).then(|| {
        let names = topics::names_of(state, &member.subscription);
        names
            .filter_map(|name| topics.find(name))
            .map(|topic| topic.id)
            .collect()
    });
    let mut target = state.target_of(id);
    if let Some(wants) = &wants {
        Arc::make_mut(&mut target).retain(|topic, _| wants.contains(topic));
    }
    let towards = Towards {
        epoch: state.target_epoch,
        target: &target,
        wants: wants.as_ref(),
        owned,
        is_owned: &|topic, partition| state.is_owned(topic, partition),
    };
    let next = reconcile(&member.current, &towards)?;
    let differs = |next: &CurrentAssignment, current: &CurrentAssignment| {
        // A step that leads nowhere says so again with every heartbeat.
        let without_history = |of: &CurrentAssignment| CurrentAssignment {
            previous_epoch: 0,
            ..of.clone()
        };
        without_history(next) != without_history(current)
    };
    differs(&next, &member.current).then_some(next)
}

fn answer(state: &State, id: &str, request: &Heartbeat, had: Option<Assigned>, around: &Around<'_>) -> HeartbeatReply {
    let member: Option<&Arc<Member>> = state.members.get(id);
    let current = member.map(|member| member.current.clone()).unwrap_or_default();
    let same = |a: &Assigned, b: &Assigned| {
        let mut pairs = a.iter().zip(b);
        a.len() == b.len() && pairs.all(|((ta, pa), (tb, pb))| ta == tb && pa.keys().eq(pb.keys()))
    };
    let has_changed = !same(&had.unwrap_or_default(), &current.assigned);
    let assignment = (request.is_full() || has_changed).then(|| partitions(&current.assigned));
    HeartbeatReply {
        error: ErrorCode::None,
        message: None,
        member_id: Some(id.to_owned()),
        member_epoch: current.epoch,
        interval: around.settings.heartbeat_interval,
        assignment,
    }
}

/// What a member has, or hasn't given back yet.
pub fn held(current: &CurrentAssignment) -> Partitions {
    let mut held = partitions(&current.assigned);
    for (topic, revoking) in partitions(&current.revoking) {
        held.entry(topic).or_default().extend(revoking);
    }
    held
}

/// Without the epochs.
pub fn partitions(assigned: &Assigned) -> Partitions {
    let topic = |(topic, partitions): (&_, &std::collections::BTreeMap<i32, i32>)| {
        (*topic, partitions.keys().copied().collect())
    };
    assigned.iter().map(topic).collect()
}
