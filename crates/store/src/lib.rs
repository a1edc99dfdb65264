//! The object storage port, its adapters, keys and the ranged reader
