//! A device in memory that can lose power: what was not flushed survives in whatever part a test chooses.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{ALIGNMENT_BYTES, Device, DeviceError, Operation, check};
use crate::random::Random;

/// Clones share the content, like several handles on one disk.
#[derive(Clone)]
pub struct MemoryDevice {
    state: Arc<Mutex<State>>,
    bytes: u64,
}

struct State {
    /// What a power cut leaves for certain.
    durable: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// Not yet flushed, in order.
    pending: Vec<Pending>,
    has_power: bool,
}

struct Pending {
    position: usize,
    bytes: Vec<u8>,
}

impl MemoryDevice {
    /// A device of zeroes, of `bytes` rounded down to the alignment.
    pub fn new(bytes: usize) -> Self {
        Self::with_content(vec![0; bytes - bytes % ALIGNMENT_BYTES])
    }

    fn with_content(content: Vec<u8>) -> Self {
        let bytes = content.len() as u64;
        let state = State {
            durable: content.clone(),
            current: content,
            pending: Vec::new(),
            has_power: true,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            bytes,
        }
    }

    /// Cuts the power: every handle fails from now on, and the result is the disk as it is found afterwards. Of the
    /// writes that weren't flushed each piece of `sector_bytes` survives if `keep(write, sector)` says so, `write` and
    /// `sector` counting from 0 in the order of writing and of position.
    ///
    /// # Panics
    /// If `sector_bytes` is 0.
    #[must_use]
    pub fn power_cut(&self, sector_bytes: usize, mut keep: impl FnMut(usize, usize) -> bool) -> Self {
        let mut state = self.state.lock();
        state.has_power = false;
        let mut content = state.durable.clone();
        for (write, pending) in state.pending.iter().enumerate() {
            for (sector, piece) in pending.bytes.chunks(sector_bytes).enumerate() {
                if keep(write, sector) {
                    let start = pending.position + sector * sector_bytes;
                    content[start..start + piece.len()].copy_from_slice(piece);
                }
            }
        }
        Self::with_content(content)
    }

    /// A power cut that keeps a random part, torn at 512 or at 4096 bytes. A third each of all writes is kept whole,
    /// lost whole, and torn, so that honest leftovers behind a hole occur as well as halves.
    #[must_use]
    pub fn power_cut_at_random(&self, random: &Random) -> Self {
        let sector_bytes = if random.chance(2) { 512 } else { 4096 };
        let mut fates = Vec::new();
        self.power_cut(sector_bytes, |write, _| {
            if fates.len() <= write {
                fates.resize_with(write + 1, || random.range(0..3));
            }
            match fates[write] {
                0 => true,
                1 => false,
                _ => random.chance(2),
            }
        })
    }

    /// Changes content behind the device's back, durably: what a failing medium does.
    ///
    /// # Panics
    /// If the range lies beyond the end.
    pub fn damage(&self, position: usize, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.durable[position..position + bytes.len()].copy_from_slice(bytes);
        state.current[position..position + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes that a power cut now could lose.
    pub fn unflushed_writes(&self) -> usize {
        self.state.lock().pending.len()
    }

    fn with_power<T>(
        &self,
        operation: Operation,
        position: u64,
        run: impl FnOnce(&mut State) -> T,
    ) -> Result<T, DeviceError> {
        let mut state = self.state.lock();
        if state.has_power {
            return Ok(run(&mut state));
        }
        let source = io::Error::other("power cut");
        Err(DeviceError::Io {
            operation,
            device: "memory".to_owned(),
            position,
            source,
        })
    }
}

impl Device for MemoryDevice {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<(), DeviceError> {
        let range = index_range(check(Operation::Read, buffer, position, self.bytes)?);
        self.with_power(Operation::Read, position, |state| {
            buffer.copy_from_slice(&state.current[range])
        })
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<(), DeviceError> {
        let range = index_range(check(Operation::Write, bytes, position, self.bytes)?);
        self.with_power(Operation::Write, position, |state| {
            state.pending.push(Pending {
                position: range.start,
                bytes: bytes.to_vec(),
            });
            state.current[range].copy_from_slice(bytes);
        })
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.with_power(Operation::Flush, 0, |state| {
            for Pending { position, bytes } in state.pending.drain(..) {
                state.durable[position..position + bytes.len()].copy_from_slice(&bytes);
            }
        })
    }
}

fn index_range(range: std::ops::Range<u64>) -> std::ops::Range<usize> {
    let index = |position| usize::try_from(position).expect("checked against a length in memory");
    index(range.start)..index(range.end)
}
