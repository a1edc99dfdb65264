//! What a tier is handed to run on, in one piece.

use std::time::Duration;

use crate::{Backoff, Clock, Metrics, Random, Tasks};

/// Clock, randomness, tasks and metrics; clones share all four.
#[derive(Clone)]
pub struct Runtime {
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
    pub metrics: Metrics,
}

impl Runtime {
    /// The same, with a task group of its own that can be stopped before the others.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self {
            tasks: self.tasks.child(name),
            ..self.clone()
        }
    }

    /// The waits between attempts at one thing: see [`Backoff::new`].
    pub fn backoff(&self, first: Duration, max: Duration) -> Backoff {
        Backoff::new(self.clock.clone(), self.random.clone(), first, max)
    }
}
