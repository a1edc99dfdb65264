//! Reading requests off a socket: a length of four bytes, then that many.
//!
//! Owns: the receive buffer and the permits for it. A request's bytes are copied once, from the kernel into the memory
//! in which its records stay. Small requests share a buffer as they arrive together; a large one has its own, and
//! nothing of the next is read into it, so that a kept batch keeps no more than its own request. An idle connection
//! has no buffer. Does not own: what is in a frame.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use futures::future::BoxFuture;
use tailwater_runtime::{BytePermit, ByteSemaphore, Clock};
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::ReadHalf;

const LENGTH_BYTES: usize = 4;
/// Read at once while the next frame's length isn't known.
const CHUNK_BYTES: usize = 16 << 10;

/// A request's bytes without their length, and the permit to hold them.
#[derive(Debug)]
pub(super) struct Received {
    pub bytes: BytesMut,
    pub permit: BytePermit,
    /// Memory that a kept piece of `bytes` keeps alive.
    pub backing_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a request of {length} bytes, {max_bytes} are allowed")]
    Length { length: i32, max_bytes: usize },
    /// The client closed the connection in the middle of a request.
    #[error("the connection ended within a request")]
    Torn,
    #[error("nothing came of a request's missing {missing_bytes} bytes for {after:?}")]
    Stalled { missing_bytes: usize, after: Duration },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What one connection has received and not handed on.
pub(super) struct FrameReader {
    buffer: BytesMut,
    max_bytes: usize,
    memory: ByteSemaphore,
    clock: Clock,
    /// How long a request that holds memory may bring nothing more.
    stall_timeout: Duration,
    /// For the frame at the front: waits its turn across calls, so that being interrupted doesn't cost it its place.
    waiting: Option<BoxFuture<'static, BytePermit>>,
    permit: Option<BytePermit>,
}

impl FrameReader {
    pub fn new(max_bytes: usize, memory: ByteSemaphore, clock: Clock, stall_timeout: Duration) -> Self {
        Self {
            buffer: BytesMut::new(),
            max_bytes,
            memory,
            clock,
            stall_timeout,
            waiting: None,
            permit: None,
        }
    }

    /// Whether no request has begun to arrive: one that has is the stall timeout's, or waits for memory.
    pub fn is_idle(&self) -> bool {
        self.buffer.len() < LENGTH_BYTES
    }

    /// The next request; `None` at the connection's end. Cancellation-safe.
    pub async fn next(&mut self, socket: &mut ReadHalf<'_>) -> Result<Option<Received>, FrameError> {
        loop {
            if let Some(length) = self.length()? {
                let permit = self.permit(length).await;
                if self.buffer.len() >= LENGTH_BYTES + length {
                    self.buffer.advance(LENGTH_BYTES);
                    let bytes = self.buffer.split_to(length);
                    let backing_bytes = (LENGTH_BYTES + length).max(CHUNK_BYTES);
                    return Ok(Some(Received {
                        bytes,
                        permit,
                        backing_bytes,
                    }));
                }
                self.permit = Some(permit);
                let (clock, after) = (self.clock.clone(), self.stall_timeout);
                let filled = clock.timeout(after, self.fill(socket, LENGTH_BYTES + length)).await;
                match filled {
                    Ok(Ok(true)) => {}
                    Ok(Ok(false)) => return Err(FrameError::Torn),
                    Ok(Err(error)) => return Err(error.into()),
                    // Its client may be gone without a word, and others wait for the memory.
                    Err(_elapsed) => {
                        let missing_bytes = LENGTH_BYTES + length - self.buffer.len();
                        return Err(FrameError::Stalled { missing_bytes, after });
                    }
                }
            } else if !self.fill(socket, LENGTH_BYTES).await? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::Torn)
                };
            }
        }
    }

    /// The length of the frame at the front, once it is here.
    fn length(&self) -> Result<Option<usize>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        match usize::try_from(length) {
            Ok(bytes) if 0 < bytes && bytes <= self.max_bytes => Ok(Some(bytes)),
            _ => Err(FrameError::Length {
                length,
                max_bytes: self.max_bytes,
            }),
        }
    }

    async fn permit(&mut self, length: usize) -> BytePermit {
        if let Some(permit) = self.permit.take() {
            return permit;
        }
        let memory = &self.memory;
        if self.waiting.is_none()
            && let Some(permit) = memory.try_acquire(length as u64)
        {
            return permit;
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            let memory = memory.clone();
            Box::pin(async move { memory.acquire(length as u64).await })
        });
        let permit = waiting.await;
        self.waiting = None;
        permit
    }

    /// Reads something of a frame that has `frame_bytes` with its length, or at least that many; false at the end.
    async fn fill(&mut self, socket: &mut ReadHalf<'_>, frame_bytes: usize) -> io::Result<bool> {
        if self.buffer.is_empty() {
            // Nothing is held while nothing comes.
            self.buffer = BytesMut::new();
            socket.readable().await?;
        }
        let limit = match frame_bytes > CHUNK_BYTES {
            true => frame_bytes - self.buffer.len(),
            false => CHUNK_BYTES,
        };
        if self.buffer.capacity() - self.buffer.len() < limit.min(frame_bytes) {
            self.grow(limit);
        }
        let read = socket.read_buf(&mut (&mut self.buffer).limit(limit)).await?;
        Ok(read > 0)
    }

    /// Moves the little that is here of a frame to where the rest has room, and nothing but it.
    fn grow(&mut self, more_bytes: usize) {
        let mut roomy = BytesMut::with_capacity(self.buffer.len() + more_bytes);
        roomy.extend_from_slice(&self.buffer);
        self.buffer = roomy;
    }
}
