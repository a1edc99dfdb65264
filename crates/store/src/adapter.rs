//! The adapter to the `object_store` crate: memory, local files, S3.
//!
//! Owns: puts in one piece or in parts, retries, cleaning up, metrics. What an error means is in `classify`.

mod classify;
#[cfg(test)]
mod s3_tests;

use std::future::Future;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt, PutPayload};
use tailwater_runtime::clock::Instant;
use tailwater_runtime::telemetry::{HistogramVec, IntCounterVec, LATENCY_SECONDS};
use tailwater_runtime::{Metrics, Tasks};
use tailwater_types::Outcome;

use self::classify::classify;
use crate::error::StoreError;
use crate::open::{Services, StorageOptions};
use crate::payload;
use crate::retry::{Retry, RetryPolicy};
use crate::storage::{ObjectStorage, Operation, Tail};

/// S3's limit for the parts of one object.
const MAX_PARTS: u64 = 10_000;

pub(crate) struct Adapter {
    store: Arc<dyn ObjectStore>,
    multipart: Option<Multipart>,
    /// Put before every key, without a slash at its end; may be empty.
    prefix: String,
    /// Where a store in files has them.
    folder: Option<PathBuf>,
    retry: Retry,
    tasks: Tasks,
    requests: IntCounterVec,
    seconds: HistogramVec,
    bytes: IntCounterVec,
}

/// Puts in parts. Local files have none: they are written in one go, in pieces, behind a temporary name.
pub(crate) struct Multipart {
    store: Arc<dyn MultipartStore>,
    part_bytes: usize,
    parallel_parts: usize,
}

impl Multipart {
    pub(crate) fn new(store: Arc<dyn MultipartStore>, options: &StorageOptions) -> Self {
        Self {
            store,
            part_bytes: options.part_bytes,
            parallel_parts: options.parallel_parts.max(1),
        }
    }
}

impl Adapter {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, policy: RetryPolicy, services: &Services) -> Self {
        let metrics: &Metrics = &services.metrics;
        let retry = Retry {
            policy,
            clock: services.clock.clone(),
            random: services.random.clone(),
            retries: metrics.counter("tailwater_object_store_retries_total", "Requests that were repeated"),
        };
        Self {
            store,
            multipart: None,
            prefix: String::new(),
            folder: None,
            retry,
            tasks: services.tasks.clone(),
            requests: metrics.counter_vec(
                "tailwater_object_store_requests_total",
                "Requests to the object store, repeats and parts counted one by one",
                &["operation", "result"],
            ),
            seconds: metrics.histogram_vec(
                "tailwater_object_store_request_seconds",
                "Time of one request to the object store",
                &["operation"],
                LATENCY_SECONDS,
            ),
            bytes: metrics.counter_vec(
                "tailwater_object_store_bytes_total",
                "Bytes moved to and from the object store by requests that succeeded",
                &["operation"],
            ),
        }
    }

    pub(crate) fn with_multipart(self, multipart: Multipart) -> Self {
        Self {
            multipart: Some(multipart),
            ..self
        }
    }

    pub(crate) fn with_prefix(self, prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            ..self
        }
    }

    pub(crate) fn with_folder(self, folder: &FilePath) -> Self {
        Self {
            folder: Some(folder.to_owned()),
            ..self
        }
    }

    fn path(&self, operation: Operation, key: &str) -> Result<Path, StoreError> {
        let refused = |reason: String| StoreError::Refused {
            operation,
            key: key.to_owned(),
            reason,
            outcome: Outcome::DidNotHappen,
        };
        if key.is_empty() {
            return Err(refused("an object needs a name".to_owned()));
        }
        let separator = if self.prefix.is_empty() { "" } else { "/" };
        let path = Path::parse(format!("{}{separator}{key}", self.prefix));
        path.map_err(|error| refused(error.to_string()))
    }

    /// One call of the store, counted, and repeated while that helps.
    async fn call<T, F>(
        &self,
        operation: Operation,
        key: &str,
        deadline: Instant,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let counted = || {
            let begin = self.retry.clock.now();
            let attempt = attempt();
            async move {
                let result = attempt.await.map_err(|error| classify(operation, key, &error));
                let took = self.retry.clock.now() - begin;
                self.seconds
                    .with_label_values(&[operation.name()])
                    .observe(took.as_secs_f64());
                let label = result.as_ref().map_or_else(|error| error.label(), |_| "ok");
                self.requests.with_label_values(&[operation.name(), label]).inc();
                result
            }
        };
        self.retry.run(deadline, counted).await
    }

    fn moved(&self, operation: Operation, bytes: u64) {
        self.bytes.with_label_values(&[operation.name()]).inc_by(bytes);
    }

    async fn get(&self, operation: Operation, key: &str, range: GetRange) -> Result<Tail, StoreError> {
        let path = &self.path(operation, key)?;
        let get = || {
            let options = GetOptions::new().with_range(Some(range.clone()));
            async move {
                let found = self.store.get_opts(path, options).await?;
                let object_bytes = found.meta.size;
                Ok(Tail {
                    bytes: found.bytes().await?,
                    object_bytes,
                })
            }
        };
        let tail = self.call(operation, key, self.retry.deadline(), get).await?;
        self.moved(operation, tail.bytes.len() as u64);
        Ok(tail)
    }

    async fn put_parts(&self, multipart: &Multipart, key: &str, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let path = &self.path(Operation::Put, key)?;
        let deadline = self.retry.deadline();
        let object_bytes = payload::total_bytes(&chunks);
        let create = || multipart.store.create_multipart(path);
        let id = &self.call(Operation::Put, key, deadline, create).await?;
        let part_bytes = part_bytes(object_bytes, multipart.part_bytes);
        let parts = payload::split(chunks, part_bytes)
            .into_iter()
            .map(PutPayload::from_iter)
            .enumerate();
        // When one fails, the others are dropped with the stream before anything else happens.
        let parts = stream::iter(parts)
            .map(|(number, part)| async move {
                let put = || multipart.store.put_part(path, id, number, part.clone());
                self.call(Operation::Put, key, deadline, put).await
            })
            .buffered(multipart.parallel_parts)
            .try_collect()
            .await;
        let put = match parts {
            Ok(parts) => {
                self.complete(multipart, path, id, parts, object_bytes, deadline, key)
                    .await
            }
            Err(error) => Err(error),
        };
        if put.is_err() {
            let abort = || multipart.store.abort_multipart(path, id);
            // With time of its own: what failed may have used up the deadline.
            match self.call(Operation::Put, key, self.retry.deadline(), abort).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => tracing::warn!(%error, key, upload = %id, "parts of a failed upload are left behind"),
            }
        }
        put
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one upload, used once")]
    async fn complete(
        &self,
        multipart: &Multipart,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
        object_bytes: u64,
        deadline: Instant,
        key: &str,
    ) -> Result<(), StoreError> {
        let mut is_repeat = false;
        let complete = || {
            let is_repeat = std::mem::replace(&mut is_repeat, true);
            let parts = parts.clone();
            async move {
                match multipart.store.complete_multipart(path, id, parts).await {
                    // The attempt before did complete it, and its answer was lost.
                    Err(object_store::Error::NotFound { .. })
                        if is_repeat && self.store.head(path).await?.size == object_bytes =>
                    {
                        Ok(())
                    }
                    completed => completed.map(drop),
                }
            }
        };
        self.call(Operation::Put, key, deadline, complete).await
    }

    /// Removes what a put that was killed half-way left beside the object: `object_store` writes to `<path>#<n>`,
    /// taking the first `n` from 1 that is free.
    async fn remove_leftovers(&self, folder: &FilePath, path: &Path) {
        let object = folder.join(path.as_ref());
        let remove = move || {
            for n in 1.. {
                let mut leftover = object.clone().into_os_string();
                leftover.push(format!("#{n}"));
                if std::fs::remove_file(leftover).is_err() {
                    return;
                }
            }
        };
        if let Err(error) = self.tasks.run_blocking("object-leftovers", remove).await {
            tracing::debug!(%error, "leftovers of a put were not looked for");
        }
    }
}

#[async_trait]
impl ObjectStorage for Adapter {
    async fn put(&self, key: &str, chunks: Vec<Bytes>) -> Result<(), StoreError> {
        let path = &self.path(Operation::Put, key)?;
        let chunks = payload::join_small(chunks);
        let bytes = payload::total_bytes(&chunks);
        match &self.multipart {
            Some(multipart) if bytes > multipart.part_bytes as u64 => self.put_parts(multipart, key, chunks).await?,
            _ => {
                let payload = PutPayload::from_iter(chunks);
                let put = || self.store.put(path, payload.clone());
                self.call(Operation::Put, key, self.retry.deadline(), put).await?;
            }
        }
        self.moved(Operation::Put, bytes);
        Ok(())
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let found = self
            .get(Operation::GetRange, key, GetRange::Bounded(range.clone()))
            .await?
            .bytes;
        if found.len() as u64 == range.end - range.start {
            return Ok(found);
        }
        Err(StoreError::Short {
            key: key.to_owned(),
            range,
            found: found.len() as u64,
        })
    }

    async fn get_tail(&self, key: &str, bytes: u64) -> Result<Tail, StoreError> {
        self.get(Operation::GetTail, key, GetRange::Suffix(bytes)).await
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        let path = &self.path(Operation::Head, key)?;
        let head = || self.store.head(path);
        Ok(self.call(Operation::Head, key, self.retry.deadline(), head).await?.size)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = &self.path(Operation::Delete, key)?;
        let delete = || self.store.delete(path);
        match self.call(Operation::Delete, key, self.retry.deadline(), delete).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(folder) = &self.folder {
            self.remove_leftovers(folder, path).await;
        }
        Ok(())
    }
}

/// The configured size, or what keeps a huge object within the number of parts a store allows.
fn part_bytes(object_bytes: u64, configured: usize) -> usize {
    usize::try_from(object_bytes.div_ceil(MAX_PARTS)).map_or(configured, |least| least.max(configured))
}
