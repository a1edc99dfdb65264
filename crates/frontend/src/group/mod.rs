//! Consumer groups: their state machine, and one coordinator for each partition of `__consumer_offsets` led here.
//!
//! `state` is one group, `membership`, `rebalance`, `offsets`, `describe`, `delete` and `expire` are what happens to it,
//! `shard` is the groups of one partition: all pure. `machine` gives a shard to its driver (`crate::coordinator`),
//! `coordinator` finds the owner of a group, the `wire`s are the requests.
//!
//! Groups whose members assign (classic) and groups whose coordinator does (`consumer`, with `assignor`) are one `Group`, of
//! which `modern` is the second half; `migrate` makes one of the other.

mod assignor;
mod consumer;
mod coordinator;
mod delete;
mod describe;
mod effects;
mod expire;
mod machine;
mod membership;
mod metrics;
mod migrate;
mod modern;
mod offsets;
mod pending;
mod rebalance;
mod record;
mod reply;
mod shard;
mod state;
mod subscription;
#[cfg(test)]
mod tests;
mod wire;
mod wire_consumer;
mod wire_delete;
mod wire_describe;
mod wire_offsets;
mod wire_txn_offsets;

pub(crate) use coordinator::Groups;
pub(crate) use wire::{heartbeat, join_group, leave_group, sync_group};
pub(crate) use wire_consumer::{consumer_group_describe, consumer_group_heartbeat};
pub(crate) use wire_delete::{delete_groups, offset_delete};
pub(crate) use wire_describe::{describe_groups, list_groups};
pub(crate) use wire_offsets::{offset_commit, offset_fetch};
pub(crate) use wire_txn_offsets::txn_offset_commit;
