//! Calls that a starting node can't go on without: made again until the controller answers.
//!
//! Does not own: what else a tier repeats, and under which identity.

use std::future::Future;
use std::time::Duration;

use tailwater_runtime::Runtime;
use tailwater_types::Kind;

use crate::{Error, Result};

const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Makes `call` until the controller answers it. While it can't be reached or can't take the call, this says once whom it
/// waits for, and waits for as long as it takes; `call` must be one that may be repeated.
///
/// # Errors
/// What another attempt doesn't mend; [`Error::Shutdown`] once `runtime`'s tasks are told to stop.
pub async fn until_answered<T, F>(runtime: &Runtime, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let stop = runtime.tasks.token();
    let mut retry = runtime.backoff(RETRY_FIRST, RETRY_MAX);
    loop {
        let answer = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Error::Shutdown),
            answer = call() => answer,
        };
        let waited = retry.failures() > 0;
        match answer {
            Err(error) if is_passing(&error) => {
                if !waited {
                    tracing::info!(%error, "waiting for the controller");
                }
            }
            answer => {
                if waited && answer.is_ok() {
                    tracing::info!("the controller answers");
                }
                return answer;
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Error::Shutdown),
            () = retry.wait() => {}
        }
    }
}

/// Whether the same call may succeed later: a controller that is stopping is followed by another.
pub fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Throttled | Kind::Shutdown)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tailwater_runtime::{Clock, Metrics, Random, Tasks};
    use tailwater_types::Outcome;

    use super::*;

    fn runtime() -> Runtime {
        Runtime {
            clock: Clock::manual(0),
            random: Random::seeded(1),
            tasks: Tasks::new("test"),
            metrics: Metrics::new(),
        }
    }

    fn unreachable() -> Error {
        Error::Unavailable {
            detail: "controller at c:1: dns error".to_owned(),
            outcome: Outcome::DidNotHappen,
        }
    }

    /// A controller that comes an hour later is waited for, through each error that passes.
    #[tokio::test(start_paused = true)]
    async fn waits_for_as_long_as_it_takes() {
        let runtime = runtime();
        let (clock, calls) = (runtime.clock.clone(), Cell::new(0_usize));
        let up = clock.now() + Duration::from_secs(3600);
        let answer = until_answered(&runtime, || {
            calls.set(calls.get() + 1);
            let passing = [unreachable(), Error::Throttled("full".to_owned()), Error::Shutdown];
            let error = passing[calls.get() % 3].clone();
            let is_up = clock.now() >= up;
            async move { if is_up { Ok(7) } else { Err(error) } }
        });
        assert_eq!(answer.await, Ok(7));
        assert!(calls.get() > 1800, "it asks again within seconds: {}", calls.get());
    }

    /// What another attempt can't mend is answered at once.
    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let (runtime, refused) = (runtime(), Error::Invalid("another cluster".to_owned()));
        let answer = until_answered(&runtime, || async { Err::<(), _>(refused.clone()) });
        assert_eq!(answer.await, Err(refused.clone()));
    }

    /// A stop ends the waiting, between calls and within one.
    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_it() {
        for hangs in [false, true] {
            let runtime = runtime();
            let waiting = until_answered(&runtime, || async {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Err::<(), _>(unreachable())
            });
            let stop = async {
                runtime.clock.sleep(Duration::from_secs(60)).await;
                runtime.tasks.token().cancel();
            };
            assert_eq!(tokio::join!(waiting, stop).0, Err(Error::Shutdown));
        }
    }
}
