//! The metadata tier: nodes and epochs, topics, streams, journals, objects, leases
