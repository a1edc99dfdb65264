//! A cluster for tests: a WAL and a controller in memory, with failures on order, and a log to compare objects with.
//!
//! They know just what an upload or a deletion asks for. The real ones are tested together with this crate in `tests/`.

mod cluster;
mod controller;
mod wal;

pub(crate) use cluster::{Call, Cluster, State, When};

use bytes::BytesMut;
use tailwater_kafka::batch::{BatchBuilder, assign};
use tailwater_types::{LeaderEpoch, Offset};

/// A stored batch of one producer; with `value_bytes` of value in each record.
pub(crate) fn batch(base: Offset, leader_epoch: i32, sequence: i32, count: i32, value_bytes: usize) -> BytesMut {
    let mut builder = BatchBuilder::new().producer(77, 0, sequence);
    for record in 0..count {
        builder.push(
            1_000 + i64::from(record),
            None,
            Some(&vec![sequence as u8; value_bytes]),
            &[],
        );
    }
    let mut batch = builder.build();
    assign(&mut batch, base, LeaderEpoch(leader_epoch));
    batch
}
