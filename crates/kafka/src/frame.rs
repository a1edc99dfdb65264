//! Frames: a length, a header, a message. Request headers v1 and v2, response headers v0 and v1 (KIP-482).

use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::{LENGTH_BYTES, LengthPrefix};
use crate::{ApiKey, CodecError, Reader, RequestMessage, ResponseMessage, Str, Version, Wire as _, Writer};

/// The client id has a 16-bit length in both header versions; the first flexible version came after it.
const CLIENT_ID: Version = Version {
    number: 1,
    flexible: false,
};

/// Room for a response without record bytes of a few partitions.
const FIRST_CAPACITY: usize = 512;

/// What stands in front of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub api: ApiKey,
    /// Not checked: a client may ask for a version that isn't served.
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Takes the header from the front of a frame without its length. What is left is the message.
    ///
    /// # Errors
    /// [`CodecError::UnknownApi`], or the bytes are no header.
    pub fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let api = ApiKey::try_from(i16::from_be_bytes(reader.array()?))?;
        let version = i16::from_be_bytes(reader.array()?);
        let correlation_id = i32::from_be_bytes(reader.array()?);
        let client_id = Option::<Str>::read(reader, CLIENT_ID)?;
        if api.is_flexible(version) {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self {
            api,
            version,
            correlation_id,
            client_id,
        })
    }

    fn write(&self, writer: &mut Writer) -> Result<(), CodecError> {
        writer.put(&self.api.code().to_be_bytes());
        writer.put(&self.version.to_be_bytes());
        writer.put(&self.correlation_id.to_be_bytes());
        self.client_id.write(writer, CLIENT_ID)?;
        if self.api.is_flexible(self.version) {
            writer.uvarint(0);
        }
        Ok(())
    }
}

/// Whether responses of this version have header v1, with tagged fields. Clients ask for the versions before they know
/// any, so that the answer always has header v0 (KIP-511).
fn has_flexible_response_header(api: ApiKey, version: i16) -> bool {
    api != ApiKey::ApiVersions && api.is_flexible(version)
}

/// A response with its length and header.
///
/// # Errors
/// `R` doesn't have the version, or the version can't say what is in the response.
pub fn encode_response<R: ResponseMessage>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> Result<Frame, CodecError> {
    let mut writer = Writer::with_capacity(FIRST_CAPACITY);
    writer.put(&[0; LENGTH_BYTES]);
    writer.put(&correlation_id.to_be_bytes());
    if has_flexible_response_header(R::API, version) {
        writer.uvarint(0);
    }
    response.write(&mut writer, R::version(version)?)?;
    writer.into_frame(LengthPrefix::Reserved)
}

/// A request with its length and header.
///
/// # Errors
/// `R` doesn't have the version, or the version can't say what is in the request.
pub fn encode_request<R: RequestMessage>(
    correlation_id: i32,
    client_id: Option<Str>,
    version: i16,
    request: &R,
) -> Result<Frame, CodecError> {
    let mut writer = Writer::with_capacity(FIRST_CAPACITY);
    writer.put(&[0; LENGTH_BYTES]);
    RequestHeader {
        api: R::API,
        version,
        correlation_id,
        client_id,
    }
    .write(&mut writer)?;
    request.write(&mut writer, R::version(version)?)?;
    writer.into_frame(LengthPrefix::Reserved)
}

/// The correlation id and the response in a frame without its length.
///
/// # Errors
/// The bytes are no `R` of this version.
pub fn decode_response<R: ResponseMessage>(frame: impl Into<BytesMut>, version: i16) -> Result<(i32, R), CodecError> {
    let mut reader = Reader::new(frame);
    let correlation_id = i32::from_be_bytes(reader.array()?);
    if has_flexible_response_header(R::API, version) {
        reader.tagged_fields(|_, _| Ok(false))?;
    }
    let response = R::read(&mut reader, R::version(version)?)?;
    reader.finish()?;
    Ok((correlation_id, response))
}

/// An encoded frame, length included, in pieces for vectored writes (`write_all_buf` and the like).
///
/// A piece that has been written out is let go at once.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    chunks: Vec<Bytes>,
    /// The first chunk with bytes left.
    first: usize,
    remaining: usize,
}

impl Frame {
    pub(crate) fn new(chunks: Vec<Bytes>) -> Self {
        let remaining = chunks.iter().map(Bytes::len).sum();
        Self {
            chunks,
            first: 0,
            remaining,
        }
    }

    /// The pieces not written yet.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks[self.first..]
    }

    /// All that is left as one; copies where there is more than one piece.
    pub fn into_bytes(mut self) -> Bytes {
        let remaining = self.remaining;
        self.copy_to_bytes(remaining)
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks().first().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(self.chunks()) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.remaining, "advanced beyond the end of a frame");
        self.remaining -= bytes;
        while bytes > 0 {
            let chunk = &mut self.chunks[self.first];
            let step = bytes.min(chunk.len());
            chunk.advance(step);
            bytes -= step;
            if chunk.is_empty() {
                *chunk = Bytes::new();
                self.first += 1;
            }
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        if let Some(chunk) = self.chunks.get_mut(self.first)
            && chunk.len() > length
        {
            self.remaining -= length;
            return chunk.split_to(length);
        }
        assert!(length <= self.remaining, "copied beyond the end of a frame");
        let mut all = BytesMut::with_capacity(length);
        while all.len() < length {
            let chunk = self.chunk();
            let step = chunk.len().min(length - all.len());
            all.extend_from_slice(&chunk[..step]);
            self.advance(step);
        }
        all.freeze()
    }
}

#[cfg(test)]
mod tests;
