//! Writes records to the ring: fills writes, keeps the bound on what is in flight, flushes, zeroes ahead.
//!
//! Keeps: never more than the window between `flushed` and `head`; the head never enters space above the durable trim
//! position plus one ring. Does not own: what a failure means (nothing is ever tried again here).

use std::sync::Arc;

use bytes::Bytes;
use tailwater_format::device::{
    BLOCK_BYTES, FRAGMENT_HEADER_BYTES, Fragment, RecordKind, WRITE_HEADER_BYTES, WriteHeader,
};
use tailwater_runtime::{AlignedBuf, Device, DeviceError};
use tailwater_types::{DeviceEpoch, DeviceId};

use super::{Extent, Geometry, Placed};

/// Written zero ahead of the head on the first lap, so that no write converts the file's extents.
const ZEROED_AHEAD_BYTES: u64 = 16 << 20;
const ZEROING_BYTES: usize = 1 << 20;

/// The one writer of a device log. Holds one buffer, of the largest write.
pub(crate) struct LogWriter {
    device: Arc<dyn Device>,
    geometry: Geometry,
    id: DeviceId,
    epoch: DeviceEpoch,
    window_bytes: u64,
    /// Where the write that is being filled begins.
    head: u64,
    flushed: u64,
    /// As in the last flushed superblock.
    trim: u64,
    /// On the first lap: no extent below is unwritten.
    zeroed: u64,
    buffer: AlignedBuf,
    /// Bytes of `buffer` in use: 0 when no write is being filled.
    filled: usize,
}

impl LogWriter {
    /// A writer that goes on at `head`, all before it being durable. `max_write_bytes` is a multiple of the block, from
    /// [`tailwater_format::device::MIN_FULL_WRITE_BYTES`] to [`tailwater_format::device::MAX_WRITE_BYTES`].
    pub(crate) fn new(
        device: Arc<dyn Device>,
        geometry: Geometry,
        (id, epoch): (DeviceId, DeviceEpoch),
        (trim, head): (u64, u64),
        max_write_bytes: usize,
        window_bytes: u64,
    ) -> Self {
        let buffer = AlignedBuf::zeroed(max_write_bytes);
        Self {
            device,
            geometry,
            id,
            epoch,
            window_bytes,
            head,
            flushed: head,
            trim,
            zeroed: head,
            buffer,
            filled: 0,
        }
    }

    /// Takes a record: copies it, and writes what fills up. It is durable after [`LogWriter::flush`].
    ///
    /// # Panics
    /// If the ring has no room for it: space is granted before anything is taken.
    pub(crate) fn append(&mut self, kind: RecordKind, chunks: &[Bytes]) -> Result<Placed, DeviceError> {
        let mut left: usize = chunks.iter().map(Bytes::len).sum();
        let mut source = Chunks { chunks, at: 0 };
        let (mut write, mut extents) = (None, Vec::new());
        loop {
            if self.filled == 0 {
                self.filled = WRITE_HEADER_BYTES;
            }
            let room = self.room() - self.filled;
            if room <= FRAGMENT_HEADER_BYTES {
                self.write_out()?;
                continue;
            }
            let length = left.min(room - FRAGMENT_HEADER_BYTES);
            left -= length;
            let (first, last) = (write.is_none(), left == 0);
            write.get_or_insert(self.head);
            let length_u32 = u32::try_from(length).expect("no longer than a write");
            let fragment = Fragment {
                kind,
                first,
                last,
                length: length_u32,
            };
            let start = self.filled + FRAGMENT_HEADER_BYTES;
            self.buffer[self.filled..start].copy_from_slice(&fragment.encode());
            source.copy_to(&mut self.buffer[start..start + length]);
            extents.push(Extent {
                position: self.head + start as u64,
                length: length_u32,
            });
            self.filled = start + length;
            if last {
                let write = write.expect("set with the first fragment");
                return Ok(Placed {
                    write,
                    extents: extents.into(),
                });
            }
        }
    }

    /// Writes out what was taken and makes it durable.
    pub(crate) fn flush(&mut self) -> Result<(), DeviceError> {
        self.write_out()?;
        self.device.flush()?;
        self.flushed = self.head;
        Ok(())
    }

    /// Where the next write begins; everything below is durable after [`LogWriter::flush`].
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// A flushed superblock has this trim position: space below it may be written again.
    pub(crate) fn set_trim(&mut self, trim: u64) {
        self.trim = trim;
    }

    /// On the first lap, zeroes a way ahead of the head once half of it is used up, and flushes. True if it did.
    pub(crate) fn zero_ahead(&mut self) -> Result<bool, DeviceError> {
        let ring = self.geometry.ring_bytes();
        let zeroed = self.zeroed.max(self.head);
        if zeroed >= ring || zeroed - self.head >= ZEROED_AHEAD_BYTES / 2 {
            return Ok(false);
        }
        let zeroes = AlignedBuf::zeroed(ZEROING_BYTES);
        let end = (self.head + ZEROED_AHEAD_BYTES).min(ring);
        let mut position = zeroed;
        while position < end {
            let step = (end - position).min(zeroes.len() as u64);
            let step_bytes = usize::try_from(step).expect("no longer than the buffer");
            self.device
                .write_at(&zeroes[..step_bytes], self.geometry.byte(position))?;
            position += step;
        }
        self.device.flush()?;
        self.zeroed = end;
        Ok(true)
    }

    /// Bytes that the write being filled can have.
    fn room(&self) -> usize {
        let before_wrap = self.geometry.before_wrap(self.head);
        usize::try_from(before_wrap).map_or(self.buffer.len(), |room| room.min(self.buffer.len()))
    }

    fn write_out(&mut self) -> Result<(), DeviceError> {
        if self.filled == 0 {
            return Ok(());
        }
        let bytes = self.filled.next_multiple_of(BLOCK_BYTES as usize);
        let end = self.head + bytes as u64;
        assert!(
            end - self.trim <= self.geometry.ring_bytes(),
            "the head would enter space that is needed"
        );
        if end - self.flushed > self.window_bytes {
            self.device.flush()?;
            self.flushed = self.head;
        }
        self.buffer[self.filled..bytes].fill(0);
        let payload = self.filled - WRITE_HEADER_BYTES;
        let header = WriteHeader {
            device: self.id,
            epoch: self.epoch,
            position: self.head,
            flushed: self.flushed,
            payload_bytes: u32::try_from(payload).expect("no longer than a write"),
        };
        // Summed here and not combined from the senders' sums: one writer's wrong sum would make the log unreadable for all.
        header.encode_over(&mut self.buffer[..bytes]);
        self.device
            .write_at(&self.buffer[..bytes], self.geometry.byte(self.head))?;
        (self.head, self.filled) = (end, 0);
        Ok(())
    }
}

/// Reads a chain of chunks from its front.
struct Chunks<'a> {
    chunks: &'a [Bytes],
    /// Where the first chunk goes on.
    at: usize,
}

impl Chunks<'_> {
    /// Fills `out`, which is no longer than what is left.
    fn copy_to(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            let rest = &self.chunks[0][self.at..];
            let step = rest.len().min(out.len());
            let (now, later) = out.split_at_mut(step);
            now.copy_from_slice(&rest[..step]);
            out = later;
            self.at += step;
            if self.at == self.chunks[0].len() {
                (self.chunks, self.at) = (&self.chunks[1..], 0);
            }
        }
    }
}
