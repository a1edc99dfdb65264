//! Tasks and threads: the only place that starts any, each with a name and a policy.
//!
//! Owns: what runs, what happens when it ends, and the order of stopping: cancel → abort what needn't drain → wait for
//! the rest up to a deadline → name what didn't end. A panic is always reported with its task's name, and never takes
//! the process with it by itself: a `Fatal` task's end is told to `node`, which stops in order (or at once).
//! Does not own: what a task does when the token is cancelled.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Exit code for a fatal end that names none of its own.
pub const EXIT_FATAL: i32 = 1;

/// What the end of a task means before shutdown was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The process can't go on without it: its end, or its panic at any time, is reported by [`Tasks::fatal`].
    Fatal,
    /// Its end is normal; a panic is logged as an error and stays there (design invariant 9).
    Logged,
}

/// What happens to a task when its group shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    /// Dropped at its next `.await`.
    Abort,
    /// Told by the token, then waited for until the deadline.
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub on_exit: OnExit,
    pub on_shutdown: OnShutdown,
}

impl Policy {
    pub const FATAL_DRAIN: Self = Self {
        on_exit: OnExit::Fatal,
        on_shutdown: OnShutdown::Drain,
    };
    pub const FATAL_ABORT: Self = Self {
        on_exit: OnExit::Fatal,
        on_shutdown: OnShutdown::Abort,
    };
    pub const LOGGED_DRAIN: Self = Self {
        on_exit: OnExit::Logged,
        on_shutdown: OnShutdown::Drain,
    };
    pub const LOGGED_ABORT: Self = Self {
        on_exit: OnExit::Logged,
        on_shutdown: OnShutdown::Abort,
    };
}

/// Why the process has to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task}: {reason}")]
pub struct Fatal {
    pub task: String,
    pub reason: String,
    pub exit_code: i32,
}

/// Tasks that had not ended at the deadline of [`Tasks::shutdown`], by full name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("did not end in time: {}", .names.join(", "))]
pub struct Stragglers {
    pub names: Vec<String>,
}

/// Why [`Tasks::run_blocking`] has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    #[error("{task} panicked")]
    Panicked { task: String },
    #[error("{task} was not started: shutting down")]
    Shutdown { task: String },
}

/// A group of tasks; clones are the same group. A child's tasks also belong to all its ancestors.
#[derive(Clone)]
pub struct Tasks {
    group: Arc<Group>,
}

struct Group {
    name: String,
    parent: Option<Tasks>,
    token: CancellationToken,
    state: Mutex<State>,
    /// Told whenever `running` becomes empty.
    empty: Notify,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    running: BTreeMap<u64, Running>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Open,
    /// Tasks that drain may still start others that do.
    Draining,
    Closed,
}

struct Running {
    name: Arc<str>,
    on_shutdown: OnShutdown,
    /// Set once spawned; a thread has none.
    abort: Option<AbortHandle>,
}

struct Shared {
    handle: Handle,
    next_id: AtomicU64,
    fatal: watch::Sender<Option<Fatal>>,
}

/// A started task. Dropping this changes nothing.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    /// `None` where the group had shut down and nothing was started.
    abort: Option<AbortHandle>,
}

impl TaskHandle {
    /// Drops the task at its next `.await`, whatever its policy, without that counting as its end.
    pub fn abort(&self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }

    pub fn is_finished(&self) -> bool {
        self.abort.as_ref().is_none_or(AbortHandle::is_finished)
    }
}

impl Tasks {
    /// The root group of a process.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(name: &str) -> Self {
        let shared = Shared {
            handle: Handle::current(),
            next_id: AtomicU64::new(0),
            fatal: watch::Sender::new(None),
        };
        Self::group(name.to_owned(), None, CancellationToken::new(), Arc::new(shared))
    }

    /// A group that stops with this one, and can be stopped before it.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let group = &self.group;
        let name = format!("{}/{name}", group.name);
        Self::group(
            name,
            Some(self.clone()),
            group.token.child_token(),
            group.shared.clone(),
        )
    }

    fn group(name: String, parent: Option<Self>, token: CancellationToken, shared: Arc<Shared>) -> Self {
        let (state, empty) = (Mutex::default(), Notify::new());
        Self {
            group: Arc::new(Group {
                name,
                parent,
                token,
                state,
                empty,
                shared,
            }),
        }
    }

    /// Cancelled when this group, or one above it, begins to shut down.
    pub fn token(&self) -> CancellationToken {
        self.group.token.clone()
    }

    /// Runs `future` as a task. After shutdown has begun only `Drain` tasks start; any other future is dropped.
    pub fn spawn<F>(&self, name: &str, policy: Policy, future: F) -> TaskHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(guard) = self.register(name, policy.on_shutdown) else {
            return TaskHandle { abort: None };
        };
        let id = guard.id;
        let on_exit = policy.on_exit;
        let task = self.group.shared.handle.spawn(async move {
            let guard = guard;
            let ended = catch_panic(future).await;
            guard.tasks.ended(&guard.name, on_exit, ended.err());
        });
        let abort = task.abort_handle();
        self.attach(id, &abort);
        TaskHandle { abort: Some(abort) }
    }

    /// Runs `body` on a thread of its own, with tokio's handle at hand (timers, `Handle::current`). A thread can't be
    /// aborted: it must watch the token, and is waited for like a `Drain` task.
    ///
    /// # Errors
    /// If the system refuses another thread. After shutdown nothing is started, without an error.
    pub fn spawn_thread<F>(&self, name: &str, on_exit: OnExit, body: F) -> std::io::Result<()>
    where
        F: FnOnce() + Send + 'static,
    {
        let Some(guard) = self.register(name, OnShutdown::Drain) else {
            return Ok(());
        };
        let handle = self.group.shared.handle.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let guard = guard;
            let _runtime = handle.enter();
            let ended = catch_unwind(AssertUnwindSafe(body));
            guard.tasks.ended(&guard.name, on_exit, ended.err().map(panic_text));
        })?;
        Ok(())
    }

    /// Runs `body` where it may block, and waits for its result. If the waiting future is dropped the work goes on to
    /// its end unobserved. Started until the group has closed, since what drains may need it.
    pub async fn run_blocking<T, F>(&self, name: &str, body: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let task = || format!("{}/{name}", self.group.name);
        let Some(guard) = self.register(name, OnShutdown::Drain) else {
            return Err(BlockingError::Shutdown { task: task() });
        };
        let (sender, receiver) = oneshot::channel();
        self.group.shared.handle.spawn_blocking(move || {
            let guard = guard;
            match catch_unwind(AssertUnwindSafe(body)) {
                // The receiver may have stopped waiting; then nobody wants the result.
                Ok(result) => drop(sender.send(result)),
                Err(panic) => guard.tasks.ended(&guard.name, OnExit::Logged, Some(panic_text(panic))),
            }
        });
        receiver.await.map_err(|_| BlockingError::Panicked { task: task() })
    }

    /// Resolves with the first reason to stop the process. Cancellation-safe.
    pub async fn fatal(&self) -> Fatal {
        let mut receiver = self.group.shared.fatal.subscribe();
        let fatal = receiver.wait_for(Option::is_some).await;
        fatal.expect("the sender lives in self").clone().expect("waited for it")
    }

    /// Asks for the process to stop, as the end of a `Fatal` task does, with a reason and an exit code of its own.
    pub fn fail(&self, task: &str, reason: &str, exit_code: i32) {
        self.report_fatal(format!("{}/{task}", self.group.name), reason.to_owned(), exit_code);
    }

    /// Cancels the token, aborts `Abort` tasks, waits for the others. After `deadline` the rest is aborted too and
    /// named; a thread among them goes on until the process exits. Idempotent.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Stragglers> {
        self.group.token.cancel();
        self.stop(Phase::Draining, |running| running.on_shutdown == OnShutdown::Abort);
        let in_time = tokio::time::timeout(deadline, self.wait_empty()).await.is_ok();
        let names = self.stop(Phase::Closed, |_| true);
        if in_time || names.is_empty() {
            Ok(())
        } else {
            Err(Stragglers { names })
        }
    }

    /// How many tasks, threads and blocking calls of this group and its children run.
    pub fn running(&self) -> usize {
        self.group.state.lock().running.len()
    }

    /// Moves to `phase`, aborts what `which` selects, and names everything that was running.
    fn stop(&self, phase: Phase, which: impl Fn(&Running) -> bool) -> Vec<String> {
        let mut state = self.group.state.lock();
        state.phase = state.phase.max(phase);
        let abort: Vec<_> = state
            .running
            .values()
            .filter(|running| which(running))
            .filter_map(|running| running.abort.clone())
            .collect();
        let names = state.running.values().map(|running| running.name.to_string()).collect();
        drop(state);
        // Outside the lock: aborting may drop the future here, and its guard takes the lock.
        abort.iter().for_each(AbortHandle::abort);
        names
    }

    async fn wait_empty(&self) {
        loop {
            let mut empty = pin!(self.group.empty.notified());
            empty.as_mut().enable();
            if self.group.state.lock().running.is_empty() {
                return;
            }
            empty.await;
        }
    }

    /// This group, then its parent, up to the root.
    fn lineage(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |tasks| tasks.group.parent.as_ref())
    }

    /// Enters a task in this group and its ancestors; `None` if one of them is past starting it.
    fn register(&self, name: &str, on_shutdown: OnShutdown) -> Option<Guard> {
        let last_phase = match on_shutdown {
            OnShutdown::Abort => Phase::Open,
            OnShutdown::Drain => Phase::Draining,
        };
        let id = self.group.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let name: Arc<str> = format!("{}/{name}", self.group.name).into();
        // From here on its drop undoes what was entered.
        let guard = Guard {
            tasks: self.clone(),
            id,
            name: name.clone(),
        };
        for tasks in self.lineage() {
            let mut state = tasks.group.state.lock();
            if state.phase > last_phase {
                drop(state);
                tracing::debug!(task = %name, "not started: shutting down");
                return None;
            }
            state.running.insert(
                id,
                Running {
                    name: name.clone(),
                    on_shutdown,
                    abort: None,
                },
            );
        }
        Some(guard)
    }

    /// Makes a spawned task abortable, and aborts it if a shutdown came between entering and spawning it.
    fn attach(&self, id: u64, abort: &AbortHandle) {
        let mut too_late = false;
        for tasks in self.lineage() {
            let mut state = tasks.group.state.lock();
            let phase = state.phase;
            if let Some(running) = state.running.get_mut(&id) {
                running.abort = Some(abort.clone());
                too_late |= match running.on_shutdown {
                    OnShutdown::Abort => phase > Phase::Open,
                    OnShutdown::Drain => phase > Phase::Draining,
                };
            }
        }
        if too_late {
            abort.abort();
        }
    }

    fn ended(&self, name: &str, on_exit: OnExit, panic: Option<String>) {
        let fatal = on_exit == OnExit::Fatal;
        match panic {
            Some(panic) => {
                tracing::error!(task = name, panic, "task panicked");
                if fatal {
                    self.report_fatal(name.to_owned(), format!("panicked: {panic}"), EXIT_FATAL);
                }
            }
            None if fatal && !self.group.token.is_cancelled() => {
                self.report_fatal(
                    name.to_owned(),
                    "ended although nobody asked it to".to_owned(),
                    EXIT_FATAL,
                );
            }
            None => {}
        }
    }

    fn report_fatal(&self, task: String, reason: String, exit_code: i32) {
        self.group.shared.fatal.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(Fatal {
                task,
                reason,
                exit_code,
            });
            is_first
        });
    }
}

/// Takes its task off the books when dropped: at its end, when aborted, and with the runtime.
struct Guard {
    tasks: Tasks,
    id: u64,
    name: Arc<str>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        for tasks in self.tasks.lineage() {
            let mut state = tasks.group.state.lock();
            state.running.remove(&self.id);
            if state.running.is_empty() {
                tasks.group.empty.notify_waiters();
            }
        }
    }
}

async fn catch_panic(future: impl Future<Output = ()>) -> Result<(), String> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            // Never polled again, as a panicked future must not be.
            Err(panic) => Poll::Ready(Err(panic_text(panic))),
        }
    })
    .await
}

fn panic_text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"no message").to_string(),
    }
}

#[cfg(test)]
mod tests;
