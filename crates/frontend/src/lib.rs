//! The Kafka tier: listener, produce, fetch, groups
