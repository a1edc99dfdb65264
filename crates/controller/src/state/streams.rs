//! Streams: who leads them, what their leader needs to open them, and how a leadership ends in order.
//!
//! Invariant: of an owner in `closed` whose journals the present leader doesn't write, everything lies below that mark. An
//! owner that isn't there may have written to any of its journals, so all of them must be sealed before another opens; one
//! that was lost is there with its last journal, whole, so that what it opens when it is back holds nobody up.

use std::collections::BTreeMap;

use tailwater_format::metadata::{
    ClosedTail, JournalRecord, JournalState, Key, Record, StreamBlock, StreamEnd, StreamRow,
};
use tailwater_rpc::controller::{Caller, CloseStream, ClosedAt, OpenStream, OpenedStream, SnapshotAt, StreamTail};
use tailwater_rpc::{Error, Result};
use tailwater_types::{JournalId, Lsn, LsnRange, NodeEpoch, NodeId, Offset, StreamId};

use super::{State, Tx, View, balance, catalog, index::Leader, journals, nodes};
use crate::plan::Spread;

/// What one step of [`place`] changes at most, well below what an atomic change may have.
const PLACE_BLOCKS: usize = 48;
const PLACE_BYTES: usize = 768 << 10;

/// The mark of a leadership that was lost without being closed: its last journal counts to the end of its seal.
const WHOLE: Lsn = Lsn(u64::MAX);

/// Blocks that one [`close`] changes at most.
const CLOSE_BLOCKS: usize = 8;

/// Gives streams whose leader isn't registered any more a leadership with a higher epoch: at the same node if that has
/// registered again, else spread over the active frontends, else they wait. Answers whether it stopped before the end.
pub fn place(tx: &mut Tx<'_>) -> bool {
    let mut spread = catalog::frontends(tx);
    let state = tx.state;
    if spread.is_empty() || state.index().leaders().all(|leader| !is_adrift(state, leader)) {
        return false;
    }
    let (mut placed, mut bytes) = (0, 0);
    for (number, block) in blocks(state) {
        if block.rows.values().all(|row| !is_adrift(state, row.leader)) {
            continue;
        }
        bytes += block.rows.values().map(row_bytes).sum::<usize>();
        if placed == PLACE_BLOCKS || placed > 0 && bytes > PLACE_BYTES {
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
    let Some(next) = again.or_else(elsewhere) else { return };
    if let Some((before, epoch)) = row.leader {
        // This leadership wasn't closed: what its node has may go on behind what an earlier one was closed with.
        row.closed.retain(|tail| tail.owner != before);
        // But it ends with its registration's journals, all of which are there: what the node opens later, before or after it
        // is back, has nothing of it.
        match journals::newest_of(state, before, epoch) {
            Some(journal) => row.closed.push(ClosedTail {
                owner: before,
                journal,
                end: WHOLE,
            }),
            None => row.owners.retain(|owner| *owner != before),
        }
    }
    give(state, row, Some(next));
}

/// Begins the next leadership, and forgets owners that have nothing left which isn't in objects.
fn give(state: &State, row: &mut StreamRow, leader: Leader) {
    let leads = |owner: NodeId| leader.is_some_and(|(node, _)| node == owner);
    let closed = std::mem::take(&mut row.closed);
    row.owners
        .retain(|owner| !leads(*owner) && may_hold(state, *owner, closed.iter().find(|tail| tail.owner == *owner)));
    row.owners.extend(leader.map(|(node, _)| node));
    row.closed = closed;
    row.closed.retain(|tail| {
        let still_there = row.owners.contains(&tail.owner);
        still_there && (!leads(tail.owner) || has_any_of(state, tail))
    });
    row.leader = leader;
    row.leader_epoch = row.leader_epoch.next();
}

/// Whether a node's journals may hold something of a stream that isn't in objects.
fn may_hold(state: &State, owner: NodeId, closed: Option<&ClosedTail>) -> bool {
    let Some(closed) = closed else {
        return journals::has_any(state, owner);
    };
    let mut older = journals::all(state).take_while(|(id, _)| *id < closed.journal);
    has_any_of(state, closed) || older.any(|(_, journal)| journal.owner == owner && !is_gone(journal))
}

/// Whether the journal that a stream was closed over still has what it held then.
fn has_any_of(state: &State, closed: &ClosedTail) -> bool {
    let journal = state.journal(closed.journal);
    journal.is_some_and(|journal| !is_gone(journal) && journal.trim < closed.end)
}

fn is_gone(journal: &JournalRecord) -> bool {
    matches!(journal.state, JournalState::Gone { .. })
}

/// No less than the bytes that a row takes in its block's record.
fn row_bytes(row: &StreamRow) -> usize {
    120 + 6 * row.owners.len() + 32 * row.closed.len()
}

/// How requests to close streams are divided into steps: their places in the list, by blocks.
pub fn close_steps(requests: &[CloseStream]) -> Vec<Vec<usize>> {
    let mut by_block: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, request) in requests.iter().enumerate() {
        by_block.entry(Key::block_of(request.stream)).or_default().push(at);
    }
    let blocks: Vec<_> = by_block.into_values().collect();
    blocks.chunks(CLOSE_BLOCKS).map(|blocks| blocks.concat()).collect()
}

/// Ends leaderships of the caller in order, and gives the streams to others. An error for one concerns that one only.
///
/// # Errors
/// Those of [`nodes::check`].
pub fn close(tx: &mut Tx<'_>, caller: Caller, requests: &[CloseStream]) -> Result<Vec<Result<()>>> {
    nodes::check(tx, caller)?;
    let mut others = catalog::frontends_but(tx, Some(caller.node));
    let mut blocks: BTreeMap<u64, StreamBlock> = BTreeMap::new();
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let number = Key::block_of(request.stream);
        let block = blocks.entry(number).or_insert_with(|| {
            let block = tx.block(number);
            block.map_or_else(StreamBlock::default, |block| (**block).clone())
        });
        answers.push(close_stream(tx, block, caller, *request, &mut others));
    }
    for (number, block) in blocks {
        let before = tx.state.block(number);
        if before.is_some_and(|before| **before != block) {
            tx.put_block(number, block);
        }
    }
    Ok(answers)
}

fn close_stream(
    tx: &Tx<'_>,
    block: &mut StreamBlock,
    caller: Caller,
    request: CloseStream,
    others: &mut Spread<(NodeId, NodeEpoch)>,
) -> Result<()> {
    let CloseStream {
        stream,
        leader_epoch,
        end,
        ..
    } = request;
    let Some(row) = block.rows.get_mut(&stream) else {
        return Err(Error::NotFound(format!("stream {stream}")));
    };
    let ended = Some(StreamEnd { leader_epoch, end });
    if row.ended == ended && leader_epoch < row.leader_epoch {
        // A repeat.
        return Ok(());
    }
    let leads = row.leader == Some((caller.node, caller.node_epoch));
    if !leads || row.leader_epoch != leader_epoch {
        return Err(Error::StreamFenced { stream });
    }
    check_close(tx.state, caller, &request)?;
    let wanted = balance::target(tx, stream, row);
    row.ended = ended;
    row.closed.retain(|tail| tail.owner != caller.node);
    row.closed.push(ClosedTail {
        owner: caller.node,
        journal: request.journal,
        end: request.journal_end,
    });
    let next = wanted.and_then(|frontend| others.place_at(frontend));
    give(tx.state, row, next.or_else(|| others.place()));
    Ok(())
}

fn check_close(state: &State, caller: Caller, request: &CloseStream) -> Result<()> {
    let CloseStream {
        stream, end, journal, ..
    } = *request;
    let uploaded = state.uploaded(stream);
    if end < uploaded {
        return Err(Error::Invalid(format!(
            "stream {stream} is said to end at {end}, but is uploaded to {uploaded}"
        )));
    }
    match state.journal(journal) {
        Some(record) if (record.owner, record.owner_epoch) != (caller.node, caller.node_epoch) => {
            let node = caller.node;
            Err(Error::Invalid(format!("journal {journal} is none of node {node}'s")))
        }
        // As long as it is open, the stream can't have been opened over a later one, and gone on there under the same epoch.
        Some(record) if record.state == JournalState::Open => Ok(()),
        _ => Err(Error::JournalFenced { journal }),
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
        tails: tails(state, caller, stream, row)?,
        closed: row
            .ended
            .map(|StreamEnd { leader_epoch, end }| ClosedAt { leader_epoch, end }),
    })
}

/// The journals of the stream's owners, as far as they may hold something of it. A superset of those that do.
fn tails(state: &State, caller: Caller, stream: StreamId, row: &StreamRow) -> Result<Vec<StreamTail>> {
    let mut tails = Vec::new();
    for (id, journal) in journals::all(state) {
        if !row.owners.contains(&journal.owner) {
            continue;
        }
        let closed = row.closed.iter().find(|tail| tail.owner == journal.owner);
        let end = if journal.owner == caller.node {
            own_end(id, journal, caller, closed)
        } else {
            end_of(id, journal, closed)
        };
        let Some(end) = end else {
            return Err(Error::StreamNotClosed { stream });
        };
        if end > journal.trim {
            tails.push(StreamTail {
                journal: id,
                ensemble: journal.ensemble.clone(),
                range: LsnRange::new(journal.trim, end),
            });
        }
    }
    Ok(tails)
}

/// How far another owner's journal has to be read; `None` as long as that isn't known.
fn end_of(id: JournalId, journal: &JournalRecord, closed: Option<&ClosedTail>) -> Option<Lsn> {
    match closed {
        // Opened after the stream was given away.
        Some(closed) if id > closed.journal => Some(Lsn::ZERO),
        // Not closed, but lost: as far as the seal says.
        Some(closed) if id == closed.journal && closed.end == WHOLE => sealed_end(journal),
        // A seal's end is never below what its owner knew to be durable; if it were, the stream's end would tell.
        Some(closed) if id == closed.journal => Some(sealed_end(journal).map_or(closed.end, |end| end.min(closed.end))),
        _ => sealed_end(journal),
    }
}

/// As [`end_of`], of the caller's own journal. The present leadership may have been opened before, over a journal that has
/// ended since; what it wrote there lies behind whatever an earlier one was closed with.
fn own_end(id: JournalId, journal: &JournalRecord, caller: Caller, closed: Option<&ClosedTail>) -> Option<Lsn> {
    let is_open = journal.state == JournalState::Open && journal.owner_epoch == caller.node_epoch;
    if !is_open {
        return sealed_end(journal);
    }
    // For what it will write; and it has what was written before the stream went away and came back.
    let before = closed.filter(|closed| closed.journal == id);
    Some(before.map_or(Lsn::ZERO, |closed| closed.end))
}

fn sealed_end(journal: &JournalRecord) -> Option<Lsn> {
    match journal.state {
        JournalState::Open | JournalState::Sealing => None,
        JournalState::Sealed { end } | JournalState::Gone { end } => Some(end),
    }
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
