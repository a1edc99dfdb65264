//! Each member gets as many partitions as any other, as far as what they want allows, and keeps what it had.
//!
//! Two ways: where all want the same, everybody's share is known before, and members keep what fits into theirs. Where they
//! differ, members keep all, then one partition after the other goes from who has more to who has less.

use std::collections::BTreeMap;

use tailwater_types::TopicId;

use super::{MemberSpec, Partitions, Spec};

pub(super) fn assign(spec: &Spec<'_>) -> BTreeMap<String, Partitions> {
    let mut subscriptions = spec.members.values().map(|member| &member.topics);
    let first = subscriptions.next();
    match subscriptions.all(|topics| Some(topics) == first) {
        true => assign_equals(spec),
        false => assign_others(spec),
    }
}

/// Partitions of wanted topics that the member had, where they still exist.
fn kept<'a>(spec: &'a Spec<'_>, member: &'a MemberSpec<'_>) -> impl Iterator<Item = (TopicId, i32)> + 'a {
    let previous = member.previous.into_iter().flatten();
    let wanted = previous.filter(|(topic, _)| member.topics.contains(topic));
    wanted.flat_map(|(topic, partitions)| {
        let count = spec.topics.get(topic).copied().unwrap_or(0);
        let existing = partitions.range(0..count.max(0));
        existing.map(|partition| (*topic, *partition))
    })
}

/// A partition of a wanted topic, and its member where it has one.
type Holders<'a> = BTreeMap<(TopicId, i32), Option<&'a str>>;

fn wanted_partitions<'a>(spec: &Spec<'_>) -> Holders<'a> {
    let is_wanted = |topic: &TopicId| spec.members.values().any(|member| member.topics.contains(topic));
    let topics = spec.topics.iter().filter(|(topic, _)| is_wanted(topic));
    topics
        .flat_map(|(topic, count)| (0..*count).map(|partition| ((*topic, partition), None)))
        .collect()
}

fn by_member(spec: &Spec<'_>, holders: &Holders<'_>) -> BTreeMap<String, Partitions> {
    let nothing = |id: &&str| ((*id).to_owned(), Partitions::new());
    let mut assigned: BTreeMap<String, Partitions> = spec.members.keys().map(nothing).collect();
    for ((topic, partition), holder) in holders {
        if let Some(partitions) = holder.and_then(|id| assigned.get_mut(id)) {
            partitions.entry(*topic).or_default().insert(*partition);
        }
    }
    assigned
}

fn assign_equals(spec: &Spec<'_>) -> BTreeMap<String, Partitions> {
    let mut holders = wanted_partitions(spec);
    let members = spec.members.len();
    if members == 0 {
        return BTreeMap::new();
    }
    let (least, mut more) = (holders.len() / members, holders.len() % members);
    let mut loads: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, member) in &spec.members {
        let load = loads.entry(*id).or_default();
        for at in kept(spec, member) {
            let Some(holder) = holders.get_mut(&at) else { continue };
            // Of a partition that two had, the first one keeps it.
            let has_room = *load < least || *load == least && more > 0;
            if holder.is_none() && has_room {
                *holder = Some(*id);
                more -= usize::from(*load == least);
                *load += 1;
            }
        }
    }
    let mut free = holders.iter_mut().filter(|(_, holder)| holder.is_none());
    for (id, load) in loads {
        let share = match load {
            load if load > least => load,
            _ if more > 0 => {
                more -= 1;
                least + 1
            }
            _ => least,
        };
        for (_, holder) in free.by_ref().take(share - load) {
            *holder = Some(id);
        }
    }
    by_member(spec, &holders)
}

fn assign_others(spec: &Spec<'_>) -> BTreeMap<String, Partitions> {
    let mut holders = wanted_partitions(spec);
    let mut loads: BTreeMap<&str, usize> = spec.members.keys().map(|id| (*id, 0)).collect();
    for (id, member) in &spec.members {
        for at in kept(spec, member) {
            if let Some(holder) = holders.get_mut(&at).filter(|holder| holder.is_none()) {
                *holder = Some(*id);
                *loads.entry(id).or_default() += 1;
            }
        }
    }
    let mut takers: BTreeMap<TopicId, Vec<&str>> = BTreeMap::new();
    for (id, member) in &spec.members {
        for topic in &member.topics {
            takers.entry(*topic).or_default().push(id);
        }
    }
    let least_loaded = |topic: &TopicId, loads: &BTreeMap<&str, usize>| {
        let takers = takers.get(topic)?;
        takers.iter().copied().min_by_key(|id| (loads[id], *id))
    };
    // What fewest want first: who wants other topics too gets those.
    let mut free: Vec<(TopicId, i32)> = holders
        .iter()
        .filter(|(_, holder)| holder.is_none())
        .map(|(at, _)| *at)
        .collect();
    free.sort_by_key(|at| (takers.get(&at.0).map_or(0, Vec::len), *at));
    for at in free {
        if let Some(id) = least_loaded(&at.0, &loads) {
            holders.insert(at, Some(id));
            *loads.entry(id).or_default() += 1;
        }
    }
    // Each move makes the sum of squares of the loads less, so this ends.
    let mut has_moved = true;
    while has_moved {
        has_moved = false;
        for ((topic, _), holder) in &mut holders {
            let (Some(from), Some(to)) = (*holder, least_loaded(topic, &loads)) else {
                continue;
            };
            if loads[from] > loads[to] + 1 {
                *holder = Some(to);
                *loads.entry(from).or_default() -= 1;
                *loads.entry(to).or_default() += 1;
                has_moved = true;
            }
        }
    }
    by_member(spec, &holders)
}
