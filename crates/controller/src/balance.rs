//! Which leaderships move so that frontends lead equally many: a pure plan.
//!
//! Owns: the choice of what moves where. Does not own: which frontends take part, when, and how a leadership moves
//! (`state::balance`). Each topic is levelled by itself, and then what frontends lead in all; of two frontends one never leads
//! more than one partition more than the other then, of any topic and in all.

use std::collections::{BTreeMap, BTreeSet};

use tailwater_types::{StreamId, TopicId};

/// One leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led<N> {
    pub stream: StreamId,
    pub topic: TopicId,
    /// Who has it, or is about to.
    pub at: N,
    /// Whether it may move now.
    pub movable: bool,
}

/// At most `at_most` moves that bring `nodes` nearer to leading equally many: none if they do, so a plan that was carried out
/// is followed by none. Leaderships of others count for nobody, and stay.
pub fn plan<N: Copy + Ord>(
    nodes: &BTreeSet<N>,
    led: impl IntoIterator<Item = Led<N>>,
    at_most: usize,
) -> Vec<(StreamId, N)> {
    let led: Vec<Led<N>> = led.into_iter().collect();
    let mut counts = Counts::of(nodes, &led);
    let mut moves: BTreeMap<StreamId, N> = BTreeMap::new();
    while moves.len() < at_most {
        let Some((stream, to)) = counts.next() else { break };
        moves.insert(stream, to);
    }
    // What has come back to where it was stays there.
    for one in led {
        if moves.get(&one.stream) == Some(&one.at) {
            moves.remove(&one.stream);
        }
    }
    moves.into_iter().collect()
}

struct Counts<N> {
    topics: BTreeMap<TopicId, BTreeMap<N, Share>>,
    totals: BTreeMap<N, usize>,
}

/// What one node leads of one topic.
#[derive(Clone, Default)]
struct Share {
    count: usize,
    movable: Vec<StreamId>,
}

impl<N: Copy + Ord> Counts<N> {
    fn of(nodes: &BTreeSet<N>, led: &[Led<N>]) -> Self {
        let mut topics: BTreeMap<TopicId, BTreeMap<N, Share>> = BTreeMap::new();
        let mut totals: BTreeMap<N, usize> = nodes.iter().map(|node| (*node, 0)).collect();
        for one in led {
            let Some(total) = totals.get_mut(&one.at) else { continue };
            *total += 1;
            let shares = topics
                .entry(one.topic)
                .or_insert_with(|| nodes.iter().map(|node| (*node, Share::default())).collect());
            let share = shares.entry(one.at).or_default();
            share.count += 1;
            share.movable.extend(one.movable.then_some(one.stream));
        }
        Self { topics, totals }
    }

    /// The next move, carried out here. Each one makes the sum of the squares of the topics' shares smaller, or leaves it and
    /// makes that of the totals smaller: there is an end, and nothing that goes back and forth.
    fn next(&mut self) -> Option<(StreamId, N)> {
        let (topic, from, to) = self.within_topics().or_else(|| self.in_all())?;
        let shares = self.topics.get_mut(&topic)?;
        let share = shares.get_mut(&from)?;
        let stream = share.movable.pop()?;
        share.count -= 1;
        // It may go on from there: only the last place counts.
        let target = shares.get_mut(&to)?;
        target.count += 1;
        target.movable.push(stream);
        *self.totals.get_mut(&from)? -= 1;
        *self.totals.get_mut(&to)? += 1;
        Some((stream, to))
    }

    /// Of a topic of which one node leads at least two more than another; of equals, who leads most in all gives, who leads
    /// least takes.
    fn within_topics(&self) -> Option<(TopicId, N, N)> {
        self.topics.iter().find_map(|(topic, shares)| {
            let total = |node: &N| self.totals.get(node).copied().unwrap_or(0);
            let can_give = shares.iter().filter(|(_, share)| !share.movable.is_empty());
            let (from, most) = can_give.max_by_key(|(node, share)| (share.count, total(node)))?;
            let (to, least) = shares.iter().min_by_key(|(node, share)| (share.count, total(node)))?;
            (most.count >= least.count + 2).then_some((*topic, *from, *to))
        })
    }

    /// Of a topic of which the node that leads most in all leads more than the one that leads least: if all topics are level,
    /// that is one more, and they stay as level as they are.
    fn in_all(&self) -> Option<(TopicId, N, N)> {
        let (from, most) = self.totals.iter().max_by_key(|(_, total)| **total)?;
        let (to, least) = self.totals.iter().min_by_key(|(_, total)| **total)?;
        if *most < least + 2 {
            return None;
        }
        self.topics.iter().find_map(|(topic, shares)| {
            let (gives, takes) = (shares.get(from)?, shares.get(to)?);
            let moves = gives.count > takes.count && !gives.movable.is_empty();
            moves.then_some((*topic, *from, *to))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u8) -> TopicId {
        TopicId::from_bytes([number; 16])
    }

    /// Leaderships by topic and node, all of which may move.
    fn led(shares: &[(u8, u32, usize)]) -> Vec<Led<u32>> {
        let mut stream = 0;
        let mut led = Vec::new();
        for &(number, at, count) in shares {
            for _ in 0..count {
                led.push(Led {
                    stream: StreamId(stream),
                    topic: topic(number),
                    at,
                    movable: true,
                });
                stream += 1;
            }
        }
        led
    }

    fn carry_out(led: &mut [Led<u32>], moves: &[(StreamId, u32)]) {
        for (stream, to) in moves {
            led[stream.0 as usize].at = *to;
        }
    }

    fn count(led: &[Led<u32>], number: Option<u8>, node: u32) -> usize {
        let here = |one: &&Led<u32>| one.at == node && number.is_none_or(|number| one.topic == topic(number));
        led.iter().filter(here).count()
    }

    /// What leads to how many moves to which node.
    #[test]
    fn levels_topics_and_then_all() {
        type Case = (&'static str, &'static [(u8, u32, usize)], &'static [(u32, usize)]);
        let cases: [Case; 8] = [
            ("nothing to lead", &[], &[]),
            ("a newcomer gets half", &[(1, 1, 6)], &[(2, 3)]),
            ("one more is level", &[(1, 1, 4), (1, 2, 3)], &[]),
            ("one alone stays", &[(1, 1, 1)], &[]),
            (
                "of each topic, though level in all",
                &[(1, 1, 4), (2, 2, 4)],
                &[(1, 2), (2, 2)],
            ),
            (
                "topics of one",
                &[(1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 1, 1)],
                &[(2, 2)],
            ),
            (
                "level topics whose odd ones lie together",
                &[(1, 1, 2), (1, 2, 1), (2, 1, 2), (2, 2, 1)],
                &[(2, 1)],
            ),
            ("others' count for nobody", &[(1, 9, 10)], &[]),
        ];
        for (name, shares, expected) in cases {
            let moves = plan(&BTreeSet::from([1, 2]), led(shares), 100);
            let mut found: BTreeMap<u32, usize> = BTreeMap::new();
            for (_, to) in moves {
                *found.entry(to).or_default() += 1;
            }
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{name}");
        }
    }

    /// No more than asked for, and none without a second node.
    #[test]
    fn moves_no_more_than_asked_for() {
        let led = led(&[(1, 1, 100)]);
        assert_eq!(plan(&BTreeSet::from([1, 2]), led.clone(), 7).len(), 7);
        assert_eq!(plan(&BTreeSet::from([1, 2]), led.clone(), 0), []);
        assert_eq!(plan(&BTreeSet::from([1]), led.clone(), 7), []);
        assert_eq!(plan(&BTreeSet::new(), led, 7), []);
    }

    /// What may not move stays, and counts.
    #[test]
    fn what_may_not_move_stays() {
        let mut led = led(&[(1, 1, 6)]);
        led.iter_mut().for_each(|one| one.movable = one.stream.0 < 2);
        let moves = plan(&BTreeSet::from([1, 2]), led, 100);
        assert_eq!(moves, [(StreamId(0), 2), (StreamId(1), 2)]);
    }

    proptest! {
        /// From anywhere, in steps of any size: it ends level in each topic and in all, with nothing lost, and then stands still.
        #[test]
        fn ends_level_and_stands_still(
            shares in prop::collection::vec((0..5_u8, 0..4_u32, 0..12_usize), 0..12),
            nodes in prop::collection::btree_set(0..4_u32, 1..5),
            at_most in 1..9_usize,
        ) {
            let mut led = led(&shares);
            let outside: Vec<_> = led.iter().filter(|one| !nodes.contains(&one.at)).copied().collect();
            let mut steps = 0;
            loop {
                let moves = plan(&nodes, led.clone(), at_most);
                if moves.is_empty() {
                    break;
                }
                carry_out(&mut led, &moves);
                steps += 1;
                prop_assert!(steps <= 1000, "no end");
            }
            let spread = |number| {
                let counts = nodes.iter().map(|node| count(&led, number, *node));
                counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
            };
            prop_assert!(spread(None) <= 1, "in all");
            for number in 0..5 {
                prop_assert!(spread(Some(number)) <= 1, "topic {number}");
            }
            prop_assert!(outside.iter().all(|one| led.contains(one)), "others' stay");
        }
    }
}
