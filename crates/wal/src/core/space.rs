//! Space on the ring: what is used, promised, and kept back.
//!
//! Keeps: `used + queued + granted` never exceeds the ring less what is kept back, so whatever was promised fits. Costs
//! are upper bounds ([`tailwater_format::device::record_cost`]); what was charged too much comes back with the head.

use tailwater_format::device::BLOCK_BYTES;

const MIN_RESERVE_BYTES: u64 = 64 << 10;

/// What a journal record is for, in the order in which the reserve runs out for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Opening,
    Seal,
    /// Frees space, but not before another journal does.
    Trim,
    /// Frees space now, so it may have the last of it.
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    ring_bytes: u64,
    /// Kept for openings, seals and trims.
    reserve: u64,
    /// The durable end and the trim position of the last flushed superblock.
    head: u64,
    trim: u64,
    /// Costs of what was taken and isn't written yet.
    queued: u64,
    /// Costs that writers may send without asking.
    granted: u64,
}

impl Space {
    /// A ring in use from `trim` to `head`.
    pub(crate) fn new(ring_bytes: u64, reserve_percent: u8, (trim, head): (u64, u64)) -> Self {
        let reserve = (ring_bytes / 100 * u64::from(reserve_percent)).max(MIN_RESERVE_BYTES);
        let reserve = reserve.min(ring_bytes / 2).next_multiple_of(BLOCK_BYTES);
        Self {
            ring_bytes,
            reserve,
            head,
            trim,
            queued: 0,
            granted: 0,
        }
    }

    pub(crate) fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    pub(crate) fn trim(&self) -> u64 {
        self.trim
    }

    pub(crate) fn granted(&self) -> u64 {
        self.granted
    }

    /// Bytes that can't be overwritten yet.
    pub(crate) fn used(&self) -> u64 {
        self.head - self.trim
    }

    pub(crate) fn reserve(&self) -> u64 {
        self.reserve
    }

    /// What entries may use at most.
    pub(crate) fn usable(&self) -> u64 {
        self.ring_bytes - self.reserve
    }

    /// What can be promised to entries now.
    pub(crate) fn free(&self) -> u64 {
        self.usable().saturating_sub(self.taken())
    }

    /// Takes `cost` for a journal record, if there is room for this purpose.
    pub(crate) fn take(&mut self, cost: u64, purpose: Purpose) -> bool {
        let kept = match purpose {
            Purpose::Opening => self.reserve / 2,
            Purpose::Seal => self.reserve / 4,
            Purpose::Trim => self.reserve / 8,
            Purpose::Release => 0,
        };
        let fits = self.taken() + cost + kept <= self.ring_bytes;
        if fits {
            self.queued += cost;
        }
        fits
    }

    pub(crate) fn grant(&mut self, bytes: u64) {
        self.granted += bytes;
    }

    /// A grant that isn't used any more.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        self.granted -= bytes;
    }

    /// An entry was sent against a grant.
    pub(crate) fn spend(&mut self, cost: u64) {
        self.granted -= cost;
        self.queued += cost;
    }

    /// What was charged with `cost` in all is durable below `head`.
    pub(crate) fn written(&mut self, cost: u64, head: u64) {
        debug_assert!(
            head - self.head <= cost,
            "{} bytes were charged with {cost}",
            head - self.head
        );
        self.queued -= cost;
        self.head = head;
    }

    pub(crate) fn trimmed(&mut self, trim: u64) {
        self.trim = trim;
    }

    fn taken(&self) -> u64 {
        self.used() + self.queued + self.granted
    }
}
