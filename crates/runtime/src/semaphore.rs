//! Permits by bytes: what a request may hold in memory while it is served.
//!
//! Owns: the bound, its fairness and its gauges. Does not own: what is counted. Design invariant 8: at the bound the
//! sender waits, memory does not grow.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::Metrics;

/// An asynchronous semaphore whose permits are bytes; clones share it.
///
/// Waiters are served strictly in the order of their first poll. So nobody starves: a large request collects what is
/// released while it is at the head, however many small ones come behind it; and a small one waits at most for those
/// that were there before it, never for large ones that came later.
#[derive(Clone)]
pub struct ByteSemaphore {
    permits: Arc<Semaphore>,
    total_bytes: u64,
    /// tokio counts one acquisition in a `u32`, so one permit stands for this many bytes: 1 up to 4 GiB in total.
    unit_bytes: u64,
    in_use_bytes: IntGauge,
    waiting: IntGauge,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct BytePermit {
    permit: OwnedSemaphorePermit,
    unit_bytes: u64,
    held: GaugeGuard,
}

impl ByteSemaphore {
    /// `name` becomes the label `semaphore` of `tailwater_permits_in_use_bytes` and `tailwater_permits_waiting`.
    ///
    /// # Panics
    /// If `total_bytes` is 0: nothing could ever run.
    pub fn new(name: &str, total_bytes: u64, metrics: &Metrics) -> Self {
        assert!(total_bytes > 0, "a semaphore without permits stops everything");
        let metrics = metrics.labelled("semaphore", name);
        let unit_bytes = total_bytes.div_ceil(u64::from(u32::MAX));
        let units = usize::try_from(total_bytes / unit_bytes).expect("at most u32::MAX");
        Self {
            permits: Arc::new(Semaphore::new(units)),
            total_bytes,
            unit_bytes,
            in_use_bytes: metrics.gauge("tailwater_permits_in_use_bytes", "Bytes of permits held"),
            waiting: metrics.gauge("tailwater_permits_waiting", "Requests waiting for permits"),
        }
    }

    /// Waits for `bytes`; a request larger than the whole takes the whole and so runs alone. Cancellation-safe: a
    /// dropped wait gives up its place and holds nothing.
    pub async fn acquire(&self, bytes: u64) -> BytePermit {
        let waiting = GaugeGuard::new(&self.waiting, 1);
        let permit = self.permits.clone().acquire_many_owned(self.units(bytes)).await;
        drop(waiting);
        self.permit(permit.expect("the semaphore is never closed"), bytes)
    }

    /// `bytes` now, or `None`: never overtakes a waiter.
    pub fn try_acquire(&self, bytes: u64) -> Option<BytePermit> {
        let permit = self.permits.clone().try_acquire_many_owned(self.units(bytes)).ok()?;
        Some(self.permit(permit, bytes))
    }

    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub fn in_use_bytes(&self) -> u64 {
        u64::try_from(self.in_use_bytes.get()).unwrap_or(0)
    }

    /// Requests that wait at the moment.
    pub fn waiting(&self) -> u64 {
        u64::try_from(self.waiting.get()).unwrap_or(0)
    }

    fn units(&self, bytes: u64) -> u32 {
        let all = self.total_bytes / self.unit_bytes;
        u32::try_from(bytes.div_ceil(self.unit_bytes).clamp(1, all)).expect("at most u32::MAX")
    }

    fn permit(&self, permit: OwnedSemaphorePermit, bytes: u64) -> BytePermit {
        let bytes = i64::try_from(bytes.min(self.total_bytes)).unwrap_or(i64::MAX);
        BytePermit {
            permit,
            unit_bytes: self.unit_bytes,
            held: GaugeGuard::new(&self.in_use_bytes, bytes),
        }
    }
}

impl BytePermit {
    /// What is held: what was asked for, capped at the semaphore's whole.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.held.amount).unwrap_or(0)
    }

    /// Gives back what is held beyond `bytes`, to the next in line.
    pub fn shrink(&mut self, bytes: u64) {
        let units = usize::try_from(bytes.div_ceil(self.unit_bytes).max(1)).unwrap_or(usize::MAX);
        let surplus = self.permit.num_permits().saturating_sub(units);
        drop(self.permit.split(surplus));
        self.held.lower(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// Adds to a gauge for as long as it lives, so that a cancelled future can't leave it wrong.
#[derive(Debug)]
struct GaugeGuard {
    gauge: IntGauge,
    amount: i64,
}

impl GaugeGuard {
    fn new(gauge: &IntGauge, amount: i64) -> Self {
        gauge.add(amount);
        Self {
            gauge: gauge.clone(),
            amount,
        }
    }

    fn lower(&mut self, amount: i64) {
        let surplus = (self.amount - amount).max(0);
        self.amount -= surplus;
        self.gauge.sub(surplus);
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.gauge.sub(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn semaphore(total: u64) -> ByteSemaphore {
        ByteSemaphore::new("test", total, &Metrics::new())
    }

    async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
        tokio::time::timeout(Duration::from_millis(1), future).await.is_err()
    }

    /// A request above the whole is capped and runs when nothing else does.
    #[tokio::test(start_paused = true)]
    async fn the_largest_request_can_still_run() {
        let semaphore = semaphore(100);
        let small = semaphore.acquire(1).await;
        let mut huge = Box::pin(semaphore.acquire(1_000_000));
        assert!(waits(&mut huge).await);
        drop(small);
        assert_eq!(huge.await.bytes(), 100);
        assert_eq!(semaphore.in_use_bytes(), 0);
    }

    /// Small requests behind a large one don't overtake it, and run once it has: first come, first served.
    #[tokio::test(start_paused = true)]
    async fn large_and_small_requests_are_served_in_order() {
        let semaphore = semaphore(100);
        let held = semaphore.acquire(60).await;
        let mut large = Box::pin(semaphore.acquire(80));
        assert!(waits(&mut large).await);
        let mut small = Box::pin(semaphore.acquire(10));
        assert!(waits(&mut small).await);
        assert!(semaphore.try_acquire(1).is_none(), "a waiter is overtaken");
        assert_eq!(semaphore.waiting(), 2);
        drop(held);
        let large = large.await;
        assert_eq!(small.await.bytes(), 10);
        drop(large);
    }

    /// A cancelled wait leaves its place, its permits and the gauges as they were.
    #[tokio::test(start_paused = true)]
    async fn a_cancelled_wait_holds_nothing() {
        let semaphore = semaphore(100);
        let held = semaphore.acquire(60).await;
        let mut large = Box::pin(semaphore.acquire(80));
        assert!(waits(&mut large).await);
        drop(large);
        assert_eq!((semaphore.waiting(), semaphore.in_use_bytes()), (0, 60));
        assert!(semaphore.try_acquire(40).is_some());
        drop(held);
    }

    /// What a permit is shrunk by is there for others at once, and is given back only once; it never grows.
    #[tokio::test]
    async fn a_permit_can_be_shrunk() {
        let semaphore = semaphore(100);
        let mut permit = semaphore.acquire(100).await;
        permit.shrink(30);
        permit.shrink(50);
        assert_eq!((permit.bytes(), semaphore.in_use_bytes()), (30, 30));
        assert!(semaphore.try_acquire(71).is_none());
        let rest = semaphore.try_acquire(70);
        assert!(rest.is_some());
        drop((permit, rest));
        assert_eq!(semaphore.in_use_bytes(), 0);
        assert!(semaphore.try_acquire(100).is_some());
    }

    /// Totals above 4 GiB work: permits are counted in units of several bytes.
    #[tokio::test]
    async fn totals_above_4_gib_are_counted_in_units() {
        let total = 1 << 40;
        let semaphore = semaphore(total);
        let most = semaphore.acquire(total - (1 << 20)).await;
        assert!(semaphore.try_acquire(2 << 20).is_none());
        let rest = semaphore.try_acquire(1 << 19);
        assert!(rest.is_some());
        assert_eq!(most.bytes(), total - (1 << 20));
        drop((most, rest));
        assert!(semaphore.try_acquire(total).is_some());
    }
}
