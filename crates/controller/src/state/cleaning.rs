//! Key compaction: which streams are dirty, who cleans them, and how what was cleaned takes the place of what was there.
//!
//! Owns: Apache Kafka's choice of the log to clean (`LogCleanerManager`), over slices of objects instead of segments. A
//! stream's clean part is a prefix of its slices: a cleaning replaces them in order, from the first one on, and each commit
//! leaves a prefix that is clean. Never beyond the last stable offset of the uploads, so never beyond what is uploaded.
//! Does not own: which records stay (the compactor), deletion of what was replaced (`objects`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tailwater_format::metadata::{CleaningRecord, Key, ObjectRecord, ObjectSlice, Record};
use tailwater_rpc::controller::{Caller, CommitObjects, CommitSource, CommittedObject, LeaseRef};
use tailwater_rpc::{Error, Result};
use tailwater_types::{LeaseEpoch, MetadataVersion, ObjectId, Offset, OffsetRange, StreamId, TaskId, TopicId};

use super::cleaning_settings::CleaningSettings;
use super::index::SliceAt;
use super::{State, Touch, Tx, View, objects, tasks};

/// How often all streams are looked at while nothing is to be cleaned.
const LOOK: Duration = Duration::from_secs(1);

/// So much that is dirty isn't kept waiting after a cleaning.
const MUCH_BYTES: u64 = 64 << 20;

/// A stream whose cleaning fails again and again is tried again this often.
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// The most objects whose parts one commit replaces: each is a key of one atomic change, beside the new ones.
pub const MAX_SOURCES: usize = 32;

/// What may be cleaned of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dirty {
    pub range: OffsetRange,
    pub first_dirty: Offset,
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
    /// The largest timestamp of the first dirty slice.
    oldest_ms: i64,
}

impl Dirty {
    /// Of all that may be cleaned, 0 to 1.
    pub fn ratio(&self) -> f64 {
        let all = self.clean_bytes + self.dirty_bytes;
        if all == 0 {
            0.0
        } else {
            self.dirty_bytes as f64 / all as f64
        }
    }

    fn is_due(&self, settings: &CleaningSettings, wall_ms: i64) -> bool {
        let is_late = wall_ms.saturating_sub(self.oldest_ms) > settings.max_lag_ms;
        self.ratio() > settings.min_dirty_ratio || is_late
    }
}

/// Every stream of a compacted topic that has something dirty.
pub fn dirty(state: &State, wall_ms: i64) -> impl Iterator<Item = (StreamId, Dirty, CleaningSettings)> {
    let [first, last] = [0, 0xff].map(|byte| Key::Topic(TopicId::from_bytes([byte; 16])));
    let topics = state.range(first, last);
    let topics = topics.filter_map(|(_, record)| match record {
        Record::Topic(topic) => Some(topic),
        _ => None,
    });
    topics.flat_map(move |topic| {
        let streams = topic
            .runs
            .iter()
            .flat_map(|(first, count)| first.0..first.0 + u64::from(*count));
        streams.filter_map(move |stream| {
            let stream = StreamId(stream);
            let leader = state.row(stream)?.leader.map(|(node, _)| node);
            let settings = CleaningSettings::of(state, topic, leader)?;
            Some((stream, dirty_of(state, stream, settings.min_lag_ms, wall_ms)?, settings))
        })
    })
}

fn dirty_of(state: &State, stream: StreamId, min_lag_ms: i64, wall_ms: i64) -> Option<Dirty> {
    let progress = state.progress(stream)?;
    let slices = || {
        let slices = state.index().stream(stream).into_iter();
        let slices = slices.flat_map(|slices| slices.from(progress.start));
        slices.take_while(|slice| slice.range.start < progress.uploaded)
    };
    let start = slices().next()?.range.start;
    let stable = slices().map(|slice| slice.stable_end).max()?;
    let is_old = |slice: &&SliceAt| min_lag_ms <= 0 || slice.max_timestamp_ms <= wall_ms.saturating_sub(min_lag_ms);
    let clean: Vec<_> = slices().take_while(|slice| slice.is_cleaned).collect();
    let first_dirty = clean.last().map_or(start, |last| last.range.end);
    let dirty = slices().skip(clean.len());
    let dirty: Vec<_> = dirty
        .take_while(|slice| slice.range.end <= stable)
        .take_while(is_old)
        .collect();
    let (first, last) = (dirty.first()?, dirty.last()?);
    Some(Dirty {
        range: OffsetRange::new(start, last.range.end),
        first_dirty,
        clean_bytes: clean.iter().map(|slice| slice.bytes).sum(),
        dirty_bytes: dirty.iter().map(|slice| slice.bytes).sum(),
        oldest_ms: first.max_timestamp_ms,
    })
}

/// Where the clean part of a stream ends.
pub fn cleaned_to(state: &State, stream: StreamId) -> Offset {
    let start = state.row(stream).map_or(Offset::ZERO, |row| row.start);
    let slices = state.index().stream(stream);
    let cleaned = slices.and_then(|slices| slices.cleaned_from(start));
    cleaned.unwrap_or(Offset::ZERO)
}

/// Leases the cleaning of the dirtiest stream that is due and that nobody cleans. One whose holder is gone has failed.
pub fn lease(tx: &mut Tx<'_>, caller: Caller, wall_ms: i64) -> Option<LeaseRef> {
    let is_recent = |at| tx.now.saturating_duration_since(at) < LOOK;
    if tx.timers.nothing_to_clean().is_some_and(is_recent) {
        return None;
    }
    let state = tx.state;
    sweep(tx);
    let known = state.index().cleanings();
    let known = known.filter_map(|(task, stream)| Some((stream, (task, **state.cleaning(task)?))));
    let known: BTreeMap<StreamId, (TaskId, CleaningRecord)> = known.collect();
    let is_taken = |stream| {
        let record = known.get(&stream).map(|(_, record)| record);
        record.is_some_and(|record| record.holder.is_some())
    };
    let may_be_cleaned = |stream: StreamId, dirty: &Dirty| {
        let next = tx.timers.next_cleaning(stream);
        let waits = next.is_some_and(|next| tx.now < next.at && (next.failures > 0 || dirty.dirty_bytes < MUCH_BYTES));
        !waits && !is_taken(stream)
    };
    let due = dirty(state, wall_ms)
        .filter(|(stream, dirty, settings)| may_be_cleaned(*stream, dirty) && dirty.is_due(settings, wall_ms));
    // The first of them where several are as dirty.
    let dirtiest = due.max_by(|a, b| a.1.ratio().total_cmp(&b.1.ratio()).then(b.0.cmp(&a.0)));
    let Some((stream, dirty, settings)) = dirtiest else {
        tx.touch(Touch::NothingToClean);
        return None;
    };
    let left = known.get(&stream);
    let (task, epoch) = match left {
        Some((task, record)) => (*task, record.lease.next()),
        None => (tx.new_task(), LeaseEpoch(1)),
    };
    let record = CleaningRecord {
        stream,
        range: dirty.range,
        first_dirty: dirty.first_dirty,
        delete_retention_ms: u64::try_from(settings.delete_retention_ms).unwrap_or(0),
        lease: epoch,
        holder: Some((caller.node, caller.node_epoch)),
        done_to: Offset::ZERO,
        keys_end: Offset::ZERO,
    };
    let goes_on = left.and_then(|(_, left)| going_on(state, &record, left));
    tx.put_cleaning(task, goes_on.unwrap_or(record));
    Some(LeaseRef { task, epoch })
}

/// The cleaning of `left`, which ended early, from where it came to, if that is still there. What it had begun it must end
/// before anything else is cleaned of the stream: below that place everything was cleaned of what keys up to its own end
/// supersede, and of nothing more.
fn going_on(state: &State, anew: &CleaningRecord, left: &CleaningRecord) -> Option<CleaningRecord> {
    let slices = state.index().stream(left.stream)?;
    let is_there = slices.from(left.done_to).next().map(|slice| slice.range.start) == Some(left.done_to);
    let is_inside = anew.range.start < left.done_to && left.done_to < left.keys_end;
    (is_there && is_inside).then(|| CleaningRecord {
        range: OffsetRange::new(left.done_to, left.keys_end),
        first_dirty: left.first_dirty.max(left.done_to),
        done_to: left.done_to,
        keys_end: left.keys_end,
        ..*anew
    })
}

/// Ends cleanings that nobody carries out any more. Answers whether it stopped before the end: never.
pub fn sweep(tx: &mut Tx<'_>) -> bool {
    let state = tx.state;
    for (task, stream) in state.index().cleanings() {
        let holder = state.cleaning(task).and_then(|record| record.holder);
        if state.row(stream).is_none() {
            tx.remove(Key::Cleaning(task));
        } else if holder.is_some() && tasks::is_free(tx, task, holder) {
            // Maybe it is this stream that ends its cleaners: whatever else is due comes first.
            failed(tx, task, stream);
        }
    }
    false
}

/// Ends a cleaning. The more often that of a stream fails, the longer it waits.
pub fn failed(tx: &mut Tx<'_>, task: TaskId, stream: StreamId) {
    let failures = tx.timers.next_cleaning(stream).map_or(0, |next| next.failures);
    let backoff = tx.limits.clean_backoff.saturating_mul(1 << failures.min(16));
    tx.touch(Touch::CleanFailed(
        stream,
        tx.now + backoff.min(MAX_BACKOFF.max(tx.limits.clean_backoff)),
    ));
    give_back(tx, task);
}

/// Ends a cleaning that has come to its end, or that was interrupted and is to go on soon.
pub fn done(tx: &mut Tx<'_>, task: TaskId, stream: StreamId) {
    let rest = match give_back(tx, task) {
        true => tx.limits.clean_backoff,
        false => tx.limits.clean_interval,
    };
    tx.touch(Touch::Cleaned(stream, tx.now + rest));
}

/// Keeps how far a cleaning has come, if that isn't its end. Answers whether it was so.
fn give_back(tx: &mut Tx<'_>, task: TaskId) -> bool {
    let Some(record) = tx.cleaning(task).map(|record| **record) else {
        return false;
    };
    let has_rest = record.done_to > Offset::ZERO && record.done_to < record.keys_end;
    match has_rest {
        true => tx.put_cleaning(task, CleaningRecord { holder: None, ..record }),
        false => tx.remove(Key::Cleaning(task)),
    }
    has_rest
}

/// Takes a range of a stream off the objects that had it, and shows the cleaned ones in their place.
///
/// # Errors
/// In this order: [`Error::LeaseFenced`]; [`Error::Invalid`] for a request that contradicts itself;
/// [`Error::ObjectExpired`]; [`Error::ObjectReplaced`].
pub fn commit(tx: &mut Tx<'_>, caller: Caller, request: &CommitObjects) -> Result<MetadataVersion> {
    let lease = request.lease;
    let CommitSource::Objects {
        stream,
        range,
        objects: sources,
        keys_end,
    } = &request.source
    else {
        return invalid("a cleaning has objects as its sources".to_owned());
    };
    let (stream, range) = (*stream, *range);
    tasks::check_lease(tx.state, caller, lease)?;
    let record = tx.state.cleaning(lease.task).filter(|record| record.stream == stream);
    let Some(record) = record.filter(|_| tx.state.row(stream).is_some()).map(|record| **record) else {
        return Err(Error::LeaseFenced { task: lease.task });
    };
    if range.is_empty() || record.range.clip(range) != Some(range) || sources.len() > MAX_SOURCES {
        return invalid(format!(
            "{} objects of {range} of stream {stream}, where {} is to be cleaned",
            sources.len(),
            record.range
        ));
    }
    objects::check_objects(tx.state, request)?;
    check_parts(request, stream, range)?;
    if range.start > record.range.start.max(cleaned_to(tx.state, stream)) {
        // What is clean would be no prefix any more.
        let object = sources.first().copied().unwrap_or(ObjectId(0));
        return Err(Error::ObjectReplaced { object });
    }
    let replaced = check_sources(tx.state, stream, range, sources)?;
    let version = tx.version();
    for object in &request.objects {
        let mut committed = objects::committed_object(tx, lease, object, version, &mut BTreeMap::new())?;
        committed.slices = object.streams.iter().map(slice_of).collect();
        tx.put_object(object.object, committed);
    }
    let has_snapshot = request.objects.iter().flat_map(|object| &object.streams);
    let has_snapshot = has_snapshot
        .filter(|part| part.snapshot.is_some())
        .map(|part| part.range.end)
        .max();
    let uploaded = tx.state.uploaded(stream);
    let newest = tx
        .state
        .index()
        .stream(stream)
        .and_then(|slices| slices.snapshot_below(uploaded));
    for id in replaced {
        let Some(record) = tx.object(id).cloned() else { continue };
        let slices = record.slices.iter().filter_map(|slice| outside(slice, stream, range));
        // An opening begins at the newest one, wherever it lies.
        let is_needed = |at: Offset| newest == Some((at, id)) && has_snapshot != Some(at);
        let snapshots = record.snapshots.iter();
        let snapshots = snapshots
            .filter(|kept| kept.stream != stream || kept.at > range.end || is_needed(kept.at))
            .copied();
        let left = ObjectRecord {
            slices: slices.collect(),
            snapshots: snapshots.collect(),
            ..(*record).clone()
        };
        tx.put_object(id, left);
    }
    objects::abandon(tx, request);
    tx.put_cleaning(lease.task, progressed(&record, range.end, *keys_end));
    // It gets on: what it failed of before it has behind it.
    tx.touch(Touch::Cleaned(stream, tx.now));
    tx.touch(Touch::Renewed(lease.task));
    Ok(version)
}

/// What is known of a cleaning once it is committed up to `to`.
fn progressed(record: &CleaningRecord, to: Offset, keys_end: Offset) -> CleaningRecord {
    let keys_end = match record.done_to {
        Offset::ZERO => keys_end.min(record.range.end),
        _ => keys_end.min(record.keys_end),
    };
    CleaningRecord {
        done_to: record.done_to.max(to),
        keys_end,
        ..*record
    }
}

/// The objects have nothing but the stream, and the range whole, in order.
fn check_parts(request: &CommitObjects, stream: StreamId, range: OffsetRange) -> Result<()> {
    let mut at = range.start;
    for CommittedObject { object, streams, .. } in &request.objects {
        let [part] = &streams[..] else {
            return invalid(format!("object {object} has {} streams, not one", streams.len()));
        };
        if part.stream != stream || part.range.start != at || part.range.is_empty() {
            return invalid(format!("object {object} has {} of stream {}", part.range, part.stream));
        }
        at = part.range.end;
    }
    if at != range.end {
        return invalid(format!("the objects end at {at}, the range at {}", range.end));
    }
    Ok(())
}

/// What readers find in the range is what it was when it was read. The objects, each once.
fn check_sources(
    state: &State,
    stream: StreamId,
    range: OffsetRange,
    sources: &[ObjectId],
) -> Result<BTreeSet<ObjectId>> {
    let replaced = |object: Option<&ObjectId>| Error::ObjectReplaced {
        object: object.copied().unwrap_or(ObjectId(0)),
    };
    let slices = state
        .index()
        .stream(stream)
        .into_iter()
        .flat_map(|slices| slices.from(range.start));
    let mut slices = slices.take_while(|slice| slice.range.start < range.end);
    let mut at = range.start;
    for source in sources {
        match slices.next() {
            Some(slice) if slice.object == *source && slice.range.start == at => at = slice.range.end,
            _ => return Err(replaced(Some(source))),
        }
    }
    if slices.next().is_some() || at < range.end {
        return Err(replaced(sources.last()));
    }
    Ok(sources.iter().copied().collect())
}

fn slice_of(part: &tailwater_rpc::controller::CommittedStream) -> ObjectSlice {
    ObjectSlice {
        stream: part.stream,
        range: part.range,
        stable_end: part.stable_end,
        max_timestamp_ms: part.max_timestamp_ms,
        bytes: part.bytes,
        is_cleaned: true,
    }
}

/// What stays of a slice: nothing before the range does, since the range begins where a slice does.
fn outside(slice: &ObjectSlice, stream: StreamId, range: OffsetRange) -> Option<ObjectSlice> {
    if slice.stream != stream || slice.range.clip(range).is_none() {
        return Some(*slice);
    }
    let rest = OffsetRange::new(range.end.min(slice.range.end), slice.range.end);
    let (all, left) = (slice.range.end.0 - slice.range.start.0, rest.end.0 - rest.start.0);
    (!rest.is_empty()).then(|| ObjectSlice {
        range: rest,
        // By their offsets, in 128 bits, since both are up to 63 bits long.
        bytes: (u128::from(slice.bytes) * left.unsigned_abs() as u128 / u128::from(all.unsigned_abs())) as u64,
        ..*slice
    })
}

fn invalid<T>(text: String) -> Result<T> {
    Err(Error::Invalid(text))
}
