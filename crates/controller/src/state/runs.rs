//! Offsets of one stream that are covered, as maximal runs: what overlaps are clipped by.

use std::collections::BTreeMap;

use tailwater_types::{Offset, OffsetRange};

/// Disjoint ranges that don't touch, each by its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs(BTreeMap<Offset, Offset>);

impl Runs {
    /// Adds a range, joining whatever it overlaps or touches.
    pub fn insert(&mut self, range: OffsetRange) {
        if range.is_empty() {
            return;
        }
        let mut joined = range;
        while let Some((&start, &end)) = self.0.range(..=joined.end).next_back() {
            if end < joined.start {
                break;
            }
            self.0.remove(&start);
            joined = OffsetRange::new(start.min(joined.start), end.max(joined.end));
        }
        self.0.insert(joined.start, joined.end);
    }

    /// The parts of `range` that are not covered, in order.
    pub fn uncovered(&self, range: OffsetRange) -> Vec<OffsetRange> {
        let mut parts = Vec::new();
        let mut from = range.start;
        let before = self.0.range(..=range.start).next_back();
        let inside = self.0.range(range.start..range.end).filter(|run| *run.0 > range.start);
        for (&start, &end) in before.into_iter().chain(inside) {
            if start > from {
                parts.push(OffsetRange::new(from, start));
            }
            from = from.max(end);
        }
        if from < range.end {
            parts.push(OffsetRange::new(from, range.end));
        }
        parts
    }

    /// Where the run that holds `start` ends; `start` itself if none does.
    pub fn end_of(&self, start: Offset) -> Offset {
        match self.0.range(..=start).next_back() {
            Some((_, &end)) => end.max(start),
            None => start,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange::new(Offset(start), Offset(end))
    }

    /// A hole stays one until it is filled; only then does the prefix reach beyond it.
    #[test]
    fn the_prefix_ends_at_the_first_hole() {
        let mut runs = Runs::default();
        runs.insert(range(0, 5));
        runs.insert(range(8, 9));
        assert_eq!(runs.end_of(Offset(0)), Offset(5));
        assert_eq!(runs.uncovered(range(2, 12)), [range(5, 8), range(9, 12)]);
        runs.insert(range(5, 8));
        assert_eq!(runs.end_of(Offset(0)), Offset(9));
        assert_eq!(runs.end_of(Offset(20)), Offset(20));
    }

    proptest! {
        /// Runs cover exactly the offsets that were inserted.
        #[test]
        fn as_a_set_of_offsets(inserted in prop::collection::vec((0i64..40, 0i64..9), 0..12), at in 0i64..40, count in 0i64..20) {
            let mut runs = Runs::default();
            let mut set = std::collections::BTreeSet::new();
            for (start, count) in inserted {
                runs.insert(range(start, start + count));
                set.extend(start..start + count);
            }
            let missing: Vec<i64> = (at..at + count).filter(|offset| !set.contains(offset)).collect();
            let uncovered: Vec<i64> =
                runs.uncovered(range(at, at + count)).iter().flat_map(|part| part.start.0..part.end.0).collect();
            prop_assert_eq!(missing, uncovered);
            let end = (at..).find(|offset| !set.contains(offset));
            prop_assert_eq!(Some(runs.end_of(Offset(at)).0), end);
        }
    }
}
