//! Record bytes on their way out: pieces of shared memory that are chained, never copied.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// The record batches of one partition in a fetch response. Each piece holds whole batches.
#[derive(Clone, Default)]
pub struct Records {
    pieces: Vec<Bytes>,
}

impl Records {
    pub const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// All pieces as one; copies where there is more than one.
    pub fn into_bytes(mut self) -> Bytes {
        if self.pieces.len() == 1 {
            return self.pieces.remove(0);
        }
        let mut all = BytesMut::with_capacity(self.len());
        self.pieces.iter().for_each(|piece| all.extend_from_slice(piece));
        all.freeze()
    }
}

impl From<Bytes> for Records {
    fn from(piece: Bytes) -> Self {
        let mut records = Self::new();
        records.push(piece);
        records
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let mut records = Self::new();
        pieces.into_iter().for_each(|piece| records.push(piece));
        records
    }
}

/// Equal bytes are equal, however they are cut into pieces.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.pieces.iter().flatten().eq(other.pieces.iter().flatten())
    }
}

impl Eq for Records {}

/// How much it is, not what.
impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} bytes in {} pieces)", self.len(), self.pieces.len())
    }
}
