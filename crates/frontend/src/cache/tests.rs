use tailwater_runtime::Metrics;

use super::*;

fn cache(budget_bytes: usize) -> TailCache {
    TailCache::new(budget_bytes, CacheMetrics::new(&Metrics::new()))
}

fn batch(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

/// The oldest batches of all partitions go first, and the budget holds throughout.
#[test]
fn the_oldest_of_all_partitions_goes_first() {
    let cache = cache(5 * (1000 + ENTRY_BYTES));
    let (a, b) = (cache.tail(), cache.tail());
    for round in 0..10 {
        a.push(Offset(round), &batch(1000), 1000, 1000);
        b.push(Offset(round), &batch(1000), 1000, 1000);
        assert!(cache.used_bytes() <= 5 * (1000 + ENTRY_BYTES));
    }
    let end = Offset(10);
    assert!(a.read(Offset(7), end, 1 << 20).is_none());
    assert_eq!(a.read(Offset(8), end, 1 << 20).unwrap().len(), 2);
    assert_eq!(b.read(Offset(7), end, 1 << 20).unwrap().len(), 3);
}

/// What a dropped partition held is given back, and its places in the queue mean nothing to others.
#[test]
fn a_dropped_partition_gives_everything_back() {
    let cache = cache(10_000);
    let (a, b) = (cache.tail(), cache.tail());
    a.push(Offset(0), &batch(3000), 3000, 3000);
    drop(a);
    assert_eq!(cache.used_bytes(), 0);
    for base in 0..20 {
        b.push(Offset(base), &batch(3000), 3000, 3000);
    }
    assert_eq!(b.read(Offset(17), Offset(20), 1 << 20).unwrap().len(), 3);
}

/// A small batch out of a large buffer is copied; one that fills its buffer, or shares it with its like, is not.
#[test]
fn a_small_batch_doesnt_pin_a_large_buffer() {
    let cache = cache(1 << 20);
    let tail = cache.tail();
    let large = batch(100_000);
    tail.push(Offset(0), &large.slice(..1000), 100_000, 1000);
    let copied = tail.read(Offset(0), Offset(1), 1).unwrap().remove(0);
    assert_ne!(copied.as_ptr(), large.as_ptr());
    assert_eq!(cache.used_bytes(), 1000 + ENTRY_BYTES);
    tail.push(Offset(1), &large.slice(..50_000), 100_000, 98_000);
    let shared = tail.read(Offset(1), Offset(2), 1).unwrap().remove(0);
    assert_eq!(shared.as_ptr(), large.as_ptr());
    assert_eq!(cache.used_bytes(), 1000 + 51_020 + 2 * ENTRY_BYTES);
}

/// A read begins with the batch that holds the offset, goes no further than the end, and returns one batch however large.
#[test]
fn reads_are_of_whole_batches() {
    let cache = cache(1 << 20);
    let tail = cache.tail();
    for base in [10, 20, 30] {
        tail.push(Offset(base), &batch(1000), 1000, 1000);
    }
    assert!(tail.read(Offset(9), Offset(40), 9999).is_none());
    assert_eq!(tail.read(Offset(15), Offset(40), 1).unwrap().len(), 1);
    assert_eq!(tail.read(Offset(15), Offset(40), 2000).unwrap().len(), 2);
    assert_eq!(tail.read(Offset(15), Offset(30), 9999).unwrap().len(), 2);
    assert!(tail.has(Offset(10)) && !tail.has(Offset(9)));
}

/// A batch above the whole budget isn't kept, and leaves no gap behind it.
#[test]
fn a_batch_above_the_budget_isnt_kept() {
    let cache = cache(5000);
    let tail = cache.tail();
    tail.push(Offset(0), &batch(1000), 1000, 1000);
    tail.push(Offset(1), &batch(6000), 6000, 6000);
    tail.push(Offset(2), &batch(1000), 1000, 1000);
    assert!(tail.read(Offset(1), Offset(3), 9999).is_none());
    assert_eq!(tail.read(Offset(2), Offset(3), 9999).unwrap().len(), 1);
}
