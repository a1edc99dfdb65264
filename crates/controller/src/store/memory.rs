//! A store in memory, for tests and simulations: durable as long as a clone of it lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{MetadataStore, Pair, StoreError, Write};

/// Clones are one store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    pairs: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
}

#[async_trait]
impl MetadataStore for MemoryStore {
    async fn load(&mut self) -> Result<Vec<Pair>, StoreError> {
        let pairs = self.pairs.lock();
        Ok(pairs.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn commit(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        let mut pairs = self.pairs.lock();
        for (key, value) in batch {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }

    async fn close(&mut self) {}
}
