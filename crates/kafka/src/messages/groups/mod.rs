//! Consumer groups of both protocols: finding the coordinator, membership, offsets, what administrators ask, and the coordinator's
//! own records.

mod assignment;
mod consumer;
mod consumer_records;
mod coordinator;
mod delete;
mod describe;
mod join;
mod membership;
mod offset_commit;
mod offset_fetch;
mod records;
mod subscription;

pub use assignment::*;
pub use consumer::*;
pub use consumer_records::*;
pub use coordinator::*;
pub use delete::*;
pub use describe::*;
pub use join::*;
pub use membership::*;
pub use offset_commit::*;
pub use offset_fetch::*;
pub use records::*;
pub use subscription::*;
