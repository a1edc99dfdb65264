//! Cuts a run of batches into batches.

use bytes::{Bytes, BytesMut};

use super::{BatchError, BatchHeader};

/// Shared or writable memory whose front can be split off without a copy.
pub trait Piece: AsRef<[u8]> {
    #[must_use]
    fn split_front(&mut self, length: usize) -> Self;
}

impl Piece for Bytes {
    fn split_front(&mut self, length: usize) -> Self {
        self.split_to(length)
    }
}

/// The pieces are disjoint: each can be patched while the others are held elsewhere.
impl Piece for BytesMut {
    fn split_front(&mut self, length: usize) -> Self {
        self.split_to(length)
    }
}

/// The batches of a run, each with its header. Ends after the first error.
#[derive(Debug)]
pub struct Batches<P> {
    rest: Option<P>,
}

impl<P: Piece> Batches<P> {
    pub fn new(run: P) -> Self {
        Self { rest: Some(run) }
    }
}

impl<P: Piece> Iterator for Batches<P> {
    type Item = Result<(BatchHeader, P), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.take()?;
        let available = rest.as_ref().len();
        if available == 0 {
            return None;
        }
        let header = match BatchHeader::read(rest.as_ref()) {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        let needed = header.size();
        if available < needed {
            return Some(Err(BatchError::Truncated { needed, available }));
        }
        let batch = rest.split_front(needed);
        self.rest = Some(rest);
        Some(Ok((header, batch)))
    }
}
