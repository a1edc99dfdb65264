//! Fetch: batches out of partitions.
//!
//! Owns: one request from its decoded form to its answer: what fits, in request order, and waiting until there is enough.
//! Does not own: where bytes lie (`partition`), sockets (`server`), what sessions have been told (`session`).

mod pass;
mod session;
mod target;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tailwater_kafka::messages::{FetchRequest, FetchResponse};
use tailwater_runtime::clock::Instant;
use tailwater_runtime::{BytePermit, ByteSemaphore, Clock, Random};

use crate::config::FetchConfig;
use crate::listeners::ListenerName;
use crate::metrics::RequestMetrics;
use crate::partition::{FetchWaiter, Partitions};
use crate::view::View;

use pass::Pass;
use session::{Kind, Sessions};
use target::{READ_COMMITTED, Target};

/// The first version that names topics by id (KIP-516).
const FIRST_ID_VERSION: i16 = 13;
/// The first version that is told who leads instead (KIP-951).
const FIRST_LEADER_VERSION: i16 = 16;

/// Serves Fetch; clones share everything.
#[derive(Clone)]
pub struct FetchHandler {
    pub view: View,
    pub partitions: Partitions,
    pub config: FetchConfig,
    /// Bytes from the WAL and from objects that all fetches together may have in memory, until they are written.
    pub cold_bytes: ByteSemaphore,
    pub clock: Clock,
    pub metrics: RequestMetrics,
    random: Random,
    sessions: Arc<Mutex<Sessions>>,
}

/// What a handler shares with the rest of its node.
pub struct FetchServices {
    pub view: View,
    pub partitions: Partitions,
    pub cold_bytes: ByteSemaphore,
    pub clock: Clock,
    pub random: Random,
    pub metrics: RequestMetrics,
}

/// An answer, and the permits for those of its bytes that are nowhere else in memory.
///
/// The permits are to be held until the answer is written, or its connection closed: how long that takes is the
/// client's to say, and so would be how much memory its answers take. Nobody waits here for a permit while holding
/// another, so no two fetches wait for each other: those of one connection follow one another (`server::pipeline`), the
/// next when the answer to the one before is written, and that ends, at the latest with the stall timeout.
pub struct Fetched {
    pub response: FetchResponse,
    pub memory: Vec<BytePermit>,
}

impl FetchHandler {
    pub fn new(config: FetchConfig, services: FetchServices) -> Self {
        let sessions = Sessions::new(config.session_slots, config.session_partitions);
        Self {
            view: services.view,
            partitions: services.partitions,
            config,
            cold_bytes: services.cold_bytes,
            clock: services.clock,
            metrics: services.metrics,
            random: services.random,
            sessions: Arc::new(Mutex::new(sessions)),
        }
    }

    /// Answers as soon as `min_bytes` are there, there is an error to tell, or `max_wait_ms` is over. A request that is
    /// dropped before that has used up its session's epoch: the client's next one is told so, and starts anew. The client
    /// came through `listener`.
    pub async fn handle(&self, mut request: FetchRequest, version: i16, listener: &ListenerName) -> Fetched {
        let by_id = version >= FIRST_ID_VERSION;
        let begun = self.with_sessions(|sessions, now| sessions.begin(&mut request, by_id, now));
        let kind = match begun {
            Ok(kind) => kind,
            Err(error_code) => {
                self.metrics.refused_fetch(error_code);
                return Fetched {
                    response: FetchResponse {
                        error_code,
                        ..FetchResponse::default()
                    },
                    memory: Vec::new(),
                };
            }
        };
        let mut fetched = self.fetch(&request, version, listener).await;
        if kind != (Kind::Full { wants_session: false }) {
            let response = &mut fetched.response;
            self.with_sessions(|sessions, now| {
                sessions.finish(kind, &request, by_id, response, now, &mut || self.random.u64());
            });
        }
        fetched
    }

    /// Not to be held while waiting; the metrics follow what was done.
    fn with_sessions<T>(&self, act: impl FnOnce(&mut Sessions, Instant) -> T) -> T {
        let mut sessions = self.sessions.lock();
        let evictions = sessions.evictions();
        let done = act(&mut sessions, self.clock.now());
        let metrics = &self.metrics.fetch_sessions;
        metrics.sessions.set(sessions.len() as i64);
        metrics.partitions.set(sessions.partitions() as i64);
        metrics.evictions.inc_by(sessions.evictions() - evictions);
        done
    }

    /// Everything that the request names. Cancellation-safe.
    async fn fetch(&self, request: &FetchRequest, version: i16, listener: &ListenerName) -> Fetched {
        let max_wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(self.config.max_wait.as_duration());
        let deadline = self.clock.now() + max_wait;
        // As Kafka does: what the client doesn't want at once isn't waited for.
        let min_bytes = usize::try_from(request.min_bytes.min(request.max_bytes)).unwrap_or(0);
        let min_bytes = min_bytes.min(self.config.max_bytes.as_usize());
        let by_id = version >= FIRST_ID_VERSION;
        loop {
            // Found anew each time: a leadership may have ended, or begun here, while this waited.
            let targets = target::resolve(request, by_id, &self.view, &self.partitions);
            let pass = Pass::run(self, request, &targets).await;
            let enough = pass.bytes() >= min_bytes || pass.has_error() || targets.is_empty();
            if enough || self.clock.now() >= deadline {
                self.metrics.fetched_bytes.inc_by(pass.bytes() as u64);
                return pass.into_response(request, version, listener, &targets, self);
            }
            self.metrics.fetch_waits.inc();
            let waiter = FetchWaiter::new(min_bytes - pass.bytes(), request.isolation_level == READ_COMMITTED);
            let _registered = Registered::new(&waiter, &targets, &pass);
            drop(pass);
            // An error: the time is over. What is there by then is answered.
            let _ = self.clock.timeout_at(deadline, waiter.woken()).await;
        }
    }
}

/// A waiter that its partitions know of; they forget it when this is dropped.
struct Registered<'a> {
    waiter: &'a Arc<FetchWaiter>,
    targets: &'a [Target],
}

impl<'a> Registered<'a> {
    fn new(waiter: &'a Arc<FetchWaiter>, targets: &'a [Target], pass: &Pass) -> Self {
        for (target, seen) in targets.iter().zip(pass.high_watermarks()) {
            if let Ok(partition) = &target.partition {
                partition.add_waiter(waiter, seen);
            }
        }
        Self { waiter, targets }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for target in self.targets {
            if let Ok(partition) = &target.partition {
                partition.remove_waiter(self.waiter);
            }
        }
    }
}
