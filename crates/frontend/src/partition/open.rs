//! Opening streams at their new leader (docs/design.md section 3, "Opening a stream").
//!
//! Owns: one batch of openings: what the controller says of all of them at once, their snapshots, one scan of each journal
//! for all streams that may have something in it. Does not own: when to try again (`registry`). Nothing is served of a
//! stream until its end has been reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use tailwater_format::entry::SliceKind;
use tailwater_log::{LogError, PartitionState, Pass, Scanner};
use tailwater_rpc::Error;
use tailwater_rpc::controller::{ClosedAt, OpenStream, OpenedStream, PartitionInfo, SnapshotAt, StreamTail};
use tailwater_rpc::wal::{ReadJournal, ScannedEntry, ScannedSlice, WalDirectory};
use tailwater_types::{JournalId, Outcome, StreamId};

use super::source::Segment;
use super::timestamps::TimeIndex;
use super::{Opening, Partition, Services};
use crate::journal::Journal;
use crate::session::Session;

/// A partition that is to be opened.
#[derive(Clone, Debug)]
pub(super) struct Assigned {
    pub info: PartitionInfo,
    pub topic_name: Arc<str>,
}

/// Why a partition could not be opened. Each concerns that one only.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Port(#[from] Error),
    #[error(transparent)]
    Store(#[from] tailwater_store::StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "the leadership of epoch {} ended at {}, but what follows it begins at {found}: records are missing or too many",
        closed.leader_epoch, closed.end
    )]
    WrongEnd {
        closed: ClosedAt,
        found: tailwater_types::Offset,
    },
    #[error("snapshot is exact at {found}, the stream is uploaded to {uploaded}")]
    Snapshot {
        found: tailwater_types::Offset,
        uploaded: tailwater_types::Offset,
    },
}

/// One stream's opening while journals are scanned.
struct Scan {
    assigned: Assigned,
    scanner: Option<Scanner>,
    tails: Vec<StreamTail>,
    /// Where a leadership ended, if any that is still known of did in order.
    closed: Option<ClosedAt>,
    segments: Vec<Segment>,
    times: TimeIndex,
    scanned_bytes: usize,
    /// The first thing that went wrong.
    failed: Option<OpenError>,
    opened: Option<PartitionState>,
}

/// Opens all of them over `journal`; the answers come in the order of `assigned`.
pub(super) async fn open(
    assigned: Vec<Assigned>,
    journal: &Arc<Journal>,
    services: &Arc<Services>,
    session: &Session,
) -> Vec<Result<Partition, OpenError>> {
    let requests = assigned.iter().map(|assigned| OpenStream {
        stream: assigned.info.stream,
        leader_epoch: assigned.info.leader_epoch,
    });
    let answers = session
        .controller()
        .journals
        .open_streams(session.caller(), requests.collect())
        .await;
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => {
            session.judge(&error);
            return assigned.iter().map(|_| Err(error.clone().into())).collect();
        }
    };
    let mut scans = Vec::with_capacity(assigned.len());
    for (assigned, answer) in assigned.into_iter().zip(answers) {
        scans.push(begin(assigned, answer, services).await);
    }
    // A stream that came back to an old leader has its tail in journals by turns: docs of `Scanner`.
    while scans.iter().any(Scan::is_open) {
        scan_pass(&mut scans, services).await;
        scans.iter_mut().for_each(Scan::finish_pass);
    }
    let finish = |scan: Scan| scan.finish(journal.clone(), services.clone());
    scans.into_iter().map(finish).collect()
}

/// Restores the state at the uploaded end.
async fn begin(assigned: Assigned, answer: Result<OpenedStream, Error>, services: &Services) -> Scan {
    let mut scan = Scan {
        assigned,
        scanner: None,
        tails: Vec::new(),
        closed: None,
        segments: Vec::new(),
        times: TimeIndex::default(),
        scanned_bytes: 0,
        failed: None,
        opened: None,
    };
    let restored = match answer {
        Ok(opened) => {
            scan.tails = opened.tails.clone();
            scan.closed = opened.closed.filter(|closed| closed.end >= opened.start);
            restore(&opened, services).await
        }
        Err(error) => Err(error.into()),
    };
    match restored {
        Ok(state) => scan.scanner = Some(Scanner::new(state)),
        Err(error) => scan.failed = Some(error),
    }
    scan
}

async fn restore(opened: &OpenedStream, services: &Services) -> Result<PartitionState, OpenError> {
    let Some(snapshot) = &opened.snapshot else {
        return Ok(PartitionState::empty(opened.uploaded));
    };
    let SnapshotAt {
        key,
        position,
        length,
        crc,
        ..
    } = snapshot;
    let range = *position..position + u64::from(*length);
    let bytes = services.reader.checked_range(key, range, *crc).await?;
    let mut state = PartitionState::decode_snapshot(&bytes)?;
    if state.end() == opened.uploaded {
        state.trim_aborted(opened.start);
        return Ok(state);
    }
    Err(OpenError::Snapshot {
        found: state.end(),
        uploaded: opened.uploaded,
    })
}

/// Scans every journal that a stream still needs, once, for all streams together.
async fn scan_pass(scans: &mut [Scan], services: &Services) {
    let mut journals: BTreeMap<JournalId, StreamTail> = BTreeMap::new();
    let mut by_stream = BTreeMap::new();
    for (at, scan) in scans.iter().enumerate().filter(|(_, scan)| scan.is_open()) {
        by_stream.insert(scan.assigned.info.stream, at);
        for tail in &scan.tails {
            let range = &mut journals.entry(tail.journal).or_insert_with(|| tail.clone()).range;
            range.start = range.start.min(tail.range.start);
            range.end = range.end.max(tail.range.end);
        }
    }
    // Journal ids ascend as journals are opened.
    for tail in journals.into_values().filter(|tail| !tail.range.is_empty()) {
        let scanned = scan_journal(&tail, scans, &by_stream, services).await;
        if let Err(error) = scanned {
            let concerned = |scan: &&mut Scan| scan.is_open() && scan.needs(tail.journal);
            for scan in scans.iter_mut().filter(concerned) {
                scan.failed = Some(error.clone().into());
            }
        }
    }
}

async fn scan_journal(
    tail: &StreamTail,
    scans: &mut [Scan],
    by_stream: &BTreeMap<StreamId, usize>,
    services: &Services,
) -> Result<(), Error> {
    let mut entries = first_answer(tail, &*services.wals).await?;
    let mut next = tail.range.start;
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        next = entry.lsn.next();
        feed(&entry, tail, scans, by_stream, services.clock.wall_ms());
    }
    if next < tail.range.end {
        let detail = format!(
            "journal {} was scanned to LSN {next}, its tail ends at {}",
            tail.journal, tail.range.end
        );
        return Err(Error::Unavailable {
            detail,
            outcome: Outcome::DidNotHappen,
        });
    }
    Ok(())
}

/// The scan of the first member that has the journal.
async fn first_answer(
    tail: &StreamTail,
    wals: &dyn WalDirectory,
) -> Result<tailwater_rpc::Stream<ScannedEntry>, Error> {
    let mut failed = Error::Unavailable {
        detail: format!("no member of journal {} is reachable", tail.journal),
        outcome: Outcome::DidNotHappen,
    };
    for device in &tail.ensemble {
        let Some(wal) = wals.wal(*device) else { continue };
        let request = ReadJournal {
            journal: tail.journal,
            device: *device,
            range: tail.range,
        };
        match wal.scan_journal(request).await {
            Ok(entries) => return Ok(entries),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn feed(
    entry: &ScannedEntry,
    tail: &StreamTail,
    scans: &mut [Scan],
    by_stream: &BTreeMap<StreamId, usize>,
    now_ms: i64,
) {
    for slice in &entry.slices {
        if let Some(at) = by_stream.get(&slice.header.stream) {
            scans[*at].feed(slice, tail, now_ms);
        }
    }
}

impl Scan {
    /// Whether there is more to be found out.
    fn is_open(&self) -> bool {
        self.failed.is_none() && self.opened.is_none()
    }

    fn needs(&self, journal: JournalId) -> bool {
        self.tails.iter().any(|tail| tail.journal == journal)
    }

    /// Takes the records of a slice. Snapshots in journals are for uploads: everything behind the uploaded end is here to be
    /// replayed, and only what was replayed says which journal has which offsets.
    fn feed(&mut self, slice: &ScannedSlice, tail: &StreamTail, now_ms: i64) {
        if slice.header.kind == SliceKind::Snapshot {
            return;
        }
        let Some(scanner) = self.scanner.as_mut().filter(|_| self.failed.is_none()) else {
            return;
        };
        let before = scanner.end();
        if let Err(error) = scanner.feed(&slice.header, &slice.parts, now_ms) {
            self.failed = Some(error.into());
            return;
        }
        let after = scanner.end();
        if after == before {
            return;
        }
        let bytes = slice.header.length as usize;
        self.scanned_bytes += bytes;
        self.times.push(before, bytes, slice.header.max_timestamp_ms, before);
        match self.segments.last_mut() {
            Some(last) if last.journal == tail.journal => last.end = after,
            _ => self.segments.push(Segment {
                journal: tail.journal,
                ensemble: tail.ensemble.clone(),
                start: before,
                end: after,
            }),
        }
    }

    fn finish_pass(&mut self) {
        if !self.is_open() {
            return;
        }
        match self.scanner.take().map(Scanner::finish_pass) {
            Some(Ok(Pass::Complete(state))) => self.opened = Some(state),
            Some(Ok(Pass::Again(scanner))) => self.scanner = Some(scanner),
            Some(Err(error)) => self.failed = Some(error.into()),
            None => unreachable!("an open scan has a scanner"),
        }
    }

    fn finish(self, journal: Arc<Journal>, services: Arc<Services>) -> Result<Partition, OpenError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let log = self.opened.expect("a scan that didn't fail has ended");
        check_end(&log, self.closed)?;
        let info = self.assigned.info;
        let opening = Opening {
            topic: info.topic,
            topic_name: self.assigned.topic_name,
            index: info.index,
            stream: info.stream,
            leader_epoch: info.leader_epoch,
            log,
            segments: self.segments,
            times: self.times,
            since_snapshot_bytes: self.scanned_bytes,
        };
        Ok(Partition::new(opening, journal, services))
    }
}

/// What a leadership that was closed has, and what later ones have added, must be there to the offset.
fn check_end(log: &PartitionState, closed: Option<ClosedAt>) -> Result<(), OpenError> {
    let Some(closed) = closed else { return Ok(()) };
    let mut later = log
        .leader_epochs()
        .iter()
        .filter(|start| start.epoch > closed.leader_epoch);
    let found = later.next().map_or(log.end(), |start| start.start);
    if found == closed.end {
        return Ok(());
    }
    Err(OpenError::WrongEnd { closed, found })
}
