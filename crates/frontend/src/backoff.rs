//! Waiting between attempts: doubling, bounded, and spread out so that nodes don't come together.

use std::time::Duration;

use tailwater_runtime::{Clock, Random};

/// The waits of one thing that is tried again and again.
pub(crate) struct Backoff {
    clock: Clock,
    random: Random,
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(clock: Clock, random: Random, first: Duration, max: Duration) -> Self {
        Self {
            clock,
            random,
            first,
            max,
            next: first,
        }
    }

    /// Waits between half and the whole of the current step; the next step is twice as long.
    pub async fn wait(&mut self) {
        let half = self.next / 2;
        let pause = half + self.random.jitter(half);
        self.next = (self.next * 2).min(self.max);
        self.clock.sleep(pause).await;
    }

    /// After a success: the next wait is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
