//! What every tier runs on: clock, randomness, tasks, byte semaphores, buffer and codec pools, devices, metrics.
//!
//! Owns: the ports through which a process touches time, entropy, threads and block storage. A simulation replaces
//! them: tokio's paused time, a seeded generator, memory devices. Does not own: logging set-up, configuration (both
//! `node`), any format or protocol.

mod backoff;
mod bundle;
pub mod clock;
pub mod config;
pub mod device;
pub mod pool;
pub mod random;
pub mod semaphore;
pub mod tasks;
pub mod telemetry;
pub mod zstd_pool;

pub use backoff::Backoff;
pub use bundle::Runtime;
pub use clock::Clock;
pub use device::{Device, DeviceError};
pub use pool::{AlignedBuf, BufferPool, PooledBuf};
pub use random::Random;
pub use semaphore::{BytePermit, ByteSemaphore};
pub use tasks::{OnExit, OnShutdown, Policy, TaskHandle, Tasks};
pub use telemetry::Metrics;
pub use tokio_util::sync::CancellationToken;
pub use zstd_pool::ZstdPool;
