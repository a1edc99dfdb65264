//! Coordinator, partitions, producers and the network between them, all in one: what a transaction promises to who reads.
//!
//! `Shard` decides, `PartitionState` and `Verifications` stand for each leader, `record` for the coordinator's log, as in the
//! server; the network is one that nothing guards, not even the order of calls (`txn/calls`). A run is its seed. Owns:
//! how many are run, what they must have met. `world` is time and the network, `judge` what must hold.

mod coordinator;
mod judge;
mod partition;
mod producer;
mod world;

use judge::Report;
use world::{Options, Unawares, World};

/// How many runs; `TAILWATER_TEST_SEEDS` says otherwise, `TAILWATER_TEST_FIRST_SEED` where they begin (`make test-models`).
const SEEDS: u64 = 300;

/// `TAILWATER_TEST_SEED`: only that run.
fn seeds() -> std::ops::Range<u64> {
    #[allow(clippy::disallowed_methods, reason = "how a test was asked for")]
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match given("TAILWATER_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = given("TAILWATER_TEST_FIRST_SEED").unwrap_or(0);
            first..first + given("TAILWATER_TEST_SEEDS").unwrap_or(SEEDS)
        }
    }
}

fn run(seed: u64, options: Options) -> Result<Report, String> {
    let mut world = World::new(seed, options);
    world.run()?;
    judge::judge(&world)
}

/// Whatever the network, failing leaders and coordinators, timeouts and zombies do, but for late markers of version 1 (see
/// [`Options`]): a transaction is read whole or not at all, as it was
/// acknowledged; nothing of an older epoch is in a later one; and everything is decided in the end.
#[test]
fn a_transaction_is_all_or_nothing_whatever_happens_between() {
    let mut sum = Report::default();
    for seed in seeds() {
        match run(seed, Options::default()) {
            Ok(report) => sum.add(&report),
            Err(broken) => panic!("TAILWATER_TEST_SEED={seed}: {broken}"),
        }
    }
    println!("{sum:?}");
    if seeds().count() > 100 {
        sum.has_met_everything();
    }
}

/// A run is its seed: otherwise nobody could repeat what it has found.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..10 {
        let (one, other) = (run(seed, Options::default()), run(seed, Options::default()));
        assert_eq!(one, other, "seed {seed}");
    }
}

/// What the order of calls (`txn/calls`) keeps away in the server, and Apache Kafka lets happen: a marker of version 1 that comes
/// a second time, late, ends the transaction that its producer has begun meanwhile under the same epoch. (Which shows that the
/// model can fail, too.)
#[test]
fn only_a_late_marker_of_version_1_ends_another_transaction() {
    let with = |first_version| Options {
        late_markers_of_version_1: true,
        versions: if first_version { [0, 0] } else { [2, 2] },
        ..Options::default()
    };
    let broken = (0..150).filter(|seed| run(*seed, with(true)).is_err()).count();
    assert!(broken > 0, "the model can't fail: does it draw late markers?");
    for seed in seeds() {
        if let Err(broken) = run(seed, with(false)) {
            panic!("TAILWATER_TEST_SEED={seed}: {broken}");
        }
    }
}

/// What guards are for: without them a batch that comes when its transaction has ended begins another one, which nobody ends.
#[test]
fn without_guards_a_late_batch_breaks_a_transaction() {
    let options = Options {
        without_guards: true,
        versions: [0, 0],
        ..Options::default()
    };
    assert!((0..150).any(|seed| run(seed, options).is_err()));
}

/// What the lease is for (`coordinator/standing`): without it, or if it is counted from when the answer to a heartbeat came instead of
/// from when that was sent, a coordinator that was deposed and doesn't know it can say yes of a transaction of version 1 that has
/// ended. Where each transaction has an epoch of its own (version 2), it misleads nobody even then.
#[test]
fn without_a_lease_a_deposed_coordinator_misleads_in_version_1() {
    let with = |unawares, versions| Options {
        unawares,
        versions,
        ..Options::default()
    };
    for unawares in [Unawares::Answers, Unawares::LeasedFromTheAnswer] {
        let is_broken = (0..1_000).any(|seed| run(seed, with(unawares, [0, 0])).is_err());
        assert!(is_broken, "the model can't fail: {unawares:?}");
    }
    for seed in seeds() {
        if let Err(broken) = run(seed, with(Unawares::Answers, [2, 2])) {
            panic!("TAILWATER_TEST_SEED={seed}: {broken}");
        }
    }
}
