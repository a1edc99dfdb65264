//! Pauses between attempts: doubling, bounded, spread out.

use std::time::Duration;

use tailwater_runtime::Random;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// Counts the failures of one thing that is tried again and again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// After a failure: how long to wait, between half and all of a step that doubles each time.
    pub fn failed(&mut self, random: &Random) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        step / 2 + random.jitter(step / 2)
    }

    pub fn succeeded(&mut self) {
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

    /// Pauses grow to their bound and begin anew after a success.
    #[test]
    fn pauses_double_up_to_a_bound() {
        let random = Random::seeded(1);
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.failed(&random)).collect();
        assert!(pauses[0] <= FIRST && pauses[39] > LONGEST / 3 && pauses.iter().all(|pause| *pause <= LONGEST));
        backoff.succeeded();
        assert!(backoff.failed(&random) <= FIRST);
    }
}
