//! The messages against another codec, against golden bytes, and against forged input.

mod differential;
mod forged;
mod golden;
