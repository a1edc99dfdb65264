//! The journal tier: device log, group commit, recovery
