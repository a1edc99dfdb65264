//! The newest offset of each key, in bounded memory.
//!
//! A key counts by 128 bits of its hash, as in Apache Kafka (`SkimpyOffsetMap`, MD5): two keys that share them would be
//! taken for one. The hash is salted with a secret of the pass, so that nobody can prepare such keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

use tailwater_types::Offset;

/// A bucket and its control byte.
const BUCKET_BYTES: u64 = (size_of::<(KeyHash, Offset)>() + 1) as u64;

type KeyHash = [u64; 2];

/// Which record of each key is the newest, as far as the log was read into it.
pub(crate) struct NewestOffsets {
    secret: u128,
    newest: HashMap<KeyHash, Offset, BuildHasherDefault<Hashed>>,
    max_keys: usize,
}

impl NewestOffsets {
    /// Never takes more than `max_bytes`, growing included.
    pub fn new(max_bytes: u64, secret: u128) -> Self {
        // While the table doubles, the old one is there too; it is filled to seven eighths.
        let buckets = prev_power_of_two(max_bytes * 2 / 3 / BUCKET_BYTES);
        Self {
            secret,
            newest: HashMap::default(),
            max_keys: usize::try_from(buckets / 8 * 7).unwrap_or(usize::MAX),
        }
    }

    /// Takes a record that lies behind all before it. False, and nothing is changed, if there is no room for another key.
    #[must_use]
    pub fn insert(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let fits = self.newest.len() < self.max_keys || self.newest.contains_key(&hash);
        if fits {
            self.newest.insert(hash, offset);
        }
        fits
    }

    /// Whether a record behind `offset` has the same key.
    pub fn is_superseded(&self, key: &[u8], offset: Offset) -> bool {
        self.newest.get(&self.hash(key)).is_some_and(|newest| *newest > offset)
    }

    pub fn len(&self) -> usize {
        self.newest.len()
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        [0u8, 1].map(|half| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u128(self.secret);
            hasher.write_u8(half);
            hasher.write(key);
            hasher.finish()
        })
    }
}

fn prev_power_of_two(number: u64) -> u64 {
    number.checked_ilog2().map_or(0, |log| 1 << log)
}

/// The key is a hash already.
#[derive(Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, half: u64) {
        self.0 ^= half;
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newest offset of each key holds, the empty key is one too, and keys that aren't there supersede nothing.
    #[test]
    fn the_newest_of_each_key_holds() {
        let mut keys = NewestOffsets::new(1 << 20, 7);
        for (key, offset) in [("a", 1), ("b", 2), ("a", 5), ("", 6)] {
            assert!(keys.insert(key.as_bytes(), Offset(offset)));
        }
        let superseded = |key: &str, offset| keys.is_superseded(key.as_bytes(), Offset(offset));
        assert!(superseded("a", 1) && superseded("a", 4) && superseded("", 0));
        assert!(!superseded("a", 5) && !superseded("a", 9) && !superseded("c", 0) && !superseded("b", 2));
        assert_eq!(keys.len(), 3);
    }

    /// What is full takes no more keys, and newer offsets of those that it has.
    #[test]
    fn its_memory_is_bounded() {
        let max_bytes = 100_000;
        let mut keys = NewestOffsets::new(max_bytes, 0);
        let mut taken = 0u32;
        while keys.insert(&taken.to_be_bytes(), Offset(i64::from(taken))) {
            taken += 1;
        }
        assert!(taken > 1_000, "{taken} keys");
        assert_eq!(keys.len(), taken as usize);
        // Half as many buckets are there while it grows.
        let buckets = (keys.newest.capacity() * 8 / 7) as u64;
        assert!(buckets * BUCKET_BYTES * 3 / 2 <= max_bytes, "{buckets} buckets");
        assert!(keys.insert(&0u32.to_be_bytes(), Offset(1_000_000)));
        assert!(keys.is_superseded(&0u32.to_be_bytes(), Offset(0)));
    }
}
