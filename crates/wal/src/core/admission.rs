//! What may come in: openings, attachments, appends, seals and trims, each checked before anything changes.

use std::sync::Arc;

use tailwater_format::device::{JournalRecord, record_cost};
use tailwater_format::entry::Entry;
use tailwater_rpc::wal::{AppendState, OpenJournal, SealJournal, SealedJournal, TrimJournal, entry_cost};
use tailwater_rpc::{Error, Result};
use tailwater_types::{JournalId, Lsn, Outcome};
use tokio::sync::watch;

use super::space::Purpose;
use super::{Attached, Core, Queued, Ticket, Work};
use crate::journal::{Admission, Attachment, Journal, behind};

/// Journal records together may take this part of the reserve: so they can always be copied forward.
const RECORDS_ONE_IN: u64 = 4;

impl Core {
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
        if self.is_gone(request.journal) {
            // An opening that was on its way since before the seal: what was acknowledged to it would be lost.
            return Err(Error::JournalFenced {
                journal: request.journal,
            });
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

    /// Seals a journal behind what has been taken. The seal counts once the ticket is durable. One that is gone, and so
    /// can't be opened, needs no record: its answer comes with the ticket.
    pub(crate) fn seal(&mut self, request: &SealJournal) -> Result<(Ticket, Option<SealedJournal>)> {
        self.check_running()?;
        let (id, epoch) = (request.journal, request.epoch);
        if self.is_gone(id) {
            let nothing = SealedJournal {
                end: Lsn::ZERO,
                commit: Lsn::ZERO,
            };
            return Ok((self.gone_ticket, Some(nothing)));
        }
        let Some(journal) = self.journals.get_mut(&id) else {
            let mut journal = Journal::sealed_unopened(id, epoch, Ticket::NONE);
            let ticket = self.queue_record(&journal, Purpose::Seal)?;
            journal.set_record_ticket(ticket);
            self.journals.insert(id, journal);
            return Ok((ticket, None));
        };
        if journal.seal_epoch().is_some_and(|seen| epoch < seen) {
            return Err(Error::ControllerFenced { journal: id });
        }
        if journal.seal_epoch() == Some(epoch) || journal.is_gone() {
            return Ok((journal.record_ticket(), None));
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
        Ok((ticket, None))
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
        let oldest = self.journals.values().filter_map(Journal::oldest_entry_write).min();
        let Some(journal) = self.journals.get_mut(&id) else {
            return if request.gone {
                self.never_open(id).map(Some)
            } else {
                Ok(None)
            };
        };
        let is_oldest = journal.oldest_entry_write().is_some_and(|write| oldest == Some(write));
        let purpose = if is_oldest { Purpose::Release } else { Purpose::Trim };
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
        if !self.space.take(cost, purpose) {
            return Err(no_space(id));
        }
        journal.trim(to, request.version, request.gone);
        let ticket = self.push(Work::Record(record), cost);
        self.journal_mut(id).set_record_ticket(ticket);
        if request.gone {
            self.raise_gone_end(id, ticket);
        }
        Ok(Some(ticket))
    }

    /// A journal that isn't here is gone: an opening that is still on its way comes too late.
    fn never_open(&mut self, id: JournalId) -> Result<Ticket> {
        if !self.is_gone(id) {
            let ticket = self.queue_record(&Journal::gone_unopened(id), Purpose::Trim)?;
            self.raise_gone_end(id, ticket);
        }
        Ok(self.gone_ticket)
    }

    fn raise_gone_end(&mut self, id: JournalId, ticket: Ticket) {
        self.gone_end = self.gone_end.max(behind(id));
        self.gone_ticket = ticket;
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

    pub(super) fn push(&mut self, work: Work, cost: u64) -> Ticket {
        self.last_ticket.0 += 1;
        let ticket = self.last_ticket;
        self.queue.push_back(Queued { work, ticket, cost });
        ticket
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
