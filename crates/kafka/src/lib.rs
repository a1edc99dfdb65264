//! The Kafka wire: frames, messages, record batches.
//!
//! Owns: the bytes of requests and responses in every version that is served ([`messages`]), Kafka's error codes,
//! record batches of magic 2 ([`batch`]) and the records in them ([`record`]). Does not own: sockets, compression,
//! which error answers which failure.
//!
//! A frame is decoded out of a [`BytesMut`](bytes::BytesMut) that nobody else holds. What comes out are disjoint pieces
//! of that buffer: record bytes are not copied, and each piece stays writable, so that offsets are assigned in place. A
//! frame is encoded into a [`Frame`], a chain of small owned pieces and shared record bytes for one vectored write.

#![cfg_attr(not(test), forbid(unsafe_code))]

mod api;
pub mod batch;
pub use tailwater_types::crc;
mod error;
mod error_code;
mod frame;
#[macro_use]
mod message;
pub mod messages;
pub mod record;
mod records;
mod str;
mod wire;

pub use api::{ApiKey, Request, supported};
pub use error::CodecError;
pub use error_code::ErrorCode;
pub use frame::{Frame, RequestHeader, decode_response, encode_request, encode_response};
pub use message::{Message, RequestMessage, ResponseMessage, Versions};
pub use records::Records;
pub use str::Str;
pub use uuid::Uuid;
pub use wire::{Reader, Version, Wire, Writer};

#[cfg(test)]
mod testing;
