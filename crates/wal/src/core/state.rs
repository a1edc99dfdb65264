//! The state: all journals of a device, the queue to its log, the space on its ring; and looking things up in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tailwater_format::device::JournalRecord;
use tailwater_format::entry::Entry;
use tailwater_rpc::wal::{AppendState, JournalStatus, ReadStream};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::clock::Instant;
use tailwater_types::{JournalId, Lsn, LsnRange, Offset};
use tokio::sync::watch;

use super::{Space, Ticket};
use crate::journal::{IndexedSlice, Journal, Most, Source};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What one journal may have sent and not yet durable.
    pub(crate) credit_window_bytes: u64,
    pub(crate) max_entry_bytes: usize,
    pub(crate) memory_bytes: u64,
}

/// State of a WAL node.
pub(crate) struct Core {
    pub(super) limits: Limits,
    pub(super) space: Space,
    pub(super) journals: BTreeMap<JournalId, Journal>,
    /// Of the journals below, those that aren't here are gone: they are never opened again.
    pub(super) gone_end: JournalId,
    /// What raised it last; once that is durable the log, or the superblock behind its trim, says so too.
    pub(super) gone_ticket: Ticket,
    pub(super) queue: VecDeque<Queued>,
    pub(super) last_ticket: Ticket,
    pub(super) completed: Ticket,
    pub(super) attachments: u64,
    /// What entries in memory are charged with.
    pub(super) memory_bytes: u64,
    /// A journal record became durable: the trim position may be able to move.
    pub(super) trim_due: bool,
    /// Nothing more is taken.
    pub(super) ended: Option<Error>,
}

/// Something to be written, in order.
pub(crate) struct Queued {
    pub(crate) work: Work,
    pub(crate) ticket: Ticket,
    pub(super) cost: u64,
}

pub(crate) enum Work {
    Entry { entry: Arc<Entry>, attachment: u64 },
    Record(JournalRecord),
}

/// A writer's side of an attachment.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) id: u64,
    pub(crate) next: Lsn,
    pub(crate) state: watch::Receiver<AppendState>,
}

/// A slice that a read needs.
pub(crate) struct FoundSlice {
    pub(crate) slice: IndexedSlice,
    pub(crate) source: Source,
}

impl Core {
    /// A core over what recovery found: the journals that there are, and below which end all others are gone.
    pub(crate) fn new(
        limits: Limits,
        space: Space,
        journals: BTreeMap<JournalId, Journal>,
        gone_end: JournalId,
    ) -> Self {
        Self {
            limits,
            space,
            journals,
            gone_end,
            gone_ticket: Ticket::NONE,
            queue: VecDeque::new(),
            last_ticket: Ticket::NONE,
            completed: Ticket::NONE,
            attachments: 0,
            memory_bytes: 0,
            trim_due: true,
            ended: None,
        }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(crate) fn journals(&self) -> usize {
        self.journals.len()
    }

    /// What the superblock must say before the trim position passes what the log says of gone journals.
    pub(crate) fn gone_end(&self) -> JournalId {
        self.gone_end
    }

    pub(crate) fn statuses(&self, now: Instant) -> Vec<JournalStatus> {
        self.journals.values().map(|journal| journal.status(now)).collect()
    }

    /// Takes nothing more: every call answers with `error`. What is queued stays queued.
    pub(crate) fn end(&mut self, error: Error) {
        self.ended.get_or_insert(error);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Tells all writers that nothing more becomes durable.
    pub(crate) fn fail_attached(&mut self, error: &Error) {
        for journal in self.journals.values_mut() {
            if let Some(attached) = journal.attach(None) {
                self.space.give_back(attached.limit - attached.consumed);
                attached.fail(error.clone());
            }
        }
    }

    /// # Errors
    /// [`Error::NotHere`], [`Error::Trimmed`].
    pub(crate) fn source(&self, id: JournalId, lsn: Lsn) -> Result<Option<Source>> {
        self.readable(id)?.source(lsn)
    }

    /// Where the first durable entries of a range are, see [`Journal::sources`].
    ///
    /// # Errors
    /// [`Error::NotHere`], [`Error::Trimmed`].
    pub(crate) fn sources(&self, id: JournalId, range: LsnRange, most: Most) -> Result<Vec<Source>> {
        self.readable(id)?.sources(range, most)
    }

    /// Up to where everything is durable: what read-ahead may read.
    pub(crate) fn durable_end(&self) -> u64 {
        self.space.head()
    }

    /// # Errors
    /// As [`tailwater_rpc::wal::Wal::read_stream`] has them.
    pub(crate) fn find(&self, request: &ReadStream) -> Result<Vec<FoundSlice>> {
        let journal = self.readable(request.journal)?;
        let range = (request.offset, request.end);
        let slices = journal
            .streams()
            .find(request.stream, range, journal.durable(), request.max_bytes);
        let (trim, version) = journal.trimmed();
        if slices.first().is_none_or(|slice| slice.lsn < trim) {
            let before = |start: Offset| request.offset < start;
            let start = journal.streams().start(request.stream);
            let trimmed = trim > Lsn::ZERO && (start.is_none_or(before) || !slices.is_empty());
            return Err(if trimmed {
                Error::Trimmed { version }
            } else {
                Error::NotHere
            });
        }
        let found = |slice: IndexedSlice| {
            let source = journal.source(slice.lsn)?.expect("found among the durable");
            Ok(FoundSlice { slice, source })
        };
        slices.into_iter().map(found).collect()
    }

    /// Whether the journal was here, or could have been, and is no more.
    pub(super) fn is_gone(&self, id: JournalId) -> bool {
        id < self.gone_end && !self.journals.contains_key(&id)
    }

    fn readable(&self, id: JournalId) -> Result<&Journal> {
        self.journals.get(&id).ok_or(Error::NotHere)
    }

    pub(super) fn journal_mut(&mut self, id: JournalId) -> &mut Journal {
        self.journals
            .get_mut(&id)
            .expect("a journal stays until all its records are durable")
    }
}
