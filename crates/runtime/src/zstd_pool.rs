//! zstd contexts: at most so many in use, waiting instead of making more, a few kept idle (requirement 6).
//!
//! Owns: the contexts and the bound on what decompression may produce (requirement 7). Does not own: which data is
//! compressed, or what a failure means to a client.

use std::io::{self, Read, Write};

use parking_lot::{Condvar, Mutex};
use prometheus::{IntCounter, IntGauge};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

use crate::telemetry::Metrics;

/// The largest window a frame may ask for, as a power of two: zstd's own default limit, which Kafka's broker has too.
const MAX_WINDOW_LOG: u32 = 27;
/// A context that grew beyond this (a frame with a large window) is freed after use instead of kept.
const MAX_IDLE_CONTEXT_BYTES: usize = 4 << 20;
/// The window of what is compressed here, as a power of two, at every level: high ones would take hundreds of MiB.
const WINDOW_LOG: u32 = 21;
/// As [`MAX_IDLE_CONTEXT_BYTES`], of a compression context.
const MAX_IDLE_COMPRESSOR_BYTES: usize = 16 << 20;
/// What is compressed at once.
const CHUNK_BYTES: usize = 64 << 10;
/// The output grows by doubling from here, so that a claim in the frame's header costs nothing.
const FIRST_OUTPUT_BYTES: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZstdError {
    #[error("decompressed size is above the limit of {max_bytes} bytes")]
    TooLarge { max_bytes: usize },
    #[error("zstd data ends within a frame")]
    Truncated,
    #[error("zstd: {0}")]
    Damaged(&'static str),
}

/// Contexts of both kinds. A call blocks its thread while as many as allowed are in use; holders only compute and
/// never wait for anything while they hold one, so a wait is short and can't deadlock.
pub struct ZstdPool {
    state: Mutex<State>,
    freed: Condvar,
    max_in_use: usize,
    max_idle: usize,
    in_use: IntGauge,
    waits: IntCounter,
    made: IntCounter,
}

#[derive(Default)]
struct State {
    idle: Vec<DCtx<'static>>,
    idle_compressors: Vec<CCtx<'static>>,
    in_use: usize,
}

impl ZstdPool {
    /// `max_in_use`: cores, unless configured otherwise.
    ///
    /// # Panics
    /// If `max_in_use` is 0: every call would wait for ever.
    pub fn new(max_in_use: usize, max_idle: usize, metrics: &Metrics) -> Self {
        assert!(max_in_use > 0, "a pool without contexts stops everything");
        Self {
            state: Mutex::default(),
            freed: Condvar::new(),
            max_in_use,
            max_idle,
            in_use: metrics.gauge("tailwater_zstd_contexts_in_use", "zstd contexts in use"),
            waits: metrics.counter("tailwater_zstd_waits_total", "Decompressions that waited for a context"),
            made: metrics.counter("tailwater_zstd_contexts_made_total", "zstd contexts created"),
        }
    }

    /// Decompresses all frames of `compressed`, of at most `max_bytes` together. Memory follows what really comes
    /// out, never what a header claims.
    pub fn decompress(&self, compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, ZstdError> {
        let mut lease = self.acquire();
        decompress(lease.context(), compressed, max_bytes)
    }

    /// Decompresses all frames of `compressed` as they are read, within a window's memory whatever comes out. The reader
    /// holds a context until it is dropped: whoever reads only computes meanwhile. How much may come out is the
    /// reader's to bound.
    ///
    /// # Errors
    /// [`ZstdError::Damaged`] if the context can't be set up; reading fails with a [`ZstdError`] inside.
    pub fn reader<'a>(&'a self, compressed: &'a [u8]) -> Result<ZstdReader<'a>, ZstdError> {
        let mut lease = self.acquire();
        prepare(lease.context())?;
        Ok(ZstdReader {
            lease,
            rest: compressed,
            in_frame: false,
        })
    }

    /// Compresses all that `plain` has into one frame. Counts as one context in use, as a reader does: `plain` must not be
    /// one of this pool's readers, or two callers could wait for each other.
    ///
    /// # Errors
    /// Those of `plain` and `out`; [`ZstdError::Damaged`] inside of one if the context can't be set up.
    pub fn compress(&self, level: i32, plain: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
        let lease = self.acquire();
        let idle = self.state.lock().idle_compressors.pop();
        let mut context = idle.unwrap_or_else(|| {
            self.made.inc();
            CCtx::create()
        });
        let compressed = compress(&mut context, level, plain, out);
        if context.sizeof() <= MAX_IDLE_COMPRESSOR_BYTES {
            let mut state = self.state.lock();
            if state.idle_compressors.len() < self.max_idle {
                state.idle_compressors.push(context);
            }
        }
        drop(lease);
        compressed
    }

    fn acquire(&self) -> Lease<'_> {
        let mut state = self.state.lock();
        if state.in_use >= self.max_in_use {
            self.waits.inc();
            self.freed
                .wait_while(&mut state, |state| state.in_use >= self.max_in_use);
        }
        state.in_use += 1;
        let idle = state.idle.pop();
        drop(state);
        self.in_use.inc();
        Lease {
            pool: self,
            context: idle,
        }
    }
}

/// What [`ZstdPool::reader`] gives.
pub struct ZstdReader<'a> {
    lease: Lease<'a>,
    rest: &'a [u8],
    /// Whether a frame has begun and not ended.
    in_frame: bool,
}

impl Read for ZstdReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while !into.is_empty() && (self.in_frame || !self.rest.is_empty()) {
            let mut input = InBuffer::around(self.rest);
            let mut output = OutBuffer::around(into);
            let hint = self.lease.context().decompress_stream(&mut output, &mut input);
            self.in_frame = hint.map_err(|code| invalid(damaged(code)))? != 0;
            let (read, written) = (input.pos(), output.pos());
            self.rest = &self.rest[read..];
            if written > 0 {
                return Ok(written);
            }
            if self.in_frame && self.rest.is_empty() {
                return Err(invalid(ZstdError::Truncated));
            }
        }
        Ok(0)
    }
}

/// One context in use; goes back when dropped, also by a panic.
struct Lease<'a> {
    pool: &'a ZstdPool,
    context: Option<DCtx<'static>>,
}

impl Lease<'_> {
    fn context(&mut self) -> &mut DCtx<'static> {
        self.context.get_or_insert_with(|| {
            self.pool.made.inc();
            DCtx::create()
        })
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let context = self
            .context
            .take()
            .filter(|context| context.sizeof() <= MAX_IDLE_CONTEXT_BYTES);
        let mut state = self.pool.state.lock();
        state.in_use -= 1;
        if state.idle.len() < self.pool.max_idle {
            state.idle.extend(context);
        }
        drop(state);
        self.pool.in_use.dec();
        self.pool.freed.notify_one();
    }
}

/// Forgets whatever the last user left.
fn prepare(context: &mut DCtx<'static>) -> Result<(), ZstdError> {
    context
        .reset(zstd_safe::ResetDirective::SessionAndParameters)
        .map_err(damaged)?;
    context
        .set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))
        .map_err(damaged)?;
    Ok(())
}

fn damaged(code: usize) -> ZstdError {
    ZstdError::Damaged(zstd_safe::get_error_name(code))
}

fn compress(context: &mut CCtx<'static>, level: i32, plain: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
    let failed = |code| io::Error::other(damaged(code));
    let reset = context.reset(zstd_safe::ResetDirective::SessionAndParameters);
    reset.map_err(failed)?;
    for parameter in [CParameter::CompressionLevel(level), CParameter::WindowLog(WINDOW_LOG)] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut produced = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let length = plain.read(&mut chunk)?;
        let end = match length {
            0 => ZSTD_EndDirective::ZSTD_e_end,
            _ => ZSTD_EndDirective::ZSTD_e_continue,
        };
        let mut input = InBuffer::around(&chunk[..length]);
        loop {
            produced.clear();
            let left = {
                let mut output = OutBuffer::around(&mut produced);
                context.compress_stream2(&mut output, &mut input, end).map_err(failed)?
            };
            out.write_all(&produced)?;
            let is_done = match length {
                0 => left == 0,
                length => input.pos() == length,
            };
            if is_done {
                break;
            }
        }
        if length == 0 {
            return Ok(());
        }
    }
}

fn decompress(context: &mut DCtx<'static>, compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, ZstdError> {
    prepare(context)?;
    let mut output: Vec<u8> = Vec::new();
    let mut input = InBuffer::around(compressed);
    loop {
        if output.len() == output.capacity() {
            // One byte above the limit tells "exactly full" from "too large".
            let wanted = (2 * output.capacity()).max(FIRST_OUTPUT_BYTES);
            let wanted = wanted.min(max_bytes.saturating_add(1));
            output.reserve_exact(wanted - output.len());
        }
        let filled = output.len();
        let hint = {
            let mut out = OutBuffer::around_pos(&mut output, filled);
            context.decompress_stream(&mut out, &mut input).map_err(damaged)?
        };
        if output.len() > max_bytes {
            return Err(ZstdError::TooLarge { max_bytes });
        }
        let input_done = input.pos() == compressed.len();
        if input_done && hint == 0 {
            output.shrink_to_fit();
            return Ok(output);
        }
        // With room left in the output and nothing left to read, the frame's end is missing.
        if input_done && output.len() < output.capacity() {
            return Err(ZstdError::Truncated);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(max_in_use: usize, max_idle: usize) -> ZstdPool {
        ZstdPool::new(max_in_use, max_idle, &Metrics::new())
    }

    fn compressed(plain: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(plain, 3).unwrap()
    }

    /// What was compressed comes back, in one frame and in several, empty, and exactly at the limit.
    #[test]
    fn frames_come_back() {
        let pool = pool(1, 1);
        let plain: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
        let one = compressed(&plain);
        assert_eq!(pool.decompress(&one, plain.len()).unwrap(), plain);
        let two = [one.clone(), one].concat();
        assert_eq!(pool.decompress(&two, 2 * plain.len()).unwrap(), plain.repeat(2));
        assert_eq!(pool.decompress(&compressed(&[]), 0).unwrap(), Vec::<u8>::new());
        assert_eq!(pool.made.get(), 1);
    }

    /// Data that expands beyond the limit, ends early or is no zstd is refused, and the context still works after it.
    #[test]
    fn bad_data_is_refused_within_the_limit() {
        let pool = pool(1, 1);
        let bomb = compressed(&vec![0; 64 << 20]);
        assert_eq!(
            pool.decompress(&bomb, 1 << 20),
            Err(ZstdError::TooLarge { max_bytes: 1 << 20 })
        );
        let good = compressed(b"good");
        assert_eq!(pool.decompress(&good[..good.len() - 1], 100), Err(ZstdError::Truncated));
        assert!(matches!(
            pool.decompress(b"no zstd at all", 100),
            Err(ZstdError::Damaged(_))
        ));
        assert_eq!(pool.decompress(&good, 4).unwrap(), b"good");
    }

    /// A reader gives what the whole would, in pieces of any size, finds what is cut off, and returns its context.
    #[test]
    fn a_reader_gives_it_in_pieces() {
        let pool = pool(1, 1);
        let plain: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
        let both = [compressed(&plain), compressed(&plain)].concat();
        let mut read = Vec::new();
        let mut reader = io::BufReader::with_capacity(1000, pool.reader(&both).unwrap());
        reader.read_to_end(&mut read).unwrap();
        assert!(read == plain.repeat(2));
        drop(reader);
        let mut cut = pool.reader(&both[..both.len() - 1]).unwrap();
        assert!(cut.read_to_end(&mut Vec::new()).is_err());
        drop(cut);
        assert_eq!((pool.in_use.get(), pool.made.get()), (0, 1));
    }

    /// With every context in use a caller waits until one is free instead of making another.
    #[test]
    fn a_full_pool_makes_callers_wait() {
        let pool = pool(1, 1);
        let held = pool.acquire();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.decompress(&compressed(b"x"), 1));
            while pool.waits.get() == 0 {
                std::thread::yield_now();
            }
            assert_eq!(pool.in_use.get(), 1);
            drop(held);
            assert_eq!(waiter.join().unwrap().unwrap(), b"x");
        });
    }

    /// No more than the limit stay idle.
    #[test]
    fn idle_contexts_are_limited() {
        let pool = pool(3, 1);
        let mut leases: Vec<_> = (0..3).map(|_| pool.acquire()).collect();
        for lease in &mut leases {
            lease.context();
        }
        drop(leases);
        assert_eq!(pool.state.lock().idle.len(), 1);
    }
}
