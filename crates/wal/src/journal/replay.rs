//! Builds journals from the records that recovery finds, and checks that nothing is missing.
//!
//! Keeps: entries of a journal are contiguous, none is missing between its trim LSN and its end, none comes behind its
//! seal, and a journal record says exactly where the entries in front of it end.

use std::collections::{BTreeMap, VecDeque};

use tailwater_format::device::JournalRecord;
use tailwater_format::entry::EntryHeader;
use tailwater_runtime::clock::Instant;
use tailwater_types::{JournalId, Lsn};

use super::{Journal, Slot, StreamIndex, behind};
use crate::device::{Placed, Record};

/// Records so far. The ring may begin between a journal's entries, with its record further on.
pub(crate) struct Replay {
    now: Instant,
    journals: BTreeMap<JournalId, Found>,
    gone_end: JournalId,
}

#[derive(Default)]
struct Found {
    /// The newest record and the write it begins in.
    record: Option<(JournalRecord, u64)>,
    /// `[base, next)`, once anything is known.
    base: Lsn,
    next: Option<Lsn>,
    slots: VecDeque<Slot>,
    streams: StreamIndex,
}

impl Replay {
    /// `now` becomes the time at which everything found became durable.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            journals: BTreeMap::new(),
            gone_end: JournalId(0),
        }
    }

    /// # Errors
    /// What is wrong with the log if this record comes here.
    pub(crate) fn visit(&mut self, record: Record, placed: Placed) -> Result<(), String> {
        match record {
            Record::Entry { header, bytes } => {
                let now = self.now;
                self.journals
                    .entry(header.journal)
                    .or_default()
                    .entry(header, bytes, placed, now)
            }
            Record::Journal(record) if record.gone => {
                self.journals.remove(&record.journal);
                self.gone_end = self.gone_end.max(behind(record.journal));
                Ok(())
            }
            Record::Journal(record) => self
                .journals
                .entry(record.journal)
                .or_default()
                .record(record, placed.write),
        }
    }

    /// All journals that the log says are gone are below.
    pub(crate) fn gone_end(&self) -> JournalId {
        self.gone_end
    }

    /// The journals as they are at the end of the log.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn finish(self) -> Result<BTreeMap<JournalId, Journal>, String> {
        let journal = |(id, found): (JournalId, Found)| {
            let next = found.next.unwrap_or_default();
            let Some((record, write)) = found.record else {
                return Err(format!("journal {id} has entries up to LSN {next}, but no opening"));
            };
            // Earlier records may name a trim LSN below what the ring still has; the newest may not.
            if found.base > record.trim {
                let (trim, base) = (record.trim, found.base);
                return Err(format!("journal {id}: entries [{trim}, {base}) are missing"));
            }
            let mut journal = Journal::new(id, record.opening);
            journal.bytes = found.slots.iter().map(|slot| slot.bytes).sum();
            (journal.trim, journal.trim_version) = (record.trim, record.trim_version);
            (journal.base, journal.slots, journal.streams) = (found.base, found.slots, found.streams);
            (journal.durable, journal.resident_from) = (next, next);
            (journal.commit, journal.seal) = (record.commit, record.seal);
            journal.record_write = Some(write);
            Ok((id, journal))
        };
        self.journals.into_iter().map(journal).collect()
    }
}

impl Found {
    fn entry(&mut self, header: EntryHeader, bytes: usize, placed: Placed, now: Instant) -> Result<(), String> {
        let (journal, lsn) = (header.journal, header.lsn);
        if self.record.as_ref().is_some_and(|(record, _)| record.seal.is_some()) {
            return Err(format!("journal {journal}: LSN {lsn} behind its seal"));
        }
        match self.next {
            Some(next) if next != lsn => {
                return Err(format!("journal {journal}: LSN {lsn} where {next} was expected"));
            }
            Some(_) => {}
            None => self.base = lsn,
        }
        self.streams.check(&header).map_err(|error| error.to_string())?;
        self.next = Some(lsn.next());
        self.streams.insert(&header);
        self.slots.push_back(Slot {
            crc: header.crc,
            bytes: bytes as u64,
            memory_bytes: 0,
            entry: None,
            placed: Some(placed),
            durable_at: Some(now),
        });
        Ok(())
    }

    fn record(&mut self, record: JournalRecord, write: u64) -> Result<(), String> {
        let journal = record.journal;
        let next = self.next.unwrap_or(record.next);
        if next != record.next {
            return Err(format!(
                "journal {journal}: entries end at LSN {next}, its record says {}",
                record.next
            ));
        }
        if self.next.is_none() {
            self.base = next;
        }
        if record.trim > next || self.record.as_ref().is_some_and(|(last, _)| last.trim > record.trim) {
            return Err(format!(
                "journal {journal}: a trim LSN of {} is out of order",
                record.trim
            ));
        }
        while self.base < record.trim {
            self.slots.pop_front().expect("one slot for each LSN from base to next");
            self.base = self.base.next();
        }
        self.streams.trim(self.base);
        self.next = Some(next);
        self.record = Some((record, write));
        Ok(())
    }
}
