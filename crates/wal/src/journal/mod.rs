//! One journal on this device, pure: what it accepts, what is durable of it, where it lies, and when it ends.
//!
//! Owns: LSNs, the opening record, node and leader epochs, the seal, the entries' places, the append credit's use.
//! Does not own: space on the ring (`core::Space`), who is told what and when (`core::Core`, `service`).

mod index;
mod replay;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tailwater_format::device::{JournalRecord, Opening, record_cost};
use tailwater_format::entry::Entry;
use tailwater_rpc::wal::{AppendState, JournalStatus, OpenJournal};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::clock::Instant;
use tailwater_types::{JournalId, LeaderEpoch, Lsn, LsnRange, MetadataVersion, SealingEpoch, StreamId};
use tokio::sync::watch;

pub(crate) use index::{IndexedSlice, StreamIndex};
pub(crate) use replay::Replay;

use crate::core::Ticket;
use crate::device::{Extent, Placed};

/// Charged for an entry in memory beside its bytes: headers, chains of shared buffers.
const ENTRY_OVERHEAD_BYTES: u64 = 256;
const SLICE_OVERHEAD_BYTES: u64 = 128;

/// A journal that isn't gone.
pub(crate) struct Journal {
    id: JournalId,
    /// `None` for one that was sealed before it was opened here.
    opening: Option<Opening>,
    min_leader_epochs: BTreeMap<StreamId, LeaderEpoch>,
    /// Below, readers are sent to objects.
    trim: Lsn,
    trim_version: MetadataVersion,
    /// The LSN of the first slot: the trim LSN that is durable here.
    base: Lsn,
    slots: VecDeque<Slot>,
    durable: Lsn,
    commit: Lsn,
    seal: Option<SealingEpoch>,
    gone: bool,
    streams: StreamIndex,
    /// Encoded bytes of durable slots from `trim` on.
    bytes: u64,
    /// All slots from here on are in memory.
    resident_from: Lsn,
    /// The write in which the newest durable journal record begins.
    record_write: Option<u64>,
    /// The newest journal record, which may still be on its way.
    record_ticket: Ticket,
    attached: Option<Attachment>,
}

/// One LSN.
struct Slot {
    crc: u32,
    bytes: u64,
    /// What it is charged with in memory.
    memory_bytes: u64,
    entry: Option<Arc<Entry>>,
    placed: Option<Placed>,
    durable_at: Option<Instant>,
}

/// The one writer that is attached.
pub(crate) struct Attachment {
    pub(crate) id: u64,
    pub(crate) state: watch::Sender<AppendState>,
    /// Costs of what was sent, and of what of that is durable.
    pub(crate) consumed: u64,
    pub(crate) released: u64,
    pub(crate) limit: u64,
}

/// What an append turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    New,
    /// Has been taken before.
    Repeated,
}

/// Where an entry can be read.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Memory(Arc<Entry>),
    Device(Box<[Extent]>),
}

/// Bounds of a group of entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    pub(crate) entries: usize,
    /// Encoded bytes.
    pub(crate) bytes: u64,
}

/// The end of a range of journals whose last is `id`.
pub(crate) fn behind(id: JournalId) -> JournalId {
    JournalId(id.0.saturating_add(1))
}

impl Journal {
    pub(crate) fn opened(request: &OpenJournal, ticket: Ticket) -> Self {
        let opening = Opening {
            node: request.node,
            node_epoch: request.node_epoch,
            ensemble: request.ensemble.clone(),
            ack_quorum: request.ack_quorum,
            min_leader_epochs: request.min_leader_epochs.clone(),
        };
        Self {
            record_ticket: ticket,
            ..Self::new(request.journal, Some(opening))
        }
    }

    /// A journal that was never heard of: it ends at 0.
    pub(crate) fn sealed_unopened(id: JournalId, epoch: SealingEpoch, ticket: Ticket) -> Self {
        Self {
            seal: Some(epoch),
            record_ticket: ticket,
            ..Self::new(id, None)
        }
    }

    /// A journal that is gone and never was here.
    pub(crate) fn gone_unopened(id: JournalId) -> Self {
        Self {
            gone: true,
            ..Self::new(id, None)
        }
    }

    fn new(id: JournalId, opening: Option<Opening>) -> Self {
        let min_leader_epochs = opening
            .iter()
            .flat_map(|opening| opening.min_leader_epochs.iter().copied())
            .collect();
        Self {
            id,
            opening,
            min_leader_epochs,
            trim: Lsn::ZERO,
            trim_version: MetadataVersion::default(),
            base: Lsn::ZERO,
            slots: VecDeque::new(),
            durable: Lsn::ZERO,
            commit: Lsn::ZERO,
            seal: None,
            gone: false,
            streams: StreamIndex::default(),
            bytes: 0,
            resident_from: Lsn::ZERO,
            record_write: None,
            record_ticket: Ticket::NONE,
            attached: None,
        }
    }

    /// The record that describes the journal behind everything taken so far.
    pub(crate) fn record(&self) -> JournalRecord {
        JournalRecord {
            journal: self.id,
            opening: self.opening.clone(),
            trim: self.trim,
            trim_version: self.trim_version,
            commit: self.commit(),
            next: self.next(),
            seal: self.seal,
            gone: self.gone,
        }
    }

    pub(crate) fn record_cost(&self) -> u64 {
        record_cost(self.record().encoded_bytes())
    }

    pub(crate) fn id(&self) -> JournalId {
        self.id
    }

    /// The LSN that the next entry must have.
    pub(crate) fn next(&self) -> Lsn {
        Lsn(self.base.0 + self.slots.len() as u64)
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.durable
    }

    /// The highest commit LSN known. One member's flush is the commit where one is enough.
    pub(crate) fn commit(&self) -> Lsn {
        let alone = self.opening.as_ref().is_none_or(|opening| opening.ack_quorum <= 1);
        if alone {
            self.commit.max(self.durable)
        } else {
            self.commit
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(crate) fn seal_epoch(&self) -> Option<SealingEpoch> {
        self.seal
    }

    pub(crate) fn record_ticket(&self) -> Ticket {
        self.record_ticket
    }

    pub(crate) fn set_record_ticket(&mut self, ticket: Ticket) {
        self.record_ticket = ticket;
    }

    pub(crate) fn attached(&self) -> Option<&Attachment> {
        self.attached.as_ref()
    }

    pub(crate) fn attached_mut(&mut self) -> Option<&mut Attachment> {
        self.attached.as_mut()
    }

    pub(crate) fn attach(&mut self, attachment: Option<Attachment>) -> Option<Attachment> {
        std::mem::replace(&mut self.attached, attachment)
    }

    /// Whether the opening is this journal's own, repeated.
    ///
    /// # Errors
    /// As [`tailwater_rpc::wal::Wal::open_journal`] has them.
    pub(crate) fn check_opening(&self, request: &OpenJournal) -> Result<()> {
        let journal = self.id;
        let Some(opening) = self.opening.as_ref().filter(|_| self.seal.is_none() && !self.gone) else {
            return Err(Error::JournalFenced { journal });
        };
        if request.node_epoch < opening.node_epoch {
            return Err(Error::JournalFenced { journal });
        }
        if request.node_epoch > opening.node_epoch {
            return Err(Error::JournalEpochUnknown { journal });
        }
        let same = request.node == opening.node
            && request.ensemble == opening.ensemble
            && request.ack_quorum == opening.ack_quorum
            && request.min_leader_epochs == opening.min_leader_epochs;
        if !same {
            return Err(Error::Invalid(format!(
                "journal {journal} was opened with another opening record"
            )));
        }
        Ok(())
    }

    /// Whether an entry may be appended now; nothing changes.
    ///
    /// # Errors
    /// As [`tailwater_rpc::wal::AppendSender::send`] has them, but for credit.
    pub(crate) fn check_append(&self, entry: &Entry) -> Result<Admission> {
        let (journal, header) = (self.id, entry.header());
        if header.journal != journal {
            return Err(Error::Invalid(format!(
                "an entry of journal {} sent to journal {journal}",
                header.journal
            )));
        }
        if self.seal.is_some() || self.gone {
            return Err(Error::JournalFenced { journal });
        }
        for slice in &header.slices {
            if self
                .min_leader_epochs
                .get(&slice.stream)
                .is_some_and(|&min| slice.leader_epoch < min)
            {
                return Err(Error::StreamFenced { stream: slice.stream });
            }
        }
        let expected = self.next();
        if header.lsn > expected {
            return Err(Error::LsnGap {
                journal,
                expected,
                found: header.lsn,
            });
        }
        if header.lsn == expected {
            self.streams.check(header)?;
            return Ok(Admission::New);
        }
        // What is trimmed was committed: there is nothing left to compare with.
        match self.slot(header.lsn) {
            Some(slot) if slot.crc != header.crc => Err(Error::Corrupt(format!(
                "journal {journal}: LSN {} was sent with header sum {:#010x} before, now with {:#010x}",
                header.lsn, slot.crc, header.crc
            ))),
            _ => Ok(Admission::Repeated),
        }
    }

    /// Takes an entry that [`Journal::check_append`] found to be new.
    pub(crate) fn accept(&mut self, entry: Arc<Entry>) {
        debug_assert_eq!(entry.lsn(), self.next());
        self.streams.insert(entry.header());
        let bytes = entry.encoded_bytes() as u64;
        let slices = entry.header().slices.len() as u64;
        self.slots.push_back(Slot {
            crc: entry.header().crc,
            bytes,
            memory_bytes: bytes + ENTRY_OVERHEAD_BYTES + slices * SLICE_OVERHEAD_BYTES,
            entry: Some(entry),
            placed: None,
            durable_at: None,
        });
    }

    pub(crate) fn raise_commit(&mut self, commit: Lsn) {
        self.commit = self.commit.max(commit);
    }

    /// The next entry is durable at this place. Answers what it now is charged with in memory.
    pub(crate) fn entry_durable(&mut self, placed: Placed, now: Instant) -> u64 {
        let lsn = self.durable;
        self.durable = lsn.next();
        let slot = self
            .slot_mut(lsn)
            .expect("slots stay until their trim is durable, which is behind them");
        (slot.placed, slot.durable_at) = (Some(placed), Some(now));
        let (bytes, memory_bytes) = (slot.bytes, slot.memory_bytes);
        self.bytes += bytes;
        memory_bytes
    }

    /// A journal record of this journal, with this trim LSN, is durable in this write. Answers the bytes of memory that
    /// the trim gives back.
    pub(crate) fn record_durable(&mut self, trim: Lsn, write: u64) -> u64 {
        self.record_write = Some(write);
        let mut freed = 0;
        while self.base < trim {
            let slot = self.slots.pop_front().expect("trimmed within what is durable");
            if slot.entry.is_some() {
                freed += slot.memory_bytes;
            }
            self.base = self.base.next();
        }
        self.resident_from = self.resident_from.max(self.base);
        self.streams.trim(self.base);
        freed
    }

    /// Raises the sealing epoch; with the first one the journal ends at what has been taken.
    pub(crate) fn seal(&mut self, epoch: SealingEpoch) {
        self.seal = Some(epoch);
    }

    /// Sends readers of what is below `to` to objects from now on.
    pub(crate) fn trim(&mut self, to: Lsn, version: MetadataVersion, gone: bool) {
        let passed = self.trim.0.max(self.base.0)..to.0;
        let freed: u64 = passed
            .filter_map(|lsn| self.slot(Lsn(lsn)))
            .map(|slot| slot.bytes)
            .sum();
        self.bytes -= freed;
        (self.trim, self.trim_version) = (self.trim.max(to), self.trim_version.max(version));
        self.gone |= gone;
    }

    /// The trim LSN, and the metadata version as of which all below is in objects.
    pub(crate) fn trimmed(&self) -> (Lsn, MetadataVersion) {
        (self.trim, self.trim_version)
    }

    /// The lowest write that holds an entry, and the one with the journal record.
    pub(crate) fn oldest_entry_write(&self) -> Option<u64> {
        self.slots
            .front()
            .and_then(|slot| slot.placed.as_ref())
            .map(|placed| placed.write)
    }

    pub(crate) fn record_write(&self) -> Option<u64> {
        self.record_write
    }

    /// Where a durable entry is; `None` at the durable end.
    ///
    /// # Errors
    /// [`Error::Trimmed`].
    pub(crate) fn source(&self, lsn: Lsn) -> Result<Option<Source>> {
        if lsn < self.trim {
            return Err(Error::Trimmed {
                version: self.trim_version,
            });
        }
        if lsn >= self.durable {
            return Ok(None);
        }
        let slot = self.slot(lsn).expect("durable and not trimmed");
        let placed = || {
            slot.placed
                .as_ref()
                .expect("durable entries have a place")
                .extents
                .clone()
        };
        Ok(Some(
            slot.entry
                .clone()
                .map_or_else(|| Source::Device(placed()), Source::Memory),
        ))
    }

    /// Where the first durable entries of `range` are, in order: one at least, and more as long as all of them stay within
    /// `most`. None if the range begins at the durable end.
    ///
    /// # Errors
    /// [`Error::Trimmed`].
    pub(crate) fn sources(&self, range: LsnRange, most: Most) -> Result<Vec<Source>> {
        let (mut lsn, mut bytes, mut found) = (range.start, 0, Vec::new());
        while lsn < range.end && found.len() < most.entries {
            let Some(source) = self.source(lsn)? else { break };
            bytes += self.slot(lsn).map_or(0, |slot| slot.bytes);
            if bytes > most.bytes && !found.is_empty() {
                break;
            }
            found.push(source);
            lsn = lsn.next();
        }
        Ok(found)
    }

    /// Durable slices of a stream, see [`StreamIndex::find`].
    pub(crate) fn streams(&self) -> &StreamIndex {
        &self.streams
    }

    /// When the oldest durable entry in memory became durable.
    pub(crate) fn oldest_resident(&self) -> Option<Instant> {
        self.slot(self.resident_from).and_then(|slot| slot.durable_at)
    }

    /// Gives up the oldest entry in memory; answers what it was charged with.
    pub(crate) fn evict_oldest(&mut self) -> u64 {
        let lsn = self.resident_from;
        self.resident_from = lsn.next();
        let Some(slot) = self.slot_mut(lsn) else { return 0 };
        slot.entry = None;
        slot.memory_bytes
    }

    pub(crate) fn status(&self, now: Instant) -> JournalStatus {
        let oldest = self.slot(self.trim.max(self.base)).and_then(|slot| slot.durable_at);
        JournalStatus {
            journal: self.id,
            trim: self.trim,
            commit: self.commit(),
            durable: self.durable,
            sealed: self.seal.is_some(),
            bytes: self.bytes,
            oldest_age: oldest.map(|at| now.saturating_duration_since(at)),
        }
    }

    fn slot(&self, lsn: Lsn) -> Option<&Slot> {
        let at = lsn.0.checked_sub(self.base.0)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    fn slot_mut(&mut self, lsn: Lsn) -> Option<&mut Slot> {
        let at = lsn.0.checked_sub(self.base.0)?;
        self.slots.get_mut(usize::try_from(at).ok()?)
    }
}
