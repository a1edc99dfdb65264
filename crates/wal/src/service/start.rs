//! Starting on a device: recognise or format it, register, write the granted epoch, recover, confirm, serve.
//!
//! Keeps the order of docs/design.md section 5: the superblock with the granted epoch is durable before it is
//! confirmed, and nobody is served before that. The recovery comes before it: as long as the device isn't confirmed, the node
//! is `Starting` and is given no journals.

use std::sync::Arc;

use tailwater_format::device::{MAX_WRITE_BYTES, Superblock};
use tailwater_rpc::controller::{Caller, DeviceReport, Nodes, RegisterNode, Registration, Tier, until_answered};
use tailwater_runtime::device::FileDevice;
use tailwater_runtime::{ByteSemaphore, Clock, Device, Metrics, OnExit, Policy, Runtime};
use tailwater_types::{ClusterId, DeviceEpoch, DeviceId, NodeId};

use super::driver::Driver;
use super::heartbeat;
use super::metrics::Meters;
use super::port::WalService;
use super::read::Reads;
use super::shared::Shared;
use crate::core::{Core, Limits, Space};
use crate::device::{Found, Geometry, LogReader, LogWriter, Superblocks, format, open_file, recover};
use crate::journal::Replay;
use crate::{Config, Error};

/// The most that is written before those who wait are answered.
const GROUP_BYTES: u64 = 4 << 20;

/// Starts a WAL node on the file that the configuration names; `address` is where other tiers reach it ([`RegisterNode::address`]).
///
/// # Errors
/// What was found and what was expected; nobody has been served then, and a device that isn't this node's is unchanged.
pub async fn start(
    config: Config,
    node: NodeId,
    address: Option<String>,
    nodes: Arc<dyn Nodes>,
    runtime: Runtime,
) -> Result<Arc<WalService>, Error> {
    config.validate().map_err(Error::Config)?;
    let name = config.path.display().to_string();
    let id = DeviceId::from_random(runtime.random.u128());
    let file = {
        let (path, capacity, window) = (config.path.clone(), config.capacity.0, config.flush_window.0);
        let first = move |file: &FileDevice| format(file, node, id, window);
        blocking(&runtime, move || open_file(&path, capacity, first)).await??
    };
    let device: Arc<dyn Device> = Arc::new(file);
    start_on(device, name, config, node, address, nodes, runtime).await
}

/// Starts a WAL node on a device that is open; `name` is what messages call it.
///
/// # Errors
/// As [`start`].
pub async fn start_on(
    device: Arc<dyn Device>,
    name: String,
    config: Config,
    node: NodeId,
    address: Option<String>,
    nodes: Arc<dyn Nodes>,
    runtime: Runtime,
) -> Result<Arc<WalService>, Error> {
    let runtime = runtime.child("wal");
    let log = DeviceLog {
        device,
        name,
        config,
        max_write_bytes: MAX_WRITE_BYTES,
    };
    let fresh = DeviceId::from_random(runtime.random.u128());
    let (superblocks, found) = {
        let log = log.clone();
        blocking(&runtime, move || log.open(node, fresh)).await??
    };
    let superblock = found.superblock.clone();
    if superblock.capacity_bytes != log.config.capacity.0 {
        tracing::info!(
            device = log.name,
            capacity_bytes = superblock.capacity_bytes,
            "the device keeps the size that it was made with"
        );
    }
    let (registration, granted) = register(&log.name, &superblock, address, nodes.as_ref(), &runtime).await?;
    let superblocks = {
        let (log, cluster) = (log.clone(), registration.cluster);
        blocking(&runtime, move || log.grant(superblocks, cluster, granted)).await??
    };
    let caller = Caller {
        node,
        node_epoch: registration.node_epoch,
        controller_epoch: registration.controller_epoch,
    };
    // From here on: what there is to recover may take longer than the lease.
    let interval = log.config.heartbeat_interval.as_duration();
    let (clock, tasks) = (runtime.clock.clone(), runtime.tasks.clone());
    let beats = heartbeat::run(nodes.clone(), caller, interval, clock, tasks);
    runtime.tasks.spawn("heartbeat", Policy::LOGGED_ABORT, beats);
    let (shared, driver) = {
        let (log, clock, metrics) = (log.clone(), runtime.clock.clone(), runtime.metrics.clone());
        blocking(&runtime, move || log.recover(superblocks, &found, clock, &metrics)).await??
    };
    until_answered(&runtime, || nodes.confirm_device(caller, superblock.device, granted)).await?;
    let geometry = Geometry::of(superblock.capacity_bytes);
    serve(log, (superblock.device, geometry), (shared, driver), runtime)
}

/// Registers the device as its superblock has it; the granted epoch is one that it never had.
async fn register(
    name: &str,
    found: &Superblock,
    address: Option<String>,
    nodes: &dyn Nodes,
    runtime: &Runtime,
) -> Result<(Registration, DeviceEpoch), Error> {
    let report = DeviceReport {
        device: found.device,
        epoch: found.epoch,
        capacity_bytes: found.capacity_bytes,
    };
    let request = RegisterNode {
        node: found.node,
        tier: Tier::Wal,
        cluster: found.cluster,
        incarnation: runtime.random.u128(),
        endpoints: Vec::new(),
        address,
        device: Some(report),
    };
    let registration = until_answered(runtime, || nodes.register(request.clone())).await?;
    if let Some(cluster) = found.cluster
        && cluster != registration.cluster
    {
        let (device, expected) = (name.to_owned(), registration.cluster);
        return Err(Error::OtherCluster {
            device,
            found: cluster,
            expected,
        });
    }
    match registration.device_epoch {
        Some(granted) if granted > found.epoch => Ok((registration, granted)),
        granted => Err(Error::DeviceEpoch {
            device: name.to_owned(),
            found: found.epoch,
            granted,
        }),
    }
}

fn serve(
    log: DeviceLog,
    (id, geometry): (DeviceId, Geometry),
    (shared, driver): (Arc<Shared>, Driver),
    runtime: Runtime,
) -> Result<Arc<WalService>, Error> {
    let Runtime {
        clock, tasks, metrics, ..
    } = runtime;
    let writer_tasks = tasks.clone();
    let writer = move || driver.run(&writer_tasks);
    tasks
        .spawn_thread("wal-writer", OnExit::Fatal, writer)
        .map_err(Error::Thread)?;
    let (stopping, token) = (shared.clone(), tasks.token());
    tasks.spawn("stop", Policy::LOGGED_DRAIN, async move {
        token.cancelled().await;
        stopping.stop();
    });
    let reads = Reads {
        shared: shared.clone(),
        reader: LogReader::new(log.device.clone(), geometry, &metrics),
        memory: ByteSemaphore::new("wal_reads", log.config.read_memory.0, &metrics),
        tasks: tasks.clone(),
        name: log.name,
    };
    Ok(Arc::new(WalService::new(shared, id, reads, clock, tasks)))
}

async fn blocking<T: Send + 'static>(runtime: &Runtime, body: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    runtime
        .tasks
        .run_blocking("start", body)
        .await
        .map_err(|_| Error::Shutdown)
}

/// A device and what it is called; the steps of a start, each blocking.
#[derive(Clone)]
pub(super) struct DeviceLog {
    pub(super) device: Arc<dyn Device>,
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) max_write_bytes: usize,
}

impl DeviceLog {
    /// Recognises or formats the device.
    pub(super) fn open(&self, node: NodeId, fresh: DeviceId) -> Result<(Superblocks, Found), Error> {
        let window = self.config.flush_window.0;
        let (superblocks, found) = Superblocks::open(self.device.clone(), &self.name, node, fresh, window)?;
        if !found.is_certain() {
            // Before the next superblock takes the place of the lost one, and with it the only sign that there was one.
            recover(&self.device, &self.name, &found, |_, _| Ok(()))?;
        }
        Ok((superblocks, found))
    }

    /// Makes the granted epoch durable. From here on no earlier life of the device can go on.
    pub(super) fn grant(
        &self,
        mut superblocks: Superblocks,
        cluster: ClusterId,
        granted: DeviceEpoch,
    ) -> Result<Superblocks, Error> {
        let window = self.config.flush_window.0;
        superblocks.store(|superblock| {
            superblock.cluster = Some(cluster);
            superblock.epoch = granted;
            superblock.clean = false;
            // Until the earlier life's leftovers are dealt with, its window counts too.
            superblock.window_bytes = superblock.window_bytes.max(window);
        })?;
        Ok(superblocks)
    }

    /// Recovers what the life before `found` left, and makes the log ready to go on behind it.
    pub(super) fn recover(
        &self,
        mut superblocks: Superblocks,
        found: &Found,
        clock: Clock,
        metrics: &Metrics,
    ) -> Result<(Arc<Shared>, Driver), Error> {
        let begun = clock.now();
        let before = &found.superblock;
        let geometry = Geometry::of(before.capacity_bytes);
        let mut replay = Replay::new(begun);
        let visit = |record, placed| replay.visit(record, placed);
        let log = recover(&self.device, &self.name, found, visit)?;
        let gone_end = before.gone_end.max(replay.gone_end());
        let journals = replay.finish().map_err(|detail| Error::Damaged {
            device: self.name.clone(),
            position: log.head,
            byte: geometry.byte(log.head),
            detail,
        })?;
        let window = self.config.flush_window.0;
        superblocks.store(|superblock| (superblock.flushed, superblock.window_bytes) = (log.head, window))?;
        tracing::info!(
            device = self.name,
            was_clean = before.clean,
            journals = journals.len(),
            records = log.records,
            bytes = log.head - before.trim,
            took_ms = clock.now().saturating_duration_since(begun).as_millis() as u64,
            "recovered"
        );
        let positions = (before.trim, log.head);
        let space = Space::new(geometry.ring_bytes(), self.config.reserve_percent, positions);
        let limits = Limits {
            credit_window_bytes: self.config.credit_window.0,
            max_entry_bytes: self.config.max_entry.as_usize(),
            memory_bytes: self.config.memory.0,
        };
        let core = Core::new(limits, space, journals, gone_end);
        let meters = Meters::new(metrics);
        meters.show(&core);
        let shared = Arc::new(Shared::new(core, meters));
        let epoch = superblocks.current().epoch;
        let device = self.device.clone();
        let writer = LogWriter::new(
            device,
            geometry,
            (before.device, epoch),
            positions,
            self.max_write_bytes,
            window,
        );
        let group_bytes = GROUP_BYTES.min(window);
        let driver = Driver::new(shared.clone(), writer, superblocks, clock, group_bytes);
        Ok((shared, driver))
    }
}
