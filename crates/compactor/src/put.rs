//! Putting an object: in a task of its own, so that it isn't dropped half-way when a lease is lost.

use std::sync::Arc;

use bytes::Bytes;
use tailwater_runtime::Policy;
use tailwater_store::{ObjectStorage, StoreError};
use tokio::sync::oneshot;

use crate::Error;
use crate::session::Session;

/// Writes the chunks as one object. `guard` is held until the write has ended, whoever still waits for it.
///
/// # Errors
/// What the store says; a write that failed may have happened.
pub(crate) async fn put(
    session: &Session,
    storage: &Arc<dyn ObjectStorage>,
    key: String,
    chunks: Vec<Bytes>,
    guard: impl Send + 'static,
) -> Result<(), Error> {
    let (sender, receiver) = oneshot::channel::<Result<(), StoreError>>();
    let storage = storage.clone();
    let put = async move {
        let put = storage.put(&key, chunks).await;
        drop(guard);
        // Nobody may be waiting for it any more: then the object expires.
        drop(sender.send(put));
    };
    session.runtime().tasks.spawn("put", Policy::LOGGED_DRAIN, put);
    match receiver.await {
        Ok(put) => Ok(put?),
        Err(_) => Err(tailwater_rpc::Error::Shutdown.into()),
    }
}
