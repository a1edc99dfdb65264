//! The records in a batch.
