//! Members of a group whose coordinator assigns that speak the classic protocol still, or again: JoinGroup, SyncGroup, Heartbeat
//! and LeaveGroup of them, as Apache Kafka 4.3 answers them (KIP-848, migration).
//!
//! To such a member every rebalance is its own: a Heartbeat says that there is one, JoinGroup makes its step towards the
//! target (what it says that it has is what it hasn't given back), SyncGroup gives what it has from then on; its generation is
//! its epoch, and nobody leads. Does not own: its deadlines (`timers.rs`), how a group becomes such a one (`group/migrate.rs`).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tailwater_kafka::messages::{AssignedPartitions, ConsumerAssignment, ConsumerSubscription};
use tailwater_kafka::{ErrorCode, Str};
use tailwater_types::TopicId;

use super::heartbeat::{Around, assign_if_due, can_reconcile, partitions, reconcile_member, update_group};
use super::leave;
use super::record::{ClassicMember, Subscription};
use super::size;
use super::state::{Draft, Member, Partitions, Progress, State};
use super::topics::Topics;
use crate::group::delete::CONSUMER;
use crate::group::effects::{Join, JoinReply, Leaving, MemberRef, Sync, SyncReply};

/// Whether without these members some are left, all of the classic protocol, and the group may go on as theirs.
pub fn only_classic_remain(state: &State, leaving: &BTreeSet<String>, around: &Around<'_>) -> bool {
    let mut remaining = state.members.iter().filter(|(id, _)| !leaving.contains(*id)).peekable();
    remaining.peek().is_some()
        && remaining.all(|(_, member)| member.subscription.classic.is_some())
        && around.settings.migration.downgrades()
        && state.members.len() - leaving.len() <= around.settings.classic_max_size
}

/// What becomes of a JoinGroup that is let in.
struct Admitted {
    /// The static member that it takes the place of.
    replaces: Option<String>,
    /// Whether that was the last one that kept the group from being a classic one.
    becomes_classic: bool,
    subscription: ConsumerSubscription,
}

/// Lets a member join, or join again.
pub fn join(draft: &mut Draft, request: &Join, around: &Around<'_>) -> JoinReply {
    let id = match request.member_id.as_str() {
        "" => &request.new_member_id,
        id => id,
    };
    let admitted = match admit(draft, id, request, around) {
        Ok(admitted) => admitted,
        Err(ErrorCode::MemberIdRequired) => return JoinReply::refused(id, ErrorCode::MemberIdRequired),
        Err(error) => return JoinReply::refused(&request.member_id, error),
    };
    if let Some(old_id) = &admitted.replaces {
        leave::replace(draft, old_id, id);
    }
    let before = draft.members.get(id).map(|member| member.subscription.clone());
    let before = before.unwrap_or_default();
    let owned = to_partitions(&admitted.subscription.owned_partitions, around.topics);
    let wanted = subscription(request, admitted.subscription, &before);
    update_group(draft, id, (&before, wanted), around);
    if admitted.becomes_classic {
        // Where somebody hasn't what it shall have a rebalance follows at once. With Kafka one follows only where the target is
        // outdated: who waits for what another member gives back then waits until the next.
        if draft.target_epoch == draft.epoch {
            reconcile_member(draft, id, Some(&owned), around.topics);
        }
        if size::fits_when_dissolved(draft, around) {
            let reply = joined(draft, id, request);
            draft.dissolve(draft.name() != "Stable");
            return reply;
        }
    }
    assign_if_due(draft, around);
    reconcile_member(draft, id, Some(&owned), around.topics);
    joined(draft, id, request)
}

/// # Errors
/// Nothing is put.
fn admit(state: &State, id: &str, request: &Join, around: &Around<'_>) -> Result<Admitted, ErrorCode> {
    if !supports(state, request) {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let is_new = request.member_id.is_empty();
    let replaces = match &request.instance_id {
        None => None,
        Some(instance) => match state.static_members.get(instance) {
            None if is_new => None,
            None => return Err(ErrorCode::UnknownMemberId),
            Some(holder) if is_new => Some(holder),
            Some(holder) if holder == id => None,
            Some(_) => return Err(ErrorCode::FencedInstanceId),
        },
    };
    let is_full = state.members.len() >= around.settings.max_size;
    if is_full && replaces.is_none() && !state.members.contains_key(id) {
        return Err(ErrorCode::GroupMaxSizeReached);
    }
    if is_new && request.instance_id.is_none() && request.requires_known_member_id {
        return Err(ErrorCode::MemberIdRequired);
    }
    // All of a member's protocols say the same of it.
    let metadata = request.protocols.first().map(|protocol| protocol.metadata.clone());
    let subscription = ConsumerSubscription::decode_any(&metadata.unwrap_or_default())
        .map_err(|_unreadable| ErrorCode::InconsistentGroupProtocol)?;
    let known = state.members.get(replaces.map_or(id, String::as_str));
    // An id that was handed out a moment ago may be unknown, but then it has nothing. Who has something was a member until it was
    // silent for too long, and is to lose that first: others have it. (Apache Kafka lets it in.)
    let has_something = subscription
        .owned_partitions
        .iter()
        .any(|owned| !owned.partitions.is_empty());
    if known.is_none() && !is_new && has_something {
        return Err(ErrorCode::UnknownMemberId);
    }
    if let Some(member) = known {
        let owned = to_partitions(&subscription.owned_partitions, around.topics);
        // A state that only a newer coordinator knows: it has to begin anew.
        if !can_reconcile(state, member, Some(&owned)) {
            return Err(ErrorCode::UnknownMemberId);
        }
    }
    let holds_back = known.filter(|member| request.instance_id.is_some() && member.subscription.classic.is_none());
    let becomes_classic = holds_back.is_some_and(|_| {
        let holder = replaces.cloned().unwrap_or_else(|| id.to_owned());
        let settings = &around.settings;
        let others = || state.members.iter().filter(|(other, _)| **other != holder);
        others().all(|(_, member)| member.subscription.classic.is_some())
            && settings.migration.downgrades()
            && state.members.len() <= settings.classic_max_size
    });
    Ok(Admitted {
        replaces: replaces.cloned(),
        becomes_classic,
        subscription,
    })
}

/// Whether all members of the classic protocol could be told one of the request's protocols: the group may be theirs again.
fn supports(state: &State, request: &Join) -> bool {
    let classic = || {
        let members = state.members.values();
        members.filter_map(|member| member.subscription.classic.as_ref())
    };
    let is_known_to_all = |name: &str| classic().all(|member| member.protocols.iter().any(|known| known.name == name));
    let mut protocols = request.protocols.iter();
    request.protocol_type == CONSUMER && protocols.any(|protocol| is_known_to_all(&protocol.name))
}

fn subscription(request: &Join, said: ConsumerSubscription, before: &Subscription) -> Subscription {
    let ms = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    Subscription {
        instance_id: request.instance_id.clone().or_else(|| before.instance_id.clone()),
        rack_id: said.rack_id.map(String::from).or_else(|| before.rack_id.clone()),
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        topics: said.topics.into_iter().map(String::from).collect(),
        regex: None,
        rebalance_timeout_ms: ms(request.rebalance_timeout),
        assignor: before.assignor.clone(),
        classic: Some(ClassicMember {
            session_timeout_ms: ms(request.session_timeout),
            protocols: request.protocols.clone(),
        }),
    }
}

fn joined(state: &State, id: &str, request: &Join) -> JoinReply {
    let member = state.members.get(id);
    JoinReply {
        error: ErrorCode::None,
        member_id: id.to_owned(),
        generation: member.map_or(0, |member| member.current.epoch),
        protocol_type: Some(CONSUMER.to_owned()),
        protocol_name: request.protocols.first().map(|protocol| protocol.name.clone()),
        leader: String::new(),
        skip_assignment: false,
        members: Vec::new(),
    }
}

/// What a member has.
pub fn sync(state: &State, request: &Sync, topics: &dyn Topics) -> SyncReply {
    match check_sync(state, request) {
        Ok((member, classic)) => SyncReply {
            error: ErrorCode::None,
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment: assignment(&partitions(&member.current.assigned), version(classic), topics),
        },
        Err(error) => SyncReply::refused(error),
    }
}

fn check_sync<'a>(state: &'a State, request: &Sync) -> Result<(&'a Member, &'a ClassicMember), ErrorCode> {
    let (member, classic) = find(state, &request.member)?;
    let told = classic.protocols.first().map(|protocol| protocol.name.as_str());
    let is_other_type = request.protocol_type.as_deref().is_some_and(|said| said != CONSUMER);
    if is_other_type || request.protocol_name.is_some() && request.protocol_name.as_deref() != told {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let current = &member.current;
    // One that has to give back first has joined this rebalance already, and joins again when it has.
    match state.target_epoch > current.epoch && current.progress != Progress::Unrevoked {
        true => Err(ErrorCode::RebalanceInProgress),
        false => Ok((member, classic)),
    }
}

/// A member shows that it lives, and learns whether it has to join again. Unlike Kafka's it also has new topics and partitions
/// assigned: there may be no member of the new protocol whose heartbeats do.
pub fn heartbeat(draft: &mut Draft, who: &MemberRef, around: &Around<'_>) -> ErrorCode {
    let wants = match find(draft, who) {
        Ok((member, _)) => member.subscription.clone(),
        Err(error) => return error,
    };
    update_group(draft, &who.member_id, (&wants, wants.clone()), around);
    assign_if_due(draft, around);
    match draft.members.get(&who.member_id) {
        Some(member) if must_join(draft, &who.member_id, member) => ErrorCode::RebalanceInProgress,
        _ => ErrorCode::None,
    }
}

/// There is a newer target, or something to give back, or something free that it waits for.
fn must_join(state: &State, id: &str, member: &Member) -> bool {
    let current = &member.current;
    let is_free = |topic: TopicId, partition: i32| !state.is_owned(topic, partition);
    let has = |topic: TopicId, partition: i32| {
        let assigned = current.assigned.get(&topic);
        assigned.is_some_and(|assigned| assigned.contains_key(&partition))
    };
    let waits_for_nobody = || {
        let target = state.target_of(id);
        let mut wanted = target
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)));
        wanted.all(|(topic, partition)| has(topic, partition) || is_free(topic, partition))
    };
    current.epoch < state.target_epoch
        || current.progress == Progress::Unrevoked
        || current.progress == Progress::Unreleased && waits_for_nobody()
}

/// Lets members go, of either protocol: what each is answered.
pub fn leave(draft: &mut Draft, leaving: &[Leaving], around: &Around<'_>) -> Vec<ErrorCode> {
    let mut gone = BTreeSet::new();
    let errors = leaving.iter().map(|who| match who_leaves(draft, who) {
        Ok(id) => {
            gone.insert(id);
            ErrorCode::None
        }
        Err(error) => error,
    });
    let errors = errors.collect();
    if !gone.is_empty() {
        leave::remove(draft, &gone, around);
    }
    errors
}

fn who_leaves(state: &State, who: &Leaving) -> Result<String, ErrorCode> {
    let id = &who.member_id;
    let found = match &who.instance_id {
        None => state.members.contains_key(id).then_some(id),
        Some(instance) => match state.static_members.get(instance) {
            Some(holder) if !id.is_empty() && holder != id => return Err(ErrorCode::FencedInstanceId),
            holder => holder,
        },
    };
    found.cloned().ok_or(ErrorCode::UnknownMemberId)
}

/// The member that asks, which must be one of the classic protocol and in its generation.
fn find<'a>(state: &'a State, who: &MemberRef) -> Result<(&'a Member, &'a ClassicMember), ErrorCode> {
    let holder = who
        .instance_id
        .as_ref()
        .map(|instance| state.static_members.get(instance));
    leave::check_instance(&who.member_id, holder).map_err(|(error, _)| error)?;
    let member = state.members.get(&who.member_id).ok_or(ErrorCode::UnknownMemberId)?;
    let classic = member.subscription.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
    match member.current.epoch == who.generation {
        true => Ok((member, classic)),
        false => Err(ErrorCode::IllegalGeneration),
    }
}

/// The version in which a member speaks, and is spoken to.
fn version(classic: &ClassicMember) -> i16 {
    let first = classic.protocols.first();
    first.map_or(0, |protocol| ConsumerSubscription::version_of(&protocol.metadata))
}

/// Partitions as the leader of a classic group would assign them.
pub fn assignment(partitions: &Partitions, version: i16, topics: &dyn Topics) -> Bytes {
    let topic = |(topic, partitions): (&TopicId, &BTreeSet<i32>)| {
        Some(AssignedPartitions {
            topic: Str::from(topics.name_of(*topic)?),
            partitions: partitions.iter().copied().collect(),
        })
    };
    let assignment = ConsumerAssignment {
        assigned_partitions: partitions.iter().filter_map(topic).collect(),
        user_data: None,
    };
    assignment
        .encode_with_version(version)
        .expect("names of topics are short")
}

/// Partitions of the topics that there are.
pub fn to_partitions(named: &[AssignedPartitions], topics: &dyn Topics) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in named {
        if let Some(shape) = topics.find(&topic.topic) {
            let of_topic = partitions.entry(shape.id).or_default();
            of_topic.extend(topic.partitions.iter().copied());
        }
    }
    partitions
}
