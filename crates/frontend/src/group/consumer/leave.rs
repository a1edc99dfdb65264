//! How members of a group whose coordinator assigns leave it, are put out of it, and come back under another id.
//!
//! Owns: the records of it. What a member had is free at once, and the group has a new epoch; or it is a classic group again,
//! where only members of that protocol are left.

use std::collections::BTreeSet;
use std::time::Duration;

use tailwater_kafka::ErrorCode;

use super::heartbeat::{Around, Heartbeat, HeartbeatReply, Refusal, bump};
use super::record::{ConsumerRecord, CurrentAssignment};
use super::state::{Assigned, Draft, JOINING, LEAVING_FOR_A_WHILE};
use super::{classic, size, topics};

/// Lets a member go; a static one for a while, if it says so: then it keeps what it has until its session ends.
///
/// # Errors
/// It isn't a member, or another one has its instance id.
pub fn leave(draft: &mut Draft, request: &Heartbeat, around: &Around<'_>) -> Result<HeartbeatReply, Refusal> {
    let id = &request.member_id;
    let holder = request
        .instance_id
        .as_ref()
        .map(|instance| draft.static_members.get(instance));
    check_instance(id, holder)?;
    let member = draft
        .members
        .get(id)
        .cloned()
        .ok_or((ErrorCode::UnknownMemberId, None))?;
    if request.member_epoch == LEAVING_FOR_A_WHILE {
        let current = CurrentAssignment {
            epoch: LEAVING_FOR_A_WHILE,
            revoking: Assigned::new(),
            ..member.current.clone()
        };
        draft.put(ConsumerRecord::Current(id.clone(), Some(current)));
    } else {
        remove(draft, &BTreeSet::from([id.clone()]), around);
    }
    Ok(HeartbeatReply {
        error: ErrorCode::None,
        message: None,
        member_id: Some(id.clone()),
        member_epoch: request.member_epoch,
        interval: Duration::ZERO,
        assignment: None,
    })
}

/// Whether the member is the one that has the instance id that it names; `holder`: who has that, if it names one.
///
/// # Errors
/// UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
pub(super) fn check_instance(id: &str, holder: Option<Option<&String>>) -> Result<(), Refusal> {
    match holder {
        None => Ok(()),
        Some(None) => Err((ErrorCode::UnknownMemberId, None)),
        Some(Some(holder)) if holder == id => Ok(()),
        Some(Some(_)) => Err((ErrorCode::FencedInstanceId, None)),
    }
}

/// Takes members out. A group that goes on as a classic one keeps its epoch: its members know that for their generation. What is
/// too large to be one goes on as it is, as one of more members than a classic group may have does; until it is smaller.
pub fn remove(draft: &mut Draft, ids: &BTreeSet<String>, around: &Around<'_>) {
    let becomes_classic = classic::only_classic_remain(draft, ids, around);
    ids.iter().for_each(|id| forget(draft, id));
    if becomes_classic && size::fits_when_dissolved(draft, around) {
        return draft.dissolve(true);
    }
    let new_hash = topics::refresh(draft, around.topics, around.now);
    bump(draft, new_hash);
}

fn forget(draft: &mut Draft, id: &str) {
    draft.put(ConsumerRecord::Current(id.to_owned(), None));
    draft.put(ConsumerRecord::TargetMember(id.to_owned(), None));
    draft.put(ConsumerRecord::Member(id.to_owned(), None));
}

/// Gives a static member another id; it keeps what it has and shall have.
pub(super) fn replace(draft: &mut Draft, old_id: &str, id: &str) {
    let Some(member) = draft.members.get(old_id).cloned() else {
        return;
    };
    let target = draft.target.get(old_id).cloned();
    forget(draft, old_id);
    draft.put(ConsumerRecord::Member(id.to_owned(), Some(member.subscription.clone())));
    if let Some(target) = target {
        draft.put(ConsumerRecord::TargetMember(id.to_owned(), Some((*target).clone())));
    }
    let current = CurrentAssignment {
        epoch: JOINING,
        previous_epoch: JOINING,
        ..member.current.clone()
    };
    draft.put(ConsumerRecord::Current(id.to_owned(), Some(current)));
}
