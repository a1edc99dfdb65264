//! Collects an encoded message: what is small is copied, record bytes are chained.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Version;
use crate::{CodecError, Frame};

/// An encoded message so far.
///
/// Everything but record bytes stands in one buffer, so that any of it can still be patched; shared pieces are remembered
/// with the position at which they belong.
#[derive(Debug, Default)]
pub struct Writer {
    owned: BytesMut,
    spliced: Vec<(usize, Bytes)>,
    spliced_bytes: usize,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            owned: BytesMut::with_capacity(bytes),
            ..Self::default()
        }
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.owned.put_slice(bytes);
    }

    /// Chains `piece` without copying it.
    pub fn splice(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.spliced_bytes += piece.len();
            self.spliced.push((self.owned.len(), piece));
        }
    }

    /// An unsigned variable-length integer.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.owned.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.owned.put_u8(value as u8);
    }

    /// A length in front of text: 16 bits, or compact. `None` is null.
    pub(super) fn text_length(&mut self, length: Option<usize>, version: Version) -> Result<(), CodecError> {
        if version.flexible {
            return self.count(length, version);
        }
        match length {
            None => self.put(&(-1i16).to_be_bytes()),
            Some(n) => self.put(&i16::try_from(n).map_err(|_| CodecError::TooLong(n))?.to_be_bytes()),
        }
        Ok(())
    }

    /// A length in front of bytes, or a count of elements: 32 bits, or compact. `None` is null.
    pub(super) fn count(&mut self, count: Option<usize>, version: Version) -> Result<(), CodecError> {
        let count = match count {
            None => -1,
            Some(n) => i32::try_from(n).map_err(|_| CodecError::TooLong(n))?,
        };
        match version.flexible {
            true => self.uvarint((count + 1).cast_unsigned()),
            false => self.put(&count.to_be_bytes()),
        }
        Ok(())
    }

    /// One tagged field: its tag, its size, and what `write` writes. Record bytes don't stand in tagged fields.
    pub(crate) fn tagged_field(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        self.uvarint(tag);
        let start = self.owned.len();
        write(self)?;
        let size = self.owned.len() - start;
        self.uvarint(u32::try_from(size).map_err(|_| CodecError::TooLong(size))?);
        let size_bytes = self.owned.len() - start - size;
        self.owned[start..].rotate_right(size_bytes);
        Ok(())
    }

    /// Everything as one frame, with its length (4 bytes, big-endian) in front.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] from 2 GiB on.
    pub(crate) fn into_frame(mut self, length_prefix: LengthPrefix) -> Result<Frame, CodecError> {
        let size = self.owned.len() + self.spliced_bytes;
        if let LengthPrefix::Reserved = length_prefix {
            let body = size - LENGTH_BYTES;
            let length = i32::try_from(body).map_err(|_| CodecError::TooLong(body))?;
            self.owned[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        }
        let mut chunks = Vec::with_capacity(2 * self.spliced.len() + 1);
        let mut cut = 0;
        for (position, piece) in self.spliced {
            if position > cut {
                chunks.push(self.owned.split_to(position - cut).freeze());
                cut = position;
            }
            chunks.push(piece);
        }
        if !self.owned.is_empty() {
            chunks.push(self.owned.freeze());
        }
        Ok(Frame::new(chunks))
    }
}

/// Bytes of a frame's length.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Whether the first four bytes of a writer wait for the frame's length.
pub(crate) enum LengthPrefix {
    Reserved,
    Absent,
}
