//! What goes out: groups to write, acks, credits, the trim position, what memory gives up.

use tailwater_format::device::{JournalRecord, record_cost};
use tailwater_rpc::Error;
use tailwater_rpc::wal::entry_cost;
use tailwater_runtime::clock::Instant;
use tailwater_types::Lsn;

use super::space::Purpose;
use super::{Core, Queued, Ticket, Work};
use crate::device::Placed;
use crate::journal::{Attachment, Journal};

/// Old journal records are copied forward once that lets the trim position go on by this part of the ring.
const COPY_GAIN_ONE_IN: u64 = 32;

impl Core {
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
        if record.gone && !self.journals.contains_key(&record.journal) {
            return;
        }
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
            if self.space.take(cost, Purpose::Release) {
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

    /// What one of `writers` may have granted and in flight: its window, or enough for the largest entry, and no more
    /// than leaves an equal part for each other and one part free.
    pub(super) fn share(&self, writers: u64) -> u64 {
        let wanted = self
            .limits
            .credit_window_bytes
            .max(entry_cost(self.limits.max_entry_bytes));
        wanted.min(self.space.usable() / (writers + 1))
    }

    /// Hands out what is free, those with the least first, and tells every writer what is new for it.
    pub(super) fn grant(&mut self) {
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
    pub(super) fn publish(&self, durable: Lsn) {
        self.state.send_if_modified(|state| {
            let changed = state.durable != durable || state.credit_limit != self.limit;
            (state.durable, state.credit_limit) = (durable, self.limit);
            changed
        });
    }

    pub(super) fn fail(&self, error: Error) {
        self.state.send_modify(|state| state.failed = Some(error));
    }
}
