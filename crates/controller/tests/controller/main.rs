//! The controller through its ports, over stores that are killed, fail and fill up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod failures;
mod full_disk;
mod killed;
mod service;
mod support;
