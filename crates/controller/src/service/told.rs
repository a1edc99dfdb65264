//! What a person reads of the controller's decisions, one line each: who came, was fenced or left, which journals ended, and which
//! partitions frontends were asked to give away.
//!
//! Owns: the lines. Does not own: any decision. Told when a change is durable, before it is shown; what is memory only, when it
//! is decided.

use std::collections::BTreeMap;

use tailwater_format::metadata::{JournalRecord, JournalState, Key, NodeRecord, Record};
use tailwater_runtime::clock::Instant;
use tailwater_types::{JournalId, NodeId};

use super::metrics::{node_state_name, tier_name};
use crate::state::{Changes, State, Timers, Touch, View as _};

/// Logs what `changes` make of `state`.
pub(super) fn tell(state: &State, changes: &Changes) {
    for (key, record) in changes {
        let before = state.record(*key);
        match (key, record) {
            (Key::Node(id), Some(Record::Node(node))) => tell_node(*id, node, before),
            (Key::Node(id), None) => tracing::info!(node = %id, "node forgotten"),
            (Key::Journal(id), Some(Record::Journal(journal))) => tell_journal(*id, journal, before),
            _ => {}
        }
    }
}

/// Logs what frontends are asked to give away, a line for each pair of them. `before`: what they were asked until now.
pub(super) fn tell_moves(before: &Timers, touches: &[Touch]) {
    let mut moves = BTreeMap::<_, (usize, usize)>::new();
    for touch in touches {
        if let Touch::Asked(stream, asked) = touch {
            let earlier = before.asked_for(*stream).map(|(earlier, _)| earlier.leader_epoch);
            let (partitions, in_vain) = moves.entry((asked.from.0, asked.to.0)).or_default();
            *partitions += 1;
            *in_vain += usize::from(earlier == Some(asked.leader_epoch));
        }
    }
    for ((from, to), (partitions, in_vain)) in moves {
        tracing::info!(%from, %to, partitions, in_vain, "a frontend is asked to give partitions to another one");
    }
}

/// Logs which streams' cleanings failed. `before`: how they stood until now.
pub(super) fn tell_cleanings(before: &Timers, touches: &[Touch], now: Instant) {
    for touch in touches {
        if let Touch::CleanFailed(stream, at) = touch {
            let failures = before.next_cleaning(*stream).map_or(0, |next| next.failures) + 1;
            let wait = at.saturating_duration_since(now);
            tracing::info!(%stream, failures, ?wait, "key compaction failed or lost its compactor, it waits");
        }
    }
}

fn tell_node(id: NodeId, node: &NodeRecord, before: Option<&Record>) {
    if let Some(Record::Node(former)) = before
        && (former.state, former.epoch) == (node.state, node.epoch)
    {
        return;
    }
    let (tier, state) = (tier_name(node.tier), node_state_name(node.state));
    tracing::info!(node = %id, tier, epoch = %node.epoch, state, "node");
}

fn tell_journal(id: JournalId, journal: &JournalRecord, before: Option<&Record>) {
    let was = match before {
        Some(Record::Journal(former)) => Some(former.state),
        _ => None,
    };
    let is_new = was != Some(journal.state);
    match journal.state {
        JournalState::Sealing if is_new => {
            tracing::info!(journal = %id, owner = %journal.owner, epoch = %journal.owner_epoch, "journal is being sealed");
        }
        JournalState::Sealed { end } | JournalState::Gone { end } if is_new && !is_ended(was) => {
            tracing::info!(journal = %id, owner = %journal.owner, epoch = %journal.owner_epoch, %end, "journal sealed");
        }
        _ => {}
    }
}

fn is_ended(state: Option<JournalState>) -> bool {
    matches!(state, Some(JournalState::Sealed { .. } | JournalState::Gone { .. }))
}
