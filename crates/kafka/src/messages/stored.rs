//! How the coordinators' records stand in their topics: 16 bits (a key's type, a value's version), then a message.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{CodecError, Message, Reader};

/// The value of a record of an internal topic; a null value deletes the key.
pub trait StoredValue: Message {
    /// The version Kafka 4.3 writes.
    const WRITTEN: i16;

    /// The value in `bytes`, in whatever version it says it has.
    ///
    /// # Errors
    /// The bytes are no such value.
    fn decode_value(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let version = i16::from_be_bytes(reader.array()?);
        Self::decode(reader.into_rest(), version)
    }

    /// # Errors
    /// [`CodecError::TooLong`].
    fn encode_value(&self) -> Result<Bytes, CodecError> {
        Ok(prefixed(Self::WRITTEN, &self.encode(Self::WRITTEN)?))
    }
}

pub(super) fn prefixed(prefix: i16, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(2 + message.len());
    bytes.put_i16(prefix);
    bytes.put_slice(message);
    bytes.freeze()
}
