//! Coordinators: one for each partition of an internal topic that is led here, whatever it coordinates.
//!
//! `machine` says what a coordinator's state machine is to its driver, `owner` drives one over its log, `replay` reads the
//! log, `host` keeps the owners of a topic and finds the one of an id, `standing` says whether its answer may leave. Consumer groups (`group`) and transactions (`txn`)
//! are such machines.

mod host;
mod machine;
mod owner;
mod replay;
mod standing;
#[cfg(test)]
mod tests;

pub(crate) use host::{Host, Hosted};
pub(crate) use machine::{Form, InTransaction, KeyValue, Machine, Now, Turn, Waiter};
pub(crate) use owner::record_bytes;
#[cfg(test)]
pub(crate) use owner::{Command, Owner, OwnerHandle, Stage};
