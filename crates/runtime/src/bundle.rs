//! What a tier is handed to run on, in one piece.

use crate::{Clock, Metrics, Random, Tasks};

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
}
