//! Groups whose coordinator assigns, over a clock and a log that only tests move.

mod classic;
mod harness;
mod interleavings;
mod members;
mod offsets;
mod subscriptions;
