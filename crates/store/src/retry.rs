//! Trying again: what may mend soon, with exponential backoff and jitter, up to a deadline (requirement 11).

use std::future::Future;
use std::time::Duration;

use tailwater_runtime::clock::Instant;
use tailwater_runtime::telemetry::IntCounter;
use tailwater_runtime::{Clock, Random};
use tailwater_types::Outcome;

use crate::error::StoreError;

/// The failure of one call that is told: not the first, which mostly mends, and long before the deadline, by which a
/// small WAL device may be full.
const TOLD_AT: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Pause after the first failure; each further one doubles it.
    pub first_backoff: Duration,
    pub max_backoff: Duration,
    /// No attempt of a call begins later than this after the call did.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            deadline: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The longest pause before attempt `attempt` (1: the first repeat).
    fn backoff(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.first_backoff.saturating_mul(1 << doublings).min(self.max_backoff)
    }
}

pub(crate) struct Retry {
    pub(crate) policy: RetryPolicy,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) retries: IntCounter,
}

impl Retry {
    /// When a call that begins now stops trying.
    pub(crate) fn deadline(&self) -> Instant {
        self.clock.now() + self.policy.deadline
    }

    /// Runs `attempt` until it succeeds, fails for good, or would begin after `deadline`. The error's outcome covers
    /// all attempts.
    pub(crate) async fn run<T, F, A>(&self, deadline: Instant, mut attempt: A) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
        A: FnMut() -> F,
    {
        let mut may_have_happened = false;
        for failures in 1.. {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            may_have_happened |= error.outcome() == Outcome::Unknown;
            let most = self.policy.backoff(failures);
            // At least half of it: jitter spreads clients, it must not undo the backoff.
            let pause = most / 2 + self.random.jitter(most / 2);
            if !error.mends_soon() || self.clock.now() + pause >= deadline {
                return Err(if may_have_happened {
                    error.after_unknown()
                } else {
                    error
                });
            }
            if failures == TOLD_AT {
                tracing::warn!(%error, failures, "object store fails, trying on");
            } else {
                tracing::debug!(%error, failures, ?pause, "object store call is retried");
            }
            self.retries.inc();
            self.clock.sleep(pause).await;
        }
        unreachable!("the loop ends by returning")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tailwater_runtime::Metrics;

    use super::*;
    use crate::storage::Operation;

    fn retry() -> Retry {
        Retry {
            policy: RetryPolicy::default(),
            clock: Clock::manual(0),
            random: Random::seeded(1),
            retries: Metrics::new().counter("tailwater_test_total", "t"),
        }
    }

    fn unavailable(outcome: Outcome) -> StoreError {
        let (operation, key, reason) = (Operation::Put, "key".to_owned(), "down".to_owned());
        StoreError::Unavailable {
            operation,
            key,
            reason,
            outcome,
        }
    }

    fn refused() -> StoreError {
        let (operation, key, reason) = (Operation::Put, "key".to_owned(), "403".to_owned());
        StoreError::Refused {
            operation,
            key,
            reason,
            outcome: Outcome::DidNotHappen,
        }
    }

    /// Pauses double from the first to the largest.
    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let policy = RetryPolicy::default();
        let pauses: Vec<_> = [1, 2, 3, 6, 7, 100].map(|n| policy.backoff(n).as_millis()).into();
        assert_eq!(pauses, [100, 200, 400, 3200, 5000, 5000]);
    }

    /// What can't mend fails at the first attempt, without a pause.
    #[tokio::test(start_paused = true)]
    async fn refusals_fail_fast() {
        let retry = retry();
        let begin = retry.clock.now();
        let failed = retry.run(retry.deadline(), || async { Err::<(), _>(refused()) }).await;
        assert_eq!((failed, retry.clock.now()), (Err(refused()), begin));
        assert_eq!(retry.retries.get(), 0);
    }

    /// A store that comes back within the deadline is no error.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_is_no_error() {
        let retry = retry();
        let failures = Cell::new(0);
        let attempt = || async {
            failures.set(failures.get() + 1);
            if failures.get() < 5 {
                Err(unavailable(Outcome::DidNotHappen))
            } else {
                Ok(7)
            }
        };
        assert_eq!(retry.run(retry.deadline(), attempt).await, Ok(7));
        assert_eq!(retry.retries.get(), 4);
    }

    /// Attempts end at the deadline, after many and with growing pauses, never after it.
    #[tokio::test(start_paused = true)]
    async fn attempts_end_at_the_deadline() {
        let retry = retry();
        let begin = retry.clock.now();
        let attempt = || async { Err::<(), _>(unavailable(Outcome::DidNotHappen)) };
        let failed = retry.run(retry.deadline(), attempt).await.unwrap_err();
        assert_eq!(failed.outcome(), Outcome::DidNotHappen);
        let took = retry.clock.now() - begin;
        assert!(
            took <= retry.policy.deadline && took > retry.policy.deadline / 2,
            "{took:?}"
        );
        assert!((12..40).contains(&retry.retries.get()), "{}", retry.retries.get());
    }

    /// If any attempt may have happened, so may the call.
    #[tokio::test(start_paused = true)]
    async fn the_outcome_covers_all_attempts() {
        let retry = retry();
        let first = Cell::new(true);
        let attempt = || async {
            Err::<(), _>(if first.replace(false) {
                unavailable(Outcome::Unknown)
            } else {
                refused()
            })
        };
        let failed = retry.run(retry.deadline(), attempt).await.unwrap_err();
        assert!(
            matches!(
                failed,
                StoreError::Refused {
                    outcome: Outcome::Unknown,
                    ..
                }
            ),
            "{failed}"
        );
    }
}
