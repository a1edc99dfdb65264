//! The names of objects: `<hash prefix>/<cluster>/<object id>-<writer epoch>`.
//!
//! The only place that builds one. Keys are stored in metadata as they were built, so this may change for new objects.

use tailwater_types::{ClusterId, LeaseEpoch, ObjectId};

/// The key for an object that the holder of `writer` will write. Another holder gets another key for the same object,
/// so a late put of a deposed writer can't reach what replaced it.
///
/// The prefix spreads neighbouring ids over 256 folders: stores partition by prefix, folders should stay small.
pub fn object_key(cluster: ClusterId, object: ObjectId, writer: LeaseEpoch) -> String {
    // Fibonacci hashing: the top bits of a product with 2^64 / golden ratio.
    let prefix = object.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    format!("{prefix:02x}/{cluster}/{object}-{writer}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The form of a key is fixed.
    #[test]
    fn keys_have_their_form() {
        let cluster = ClusterId::from_bytes([7; 16]);
        let key = object_key(cluster, ObjectId(42), LeaseEpoch(3));
        assert_eq!(key, "f5/BwcHBwcHBwcHBwcHBwcHBw/42-3");
    }

    /// Neighbouring ids spread evenly over the prefixes.
    #[test]
    fn neighbours_are_spread() {
        let cluster = ClusterId::from_bytes([7; 16]);
        let mut prefixes = BTreeMap::new();
        for id in 0..2560 {
            let key = object_key(cluster, ObjectId(id), LeaseEpoch(0));
            *prefixes.entry(key[..2].to_owned()).or_insert(0) += 1;
        }
        assert_eq!(prefixes.len(), 256);
        assert!(prefixes.values().all(|&count| (5..=15).contains(&count)));
    }
}
