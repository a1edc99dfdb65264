//! How long one round takes: collected, sorted, and taken of a produce request with one record.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tailwater_kafka::ErrorCode;
use tailwater_tests::{Connection, batch};

const LEADER_LIMIT: Duration = Duration::from_secs(30);
/// Rounds that are not counted: caches and branch predictors learn from them.
const WARM_UP: usize = 200;

#[derive(Clone, Copy, Debug)]
pub struct Percentiles {
    pub p50: Duration,
    pub p99: Duration,
}

impl Percentiles {
    /// Of `rounds` runs of `round`, after some that don't count.
    pub fn of(rounds: usize, mut round: impl FnMut() -> Result<()>) -> Result<Self> {
        ensure!(rounds >= 100, "{rounds} rounds have no p99");
        for _ in 0..WARM_UP {
            round()?;
        }
        let mut taken = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let begun = Instant::now();
            round()?;
            taken.push(begun.elapsed());
        }
        taken.sort_unstable();
        Ok(Self {
            p50: taken[rounds / 2],
            p99: taken[rounds * 99 / 100],
        })
    }
}

/// One record of 100 bytes at a time, acks=all, by a blocking client on one connection.
pub fn acknowledged_records(server: SocketAddr, rounds: usize) -> Result<Percentiles> {
    let mut connection = Connection::open(server);
    ensure!(connection.create_topic("latency", 1, &[])? == ErrorCode::None);
    let record = batch(&[&[b'x'; 100]]);
    // Somebody has to take the lead first.
    let begun = Instant::now();
    while connection.produce("latency", 0, record.clone())?.error_code == ErrorCode::NotLeaderOrFollower {
        ensure!(begun.elapsed() < LEADER_LIMIT, "nobody leads the new topic here");
        std::thread::sleep(Duration::from_millis(20));
    }
    Percentiles::of(rounds, || {
        let answer = connection.produce("latency", 0, record.clone())?;
        ensure!(answer.error_code == ErrorCode::None, "{answer:?}");
        Ok(())
    })
}
