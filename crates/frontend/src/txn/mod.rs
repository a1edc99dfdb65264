//! Transactions: their state machine, and one coordinator for each partition of `__transaction_state` led here.
//!
//! `state` is one transactional id and the rules for it, `shard` is the ids of one partition: both pure. `machine` gives a
//! shard to its driver (`crate::coordinator`), `coordinator` finds the owner of an id, wherever it is, `markers` tells the
//! leaders of partitions how a transaction ended, `outbox` is the way there, `writer` is such a leader being told, the `wire`s are the requests,
//! `port` is all of it as other frontends see it, `calls` which of their calls are still wanted, `running` what runs now, as figures.

mod calls;
mod coordinator;
mod effects;
mod machine;
mod markers;
mod metrics;
mod outbox;
mod peers;
mod port;
mod record;
mod running;
mod shard;
mod state;
#[cfg(test)]
mod tests;
mod wire;
mod wire_add;
mod wire_describe;
mod wire_markers;
mod wire_offsets;
mod writer;

pub(crate) use coordinator::{Transactions, is_passing};
pub(crate) use peers::{Peers, others};
pub(crate) use port::Port;
pub(crate) use state::ProducerRef;
pub(crate) use wire::{end_txn, init_producer_id};
pub(crate) use wire_add::{add_offsets_to_txn, add_partitions_to_txn};
pub(crate) use wire_describe::{describe_transactions, list_transactions};
pub(crate) use wire_markers::write_txn_markers;
pub(crate) use wire_offsets::txn_offset_commit;
pub(crate) use writer::MarkerWriter;
