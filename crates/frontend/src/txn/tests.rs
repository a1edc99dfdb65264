//! The transactions' state machine against Apache Kafka's behaviour: tables of what a producer sees, and random interleavings.

mod ends;
mod faults;
mod harness;
mod init;
mod interleavings;
mod joint;
mod records;
mod timers;
