//! Transactions (KIP-98, KIP-360, KIP-890): what producers ask of their coordinator, what coordinators tell partitions
//! and group coordinators, what administrators ask, and the coordinator's own records.

mod add;
mod describe;
mod end;
mod offset_commit;
mod records;

pub use add::*;
pub use describe::*;
pub use end::*;
pub use offset_commit::*;
pub use records::*;
