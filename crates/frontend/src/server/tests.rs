//! The server over real sockets, on a data path in memory: what clients see, and what they can't do.

mod apis;
mod client;
mod configs;
mod consumer_groups;
mod data;
mod describe;
mod effects;
mod faults;
mod group_admin;
mod group_versions;
mod groups;
mod leaders;
mod limits;
mod listeners;
mod port;
mod transactions;
mod txn;
mod txn_kills;
mod txn_offsets;
mod txn_wal;
mod txn_wire;
