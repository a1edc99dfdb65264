//! Which objects of a group a pass writes anew: pure.
//!
//! What is clean and comes out as it went in stays where it is, or a stream that is mostly clean would be written again with each
//! pass. But small objects are joined now and then, or there would be ever more of them.

use std::ops::Range;

/// Objects of which nothing changes are joined if that makes so many of them one.
const JOINED: u64 = 4;

/// Of objects with so many bytes, in order, those that are written anew. The first `clean` are clean, and of these the first
/// `unchanged` come out as they are. What lies before stays; what lies behind is looked at again.
pub(super) fn written(bytes: &[u64], clean: usize, unchanged: usize, object_bytes: u64) -> Range<usize> {
    let count = bytes.len();
    if unchanged == count {
        let needed = bytes.iter().sum::<u64>().div_ceil(object_bytes).max(1);
        return if count as u64 >= JOINED * needed {
            0..count
        } else {
            count..count
        };
    }
    let is_small = |bytes: u64| bytes < object_bytes / 2;
    let (mut start, mut end) = (unchanged, unchanged + 1);
    let mut sum = bytes[unchanged];
    while end < count && (end >= clean || is_small(bytes[end]) || is_small(sum)) {
        sum += bytes[end];
        end += 1;
    }
    // A small one joins what is at least as large: so each byte is written a few times until its object is large.
    while start > 0 && is_small(bytes[start - 1]) && bytes[start - 1] <= sum {
        start -= 1;
        sum += bytes[start];
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What changes is written, with small neighbours; large ones stay, and many small ones are joined.
    #[test]
    fn what_changes_is_written() {
        type Case = (&'static str, &'static [u64], usize, usize, Range<usize>);
        let cases: [Case; 11] = [
            ("all of it is dirty", &[100, 100], 0, 0, 0..2),
            ("nothing changes", &[100, 100], 2, 2, 2..2),
            ("one changes", &[100, 100, 100], 3, 1, 1..2),
            ("what is behind the clean part", &[100, 100, 1], 2, 2, 2..3),
            ("a large one, changed, before it", &[100, 100, 1], 2, 1, 1..3),
            ("a small one before it", &[100, 1, 1], 2, 2, 1..3),
            ("one that is larger", &[100, 2, 1], 2, 2, 2..3),
            ("several", &[100, 3, 2, 1, 1], 4, 4, 1..5),
            ("many small ones", &[1; 8], 8, 8, 0..8),
            ("few", &[1; 3], 3, 3, 3..3),
            ("a small one that changes", &[100, 1, 100, 100], 4, 1, 1..3),
        ];
        for (case, bytes, clean, unchanged, expected) in cases {
            assert_eq!(written(bytes, clean, unchanged, 100), expected, "{case}");
        }
    }

    /// A little that comes again and again is written a few times only, and makes few objects.
    #[test]
    fn a_trickle_is_written_a_few_times() {
        let (mut objects, mut all) = (vec![100u64], 0);
        for _ in 0..1_000 {
            let clean = objects.len();
            objects.push(1);
            let range = written(&objects, clean, clean, 100);
            let sum: u64 = objects.drain(range).sum();
            objects.push(sum);
            all += sum;
            assert!(objects.len() < 40, "{objects:?}");
        }
        assert!(all < 8_000, "{all}");
    }
}
