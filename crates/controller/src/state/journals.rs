//! Journals: Open → Sealing → Sealed → Gone, and their trim LSN.

use tailwater_format::metadata::{JournalRecord, JournalState, Key, NodeTier, Record};
use tailwater_rpc::controller::{self, Caller, JournalGrant, JournalInfo};
use tailwater_rpc::{Error, Result};
use tailwater_types::{JournalId, LeaseEpoch, Lsn, NodeEpoch, NodeId, Outcome};

use super::{Effect, State, Tx, View, nodes};
use crate::plan::Spread;

/// Members of a new journal's ensemble, R, and how many of them must have a write durable, A.
const REPLICAS: usize = 1;
const ACK_QUORUM: u8 = 1;

/// A new journal for the caller; the one it had open is sealed, since nobody writes two. It is unconfirmed if the caller
/// `confirms` ([`confirm_journal`]).
///
/// # Errors
/// [`Error::Invalid`] if the caller is no frontend, [`Error::Unavailable`] without a device for it.
pub fn create_journal(tx: &mut Tx<'_>, caller: Caller, confirms: bool) -> Result<JournalGrant> {
    nodes::check(tx, caller)?;
    let owner = caller.node;
    if tx.node(owner).is_some_and(|node| node.tier != NodeTier::Frontend) {
        return Err(Error::Invalid(format!(
            "node {owner} is no frontend: it has no journals"
        )));
    }
    let state = tx.state;
    let load = |device| {
        all(state)
            .filter(|(_, journal)| journal.ensemble.contains(&device))
            .count()
    };
    let mut devices = Spread::new(nodes::active_devices(state).map(|device| (device, load(device) as u64)));
    let Some(device) = devices.place() else {
        return Err(Error::Unavailable {
            detail: format!("no WAL node has a device for a journal of node {owner}"),
            outcome: Outcome::DidNotHappen,
        });
    };
    seal_all_of(tx, owner);
    let (journal, task) = (tx.new_journal(), tx.new_task());
    let record = JournalRecord {
        owner,
        owner_epoch: caller.node_epoch,
        ensemble: vec![device; REPLICAS],
        ack_quorum: ACK_QUORUM,
        min_leader_epochs: Vec::new(),
        state: JournalState::Open,
        trim: Lsn::ZERO,
        task,
        lease: LeaseEpoch(0),
        holder: None,
        last_commit: None,
        unconfirmed: confirms,
    };
    tx.put_journal(journal, record.clone());
    Ok(JournalGrant {
        journal,
        ensemble: record.ensemble,
        ack_quorum: record.ack_quorum,
        min_leader_epochs: record.min_leader_epochs,
        unconfirmed: record.unconfirmed,
    })
}

/// The caller has opened its journal, and is going to append to it: from here on only its members know where it ends.
///
/// # Errors
/// [`Error::JournalFenced`] unless it is open and the caller's.
pub fn confirm_journal(tx: &mut Tx<'_>, caller: Caller, id: JournalId) -> Result<()> {
    nodes::check(tx, caller)?;
    let owner = (caller.node, caller.node_epoch);
    let open = tx
        .journal(id)
        .filter(|journal| (journal.owner, journal.owner_epoch) == owner && journal.state == JournalState::Open);
    let Some(journal) = open.cloned() else {
        return Err(Error::JournalFenced { journal: id });
    };
    if journal.unconfirmed {
        let confirmed = JournalRecord {
            unconfirmed: false,
            ..(*journal).clone()
        };
        tx.put_journal(id, confirmed);
    }
    Ok(())
}

/// Begins to seal whatever a node has open.
///
/// An unconfirmed journal is sealed with that, at 0, whether a member is there or not: its owner sends the first append only
/// after [`confirm_journal`] was answered, which is refused from here on (docs/adr/0007).
pub fn seal_all_of(tx: &mut Tx<'_>, owner: NodeId) {
    let state = tx.state;
    for (id, journal) in all(state) {
        if journal.owner == owner && journal.state == JournalState::Open {
            let sealing = JournalRecord {
                state: if journal.unconfirmed {
                    sealed_state(journal.trim, Lsn::ZERO)
                } else {
                    JournalState::Sealing
                },
                ..journal.clone()
            };
            tx.put_journal(id, sealing);
            tx.effect(Effect::Settle(id));
        }
    }
}

/// The recovered end of a journal: it is sealed now, and gone if it is uploaded already. A repeat changes nothing.
///
/// # Errors
/// [`Error::Corrupt`] if the end lies below what was uploaded: the members have lost committed entries.
pub fn commit_seal(tx: &mut Tx<'_>, id: JournalId, end: Lsn) -> Result<()> {
    let Some(journal) = tx.journal(id).cloned() else {
        return Ok(());
    };
    if journal.state != JournalState::Sealing {
        return Ok(());
    }
    if end < journal.trim {
        return Err(Error::Corrupt(format!(
            "journal {id} was uploaded to LSN {}, its members end at {end}",
            journal.trim
        )));
    }
    let sealed = JournalRecord {
        state: sealed_state(journal.trim, end),
        ..(*journal).clone()
    };
    tx.put_journal(id, sealed);
    tx.effect(Effect::Settle(id));
    Ok(())
}

/// Every member has forgotten a journal that was gone.
pub fn forget(tx: &mut Tx<'_>, id: JournalId) {
    let gone = |journal: &JournalRecord| matches!(journal.state, JournalState::Gone { .. });
    if tx.journal(id).is_some_and(|journal| gone(journal)) {
        tx.remove(Key::Journal(id));
    }
}

/// The state of a journal that ends at `end` and is uploaded to `trim`.
pub fn sealed_state(trim: Lsn, end: Lsn) -> JournalState {
    if trim == end {
        JournalState::Gone { end }
    } else {
        JournalState::Sealed { end }
    }
}

/// All journals that are not gone.
pub fn list(state: &State) -> Vec<JournalInfo> {
    let info = |(journal, record): (JournalId, &JournalRecord)| {
        let state = match record.state {
            JournalState::Open => controller::JournalState::Open,
            JournalState::Sealing => controller::JournalState::Sealing,
            JournalState::Sealed { end } => controller::JournalState::Sealed { end },
            JournalState::Gone { .. } => return None,
        };
        Some(JournalInfo {
            journal,
            owner: record.owner,
            owner_epoch: record.owner_epoch,
            ensemble: record.ensemble.clone(),
            state,
            trim: record.trim,
        })
    };
    all(state).filter_map(info).collect()
}

/// Whether something has to be done at a journal's members: see [`Effect::Settle`].
pub fn is_unsettled(journal: &JournalRecord) -> bool {
    match journal.state {
        JournalState::Sealing | JournalState::Gone { .. } => true,
        JournalState::Open | JournalState::Sealed { .. } => journal.trim > Lsn::ZERO,
    }
}

/// The last journal that a node had under `epoch` or before.
pub fn newest_of(state: &State, owner: NodeId, epoch: NodeEpoch) -> Option<JournalId> {
    let of_owner = |journal: &JournalRecord| journal.owner == owner && journal.owner_epoch <= epoch;
    all(state)
        .filter(|(_, journal)| of_owner(journal))
        .map(|(id, _)| id)
        .last()
}

/// Whether a node owns a journal that isn't gone.
pub fn has_any(state: &State, owner: NodeId) -> bool {
    all(state).any(|(_, journal)| journal.owner == owner && !matches!(journal.state, JournalState::Gone { .. }))
}

/// All journals that have a record, by id.
pub fn all(state: &State) -> impl Iterator<Item = (JournalId, &JournalRecord)> {
    let range = state.range(Key::Journal(JournalId(0)), Key::Journal(JournalId(u64::MAX)));
    range.filter_map(|(key, record)| match (key, record) {
        (Key::Journal(id), Record::Journal(journal)) => Some((*id, &**journal)),
        _ => None,
    })
}
