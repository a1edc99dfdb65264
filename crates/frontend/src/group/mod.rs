//! Consumer groups: their state machine, and one coordinator for each partition of `__consumer_offsets` led here.
//!
//! `state` is one group, `membership`, `rebalance` and `offsets` are what happens to it, all pure; `shard` is the groups
//! of one partition.

mod effects;
mod membership;
mod offsets;
mod rebalance;
mod shard;
mod state;
#[cfg(test)]
mod tests;
