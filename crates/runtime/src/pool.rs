//! Memory for O_DIRECT: aligned buffers, reused within a bound.
//!
//! Owns: allocation and reuse. When the pool is dry it allocates afresh and counts a miss: slower, never wrong
//! (requirement 3). Does not own: the bound on how much is in flight, which is its user's semaphore or queue.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};

use crate::telemetry::Metrics;

/// What addresses, positions and lengths are multiples of: a page, and the largest logical block in use.
pub const ALIGNMENT_BYTES: usize = 4096;

/// Memory of a fixed size that begins at a multiple of [`ALIGNMENT_BYTES`]. Zero when made, and not zeroed again.
pub struct AlignedBuf {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the buffer owns its memory alone, like a `Box<[u8]>`.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access is read-only through `Deref`.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `bytes` rounded up to the alignment.
    ///
    /// # Panics
    /// If `bytes` is 0 or beyond what an allocation can have.
    pub fn zeroed(bytes: usize) -> Self {
        assert!(bytes > 0, "an empty buffer has no address");
        let layout = Layout::from_size_align(bytes, ALIGNMENT_BYTES).and_then(|layout| {
            let padded = layout.pad_to_align();
            Layout::from_size_align(padded.size(), ALIGNMENT_BYTES)
        });
        let layout = layout.expect("buffer sizes are far below isize::MAX");
        // SAFETY: the layout's size isn't 0.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self { start, layout }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and nobody else frees it.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `layout.size()` initialised bytes, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` excludes any other access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

/// Up to a fixed number of buffers of one size, allocated when first needed and then reused; clones share them.
#[derive(Clone)]
pub struct BufferPool {
    inner: Arc<Inner>,
}

struct Inner {
    buffer_bytes: usize,
    max_buffers: usize,
    free: Mutex<Free>,
    in_use: IntGauge,
    misses: IntCounter,
}

#[derive(Default)]
struct Free {
    buffers: Vec<AlignedBuf>,
    /// Buffers that belong to the pool, free or lent.
    members: usize,
}

impl BufferPool {
    /// `name` becomes the label `pool` of `tailwater_pool_buffers_in_use` and `tailwater_pool_misses_total`.
    pub fn new(name: &str, buffer_bytes: usize, max_buffers: usize, metrics: &Metrics) -> Self {
        let metrics = metrics.labelled("pool", name);
        let inner = Inner {
            buffer_bytes,
            max_buffers,
            free: Mutex::default(),
            in_use: metrics.gauge("tailwater_pool_buffers_in_use", "Buffers taken and not returned"),
            misses: metrics.counter(
                "tailwater_pool_misses_total",
                "Buffers allocated because the pool was dry",
            ),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A buffer with whatever its last user left in it. Never waits and never fails.
    pub fn take(&self) -> PooledBuf {
        let mut free = self.inner.free.lock();
        let reused = free.buffers.pop();
        let member = reused.is_some() || free.members < self.inner.max_buffers;
        free.members += usize::from(member && reused.is_none());
        drop(free);
        self.inner.in_use.inc();
        if !member {
            self.inner.misses.inc();
        }
        let buffer = reused.unwrap_or_else(|| AlignedBuf::zeroed(self.inner.buffer_bytes));
        PooledBuf {
            buffer: Some(buffer),
            member,
            pool: self.inner.clone(),
        }
    }

    /// Size of every buffer, before rounding up to the alignment.
    pub fn buffer_bytes(&self) -> usize {
        self.inner.buffer_bytes
    }

    /// How often the pool was dry.
    pub fn misses(&self) -> u64 {
        self.inner.misses.get()
    }
}

/// A buffer that goes back to its pool when dropped.
pub struct PooledBuf {
    /// `Some` until dropped.
    buffer: Option<AlignedBuf>,
    member: bool,
    pool: Arc<Inner>,
}

impl Deref for PooledBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.as_ref().expect("present until dropped")
    }
}

impl DerefMut for PooledBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().expect("present until dropped")
    }
}

/// Lets `Bytes::from_owner` share the buffer; it returns to the pool with the last clone.
impl AsRef<[u8]> for PooledBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        self.pool.in_use.dec();
        if self.member {
            self.pool.free.lock().buffers.extend(self.buffer.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers are aligned, zero, writable, and rounded up to whole pages.
    #[test]
    fn buffers_are_aligned_and_zero() {
        let mut buffer = AlignedBuf::zeroed(5000);
        assert_eq!(buffer.len(), 8192);
        assert_eq!(buffer.as_ptr().addr() % ALIGNMENT_BYTES, 0);
        assert!(buffer.iter().all(|&byte| byte == 0));
        buffer[8191] = 7;
        assert_eq!(buffer[8191], 7);
    }

    /// A dry pool still gives a buffer and counts a miss; the extra one isn't kept, the pool's own are reused.
    #[test]
    fn a_dry_pool_degrades_and_counts() {
        let pool = BufferPool::new("test", 4096, 2, &Metrics::new());
        let (first, second) = (pool.take(), pool.take());
        assert_eq!(pool.misses(), 0);
        let extra = pool.take();
        assert_eq!(pool.misses(), 1);
        drop((first, second, extra));
        assert_eq!(pool.inner.free.lock().buffers.len(), 2);
        let (_a, _b) = (pool.take(), pool.take());
        assert_eq!(pool.misses(), 1);
        assert_eq!(pool.inner.in_use.get(), 2);
    }
}
