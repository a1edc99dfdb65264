//! The group state machine against Apache Kafka's behaviour: tables of what a client sees, and random interleavings.

mod admin;
mod consumer;
mod expire;
mod harness;
mod interleavings;
mod membership;
mod migrations;
mod offsets;
mod owner;
mod rebalance;
mod rolls;
mod transactions;
