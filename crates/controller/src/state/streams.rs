//! Streams: who leads them, and what their leader needs to open them.

use tailwater_format::metadata::{JournalState, Key, Record, StreamBlock, StreamRow};
use tailwater_rpc::controller::{Caller, OpenStream, OpenedStream, SnapshotAt, StreamTail};
use tailwater_rpc::{Error, Result};
use tailwater_types::{LsnRange, NodeId, Offset, StreamId};

use super::{State, Tx, View, catalog, index::Leader, journals, nodes};

/// How many blocks one step places streams of: at 256 rows of at most 60 bytes they stay below 1 MiB.
const PLACE_BLOCKS: usize = 48;

/// Gives streams whose leader isn't registered any more a leadership with a higher epoch: at the same node if that has
/// registered again, else spread over the active frontends, else they wait. Answers whether it stopped before the end.
pub fn place(tx: &mut Tx<'_>) -> bool {
    let mut spread = catalog::frontends(tx);
    let state = tx.state;
    if spread.is_empty() || state.index().leaders().all(|leader| !is_adrift(state, leader)) {
        return false;
    }
    let mut placed = 0;
    for (number, block) in blocks(state) {
        if block.rows.values().all(|row| !is_adrift(state, row.leader)) {
            continue;
        }
        if placed == PLACE_BLOCKS {
            return true;
        }
        placed += 1;
        let mut block = block.clone();
        for row in block.rows.values_mut() {
            if is_adrift(state, row.leader) {
                lead(state, row, || spread.place());
            }
        }
        tx.put_block(number, block);
    }
    false
}

/// Whether the streams of this leader need another.
fn is_adrift(state: &State, leader: Leader) -> bool {
    leader.is_none_or(|leader| !state.is_registered(leader))
}

fn lead(state: &State, row: &mut StreamRow, elsewhere: impl FnOnce() -> Leader) {
    let again = row
        .leader
        .and_then(|(node, _)| nodes::active_frontends(state).find(|(id, _)| *id == node));
    if let Some((node, epoch)) = again.or_else(elsewhere) {
        row.leader = Some((node, epoch));
        row.leader_epoch = row.leader_epoch.next();
        row.owners
            .retain(|owner| *owner != node && journals::has_any(state, *owner));
        row.owners.push(node);
    }
}

/// What the caller needs to open these streams: an error for one concerns that one only.
///
/// # Errors
/// Those of [`nodes::check`].
pub fn open_streams(state: &State, caller: Caller, streams: &[OpenStream]) -> Result<Vec<Result<OpenedStream>>> {
    nodes::check(state, caller)?;
    Ok(streams
        .iter()
        .map(|stream| open_stream(state, caller, *stream))
        .collect())
}

fn open_stream(state: &State, caller: Caller, request: OpenStream) -> Result<OpenedStream> {
    let stream = request.stream;
    let Some(row) = state.row(stream) else {
        return Err(Error::NotFound(format!("stream {stream}")));
    };
    let leads = row.leader == Some((caller.node, caller.node_epoch));
    if !leads || row.leader_epoch != request.leader_epoch {
        return Err(Error::StreamFenced { stream });
    }
    let uploaded = state.uploaded(stream);
    Ok(OpenedStream {
        stream,
        start: row.start,
        uploaded,
        snapshot: snapshot_at(state, stream, uploaded),
        tails: tails(state, caller, stream, &row.owners)?,
    })
}

/// The sealed journals of the stream's owners. A superset of those that have something of it.
fn tails(state: &State, caller: Caller, stream: StreamId, owners: &[NodeId]) -> Result<Vec<StreamTail>> {
    let mut tails = Vec::new();
    for (id, journal) in journals::all(state) {
        if !owners.contains(&journal.owner) {
            continue;
        }
        match journal.state {
            // The caller's own, for what it will write.
            JournalState::Open if (journal.owner, journal.owner_epoch) == (caller.node, caller.node_epoch) => {}
            JournalState::Open | JournalState::Sealing => {
                return Err(Error::StreamNotClosed { stream });
            }
            JournalState::Sealed { end } => tails.push(StreamTail {
                journal: id,
                ensemble: journal.ensemble.clone(),
                range: LsnRange::new(journal.trim, end),
            }),
            JournalState::Gone { .. } => {}
        }
    }
    Ok(tails)
}

/// The newest snapshot that is exact at `end` or below. At `end` itself as long as a stream's journals are uploaded in
/// order; its own bytes name the offset.
pub fn snapshot_at(state: &State, stream: StreamId, end: Offset) -> Option<SnapshotAt> {
    let (_, object) = state.index().stream(stream)?.snapshot_below(end)?;
    let record = state.object(object)?;
    let at = record
        .snapshots
        .binary_search_by_key(&stream, |snapshot| snapshot.stream)
        .ok()?;
    let snapshot = &record.snapshots[at];
    Some(SnapshotAt {
        object,
        key: record.key.clone(),
        position: snapshot.position,
        length: snapshot.length,
        crc: snapshot.crc,
    })
}

pub fn blocks(state: &State) -> impl Iterator<Item = (u64, &StreamBlock)> {
    let range = state.range(Key::Streams(0), Key::Streams(u64::MAX));
    range.filter_map(|(key, record)| match (key, record) {
        (Key::Streams(number), Record::Streams(block)) => Some((*number, &**block)),
        _ => None,
    })
}
