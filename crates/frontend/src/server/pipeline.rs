//! The requests of one connection that have begun and aren't answered.
//!
//! Owns: Kafka's order (docs/kafka.md rule 32). A request begins when all before it are finished, except Produce
//! among Produces, which may overlap: their appends begin in order, so their batches do. Answers leave in request
//! order. Does not own: what a request does.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tailwater_kafka::{ApiKey, Frame};
use tailwater_runtime::BytePermit;
use tailwater_runtime::clock::Instant;

/// What a request came to.
pub(super) enum Answer {
    /// With the permits for the memory that it takes, if that is counted: given back when it has been written.
    Frame(Frame, Vec<BytePermit>),
    /// The client waits for none (acks=0).
    Nothing,
    /// The connection is to be closed: nothing else can be said.
    Close,
}

/// A request on its way to its answer.
pub(super) type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a request has to do.
pub(super) enum Work {
    Whole(Running),
    /// First something that must not begin before the one in front has done the same, then the rest.
    InTurn(Pin<Box<dyn Future<Output = Running> + Send>>),
}

/// A request that has begun.
pub(super) struct Begun {
    pub api: ApiKey,
    pub at: Instant,
    pub work: Work,
    pub permit: BytePermit,
}

/// A request that has its answer.
pub(super) struct Finished {
    pub api: ApiKey,
    pub began_at: Instant,
    pub answer: Answer,
    /// Given back when the answer has been written.
    pub permit: BytePermit,
}

/// Begun requests in their order.
pub(super) struct Pipeline {
    slots: VecDeque<Slot>,
    max_requests: usize,
    max_bytes: u64,
    bytes: u64,
}

struct Slot {
    api: ApiKey,
    began_at: Instant,
    permit: BytePermit,
    state: State,
}

enum State {
    Working(Work),
    Done(Answer),
}

impl State {
    /// Whether those behind may do now what is done in turn.
    fn has_had_its_turn(&self) -> bool {
        !matches!(self, Self::Working(Work::InTurn(_)))
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        if let Self::Working(Work::InTurn(first)) = self
            && let Poll::Ready(rest) = first.as_mut().poll(context)
        {
            *self = Self::Working(Work::Whole(rest));
        }
        if let Self::Working(Work::Whole(running)) = self
            && let Poll::Ready(answer) = running.as_mut().poll(context)
        {
            *self = Self::Done(answer);
        }
    }
}

impl Pipeline {
    pub fn new(max_requests: usize, max_bytes: u64) -> Self {
        Self {
            slots: VecDeque::new(),
            max_requests,
            max_bytes,
            bytes: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether nothing but requests that change nothing is on its way.
    pub fn only_reads(&self) -> bool {
        self.slots.iter().all(|slot| slot.api == ApiKey::Fetch)
    }

    /// Whether a request of `api` may begin now.
    pub fn admits(&self, api: ApiKey) -> bool {
        self.is_empty()
            || (api == ApiKey::Produce
                && self.slots.len() < self.max_requests
                && self.bytes < self.max_bytes
                && self.slots.iter().all(|slot| slot.api == ApiKey::Produce))
    }

    pub fn push(&mut self, begun: Begun) {
        self.bytes += begun.permit.bytes();
        self.slots.push_back(Slot {
            api: begun.api,
            began_at: begun.at,
            permit: begun.permit,
            state: State::Working(begun.work),
        });
    }

    /// Drives all, oldest first, until the first in order is finished. Cancellation-safe.
    pub async fn finished(&mut self) -> Finished {
        std::future::poll_fn(|context| self.poll_finished(context)).await
    }

    fn poll_finished(&mut self, context: &mut Context<'_>) -> Poll<Finished> {
        for slot in &mut self.slots {
            slot.state.poll(context);
            if !slot.state.has_had_its_turn() {
                break;
            }
        }
        let first = self.slots.pop_front_if(|slot| matches!(slot.state, State::Done(_)));
        let Some(Slot {
            api,
            began_at,
            permit,
            state: State::Done(answer),
        }) = first
        else {
            return Poll::Pending;
        };
        self.bytes -= permit.bytes();
        Poll::Ready(Finished {
            api,
            began_at,
            answer,
            permit,
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tailwater_runtime::{ByteSemaphore, Clock, Metrics};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    struct Fixture {
        pipeline: Pipeline,
        memory: ByteSemaphore,
    }

    impl Fixture {
        fn new() -> Self {
            let memory = ByteSemaphore::new("test", 1000, &Metrics::new());
            Self {
                pipeline: Pipeline::new(3, 100),
                memory,
            }
        }

        fn begin(&mut self, api: ApiKey, bytes: u64) -> oneshot::Sender<()> {
            let (done, finished) = oneshot::channel::<()>();
            self.pipeline.push(Begun {
                api,
                at: Clock::system().now(),
                work: Work::Whole(Box::pin(async move {
                    finished.await.ok();
                    Answer::Nothing
                })),
                permit: self.memory.try_acquire(bytes).unwrap(),
            });
            done
        }
    }

    /// Rule 32: only a Produce overtakes nobody by beginning early; everything else waits for all before it.
    #[test]
    fn rule_32_only_produces_overlap() {
        let mut f = Fixture::new();
        assert!(f.pipeline.admits(ApiKey::Fetch) && f.pipeline.admits(ApiKey::Produce));
        let _running = f.begin(ApiKey::Produce, 10);
        assert!(f.pipeline.admits(ApiKey::Produce) && !f.pipeline.admits(ApiKey::Metadata));
        let mut f = Fixture::new();
        let _running = f.begin(ApiKey::Fetch, 10);
        assert!(!f.pipeline.admits(ApiKey::Produce) && !f.pipeline.admits(ApiKey::Fetch));
    }

    /// Only fetches may be given up when their client is gone: what was produced is still appended.
    #[test]
    fn only_fetches_are_given_up() {
        let mut f = Fixture::new();
        let _running = f.begin(ApiKey::Fetch, 1);
        assert!(f.pipeline.only_reads());
        let mut f = Fixture::new();
        let _running = f.begin(ApiKey::Produce, 1);
        assert!(!f.pipeline.only_reads());
    }

    /// Pipelined requests are bounded in number and in bytes.
    #[test]
    fn pipelining_is_bounded() {
        let mut f = Fixture::new();
        let _running: Vec<_> = (0..3).map(|_| f.begin(ApiKey::Produce, 1)).collect();
        assert!(!f.pipeline.admits(ApiKey::Produce), "by number");
        let mut f = Fixture::new();
        let _running = f.begin(ApiKey::Produce, 100);
        assert!(!f.pipeline.admits(ApiKey::Produce), "by bytes");
    }

    async fn turn(number: i32, may: Option<oneshot::Receiver<()>>, taken: mpsc::Sender<i32>) -> Running {
        if let Some(may) = may {
            may.await.ok();
        }
        taken.send(number).await.unwrap();
        Box::pin(std::future::ready(Answer::Nothing))
    }

    /// What is done in turn begins when the one in front has done it, however long that takes.
    #[tokio::test]
    async fn turns_are_taken_in_order() {
        let mut f = Fixture::new();
        let (order, mut taken) = mpsc::channel(2);
        let (first_may, may) = oneshot::channel::<()>();
        let mut may = Some(may);
        for number in 1..=2 {
            let (order, may) = (order.clone(), may.take());
            let work = Work::InTurn(Box::pin(turn(number, may, order)));
            let permit = f.memory.try_acquire(1).unwrap();
            f.pipeline.push(Begun {
                api: ApiKey::Produce,
                at: Clock::system().now(),
                work,
                permit,
            });
        }
        assert!(f.pipeline.finished().now_or_never().is_none());
        assert!(taken.try_recv().is_err(), "the second took its turn before the first");
        first_may.send(()).unwrap();
        f.pipeline.finished().await;
        assert_eq!((taken.recv().await, taken.recv().await), (Some(1), Some(2)));
    }

    /// Rule 32: whoever finishes first, answers leave in the order of the requests.
    #[tokio::test]
    async fn rule_32_answers_leave_in_request_order() {
        let mut f = Fixture::new();
        let first = f.begin(ApiKey::Produce, 1);
        let second = f.begin(ApiKey::Produce, 2);
        second.send(()).unwrap();
        assert!(f.pipeline.finished().now_or_never().is_none());
        first.send(()).unwrap();
        assert_eq!(f.pipeline.finished().await.permit.bytes(), 1);
        assert_eq!(f.pipeline.finished().await.permit.bytes(), 2);
        assert!(f.pipeline.is_empty());
    }
}
