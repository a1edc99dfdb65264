//! Key compaction: rewriting what objects have of a stream, so that each key's newest value stays.
//!
//! One pass a lease ([`pass`]): the dirty part's keys are read into bounded memory ([`keys`]); then the stream is rewritten
//! from its start, a group of objects after the other, without what is superseded ([`filter`], [`transactions`]), and each
//! group is committed in the place of its sources. Clean objects that come out as they are stay ([`selection`]).
//!
//! What holds:
//! - Offsets never change, nor does anything at or above the last stable offset, nor what isn't uploaded.
//! - Each commit alone leaves a stream whose reader builds the same table: what a record is left out for lies behind it, in
//!   the same group or in one that is committed later. So a pass may end anywhere, by a crash too, and loses nothing but its
//!   work. What was put and isn't committed expires at the controller.
//! - A pass that stands still is given up ([`watch`]).
//! - Memory of a pass: `clean_keys_bytes`; `clean_object_bytes` and one read of the object storage; the stream's snapshot, which
//!   its producers and aborted transactions bound (58 MiB), the latter once more for each group; and of one batch its records
//!   decompressed (at most 256 MiB, whatever is in them) and encoded. Keys that don't fit end the pass earlier, and the
//!   next one goes on there.

mod filter;
mod keys;
mod metrics;
mod pass;
mod read;
mod selection;
mod transactions;
mod watch;

use std::sync::Arc;

use tailwater_rpc::controller::{Lease, Work};
use tailwater_runtime::ZstdPool;
use tailwater_store::ObjectStorage;
use tailwater_types::Kind;

use crate::session::Session;
use crate::upload::States;
use crate::{Config, Error, lease};
use metrics::CleanMetrics;
use pass::Pass;
use watch::Watch;

pub(crate) struct Cleanings {
    config: Config,
    session: Session,
    storage: Arc<dyn ObjectStorage>,
    states: States,
    zstd: Arc<ZstdPool>,
    metrics: CleanMetrics,
    watch: Arc<Watch>,
}

impl Cleanings {
    pub fn new(config: Config, session: Session, storage: Arc<dyn ObjectStorage>) -> Self {
        let metrics = &session.runtime().metrics;
        let clean_metrics = CleanMetrics::new(metrics);
        Self {
            watch: Watch::new(session.runtime().clock.clone(), clean_metrics.last_progress.clone()),
            // A pass is long, and the next one of the same stream far away: nothing is worth being kept.
            states: States::new(storage.clone(), 0),
            zstd: Arc::new(ZstdPool::new(config.max_cleanings.max(1), 1, metrics)),
            metrics: clean_metrics,
            config,
            session,
            storage,
        }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// Carries out one cleaning, and gives its lease back. A stop ends it where it stands.
pub(crate) async fn run(cleanings: Arc<Cleanings>, lease: Lease) {
    let (session, held) = (&cleanings.session, lease.lease);
    let stop = session.runtime().tasks.token();
    let Work::Clean {
        stream,
        range,
        first_dirty,
        delete_retention,
    } = lease.work
    else {
        tracing::error!(task = %held.task, "a cleaning's task is another one");
        return;
    };
    let progress = cleanings.watch.begin(held.task);
    let limit = cleanings.config.clean_stall.as_duration();
    let clean = |_work| async {
        let dirty = (range, first_dirty);
        let mut pass = Pass::begin(&cleanings, &progress, held, stream, dirty, delete_retention).await?;
        pass.run().await
    };
    let cleaned = tokio::select! {
        biased;
        cleaned = lease::hold(session, lease, clean) => cleaned,
        () = stop.cancelled() => Some(Err(tailwater_rpc::Error::Shutdown.into())),
        () = progress.stands_still(limit) => Some(Err(Error::StandsStill { stream, seconds: limit.as_secs() })),
    };
    let (result, done) = match cleaned {
        None => ("lost", None),
        Some(Ok(pass)) => {
            let (read, written) = (pass.read_bytes, pass.written_bytes);
            tracing::debug!(%stream, range = %pass.range, keys = pass.keys, read, written, "stream cleaned");
            ("done", Some(true))
        }
        // What was committed stays, and nothing is wrong with the stream: the next pass goes on after its rest.
        Some(Err(error)) if is_interruption(&error) => {
            tracing::debug!(%stream, %error, "cleaning interrupted");
            ("interrupted", Some(true))
        }
        Some(Err(error)) => {
            report(&cleanings, stream, &error);
            let lost = error.is_lease_lost();
            (if lost { "lost" } else { "failed" }, (!lost).then_some(false))
        }
    };
    cleanings.metrics.passes.with_label_values(&[result]).inc();
    if let Some(done) = done
        && let Err(error) = lease::release(session, held, done).await
    {
        tracing::debug!(%error, done, "lease of a cleaning was not given back: it runs out");
    }
}

/// A stop; or the stream isn't what it was, as when records were deleted meanwhile.
fn is_interruption(error: &Error) -> bool {
    use tailwater_rpc::Error::{ObjectReplaced, Shutdown};
    matches!(error, Error::Rpc(Shutdown | ObjectReplaced { .. }))
}

fn report(cleanings: &Cleanings, stream: tailwater_types::StreamId, error: &Error) {
    let is_stopping = cleanings.session.runtime().tasks.token().is_cancelled();
    match error {
        Error::TooManyKeys { .. } => tracing::error!(%stream, %error, "stream can't be cleaned"),
        _ if error.kind() == Kind::Corrupt => tracing::error!(%stream, %error, "stream can't be cleaned"),
        Error::Store(error) if error.kind() == Kind::NotFound => {
            tracing::warn!(%stream, %error, "an object to be cleaned isn't in the object storage, it will be tried again");
        }
        // Its topic was deleted, or somebody else was faster.
        _ if is_stopping || matches!(error.kind(), Kind::NotFound | Kind::Fenced | Kind::Shutdown) => {
            tracing::debug!(%stream, %error, "cleaning ended");
        }
        _ => tracing::warn!(%stream, %error, "cleaning failed, it will be tried again"),
    }
}

#[cfg(test)]
mod tests;
