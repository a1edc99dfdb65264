//! Reading a partition of an internal topic into its coordinators.
//!
//! Owns: the way from batches to records, up to the end found at opening. What isn't a record of this topic stops the
//! replay: a coordinator that passed over damage would forget what was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use tailwater_kafka::batch::{BatchHeader, Batches, Compression, HEADER_BYTES, Marker, TransactionEnd};
use tailwater_kafka::record::records;
use tailwater_runtime::clock::Clock;
use tailwater_types::Offset;

use super::machine::{Machine, Now};
use crate::partition::{Partition, ReadError};

/// Read at once.
const READ_BYTES: usize = 1 << 20;
/// After a read that may succeed later.
const RETRY: Duration = Duration::from_millis(500);

/// Replays the log up to the end that it has now; false if the leadership ended first, or the log can't be understood.
///
/// What isn't committed yet is waited for: a former coordinator of this very leadership may have sent it, and answers for it
/// when it is (docs/design.md, invariant 10).
pub(super) async fn replay<M: Machine>(partition: &Arc<Partition>, machine: &mut M, clock: &Clock) -> bool {
    let end = partition.log_end();
    if !partition.wait_for_commit(end).await {
        return false;
    }
    let mut is_told = false;
    let mut from = partition.log_start();
    while from < end {
        match partition.read(from, end, READ_BYTES, true).await {
            Ok(batches) => match replay_batches(&batches, machine, clock) {
                Ok(next) => from = next,
                Err(reason) => {
                    tracing::error!(
                        topic = %partition.topic_name(), partition = partition.index(), offset = %from, reason,
                        "a coordinator's log can't be read: it stays unavailable"
                    );
                    return false;
                }
            },
            Err(ReadError::NotLeader) => return false,
            Err(ReadError::OutOfRange { start, .. }) => from = start,
            Err(error) => {
                if matches!(error, ReadError::Corrupt(_)) && !is_told {
                    is_told = true;
                    tracing::error!(
                        topic = %partition.topic_name(), partition = partition.index(), offset = %from, %error,
                        "a coordinator's log can't be read: it stays unavailable, trying again"
                    );
                }
                tracing::debug!(%error, "a coordinator's log isn't readable now");
                clock.sleep(RETRY).await;
                if partition.has_ended() {
                    return false;
                }
            }
        }
    }
    true
}

/// Where it goes on behind these batches.
pub(super) fn replay_batches<M: Machine>(
    batches: &[bytes::Bytes],
    machine: &mut M,
    clock: &Clock,
) -> Result<Offset, String> {
    let mut next = None;
    for batch in batches.iter().cloned().flat_map(Batches::new) {
        let (header, bytes) = batch.map_err(|error| error.to_string())?;
        next = Some(header.end_offset());
        if header.count == 0 {
            // Compaction has taken what was in it, be it a marker.
            continue;
        }
        if header.is_control() {
            let marker = Marker::read(&bytes).map_err(|error| error.to_string())?;
            if let Some(marker) = marker {
                machine.replay_end(header.producer_id, marker.end == TransactionEnd::Commit);
            }
        } else {
            replay_batch(&header, &bytes, machine, clock)?;
        }
    }
    next.ok_or_else(|| "nothing where there should be records".to_owned())
}

fn replay_batch<M: Machine>(header: &BatchHeader, bytes: &[u8], machine: &mut M, clock: &Clock) -> Result<(), String> {
    match header.compression() {
        Ok(Compression::None) => {}
        other => return Err(format!("compressed records: {other:?}")),
    }
    let producer_id = header.is_transactional().then_some(header.producer_id);
    let now = Now {
        at: clock.now(),
        wall_ms: clock.wall_ms(),
    };
    for found in records(&bytes[HEADER_BYTES..]) {
        let found = found.map_err(|error| error.to_string())?;
        let key = found.key.ok_or("a record without a key")?;
        machine
            .replay(key, found.value, producer_id, now)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}
