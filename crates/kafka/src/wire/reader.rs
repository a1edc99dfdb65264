//! Takes primitives and pieces off the front of a frame.

use bytes::{Buf as _, Bytes, BytesMut};

use super::Version;
use crate::CodecError;

/// The bytes of a frame that are not decoded yet.
///
/// Pieces are split off the frame's own buffer: disjoint, not copied, each writable by whoever holds it.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that are read already; cut off when the next piece is split.
    position: usize,
}

impl Reader {
    /// Reads `bytes`. A [`Bytes`] is taken over without a copy if nobody shares it, and copied otherwise.
    pub fn new(bytes: impl Into<BytesMut>) -> Self {
        Self {
            buffer: bytes.into(),
            position: 0,
        }
    }

    pub fn remaining(&self) -> usize {
        self.buffer.len() - self.position
    }

    /// # Errors
    /// [`CodecError::Trailing`] unless everything has been read.
    pub fn finish(self) -> Result<(), CodecError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(CodecError::Trailing(left)),
        }
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let remaining = self.remaining();
        let (array, _) = self.buffer[self.position..]
            .split_first_chunk()
            .ok_or(CodecError::Truncated { needed: N, remaining })?;
        let array = *array;
        self.position += N;
        Ok(array)
    }

    /// The next `length` bytes as a piece of the frame.
    ///
    /// # Errors
    /// [`CodecError::Truncated`].
    pub fn take(&mut self, length: usize) -> Result<BytesMut, CodecError> {
        let remaining = self.remaining();
        if length > remaining {
            return Err(CodecError::Truncated {
                needed: length,
                remaining,
            });
        }
        self.buffer.advance(self.position);
        self.position = 0;
        Ok(self.buffer.split_to(length))
    }

    /// Everything that is left.
    pub fn into_rest(mut self) -> BytesMut {
        self.buffer.advance(self.position);
        self.buffer
    }

    /// An unsigned variable-length integer of at most 32 bits.
    ///
    /// # Errors
    /// [`CodecError::Truncated`], [`CodecError::Varint`].
    pub fn uvarint(&mut self) -> Result<u32, CodecError> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                return Err(CodecError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Varint)
    }

    /// A length in front of text: 16 bits, or compact. `None` is null.
    pub(super) fn text_length(&mut self, version: Version) -> Result<Option<usize>, CodecError> {
        if version.flexible {
            return self.compact_length();
        }
        let length = i16::from_be_bytes(self.array()?);
        self.bounded(length.into(), 1)
    }

    /// A length in front of bytes: 32 bits, or compact. `None` is null.
    pub(super) fn bytes_length(&mut self, version: Version) -> Result<Option<usize>, CodecError> {
        self.count(version, 1)
    }

    /// A count in front of elements that have at least `element_bytes` each: 32 bits, or compact. `None` is null.
    pub(super) fn count(&mut self, version: Version, element_bytes: usize) -> Result<Option<usize>, CodecError> {
        if version.flexible {
            let count = self.uvarint()?;
            return self.bounded(i64::from(count) - 1, element_bytes);
        }
        let count = i32::from_be_bytes(self.array()?);
        self.bounded(count.into(), element_bytes)
    }

    fn compact_length(&mut self) -> Result<Option<usize>, CodecError> {
        let length = self.uvarint()?;
        self.bounded(i64::from(length) - 1, 1)
    }

    /// Refuses what the remaining input can't hold, before it sizes anything.
    fn bounded(&self, length: i64, element_bytes: usize) -> Result<Option<usize>, CodecError> {
        if length == -1 {
            return Ok(None);
        }
        let remaining = self.remaining();
        match usize::try_from(length) {
            Ok(length) if length.saturating_mul(element_bytes) <= remaining => Ok(Some(length)),
            _ => Err(CodecError::Length { length, remaining }),
        }
    }

    /// Hands each tagged field to `read`, which says whether it knows the tag; unknown ones are skipped.
    pub(crate) fn tagged_fields(
        &mut self,
        mut read: impl FnMut(u32, &mut Reader) -> Result<bool, CodecError>,
    ) -> Result<(), CodecError> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = self.uvarint()?;
            let length = self.bounded(size.into(), 1)?.expect("an unsigned size is not null");
            let mut field = Reader::new(self.take(length)?);
            if read(tag, &mut field)? {
                field.finish()?;
            }
        }
        Ok(())
    }

    /// The next `length` bytes, to be shared and not written.
    pub(super) fn take_frozen(&mut self, length: usize) -> Result<Bytes, CodecError> {
        // A split, even of nothing, makes the buffer counted; an empty piece also would keep the frame alive.
        if length == 0 {
            Ok(Bytes::new())
        } else {
            self.take(length).map(BytesMut::freeze)
        }
    }
}
