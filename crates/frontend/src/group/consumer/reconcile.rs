//! One step of a member from what it has towards what it shall have (KIP-848).
//!
//! Owns: in which order: it gives back first, then takes what nobody has, and waits for the rest. Its epoch becomes the
//! target's as soon as it has nothing to give back.

use std::collections::BTreeSet;

use tailwater_types::TopicId;

use super::record::CurrentAssignment;
use super::state::{Assigned, Partitions, Progress};

/// What a member is to be brought to.
pub struct Towards<'a> {
    pub epoch: i32,
    pub target: &'a Partitions,
    /// The topics that it wants, where the target may not know yet: what it has of others goes at once (KAFKA-19431).
    pub wants: Option<&'a BTreeSet<TopicId>>,
    /// What it says that it has; `None`: it doesn't say.
    pub owned: Option<&'a Partitions>,
    /// Whether somebody has a partition, this member included.
    pub is_owned: &'a dyn Fn(TopicId, i32) -> bool,
}

/// What the member has after the step. `None`: only a newer coordinator knows, so it has to begin anew.
pub fn reconcile(current: &CurrentAssignment, towards: &Towards<'_>) -> Option<CurrentAssignment> {
    match current.progress {
        Progress::Stable if current.epoch == towards.epoch => Some(without_unwanted(current, towards)),
        Progress::Stable | Progress::Unreleased => Some(step(current, current.epoch, towards)),
        Progress::Unrevoked if still_has(&current.revoking, towards.owned) => Some(without_unwanted(current, towards)),
        Progress::Unrevoked => Some(step(current, current.epoch, towards)),
        Progress::Unknown
            if towards
                .owned
                .is_some_and(|owned| owned.values().all(|set| set.is_empty())) =>
        {
            Some(step(current, towards.epoch, towards))
        }
        Progress::Unknown => None,
    }
}

/// What is left when it gives back whatever it doesn't want any more.
fn without_unwanted(current: &CurrentAssignment, towards: &Towards<'_>) -> CurrentAssignment {
    let is_unwanted = |topic: &TopicId| towards.wants.is_some_and(|wants| !wants.contains(topic));
    let mut next = current.clone();
    let unwanted: Assigned = next.assigned.extract_if(.., |topic, _| is_unwanted(topic)).collect();
    if unwanted.is_empty() {
        return next;
    }
    if current.progress == Progress::Unrevoked || still_has(&unwanted, towards.owned) {
        next.progress = Progress::Unrevoked;
        for (topic, partitions) in unwanted {
            next.revoking.entry(topic).or_default().extend(partitions);
        }
    }
    next
}

fn still_has(revoking: &Assigned, owned: Option<&Partitions>) -> bool {
    let Some(owned) = owned else { return true };
    owned.iter().any(|(topic, partitions)| {
        let revoked = revoking.get(topic);
        revoked.is_some_and(|revoked| partitions.iter().any(|partition| revoked.contains_key(partition)))
    })
}

fn step(current: &CurrentAssignment, epoch: i32, towards: &Towards<'_>) -> CurrentAssignment {
    let (mut kept, mut revoking) = (Assigned::new(), Assigned::new());
    for (topic, partitions) in &current.assigned {
        let target = towards.target.get(topic);
        for (partition, since) in partitions {
            let stays = target.is_some_and(|target| target.contains(partition));
            let side = if stays { &mut kept } else { &mut revoking };
            side.entry(*topic).or_default().insert(*partition, *since);
        }
    }
    if !revoking.is_empty() && still_has(&revoking, towards.owned) {
        return CurrentAssignment {
            epoch,
            previous_epoch: current.epoch,
            progress: Progress::Unrevoked,
            assigned: kept,
            revoking,
        };
    }
    let mut waits = false;
    for (topic, partitions) in towards.target {
        for partition in partitions {
            let has = |assigned: &Assigned| assigned.get(topic).is_some_and(|has| has.contains_key(partition));
            if has(&kept) {
                continue;
            }
            // What it has just given back itself is free for it.
            match (towards.is_owned)(*topic, *partition) && !has(&current.revoking) {
                true => waits = true,
                false => {
                    kept.entry(*topic).or_default().insert(*partition, towards.epoch);
                }
            }
        }
    }
    CurrentAssignment {
        epoch: towards.epoch,
        previous_epoch: current.epoch,
        progress: if waits { Progress::Unreleased } else { Progress::Stable },
        assigned: kept,
        revoking: Assigned::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tailwater_kafka::Uuid;

    use super::*;

    const T: TopicId = TopicId(Uuid::from_u128(1));

    fn partitions(indexes: &[i32]) -> Partitions {
        match indexes.is_empty() {
            true => Partitions::new(),
            false => [(T, indexes.iter().copied().collect::<BTreeSet<i32>>())].into(),
        }
    }

    fn assigned(with_epochs: &[(i32, i32)]) -> Assigned {
        match with_epochs.is_empty() {
            true => Assigned::new(),
            false => [(T, with_epochs.iter().copied().collect())].into(),
        }
    }

    fn at(epoch: i32, progress: Progress, has: &[(i32, i32)], revoking: &[(i32, i32)]) -> CurrentAssignment {
        CurrentAssignment {
            epoch,
            previous_epoch: 0,
            progress,
            assigned: assigned(has),
            revoking: assigned(revoking),
        }
    }

    /// KIP-848's table: what a member has and says, what it shall have in epoch 9, what others have, and what comes of it.
    #[test]
    fn members_give_back_before_they_take() {
        use Progress::{Stable, Unreleased, Unrevoked};
        type Case<'a> = (
            CurrentAssignment,
            &'a [i32],
            Option<&'a [i32]>,
            &'a [i32],
            CurrentAssignment,
        );
        let had = at(5, Stable, &[(0, 3), (1, 4)], &[]);
        let revoking = at(5, Unrevoked, &[(0, 3)], &[(1, 4)]);
        let cases: [Case<'_>; 10] = [
            // Nothing to give back, something free to take.
            (
                had.clone(),
                &[0, 1, 2],
                None,
                &[],
                at(9, Stable, &[(0, 3), (1, 4), (2, 9)], &[]),
            ),
            // Another one has it still.
            (
                had.clone(),
                &[0, 1, 2],
                None,
                &[2],
                at(9, Unreleased, &[(0, 3), (1, 4)], &[]),
            ),
            // It gives back first, and stays in its epoch.
            (had.clone(), &[0, 2], None, &[], at(5, Unrevoked, &[(0, 3)], &[(1, 4)])),
            // It says that it doesn't have what it would have to give back.
            (
                had.clone(),
                &[0, 2],
                Some(&[0]),
                &[],
                at(9, Stable, &[(0, 3), (2, 9)], &[]),
            ),
            // It hasn't given back yet, or doesn't say.
            (revoking.clone(), &[0, 2], Some(&[0, 1]), &[], revoking.clone()),
            (revoking.clone(), &[0, 2], None, &[], revoking.clone()),
            // It has.
            (
                revoking.clone(),
                &[0, 2],
                Some(&[0]),
                &[2],
                at(9, Unreleased, &[(0, 3)], &[]),
            ),
            // Meanwhile there is more to give back.
            (revoking, &[2], Some(&[0]), &[], at(5, Unrevoked, &[], &[(0, 3)])),
            // What it has given back it shall have again.
            (
                at(5, Unrevoked, &[(0, 3)], &[(1, 4)]),
                &[0, 1],
                Some(&[0]),
                &[1],
                at(9, Stable, &[(0, 3), (1, 9)], &[]),
            ),
            // What it waited for is free.
            (
                at(9, Unreleased, &[(0, 3)], &[]),
                &[0, 2],
                None,
                &[],
                at(9, Stable, &[(0, 3), (2, 9)], &[]),
            ),
        ];
        for (current, target, owned, of_others, expected) in cases {
            let (target, owned) = (partitions(target), owned.map(partitions));
            let towards = Towards {
                epoch: 9,
                target: &target,
                wants: None,
                owned: owned.as_ref(),
                is_owned: &|_, partition| of_others.contains(&partition),
            };
            let mut next = reconcile(&current, &towards).unwrap();
            if next != current {
                assert_eq!(next.previous_epoch, current.epoch);
            }
            next.previous_epoch = 0;
            assert_eq!(next, expected, "{current:?}");
        }
    }

    /// What a member doesn't want any more it gives back at once, in its epoch, whatever its target says still.
    #[test]
    fn what_is_unwanted_goes_at_once() {
        use Progress::{Stable, Unrevoked};
        let (target, nothing) = (partitions(&[0, 1]), BTreeSet::new());
        let step = |current: &CurrentAssignment, owned: Option<&Partitions>| {
            let towards = Towards {
                epoch: 9,
                target: &target,
                wants: Some(&nothing),
                owned,
                is_owned: &|_, _| false,
            };
            reconcile(current, &towards).unwrap()
        };
        let has = at(9, Stable, &[(0, 3), (1, 4)], &[]);
        assert_eq!(step(&has, None), at(9, Unrevoked, &[], &[(0, 3), (1, 4)]));
        assert_eq!(step(&has, Some(&partitions(&[]))), at(9, Stable, &[], &[]));
        let giving = at(5, Unrevoked, &[(0, 3)], &[(1, 4)]);
        assert_eq!(
            step(&giving, Some(&partitions(&[0, 1]))),
            at(5, Unrevoked, &[], &[(0, 3), (1, 4)])
        );
    }

    /// A state of a newer coordinator is left only by a member that has nothing.
    #[test]
    fn a_member_in_an_unknown_state_begins_anew() {
        let unknown = at(5, Progress::Unknown, &[], &[]);
        let (target, nothing) = (partitions(&[0]), Partitions::new());
        let towards = |owned| Towards {
            epoch: 9,
            target: &target,
            wants: None,
            owned,
            is_owned: &|_, _| false,
        };
        assert_eq!(reconcile(&unknown, &towards(None)), None);
        let next = reconcile(&unknown, &towards(Some(&nothing))).unwrap();
        assert_eq!((next.epoch, next.assigned), (9, assigned(&[(0, 9)])));
    }
}
