//! Time: the monotonic clock that deadlines and leases run on, and the wall clock that records carry.
//!
//! Owns: the only reading of the system's wall clock. Monotonic time is tokio's, so a test that pauses tokio's time
//! pauses every timer of the process. Does not own: any decision made from a time.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;
pub use tokio::time::error::Elapsed;

/// Handle to the process's time; clones share the source.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Arc<Wall>,
}

#[derive(Debug)]
enum Wall {
    System,
    /// `start_ms` was the time at `origin`; it goes on as tokio's clock does.
    Manual {
        start_ms: i64,
        origin: Instant,
    },
}

impl Clock {
    /// The machine's own time.
    pub fn system() -> Self {
        Self {
            wall: Arc::new(Wall::System),
        }
    }

    /// A wall clock that shows `start_ms` now and advances with tokio's, possibly paused, time. To be made inside the
    /// runtime that it is used in.
    pub fn manual(start_ms: i64) -> Self {
        Self {
            wall: Arc::new(Wall::Manual {
                start_ms,
                origin: Instant::now(),
            }),
        }
    }

    /// Monotonic time. Outside a tokio runtime it is the machine's even while a test's runtime has paused its own.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Milliseconds since 1970 UTC. Never to be used for epochs, leases or the order of anything.
    pub fn wall_ms(&self) -> i64 {
        match *self.wall {
            Wall::System => system_wall_ms(),
            Wall::Manual { start_ms, origin } => {
                start_ms.saturating_add(saturating_ms(Instant::now().saturating_duration_since(origin)))
            }
        }
    }

    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    pub async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// Runs `future` for at most `duration`, then drops it: only for futures that are cancellation-safe or whose
    /// result no longer matters.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(duration, future).await
    }

    /// As [`Clock::timeout`], up to a point in time.
    pub async fn timeout_at<F: Future>(&self, deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout_at(deadline, future).await
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
fn system_wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => saturating_ms(since),
        Err(before) => -saturating_ms(before.duration()),
    }
}

fn saturating_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manual wall clock moves exactly as far as tokio's paused time does.
    #[tokio::test(start_paused = true)]
    async fn manual_wall_clock_follows_paused_time() {
        let clock = Clock::manual(1_000);
        assert_eq!(clock.wall_ms(), 1_000);
        clock.sleep(Duration::from_millis(250)).await;
        assert_eq!(clock.wall_ms(), 1_250);
    }

    /// The system's wall clock is later than the day this was written.
    #[test]
    fn system_wall_clock_counts_from_1970() {
        assert!(Clock::system().wall_ms() > 1_750_000_000_000);
    }
}
