//! All journals of a device and the queue to its log: admission, completion, credits, what can be trimmed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tailwater_format::device::{JournalRecord, record_cost};
use tailwater_format::entry::Entry;
use tailwater_rpc::wal::{
    AppendState, JournalStatus, OpenJournal, ReadStream, SealJournal, SealedJournal, TrimJournal, entry_cost,
};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::clock::Instant;
use tailwater_types::{JournalId, Lsn, Offset, Outcome};
use tokio::sync::watch;

use super::space::Purpose;
use super::{Space, Ticket};
use crate::device::Placed;
use crate::journal::{Admission, Attachment, IndexedSlice, Journal, Source};

/// Journal records together may take this part of the reserve: so they can always be copied forward.
const RECORDS_ONE_IN: u64 = 4;
/// Old journal records are copied forward once that lets the trim position go on by this part of the ring.
const COPY_GAIN_ONE_IN: u64 = 32;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// What one journal may have sent and not yet durable.
    pub(crate) credit_window_bytes: u64,
    pub(crate) max_entry_bytes: usize,
    pub(crate) memory_bytes: u64,
}

/// State of a WAL node.
pub(crate) struct Core {
    limits: Limits,
    space: Space,
    journals: BTreeMap<JournalId, Journal>,
    queue: VecDeque<Queued>,
    last_ticket: Ticket,
    completed: Ticket,
    attachments: u64,
    /// What entries in memory are charged with.
    memory_bytes: u64,
    /// A journal record became durable: the trim position may be able to move.
    trim_due: bool,
    /// Nothing more is taken.
    ended: Option<Error>,
}

/// Something to be written, in order.
pub(crate) struct Queued {
    pub(crate) work: Work,
    pub(crate) ticket: Ticket,
    cost: u64,
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
    /// A core over what recovery found.
    pub(crate) fn new(limits: Limits, space: Space, journals: BTreeMap<JournalId, Journal>) -> Self {
        Self {
            limits,
            space,
            journals,
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

    pub(crate) fn statuses(&self, now: Instant) -> Vec<JournalStatus> {
        self.journals.values().map(|journal| journal.status(now)).collect()
    }

    /// The largest encoded entry that a journal alone on this device can ever have credit for.
    pub(crate) fn max_entry_bytes(&self) -> usize {
        let (max, share) = (self.limits.max_entry_bytes, self.share(1));
        if entry_cost(max) <= share {
            return max;
        }
        // A cost is at most two blocks and 1/256 above the bytes.
        let room = usize::try_from(share).unwrap_or(usize::MAX);
        room.saturating_sub(room / 128 + 2 * 4096)
    }

    /// Opens a journal or finds it open. It may be attached to once the ticket is durable.
    pub(crate) fn open(&mut self, request: &OpenJournal) -> Result<Ticket> {
        self.check_running()?;
        if let Some(journal) = self.journals.get(&request.journal) {
            journal.check_opening(request)?;
            return Ok(journal.record_ticket());
        }
        let mut journal = Journal::opened(request, Ticket::NONE);
        let records: u64 = self.journals.values().map(Journal::record_cost).sum();
        if records + journal.record_cost() > self.space.reserve() / RECORDS_ONE_IN {
            return Err(Error::Throttled(format!(
                "{} journals are all that fit",
                self.journals.len()
            )));
        }
        let ticket = self.queue_record(&journal, Purpose::Opening)?;
        journal.set_record_ticket(ticket);
        self.journals.insert(request.journal, journal);
        Ok(ticket)
    }

    /// Attaches a writer to an open journal; whoever was attached is detached.
    pub(crate) fn attach(&mut self, request: &OpenJournal) -> Result<Attached> {
        self.check_running()?;
        let Some(journal) = self.journals.get_mut(&request.journal) else {
            return Err(Error::JournalFenced {
                journal: request.journal,
            });
        };
        journal.check_opening(request)?;
        self.attachments += 1;
        let id = self.attachments;
        let first = AppendState {
            durable: journal.durable(),
            credit_limit: 0,
            failed: None,
        };
        let (sender, state) = watch::channel(first);
        let attachment = Attachment {
            id,
            state: sender,
            consumed: 0,
            released: 0,
            limit: 0,
        };
        let next = journal.next();
        if let Some(old) = journal.attach(Some(attachment)) {
            self.space.give_back(old.limit - old.consumed);
            old.fail(replaced(request.journal, Outcome::Unknown));
        }
        self.grant();
        Ok(Attached { id, next, state })
    }

    /// The writer is gone. The journal stays open, and what was taken is carried out.
    pub(crate) fn detach(&mut self, journal: JournalId, attachment: u64) {
        let Some(journal) = self.journals.get_mut(&journal) else {
            return;
        };
        if journal.attached().is_some_and(|attached| attached.id == attachment)
            && let Some(attached) = journal.attach(None)
        {
            self.space.give_back(attached.limit - attached.consumed);
            self.grant();
        }
    }

    /// Takes an entry; see [`tailwater_rpc::wal::AppendSender::send`]. True if there is something new to write.
    pub(crate) fn append(&mut self, id: JournalId, attachment: u64, entry: Entry, commit: Lsn) -> Result<bool> {
        self.check_running()?;
        let max_entry_bytes = self.max_entry_bytes();
        let Some(journal) = self.journals.get_mut(&id) else {
            return Err(Error::JournalFenced { journal: id });
        };
        let admission = journal.check_append(&entry)?;
        let Some(attached) = journal.attached_mut().filter(|attached| attached.id == attachment) else {
            return Err(replaced(id, Outcome::DidNotHappen));
        };
        if entry.encoded_bytes() > max_entry_bytes {
            let bytes = entry.encoded_bytes();
            return Err(Error::Invalid(format!(
                "an entry of {bytes} bytes, at most {max_entry_bytes} fit"
            )));
        }
        let cost = entry_cost(entry.encoded_bytes());
        if attached.consumed + cost > attached.limit {
            return Err(Error::Throttled(format!("journal {id}: no credit for {cost} bytes")));
        }
        attached.consumed += cost;
        if admission == Admission::Repeated {
            // It takes no space again, so its credit comes back at once.
            attached.released += cost;
            self.space.give_back(cost);
            journal.raise_commit(commit);
            self.grant();
            return Ok(false);
        }
        self.space.spend(cost);
        let entry = Arc::new(entry);
        journal.accept(entry.clone());
        journal.raise_commit(commit);
        self.push(Work::Entry { entry, attachment }, cost);
        Ok(true)
    }

    /// Seals a journal behind what has been taken. The seal counts once the ticket is durable.
    pub(crate) fn seal(&mut self, request: &SealJournal) -> Result<Ticket> {
        self.check_running()?;
        let (id, epoch) = (request.journal, request.epoch);
        let Some(journal) = self.journals.get_mut(&id) else {
            let mut journal = Journal::sealed_unopened(id, epoch, Ticket::NONE);
            let ticket = self.queue_record(&journal, Purpose::Seal)?;
            journal.set_record_ticket(ticket);
            self.journals.insert(id, journal);
            return Ok(ticket);
        };
        if journal.seal_epoch().is_some_and(|seen| epoch < seen) {
            return Err(Error::ControllerFenced { journal: id });
        }
        if journal.seal_epoch() == Some(epoch) || journal.is_gone() {
            return Ok(journal.record_ticket());
        }
        let sealed = JournalRecord {
            seal: Some(epoch),
            ..journal.record()
        };
        let cost = record_cost(sealed.encoded_bytes());
        if !self.space.take(cost, Purpose::Seal) {
            return Err(no_space(id));
        }
        journal.seal(epoch);
        if let Some(attached) = journal.attached_mut() {
            let unused = attached.limit - attached.consumed;
            attached.limit = attached.consumed;
            self.space.give_back(unused);
        }
        let ticket = self.push(Work::Record(sealed), cost);
        self.journal_mut(id).set_record_ticket(ticket);
        self.grant();
        Ok(ticket)
    }

    /// What a seal answers; `None` if the journal is gone by now.
    pub(crate) fn sealed(&self, id: JournalId) -> Option<SealedJournal> {
        let journal = self
            .journals
            .get(&id)
            .filter(|journal| journal.seal_epoch().is_some())?;
        Some(SealedJournal {
            end: journal.next(),
            commit: journal.commit(),
        })
    }

    /// Trims a journal; what that frees is freed once the ticket is durable. `None`: there is nothing to do.
    pub(crate) fn trim(&mut self, request: &TrimJournal) -> Result<Option<Ticket>> {
        self.check_running()?;
        let (id, to) = (request.journal, request.to);
        let Some(journal) = self.journals.get_mut(&id) else {
            return Ok(None);
        };
        let (trim, _) = journal.trimmed();
        if journal.is_gone() || (to <= trim && !request.gone) {
            return Ok(Some(journal.record_ticket()));
        }
        if to > journal.durable() {
            let durable = journal.durable();
            return Err(Error::Invalid(format!(
                "journal {id}: trim to {to}, durable are [{trim}, {durable})"
            )));
        }
        if request.gone && journal.seal_epoch().is_none() {
            return Err(Error::Invalid(format!("journal {id} can't be gone: it isn't sealed")));
        }
        let record = JournalRecord {
            trim: trim.max(to),
            trim_version: journal.trimmed().1.max(request.version),
            gone: request.gone,
            ..journal.record()
        };
        let cost = record_cost(record.encoded_bytes());
        if !self.space.take(cost, Purpose::Trim) {
            return Err(no_space(id));
        }
        journal.trim(to, request.version, request.gone);
        let ticket = self.push(Work::Record(record), cost);
        self.journal_mut(id).set_record_ticket(ticket);
        Ok(Some(ticket))
    }

    /// What has been queued, up to `max_bytes` and at least one.
    pub(crate) fn take_group(&mut self, max_bytes: u64) -> Vec<Queued> {
        let mut bytes = 0;
        let fits = |queued: &&Queued| {
            let first = bytes == 0;
            bytes += queued.cost;
            first || bytes <= max_bytes
        };
        let count = self.queue.iter().take_while(fits).count();
        self.queue.drain(..count).collect()
    }

    /// Something is queued, or the trim position may be able to move.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.trim_due
    }

    /// A group is durable, each at its place, and the log ends at `head`. Tells the writers. Answers the last ticket.
    pub(crate) fn complete(&mut self, group: Vec<(Queued, Placed)>, head: u64, now: Instant) -> Ticket {
        let cost = group.iter().map(|(queued, _)| queued.cost).sum();
        self.space.written(cost, head);
        for (queued, placed) in group {
            self.completed = queued.ticket;
            match queued.work {
                Work::Entry { entry, attachment } => {
                    let journal = self.journal_mut(entry.header().journal);
                    let memory_bytes = journal.entry_durable(placed, now);
                    if let Some(attached) = journal.attached_mut().filter(|attached| attached.id == attachment) {
                        attached.released += queued.cost;
                    }
                    self.memory_bytes += memory_bytes;
                }
                Work::Record(record) => self.record_durable(&record, placed.write),
            }
        }
        self.evict();
        self.grant();
        self.completed
    }

    fn record_durable(&mut self, record: &JournalRecord, write: u64) {
        self.trim_due = true;
        let journal = self.journal_mut(record.journal);
        let freed = journal.record_durable(record.trim, write);
        if record.seal.is_some()
            && let Some(attached) = journal.attach(None)
        {
            attached.publish(journal.durable());
            attached.fail(Error::JournalFenced {
                journal: record.journal,
            });
        }
        self.memory_bytes -= freed;
        if record.gone
            && let Some(mut gone) = self.journals.remove(&record.journal)
        {
            while gone.oldest_resident().is_some() {
                self.memory_bytes -= gone.evict_oldest();
            }
        }
    }

    /// Where the trim position can go now that it couldn't before. Copies old journal records forward where that helps;
    /// their completion asks again.
    pub(crate) fn next_trim(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.trim_due) {
            return None;
        }
        let head = self.space.head();
        let entries = self
            .journals
            .values()
            .filter_map(Journal::oldest_entry_write)
            .fold(head, u64::min);
        let all = self
            .journals
            .values()
            .filter_map(Journal::record_write)
            .fold(entries, u64::min);
        if entries - all >= self.space.ring_bytes() / COPY_GAIN_ONE_IN {
            self.copy_records_below(entries);
        }
        (all > self.space.trim()).then_some(all)
    }

    fn copy_records_below(&mut self, position: u64) {
        let completed = self.completed;
        let stale = |journal: &&Journal| {
            journal.record_write().is_some_and(|write| write < position) && journal.record_ticket() <= completed
        };
        let ids: Vec<_> = self.journals.values().filter(stale).map(Journal::id).collect();
        for id in ids {
            let record = self.journal_mut(id).record();
            let cost = record_cost(record.encoded_bytes());
            if self.space.take(cost, Purpose::Trim) {
                let ticket = self.push(Work::Record(record), cost);
                self.journal_mut(id).set_record_ticket(ticket);
            }
        }
    }

    /// A flushed superblock has this trim position.
    pub(crate) fn trimmed(&mut self, trim: u64) {
        self.space.trimmed(trim);
        self.grant();
    }

    /// Takes nothing more. Attached writers learn it with `error` once the queue is empty, or now if nothing that is
    /// queued will ever be durable.
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

    fn readable(&self, id: JournalId) -> Result<&Journal> {
        self.journals.get(&id).ok_or(Error::NotHere)
    }

    fn journal_mut(&mut self, id: JournalId) -> &mut Journal {
        self.journals
            .get_mut(&id)
            .expect("a journal stays until all its records are durable")
    }

    fn check_running(&self) -> Result<()> {
        self.ended.clone().map_or(Ok(()), Err)
    }

    fn queue_record(&mut self, journal: &Journal, purpose: Purpose) -> Result<Ticket> {
        let cost = journal.record_cost();
        if !self.space.take(cost, purpose) {
            return Err(no_space(journal.id()));
        }
        Ok(self.push(Work::Record(journal.record()), cost))
    }

    fn push(&mut self, work: Work, cost: u64) -> Ticket {
        self.last_ticket.0 += 1;
        let ticket = self.last_ticket;
        self.queue.push_back(Queued { work, ticket, cost });
        ticket
    }

    /// What one of `writers` may have granted and in flight: its window, or enough for the largest entry, and no more
    /// than leaves an equal part for each other and one part free.
    fn share(&self, writers: u64) -> u64 {
        let wanted = self
            .limits
            .credit_window_bytes
            .max(entry_cost(self.limits.max_entry_bytes));
        wanted.min(self.space.usable() / (writers + 1))
    }

    /// Hands out what is free, those with the least first, and tells every writer what is new for it.
    fn grant(&mut self) {
        let attached = |journal: &&Journal| journal.attached().is_some();
        let share = self.share(self.journals.values().filter(attached).count() as u64);
        let mut writers: Vec<_> = self
            .journals
            .values_mut()
            .filter(|journal| attached(&&**journal))
            .collect();
        writers.sort_by_key(|journal| journal.attached().map(|attached| attached.limit - attached.consumed));
        for journal in writers {
            let (durable, sealed) = (journal.durable(), journal.seal_epoch().is_some());
            let Some(attached) = journal.attached_mut() else {
                continue;
            };
            let wanted = (attached.released + share).saturating_sub(attached.limit);
            let granted = if sealed { 0 } else { wanted.min(self.space.free()) };
            self.space.grant(granted);
            attached.limit += granted;
            attached.publish(durable);
        }
    }

    /// Gives up the oldest entries in memory until the rest is within the bound.
    fn evict(&mut self) {
        while self.memory_bytes > self.limits.memory_bytes {
            let oldest = |journal: &&mut Journal| journal.oldest_resident();
            let candidates = self
                .journals
                .values_mut()
                .filter(|journal| journal.oldest_resident().is_some());
            let Some(journal) = candidates.min_by_key(oldest) else {
                return;
            };
            self.memory_bytes -= journal.evict_oldest();
        }
    }
}

impl Attachment {
    fn publish(&self, durable: Lsn) {
        self.state.send_if_modified(|state| {
            let changed = state.durable != durable || state.credit_limit != self.limit;
            (state.durable, state.credit_limit) = (durable, self.limit);
            changed
        });
    }

    fn fail(&self, error: Error) {
        self.state.send_modify(|state| state.failed = Some(error));
    }
}

fn replaced(journal: JournalId, outcome: Outcome) -> Error {
    Error::Unavailable {
        detail: format!("journal {journal} was attached to again"),
        outcome,
    }
}

fn no_space(journal: JournalId) -> Error {
    Error::Throttled(format!("journal {journal}: the device has no room for another record"))
}
