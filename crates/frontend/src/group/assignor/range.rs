//! Of each topic, a range of neighbouring partitions for every member that wants it.
//!
//! Owns: the order of members, static ones first and by their instances, so that the same of them get the same again; and
//! the cut: the first ones get one more where it doesn't come out even. Topics with as many partitions and members as one
//! another are cut alike, so what belongs together by its partition's number goes to the same member.

use std::collections::BTreeMap;

use super::{MemberSpec, Partitions, Spec};

pub(super) fn assign(spec: &Spec<'_>) -> BTreeMap<String, Partitions> {
    let mut ordered: Vec<(&str, &MemberSpec<'_>)> = spec.members.iter().map(|(id, member)| (*id, member)).collect();
    // Those without an instance come last.
    ordered.sort_by_key(|(id, member)| (member.instance_id.is_none(), member.instance_id, *id));
    let nothing = |id: &&str| ((*id).to_owned(), Partitions::new());
    let mut assigned: BTreeMap<String, Partitions> = spec.members.keys().map(nothing).collect();
    for (topic, count) in &spec.topics {
        let takers: Vec<&str> = ordered
            .iter()
            .filter(|(_, member)| member.topics.contains(topic))
            .map(|(id, _)| *id)
            .collect();
        let Ok(members) = i32::try_from(takers.len()) else {
            continue;
        };
        if members == 0 {
            continue;
        }
        let (least, more) = (count / members, count % members);
        let mut next = 0;
        for (place, id) in (0..).zip(takers) {
            let end = next + least + i32::from(place < more);
            if let Some(partitions) = assigned.get_mut(id).filter(|_| next < end) {
                partitions.insert(*topic, (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}
