//! The driver by itself, over a machine that does what a test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tailwater_kafka::{CodecError, ErrorCode};
use tailwater_runtime::clock::Instant;
use tokio::sync::{mpsc, oneshot};

use super::{Command, KeyValue, Machine, Now, Owner, Turn, Waiter};
use crate::testing::Fixture;

/// After so many requests the test has failed.
const MOST_REQUESTS: usize = 10_000;

/// Asks itself again with every request, so that its queue is never empty, until its only timer has run out.
struct Busy {
    wake_at: Option<Instant>,
    requests: Arc<AtomicUsize>,
}

impl Machine for Busy {
    /// Its own queue.
    type Request = mpsc::Sender<Command<Self>>;
    type Reply = ErrorCode;
    type Write = ();
    type Event = ();

    fn replay(&mut self, _key: &[u8], _value: Option<&[u8]>, _now: Now) -> Result<(), CodecError> {
        Ok(())
    }

    fn loaded(&mut self, now: Now) -> Turn<Self> {
        self.wake_at = Some(now.at);
        Turn::default()
    }

    fn step(&mut self, id: &str, request: Self::Request, _waiter: Waiter, _now: Now) -> Turn<Self> {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        if self.wake_at.is_some() && count < MOST_REQUESTS {
            let again = Command {
                id: id.to_owned(),
                request: request.clone(),
                reply: oneshot::channel().0,
            };
            assert!(request.try_send(again).is_ok(), "one request is there at a time");
        }
        Turn::default()
    }

    fn written(&mut self, _write: (), _result: Result<(), ErrorCode>, _now: Now) -> Turn<Self> {
        Turn::default()
    }

    fn happened(&mut self, _event: (), _now: Now) -> Turn<Self> {
        Turn::default()
    }

    fn next_wake(&self) -> Option<Instant> {
        self.wake_at
    }

    fn tick(&mut self, now: Now) -> Option<Turn<Self>> {
        self.wake_at.take_if(|at| *at <= now.at).map(|_| Turn::default())
    }

    fn encode(_write: &()) -> Result<Vec<KeyValue>, CodecError> {
        Ok(Vec::new())
    }

    fn refused(_request: &Self::Request, error: ErrorCode) -> ErrorCode {
        error
    }
}

/// A queue that never gets empty doesn't keep timers from running out: sessions of silent members end under load too.
#[tokio::test(start_paused = true)]
async fn requests_that_never_cease_do_not_starve_timers() {
    let fixture = Fixture::start().await;
    let partition = fixture.topic("log").await;
    let requests = Arc::new(AtomicUsize::new(0));
    let machine = Busy {
        wake_at: None,
        requests: requests.clone(),
    };
    let (owner, handle) = Owner::new(machine, partition, 1 << 20, fixture.runtime.clock.clone());
    let (reply, _answer) = oneshot::channel();
    let first = Command {
        id: "busy".to_owned(),
        request: handle.commands.clone(),
        reply,
    };
    assert!(handle.commands.try_send(first).is_ok(), "the queue has room");
    drop(handle);
    owner.run().await;
    assert!(
        requests.load(Ordering::Relaxed) < MOST_REQUESTS / 2,
        "its timer came too late"
    );
}
