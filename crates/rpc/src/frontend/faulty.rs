//! A frontend that fails on order, to test what its callers do then.
//!
//! Owns: whether and when a call arrives, and what its caller is told. Does not own: what the call does (the port behind it).

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tailwater_kafka::ErrorCode;
use tailwater_runtime::CancellationToken;
use tailwater_types::Outcome;

use super::{AddPartitions, Frontend, WriteMarkers};
use crate::{Error, Result};

/// How one call goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Fails and has no effect.
    Before,
    /// Takes effect, then fails: the caller can't know which it was.
    After,
    /// Waits until the token is cancelled, then runs: calls overtake each other.
    Held(CancellationToken),
    /// Fails as if nobody knew, and arrives when [`FaultyFrontend::deliver`] says so: a connection that hung.
    Late,
    /// Arrives, and once more when [`FaultyFrontend::deliver`] says so.
    Twice,
}

/// Wraps a frontend; without orders it changes nothing.
pub struct FaultyFrontend {
    port: Arc<dyn Frontend>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Option<Fault>>,
    late: Vec<Late>,
    begun: usize,
}

/// A request that hasn't arrived yet.
enum Late {
    WriteMarkers(WriteMarkers),
    AddPartitions(AddPartitions),
}

impl FaultyFrontend {
    pub fn new(port: Arc<dyn Frontend>) -> Self {
        Self {
            port,
            state: Mutex::default(),
        }
    }

    /// What the next calls meet, in the order of beginning, behind what was ordered before; `None`: nothing.
    pub fn order(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.state.lock().orders.extend(faults);
    }

    /// Forgets what was ordered and hasn't struck.
    pub fn cancel_orders(&self) {
        self.state.lock().orders.clear();
    }

    /// Calls so far.
    pub fn begun(&self) -> usize {
        self.state.lock().begun
    }

    /// Requests that haven't arrived yet.
    pub fn late(&self) -> usize {
        self.state.lock().late.len()
    }

    /// One of them arrives; false if there is no such. Nobody waits for its answer.
    pub async fn deliver(&self, nth: usize) -> bool {
        let late = {
            let state = &mut *self.state.lock();
            match nth < state.late.len() {
                true => state.late.remove(nth),
                false => return false,
            }
        };
        match late {
            Late::WriteMarkers(request) => drop(self.port.write_markers(request).await),
            Late::AddPartitions(request) => drop(self.port.add_partitions(request).await),
        }
        true
    }

    async fn run<T>(&self, late: impl FnOnce() -> Late, call: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = {
            let state = &mut *self.state.lock();
            state.begun += 1;
            let fault = state.orders.pop_front().flatten();
            if let Some(Fault::Late | Fault::Twice) = fault {
                state.late.push(late());
            }
            fault
        };
        match fault {
            None | Some(Fault::Twice) => call.await,
            Some(Fault::Before) => Err(unavailable(Outcome::DidNotHappen)),
            Some(Fault::After) => {
                call.await?;
                Err(unavailable(Outcome::Unknown))
            }
            Some(Fault::Held(release)) => {
                release.cancelled().await;
                call.await
            }
            Some(Fault::Late) => Err(unavailable(Outcome::Unknown)),
        }
    }
}

fn unavailable(outcome: Outcome) -> Error {
    Error::Unavailable {
        detail: "injected".to_owned(),
        outcome,
    }
}

#[async_trait]
impl Frontend for FaultyFrontend {
    async fn write_markers(&self, request: WriteMarkers) -> Result<Vec<Vec<ErrorCode>>> {
        let again = request.clone();
        self.run(move || Late::WriteMarkers(again), self.port.write_markers(request))
            .await
    }

    async fn add_partitions(&self, request: AddPartitions) -> Result<Vec<ErrorCode>> {
        let again = request.clone();
        self.run(move || Late::AddPartitions(again), self.port.add_partitions(request))
            .await
    }
}
