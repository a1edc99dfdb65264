//! One pass over one stream: keys, then group by group of its objects.
//!
//! Owns: the order of reads, puts and commits. Does not own: what stays of a batch (`filter`), which objects are written anew
//! (`selection`).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tailwater_format::object::{ObjectWriter, RecordsPiece};
use tailwater_log::PartitionState;
use tailwater_rpc::controller::{
    CommitObjects, CommitSource, CommittedObject, CommittedStream, LeaseRef, ObjectSlice, PrepareObjects, SnapshotAt,
};
use tailwater_types::{ObjectId, Offset, OffsetRange, StreamId};

use super::Cleanings;
use super::filter::{Filter, KeyReader, Times};
use super::keys::NewestOffsets;
use super::read::{SliceReader, below};
use super::selection;
use super::watch::Progress;
use crate::Error;
use crate::error::may_repeat;
use crate::put::put;

/// The most objects of which one commit replaces a part; the controller takes as many (`MAX_SOURCES` there).
const MAX_SOURCES: usize = 32;
/// A group is full with so many bytes of sources.
const GROUP_BYTES: u64 = 64 << 20;
/// Prepared objects of groups that failed that the next commit names; the ones beyond expire by themselves.
const MAX_ABANDONED: usize = 16;

pub(super) struct Pass<'a> {
    on: &'a Cleanings,
    progress: &'a Progress,
    lease: LeaseRef,
    stream: StreamId,
    range: OffsetRange,
    first_dirty: Offset,
    times: Times,
    /// The stream's, exact at its uploaded end.
    state: PartitionState,
    /// Whether the stream has something before the range: it goes on where another pass ended.
    goes_on: bool,
    /// Where the keys end that are known; what is cleaned is cleaned of what they supersede.
    keys_end: Offset,
    abandoned: Vec<ObjectId>,
    read_bytes: u64,
    written_bytes: u64,
}

/// What a pass has done.
pub(super) struct Cleaned {
    pub range: OffsetRange,
    pub keys: usize,
    pub read_bytes: u64,
    pub written_bytes: u64,
}

impl<'a> Pass<'a> {
    /// Reads what the stream's uploads say of its transactions and producers.
    ///
    /// # Errors
    /// What the controller and the store say; not found: the stream is no more.
    pub async fn begin(
        on: &'a Cleanings,
        progress: &'a Progress,
        lease: LeaseRef,
        stream: StreamId,
        (range, first_dirty): (OffsetRange, Offset),
        delete_retention: Duration,
    ) -> Result<Self, Error> {
        let uploads = on.session.controller().objects.stream_uploads(vec![stream]).await?;
        let goes_on = uploads.iter().any(|upload| upload.start < range.start);
        let mut states = on.states.load(uploads).await?;
        let state = states.remove(&stream);
        let state = state.ok_or_else(|| tailwater_rpc::Error::NotFound(format!("stream {stream}")))?;
        let times = Times {
            now_ms: on.session.runtime().clock.wall_ms(),
            delete_retention_ms: i64::try_from(delete_retention.as_millis()).unwrap_or(i64::MAX),
        };
        // Whatever the lease says: what isn't decided is left alone.
        let end = range.end.min(state.last_stable_offset()).max(range.start);
        Ok(Self {
            on,
            progress,
            lease,
            stream,
            range: OffsetRange::new(range.start, end),
            first_dirty: first_dirty.clamp(range.start, end),
            times,
            state,
            goes_on,
            keys_end: end,
            abandoned: Vec::new(),
            read_bytes: 0,
            written_bytes: 0,
        })
    }

    /// Cleans as far as the keys fit.
    ///
    /// # Errors
    /// Whatever keeps a group from being committed; the groups before it stay.
    pub async fn run(&mut self) -> Result<Cleaned, Error> {
        let (keys, end) = self.read_keys().await?;
        if end <= self.first_dirty && self.first_dirty < self.range.end {
            return Err(Error::TooManyKeys {
                stream: self.stream,
                offset: end,
            });
        }
        self.keys_end = end;
        let count = keys.len();
        let zstd = self.on.zstd.clone();
        let mut filter = Filter::new(self.stream, &self.state, Arc::new(keys), zstd, self.times);
        if self.goes_on {
            filter.goes_on();
        }
        if end == self.state.end() {
            // With the commit that brings the snapshot nothing is left of them.
            self.state.trim_aborted(end);
        }
        let (mut at, mut max_sources) = (self.range.start, MAX_SOURCES);
        while at < end {
            let before = filter.position();
            match self
                .clean_group(&mut filter, OffsetRange::new(at, end), max_sources)
                .await
            {
                Ok(next) => at = next,
                // Objects with many streams make large records: fewer of them fit into one atomic change.
                Err(Error::Rpc(tailwater_rpc::Error::Invalid(reason))) if max_sources > 1 => {
                    tracing::debug!(stream = %self.stream, reason, max_sources, "a smaller group is tried");
                    max_sources /= 2;
                    filter.rewind(before);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Cleaned {
            range: OffsetRange::new(self.range.start, end),
            keys: count,
            read_bytes: self.read_bytes,
            written_bytes: self.written_bytes,
        })
    }

    /// The newest offset of each key of the dirty part, and where there was no room for more.
    async fn read_keys(&self) -> Result<(NewestOffsets, Offset), Error> {
        let secret = self.on.session.runtime().random.u128();
        let keys = NewestOffsets::new(self.on.config.clean_keys_bytes.0, secret);
        let mut reader = KeyReader::new(self.stream, &self.state, keys, self.on.zstd.clone());
        let mut at = self.first_dirty;
        while at < self.range.end {
            for slice in self.slices(at, MAX_SOURCES).await? {
                let mut blocks = SliceReader::open(&self.on.storage, self.stream, slice).await?;
                blocks.skip_to(self.first_dirty);
                let visible = below(blocks.slice(), self.range.end);
                let dirty = visible.clip(OffsetRange::new(self.first_dirty, self.range.end));
                let Some(dirty) = dirty else { continue };
                while let Some(run) = blocks.next().await? {
                    let stopped;
                    (reader, stopped) = self
                        .compute(move || {
                            let stopped = reader.read(&run, dirty);
                            (reader, stopped)
                        })
                        .await?;
                    if let Some(end) = stopped? {
                        return Ok((reader.into_keys(), end));
                    }
                }
                at = visible.end;
            }
        }
        Ok((reader.into_keys(), self.range.end))
    }

    /// Objects with something of the range from `at` on, of which the first has that offset.
    async fn slices(&self, at: Offset, count: usize) -> Result<Vec<ObjectSlice>, Error> {
        let objects = &self.on.session.controller().objects;
        let mut slices = objects.find_objects(self.stream, at, count).await?.objects;
        slices.retain(|slice| slice.range.start < self.range.end);
        match slices.first() {
            Some(first) if first.range.contains(at) => Ok(slices),
            // Records were deleted meanwhile, or it was cleaned by another.
            other => Err(tailwater_rpc::Error::ObjectReplaced {
                object: other.map_or(ObjectId(0), |first| first.object),
            }
            .into()),
        }
    }

    /// Rewrites a group from the range's start on, and commits it. Answers where it ends.
    async fn clean_group(
        &mut self,
        filter: &mut Filter,
        range: OffsetRange,
        max_sources: usize,
    ) -> Result<Offset, Error> {
        let (mut sources, mut bytes) = (Vec::new(), 0);
        for slice in self.slices(range.start, max_sources).await? {
            if slice.range.start >= range.end || bytes >= GROUP_BYTES {
                break;
            }
            let source = SliceReader::open(&self.on.storage, self.stream, slice).await?;
            bytes += source.bytes();
            sources.push(source);
        }
        let end_of = |source: &SliceReader| below(source.slice(), range.end).end;
        let end = sources.last().map_or(range.end, end_of);
        let written = self.select(filter, &sources).await?;
        self.on
            .metrics
            .objects
            .with_label_values(&["kept"])
            .inc_by(written.start as u64);
        sources.truncate(written.end);
        sources.drain(..written.start);
        let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
            return Ok(end);
        };
        let end = end_of(last);
        let group = OffsetRange::new(first.slice().range.start, end);
        let replaced: Vec<_> = sources.iter().map(|source| source.slice().object).collect();
        let mut output = Output::new(group.start);
        let mut objects = Vec::new();
        let rewritten = self.rewrite(filter, sources, group, &mut output, &mut objects).await;
        let read = match rewritten {
            Ok(read) => read,
            Err(error) => {
                self.abandon(objects.iter().map(|object| object.object));
                return Err(error);
            }
        };
        let written: u64 = objects
            .iter()
            .flat_map(|object| &object.streams)
            .map(|part| part.bytes)
            .sum();
        let counts = (replaced.len() as u64, objects.len() as u64);
        self.commit(group, replaced, objects).await?;
        let metrics = &self.on.metrics;
        metrics.read_bytes.inc_by(read);
        metrics.written_bytes.inc_by(written);
        metrics.objects.with_label_values(&["replaced"]).inc_by(counts.0);
        metrics.objects.with_label_values(&["written"]).inc_by(counts.1);
        self.read_bytes += read;
        self.written_bytes += written;
        Ok(end)
    }

    /// The sources that are to be written anew; `filter` then stands before them.
    async fn select(&self, filter: &mut Filter, sources: &[SliceReader]) -> Result<Range<usize>, Error> {
        let is_clean = |source: &SliceReader| source.slice().range.end <= self.first_dirty;
        let clean = sources.iter().take_while(|source| is_clean(source)).count();
        let mut positions = vec![filter.position()];
        for source in &sources[..clean] {
            if !self.stays(filter, source.again()).await? {
                break;
            }
            positions.push(filter.position());
        }
        let bytes: Vec<_> = sources.iter().map(SliceReader::bytes).collect();
        let object_bytes = self.on.config.clean_object_bytes.0;
        let written = selection::written(&bytes, clean, positions.len() - 1, object_bytes);
        filter.rewind(positions.swap_remove(written.start));
        Ok(written)
    }

    /// Whether nothing changes of a source.
    async fn stays(&self, filter: &mut Filter, mut source: SliceReader) -> Result<bool, Error> {
        let range = source.slice().range;
        while let Some(run) = source.next().await? {
            let mut taken = filter.take();
            let (back, stays) = self
                .compute(move || {
                    let stays = taken.leaves(&run, range);
                    (taken, stays)
                })
                .await?;
            *filter = back;
            if !stays? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts what stays of the sources into `objects`. Answers how many bytes they had.
    async fn rewrite(
        &self,
        filter: &mut Filter,
        sources: Vec<SliceReader>,
        group: OffsetRange,
        output: &mut Output,
        objects: &mut Vec<CommittedObject>,
    ) -> Result<u64, Error> {
        let mut read = 0;
        for mut source in sources {
            let visible = below(source.slice(), group.end);
            while let Some(run) = source.next().await? {
                read += run.len() as u64;
                let mut taken = filter.take();
                let (back, kept) = self
                    .compute(move || {
                        let kept = taken.clean(&run, visible, group.end);
                        (taken, kept)
                    })
                    .await?;
                *filter = back;
                kept?.into_iter().for_each(|piece| output.push(piece));
                if output.bytes >= self.on.config.clean_object_bytes.0 {
                    self.put(output, group.end, objects).await?;
                }
            }
        }
        if output.bytes > 0 {
            self.put(output, group.end, objects).await?;
        }
        if output.from != group.end {
            return Err(Error::Clean {
                stream: self.stream,
                offset: output.from,
                detail: format!("its objects have no batch that ends at {}", group.end),
            });
        }
        Ok(read)
    }

    /// Puts what was collected as one object. The one that reaches the uploaded end brings the stream's snapshot.
    async fn put(&self, output: &mut Output, end: Offset, objects: &mut Vec<CommittedObject>) -> Result<(), Error> {
        let session = &self.on.session;
        let request = PrepareObjects {
            lease: self.lease,
            count: 1,
        };
        let mut retry = session.backoff();
        let prepared = loop {
            let objects = &session.controller().objects;
            match objects.prepare_objects(session.caller(), request.clone()).await {
                Ok(prepared) => break prepared,
                // Hours of work aren't given up for a controller that is away for a moment. What it has prepared, and
                // nobody has heard of, expires.
                Err(error) if may_repeat(&error) => {
                    tracing::debug!(%error, stream = %self.stream, "preparing an object is repeated");
                    retry.wait().await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let Some(prepared) = prepared.into_iter().next() else {
            return Err(tailwater_rpc::Error::Internal("no object was prepared".to_owned()).into());
        };
        let Output {
            mut writer,
            from,
            to,
            bytes,
            max_timestamp_ms,
        } = std::mem::replace(output, Output::new(output.to));
        let brings_snapshot = to == end && end == self.state.end();
        if brings_snapshot {
            writer.push_snapshot(self.stream, to, &self.state.encode_snapshot());
        }
        let encoded = writer.finish();
        let snapshot = encoded.snapshots.first().map(|place| SnapshotAt {
            object: prepared.object,
            key: prepared.key.clone(),
            position: place.position,
            length: place.length,
            crc: place.crc,
        });
        objects.push(CommittedObject {
            object: prepared.object,
            size_bytes: encoded.size_bytes,
            streams: vec![CommittedStream {
                stream: self.stream,
                range: OffsetRange::new(from, to),
                // Nothing of it is undecided.
                stable_end: to,
                max_timestamp_ms,
                bytes,
                snapshot,
            }],
        });
        let put = put(session, &self.on.storage, prepared.key, encoded.chunks, ()).await;
        self.progress.step();
        put
    }

    /// Commits, as often as it takes to know whether it happened.
    async fn commit(
        &mut self,
        range: OffsetRange,
        sources: Vec<ObjectId>,
        objects: Vec<CommittedObject>,
    ) -> Result<(), Error> {
        let session = &self.on.session;
        let request = CommitObjects {
            lease: self.lease,
            source: CommitSource::Objects {
                stream: self.stream,
                range,
                objects: sources,
                keys_end: self.keys_end,
            },
            objects,
            abandoned: std::mem::take(&mut self.abandoned),
        };
        let mut retry = session.backoff();
        let refused = loop {
            let committed = session
                .controller()
                .objects
                .commit_objects(session.caller(), request.clone())
                .await;
            match committed {
                Ok(_) => {
                    self.progress.step();
                    return Ok(());
                }
                Err(error) if may_repeat(&error) => {
                    tracing::debug!(%error, stream = %self.stream, "commit is repeated");
                    retry.wait().await;
                }
                Err(error) => break error,
            }
        };
        self.abandon(request.abandoned.iter().copied());
        self.abandon(request.objects.iter().map(|object| object.object));
        Err(refused.into())
    }

    fn abandon(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        let room = MAX_ABANDONED.saturating_sub(self.abandoned.len());
        self.abandoned.extend(objects.into_iter().take(room));
    }

    /// Decompressing and compressing hold nobody up.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let tasks = &self.on.session.runtime().tasks;
        let done = tasks.run_blocking("clean", work).await;
        self.progress.step();
        done.map_err(|error| tailwater_rpc::Error::Internal(error.to_string()).into())
    }
}

/// An object in the making.
struct Output {
    writer: ObjectWriter,
    from: Offset,
    /// The end of the last piece.
    to: Offset,
    bytes: u64,
    max_timestamp_ms: i64,
}

impl Output {
    fn new(from: Offset) -> Self {
        Self {
            writer: ObjectWriter::new(),
            from,
            to: from,
            bytes: 0,
            max_timestamp_ms: -1,
        }
    }

    fn push(&mut self, piece: RecordsPiece) {
        self.to = piece.range.end;
        self.bytes += piece.bytes.len() as u64;
        self.max_timestamp_ms = self.max_timestamp_ms.max(piece.max_timestamp_ms);
        self.writer.push(piece);
    }
}
