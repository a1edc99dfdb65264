//! The way of a command to the driver and of its answer back.

use tailwater_rpc::{Error, Result};
use tailwater_runtime::{BytePermit, ByteSemaphore, Clock, Runtime};
use tailwater_types::Outcome;
use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;
use crate::state::Tx;

/// Commands that wait for the driver.
const QUEUE_ITEMS: usize = 1024;

/// Bytes of requests that wait for it.
const QUEUE_BYTES: u64 = 16 << 20;

/// A command on its way.
pub struct Request {
    pub decide: Box<dyn FnOnce(&mut Tx<'_>) -> Reply + Send>,
    /// Room for what `decide` holds, until it has run.
    _room: BytePermit,
}

/// An answer that waits until what it says is durable.
pub struct Reply {
    /// Refused commands change nothing.
    pub accepted: bool,
    /// To be called with the failure that the answer is replaced by, if there was one.
    pub send: Box<dyn FnOnce(Option<Error>) + Send>,
}

/// The sending end; clones share the queue.
#[derive(Clone)]
pub struct Commands {
    sender: mpsc::Sender<Request>,
    room: ByteSemaphore,
    clock: Clock,
    metrics: Metrics,
}

/// The driver's queue.
pub fn queue(runtime: &Runtime, metrics: &Metrics) -> (Commands, mpsc::Receiver<Request>) {
    let (sender, receiver) = mpsc::channel(QUEUE_ITEMS);
    let commands = Commands {
        sender,
        room: ByteSemaphore::new("controller_commands", QUEUE_BYTES, &runtime.metrics),
        clock: runtime.clock.clone(),
        metrics: metrics.clone(),
    };
    (commands, receiver)
}

impl Commands {
    /// Runs a command that holds `bytes` of memory, and answers once what it did is durable. Cancelling this after the
    /// command was queued doesn't undo it.
    ///
    /// # Errors
    /// The command's own; [`Error::Throttled`] or [`Error::Unavailable`] from the store, [`Error::Shutdown`].
    pub async fn run<T, F>(&self, name: &'static str, bytes: usize, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let submitted = self.clock.now();
        let room = self.room.acquire(bytes.max(1) as u64).await;
        let (answer, answered) = oneshot::channel();
        let decide = move |tx: &mut Tx<'_>| {
            let result = command(tx);
            let accepted = result.is_ok();
            let send = move |failure: Option<Error>| {
                // A caller that has gone away wants no answer.
                drop(answer.send(failure.map_or(result, Err)));
            };
            Reply {
                accepted,
                send: Box::new(send),
            }
        };
        let request = Request {
            decide: Box::new(decide),
            _room: room,
        };
        if self.sender.send(request).await.is_err() {
            return Err(stopped(Outcome::DidNotHappen));
        }
        let result = answered.await.unwrap_or_else(|_| Err(stopped(Outcome::Unknown)));
        let took = self.clock.now().saturating_duration_since(submitted);
        self.metrics.command(name, took);
        result
    }
}

fn stopped(outcome: Outcome) -> Error {
    match outcome {
        Outcome::Unknown => Error::Shutdown,
        outcome @ Outcome::DidNotHappen => Error::Unavailable {
            detail: "the controller is stopping".to_owned(),
            outcome,
        },
    }
}
