//! What each member of a group shall have.
//!
//! Owns: which assignor is asked, and the records that its answer makes. Does not own: assigning (`assignor`).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{ConsumerRecord, TargetEpoch};
use super::state::{Draft, Member, Partitions, State};
use super::topics::{self, Topics};
use crate::coordinator::Now;
use crate::group::assignor::{Assignor, MemberSpec, Spec};

/// Brings the target to the group's epoch.
pub fn assign(draft: &mut Draft, default: Assignor, topics: &dyn Topics, now: Now) {
    let assigned = assigned(draft, default, topics);
    for (id, partitions) in assigned {
        if draft.target.get(&id).is_none_or(|target| **target != partitions) {
            draft.put(ConsumerRecord::TargetMember(id, Some(partitions)));
        }
    }
    let epoch = TargetEpoch {
        epoch: draft.epoch,
        at_ms: now.wall_ms,
    };
    draft.put(ConsumerRecord::TargetEpoch(Some(epoch)));
}

/// The assignor that most members name; the first by name of several.
pub fn preferred(state: &State) -> Option<Assignor> {
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for member in state.members.values() {
        if let Some(name) = &member.subscription.assignor {
            *votes.entry(name).or_default() += 1;
        }
    }
    let most = votes.values().max().copied()?;
    let mut winners = votes.into_iter().filter(|(_, count)| *count == most);
    winners.next().and_then(|(name, _)| Assignor::named(name))
}

fn assigned<'a>(state: &'a State, default: Assignor, topics: &dyn Topics) -> BTreeMap<String, Partitions> {
    let shapes = topics::shapes(&topics::subscribed(state), topics);
    let member = |(id, member): (&'a String, &'a Arc<Member>)| {
        let names = topics::names_of(state, &member.subscription);
        let wanted = names.filter_map(|name| shapes.get(name)).map(|shape| shape.id);
        let spec = MemberSpec {
            instance_id: member.subscription.instance_id.as_deref(),
            topics: wanted.collect(),
            previous: state.target.get(id).map(|target| &**target),
        };
        (id.as_str(), spec)
    };
    let spec = Spec {
        members: state.members.iter().map(member).collect(),
        topics: shapes.values().map(|shape| (shape.id, shape.partitions)).collect(),
    };
    preferred(state).unwrap_or(default).assign(&spec)
}
