//! Tasks and their leases: one upload for each journal that isn't gone, deletions of objects, cleanings of streams.
//!
//! A lease's epoch and holder are durable, the time it has left is not. Whoever has the newest epoch may carry the task
//! out, even beyond its time, until another gets it.

use std::collections::BTreeSet;
use std::time::Duration;

use tailwater_format::metadata::{DeletionRecord, JournalRecord, JournalState, Key, NodeTier, ObjectLife};
use tailwater_rpc::controller::{Caller, Lease, LeaseRef, TaskKind, Work};
use tailwater_rpc::{Error, Result};
use tailwater_types::{JournalId, LeaseEpoch, NodeEpoch, NodeId, ObjectId, TaskId};

use super::{State, Touch, Tx, View, cleaning, journals, nodes};

/// Objects that one task deletes.
const OBJECTS_PER_DELETION: usize = 64;

pub type Holder = Option<(NodeId, NodeEpoch)>;

/// Leases the first free task of these kinds to the caller; uploads go first. `wall_ms` is the time that records carry.
///
/// # Errors
/// Those of [`nodes::check`], [`Error::Invalid`] if the caller is no compactor.
pub fn lease(tx: &mut Tx<'_>, caller: Caller, kinds: &[TaskKind], wall_ms: i64) -> Result<Option<Lease>> {
    nodes::check(tx, caller)?;
    let node = caller.node;
    if tx.node(node).is_some_and(|record| record.tier != NodeTier::Compactor) {
        return Err(Error::Invalid(format!("node {node} is no compactor: it has no tasks")));
    }
    let upload = kinds
        .contains(&TaskKind::Upload)
        .then(|| lease_upload(tx, caller))
        .flatten();
    let lease = upload.or_else(|| {
        kinds
            .contains(&TaskKind::Delete)
            .then(|| lease_deletion(tx, caller))
            .flatten()
    });
    let lease = lease.or_else(|| {
        kinds
            .contains(&TaskKind::Clean)
            .then(|| cleaning::lease(tx, caller, wall_ms))
            .flatten()
    });
    let Some(lease) = lease else { return Ok(None) };
    tx.touch(Touch::Leased(lease.task));
    let work = work(tx, lease.task).expect("it was leased just now");
    Ok(Some(Lease {
        lease,
        duration: tx.limits.task_lease,
        work,
    }))
}

/// An owner's journals are uploaded one after the other: space on a device comes back in the order it was written, and
/// a stream's uploads stay contiguous, each with a snapshot exact at its end.
fn lease_upload(tx: &mut Tx<'_>, caller: Caller) -> Option<LeaseRef> {
    let state = tx.state;
    let mut owners = BTreeSet::new();
    for (id, journal) in journals::all(state) {
        let gone = matches!(journal.state, JournalState::Gone { .. });
        if gone || !owners.insert(journal.owner) || !is_free(tx, journal.task, journal.holder) {
            continue;
        }
        let epoch = journal.lease.next();
        let leased = JournalRecord {
            lease: epoch,
            holder: Some((caller.node, caller.node_epoch)),
            ..journal.clone()
        };
        tx.put_journal(id, leased);
        let task = journal.task;
        return Some(LeaseRef { task, epoch });
    }
    None
}

fn lease_deletion(tx: &mut Tx<'_>, caller: Caller) -> Option<LeaseRef> {
    let holder = Some((caller.node, caller.node_epoch));
    let state = tx.state;
    let free = state.index().deletions().iter().find_map(|&task| {
        let deletion = state.deletion(task)?;
        is_free(tx, task, deletion.holder).then_some((task, deletion))
    });
    if let Some((task, deletion)) = free {
        let epoch = deletion.lease.next();
        let leased = DeletionRecord {
            lease: epoch,
            holder,
            ..(**deletion).clone()
        };
        tx.put_deletion(task, leased);
        return Some(LeaseRef { task, epoch });
    }
    let condemned = state.index().condemned().iter().copied();
    let due: Vec<ObjectId> = condemned
        .filter(|object| is_due(tx, *object))
        .take(OBJECTS_PER_DELETION)
        .collect();
    if due.is_empty() {
        return None;
    }
    let (task, epoch) = (tx.new_task(), LeaseEpoch(1));
    let deletion = DeletionRecord {
        objects: due,
        lease: epoch,
        holder,
    };
    tx.put_deletion(task, deletion);
    Some(LeaseRef { task, epoch })
}

/// Keeps a lease, and answers with the work as it is now.
///
/// # Errors
/// [`Error::LeaseFenced`].
pub fn renew(tx: &mut Tx<'_>, caller: Caller, lease: LeaseRef) -> Result<Work> {
    nodes::check(tx, caller)?;
    check_lease(tx.state, caller, lease)?;
    tx.touch(Touch::Renewed(lease.task));
    work(tx, lease.task).ok_or(Error::LeaseFenced { task: lease.task })
}

/// Gives a task back. A deletion that is `done` has deleted all its objects.
///
/// # Errors
/// [`Error::LeaseFenced`].
pub fn release(tx: &mut Tx<'_>, caller: Caller, lease: LeaseRef, done: bool) -> Result<()> {
    nodes::check(tx, caller)?;
    check_lease(tx.state, caller, lease)?;
    let task = lease.task;
    if let Some(journal) = tx.state.index().upload(task) {
        let record = tx.journal(journal).cloned().expect("the task names it");
        let free = JournalRecord {
            holder: None,
            ..(*record).clone()
        };
        tx.put_journal(journal, free);
    } else if let Some(deletion) = tx.deletion(task).cloned() {
        for &object in &deletion.objects {
            if done && is_final(tx, task, object) {
                tx.remove(Key::Object(object));
            } else {
                tx.touch(Touch::DeleteAt(object, tx.now + tx.limits.delete_delay));
            }
        }
        tx.remove(Key::Deletion(task));
    } else if let Some(cleaning) = tx.cleaning(task).cloned() {
        match done {
            true => cleaning::done(tx, task, cleaning.stream),
            false => cleaning::failed(tx, task, cleaning.stream),
        }
    }
    Ok(())
}

/// The journal of an upload that the caller holds.
///
/// # Errors
/// [`Error::LeaseFenced`], also if it is no upload.
pub fn check_upload(tx: &Tx<'_>, caller: Caller, lease: LeaseRef) -> Result<JournalId> {
    check_lease(tx.state, caller, lease)?;
    let journal = tx.state.index().upload(lease.task);
    journal.ok_or(Error::LeaseFenced { task: lease.task })
}

/// Checks that the caller holds a task that writes objects.
///
/// # Errors
/// [`Error::LeaseFenced`].
pub fn check_writer(tx: &Tx<'_>, caller: Caller, lease: LeaseRef) -> Result<()> {
    check_lease(tx.state, caller, lease)?;
    let writes = tx.state.index().upload(lease.task).is_some() || tx.state.cleaning(lease.task).is_some();
    match writes {
        true => Ok(()),
        false => Err(Error::LeaseFenced { task: lease.task }),
    }
}

pub fn check_lease(state: &State, caller: Caller, lease: LeaseRef) -> Result<()> {
    let held = newest(state, lease.task);
    if held == Some((lease.epoch, Some((caller.node, caller.node_epoch)))) {
        Ok(())
    } else {
        Err(Error::LeaseFenced { task: lease.task })
    }
}

/// Whether this is still the newest lease of its task, and somebody has it.
pub fn is_held(state: &State, lease: LeaseRef) -> bool {
    newest(state, lease.task).is_some_and(|(epoch, holder)| epoch == lease.epoch && holder.is_some())
}

/// Whether a registration holds any task.
pub fn is_holder(state: &State, registration: (NodeId, NodeEpoch)) -> bool {
    let uploads = journals::all(state)
        .any(|(_, journal)| journal.holder == Some(registration) && state.index().is_task(journal.task));
    let others = state.index().deletions().iter().copied();
    let mut others = others.chain(state.index().cleanings().map(|(task, _)| task));
    uploads || others.any(|task| newest(state, task).is_some_and(|(_, holder)| holder == Some(registration)))
}

/// The newest lease's epoch and holder; `None` if there is no such task (any more).
fn newest(state: &State, task: TaskId) -> Option<(LeaseEpoch, Holder)> {
    if let Some(journal) = state.index().upload(task) {
        let record = state.journal(journal)?;
        return Some((record.lease, record.holder));
    }
    if let Some(cleaning) = state.cleaning(task) {
        return Some((cleaning.lease, cleaning.holder));
    }
    let deletion = state.deletion(task)?;
    Some((deletion.lease, deletion.holder))
}

/// Whether a task may be given to somebody else.
pub fn is_free(tx: &Tx<'_>, task: TaskId, holder: Holder) -> bool {
    holder.is_none_or(|holder| {
        let over = tx.now.saturating_duration_since(tx.timers.renewed(task)) > tx.limits.task_lease;
        over || !tx.state.is_registered(holder)
    })
}

/// Whether a condemned object may be deleted now.
fn is_due(tx: &Tx<'_>, object: ObjectId) -> bool {
    let marked = tx
        .state
        .object(object)
        .is_some_and(|record| record.life == ObjectLife::Marked);
    let unknown = if marked {
        tx.timers.activated() + tx.limits.delete_delay
    } else {
        tx.timers.activated()
    };
    let due = tx.timers.delete_at(object).unwrap_or(unknown);
    tx.now >= due && !tx.state.index().is_deleting(object)
}

/// Whether a deletion leased as `task` is the object's last: nobody can write it any more. The delay covers what its writer
/// had under way when its time was over.
fn is_final(tx: &Tx<'_>, task: TaskId, object: ObjectId) -> bool {
    match tx.state.object(object).map(|record| record.life) {
        Some(ObjectLife::Expired) => {
            let silent = tx.timers.prepared(object) + tx.limits.object_deadline + tx.limits.delete_delay;
            tx.timers.leased(task) >= silent
        }
        Some(ObjectLife::Marked) | None => true,
        Some(ObjectLife::Prepared | ObjectLife::Committed) => false,
    }
}

fn work(view: &Tx<'_>, task: TaskId) -> Option<Work> {
    if let Some(journal) = view.state.index().upload(task) {
        let record = view.journal(journal)?;
        return Some(Work::Upload {
            journal,
            ensemble: record.ensemble.clone(),
            trim: record.trim,
            sealed_end: match record.state {
                JournalState::Sealed { end } => Some(end),
                _ => None,
            },
        });
    }
    if let Some(cleaning) = view.cleaning(task) {
        return Some(Work::Clean {
            stream: cleaning.stream,
            range: cleaning.range,
            first_dirty: cleaning.first_dirty,
            delete_retention: Duration::from_millis(cleaning.delete_retention_ms),
        });
    }
    let named = |object: &ObjectId| Some((*object, view.object(*object)?.key.clone()));
    let objects = view.deletion(task)?.objects.iter().filter_map(named);
    Some(Work::Delete {
        objects: objects.collect(),
    })
}
