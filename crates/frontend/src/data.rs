//! The data path, put together: session, view, journal, partitions, and the handlers over them.
//!
//! Owns: the order of starting and stopping. Does not own: the listener and the coordinators, which are handed this.

use std::sync::Arc;
use std::time::Duration;

use tailwater_rpc::controller::{Controller, NodeState, is_passing};
use tailwater_rpc::wal::WalDirectory;
use tailwater_runtime::{ByteSemaphore, Policy, Runtime, ZstdPool};
use tailwater_store::{ObjectReader, ObjectStorage, ReaderOptions, Services as StoreServices};

use crate::cache::TailCache;
use crate::config::Config;
use crate::fetch::{FetchHandler, FetchServices};
use crate::journal::{Current, Keeper};
use crate::metrics::{CacheMetrics, JournalMetrics, PartitionMetrics, RequestMetrics};
use crate::partition::{Partitions, Services};
use crate::produce::ProduceHandler;
use crate::session::{Identity, Session};
use crate::view::{View, follow};

/// How long shutdown waits for the controller to hear of it.
const FAREWELL: Duration = Duration::from_secs(1);
const DRAIN_STEP: Duration = Duration::from_millis(5);
/// From one attempt to give partitions away to the next: those that were being opened are open then.
const HAND_OVER_STEP: Duration = Duration::from_millis(20);

/// What of a frontend has to do with records: what the protocol's handlers need.
pub struct Data {
    pub config: Config,
    pub session: Session,
    pub view: View,
    pub partitions: Partitions,
    pub produce: ProduceHandler,
    pub fetch: FetchHandler,
    pub runtime: Runtime,
    journal: Current,
}

impl Data {
    /// Registers the node, then opens a journal and the partitions in the background.
    ///
    /// # Errors
    /// As [`Session::register`].
    pub async fn start(
        config: Config,
        identity: Identity,
        controller: Controller,
        wals: Arc<dyn WalDirectory>,
        storage: Arc<dyn ObjectStorage>,
        runtime: Runtime,
    ) -> Result<Self, tailwater_rpc::Error> {
        let session = Session::register(controller, identity, runtime.clone()).await?;
        let view = View::new(session.node());
        let metrics = &runtime.metrics;
        let zstd = Arc::new(zstd_pool(&config, &runtime));
        let services = Services {
            view: view.clone(),
            objects: session.controller().objects.clone(),
            reader: reader(&config, storage, &runtime),
            wals: wals.clone(),
            cache: TailCache::new(config.cache.tail_bytes.as_usize(), CacheMetrics::new(metrics)),
            zstd: zstd.clone(),
            clock: runtime.clock.clone(),
            random: runtime.random.clone(),
            metrics: PartitionMetrics::new(metrics),
            max_decompressed_bytes: config.produce.max_decompressed_bytes.as_usize(),
        };
        let keeper = Keeper::new(&config.journal, session.clone(), wals, JournalMetrics::new(metrics));
        let journal = keeper.current();
        let partitions = Partitions::new(
            Arc::new(services),
            session.clone(),
            journal.clone(),
            runtime.tasks.clone(),
        );
        let requests = RequestMetrics::new(metrics);
        let produce = ProduceHandler {
            view: view.clone(),
            partitions: partitions.clone(),
            config: config.produce.clone(),
            zstd,
            clock: runtime.clock.clone(),
            tasks: runtime.tasks.clone(),
            metrics: requests.clone(),
            transactions: None,
        };
        let fetch = FetchServices {
            view: view.clone(),
            partitions: partitions.clone(),
            cold_bytes: ByteSemaphore::new("fetch_cold_reads", config.fetch.cold_read_bytes.0, metrics),
            clock: runtime.clock.clone(),
            random: runtime.random.clone(),
            metrics: requests,
        };
        let fetch = FetchHandler::new(config.fetch.clone(), fetch);
        let tasks = &runtime.tasks;
        let interval = config.node.heartbeat_interval.as_duration();
        tasks.spawn("heartbeat", Policy::FATAL_ABORT, session.clone().keep_alive(interval));
        tasks.spawn("metadata", Policy::FATAL_ABORT, follow(view.clone(), session.clone()));
        tasks.spawn("journal", Policy::FATAL_ABORT, keeper.run());
        tasks.spawn("partitions", Policy::FATAL_ABORT, partitions.clone().follow());
        tasks.spawn("asked", Policy::FATAL_ABORT, partitions.clone().give_asked());
        Ok(Self {
            config,
            session,
            view,
            partitions,
            produce,
            fetch,
            runtime,
            journal,
        })
    }

    /// Waits until the journal is open, and every partition assigned to this node is open or has failed to open once.
    /// Cancellation-safe.
    pub async fn ready(&self) {
        self.partitions.settled().await;
    }

    /// After intake has stopped: waits for what is in flight, says goodbye, and ends every leadership. The tasks are their
    /// group's to stop.
    pub async fn shutdown(&self) {
        let clock = &self.runtime.clock;
        let drain = self.config.node.drain_timeout.as_duration();
        if clock.timeout(drain, self.drained()).await.is_err() {
            tracing::warn!("appends in flight were not committed in time");
        }
        match clock.timeout(FAREWELL, self.session.leave()).await {
            Ok(Ok(state)) => tracing::debug!(?state, "told the controller"),
            Ok(Err(error)) => tracing::debug!(%error, "the controller was not told"),
            Err(_elapsed) => tracing::debug!("the controller doesn't answer"),
        }
        self.partitions.end_all();
    }

    /// Tells the controller that this node is about to leave, and gives its partitions to other frontends if there are any,
    /// while clients are served. Answers whether there were.
    pub async fn hand_over(&self) -> bool {
        let clock = &self.runtime.clock;
        let deadline = clock.now() + self.config.node.drain_timeout.as_duration();
        let mut has_others = false;
        while clock.now() < deadline {
            match clock.timeout(FAREWELL, self.session.leave()).await {
                Ok(Ok(NodeState::ControlledShutdown)) => {
                    has_others = true;
                    // What can't be begun before the deadline isn't; what has been is left where it is then.
                    let closing = self.partitions.close_all(deadline);
                    let _ = clock.timeout_at(deadline, closing).await;
                }
                // Nothing is left, or nobody to take it.
                Ok(Ok(_)) => return has_others,
                Ok(Err(error)) if !is_passing(&error) => return has_others,
                Ok(Err(error)) => tracing::debug!(%error, "the controller was not told that this node leaves"),
                Err(_elapsed) => tracing::debug!("the controller doesn't answer"),
            }
            clock.sleep(HAND_OVER_STEP).await;
        }
        let left = self.partitions.count();
        tracing::warn!(
            left,
            "partitions were not given away in time, others take them once this node is gone"
        );
        has_others
    }

    async fn drained(&self) {
        loop {
            let journal = self.journal.borrow().clone();
            if journal.is_none_or(|journal| journal.is_idle()) {
                return;
            }
            self.runtime.clock.sleep(DRAIN_STEP).await;
        }
    }
}

fn zstd_pool(config: &Config, runtime: &Runtime) -> ZstdPool {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let in_use = match config.produce.zstd_contexts {
        0 => cores(),
        count => count,
    };
    ZstdPool::new(in_use, config.produce.zstd_idle_contexts, &runtime.metrics)
}

fn reader(config: &Config, storage: Arc<dyn ObjectStorage>, runtime: &Runtime) -> ObjectReader {
    let options = ReaderOptions {
        cache_bytes: config.cache.object_bytes.0,
        in_flight_bytes: config.cache.object_in_flight_bytes.0,
    };
    let services = StoreServices {
        clock: runtime.clock.clone(),
        random: runtime.random.clone(),
        tasks: runtime.tasks.clone(),
        metrics: runtime.metrics.clone(),
    };
    ObjectReader::new(storage, options, &services)
}
