//! gRPC on loopback: what the wire adds to the ports, whoever implements them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connection;
mod directory;
mod frontends;
mod support;
mod watching;
