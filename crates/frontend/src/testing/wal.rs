//! A WAL node in memory that acks, or not, as a test says.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tailwater_format::entry::{Entry, SliceKind};
use tailwater_kafka::batch::{BatchHeader, Batches, HEADER_BYTES};
use tailwater_rpc::wal::{
    AppendSender, AppendState, AppendStream, OpenJournal, ReadJournal, ReadStream, ScannedEntry, ScannedSlice,
    SealJournal, SealedJournal, TrimJournal, Wal, WalDirectory, WalStatus, entry_cost,
};
use tailwater_rpc::{Error, Result, Stream};
use tailwater_types::{DeviceId, JournalId, Kind, Lsn, LsnRange, MetadataVersion, Outcome, StreamId};
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct FakeWal {
    pub device: DeviceId,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    journals: BTreeMap<JournalId, Journal>,
    /// Whether what is sent becomes durable at once.
    acks: bool,
    /// Bytes that may be sent and not yet durable.
    window_bytes: u64,
    /// Whether no more than that may ever be sent.
    is_full: bool,
    /// Whether nobody finds the node.
    away: bool,
}

struct Journal {
    entries: Vec<Entry>,
    durable: usize,
    trim: Lsn,
    trimmed_at: MetadataVersion,
    sealed: bool,
    sent_cost: u64,
    attached: Option<watch::Sender<AppendState>>,
}

impl FakeWal {
    pub fn new() -> Self {
        let inner = Inner {
            journals: BTreeMap::new(),
            acks: true,
            window_bytes: 8 << 20,
            is_full: false,
            away: false,
        };
        Self {
            device: DeviceId::from_random(1),
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// From now on nothing becomes durable, until [`FakeWal::release`].
    pub fn hold(&self) {
        self.inner.lock().acks = false;
    }

    pub fn release(&self) {
        let mut inner = self.inner.lock();
        (inner.acks, inner.is_full) = (true, false);
        inner.ack_all();
    }

    /// From now on there is room for `bytes`, and then for no more, until [`FakeWal::release`].
    pub fn fill_up(&self, bytes: u64) {
        let mut inner = self.inner.lock();
        (inner.window_bytes, inner.is_full) = (bytes, true);
    }

    /// The node takes no opening of that journal, as of one that is gone.
    pub fn forget(&self, journal: JournalId) {
        self.inner.lock().journals.insert(journal, Journal::new(true));
    }

    /// The node goes away: what wasn't durable is lost, attached writers learn of it, nobody finds it.
    pub fn go_away(&self) {
        let mut inner = self.inner.lock();
        inner.away = true;
        for journal in inner.journals.values_mut() {
            journal.entries.truncate(journal.durable);
            journal.fail(Error::Unavailable {
                detail: "gone".to_owned(),
                outcome: Outcome::Unknown,
            });
        }
    }

    pub fn come_back(&self) {
        self.inner.lock().away = false;
    }

    /// Seals the journal at what is durable, and answers its end.
    pub fn seal_now(&self, journal: JournalId) -> Lsn {
        let mut inner = self.inner.lock();
        let journal_id = journal;
        let journal = inner.journals.entry(journal).or_insert_with(|| Journal::new(false));
        journal.sealed = true;
        journal.entries.truncate(journal.durable);
        journal.fail(Error::JournalFenced { journal: journal_id });
        Lsn(journal.durable as u64)
    }

    /// Seals every journal, and whoever writes it learns of that when it writes again.
    pub fn seal_unawares(&self) {
        for journal in self.inner.lock().journals.values_mut() {
            journal.sealed = true;
            journal.entries.truncate(journal.durable);
        }
    }

    /// Seals every journal: what was sent and isn't durable is in them, or is lost. Nobody who has sent it hears of that. From now
    /// on everything becomes durable at once.
    pub fn seal_all(&self, keeps: bool) {
        let mut inner = self.inner.lock();
        inner.acks = true;
        for (id, journal) in &mut inner.journals {
            if keeps {
                journal.durable = journal.entries.len();
            }
            journal.sealed = true;
            journal.entries.truncate(journal.durable);
            journal.fail(Error::JournalFenced { journal: *id });
        }
    }

    /// Entries that were sent, durable or not.
    pub fn sent(&self) -> usize {
        self.inner
            .lock()
            .journals
            .values()
            .map(|journal| journal.entries.len())
            .sum()
    }

    pub fn trim_now(&self, journal: JournalId, to: Lsn, version: MetadataVersion) {
        let mut inner = self.inner.lock();
        let journal = inner.journals.get_mut(&journal).expect("it was opened");
        journal.trim = to;
        journal.trimmed_at = version;
    }

    /// Durable entries of a journal.
    pub fn entries(&self, journal: JournalId) -> Vec<Entry> {
        let inner = self.inner.lock();
        let journal = &inner.journals[&journal];
        journal.entries[..journal.durable].to_vec()
    }

    pub fn journals(&self) -> Vec<JournalId> {
        self.inner.lock().journals.keys().copied().collect()
    }

    fn range(&self, request: &ReadJournal) -> Result<Vec<Entry>> {
        let inner = self.inner.lock();
        let journal = inner.journals.get(&request.journal).ok_or(Error::NotHere)?;
        let LsnRange { start, end } = request.range;
        if start < journal.trim {
            return Err(Error::Trimmed {
                version: journal.trimmed_at,
            });
        }
        let end = (end.0 as usize).min(journal.durable);
        Ok(journal.entries[(start.0 as usize).min(end)..end].to_vec())
    }
}

impl Inner {
    fn ack_all(&mut self) {
        let window = self.window_bytes;
        if !self.acks {
            return;
        }
        for journal in self.journals.values_mut().filter(|journal| !journal.sealed) {
            journal.durable = journal.entries.len();
            let state = AppendState {
                durable: Lsn(journal.durable as u64),
                credit_limit: journal.sent_cost + window,
                failed: None,
            };
            if let Some(attached) = &journal.attached {
                let granted = attached.borrow().credit_limit;
                attached.send_replace(AppendState {
                    credit_limit: if self.is_full { granted } else { state.credit_limit },
                    ..state
                });
            }
        }
    }
}

impl Journal {
    fn new(sealed: bool) -> Self {
        Self {
            entries: Vec::new(),
            durable: 0,
            trim: Lsn::ZERO,
            trimmed_at: MetadataVersion::default(),
            sealed,
            sent_cost: 0,
            attached: None,
        }
    }

    fn fail(&mut self, error: Error) {
        if let Some(attached) = self.attached.take() {
            attached.send_modify(|state| state.failed = Some(error));
        }
    }
}

struct Sender {
    wal: FakeWal,
    journal: JournalId,
}

impl AppendSender for Sender {
    fn max_entry_bytes(&self) -> usize {
        let window = usize::try_from(self.wal.inner.lock().window_bytes).expect("small");
        // A cost is at most two blocks and 1/256 above the bytes.
        window - window / 128 - 2 * 4096
    }

    fn send(&self, entry: Entry, _commit: Lsn) -> Result<()> {
        let mut inner = self.wal.inner.lock();
        let journal = inner.journals.get_mut(&self.journal).expect("it was opened");
        if journal.sealed {
            return Err(Error::JournalFenced { journal: self.journal });
        }
        let Some(attached) = &journal.attached else {
            return Err(Error::Unavailable {
                detail: "gone".to_owned(),
                outcome: Outcome::DidNotHappen,
            });
        };
        let expected = Lsn(journal.entries.len() as u64);
        if entry.lsn() != expected {
            return Err(Error::LsnGap {
                journal: self.journal,
                expected,
                found: entry.lsn(),
            });
        }
        journal.sent_cost += entry_cost(entry.encoded_bytes());
        if journal.sent_cost > attached.borrow().credit_limit {
            return Err(Error::Throttled("beyond the credit".to_owned()));
        }
        // What goes over the wire is bytes: sums and lengths are checked as by a real node.
        let bytes = Bytes::from(entry.chunks().concat());
        let entry = Entry::decode(&bytes).map_err(|error| Error::Corrupt(error.to_string()))?;
        journal.entries.push(entry);
        inner.ack_all();
        Ok(())
    }
}

#[async_trait]
impl Wal for FakeWal {
    async fn open_journal(&self, request: OpenJournal) -> Result<AppendStream> {
        let mut inner = self.inner.lock();
        let window = inner.window_bytes;
        let journal = inner
            .journals
            .entry(request.journal)
            .or_insert_with(|| Journal::new(false));
        if journal.sealed {
            return Err(Error::JournalFenced {
                journal: request.journal,
            });
        }
        journal.sent_cost = 0;
        let (attached, state) = watch::channel(AppendState {
            durable: Lsn(journal.durable as u64),
            credit_limit: window,
            failed: None,
        });
        journal.attached = Some(attached);
        Ok(AppendStream {
            next: Lsn(journal.entries.len() as u64),
            sender: Box::new(Sender {
                wal: self.clone(),
                journal: request.journal,
            }),
            state,
        })
    }

    async fn read_journal(&self, request: ReadJournal) -> Result<Stream<Entry>> {
        let entries = self.range(&request)?;
        Ok(futures::stream::iter(entries).map(Ok).boxed())
    }

    async fn scan_journal(&self, request: ReadJournal) -> Result<Stream<ScannedEntry>> {
        let entries = self.range(&request)?;
        Ok(futures::stream::iter(entries).map(|entry| Ok(scanned(&entry))).boxed())
    }

    async fn read_stream(&self, request: ReadStream) -> Result<Vec<Bytes>> {
        let inner = self.inner.lock();
        let journal = inner.journals.get(&request.journal).ok_or(Error::NotHere)?;
        let mut found = Vec::new();
        let mut left = request.max_bytes;
        let mut trimmed_over = false;
        for (lsn, entry) in journal.entries[..journal.durable].iter().enumerate() {
            for (header, run) in batches_of(entry, request.stream) {
                let holds = header.base_offset <= request.offset && request.offset < header.end_offset();
                let wanted = header.end_offset() > request.offset && header.base_offset < request.end;
                if (lsn as u64) < journal.trim.0 {
                    trimmed_over |= holds;
                } else if wanted && (found.is_empty() || run.len() <= left) {
                    left = left.saturating_sub(run.len());
                    found.push(run);
                } else if wanted {
                    return Ok(found);
                }
            }
        }
        if trimmed_over {
            return Err(Error::Trimmed {
                version: journal.trimmed_at,
            });
        }
        if found.is_empty() {
            Err(Error::NotHere)
        } else {
            Ok(found)
        }
    }

    async fn seal(&self, request: SealJournal) -> Result<SealedJournal> {
        let end = self.seal_now(request.journal);
        Ok(SealedJournal { end, commit: end })
    }

    async fn trim(&self, request: TrimJournal) -> Result<()> {
        self.trim_now(request.journal, request.to, MetadataVersion::default());
        Ok(())
    }

    async fn status(&self) -> Result<WalStatus> {
        Err(Error::Internal("no test asks".to_owned()))
    }
}

impl WalDirectory for FakeWal {
    fn wal(&self, device: DeviceId) -> Option<Arc<dyn Wal>> {
        let here = device == self.device && !self.inner.lock().away;
        here.then(|| Arc::new(self.clone()) as Arc<dyn Wal>)
    }
}

fn batches_of(entry: &Entry, stream: StreamId) -> Vec<(BatchHeader, Bytes)> {
    let slices = entry.slices();
    let records = slices.filter(|(header, _)| header.stream == stream && header.kind == SliceKind::Records);
    let batches = records.flat_map(|(_, run)| Batches::new(run.clone()));
    batches.map(|batch| batch.expect("whole batches")).collect()
}

fn scanned(entry: &Entry) -> ScannedEntry {
    let slices = entry.slices().map(|(header, bytes)| ScannedSlice {
        header: *header,
        parts: match header.kind {
            SliceKind::Snapshot => vec![bytes.clone()],
            SliceKind::Records => Batches::new(bytes.clone())
                .map(|batch| batch.expect("whole batches"))
                .map(|(header, batch)| match header.is_control() {
                    true => batch,
                    false => batch.slice(..HEADER_BYTES),
                })
                .collect(),
        },
    });
    ScannedEntry {
        lsn: entry.lsn(),
        slices: slices.collect(),
    }
}

/// Refuses, as a controller that a test has no use for does.
pub(super) fn unused<T>() -> Result<T> {
    let error = Error::Internal("no test asks".to_owned());
    debug_assert_eq!(error.kind(), Kind::Internal);
    Err(error)
}
