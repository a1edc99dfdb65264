//! Waiting between attempts: doubling, bounded, and spread out so that nodes don't come together.
//!
//! Owns: how long to wait. Does not own: what is worth another attempt.

use std::time::Duration;

use crate::{Clock, Random};

/// The failures of one thing that is tried again and again, and the waits between them.
#[derive(Clone)]
pub struct Backoff {
    clock: Clock,
    random: Random,
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first wait is at most `first`, the longest at most `max`.
    pub fn new(clock: Clock, random: Random, first: Duration, max: Duration) -> Self {
        Self {
            clock,
            random,
            first,
            max,
            failures: 0,
        }
    }

    /// After a failure: waits for [`Backoff::next_pause`].
    pub async fn wait(&mut self) {
        let pause = self.next_pause();
        self.clock.sleep(pause).await;
    }

    /// After a failure: how long to wait, between half and all of a step that doubles each time.
    pub fn next_pause(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.failures.min(16)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        step / 2 + self.random.jitter(step / 2)
    }

    /// After a success: the next wait is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    fn backoff() -> Backoff {
        Backoff::new(Clock::manual(0), Random::seeded(1), FIRST, MAX)
    }

    /// Pauses lie in the upper half of a step that doubles up to its bound, however often something fails.
    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut backoff = backoff();
        for failures in 0..100 {
            assert_eq!(backoff.failures(), failures);
            let step = FIRST.saturating_mul(1 << failures.min(10)).min(MAX);
            let pause = backoff.next_pause();
            assert!(step / 2 <= pause && pause <= step, "{failures}: {pause:?} of {step:?}");
        }
    }

    /// After a success the pauses begin anew.
    #[tokio::test(start_paused = true)]
    async fn a_success_begins_anew() {
        let mut backoff = backoff();
        for _ in 0..10 {
            backoff.next_pause();
        }
        backoff.reset();
        let begun = tokio::time::Instant::now();
        backoff.wait().await;
        assert!(begun.elapsed() <= FIRST && backoff.failures() == 1);
    }
}
