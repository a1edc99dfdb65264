//! The port [`crate::wal::Wal`] over gRPC: [`WalClient`] on one side, [`WalRoutes`] for any implementation on the other.
//!
//! Owns: how entries travel. An entry is encoded once, where it is cut; on its way out its bytes are handed to the
//! connection as they are (`pieces`, `body`), and on its way in a piece is kept as it was received. Does not own: the
//! connection (`channel`), nor when a writer attaches again.

mod append;
mod body;
mod client;
mod convert;
mod pieces;
mod server;

pub use client::WalClient;
pub use server::WalRoutes;

/// A message that carries more than a piece of an entry has at most this: the largest entry with what wraps it.
const MAX_MESSAGE_BYTES: usize = (1 << 30) + (64 << 20);

/// What a gRPC call answers.
type Answered<T> = Result<T, tonic::Status>;
