//! What all uploads share: where they read and write, what they may hold in memory, and putting objects.

use std::sync::Arc;

use futures::future::join_all;
use tailwater_log::PartitionState;
use tailwater_rpc::controller::{
    CommittedObject, CommittedStream, Controller, LeaseRef, PrepareObjects, PreparedObject, SnapshotAt,
};
use tailwater_rpc::wal::WalDirectory;
use tailwater_runtime::{BytePermit, ByteSemaphore, Clock};
use tailwater_store::ObjectStorage;
use tailwater_types::{ObjectId, StreamId};

use super::metrics::UploadMetrics;
use super::plan::{self, PlannedObject, StreamPart};
use super::states::States;
use crate::put::put;
use crate::session::Session;
use crate::{Config, Error};

pub(crate) struct Uploads {
    pub(super) config: Config,
    pub(super) session: Session,
    pub(super) wals: Arc<dyn WalDirectory>,
    pub(super) states: States,
    pub(super) permits: ByteSemaphore,
    pub(super) metrics: UploadMetrics,
    storage: Arc<dyn ObjectStorage>,
}

/// Objects that are durable, and what is to be kept once they are committed.
#[derive(Debug, Default)]
pub(super) struct Put {
    pub objects: Vec<CommittedObject>,
    pub states: Vec<(StreamId, PartitionState)>,
}

/// A failed put, and the objects that were prepared for it.
#[derive(Debug)]
pub(super) struct PutFailed {
    pub error: Error,
    pub prepared: Vec<ObjectId>,
}

impl Uploads {
    pub fn new(config: Config, session: Session, wals: Arc<dyn WalDirectory>, storage: Arc<dyn ObjectStorage>) -> Self {
        let metrics = &session.runtime().metrics;
        Self {
            states: States::new(storage.clone(), config.state_cache_bytes.as_usize()),
            permits: ByteSemaphore::new("uploads", config.memory_bytes.0, metrics),
            metrics: UploadMetrics::new(metrics),
            config,
            session,
            wals,
            storage,
        }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn controller(&self) -> &Controller {
        self.session.controller()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.session.runtime().clock
    }

    /// Puts the streams' parts in objects, with their snapshots. `permit` covers their bytes.
    pub(super) async fn put(
        &self,
        lease: LeaseRef,
        streams: Vec<StreamPart>,
        permit: BytePermit,
    ) -> Result<Put, PutFailed> {
        let groups = plan::objects(streams, self.config.stream_object_bytes.0);
        if groups.is_empty() {
            return Ok(Put::default());
        }
        let count = groups.len();
        let request = PrepareObjects {
            lease,
            count: count as u32,
        };
        let prepared = self
            .controller()
            .objects
            .prepare_objects(self.session.caller(), request)
            .await;
        let failed = |error| PutFailed {
            error,
            prepared: Vec::new(),
        };
        let prepared = prepared.map_err(|error| failed(error.into()))?;
        if prepared.len() != count {
            let text = format!("{} objects were prepared, not {count}", prepared.len());
            return Err(failed(tailwater_rpc::Error::Internal(text).into()));
        }
        let (permit, mut all, mut puts) = (Arc::new(permit), Put::default(), Vec::new());
        for (prepared, streams) in prepared.iter().zip(groups) {
            let mut object = plan::encode(streams);
            all.objects.push(describe(prepared, &object));
            all.states
                .extend(object.streams.drain(..).map(|part| (part.stream, part.state)));
            let chunks = object.encoded.chunks;
            puts.push(put(
                &self.session,
                &self.storage,
                prepared.key.clone(),
                chunks,
                permit.clone(),
            ));
        }
        drop(permit);
        // All of them, also behind a failure: what was begun is no longer running when this is tried again.
        match join_all(puts).await.into_iter().find_map(Result::err) {
            Some(error) => Err(PutFailed {
                error,
                prepared: prepared.iter().map(|prepared| prepared.object).collect(),
            }),
            None => Ok(all),
        }
    }
}

/// The object as it is committed.
fn describe(prepared: &PreparedObject, object: &PlannedObject) -> CommittedObject {
    let streams = object
        .streams
        .iter()
        .zip(&object.encoded.snapshots)
        .map(|(part, place)| CommittedStream {
            stream: part.stream,
            range: part.range,
            stable_end: part.state.last_stable_offset(),
            max_timestamp_ms: part.max_timestamp_ms,
            bytes: part.bytes,
            snapshot: Some(SnapshotAt {
                object: prepared.object,
                key: prepared.key.clone(),
                position: place.position,
                length: place.length,
                crc: place.crc,
            }),
        });
    CommittedObject {
        object: prepared.object,
        size_bytes: object.encoded.size_bytes,
        streams: streams.collect(),
    }
}
