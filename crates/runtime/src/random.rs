//! Randomness: one seeded generator a process, so that a simulation can repeat a run.
//!
//! Owns: the generator (xoshiro256++, seeded through splitmix64, both by Blackman and Vigna) and its seed from the
//! operating system. Not for secrets: the sequence can be predicted from its output.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Handle to a generator; clones draw from the same sequence.
#[derive(Clone)]
pub struct Random {
    state: Arc<Mutex<[u64; 4]>>,
}

impl Random {
    /// Seeded with 256 bits from the operating system.
    ///
    /// # Panics
    /// If the system has no entropy source: ids would collide.
    pub fn system() -> Self {
        let mut seed = [0u8; 32];
        // SAFETY: the pointer and length describe `seed`, which is writable and within getentropy's 256 bytes.
        let status = unsafe { libc::getentropy(seed.as_mut_ptr().cast(), seed.len()) };
        assert_eq!(status, 0, "getentropy: {}", std::io::Error::last_os_error());
        let mut state = [0u64; 4];
        for (word, bytes) in state.iter_mut().zip(seed.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        // The all-zero state is the generator's only fixed point.
        state[0] |= u64::from(state == [0; 4]);
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The same sequence for the same seed, on every machine.
    pub fn seeded(seed: u64) -> Self {
        let mut mixed = seed;
        let state = std::array::from_fn(|_| splitmix(&mut mixed));
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub fn u64(&self) -> u64 {
        step(&mut self.state.lock())
    }

    pub fn u128(&self) -> u128 {
        let mut state = self.state.lock();
        (u128::from(step(&mut state)) << 64) | u128::from(step(&mut state))
    }

    /// Uniform in `range`.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn range(&self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "an empty range has no member");
        let width = range.end - range.start;
        // Draws at or above the largest multiple of `width` would favour small results.
        let excess = (u64::MAX % width + 1) % width;
        loop {
            let drawn = self.u64();
            if drawn <= u64::MAX - excess {
                return range.start + drawn % width;
            }
        }
    }

    /// True once in `one_in` draws on average.
    pub fn chance(&self, one_in: u64) -> bool {
        self.range(0..one_in) == 0
    }

    /// Uniform in `[0, bound]`, to the nanosecond: spreads out retries that would otherwise come together.
    pub fn jitter(&self, bound: Duration) -> Duration {
        let bound_ns = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.range(0..bound_ns + 1))
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn step(s: &mut [u64; 4]) -> u64 {
    let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
    let t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3].rotate_left(45);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// splitmix64 and xoshiro256++ give the values of their published reference code.
    #[test]
    fn generators_match_their_reference_values() {
        let mut seed = 1_234_567;
        assert_eq!(splitmix(&mut seed), 6_457_827_717_110_365_317);
        assert_eq!(splitmix(&mut seed), 3_203_168_211_198_807_973);
        let mut state = [1, 2, 3, 4];
        assert_eq!(step(&mut state), 41_943_041);
        assert_eq!(step(&mut state), 58_720_359);
    }

    /// A seed repeats its sequence; another seed and the system's entropy give others.
    #[test]
    fn a_seed_repeats_its_sequence() {
        let (a, b) = (Random::seeded(7), Random::seeded(7));
        assert_eq!([a.u64(), a.u64()], [b.u64(), b.u64()]);
        assert_ne!(Random::seeded(7).u64(), Random::seeded(8).u64());
        assert_ne!(Random::system().u128(), Random::system().u128());
    }

    /// Every member of a range is drawn, and nothing outside it.
    #[test]
    fn a_range_is_half_open_and_covered() {
        let random = Random::seeded(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[usize::try_from(random.range(10..15) - 10).unwrap()] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert!(random.jitter(Duration::from_nanos(1)) <= Duration::from_nanos(1));
        assert_eq!(random.jitter(Duration::ZERO), Duration::ZERO);
    }
}
