//! Where things are placed: pure decisions over loads.
//!
//! Owns: the choice among candidates. Does not own: who is a candidate, and what moves (the state machine).

use std::collections::BTreeSet;

/// Hands out the least loaded candidate, one unit of load at a time; among equals the one with the lowest id.
#[derive(Clone, Debug)]
pub struct Spread<T> {
    by_load: BTreeSet<(u64, T)>,
}

impl<T: Copy + Ord> Spread<T> {
    /// Candidates with what they carry already.
    pub fn new(candidates: impl IntoIterator<Item = (T, u64)>) -> Self {
        let by_load = candidates.into_iter().map(|(candidate, load)| (load, candidate));
        Self {
            by_load: by_load.collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_load.is_empty()
    }

    /// The next place; `None` without candidates.
    pub fn place(&mut self) -> Option<T> {
        let (load, candidate) = self.by_load.pop_first()?;
        self.by_load.insert((load + 1, candidate));
        Some(candidate)
    }

    /// As [`Spread::place`], at this candidate, if it is one.
    pub fn place_at(&mut self, candidate: T) -> Option<T> {
        let (load, _) = *self.by_load.iter().find(|(_, one)| *one == candidate)?;
        self.by_load.remove(&(load, candidate));
        self.by_load.insert((load + 1, candidate));
        Some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads are levelled first, then candidates take turns.
    #[test]
    fn levels_then_takes_turns() {
        let mut spread = Spread::new([(1, 2), (2, 0), (3, 1)]);
        let places: Vec<_> = (0..6).filter_map(|_| spread.place()).collect();
        assert_eq!(places, [2, 2, 3, 1, 2, 3]);
        assert_eq!(Spread::<u32>::new([]).place(), None);
        assert_eq!((spread.place_at(1), spread.place_at(9)), (Some(1), None));
        assert_eq!([spread.place(), spread.place()], [Some(2), Some(3)]);
    }
}
