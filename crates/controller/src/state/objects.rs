//! Objects: prepared → committed → marked → gone, or prepared → expired → gone.

use std::collections::{BTreeMap, BTreeSet};

use tailwater_format::metadata::{
    JournalCommit, JournalRecord, JournalState, ObjectLife, ObjectRecord, ObjectSlice, ObjectSnapshot,
};
use tailwater_rpc::controller::{
    self, Caller, CommitObjects, CommitSource, CommittedObject, CommittedStream, LeaseRef, PrepareObjects,
    PreparedObject, StreamObjects, StreamUpload,
};
use tailwater_rpc::{Error, Result};
use tailwater_store::keys;
use tailwater_types::{JournalId, LsnRange, MetadataVersion, ObjectId, Offset, OffsetRange, StreamId};

use super::runs::Runs;
use super::{Effect, State, Touch, Tx, View, cleaning, journals, nodes, streams, tasks};

/// The most objects that one call prepares, or that one commit makes visible: each is a key of one atomic change.
pub const MAX_OBJECTS: usize = 64;

/// The most objects that are prepared at once.
const MAX_PREPARED: usize = 10_000;

/// A step that marks or expires objects stops here; the next one goes on.
const SWEEP_KEYS: usize = 60;

/// Ids and keys for the holder of an upload or a cleaning to write to.
///
/// # Errors
/// [`Error::LeaseFenced`]; [`Error::Invalid`] for more than [`MAX_OBJECTS`]; [`Error::Throttled`] with too many prepared.
pub fn prepare(tx: &mut Tx<'_>, caller: Caller, request: &PrepareObjects) -> Result<Vec<PreparedObject>> {
    nodes::check(tx, caller)?;
    tasks::check_writer(tx, caller, request.lease)?;
    let count = request.count as usize;
    if count > MAX_OBJECTS {
        return invalid(format!("{count} objects at once, {MAX_OBJECTS} are legal"));
    }
    if tx.state.index().prepared().len() + count > MAX_PREPARED {
        return Err(Error::Throttled(format!("{MAX_PREPARED} objects are prepared already")));
    }
    let LeaseRef { task, epoch } = request.lease;
    let cluster = tx.cluster().cluster;
    let mut prepared = Vec::with_capacity(count);
    for _ in 0..count {
        let object = tx.new_object();
        let key = keys::object_key(cluster, object, epoch);
        let record = ObjectRecord {
            key: key.clone(),
            task,
            lease: epoch,
            life: ObjectLife::Prepared,
            committed: None,
            size_bytes: 0,
            slices: Vec::new(),
            snapshots: Vec::new(),
        };
        tx.put_object(object, record);
        tx.touch(Touch::Prepared(object));
        prepared.push(PreparedObject {
            object,
            key,
            deadline: tx.limits.object_deadline,
        });
    }
    Ok(prepared)
}

/// Makes objects visible and moves their journal's trim LSN, or takes what they replace off others ([`cleaning::commit`]). Slices that other objects have already are clipped, and
/// streams of deleted topics are left out.
///
/// # Errors
/// In this order: those of [`nodes::check`]; none for a repeat of a commit that succeeded; [`Error::LeaseFenced`];
/// [`Error::Invalid`] for a request that contradicts itself; [`Error::ObjectExpired`]; [`Error::OffsetNotMatched`] or
/// [`Error::ObjectReplaced`].
pub fn commit(tx: &mut Tx<'_>, caller: Caller, request: &CommitObjects) -> Result<MetadataVersion> {
    nodes::check(tx, caller)?;
    if let Some(version) = committed_before(tx.state, request) {
        return Ok(version);
    }
    if let CommitSource::Objects { .. } = &request.source {
        return cleaning::commit(tx, caller, request);
    }
    let journal = tasks::check_upload(tx, caller, request.lease)?;
    let range = check_source(request, journal)?;
    check_objects(tx.state, request)?;
    let record = tx.journal(journal).cloned().expect("the task names it");
    if range.start != record.trim {
        let trim = record.trim;
        return Err(Error::OffsetNotMatched { journal, trim });
    }
    let state = match record.state {
        JournalState::Sealed { end } if range.end > end => {
            return invalid(format!("LSNs {range} of journal {journal}, which ends at {end}"));
        }
        JournalState::Sealed { end } => journals::sealed_state(range.end, end),
        other => other,
    };
    let version = tx.version();
    let mut covered = BTreeMap::new();
    for object in &request.objects {
        let committed = committed_object(tx, request.lease, object, version, &mut covered)?;
        tx.put_object(object.object, committed);
    }
    abandon(tx, request);
    let commit = JournalCommit {
        lease: request.lease.epoch,
        range,
        version,
    };
    let trimmed = JournalRecord {
        state,
        trim: range.end,
        last_commit: Some(commit),
        // What was read of it was appended.
        unconfirmed: false,
        ..(*record).clone()
    };
    tx.put_journal(journal, trimmed);
    tx.touch(Touch::Renewed(request.lease.task));
    tx.effect(Effect::Settle(journal));
    Ok(version)
}

/// The version that showed this very commit, if it was made before.
fn committed_before(state: &State, request: &CommitObjects) -> Option<MetadataVersion> {
    let LeaseRef { task, epoch } = request.lease;
    let version_of = |object: &CommittedObject| {
        let record = state.object(object.object)?;
        let by_this = record.task == task && record.lease == epoch;
        record.committed.filter(|_| by_this)
    };
    let Some((first, others)) = request.objects.split_first() else {
        let CommitSource::Journals(source) = &request.source else {
            return None;
        };
        let &[(journal, range)] = source.as_slice() else {
            return None;
        };
        let last = state.journal(journal)?.last_commit?;
        let same = last.lease == epoch && last.range == range && !range.is_empty();
        return same.then_some(last.version);
    };
    let version = version_of(first)?;
    let all = others.iter().all(|object| version_of(object) == Some(version));
    all.then_some(version)
}

/// The range of the leased journal that the objects were made from.
fn check_source(request: &CommitObjects, journal: JournalId) -> Result<LsnRange> {
    let ranges = match &request.source {
        CommitSource::Journals(source) => source.as_slice(),
        CommitSource::Objects { .. } => &[],
    };
    match ranges {
        &[(of, range)] if of == journal && range.start <= range.end => Ok(range),
        other => invalid(format!(
            "the lease is for a range of journal {journal}, not for {other:?}"
        )),
    }
}

pub(super) fn check_objects(state: &State, request: &CommitObjects) -> Result<()> {
    let keys = request.objects.len() + request.abandoned.len();
    if keys > MAX_OBJECTS {
        return invalid(format!("{keys} objects in one commit, {MAX_OBJECTS} are legal"));
    }
    let mut seen = BTreeSet::new();
    for object in request.objects.iter().map(|object| object.object) {
        if !seen.insert(object) {
            return invalid(format!("object {object} is committed twice"));
        }
        if !is_prepared_under(state, object, request.lease) {
            return Err(Error::ObjectExpired { object });
        }
    }
    if request.abandoned.iter().any(|object| seen.contains(object)) {
        return invalid("an object is committed and abandoned".to_owned());
    }
    Ok(())
}

/// Expires the prepared objects that a commit says are not used after all.
pub(super) fn abandon(tx: &mut Tx<'_>, request: &CommitObjects) {
    for &object in &request.abandoned {
        if is_prepared_under(tx.state, object, request.lease) {
            expire(tx, object);
        }
    }
}

fn is_prepared_under(state: &State, object: ObjectId, lease: LeaseRef) -> bool {
    state.object(object).is_some_and(|record| {
        record.life == ObjectLife::Prepared && record.task == lease.task && record.lease == lease.epoch
    })
}

/// The record of a committed object. `covered` has, of each stream of the commit, what is in objects already, this commit's
/// former ones included.
pub(super) fn committed_object(
    tx: &Tx<'_>,
    lease: LeaseRef,
    object: &CommittedObject,
    version: MetadataVersion,
    covered: &mut BTreeMap<StreamId, Runs>,
) -> Result<ObjectRecord> {
    let mut slices = Vec::with_capacity(object.streams.len());
    let mut snapshots = BTreeMap::new();
    for part in &object.streams {
        check_part(object, part)?;
        let stream = part.stream;
        if tx.state.row(stream).is_none() {
            continue;
        }
        let covered = covered.entry(stream).or_insert_with(|| {
            let slices = tx.state.index().stream(stream);
            slices.map_or_else(Runs::default, |slices| slices.runs().clone())
        });
        slices.extend(visible(part, covered));
        covered.insert(part.range);
        if let Some(at) = &part.snapshot {
            let snapshot = ObjectSnapshot {
                stream,
                at: part.range.end,
                position: at.position,
                length: at.length,
                crc: at.crc,
            };
            if snapshots.insert(stream, snapshot).is_some() {
                return invalid(format!("object {} has two snapshots of stream {stream}", object.object));
            }
        }
    }
    Ok(ObjectRecord {
        key: tx
            .object(object.object)
            .map_or_else(String::new, |record| record.key.clone()),
        task: lease.task,
        lease: lease.epoch,
        life: ObjectLife::Committed,
        committed: Some(version),
        size_bytes: object.size_bytes,
        slices,
        snapshots: snapshots.into_values().collect(),
    })
}

fn check_part(object: &CommittedObject, part: &CommittedStream) -> Result<()> {
    let OffsetRange { start, end } = part.range;
    let ordered = start >= Offset::ZERO && start <= end && part.stable_end <= end;
    if !ordered || part.stable_end < Offset::ZERO {
        return invalid(format!(
            "object {}: offsets [{start}, {end}) of stream {}, stable to {}",
            object.object, part.stream, part.stable_end
        ));
    }
    let inside = part.snapshot.as_ref().is_none_or(|at| {
        let end = at.position.checked_add(u64::from(at.length));
        at.object == object.object && end.is_some_and(|end| end <= object.size_bytes)
    });
    if !inside {
        return invalid(format!(
            "object {}: the snapshot of stream {} lies outside it",
            object.object, part.stream
        ));
    }
    Ok(())
}

/// What readers shall find of this part: what no other object has. Also below the stream's start, where nobody looks: the
/// uploaded prefix has no hole.
fn visible(part: &CommittedStream, covered: &Runs) -> impl Iterator<Item = ObjectSlice> {
    let pieces = covered.uncovered(part.range);
    let part = part.clone();
    pieces.into_iter().enumerate().map(move |(at, range)| ObjectSlice {
        stream: part.stream,
        range,
        stable_end: part.stable_end.min(range.end),
        max_timestamp_ms: part.max_timestamp_ms,
        // Nobody knows how they divide; their sum is what counts.
        bytes: if at == 0 { part.bytes } else { 0 },
        is_cleaned: false,
    })
}

/// Moves objects that nobody will commit, or that nobody needs any more, on their way to deletion. Answers whether it
/// stopped before the end.
pub fn sweep(tx: &mut Tx<'_>) -> bool {
    let state = tx.state;
    for &id in state.index().prepared() {
        let Some(record) = state.object(id) else {
            continue;
        };
        let lease = LeaseRef {
            task: record.task,
            epoch: record.lease,
        };
        let deadline = tx.timers.prepared(id) + tx.limits.object_deadline;
        if tx.now >= deadline || !tasks::is_held(state, lease) {
            if tx.keys() >= SWEEP_KEYS {
                return true;
            }
            expire(tx, id);
        }
    }
    for &id in state.index().unnamed() {
        if tx.keys() >= SWEEP_KEYS {
            return true;
        }
        if let Some(record) = state.object(id) {
            let marked = ObjectRecord {
                life: ObjectLife::Marked,
                ..(**record).clone()
            };
            tx.put_object(id, marked);
            tx.touch(Touch::DeleteAt(id, tx.now + tx.limits.delete_delay));
        }
    }
    false
}

/// From here on a commit of the object is refused. It is deleted at once, and again later.
fn expire(tx: &mut Tx<'_>, id: ObjectId) {
    if let Some(record) = tx.object(id).cloned() {
        let expired = ObjectRecord {
            life: ObjectLife::Expired,
            ..(*record).clone()
        };
        tx.put_object(id, expired);
        tx.touch(Touch::DeleteAt(id, tx.now));
    }
}

/// Where the uploaded part of a stream lies, from `from` on.
///
/// # Errors
/// [`Error::NotFound`] without such a stream.
pub fn find(state: &State, stream: StreamId, from: Offset, limit: usize) -> Result<StreamObjects> {
    let Some(progress) = state.progress(stream) else {
        return Err(Error::NotFound(format!("stream {stream}")));
    };
    let from = from.max(progress.start);
    let slices = state.index().stream(stream).into_iter();
    let objects = slices
        .flat_map(|slices| slices.from(from))
        .take_while(|slice| slice.range.start < progress.uploaded)
        .take(limit);
    let found = objects.filter_map(|slice| {
        let record = state.object(slice.object)?;
        Some(controller::ObjectSlice {
            object: slice.object,
            key: record.key.clone(),
            size_bytes: record.size_bytes,
            range: slice.range,
            max_timestamp_ms: slice.max_timestamp_ms,
        })
    });
    Ok(StreamObjects {
        version: state.version(),
        start: progress.start,
        uploaded: progress.uploaded,
        objects: found.collect(),
    })
}

/// How far streams are uploaded; a stream that is no more is left out.
pub fn uploads(state: &State, streams: &[StreamId]) -> Vec<StreamUpload> {
    let upload = |&stream: &StreamId| {
        let progress = state.progress(stream)?;
        let uploaded = progress.uploaded;
        let snapshot = streams::snapshot_at(state, stream, uploaded);
        Some(StreamUpload {
            stream,
            start: progress.start,
            uploaded,
            cleaned: cleaning::cleaned_to(state, stream),
            snapshot,
            bytes: state
                .index()
                .stream(stream)
                .map_or(0, |slices| slices.bytes_below(uploaded)),
        })
    };
    streams.iter().filter_map(upload).collect()
}

fn invalid<T>(text: String) -> Result<T> {
    Err(Error::Invalid(text))
}
