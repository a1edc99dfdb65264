//! What assignors promise, over random groups.

use proptest::prelude::*;
use tailwater_kafka::Uuid;

use super::*;

/// Members with their topics and what they had, and the topics' partitions.
#[derive(Clone, Debug)]
struct Group {
    topics: BTreeMap<TopicId, i32>,
    members: BTreeMap<String, (BTreeSet<TopicId>, Partitions)>,
}

impl Group {
    fn spec(&self) -> Spec<'_> {
        Spec {
            members: self
                .members
                .iter()
                .map(|(id, (topics, previous))| {
                    let spec = MemberSpec {
                        instance_id: None,
                        topics: topics.clone(),
                        previous: Some(previous),
                    };
                    (id.as_str(), spec)
                })
                .collect(),
            topics: self.topics.clone(),
        }
    }

    /// The group whose members have what they were assigned.
    fn with(&self, assigned: &BTreeMap<String, Partitions>) -> Self {
        let mut next = self.clone();
        for (id, (_, previous)) in &mut next.members {
            *previous = assigned.get(id).cloned().unwrap_or_default();
        }
        next
    }
}

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

/// Up to four topics and seven members; `equal`: all of them want all topics.
fn group(equal: bool) -> impl Strategy<Value = Group> {
    let topics = proptest::collection::vec(0..9i32, 1..4);
    let wanted = proptest::collection::vec(
        (any::<u8>(), proptest::collection::vec((0..4u128, 0..9i32), 0..12)),
        1..7,
    );
    (topics, wanted).prop_map(move |(counts, members)| {
        let topics: BTreeMap<TopicId, i32> = (0..).map(topic).zip(counts).collect();
        let members = members.into_iter().enumerate().map(|(number, (mask, had))| {
            let is_wanted = |place: usize| equal || mask >> place & 1 == 1;
            let wanted = topics.keys().enumerate().filter(|(place, _)| is_wanted(*place));
            let mut previous = Partitions::new();
            for (of, partition) in had {
                previous.entry(topic(of)).or_default().insert(partition);
            }
            (
                format!("m{number}"),
                (wanted.map(|(_, topic)| *topic).collect(), previous),
            )
        });
        let members = members.collect();
        Group { topics, members }
    })
}

fn load(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

fn check_total_and_disjoint(group: &Group, assigned: &BTreeMap<String, Partitions>) {
    assert!(assigned.keys().eq(group.members.keys()), "everybody has an entry");
    let mut seen: BTreeMap<TopicId, BTreeSet<i32>> = BTreeMap::new();
    for (id, partitions) in assigned {
        for (topic, partitions) in partitions {
            assert!(group.members[id].0.contains(topic), "{id} doesn't want {topic:?}");
            for partition in partitions {
                assert!(seen.entry(*topic).or_default().insert(*partition), "assigned twice");
            }
        }
    }
    for (topic, count) in &group.topics {
        let is_wanted = group.members.values().any(|(topics, _)| topics.contains(topic));
        let expected: BTreeSet<i32> = if is_wanted {
            (0..*count).collect()
        } else {
            BTreeSet::new()
        };
        assert_eq!(seen.remove(topic).unwrap_or_default(), expected, "{topic:?}");
    }
    assert!(seen.is_empty(), "topics that there aren't");
}

proptest! {
    /// Every partition of a wanted topic has exactly one member, which wants it.
    #[test]
    fn assignments_are_total_and_disjoint(group in any::<bool>().prop_flat_map(group)) {
        for assignor in Assignor::ALL {
            check_total_and_disjoint(&group, &assignor.assign(&group.spec()));
        }
    }

    /// Where all want the same, nobody has more than one partition more than another.
    #[test]
    fn uniform_is_balanced_within_one(group in group(true)) {
        let assigned = Assignor::Uniform.assign(&group.spec());
        let loads: Vec<usize> = assigned.values().map(load).collect();
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
    }

    /// Where they want different topics, no single partition could go to one who has so much less.
    #[test]
    fn uniform_leaves_no_move_that_would_balance(group in group(false)) {
        let assigned = Assignor::Uniform.assign(&group.spec());
        for (from, partitions) in &assigned {
            for topic in partitions.keys() {
                for (to, (topics, _)) in &group.members {
                    let (more, less) = (load(&assigned[from]), load(&assigned[to]));
                    prop_assert!(!topics.contains(topic) || more <= less + 1, "{from} {more}, {to} {less}");
                }
            }
        }
    }

    /// Nothing moves where nothing has changed, and where a member has gone the others keep what they had.
    #[test]
    fn uniform_moves_nothing_needlessly(group in any::<bool>().prop_flat_map(group)) {
        let assigned = Assignor::Uniform.assign(&group.spec());
        let settled = group.with(&assigned);
        prop_assert_eq!(&Assignor::Uniform.assign(&settled.spec()), &assigned);
    }

    /// A member that leaves a group of equals takes nothing from the others, and one that comes gets its share and no more.
    #[test]
    fn uniform_keeps_what_equals_have(group in group(true)) {
        let assigned = Assignor::Uniform.assign(&group.spec());
        let mut fewer = group.with(&assigned);
        let (gone, _) = fewer.members.pop_first().unwrap();
        if !fewer.members.is_empty() {
            let next = Assignor::Uniform.assign(&fewer.spec());
            for (id, partitions) in &next {
                for (topic, had) in &assigned[id] {
                    prop_assert!(had.is_subset(&partitions[topic]), "{id} lost something when {gone} left");
                }
            }
        }
        let mut more = group.with(&assigned);
        let topics = more.topics.keys().copied().collect();
        more.members.insert("new".to_owned(), (topics, Partitions::new()));
        let next = Assignor::Uniform.assign(&more.spec());
        for (id, partitions) in next.iter().filter(|(id, _)| *id != "new") {
            for (topic, has) in partitions {
                let had = assigned[id].get(topic).cloned().unwrap_or_default();
                prop_assert!(has.is_subset(&had), "{id} got something when another came");
            }
        }
    }

    /// Topics of as many partitions are cut alike, in neighbouring partitions.
    #[test]
    fn range_cuts_equal_topics_alike(members in 1..6usize, partitions in 0..9i32) {
        let topics: BTreeMap<TopicId, i32> = [(topic(0), partitions), (topic(1), partitions)].into();
        let wanted: BTreeSet<TopicId> = topics.keys().copied().collect();
        let members = (0..members).map(|number| (format!("m{number}"), (wanted.clone(), Partitions::new()))).collect();
        let group = Group { topics, members };
        for (id, has) in Assignor::Range.assign(&group.spec()) {
            prop_assert_eq!(has.get(&topic(0)), has.get(&topic(1)), "{}", id);
            for partitions in has.values() {
                let (first, last) = (partitions.first().unwrap(), partitions.last().unwrap());
                prop_assert_eq!(usize::try_from(last - first + 1).unwrap(), partitions.len());
            }
        }
    }
}

/// Static members come first and in the order of their instances, whatever ids they have now.
#[test]
fn range_orders_static_members_by_their_instances() {
    let wants = |instance_id| MemberSpec {
        instance_id,
        topics: [topic(0)].into(),
        previous: None,
    };
    let spec = Spec {
        members: [("a", wants(None)), ("b", wants(Some("2"))), ("c", wants(Some("1")))].into(),
        topics: [(topic(0), 4)].into(),
    };
    let assigned = Assignor::Range.assign(&spec);
    let of = |id: &str| assigned[id].values().flatten().copied().collect::<Vec<i32>>();
    assert_eq!((of("c"), of("b"), of("a")), (vec![0, 1], vec![2], vec![3]));
}
