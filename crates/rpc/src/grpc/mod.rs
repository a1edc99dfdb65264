//! The ports over gRPC: a client that implements each port, and a server for any implementation of it.
//!
//! Owns: the mapping between the ports' structs and `proto/`, deadlines and flow control on the wire. Does not own: what a
//! call means (the port), nor who calls again (the tiers).

mod controller;
mod convert;
mod directory;
mod error;
mod frontend;
mod peer;
mod serve;
mod wal;

pub use controller::{ControllerClient, controller_routes};
pub use directory::{ConnectWal, RemoteWals};
pub use frontend::{FrontendClient, frontend_routes};
pub use serve::serve;
pub use tonic::service::Routes;
pub use wal::{WalClient, WalRoutes};

/// What tonic and prost generate from `proto/`.
#[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated")]
pub(crate) mod proto {
    tonic::include_proto!("tailwater.v1");
}
