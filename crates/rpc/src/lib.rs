//! The ports at which the tiers meet: [`wal::Wal`], [`frontend::Frontend`], and the controller's five.
//!
//! A port is a contract: its doc comments say what is durable when, what may be repeated, and what each refusal means
//! (docs/design.md section 5). A tier implements its own port and calls the others' as trait objects, so that it
//! can't tell whether the other side is in the same process. Requests are plain structs with the epochs they were
//! made under; what flows is a stream that ends when it is dropped. `proto/` has the same contract for the wire.

pub mod controller;
mod error;
pub mod frontend;
pub mod grpc;
pub mod wal;

pub use error::Error;

/// What a call through a port answers.
pub type Result<T> = std::result::Result<T, Error>;

/// A stream of answers; dropping it tells the other side to stop.
pub type Stream<T> = futures::stream::BoxStream<'static, Result<T>>;
