//! Asking frontends to give partitions away, so that one that joins gets its share.
//!
//! Owns: who takes part, what is asked of whom, for how long, and who gets what was asked for. Does not own: the plan
//! ([`crate::balance`]), nor how a leadership ends ([`super::streams::close`]): its owner closes it by itself, as one that
//! leaves does, and may as well not. What was asked is memory only: another controller begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tailwater_format::metadata::{JournalState, StreamRow};
use tailwater_rpc::controller::{Caller, OpenStream};
use tailwater_runtime::clock::Instant;
use tailwater_types::{DeviceId, LeaderEpoch, NodeEpoch, NodeId, StreamId};

use super::{State, Touch, Tx, View, journals, nodes, streams};
use crate::balance::{Led, plan};

/// Moves that are under way at the same time: their partitions take no batches for a moment.
const AT_ONCE: usize = 32;

/// How long something is asked for; then the owner has its reasons.
const ASKED_FOR: Duration = Duration::from_secs(10);

/// From when something was asked for in vain until it is again.
const PAUSE: Duration = Duration::from_secs(60);

/// A leadership that its owner was asked to give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub leader_epoch: LeaderEpoch,
    pub from: (NodeId, NodeEpoch),
    pub to: (NodeId, NodeEpoch),
}

impl Asked {
    /// Whether the leadership still is what it was when this was asked.
    pub fn is_of(&self, row: &StreamRow) -> bool {
        row.leader == Some(self.from) && row.leader_epoch == self.leader_epoch
    }
}

/// Asks for as many moves as may be under way. Changes nothing that is stored.
pub fn ask(tx: &mut Tx<'_>) {
    let Some(settled) = tx.limits.balance_after else { return };
    let (state, timers, now) = (tx.state, tx.timers, tx.now);
    let steady: BTreeSet<_> = nodes::active_frontends(state)
        .filter(|frontend| can_append(state, *frontend))
        .filter(|(node, _)| now.saturating_duration_since(timers.registered(*node)) >= settled)
        .filter(|(node, _)| is_heard(tx, *node))
        .collect();
    if steady.len() < 2 {
        return;
    }
    let asked: BTreeMap<StreamId, (Asked, Instant)> = timers
        .asked()
        .filter(|(_, (_, at))| now.saturating_duration_since(*at) <= PAUSE)
        .collect();
    let rows = streams::blocks(state).flat_map(|(_, block)| &block.rows);
    let led = rows.filter_map(|(stream, row)| {
        let asked = asked.get(stream).filter(|(asked, _)| asked.is_of(row));
        let on_its_way = asked.filter(|(_, at)| is_asked(now, *at));
        Some(Led {
            stream: *stream,
            topic: row.topic,
            at: on_its_way.map_or(row.leader?, |(asked, _)| asked.to),
            movable: asked.is_none(),
        })
    });
    let under_way = asked
        .iter()
        .filter(|(stream, (asked, at))| is_asked(now, *at) && state.row(**stream).is_some_and(|row| asked.is_of(row)))
        .count();
    let moves = plan(&steady, led, AT_ONCE.saturating_sub(under_way));
    for (stream, to) in moves {
        if let Some(row) = state.row(stream)
            && let Some(from) = row.leader
        {
            let leader_epoch = row.leader_epoch;
            let asked = Asked { leader_epoch, from, to };
            tx.touch(Touch::Asked(stream, asked));
        }
    }
}

/// What the caller is asked to give away now.
pub fn asked_of(tx: &Tx<'_>, caller: Caller) -> Vec<OpenStream> {
    let asked = tx.timers.asked();
    let of_caller = asked.filter(|(stream, (asked, at))| {
        let is_of = tx.state.row(*stream).is_some_and(|row| asked.is_of(row));
        is_of && asked.from == (caller.node, caller.node_epoch) && is_asked(tx.now, *at) && may_take(tx, asked)
    });
    of_caller
        .map(|(stream, (Asked { leader_epoch, .. }, _))| OpenStream { stream, leader_epoch })
        .collect()
}

/// Who shall have a leadership that is being closed, if that was asked for and still can be.
pub fn target(tx: &Tx<'_>, stream: StreamId, row: &StreamRow) -> Option<(NodeId, NodeEpoch)> {
    let (asked, _) = tx.timers.asked_for(stream)?;
    (asked.is_of(row) && may_take(tx, &asked)).then_some(asked.to)
}

fn may_take(tx: &Tx<'_>, asked: &Asked) -> bool {
    let is_active = nodes::active_frontends(tx.state).any(|frontend| frontend == asked.to);
    is_active && can_append(tx.state, asked.to) && is_heard(tx, asked.to.0)
}

/// Whether a frontend has a journal that WAL nodes have opened and that are there: without one it could open no partition, and
/// couldn't finish what it has begun in one that it is to give away.
fn can_append(state: &State, (node, epoch): (NodeId, NodeEpoch)) -> bool {
    let is_there = |device: &DeviceId| nodes::active_devices(state).any(|active| active == *device);
    journals::all(state).any(|(_, journal)| {
        (journal.owner, journal.owner_epoch) == (node, epoch)
            && journal.state == JournalState::Open
            && !journal.unconfirmed
            && journal.ensemble.iter().all(is_there)
    })
}

/// Whether a node was heard within half its lease: one that may be dead gets nothing.
fn is_heard(tx: &Tx<'_>, node: NodeId) -> bool {
    let silent = tx.now.saturating_duration_since(tx.timers.heard(node));
    tx.limits.node_lease.is_none_or(|lease| silent <= lease / 2)
}

fn is_asked(now: Instant, at: Instant) -> bool {
    now.saturating_duration_since(at) <= ASKED_FOR
}
