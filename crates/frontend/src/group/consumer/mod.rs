//! Groups whose coordinator assigns (KIP-848): members say what they want and have with each heartbeat, and are told what
//! they shall have.
//!
//! `state` is one group and what records make of it, `heartbeat` and `leave` are what members ask, `classic` what those ask
//! that speak the classic protocol while the group changes from one to the other; `target` says who shall
//! have what (with `super::assignor`), `reconcile` brings a member there step by step, `topics` is what they want, `size` whether they fit into a batch; `group`
//! puts that between `timers` and the log. All pure. Assigned partitions are never with two members: one takes what the
//! other has said that it gave back.

pub(super) mod classic;
pub(super) mod group;
pub(super) mod heartbeat;
mod leave;
pub(super) mod offsets;
mod reconcile;
pub(super) mod record;
mod size;
pub(super) mod state;
pub(super) mod target;
#[cfg(test)]
mod tests;
mod timers;
pub(super) mod topics;
