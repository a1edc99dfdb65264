//! Reads records back from the ring, in whole blocks, with read-ahead for whoever goes on.
//!
//! Does not own: checking. What is read may have been overwritten in the meantime; the caller looks at the trim
//! position again first, and at the sums then.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tailwater_format::device::{BLOCK_BYTES, MAX_WRITE_BYTES};
use tailwater_runtime::{BufferPool, Device, DeviceError, Metrics, PooledBuf};

use super::{Extent, Geometry};

/// Buffers kept for reading; more are allocated when more read at once.
const POOLED_BUFFERS: usize = 4;

#[derive(Clone)]
pub(crate) struct LogReader {
    device: Arc<dyn Device>,
    geometry: Geometry,
    buffers: BufferPool,
}

/// Blocks that were read last: what follows is often among them.
#[derive(Default)]
pub(crate) struct ReadAhead {
    held: Option<Held>,
}

struct Held {
    position: u64,
    length: usize,
    buffer: PooledBuf,
}

impl LogReader {
    pub(crate) fn new(device: Arc<dyn Device>, geometry: Geometry, metrics: &Metrics) -> Self {
        let buffers = BufferPool::new("wal_reads", MAX_WRITE_BYTES, POOLED_BUFFERS, metrics);
        Self {
            device,
            geometry,
            buffers,
        }
    }

    /// The bytes that `extents` hold, copied together. Reads on to `ahead_to` as far as one buffer goes; below that
    /// position everything is durable.
    pub(crate) fn read(&self, extents: &[Extent], ahead: &mut ReadAhead, ahead_to: u64) -> Result<Bytes, DeviceError> {
        let total: usize = extents.iter().map(|extent| extent.length as usize).sum();
        let mut out = BytesMut::with_capacity(total);
        for extent in extents {
            let held = match ahead.held.take() {
                Some(held) if held.covers(extent) => held,
                // Its buffer goes back first, so that one reader needs one.
                other => {
                    drop(other);
                    self.fetch(extent, ahead_to)?
                }
            };
            let start = usize::try_from(extent.position - held.position).expect("within the buffer");
            out.extend_from_slice(&held.buffer[start..start + extent.length as usize]);
            ahead.held = Some(held);
        }
        Ok(out.freeze())
    }

    /// The byte of the device that holds `position`, for messages.
    pub(crate) fn byte(&self, position: u64) -> u64 {
        self.geometry.byte(position)
    }

    fn fetch(&self, extent: &Extent, ahead_to: u64) -> Result<Held, DeviceError> {
        let position = extent.position - extent.position % BLOCK_BYTES;
        let needed = (extent.position + u64::from(extent.length)).next_multiple_of(BLOCK_BYTES) - position;
        let mut buffer = self.buffers.take();
        let ahead = ahead_to
            .saturating_sub(position)
            .min(self.geometry.before_wrap(position));
        let length = ahead.min(buffer.len() as u64).max(needed);
        let length = usize::try_from(length).expect("an extent lies within one write");
        self.device
            .read_at(&mut buffer[..length], self.geometry.byte(position))?;
        Ok(Held {
            position,
            length,
            buffer,
        })
    }
}

impl Held {
    fn covers(&self, extent: &Extent) -> bool {
        let end = self.position + self.length as u64;
        self.position <= extent.position && extent.position + u64::from(extent.length) <= end
    }
}
